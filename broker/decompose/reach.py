"""The best ways from one exported point to every other, through the snapshot, without functions.

Rules kept here
- Each way is attainable as a whole: its figures are those of one route. Cost first, or delay first.
- Labels: a class of interconnects tied by segments that do not swap has a label in common. Where a class reaches an end
  of the way, every label that the end announces must do in the whole class, since the buyer sees the end alone.
- With `lan` only what carries a LAN beside the path is used: ways with `lan`, and two labels on interconnects.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from address_planner.labels import LabelSet
from broker.decompose.graph import Crossing, Graph, Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """One attainable way. Sums in 1e-9 currency units, microseconds, bit/s, bytes; `steps` in order."""

    once: int
    hour: int
    delay_us: int
    bandwidth_bps: int
    mtu: int
    availability: float
    lan: bool
    swaps_labels: bool
    isolation: tuple[str, ...]
    steps: tuple[Way | Crossing, ...]


class _Label:
    __slots__ = ("cost", "delay", "labels", "parent", "step", "tied", "vertex")

    def __init__(
        self,
        vertex: int,
        cost: int,
        delay: int,
        labels: LabelSet | None,
        tied: bool,
        step: Way | Crossing | None,
        parent: _Label | None,
    ) -> None:
        self.vertex, self.cost, self.delay, self.labels, self.tied = vertex, cost, delay, labels, tied
        self.step, self.parent = step, parent


def reach(
    graph: Graph,
    source: int,
    hours: int,
    *,
    fastest: bool = False,
    lan: bool = False,
    closed: frozenset[int] = frozenset(),
) -> Mapping[int, Reached]:
    """From a vertex (a SAP's inward one, or a place's) the best way to every outward SAP vertex and place.

    `hours`: the term that prices are compared over. `closed`: indices of SAPs that are not to be crossed now.
    """
    saps = len(graph.saps)
    begins_at_sap = graph.place(source) is None
    first = graph.sap(source).offer.labels if begins_at_sap else None
    kept: dict[int, list[_Label]] = {}
    best: dict[int, Reached] = {}
    tick = count()
    heap: list[tuple[int, int, int, _Label]] = [
        (0, 0, next(tick), _Label(source, 0, 0, first, begins_at_sap, None, None))
    ]
    while heap:
        label = heapq.heappop(heap)[3]
        if any(_covers(k, label) for k in kept.get(label.vertex, ())):
            continue
        kept.setdefault(label.vertex, []).append(label)
        arrived = label.vertex >= saps
        back = label.vertex in (source, source + saps) if begins_at_sap else label.vertex == source
        if arrived and not back and label.vertex not in best and _ends_well(graph, label, saps):
            best[label.vertex] = _reached(graph, label)
        for step, target, labels, tied in _onward(graph, label, saps, source, lan, closed):
            cost, delay = label.cost, label.delay
            if isinstance(step, Way):
                cost, delay = cost + step.once + step.hour * hours, delay + step.point.delay_us
            key = (delay, cost) if fastest else (cost, delay)
            heapq.heappush(heap, (*key, next(tick), _Label(target, cost, delay, labels, tied, step, label)))
    return best


def _covers(x: _Label, y: _Label) -> bool:
    """Whether x, found earlier, leaves nothing to gain from y."""
    if x.labels is None:
        return True
    return x.tied == y.tied and y.labels is not None and y.labels <= x.labels


def _ends_well(graph: Graph, label: _Label, saps: int) -> bool:
    """At an outward SAP tied to interconnects inside, each label that it announces must do there."""
    if label.vertex >= 2 * saps or label.tied or label.labels is None:
        return True
    return graph.saps[label.vertex - saps].offer.labels <= label.labels


def _onward(
    graph: Graph, label: _Label, saps: int, source: int, lan: bool, closed: frozenset[int]
) -> list[tuple[Way | Crossing, int, LabelSet | None, bool]]:
    out: list[tuple[Way | Crossing, int, LabelSet | None, bool]] = []
    if saps <= label.vertex < 2 * saps:
        crossing = graph.crossing[label.vertex - saps]
        if crossing is None or {crossing.source, crossing.target} & closed or len(crossing.labels) < 1 + lan:
            return out
        if label.labels is None:
            out.append((crossing, crossing.target, crossing.labels, False))
        elif label.tied:
            if label.labels <= crossing.labels:
                out.append((crossing, crossing.target, label.labels, True))
        elif len(label.labels & crossing.labels) >= 1 + lan:
            out.append((crossing, crossing.target, label.labels & crossing.labels, False))
        return out
    if label.vertex >= 2 * saps and label.vertex != source:
        return out
    for way in graph.ways[label.vertex]:
        if lan and not way.point.lan:
            continue
        straight = saps <= way.target < 2 * saps and label.vertex < saps and not way.point.swaps_labels
        out.append((way, way.target, label.labels if straight else None, straight and label.tied))
    return out


def _reached(graph: Graph, label: _Label) -> Reached:
    steps: list[Way | Crossing] = []
    at: _Label | None = label
    while at is not None and at.step is not None:
        steps.append(at.step)
        at = at.parent
    steps.reverse()
    ways = [s for s in steps if isinstance(s, Way)]
    crossings = [s for s in steps if isinstance(s, Crossing)]
    crossed = [graph.saps[i].offer for c in crossings for i in (c.source, c.target)]
    times = Counter(w.number for w in ways)
    passed = Counter(s.id for s in crossings)
    bandwidth = [w.point.bandwidth_bps // times[w.number] for w in ways]
    bandwidth += [graph.saps[i].offer.bandwidth_bps // passed[c.id] for c in crossings for i in (c.source, c.target)]
    availability = 1.0
    isolation = set(ways[0].point.isolation)
    for w in ways:
        availability *= w.point.availability
        isolation &= set(w.point.isolation)
    return Reached(
        once=sum(w.once for w in ways),
        hour=sum(w.hour for w in ways),
        delay_us=sum(w.point.delay_us for w in ways),
        bandwidth_bps=min(bandwidth),
        mtu=min([w.point.mtu for w in ways] + [s.mtu for s in crossed]),
        availability=availability,
        lan=all(w.point.lan for w in ways)
        and all(len(c.labels) >= 2 * passed[c.id] for c in crossings)
        and _room_for_lan(graph, steps),
        swaps_labels=not label.tied,
        isolation=tuple(sorted(isolation)),
        steps=tuple(steps),
    )


def _room_for_lan(graph: Graph, steps: list[Way | Crossing]) -> bool:
    """Whether each class of tied interconnects has a second label in common."""
    labels: LabelSet | None = None
    for step in steps:
        if isinstance(step, Crossing):
            labels = step.labels if labels is None else labels & step.labels
            if len(labels) < 2:
                return False
        elif step.point.swaps_labels or graph.place(step.source) or graph.place(step.target):
            labels = None
    return True
