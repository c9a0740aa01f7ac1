"""The planner: a spec and a snapshot in, ranked plans or the binding constraint out.

Rules kept here
- Pure: the same arguments give the same answer; the clock is an argument.
- `decompose` plans whatever it can; `plan` is what orders use, and refuses what could be planned and not delivered. A shape
  that is no chain is refused by both (`chain`).
- The order of judgement: shape, words, labels at the ends, then the search; what is refused is explained.
- Suppliers that are not usable, not in the validity of their note, or withdrawing are not planned with. A planned
  outage counts where it covers the start of the service.
"""

from __future__ import annotations

from datetime import datetime

from broker.decompose.chain import Chain, read_chain
from broker.decompose.explain import better, explain
from broker.decompose.graph import Graph, graph_of
from broker.decompose.labelling import find
from broker.decompose.layered import Question
from broker.decompose.plan import Avoid, Infeasible, Plan, Rejected, Snapshot
from broker.decompose.segments import to_plan
from broker.decompose.vocabulary import ends_without_label, vocabulary
from service_model.constraints import GroupScope
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import ServiceSpec


def plan(
    spec: ServiceSpec,
    snapshot: Snapshot,
    now: datetime,
    avoid: Avoid | None = None,
    alternatives: int = 3,
) -> tuple[Plan, ...] | Infeasible:
    """`decompose`, for an order that is to be delivered: what no segment could be told to keep is refused."""
    kept = undeliverable(spec)
    return Infeasible(reasons=kept) if kept else decompose(spec, snapshot, now, avoid, alternatives)


def decompose(
    spec: ServiceSpec,
    snapshot: Snapshot,
    now: datetime,
    avoid: Avoid | None = None,
    alternatives: int = 3,
) -> tuple[Plan, ...] | Infeasible:
    """At most `alternatives` (≥ 1) plans, best first, distinct in their segments; or why there is none."""
    asked = _asked(spec, snapshot, now, avoid)
    if not isinstance(asked, Question):
        return asked
    routes = find(asked, alternatives)
    if not routes:
        bindings = explain(asked)
        nearest = tuple(Rejected(code=b.reason.code, plan=to_plan(b.nearest)) for b in bindings if b.nearest)
        return Infeasible(reasons=tuple(b.reason for b in bindings), nearest=nearest)
    return tuple(to_plan(route) for route in routes)


def rejected(spec: ServiceSpec, snapshot: Snapshot, now: datetime, avoid: Avoid | None = None) -> tuple[Rejected, ...]:
    """Plans better than the best one of `decompose`, each with the class of constraints that it breaks."""
    asked = _asked(spec, snapshot, now, avoid)
    best = find(asked, 1) if isinstance(asked, Question) else []
    if not isinstance(asked, Question) or not best:
        return ()
    return tuple(Rejected(code=code, plan=to_plan(route)) for code, route in better(asked, best[0]))


def undeliverable(spec: ServiceSpec) -> tuple[Reason, ...]:
    """What this broker can plan for, but not yet hand down: whoever delivers a segment could break it unknowingly.

    Groups by place or supplier, distances, and a function's countries are kept by the places that are handed down.
    """
    asked = [(f"group {g.id!r} by HOST", g.id) for g in spec.groups if g.scope is GroupScope.HOST]
    asked += [("the service's countries", "countries")] if spec.countries else []
    asked += [("isolation", "isolation")] if spec.isolation else []
    asked += [(f"distance {d.id!r} by delay", d.id) for d in spec.distances if d.max_delay_us is not None]
    return tuple(
        Reason(code=ReasonCode.FEATURE_NOT_OFFERED, message=f"{what} cannot be asked of suppliers yet", subject=subject)
        for what, subject in asked
    )


def _asked(spec: ServiceSpec, snapshot: Snapshot, now: datetime, avoid: Avoid | None) -> Question | Infeasible:
    chain = read_chain(spec)
    if not isinstance(chain, Chain):
        return Infeasible(reasons=(chain,))
    graph = graph_of(snapshot)
    wrong = vocabulary(chain, graph) or ends_without_label(chain, graph)
    return Infeasible(reasons=wrong) if wrong else ask(chain, graph, now, avoid or Avoid())


def ask(chain: Chain, graph: Graph, now: datetime, avoid: Avoid) -> Question:
    """The question that a chain with known words asks of the graph."""
    return Question(
        chain=chain,
        graph=graph,
        start=graph.announced[chain.a.sap],
        goal=graph.announced[chain.b.sap],
        now=now,
        avoid=avoid,
        bandwidth_bps=chain.spec.bandwidth_bps,
        min_mtu=chain.spec.min_mtu,
    )
