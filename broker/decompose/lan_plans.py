"""Plans of services with a LAN that needs more than its lines: sites, parts that no line joins, or no path at all.

Rules kept here
- The paths are searched as if there were no such LAN, the best first; each route's LANs are then laid (`lan_tree`). The best
  plan is the cheapest of routes with trees. It is proven where the last route alone costs as much: the search asks for more
  routes until then, ROUTES at most. So it is exact but for what those leave, and for trees that are not (`steiner`, and LANs
  laid one after another).
- Where no route leaves room for its LANs, routes are searched that do: what the LANs of the best want and is not left (labels,
  bandwidth) is kept for them, ROUNDS times at most.
- Bounds on price and availability are of everything together, and what several suppliers sell of one pool.
- Where a route is found and no LAN can be laid over any, the constraint that binds is found over the best route as
  `explain` does: one class of rules is switched off at a time, and the first thing on the tree that breaks it is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from broker.decompose.availability import available, loss
from broker.decompose.graph import Crossing
from broker.decompose.labelling import Effort, Route
from broker.decompose.lan_tree import Ground, Laying
from broker.decompose.layered import Question
from broker.decompose.mesh import MeshLan
from broker.decompose.meshed import MeshLayers
from broker.decompose.one_seller import OneSeller
from broker.decompose.plan import Plan, Rejected
from broker.decompose.resources import Resource, within
from broker.decompose.routes import find
from broker.decompose.segments import Grown, Hop, along, to_plan
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import LAN_SITES

ROUTES = 12
ROUNDS = 8

_CLASSES = (
    ReasonCode.FEATURE_NOT_OFFERED,
    ReasonCode.MTU,
    ReasonCode.BANDWIDTH,
    ReasonCode.LAN_NOT_OFFERED,
    ReasonCode.LABELS_EXHAUSTED,
    ReasonCode.COUNTRY,
    ReasonCode.ISOLATION,
    ReasonCode.AVAILABILITY,
    ReasonCode.PRICE,
    ReasonCode.CAPACITY,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Plans, best first. Where there are none: why (`reasons`, `nearest`), unless there is no route either (`routed` False).
    Not `complete`: the search for routes gave up."""

    plans: tuple[Plan, ...] = ()
    reasons: tuple[Reason, ...] = ()
    nearest: tuple[Rejected, ...] = ()
    routed: bool = True
    complete: bool = True


def spread(question: Question, alternatives: int, effort: Effort, why: bool = True) -> Spread:
    """At most `alternatives` plans of a mesh that spreads; why there is none, in full only where that is asked."""
    routes: tuple[Route, ...] = ()
    asked, complete, ground = 0, True, Ground(question)
    plans: list[Plan] = []
    while not _settled(routes, plans, asked, alternatives):
        asked = min(ROUTES, 4 * asked) if asked else alternatives
        routes, complete = _routes(question, asked, effort)
        if not routes:
            return Spread(routed=False, complete=complete)
        plans = sorted((p for route in routes if (p := spread_over(route, ground))), key=lambda p: (p.cost, p.delay_us))
    plans = plans or [p for p in [_with_room(question, ground, routes[0], effort)] if p is not None]
    if plans:
        return Spread(plans=tuple(plans[:alternatives]))
    if not why:
        subject = question.mesh.spec.name
        return Spread(reasons=(Reason(code=ReasonCode.NO_PATH, message="no plan", subject=subject),))
    bindings = list(_bindings(question, routes[0]))
    nearest = tuple(Rejected(code=reason.code, plan=plan) for reason, plan in bindings if plan is not None)
    return Spread(reasons=tuple(reason for reason, _ in bindings), nearest=nearest)


def spread_over(route: Route, ground: Ground) -> Plan | None:
    """The plan of a route with its LANs; None where they cannot all be laid, within its bounds."""
    trees = _laid(route, ground)
    return to_plan(route, trees) if isinstance(trees, list) and not _over(route, ground, trees) else None


def _with_room(question: Question, ground: Ground, route: Route, effort: Effort) -> Plan | None:
    """A plan over a route that leaves what LANs want."""
    kept: dict[Resource, float] = {}
    for _ in range(ROUNDS):
        wanted = _wanted(question, ground, route)
        if all(kept.get(resource, 0) >= amount for resource, amount in wanted.items()):
            return None
        kept |= {resource: max(amount, kept.get(resource, 0)) for resource, amount in wanted.items()}
        routes, _ = _routes(replace(question, kept=kept), 1, effort)
        if not routes:
            return None
        (route,) = routes
        if (plan := spread_over(route, ground)) is not None:
            return plan
    return None


