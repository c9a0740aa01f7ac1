"""The ways worth knowing from one exported point to every other, through the snapshot, without functions.

Rules kept here
- Each way is attainable as a whole: its figures are those of one route. Kept is what no other beats, by any figure that a
  note tells (`capability_registry.front`): Martins, On a multicriteria shortest path problem, 1984.
- Labels: a class of interconnects tied by segments that do not swap has a label in common. Where a class reaches an end
  of the way, the labels of the whole class are what may be used at that end (`near`, `far`; None: any). A part that takes
  fewer labels than are free at its ends narrows the class that it ends, and the one that it begins.
- A way carries a LAN where all its parts do and each class has a second label; a LAN alone, where all its parts do.
- Followed is what is at least an eighth faster, or wider, than each cheaper way that is as able (cheaper over every term up
  to `hours`); at each vertex at most WIDTH ways, the cheapest, and beside them the fastest. So the front is coarse, and each
  way on it is exact.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from address_planner.labels import NO_LABEL, LabelSet
from broker.decompose.graph import Crossing, Graph, Way
from capability_registry.front import MANY, MOST, Candidate, announced
from capability_registry.note import PointKind

WIDTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """One attainable way. Sums in 1e-9 currency units, microseconds, bit/s, bytes; `steps` in order. `countries` empty:
    one of its parts does not tell."""

    once: int
    hour: int
    delay_us: int
    bandwidth_bps: int
    mtu: int
    availability: float
    lan: bool
    swaps_labels: bool
    isolation: tuple[str, ...]
    countries: tuple[str, ...]
    lan_alone: bool
    near: LabelSet | None
    far: LabelSet | None
    classes: tuple[tuple[str, LabelSet], ...]
    """(interconnect, labels that the class which passes it has in common)."""
    steps: tuple[Way | Crossing, ...]


Known = Candidate["Label"]
"""A way that was found, as it is compared with others."""


class _Figures(NamedTuple):
    """What is worse when it is more (`cost`, `delay`, `passed`: a bit per country; `once`: what of the cost does not grow with
    the term) or less (the others; `offered`: a bit per mechanism)."""

    cost: int
    delay: int
    bandwidth: int
    mtu: int
    lan: bool
    offered: int
    passed: int
    once: int = 0


class Label:
    """A way to a vertex. `labels`: of the class that is still open (None: none is), `tied` if the source is in it; `near`:
    what may be used at the source. `many`, `near_many`: so many that which they are is not compared."""

    __slots__ = ("figures", "labels", "many", "near", "near_many", "parent", "step", "tied", "vertex")

    def __init__(
        self,
        vertex: int,
        figures: _Figures,
        labels: LabelSet | None,
        tied: bool,
        near: LabelSet | None,
        step: Way | Crossing | None,
        parent: Label | None,
    ) -> None:
        self.vertex, self.figures, self.labels, self.tied = vertex, figures, labels, tied
        self.near, self.step, self.parent = near, step, parent
        self.many = labels is None or len(labels) >= MANY
        self.near_many = near is None or len(near) >= MANY

    @property
    def far(self) -> LabelSet | None:
        """What may be used at the vertex."""
        return self.labels


class Reach:
    """Of one graph. `hours`: the term that prices are compared over; `closed`: SAPs that are not to be crossed now."""

    def __init__(self, graph: Graph, hours: int, closed: frozenset[int] = frozenset()) -> None:
        self._graph, self._closed = graph, closed
        self._saps = len(graph.saps)
        points = [w.point for ways in graph.ways for w in ways]
        self._mechanisms = _bits(m for p in points for m in p.isolation)
        self._countries = _bits([*(c for p in points for c in p.countries), *(c for c in graph.sap_country if c)])
        self._untold = (2 << len(self._countries)) - 1
        self._parts = [[(w, self._part(w, hours)) for w in ways] for ways in graph.ways]

    def _part(self, way: Way, hours: int) -> _Figures:
        p = way.point
        return _Figures(
            way.once + way.hour * hours,
            p.delay_us,
            p.bandwidth_bps,
            p.mtu,
            p.lan,
            sum(self._mechanisms[m] for m in set(p.isolation)),
            sum(self._countries[c] for c in set(p.countries)) if p.countries else self._untold,
            way.once,
        )

    def from_(self, source: int) -> Mapping[int, list[Known]]:
        """From a vertex (a SAP's inward one, or a place's) the ways to each outward SAP vertex and place."""
        found = self._search(source, fastest=False)
        for vertex, labels in self._search(source, fastest=True).items():
            found[vertex] = [*found.get(vertex, ()), *labels]
        begun = (source, source + self._saps) if source < 2 * self._saps else (source,)
        return {
            vertex: [self._candidate(label) for label in labels]
            for vertex, labels in found.items()
            if vertex >= self._saps and vertex not in begun
        }

    def announced(self, found: Iterable[Known], most: int = MOST) -> list[tuple[PointKind, Reached]]:
        """Those of the ways between two points that are announced, `most` of them."""
        return [(kind, self._reached(label)) for kind, label in announced(found, most)]

    def _search(self, source: int, fastest: bool) -> dict[int, list[Label]]:
        graph, at_sap = self._graph, source < self._saps
        first = graph.sap(source).offer.free if at_sap else None
        mechanisms = sum(self._mechanisms.values())
        start = Label(source, _Figures(0, 0, 1 << 62, 1 << 31, True, mechanisms, 0), first, at_sap, first, None, None)
        width = 1 if fastest else WIDTH
        kept: dict[int, list[Label]] = {}
        tick = count()
        heap: list[tuple[int, int, int, int, Label]] = [(0, 0, 0, next(tick), start)]
        while heap:
            label = heapq.heappop(heap)[4]
            known = kept.setdefault(label.vertex, [])
            if len(known) >= width or any(_covers(k, label, fastest) for k in known):
                continue
            known.append(label)
            for longer in self._onward(label, source):
                there = kept.get(longer.vertex)
                if there and (len(there) >= width or any(_covers(k, longer, fastest) for k in there)):
                    continue
                cost, delay, bandwidth, *_ = longer.figures
                key = (delay, cost) if fastest else (cost, delay)
                heapq.heappush(heap, (*key, -bandwidth, next(tick), longer))
        return kept

    def _onward(self, label: Label, source: int) -> Iterable[Label]:
        saps, vertex, was = self._saps, label.vertex, label.figures
        if saps <= vertex < 2 * saps:
            crossing = self._graph.crossing[vertex - saps]
            if crossing is not None and not {crossing.source, crossing.target} & self._closed:
                yield from self._across(label, crossing)
            return
        if vertex >= 2 * saps and vertex != source:
            return
        cost, delay, bandwidth, mtu, lan, offered, passed, once = was
        for way, part in self._parts[vertex]:
            figures = _Figures(
                cost + part[0],
                delay + part[1],
                bandwidth if bandwidth < part[2] else part[2],
                mtu if mtu < part[3] else part[3],
                lan and part[4],
                offered & part[5],
                passed | part[6],
                once + part[7],
            )
            straight = saps <= way.target < 2 * saps and vertex < saps and not way.point.swaps_labels
            here, there = way.labels
            if here is None and there is None:
                labels = label.labels if straight else None
                yield Label(way.target, figures, labels, straight and label.tied, label.near, way, label)
            else:
                yield from self._told(label, way, figures, straight)

    def _told(self, label: Label, way: Way, figures: _Figures, straight: bool) -> Iterable[Label]:
        """Over a way that tells which labels it takes at its ends."""
        here, there = way.labels
        before = _both(label.labels, here)
        labels = _both(before, there) if straight else there
        if (before is not None and not before) or (labels is not None and not labels):
            return
        few = min(len(known) for known in (before, labels) if known is not None)
        near = label.near
        if label.tied:
            near = labels if straight else before
        figures = figures._replace(lan=figures.lan and few > 1)
        yield Label(way.target, figures, labels, straight and label.tied, near, way, label)

    def _across(self, label: Label, crossing: Crossing) -> Iterable[Label]:
        graph, labels = self._graph, crossing.labels
        if label.labels is not None:
            labels = labels & label.labels
        if not labels:
            return
        was, sides = label.figures, [graph.sap_offer(i) for i in (crossing.source, crossing.target)]
        passed = was.passed
        for country in (graph.sap_country[crossing.source], graph.sap_country[crossing.target]):
            passed |= self._countries[country] if country else self._untold
        figures = _Figures(
            was.cost,
            was.delay,
            min(was.bandwidth, *(s.bandwidth_bps for s in sides)),
            min(was.mtu, *(s.mtu for s in sides)),
            was.lan and len(labels) > 1,
            was.offered,
            passed,
            was.once,
        )
        tied = label.labels is not None and label.tied
        near = labels if tied else label.near
        yield Label(crossing.target, figures, labels, tied, near, crossing, label)

    def _candidate(self, label: Label) -> Candidate[Label]:
        f = label.figures
        return Candidate(
            way=label,
            cost=f.cost,
            delay_us=f.delay,
            bandwidth_bps=f.bandwidth,
            mtu=f.mtu,
            lan=f.lan,
            swaps_labels=not label.tied,
            isolation=frozenset(m for m, bit in self._mechanisms.items() if f.offered & bit),
            countries=frozenset(self._names(f.passed)) if f.passed != self._untold else None,
            near=label.near,
            far=label.far,
            once=f.once,
        )

    def _names(self, passed: int) -> tuple[str, ...]:
        return tuple(sorted(c for c, bit in self._countries.items() if passed & bit))

    def _reached(self, label: Label) -> Reached:
        steps: list[Way | Crossing] = []
        at: Label | None = label
        while at is not None and at.step is not None:
            steps.append(at.step)
            at = at.parent
        steps.reverse()
        ways = [s for s in steps if isinstance(s, Way)]
        crossings = [s for s in steps if isinstance(s, Crossing)]
        times = Counter(w.number for w in ways)
        passed = Counter(s.id for s in crossings)
        bandwidth = [w.point.bandwidth_bps // times[w.number] for w in ways]
        for c in crossings:
            bandwidth += [self._graph.sap_offer(i).bandwidth_bps // passed[c.id] for i in (c.source, c.target)]
        availability = 1.0
        for w in ways:
            availability *= w.point.availability
        f = label.figures
        return Reached(
            once=sum(w.once for w in ways),
            hour=sum(w.hour for w in ways),
            delay_us=f.delay,
            bandwidth_bps=min(bandwidth),
            mtu=f.mtu,
            availability=availability,
            lan=f.lan and all(len(c.labels) >= 2 * passed[c.id] for c in crossings),
            swaps_labels=not label.tied,
            isolation=tuple(sorted(m for m, bit in self._mechanisms.items() if f.offered & bit)),
            countries=self._names(f.passed) if f.passed != self._untold else (),
            lan_alone=all(w.point.lan_alone for w in ways),
            near=label.near,
            far=label.far,
            classes=self._classes(steps),
            steps=tuple(steps),
        )

    def _classes(self, steps: list[Way | Crossing]) -> tuple[tuple[str, LabelSet], ...]:
        out: list[tuple[str, LabelSet]] = []
        first = steps[0].source
        labels = self._graph.sap(first).offer.free if first < self._saps else None
        run: list[str] = []

        def close() -> None:
            out.extend((id, labels or NO_LABEL) for id in run)
            run.clear()

        for step in steps:
            if isinstance(step, Crossing):
                labels = _both(labels, step.labels)
                run.append(step.id)
                continue
            labels = _both(labels, step.labels[0])
            if step.point.swaps_labels or not (step.source < self._saps <= step.target < 2 * self._saps):
                close()
                labels = None
            labels = _both(labels, step.labels[1])
        close()
        return tuple(out)


def _both(x: LabelSet | None, y: LabelSet | None) -> LabelSet | None:
    """What both allow; None: any."""
    return y if x is None else x if y is None else x & y


def _within(y: LabelSet | None, x: LabelSet | None) -> bool:
    """Whether y is a part of x; None: any label."""
    return x is None or (y is not None and y <= x)


def _bits(words: Iterable[str]) -> dict[str, int]:
    return {word: 1 << n for n, word in enumerate(sorted(set(words)))}


def _covers(x: Label, y: Label, fastest: bool) -> bool:
    """Whether x, found earlier, leaves nothing to gain from y. (Where only the fastest is sought: no label that y has.)"""
    if x.tied > y.tied:
        return False
    if not x.many and x.labels is not y.labels and not _within(y.labels, x.labels):
        return False
    if not x.near_many and x.near is not y.near and not _within(y.near, x.near):
        return False
    if fastest:
        return True
    cost, delay, bandwidth, mtu, lan, offered, passed, once = x.figures
    f = y.figures
    return (
        8 * delay <= 9 * f[1]
        and 9 * bandwidth >= 8 * f[2]
        and mtu >= f[3]
        and lan >= f[4]
        and not f[5] & ~offered
        and not passed & ~f[6]
        and cost <= f[0]
        and once <= f[7]
    )
