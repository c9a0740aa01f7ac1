"""A route of the search as a Plan: segments, interconnects, budgets.

Rules kept here
- A segment is a maximal run at one supplier, from an inward SAP to an outward SAP.
- The slack to the service's delay bound is shared in proportion to the planned delays (evenly where all are 0), rounded
  down. Without a bound, a segment's budget is its planned delay: nothing more was asked.
- A segment with a function swaps labels (a function forwards at layer 3); a transit swaps where its way does.
- A LAN is carried by each segment between its outermost members, and out to the end where it leaves the chain.
"""

from __future__ import annotations

from decimal import Decimal

from broker.decompose.chain import Chain
from broker.decompose.graph import Graph, nano, price_of
from broker.decompose.labelling import Route
from broker.decompose.layered import Step
from broker.decompose.plan import LanCarriage, Plan, PlannedSegment


def to_plan(route: Route) -> Plan:
    """The plan that a route stands for."""
    layers = route.layers
    graph, chain = layers.graph, layers.chain
    runs: list[list[Step]] = [[]]
    entries = [layers.q.start]
    exits: list[int] = []
    interconnects: list[str] = []
    for step in route.steps:
        if step.crossing is None:
            runs[-1].append(step)
            continue
        interconnects.append(step.crossing.id)
        exits.append(step.crossing.source)
        entries.append(step.crossing.target)
        runs.append([])
    exits.append(layers.q.goal)
    budgets = share([sum(s.delay for s in run) for run in runs], chain.spec.max_delay_us)
    segments: list[PlannedSegment] = []
    once = hour = placed = 0
    for run, entry, exit_, budget in zip(runs, entries, exits, budgets, strict=True):
        segment, run_once, run_hour = _segment(graph, chain, run, entry, exit_, placed, budget)
        segments.append(segment)
        placed += len(segment.functions)
        once, hour = once + run_once, hour + run_hour
    currency = graph.suppliers[graph.saps[layers.q.start].supplier].note.currency
    return Plan(
        segments=tuple(segments),
        interconnects=tuple(interconnects),
        price=price_of(currency, once, hour),
        cost=Decimal(route.cost).scaleb(-9),
        delay_us=route.delay,
    )


def _segment(
    graph: Graph, chain: Chain, run: list[Step], entry: int, exit_: int, before: int, budget: int
) -> tuple[PlannedSegment, int, int]:
    once = hour = 0
    swaps = True
    mtu = min(graph.saps[entry].offer.mtu, graph.saps[exit_].offer.mtu)
    places: dict[str, str] = {}
    for step in run:
        if step.way is not None:
            once, hour = once + step.way.once, hour + step.way.hour
            mtu = min(mtu, step.way.point.mtu)
            swaps = swaps and step.way.point.swaps_labels
        if step.flavour is not None:
            once, hour = once + nano(step.flavour.price.once), hour + nano(step.flavour.price.per_hour)
            place = graph.place(step.target % graph.size)
            assert place is not None
            places[chain.functions[step.function].id] = place.place
    view = graph.suppliers[graph.saps[entry].supplier]
    segment = PlannedSegment(
        alias=view.alias,
        entry=graph.saps[entry].offer.id,
        exit=graph.saps[exit_].offer.id,
        functions=tuple(places),
        places=places,
        price=price_of(view.note.currency, once, hour),
        delay_us=budget,
        swaps_labels=swaps or bool(places),
        mtu=mtu,
        lans=_carried(chain, before, before + len(places)),
    )
    return segment, once, hour


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
