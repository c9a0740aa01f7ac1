"""What joins a LAN beyond the lines that it goes beside: a tree over ways and interconnects. Of one route at a time.

Rules kept here
- A LAN is one bridge domain, and its tree closes no ring: over segments, nor within one. It is the cheapest that joins what
  the lines leave apart and the LAN's sites (`capability_registry.steiner`, exact up to its EXACT terminals). It is a bridge,
  no flow: it may turn at a SAP.
- What the lines of a segment take costs a LAN nothing there: it goes beside. It leaves a segment over an interconnect only, by
  itself or into another one that has lines. What hangs together elsewhere is a segment of its own.
- A way is paid for once, whatever goes on from its ends. It carries LANs alone: those of a LAN on two interconnects are never
  tied. An interconnect that is crossed needs one label more.
- Beside paths a LAN has no bandwidth of its own. In a service without paths the bandwidth is its LANs': each takes it once on
  every way, SAP and interconnect that it uses.
- LANs are laid one after another, in what the route and those before them leave. A tree that draws too much on something is
  laid again without one of the ways that draw on it, the cheapest of those first, at most TRIES times.
- A supplier is asked for a site, or for a LAN where no path is, only if it offers the feature `lan-sites`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, product

import numpy as np

from broker.decompose.labelling import Route
from broker.decompose.layered import Question
from broker.decompose.mesh import MeshLan
from broker.decompose.meshed import MeshLayers
from broker.decompose.piece import Figures, Flags, Numbers
from broker.decompose.resources import Resource, at_ends, draws, within
from broker.decompose.segments import Grown, Hop, Run, by_segment, runs_of
from capability_registry.steiner import Tree, cheapest_tree
from service_model.outcomes import ReasonCode
from service_model.spec import LAN_SITES, End

TRIES = 64


class Ground:
    """Where LANs may go for one question, whatever the route. `layers` judges as of nothing but LANs."""

    def __init__(self, question: Question) -> None:
        self.layers = MeshLayers(replace(question, bandwidth_bps=0) if question.mesh.paths else question)
        self.graph = question.graph

    @cached_property
    def featured(self) -> Flags:
        """Suppliers that lay a LAN where no line is."""
        suppliers = self.graph.suppliers
        if not self.layers.holds(ReasonCode.FEATURE_NOT_OFFERED):
            return np.ones(len(suppliers), dtype=np.bool_)
        return np.array([LAN_SITES in view.note.api_features for view in suppliers], dtype=np.bool_)

    @cached_property
    def ends(self) -> tuple[Numbers, Numbers]:
        """Of each way, the nodes that it joins."""
        return self.graph.figures("way_a"), self.graph.figures("way_b")

    @cached_property
    def beside(self) -> Flags:
        """The ways along which a LAN may go where a line does."""
        a, b = self.ends
        saps = self.graph.sap_count
        ok: Flags = self.layers.ways_admitted(1) & ((a >= saps) | (b >= saps) | self.graph.way_swaps)
        return ok

    @cached_property
    def ways(self) -> Flags:
        """Those that it may go by itself."""
        seller = np.repeat(np.arange(len(self.graph.suppliers)), np.diff(self.graph.way_first))
        ok: Flags = self.layers.ways_admitted(0) & self.featured[seller]
        if self.layers.holds(ReasonCode.LAN_NOT_OFFERED):
            ok &= np.array([w.point.lan_alone for piece in self.graph.pieces for w in piece.ways], dtype=np.bool_)
        return ok

    @cached_property
    def entries(self) -> Flags:
        return self.layers.entries_admitted(0)

    def open(self, sap: int) -> bool:
        """Whether a LAN may have an end there."""
        return bool(self.layers.sap_ok[sap] and self.featured[self.graph.sap_supplier[sap]])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arcs:
    """`way`: -1 over an interconnect. `paid` False: a line has it. Vertices are nodes: those of no segment first, then those
    of each segment of the route."""

    tails: Numbers
    heads: Numbers
    way: Numbers
    paid: Flags


class Laying:
    """The LANs of one route, one after another."""

    def __init__(self, ground: Ground, route: Route) -> None:
        self.ground, self.graph, self.route = ground, ground.graph, route
        self.layers = ground.layers
        self.nodes = self.graph.sap_count + self.graph.place_count
        self.parts: list[list[Run]] = by_segment(runs_of(route))
        self.suppliers = [part[0].supplier for part in self.parts]
        self.spent: Counter[Resource] = Counter()
        for move in route.moves:
            self.spent.update(summed(draws(route.layers, move)))
        self.spent.update(summed(at_ends(route.layers)))
        self.home = {
            route.layers.requests[m.layer].id: (n, self.graph.sap_count + m.place)
            for n, part in enumerate(self.parts)
            for run in part
            for m in run.moves
            if m.place >= 0
        }

    def lay(self, lan: MeshLan) -> Grown | None:
        """What joins it; None where nothing does. What it takes is not there for the next."""
        arcs, weights = self._arcs()
        core, pairs = self._core(lan)
        sites = dict.fromkeys(self._sap(end) for end in lan.sites)
        if not all(self.ground.open(sap) for sap in sites):
            return None
        meeting = [self._vertices(sap) for sap in sites]
        known = np.unique(np.concatenate([arcs.tails, arcs.heads, [*core], *meeting]).astype(np.int64))
        rank = {int(v): n for n, v in enumerate(known)}
        merged = np.arange(len(known))
        for vertex, first in core.items():
            merged[rank[vertex]] = rank[first]
        tails, heads = (merged[np.searchsorted(known, side)] for side in (arcs.tails, arcs.heads))
        apart = dict.fromkeys(int(merged[rank[first]]) for first in core.values())
        groups = [[v] for v in apart] + [[int(merged[rank[v]]) for v in at] for at in meeting]
        tick = count()
        first_try = cheapest_tree(len(known), tails, heads, weights, groups)
        tried: list[tuple[float, int, frozenset[int], Tree]] = []
        if first_try is not None:
            tried.append((first_try.weight, next(tick), frozenset(), first_try))
        seen: set[frozenset[int]] = set()
        while tried and len(seen) < TRIES:
            _, _, banned, tree = heapq.heappop(tried)
            met = [next(v for v in at if merged[rank[v]] == tree.met[len(apart) + n]) for n, at in enumerate(meeting)]
            where = dict(zip(sites, met, strict=True))
            grown = self._grown(lan, arcs, tree, where, pairs)
            culprits = self._overdrawn(arcs, tree, where) if grown is not None else self._crossed(arcs, tree)
            if culprits is None:
                return None
            if grown is not None and not culprits:
                self.spent.update(self._drawn(arcs, tree, where))
                self.suppliers += grown.new
                return grown
            for arc in culprits:
                without = banned | {arc}
                if without in seen or len(seen) >= TRIES:
                    continue
                seen.add(without)
                left = np.ones(len(weights), dtype=np.bool_)
                left[list(without)] = False
                numbers = np.flatnonzero(left)
                other = cheapest_tree(len(known), tails[left], heads[left], weights[left], groups)
                if other is not None:
                    other = replace(other, arcs=tuple(int(numbers[n]) for n in other.arcs))
                    heapq.heappush(tried, (other.weight, next(tick), without, other))
        return None

    # --- the network -----------------------------------------------------------------------------------------------------

    def _vertex(self, segment: int, node: int) -> int:
        """`segment` -1: of no segment of the route."""
        return (1 + segment) * self.nodes + node

    def _sap(self, end: End) -> int:
        sap = self.graph.sap_named(end.sap)
        assert sap is not None, "its name is known"
        return sap

    def _vertices(self, sap: int) -> list[int]:
        return [self._vertex(n, sap) for n in self._at(int(self.graph.sap_supplier[sap]))]

    def _at(self, supplier: int) -> list[int]:
        """None, and the segments of the route that a supplier has."""
        return [-1, *(n for n, part in enumerate(self.parts) if part[0].supplier == supplier)]

    def _arcs(self) -> tuple[_Arcs, Figures]:
        """Each arc weighs its price and 1e-9 more, so that of what is equally dear the shortest is taken."""
        graph, ground = self.graph, self.ground
        a, b = ground.ends
        cost = self.layers.way_cost
        free = np.flatnonzero(ground.ways)
        found = [(a[free], b[free], free, np.ones(len(free), np.bool_))]
        for n, part in enumerate(self.parts):
            low, high = (int(graph.way_first[part[0].supplier + k]) for k in (0, 1))
            own = low + np.flatnonzero(ground.ways[low:high])
            lined = sorted({m.way for run in part for m in run.moves if m.way >= 0 and ground.beside[m.way]})
            for ways, priced in ((own, True), (np.array(lined, np.int64), False)):
                offset = self._vertex(n, 0)
                found.append((a[ways] + offset, b[ways] + offset, ways, np.full(len(ways), priced)))
        pairs = np.array(list(self._crossings()), np.int64).reshape(-1, 2)
        found.append((pairs[:, 0], pairs[:, 1], np.full(len(pairs), -1), np.zeros(len(pairs), np.bool_)))
        tails, heads, way, told = (np.concatenate(column) for column in zip(*found, strict=True))
        paid: Flags = told.astype(np.bool_)
        weights: Figures = np.ones(len(way))
        weights[paid] += cost[way[paid]]
        return _Arcs(tails=tails, heads=heads, way=way, paid=paid), weights

    def _crossings(self) -> Iterator[tuple[int, int]]:
        """Over each interconnect that has a label left: from every part that meets it to every part beyond."""
        for sap in np.flatnonzero(self.ground.entries).tolist():
            crossing = self.graph.crossing[sap]
            assert crossing is not None, "a SAP is entered over an interconnect"
            if crossing.source > crossing.target or not self._left(("labels", crossing.id), 1):
                continue
            yield from product(self._vertices(crossing.source), self._vertices(crossing.target))

    def _core(self, lan: MeshLan) -> tuple[dict[int, int], list[tuple[int, int]]]:
        """Where the LAN is by its lines and members: each vertex, and one that stands for all that hangs together with it.
        And the segments that its lines join."""
        at: dict[int, list[int]] = {}
        for number, _ in lan.members:
            segment, node = self.home[self.route.layers.mesh.functions[number].id]
            at.setdefault(segment, []).append(node)
        a, b = self.ground.ends
        sap_of = self.route.layers.sap_of
        outer = {standing.beside.id for standing in lan.outer}
        joined: list[tuple[int, int]] = []
        last: dict[int, int] = {}
        for run in runs_of(self.route):
            line = self.route.layers.mesh.lines[run.line]
            for end, here in ((line.a, run.interconnect is None), (line.b, run.exit == sap_of.get(line.b))):
                if end in outer and here:
                    at.setdefault(run.part, []).append(sap_of[end])
            if run.line not in lan.lines:
                continue
            saps = [sap for sap in (run.entry, run.exit) if sap >= 0]
            ways = [int(side[m.way]) for m in run.moves if m.way >= 0 for side in (a, b)]
            at.setdefault(run.part, []).extend([*saps, *ways])
            if run.line in last:
                joined.append((last[run.line], run.part))
            last[run.line] = run.part
        together = _Parts()
        for x, y in joined:
            together.join(x, y)
        first: dict[int, int] = {}
        out = {}
        for segment, nodes in at.items():
            for node in nodes:
                vertex = self._vertex(segment, node)
                out[vertex] = first.setdefault(together.of(segment), vertex)
        return out, joined

    # --- a tree ----------------------------------------------------------------------------------------------------------

    def _grown(
        self, lan: MeshLan, arcs: _Arcs, tree: Tree, sites: Mapping[int, int], pairs: Iterable[tuple[int, int]]
    ) -> Grown | None:
        """None where it closes a ring over segments. `sites`: the vertex where the tree meets each SAP."""
        ends = [(int(arcs.tails[n]), int(arcs.heads[n]), n) for n in tree.arcs]
        loose = _Parts()
        for x, y, n in ends:
            if arcs.way[n] >= 0 and x < self.nodes:
                loose.join(x, y)
        new: dict[int, int] = {}
        suppliers: list[int] = []

        def segment(vertex: int) -> int:
            if vertex >= self.nodes:
                return vertex // self.nodes - 1
            part = loose.of(vertex)
            if part not in new:
                new[part] = len(self.suppliers) + len(suppliers)
                suppliers.append(self.graph.node_supplier(vertex))
            return new[part]

        whole = _Parts()
        for x, y in pairs:
            whole.join(x, y)
        hops = []
        for x, y, n in ends:
            if arcs.way[n] < 0:
                hop = Hop(segments=(segment(x), segment(y)), saps=(x % self.nodes, y % self.nodes))
                if not whole.join(*hop.segments):
                    return None
                hops.append(hop)
        return Grown(
            lan=lan.id,
            ways=tuple((segment(x), int(arcs.way[n])) for x, _, n in ends if arcs.paid[n]),
            hops=tuple(hops),
            sites={end.id: (segment(sites[sap]), sap) for end in lan.sites for sap in (self._sap(end),)},
            new=tuple(suppliers),
        )

    def _drawn(self, arcs: _Arcs, tree: Tree, sites: Mapping[int, int]) -> Counter[Resource]:
        out: Counter[Resource] = Counter()
        for n in tree.arcs:
            out.update(summed(self._draws(arcs, n)))
        for sap in sites:
            out["sap", sap] += self.layers.q.bandwidth_bps
        return out

    def _draws(self, arcs: _Arcs, number: int) -> Iterator[tuple[Resource, float]]:
        bps, graph, way = self.layers.q.bandwidth_bps, self.graph, int(arcs.way[number])
        if way < 0:
            sap = int(arcs.tails[number]) % self.nodes
            crossing = graph.crossing[sap]
            assert crossing is not None, "over an interconnect"
            yield ("labels", crossing.id), 1
            yield ("sap", crossing.source), bps
            yield ("sap", crossing.target), bps
            return
        yield ("way", way), bps
        for index, coefficient in graph.limits(way):
            yield ("shared", index), coefficient * bps
            if graph.limit(index).labels:
                yield ("pool", index), coefficient

    def _left(self, resource: Resource, more: float) -> bool:
        return within(self.layers, resource, self.spent[resource] + more)

    def _overdrawn(self, arcs: _Arcs, tree: Tree, sites: Mapping[int, int]) -> list[int] | None:
        """The arcs that draw on something of which there is not enough, one thing at a time; empty where there is enough of
        everything. None where no other tree can spare it: a site alone draws too much."""
        for resource, amount in self._drawn(arcs, tree, sites).items():
            if amount and not self._left(resource, amount):
                culprits = [n for n in tree.arcs if any(r == resource and x for r, x in self._draws(arcs, n))]
                return culprits or None
        return []

    def _crossed(self, arcs: _Arcs, tree: Tree) -> list[int]:
        return [n for n in tree.arcs if arcs.way[n] < 0]


def summed(drawn: Iterable[tuple[Resource, float]]) -> Counter[Resource]:
    """Amounts of what adds up: places are no matter of LANs."""
    out: Counter[Resource] = Counter()
    for resource, amount in drawn:
        if resource[0] != "place":
            out[resource] += amount  # type: ignore[assignment]
    return out


class _Parts:
    """What hangs together."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def of(self, x: int) -> int:
        while (above := self._above.get(x, x)) != x:
            x = above
        return x

    def join(self, x: int, y: int) -> bool:
        """Whether they were apart."""
        p, q = self.of(x), self.of(y)
        self._above[p] = q
        return p != q