def _wanted(question: Question, ground: Ground, route: Route) -> dict[Resource, float]:
    """What LANs would draw over this route where that is more than it leaves."""
    short = frozenset({ReasonCode.LABELS_EXHAUSTED, ReasonCode.BANDWIDTH})
    laying = Laying(Ground(replace(question, ignore=question.ignore | short)), route)
    before = laying.spent.copy()
    if any(laying.lay(lan) is None for lan in question.mesh.lans if not lan.whole):
        return {}
    drawn = {r: amount - before[r] for r, amount in laying.spent.items() if amount > before[r]}
    return {r: amount for r, amount in drawn.items() if not within(ground.layers, r, before[r] + amount)}


def _settled(routes: tuple[Route, ...], plans: list[Plan], asked: int, alternatives: int) -> bool:
    """Whether no route that was not found yet can be better, or no more are looked at."""
    if not asked or len(routes) < asked or asked >= ROUTES:
        return bool(asked)
    return len(plans) >= alternatives and routes[-1].cost >= int(plans[alternatives - 1].cost.scaleb(9))


def _routes(question: Question, asked: int, effort: Effort) -> tuple[tuple[Route, ...], bool]:
    if not question.mesh.lines:
        return (Route(layers=MeshLayers(question), moves=(), cost=0, delays=(0,)),), True
    found = find(question, asked, effort)
    return found.routes, found.complete


def _laid(route: Route, ground: Ground) -> list[Grown] | MeshLan:
    """What joins each LAN that needs it; or the first that nothing joins."""
    laying, out = Laying(ground, route), []
    for lan in route.layers.mesh.lans:
        if not lan.whole:
            grown = laying.lay(lan)
            if grown is None:
                return lan
            out.append(grown)
    return out


def _over(route: Route, ground: Ground, trees: list[Grown]) -> ReasonCode | None:
    """The bound that everything together breaks."""
    layers = ground.layers
    moves = [*route.moves, *(along(way) for tree in trees for _, way in tree.ways)]
    bound = available(layers) if layers.holds(ReasonCode.AVAILABILITY) else None
    if bound is not None and sum(loss(layers, move) for move in moves) > bound.limit + 1e-9:
        return ReasonCode.AVAILABILITY
    if layers.price_limit is not None and int(to_plan(route, trees).cost.scaleb(9)) > layers.price_limit:
        return ReasonCode.PRICE
    if route.layers.graph.sold_twice and layers.holds(ReasonCode.CAPACITY) and not _shared(route, trees):
        return ReasonCode.CAPACITY
    return None


def _shared(route: Route, trees: list[Grown]) -> bool:
    """Whether everything together may draw on what several sell."""
    rule = OneSeller.of(route.layers)
    memory: Mapping[int, Any] | None = rule.start
    for move in route.moves:
        memory = None if memory is None else rule.after(memory, move)
    ways = [way for tree in trees for _, way in tree.ways]
    saps = [
        sap
        for tree in trees
        for sap in (*(s for hop in tree.hops for s in hop.saps), *(s for _, s in tree.sites.values()))
    ]
    return memory is not None and rule.spreads(memory, ways, saps)


# --- why there is none -----------------------------------------------------------------------------------------------------


def _bindings(question: Question, route: Route) -> Iterator[tuple[Reason, Plan | None]]:
    """Each class of rules that alone stands against the LANs over this route, with the plan without it."""
    strict = Ground(question)
    laid = _laid(route, strict)
    named = laid if isinstance(laid, MeshLan) else None
    found = False
    for code in _CLASSES:
        ground = Ground(replace(question, ignore=question.ignore | {code}))
        trees = _laid(route, ground)
        if isinstance(trees, list) and not _over(route, ground, trees):
            found = True
            plan = to_plan(route, trees)
            yield _reason(code, route, plan, trees, strict, named), plan
    if not found:
        lan = named or next(lan for lan in question.mesh.lans if not lan.whole)
        ends = ", ".join(repr(p) for p in question.mesh.spec.link(lan.id).points)
        message = f"LAN {lan.id!r}: no ways that carry LANs join {ends}"
        yield Reason(code=ReasonCode.NO_PATH, message=message, subject=lan.id), None


