"""The planner: a spec and a snapshot in, ranked plans or the binding constraint out.

Rules kept here
- Pure: the same arguments give the same answer; the clock is an argument.
- Whatever is planned can be handed down; a shape that is no mesh is refused (`mesh`).
- The order of judgement: shape, words, labels at the ends, then the search; what is refused is explained.
- What is free is what notes announce for the window of the service (`timely`).
- LANs that need more than their lines are laid over the routes that are found (`lan_plans`).
- Suppliers that are not usable, not in the validity of their note, or withdrawing are not planned with. A planned
  outage counts where it covers the start of the service.
"""

from __future__ import annotations

from datetime import datetime

from broker.decompose.explain import better, explain
from broker.decompose.graph import Graph, graph_of
from broker.decompose.labelling import EFFORT, Effort
from broker.decompose.lan_plans import spread, spread_over
from broker.decompose.lan_tree import Ground
from broker.decompose.layered import Question
from broker.decompose.mesh import Mesh, read_mesh
from broker.decompose.plan import Avoid, Infeasible, Plan, Rejected, Snapshot, SupplierView
from broker.decompose.routes import find
from broker.decompose.segments import to_plan
from broker.decompose.timely import asked_for, timely
from broker.decompose.vocabulary import ends_without_label, vocabulary
from capability_registry.note import CapabilityNote
from capability_registry.periods import within
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import ServiceSpec


def plan(
    spec: ServiceSpec,
    snapshot: Snapshot,
    now: datetime,
    avoid: Avoid | None = None,
    alternatives: int = 3,
    effort: Effort = EFFORT,
    why: bool = True,
) -> tuple[Plan, ...] | Infeasible:
    """At most `alternatives` (≥ 1) plans, best first, distinct in their segments; or why there is none: in full only where
    that is asked. A search that gave up says so."""
    asked = _asked(spec, graph_of(timely(snapshot, asked_for(spec, now))), now, avoid)
    if not isinstance(asked, Question):
        return asked
    if asked.mesh.spreads:
        planned = spread(asked, alternatives, effort, why)
        if planned.plans:
            return planned.plans
        if planned.routed:
            return Infeasible(reasons=planned.reasons, nearest=planned.nearest)
    found = find(asked, alternatives, effort)
    if not found.routes and not found.complete:  # what binds is not known either
        message = f"no plan was found in {effort.most} steps of the search; there may be one"
        return Infeasible(reasons=(Reason(code=ReasonCode.NO_PATH, message=message, subject=spec.name),))
    if not found.routes and not why:
        return Infeasible(reasons=(Reason(code=ReasonCode.NO_PATH, message="no plan"),))
    if not found.routes:
        bindings = explain(asked)
        nearest = tuple(
            Rejected(code=b.reason.code, plan=to_plan(b.nearest), also=b.also) for b in bindings if b.nearest
        )
        return Infeasible(reasons=tuple(b.reason for b in bindings), nearest=nearest)
    return tuple(to_plan(route) for route in found.routes)


def best(spec: ServiceSpec, snapshot: Snapshot, now: datetime, avoid: Avoid | None = None) -> Plan | None:
    """The best plan; None where there is none, whatever the reason."""
    asked = _asked(spec, graph_of(timely(snapshot, asked_for(spec, now))), now, avoid)
    return _best(asked) if isinstance(asked, Question) else None


def _best(asked: Question) -> Plan | None:
    if asked.mesh.spreads:
        return next(iter(spread(asked, 1, EFFORT, why=False).plans), None)
    routes = find(asked).routes
    return to_plan(routes[0]) if routes else None


def alone(note: CapabilityNote) -> Snapshot:
    """One note as all that is known, its SAPs by their own names."""
    names = {sap.id: sap.id for sap in note.saps}
    view = SupplierView(alias="announced", sp_id=note.sp_id, note=note, local=False, saps=names)
    return Snapshot(own_sp_id="", number=0, suppliers=(view,))


def fits(note: CapabilityNote, spec: ServiceSpec, now: datetime) -> bool:
    """Whether what one note announces is enough for the spec, which names SAPs and places as the note does."""
    known = within(note, asked_for(spec, now))
    asked = _asked(spec, Graph(alone(known)), now, None)  # not from the cache: nobody asks for it again
    return isinstance(asked, Question) and _best(asked) is not None


def rejected(spec: ServiceSpec, snapshot: Snapshot, now: datetime, avoid: Avoid | None = None) -> tuple[Rejected, ...]:
    """Plans better than the best one of `plan`, each with the class of constraints that it breaks."""
    asked = _asked(spec, graph_of(timely(snapshot, asked_for(spec, now))), now, avoid)
    if isinstance(asked, Question) and asked.mesh.spreads:
        return _rejected_spread(asked)
    best = find(asked).routes if isinstance(asked, Question) else ()
    if not isinstance(asked, Question) or not best:
        return ()
    return tuple(Rejected(code=code, plan=to_plan(route)) for code, route in better(asked, best[0]))


def _rejected_spread(asked: Question) -> tuple[Rejected, ...]:
    """Of what breaks a rule of the paths: with their LANs laid, what costs less. None is shown that breaks one of the LANs."""
    least, ground = _best(asked), Ground(asked)
    routes = find(asked).routes if asked.mesh.lines and least is not None else ()
    if not routes or least is None:
        return ()
    found = [(code, spread_over(route, ground)) for code, route in better(asked, routes[0])]
    return tuple(Rejected(code=code, plan=made) for code, made in found if made is not None and made.cost < least.cost)


def _asked(spec: ServiceSpec, graph: Graph, now: datetime, avoid: Avoid | None) -> Question | Infeasible:
    mesh = read_mesh(spec)
    if isinstance(mesh, Reason):
        return Infeasible(reasons=(mesh,))
    if (window := asked_for(spec, now)).empty:
        past = Reason(
            code=ReasonCode.INVALID_SPEC, message=f"the end {window.end.isoformat()} is past", subject="end_time"
        )
        return Infeasible(reasons=(past,))
    wrong = vocabulary(mesh, graph) or ends_without_label(mesh, graph)
    return Infeasible(reasons=wrong) if wrong else ask(mesh, graph, now, avoid or Avoid())


def ask(mesh: Mesh, graph: Graph, now: datetime, avoid: Avoid) -> Question:
    """The question that a mesh with known words asks of the graph."""
    return Question(
        mesh=mesh,
        graph=graph,
        saps=tuple(sap for end in mesh.ends if (sap := graph.sap_named(end.sap)) is not None),
        now=now,
        avoid=avoid,
        bandwidth_bps=mesh.spec.bandwidth_bps,
        min_mtu=mesh.spec.min_mtu,
    )
