"""The ways worth knowing from one exported point to every other, through the snapshot, without functions.

Rules kept here
- Each way is attainable as a whole: its figures are those of one route. Kept is what no other beats, by any figure that a
  note tells (`capability_registry.front`).
- Labels: a class of interconnects tied by segments that do not swap has a label in common. Where a class reaches an end
  of the way, the labels of the whole class are what may be used at that end (`near`, `far`; None: any). A part that takes
  fewer labels than are free at its ends narrows the class that it ends, and the one that it begins.
- A way carries a LAN where all its parts do and each class has a second label; a LAN alone, where all its parts do.
- Followed is what is at least an eighth faster, or wider, than each cheaper way that is as able (cheaper over every term up
  to `hours`); at each node at most WIDTH walks, the cheapest, and beside
  them the fastest. So the front is coarse, and each way on it is exact.
- From graph to graph (`follow`) only that is found anew which what changed can touch; what is found is what a new `Reach` finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from address_planner.labels import NO_LABEL, LabelSet
from broker.decompose.graph import Graph, Way
from broker.decompose.passages import Difference, Node, Passage, Passages
from broker.decompose.shares import enough
from broker.decompose.walks import Search, Walk, both
from capability_registry.front import MOST, Candidate, announced
from capability_registry.note import PointKind

WIDTH = 16
WORDS = 1000
"""Mechanisms and countries that were ever told of, beyond which all is found anew: each is a bit of every walk."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reached:
    """One attainable way. Sums in 1e-9 currency units, microseconds, bit/s, bytes; `passages` in order. `countries` empty:
    one of its parts does not tell. The same object while it says the same."""

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
    classes: tuple[tuple[str, LabelSet, bool], ...]
    """(interconnect, labels that the class which passes it has in common, whether an end of the way is in that class at which
    an interconnect goes on: there who is behind it may have fewer)."""
    passages: tuple[Passage, ...]

    @property
    def ways(self) -> list[Way]:
        """In order, as the graph of this moment has them."""
        return [p.way for p in self.passages]


Known = Candidate[Walk]
"""A way that was found, as it is compared with others."""


def crosses(known: Known, interconnects: Collection[str]) -> bool:
    return any(p.crossing is not None and p.crossing.id in interconnects for p in known.way.passages)


