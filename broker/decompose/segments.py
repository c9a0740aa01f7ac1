"""A route of the search as a Plan: segments, interconnects, budgets.

Rules kept here
- A segment is a maximal run at one supplier, from an inward SAP to an outward SAP.
- The slack to the service's delay bound is shared in proportion to the planned delays (evenly where all are 0), rounded
  down. Without a bound, a segment's budget is its planned delay: nothing more was asked.
- So is the bound of a distance by delay, over the segments between its two points.
- A segment with a function swaps labels (a function forwards at layer 3); a transit swaps where its way does.
- A LAN is carried by each segment between its outermost members, and out to the end where it leaves the chain.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from broker.decompose.chain import Chain
from broker.decompose.labelling import Route
from broker.decompose.layered import Layers, Move, figures
from broker.decompose.piece import price_of
from broker.decompose.plan import LanCarriage, Plan, PlannedSegment
from broker.decompose.rules import Soon, rules_of


def to_plan(route: Route) -> Plan:
    """The plan that a route stands for."""
    layers = route.layers
    graph, chain = layers.graph, layers.chain
    runs: list[list[Move]] = [[]]
    entries = [layers.q.start]
    exits: list[int] = []
    interconnects: list[str] = []
    for move in route.moves:
        runs[-1].append(move)
        if move.entry >= 0:
            crossing = graph.crossing[move.entry]
            assert crossing is not None
            interconnects.append(crossing.id)
            exits.append(crossing.target)
            entries.append(move.entry)
            runs.append([])
    exits.append(layers.q.goal)
    budgets = share([sum(figures(layers, m)[2] for m in run) for run in runs], chain.spec.max_delay_us)
    near = _near(layers, runs)
    segments: list[PlannedSegment] = []
    once = hour = placed = 0
    for run, entry, exit_, budget, parts in zip(runs, entries, exits, budgets, near, strict=True):
        segment, run_once, run_hour = _segment(layers, run, entry, exit_, placed, budget)
        segments.append(replace(segment, near=parts))
        placed += len(segment.functions)
        once, hour = once + run_once, hour + run_hour
    currency = graph.suppliers[int(graph.sap_supplier[layers.q.start])].note.currency
    return Plan(
        segments=tuple(segments),
        interconnects=tuple(interconnects),
        price=price_of(currency, once, hour),
        cost=Decimal(route.cost).scaleb(-9),
        delay_us=route.delay,
    )


def _segment(
    layers: Layers, run: list[Move], entry: int, exit_: int, before: int, budget: int
) -> tuple[PlannedSegment, int, int]:
    graph, chain = layers.graph, layers.chain
    once = hour = 0
    swaps = True
    mtu = min(graph.sap_offer(entry).mtu, graph.sap_offer(exit_).mtu)
    places: dict[str, str] = {}
    for move in run:
        more_once, more_hour, _ = figures(layers, move)
        once, hour = once + more_once, hour + more_hour
        if move.way >= 0:
            point = graph.between(move.way).point
            mtu = min(mtu, point.mtu)
            swaps = swaps and point.swaps_labels
        if move.place >= 0:
            places[chain.functions[move.layer].id] = graph.here(move.place).place
    view = graph.suppliers[int(graph.sap_supplier[entry])]
    segment = PlannedSegment(
        alias=view.alias,
        entry=graph.sap_offer(entry).id,
        exit=graph.sap_offer(exit_).id,
        functions=tuple(places),
        places=places,
        price=price_of(view.note.currency, once, hour),
        delay_us=budget,
        swaps_labels=swaps or bool(places),
        mtu=mtu,
        lans=_carried(chain, before, before + len(places)),
    )
    return segment, once, hour


def _near(layers: Layers, runs: list[list[Move]]) -> list[dict[str, int]]:
    """For each run, its part of each distance by delay that goes through it."""
    out: list[dict[str, int]] = [{} for _ in runs]
    for rule in rules_of(layers):
        if isinstance(rule, Soon):
            parts = [[p for move in run if (p := rule.part(move)) is not None] for run in runs]
            through = [n for n, part in enumerate(parts) if part]
            bounds = share([round(sum(parts[n])) for n in through], round(rule.limit))
            for n, bound in zip(through, bounds, strict=True):
                out[n][rule.subject] = bound
    return out


def _carried(chain: Chain, first: int, last: int) -> tuple[LanCarriage, ...]:
    """The LANs of a segment that places functions first..last-1: it enters on stretch `first` and leaves on `last`."""
    length = len(chain.functions)
    carried = []
    for lan in chain.lans:
        at_entry, at_exit = lan.present(first, length), lan.present(last, length)
        if at_entry or at_exit or any(first <= m < last for m in lan.members):
            carried.append(LanCarriage(lan=lan.id, at_entry=at_entry, at_exit=at_exit))
    return tuple(carried)


def share(planned: list[int], limit: int | None) -> list[int]:
    """Delay budgets (microseconds): what is planned and a share of the slack to `limit`; their sum stays within it."""
    if limit is None:
        return planned
    total, slack = sum(planned), limit - sum(planned)
    if not total:
        return [slack // len(planned)] * len(planned)
    return [own + slack * own // total for own in planned]
