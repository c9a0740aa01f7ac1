"""A route of the search as a Plan: segments, stretches of lines, interconnects, budgets.

Rules kept here
- A segment is a maximal run at one supplier, from an inward SAP to an outward SAP.
- The slack to the service's delay bound is shared in proportion to the planned delays (evenly where all are 0), rounded
  down. Without a bound, a segment's budget is its planned delay: nothing more was asked.
- So is the bound of a distance by delay, over the segments between its two points.
- A segment with a function swaps labels (a function forwards at layer 3); a transit swaps where its way does.
- A LAN goes beside the path between its outermost members, and out to the end where it leaves the chain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from broker.decompose.chain import Chain
from broker.decompose.labelling import Route
from broker.decompose.layered import Layers, Move, figures
from broker.decompose.piece import price_of
from broker.decompose.plan import Joint, Plan, PlannedSegment, Stretch
from broker.decompose.rules import Soon, rules_of


@dataclass(frozen=True, slots=True)
class _Run:
    """Moves at one supplier between two SAPs. `before` functions were placed when it begins, `until` when it ends;
    `interconnect` leads to its entry."""

    moves: tuple[Move, ...]
    entry: int
    exit: int
    before: int
    until: int
    interconnect: str | None


def to_plan(route: Route) -> Plan:
    """The plan that a route stands for."""
    layers = route.layers
    graph, chain = layers.graph, layers.chain
    runs = _runs(route)
    planned = [sum(figures(layers, move)[2] for move in run.moves) for run in runs]
    budgets = share(planned, chain.max_delay_us)
    segments: list[PlannedSegment] = []
    once = hour = 0
    for run, budget, parts in zip(runs, budgets, _near(layers, runs), strict=True):
        segment, run_once, run_hour = _segment(layers, run)
        segments.append(replace(segment, budgets={chain.spec.paths[0].id: (budget,)}, near=parts))
        once, hour = once + run_once, hour + run_hour
    currency = graph.suppliers[int(graph.sap_supplier[layers.q.start])].note.currency
    lines = _lines(layers, runs)
    return Plan(
        segments=tuple(segments),
        lines=lines,
        lans=_beside(chain, lines),
        price=price_of(currency, once, hour),
        cost=Decimal(route.cost).scaleb(-9),
        delay_us=route.delay,
    )


def _runs(route: Route) -> list[_Run]:
    layers = route.layers
    out: list[_Run] = []
    moves: list[Move] = []
    entry, before, placed, over = layers.q.start, 0, 0, None
    for move in route.moves:
        moves.append(move)
        placed += move.place >= 0
        if move.entry >= 0:
            crossing = layers.graph.crossing[move.entry]
            assert crossing is not None
            out.append(_Run(tuple(moves), entry, crossing.target, before, placed, over))
            moves, entry, before, over = [], move.entry, placed, crossing.id
    return [*out, _Run(tuple(moves), entry, layers.q.goal, before, placed, over)]


def _lines(layers: Layers, runs: list[_Run]) -> dict[str, tuple[Stretch, ...]]:
    """Each run has a stretch of every line from the one that it comes in on to the one that it leaves on."""
    lines = layers.chain.lines
    out: dict[str, tuple[Stretch, ...]] = {line.id: () for line in lines}
    for number, run in enumerate(runs):
        for k in range(run.before, run.until + 1):
            first, last = k == run.before, k == run.until
            stretch = Stretch(
                segment=number,
                entry=layers.graph.sap_offer(run.entry).id if first else None,
                exit=layers.graph.sap_offer(run.exit).id if last else None,
                interconnect=run.interconnect if first else None,
            )
            out[lines[k].id] = (*out[lines[k].id], stretch)
    return out


def _beside(chain: Chain, lines: dict[str, tuple[Stretch, ...]]) -> dict[str, tuple[Joint, ...]]:
    """The joints that each LAN goes beside."""
    count = len(chain.functions)
    along = [(line.id, k) for k, line in enumerate(chain.lines)]
    return {
        lan.id: tuple(
            Joint(line=id, after=n) for id, k in along if lan.present(k, count) for n in range(len(lines[id]) - 1)
        )
        for lan in chain.lans
    }


def _segment(layers: Layers, run: _Run) -> tuple[PlannedSegment, int, int]:
    graph, chain = layers.graph, layers.chain
    once = hour = 0
    swaps = True
    mtu = min(graph.sap_offer(run.entry).mtu, graph.sap_offer(run.exit).mtu)
    places: dict[str, str] = {}
    for move in run.moves:
        more_once, more_hour, _ = figures(layers, move)
        once, hour = once + more_once, hour + more_hour
        if move.way >= 0:
            point = graph.between(move.way).point
            mtu = min(mtu, point.mtu)
            swaps = swaps and point.swaps_labels
        if move.place >= 0:
            places[chain.functions[move.layer].id] = graph.here(move.place).place
    view = graph.suppliers[int(graph.sap_supplier[run.entry])]
    segment = PlannedSegment(
        alias=view.alias,
        functions=tuple(places),
        places=places,
        price=price_of(view.note.currency, once, hour),
        swaps_labels=swaps or bool(places),
        mtu=mtu,
    )
    return segment, once, hour


def _near(layers: Layers, runs: list[_Run]) -> list[dict[str, int]]:
    """For each run, its part of each distance by delay that goes through it."""
    out: list[dict[str, int]] = [{} for _ in runs]
    for rule in rules_of(layers):
        if isinstance(rule, Soon):
            parts = [[p for move in run.moves if (p := rule.part(move)) is not None] for run in runs]
            through = [n for n, part in enumerate(parts) if part]
            bounds = share([round(sum(parts[n])) for n in through], round(rule.limit))
            for n, bound in zip(through, bounds, strict=True):
                out[n][rule.subject] = bound
    return out


def share(planned: list[int], limit: int | None) -> list[int]:
    """Delay budgets (microseconds): what is planned and a share of the slack to `limit`; their sum stays within it."""
    if limit is None:
        return planned
    total, slack = sum(planned), limit - sum(planned)
    if not total:
        return [slack // len(planned)] * len(planned)
    return [own + slack * own // total for own in planned]