class _Source:
    """What is known from one node: two searches, and the ways to each end that was asked for."""

    def __init__(self, node: Node, labels: LabelSet | None) -> None:
        self._searches = Search(node, labels, WIDTH, fastest=False), Search(node, labels, 1, fastest=True)
        self.found: dict[Node, list[Known]] = {}

    @property
    def size(self) -> int:
        return sum(search.size for search in self._searches)

    def follow(self, difference: Difference, labels: LabelSet | None) -> None:
        touched = set().union(*(search.follow(difference, labels) for search in self._searches))
        ends = {p.head for node in touched for p in node.ends} | difference.ends
        self.found = {end: known for end, known in self.found.items() if end not in ends}

    def walks(self, end: Node) -> list[Walk]:
        """To an end: the cheapest, in their order, and the fastest."""
        return [walk for search in self._searches for walk in search.ending(end)]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Of the ways that were found between two points, those that are announced."""

    found: tuple[Known, ...]
    ways: list[tuple[PointKind, Walk, Reached]]


class Reach:
    """Of one graph after another. `hours`: the term that prices are compared over; `closed`: SAPs that are not to be crossed
    now."""

    def __init__(self, graph: Graph, hours: int, closed: frozenset[int] = frozenset()) -> None:
        self._hours = hours
        self._begin(graph, closed)

    def _begin(self, graph: Graph, closed: frozenset[int]) -> None:
        self._graph, self._passages = graph, Passages(self._hours)
        self._difference = self._passages.follow(graph, closed)
        self._sources: dict[Node, _Source] = {}
        self._former: dict[Node, _Source] = {}
        """As of the graph before."""
        self._chosen: dict[tuple[int, ...], _Chosen] = {}
        self._chosen_before: dict[tuple[int, ...], _Chosen] = {}

    def follow(self, graph: Graph, closed: frozenset[int] = frozenset()) -> None:
        """Go on with another graph. What was not asked for since the one before is forgotten."""
        if len(self._passages.mechanisms) + len(self._passages.countries) > WORDS:
            self._begin(graph, closed)
            return
        self._graph, self._difference = graph, self._passages.follow(graph, closed)
        self._former, self._sources = self._sources, {}
        self._chosen_before, self._chosen = self._chosen, {}

    @property
    def size(self) -> int:
        """How many walks are kept."""
        return sum(source.size for source in (*self._sources.values(), *self._former.values()))

    def from_(self, source: int, to: Iterable[int]) -> Mapping[int, list[Known]]:
        """From a vertex (a SAP's inward one, or a place's) the ways to those of these outward SAP vertices and places that it
        reaches."""
        node = self._passages.start(source)
        if node is None:
            return {}
        here, found, out = self._source(node, source), {}, {}
        for vertex in to:
            end = self._passages.end(vertex)
            if end is not None:
                known = here.found.get(end)
                found[end] = [self._candidate(w) for w in here.walks(end)] if known is None else known
                if found[end]:
                    out[vertex] = found[end]
        here.found = found
        return out

    def sells(self, known: Known) -> bool:
        """Whether a way has enough of what it comes by through several sellers."""
        return not self._graph.sold_twice or enough(self._graph, known.way.passages, known.bandwidth_bps)

    def announced(self, found: Iterable[Known], most: int = MOST) -> list[tuple[PointKind, Reached]]:
        """Those of the ways between two points that are announced, `most` of them."""
        found = tuple(found)
        key = (most, *map(id, found))
        before = self._chosen_before.get(key)
        if before is None:
            ways = [(kind, walk, self._reached(walk)) for kind, walk in announced(found, most)]
        else:
            ways = [(kind, walk, self._again(walk, reached)) for kind, walk, reached in before.ways]
        self._chosen[key] = _Chosen(found, ways)
        return [(kind, reached) for kind, _, reached in ways]

    def _source(self, node: Node, vertex: int) -> _Source:
        here = self._sources.get(node)
        if here is None:
            labels = self._graph.sap(vertex).offer.free if vertex < self._graph.sap_count else None
            here = self._former.pop(node, None)
            if here is None:
                here = _Source(node, labels)
            else:
                here.follow(self._difference, labels)
            self._sources[node] = here
        return here

    def _candidate(self, walk: Walk) -> Known:
        return Candidate(
            way=walk,
            cost=walk.cost,
            delay_us=walk.delay,
            bandwidth_bps=walk.bandwidth,
            mtu=walk.mtu,
            lan=walk.lan,
            swaps_labels=not walk.tied,
            isolation=self._passages.offered(walk.offered),
            countries=self._passages.passed(walk.passed),
            near=walk.near,
            far=walk.far,
            once=walk.once,
        )

    def _again(self, walk: Walk, reached: Reached) -> Reached:
        """Of a walk that was found before: perhaps it has other parts now, or they say something else."""
        passages = walk.passages
        same = passages == reached.passages and self._difference.renewed.isdisjoint(passages)
        return reached if same else self._reached(walk)

    def _reached(self, walk: Walk) -> Reached:
        passages, bandwidth, availability, lan = walk.passages, walk.bandwidth, 1.0, walk.lan
        ways = [p.way for p in passages]
        for way in ways:
            availability *= way.point.availability
        times = Counter([way.number for way in ways])
        passed = Counter([p.crossing.id for p in passages if p.crossing is not None])
        if len(passages) > min(len(times), len(passed) + 1):  # it comes by somewhere twice
            for p in passages:
                bandwidth = min(bandwidth, p.way.point.bandwidth_bps // times[p.way.number])
                if p.crossing is not None:
                    often = passed[p.crossing.id]
                    sides = (self._graph.sap_offer(i) for i in (p.crossing.source, p.crossing.target))
                    bandwidth = min(bandwidth, *(side.bandwidth_bps // often for side in sides))
                    lan = lan and p.free >= 2 * often
        return Reached(
            once=sum([way.once for way in ways]),
            hour=sum([way.hour for way in ways]),
            delay_us=walk.delay,
            bandwidth_bps=bandwidth,
            mtu=walk.mtu,
            availability=availability,
            lan=lan,
            swaps_labels=not walk.tied,
            isolation=tuple(sorted(self._passages.offered(walk.offered))),
            countries=tuple(sorted(self._passages.passed(walk.passed) or ())),
            lan_alone=all(way.point.lan_alone for way in ways),
            near=walk.near,
            far=walk.far,
            classes=self._classes(passages),
            passages=passages,
        )

    def _classes(self, passages: Sequence[Passage]) -> tuple[tuple[str, LabelSet, bool], ...]:
        out: list[tuple[str, LabelSet, bool]] = []
        first = passages[0].way.source
        tied = first < self._graph.sap_count and bool(self._graph.sap(first).offer.interconnect)
        labels = self._graph.sap(first).offer.free if first < self._graph.sap_count else None
        run: list[str] = []
        for passage in passages:
            here, there = passage.takes
            labels = both(labels, here)
            if not passage.straight:
                out += [(id, labels or NO_LABEL, tied) for id in run]
                run, labels, tied = [], None, False
            labels = both(labels, there)
            if passage.crossing is not None:
                run.append(passage.crossing.id)
                labels = both(labels, passage.crossing.labels)
        last = passages[-1].way.target
        tied = tied or (bool(run) and bool(self._graph.sap(last).offer.interconnect))
        return (*out, *((id, labels or NO_LABEL, tied) for id in run))
