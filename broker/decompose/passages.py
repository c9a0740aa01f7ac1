"""What ways through a snapshot are made of, for as long as it stays the same: a supplier's way and the interconnect behind it.

Rules kept here
- A passage leads from the inner side of a SAP, or from a place, over one way of one supplier: to a point where ways may end (a
  place, a SAP that we announce), or over the interconnect behind it to the inner side of the next SAP. Where nothing is
  free, and where a SAP is closed, there is none.
- Nodes and passages are the same objects from one graph to the next while what they say is the same, so what was found over
  them holds. What differs is told (`Difference`).
- A passage is known by what its supplier calls its ends and by which of the ways between these it is (`order`): of two ways
  that are as good the one is taken, whatever else is in the snapshot, and however it came to be so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from address_planner.labels import NO_LABEL, LabelSet
from broker.decompose.graph import Crossing, Graph, Way
from capability_registry.front import MANY

ANY = (None, None)
"""Whatever labels are free at the ends of a way."""
UNTOLD = -1
"""All countries there could be: a bit each."""


_Name = tuple[str, str, str]
"""(what of it, alias, id at the supplier)."""
Order = tuple[_Name, int]
"""Where a passage comes from, and which of the ways from there: no two that lead to one node have the same."""


class Node:
    """Where a way has come to. `out`: what leads on, `ends`: what leads to an end; `into`: what leads here."""

    __slots__ = ("ends", "into", "out")

    def __init__(self) -> None:
        self.out: list[Passage] = []
        self.ends: list[Passage] = []
        self.into: list[Passage] = []


class Figures(NamedTuple):
    """What a way gets worse by: `cost` and `delay` add, of the others the least counts; `offered`: a bit per mechanism, `passed`
    one per country; `once`: what of the cost does not grow with the term. `straight`: labels stay what they are. `takes`: where
    the way begins and where it ends (None: any). `labels`: free on the interconnect; None: there is none."""

    cost: int
    delay: int
    bandwidth: int
    mtu: int
    lan: bool
    offered: int
    passed: int
    once: int
    straight: bool
    takes: tuple[LabelSet | None, LabelSet | None]
    labels: LabelSet | None


class Passage:
    """`way` and `crossing` as the graph of this moment has them; `gone`: it has no such passage any more. `free`: how many
    labels."""

    __slots__ = (
        "bandwidth", "content", "cost", "crossing", "delay", "figures", "free", "gone", "head", "labels", "lan",
        "many", "mtu", "offered", "once", "order", "passed", "straight", "tail", "takes", "way",
    )  # fmt: skip

    def __init__(self, tail: Node, head: Node, order: Order, figures: Figures) -> None:
        self.tail, self.head, self.order, self.figures, self.gone = tail, head, order, figures, False
        self.cost, self.delay, self.bandwidth, self.mtu, self.lan = figures[:5]
        self.offered, self.passed, self.once, self.straight, self.takes, self.labels = figures[5:]
        self.free = 0 if self.labels is None else len(self.labels)
        self.many = self.labels is None or self.free >= MANY
        self.way: Way
        self.crossing: Crossing | None = None
        self.content: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """Passages that are no more, and that are new. `renewed`: those whose figures stay while what they are made of differs."""

    gone: Sequence[Passage]
    new: Sequence[Passage]
    renewed: frozenset[Passage]

    @property
    def ends(self) -> set[Node]:
        """Those that something else leads to."""
        return {p.head for p in (*self.gone, *self.new) if p.crossing is None}


class Passages:
    """Of one graph after another. `hours`: the term that prices are compared over."""

    def __init__(self, hours: int) -> None:
        self._hours = hours
        self._starts: list[_Name] = []
        self._nodes: dict[_Name, Node] = {}
        self._known: dict[tuple[_Name, _Name, int], Passage] = {}
        self.mechanisms: dict[str, int] = {}
        self.countries: dict[str, int] = {}

    def start(self, vertex: int) -> Node | None:
        """The node of a vertex to leave from; None where nothing leads on."""
        return self._nodes.get(self._starts[vertex])

    def end(self, vertex: int) -> Node | None:
        """The node of a vertex to arrive at; None where nothing leads there."""
        return self._nodes.get(_end(self._starts[vertex]))

    def follow(self, graph: Graph, closed: frozenset[int]) -> Difference:
        """What is otherwise in this graph than in the one before; `closed`: SAPs that are not to be crossed now."""
        self._starts = _starts(graph)
        former, self._known = self._known, {}
        nodes, self._nodes = self._nodes, {}
        new: list[Passage] = []
        renewed: set[Passage] = set()

        def node(name: _Name) -> Node:
            if name not in self._nodes:
                self._nodes[name] = nodes.get(name) or Node()
            return self._nodes[name]

        for way, crossing, number in _leading(graph, closed):
            start, goal = self._starts[way.source], self._goal(way, crossing)
            figures = self._figures(graph, way, crossing)
            if figures.bandwidth <= 0 or figures.labels == NO_LABEL:
                continue
            content = (
                way.once,
                way.hour,
                way.point.availability,
                way.point.lan_alone,
                [bool(graph.sap(v).offer.interconnect) for v in (way.source, way.target) if v < 2 * graph.sap_count],
            )
            known = former.get((start, goal, number))
            if known is None or known.figures != figures:
                known = Passage(node(start), node(goal), (start, number), figures)
                new.append(known)
            else:
                del former[start, goal, number]
                self._nodes[start], self._nodes[goal] = known.tail, known.head
                if known.content != content:
                    renewed.add(known)
            known.way, known.crossing, known.content = way, crossing, content
            self._known[start, goal, number] = known
        for passage in former.values():
            passage.gone = True
        self._link()
        return Difference(tuple(former.values()), tuple(new), frozenset(renewed))

    def offered(self, bits: int) -> frozenset[str]:
        return frozenset(word for word, bit in self.mechanisms.items() if bits & bit)

    def passed(self, bits: int) -> frozenset[str] | None:
        """None: not told."""
        return None if bits == UNTOLD else frozenset(word for word, bit in self.countries.items() if bits & bit)

    def _goal(self, way: Way, crossing: Crossing | None) -> _Name:
        return _end(self._starts[way.target]) if crossing is None else self._starts[crossing.target]

    def _figures(self, graph: Graph, way: Way, crossing: Crossing | None) -> Figures:
        p = way.point
        bandwidth, mtu, lan, passed = p.bandwidth_bps, p.mtu, p.lan, self._passed(p.countries or (None,))
        if crossing is not None:
            sides = crossing.source, crossing.target
            offers = [graph.sap_offer(i) for i in sides]
            bandwidth = min(bandwidth, *(s.bandwidth_bps for s in offers))
            mtu = min(mtu, *(s.mtu for s in offers))
            lan = lan and len(crossing.labels) > 1
            passed |= self._passed(graph.sap_country[i] for i in sides)
        saps = graph.sap_count
        return Figures(
            cost=way.once + way.hour * self._hours,
            delay=p.delay_us,
            bandwidth=bandwidth,
            mtu=mtu,
            lan=lan,
            offered=sum(_bit(self.mechanisms, m) for m in set(p.isolation)),
            passed=passed,
            once=way.once,
            straight=way.source < saps <= way.target < 2 * saps and not p.swaps_labels,
            takes=way.labels,
            labels=None if crossing is None else crossing.labels,
        )

    def _passed(self, countries: Iterable[str | None]) -> int:
        passed = 0
        for country in countries:
            passed |= _bit(self.countries, country) if country else UNTOLD
        return passed

    def _link(self) -> None:
        for node in self._nodes.values():
            node.out, node.ends, node.into = [], [], []
        for passage in self._known.values():
            (passage.tail.ends if passage.crossing is None else passage.tail.out).append(passage)
            passage.head.into.append(passage)


def _starts(graph: Graph) -> list[_Name]:
    """What each vertex is called to leave from; of an outward SAP, what its inner side is."""
    aliases = [view.alias for view in graph.suppliers]
    saps: list[_Name] = [("sap", aliases[s.supplier], s.offer.id) for s in graph.saps]
    return [*saps, *saps, *(("place", aliases[p.supplier], p.place) for p in graph.places)]


def _end(start: _Name) -> _Name:
    kind, alias, id = start
    return f"to {kind}", alias, id


def _leading(graph: Graph, closed: frozenset[int]) -> Iterator[tuple[Way, Crossing | None, int]]:
    """Each way that leads anywhere, the interconnect behind it, and which it is of those between its ends."""
    saps, announced = graph.sap_count, set(graph.announced.values())
    for ways in graph.ways:
        times = Counter[int]()
        for way in ways:
            times[way.target] += 1
            crossing = graph.crossing[way.target - saps] if way.target < 2 * saps else None
            if crossing is not None and not {crossing.source, crossing.target} & closed:
                yield way, crossing, times[way.target]
            if way.target >= 2 * saps or way.target - saps in announced:
                yield way, None, times[way.target]


def _bit(known: dict[str, int], word: str) -> int:
    return known.setdefault(word, 1 << len(known))