def _reason(
    code: ReasonCode, route: Route, plan: Plan, trees: list[Grown], strict: Ground, named: MeshLan | None
) -> Reason:
    spec, layers = route.layers.spec, route.layers
    subject, message = spec.name, ""
    if code is ReasonCode.PRICE:
        best = f"{plan.cost.normalize():f}"
        message = f"price over {spec.term_hours} h: best {best} > {spec.max_price} {plan.price.currency}"
    elif code is ReasonCode.AVAILABILITY:
        ways = [*route.moves, *(along(way) for tree in trees for _, way in tree.ways)]
        works = math.exp(-sum(loss(layers, move) for move in ways))
        subject = "min_availability"
        message = f"availability: no way has {spec.min_availability:.7g}; the best without has {works:.7g}"
    else:
        lan = named.id if named is not None else trees[0].lan
        subject, message = _obstacle(code, strict, route, lan, trees)
    retryable = code in (ReasonCode.LABELS_EXHAUSTED, ReasonCode.BANDWIDTH)
    return Reason(code=code, message=message, subject=subject, retryable=retryable)


_LACK = {
    ReasonCode.FEATURE_NOT_OFFERED: f"lacks the feature {LAN_SITES!r}",
    ReasonCode.LAN_NOT_OFFERED: "carries no LAN",
    ReasonCode.COUNTRY: "does not stay in the countries",
    ReasonCode.ISOLATION: "does not offer the isolation",
}


def _obstacle(code: ReasonCode, strict: Ground, route: Route, lan: str, trees: list[Grown]) -> tuple[str, str]:
    """The first thing on the tree of the LAN without the rules that these do not admit. (Of packets and bandwidth customers
    are told as it is said here, so nothing of suppliers.)"""
    graph, where = strict.graph, f"LAN {lan!r}"
    if code is ReasonCode.MTU:
        return lan, f"{where}: no ways that join it carry {strict.layers.q.min_mtu} bytes"
    if code is ReasonCode.CAPACITY:
        return lan, f"{where}: what several suppliers sell of one thing is not enough for all of it"
    if code is ReasonCode.BANDWIDTH:
        return lan, f"{where}: no ways that join it have {strict.layers.q.bandwidth_bps} bit/s free"
    tree = next(tree for tree in trees if tree.lan == lan)
    used = Laying(strict, route).spent
    used.update(("labels", _crossing(strict, hop).id) for other in trees if other.lan != lan for hop in other.hops)
    for end, (_, sap) in tree.sites.items():
        if not strict.open(sap):
            alias = graph.suppliers[int(graph.sap_supplier[sap])].alias
            return end, f"{where}: {alias} {_LACK.get(code, 'is not open')} at {strict.layers.spec.end(end).sap!r}"
    for hop in tree.hops:
        crossing = _crossing(strict, hop)
        if code is ReasonCode.LABELS_EXHAUSTED:
            needed = used["labels", crossing.id] + 1
            if len(crossing.labels) < needed:
                message = f"interconnect {crossing.id!r} has {len(crossing.labels)} common free labels, {needed} needed"
                return crossing.id, f"{where}: {message}"
        elif not strict.entries[hop.saps[0]] or not strict.entries[hop.saps[1]]:
            return lan, f"{where}: interconnect {crossing.id!r} {_LACK.get(code, 'is not open')}"
    a, b = strict.ends
    for _, way in tree.ways:
        if not strict.ways[way]:
            alias = graph.suppliers[graph.way_supplier(way)].alias
            points = " and ".join(_point(strict, int(node)) for node in (a[way], b[way]))
            return lan, f"{where}: {alias} {_LACK.get(code, 'is not open')} between {points}"
    return lan, f"{where}: there are not enough labels on its way beside what the service takes else"


def _crossing(ground: Ground, hop: Hop) -> Crossing:
    crossing = ground.graph.crossing[hop.saps[0]]
    assert crossing is not None, "a hop is over an interconnect"
    return crossing


def _point(ground: Ground, node: int) -> str:
    """A border point in the customer's words."""
    graph = ground.graph
    if node >= graph.sap_count:
        return repr(graph.here(node - graph.sap_count).place)
    name = next((n for n, announced in graph.announced.items() if announced == node), None)
    crossing = graph.crossing[node]
    return repr(name) if name else f"interconnect {crossing.id!r}" if crossing else "a SAP"
