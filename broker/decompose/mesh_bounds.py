"""What a mesh still takes at least, from a state on.

Rules kept here
- Between two nodes a line takes the shortest way: one search backwards from each place where its head could be, and from
  each end, all in one call. Over the places, least sums by elimination (`elimination`), with what rules out that functions
  are where they are together (`mesh_pairs`).
- Where nothing else is shared a bound is the truth. Work is done for the states that are come to.
- A state does not tell where functions are that are not open any more: what they rule out counts at its least.
- `Weighting` says what counts, line by line and function by function: so a path's delay has a bound of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from broker.decompose.bounds import Ground, Weighting, into_end
from broker.decompose.elimination import Factor, eliminated, margins
from broker.decompose.layered import Move
from broker.decompose.meshed import MeshLayers, Tolls
from broker.decompose.piece import Figures, Numbers

NOTHING: Weighting = (0.0, 0.0)


class Steps:
    """The arcs backwards, as compressed rows: from each place where a function may be and each end, where a line may lead,
    and from each SAP, to the nodes before it. The same for all weights. Columns are SAPs, then those places; rows are those
    again, then the places and ends where lines lead."""

    def __init__(self, layers: MeshLayers) -> None:
        self.layers = layers
        arcs, graph = layers.graph.arcs, layers.graph
        saps = graph.sap_count
        self.places: Numbers = np.unique(np.concatenate([np.zeros(0, np.int64), *layers.candidates]))
        self.ends = sorted({sap for sap in layers.heads if sap >= 0})
        count = len(self.places)
        self.nodes = np.concatenate((np.arange(saps), saps + self.places))
        """The node of each column."""
        number = np.full(layers.nodes, -1)
        number[self.nodes] = np.arange(len(self.nodes))
        self.size = saps + 2 * count + len(self.ends)
        self.before = [
            np.unique(arcs.target[int(arcs.first[sap]) : int(arcs.first[sap + 1])]).astype(np.int64)
            for sap in self.ends
        ]
        """Per end the nodes from which it is one way."""
        self.before = [before[number[before] >= 0] for before in self.before]
        self.arriving = np.flatnonzero(number[arcs.arriving.ends] >= 0)
        self.leaving = np.flatnonzero((number[arcs.leaving.tails] >= 0) & (number[arcs.leaving.ends] >= 0))
        tails, ends = number[arcs.leaving.tails[self.leaving]], number[arcs.leaving.ends[self.leaving]]
        rows = [arcs.passing.ends, number[arcs.arriving.ends[self.arriving]] + count]
        rows.append(np.where(ends < saps, ends, ends + count))
        rows += [np.full(len(before), saps + 2 * count + n) for n, before in enumerate(self.before)]
        columns = [arcs.passing.tails, arcs.arriving.tails[self.arriving], tails]
        column = np.concatenate([*columns, *(number[before] for before in self.before)])
        row = np.concatenate(rows)
        self._of_head: list[Numbers | None] = [None] * len(layers.heads)
        self.order = np.lexsort((column, row))
        self.columns = column[self.order].astype(np.int32)
        self.firsts = np.searchsorted(row[self.order], np.arange(self.size + 1)).astype(np.int32)

    def narrowed(self) -> None:
        """There are fewer candidates now."""
        self._of_head = [None] * len(self.layers.heads)

    def at_place(self, places: Numbers) -> Numbers:
        """The rows of places."""
        return len(self.nodes) + np.searchsorted(self.places, places)

    def at_end(self, sap: int) -> int:
        """The row of an end."""
        return len(self.nodes) + len(self.places) + self.ends.index(sap)

    def of_head(self, line: int) -> Numbers:
        """The rows where a line may lead."""
        known = self._of_head[line]
        if known is None:
            head = self.layers.mesh.lines[line].head
            end = self.layers.heads[line]
            rows = np.array([self.at_end(end)]) if head is None else self.at_place(self.layers.candidates[head])
            known = self._of_head[line] = rows
        return known

    def weighed(self, need: int, ways: Figures, entries: Figures | None = None) -> Figures:
        """The arcs' weights (rows of them) by those of the ways, and of each SAP that is entered, where `need` LANs run
        along."""
        layers, arcs, saps = self.layers, self.layers.graph.arcs, self.layers.graph.sap_count
        ground = Ground(layers, ways, need)
        entered = np.where(ground.entry_ok, 0.0 if entries is None else entries, np.inf)
        ends = arcs.leaving.ends[self.leaving]
        leaving = ground.leaving[:, self.leaving] + np.where(ends < saps, entered[np.minimum(ends, saps - 1)], 0.0)
        values = [ground.passing + entered[arcs.passing.ends], ground.arriving[:, self.arriving], leaving]
        for sap, before in zip(self.ends, self.before, strict=True):
            values.append(np.concatenate(into_end(layers, sap, ways, ground.ok), axis=1)[:, before])
        out: Figures = np.concatenate(values, axis=1)[:, self.order]
        return out

    def searched(self, weights: Figures, rows: Sequence[Numbers]) -> Iterator[tuple[Figures, Numbers]]:
        """For each row of weights: by node, the least sums to these rows, and the column after each; nothing where a line
        stays at the place. All in one search, of as many graphs side by side."""
        count, size = len(weights), self.size
        begin = np.arange(count, dtype=np.int32)[:, None]
        columns = (self.columns + begin * np.int32(size)).ravel()
        firsts = np.append((self.firsts[:-1] + begin * self.firsts[-1]).ravel(), np.int32(weights.size))
        back = csr_array((weights.ravel(), columns, firsts), shape=(count * size, count * size))
        wanted = np.concatenate([here + n * size for n, here in enumerate(rows)])
        sums, after = dijkstra(back, indices=wanted, return_predecessors=True)
        done = 0
        for n, here in enumerate(rows):
            part, first = slice(done, done + len(here)), n * size
            out = np.full((len(here), self.layers.nodes), np.inf)
            out[:, self.nodes] = sums[part, first : first + len(self.nodes)]
            at_place = np.flatnonzero(here < len(self.nodes) + len(self.places))
            out[at_place, self.nodes[here[at_place] - len(self.places)]] = 0.0
            yield out, after[part, first : first + size] - first
            done += len(here)


class Distances:
    """Least sums from every node to each place where a function may be and to each end, per weighting and LANs beside."""

    def __init__(self, steps: Steps, tolls: Tolls | None = None) -> None:
        """`tolls`: of flows, besides."""
        self.layers, self.steps, self.tolls = steps.layers, steps, tolls
        self._known: dict[tuple[int, Weighting], _Measured] = {}

    def measure(self, lines: Sequence[Weighting]) -> None:
        """Whatever a bound with these weightings of lines asks for, no more."""
        like: dict[int, dict[Weighting, list[int]]] = {}
        for n, (need, weighting) in enumerate(zip(self.layers.need, lines, strict=True)):
            if weighting != NOTHING and (need, weighting) not in self._known:
                like.setdefault(need, {}).setdefault(weighting, []).append(n)
        for need, weightings in like.items():
            price, time = np.array(list(weightings)).T[:, :, None]
            ways = price * self.layers.way_cost + time * self.layers.graph.delay
            if self.tolls is not None:
                ways += self.tolls.ways
            weights = self.steps.weighed(need, ways, None if self.tolls is None else self.tolls.entries)
            rows = [_union([self.steps.of_head(k) for k in on]) for on in weightings.values()]
            found = self.steps.searched(weights, rows)
            for weighting, here, (sums, after), own in zip(weightings, rows, found, ways, strict=True):
                self._known[need, weighting] = _Measured(here, sums, after, own)

    def to_head(self, line: int, weighting: Weighting) -> Figures:
        """From every node (columns) to each place of the line's head, or to the end (rows)."""
        rows = self.steps.of_head(line)
        if weighting == NOTHING:
            return np.broadcast_to(0.0, (len(rows), self.layers.nodes))
        known = self._known[self.layers.need[line], weighting]
        if len(rows) == len(known.rows):
            return known.sums
        out: Figures = known.sums[np.searchsorted(known.rows, rows)]
        return out

    def walk(self, line: int, weighting: Weighting, node: int, place: int) -> Iterator[Move]:
        """The shortest way of a line from a node to its head, which is at `place` (-1: an end). Moves to no state."""
        layers, known = self.layers, self._known[self.layers.need[line], weighting]
        goal = layers.graph.sap_count + place if place >= 0 else layers.heads[line]
        if place >= 0 and node == goal:
            yield Move(-1, 0.0, 0.0, -1, -1, place, line)
            return
        row = int(self.steps.at_place(np.array(place))) if place >= 0 else self.steps.at_end(goal)
        after = known.after[int(np.searchsorted(known.rows, row))]
        way_ok, saps = layers.way_ok[layers.need[line]], layers.graph.sap_count
        at = node if node < saps else saps + int(np.searchsorted(self.steps.places, node - saps))
        while at != row:
            beyond = int(after[at])
            ways = [
                (float(known.ways[arc[0]]), arc[0])
                for arc in layers.graph.leading_from(node)
                if (arc[1] == goal if beyond == row else arc[2] == beyond) and way_ok[arc[0]]
            ]
            last = beyond == row
            yield Move(-1, 0.0, 0.0, min(ways)[1], -1 if last else beyond, place if last else -1, line)
            at = node = beyond


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """`after`: the node after each; `ways`: what each way weighs."""

    rows: Numbers
    sums: Figures
    after: Numbers
    ways: Figures


def _union(parts: list[Numbers]) -> Numbers:
    return np.unique(np.concatenate(parts)) if len(parts) > 1 else parts[0]


@dataclass(frozen=True, slots=True)
class Counted:
    """What counts: per line and per function of the mesh."""

    lines: tuple[Weighting, ...]
    functions: tuple[Weighting, ...]


class Ahead:
    """By the number of a state: the least sum from there to the target, infinite where there is no way. `apart`: tables that
    are infinite where functions cannot be together (`mesh_pairs`)."""

    def __init__(self, distances: Distances, counted: Counted, apart: Sequence[Factor] = ()) -> None:
        self.layers, self.distances, self.counted = distances.layers, distances, counted
        layers = self.layers
        distances.measure(counted.lines)
        self.index = layers.candidate_number
        self.to_head = [distances.to_head(k, weighting) for k, weighting in enumerate(counted.lines)]
        self.own = [self._own(f) for f in range(len(self.index))]
        self.lines = [self._factor(k) for k in range(len(self.to_head))]
        self.apart = tuple(apart)
        factors = [*self.lines, *self.apart, *(Factor((f,), own) for f, own in enumerate(self.own))]
        self.messages = eliminated(factors, [len(places) for places in self.index])
        self._pending: list[tuple[list[Factor], list[Factor]] | None] = [None] * len(self.lines)
        self._fields: dict[tuple[int, tuple[tuple[int, int], ...]], Figures] = {}
        self._vectors: dict[tuple[int, ...], Figures] = {}
        self._known: dict[int, float] = {self.layers.target: 0.0}

    def __getitem__(self, state: int) -> float:
        known = self._known.get(state)
        if known is None:
            known = self._known[state] = self._least(state)
        return known

    @property
    def least(self) -> float:
        """Of the whole mesh."""
        alone = [f for f in (*self.lines, *(m.factor for m in self.messages)) if not f.scope]
        return float(sum(float(f.table) for f in alone))

    def margins(self) -> list[Figures]:
        """Per function, of the whole mesh with the function at each of its candidates."""
        own = [Factor((f,), own) for f, own in enumerate(self.own)]
        return margins([*self.lines, *self.apart, *own], [len(places) for places in self.index])

    def best(self) -> tuple[Move, ...]:
        """The moves of a mesh that is the least: to no states, and without figures. None where elimination was in parts, and
        what they agree on is no mesh."""
        at: dict[int, int] = {}
        for f, own in enumerate(self.own):
            known = {*at, f}
            tables = [*self.lines, *self.apart, *(m.factor for m in self.messages if m.of > f)]
            at[f] = int(sum((t.at(at, f) for t in tables if f in t.scope and known.issuperset(t.scope)), own).argmin())
        saps, layers = self.layers.graph.sap_count, self.layers
        moves: list[Move] = []
        if any(line.at(at) == np.inf for line in self.lines):
            return ()
        for k, line in enumerate(layers.mesh.lines):
            tail, head = line.tail, line.head
            node = layers.tails[k] if tail is None else saps + int(layers.candidates[tail][at[tail]])
            place = -1 if head is None else int(layers.candidates[head][at[head]])
            walk = [*self.distances.walk(k, self.counted.lines[k], node, place)]
            if layers.places_on[k] is None:
                walk[-1] = walk[-1]._replace(place=-1)
            moves += walk
        return tuple(moves)

    def _least(self, state: int) -> float:
        line, node, placed = self.layers.states[state]
        field = self._fields.get((line, placed))
        if field is None:
            field = self._fields[line, placed] = self._field(line, {f: self.index[f][place] for f, place in placed})
        return float(field[node])

    def _field(self, line: int, at: dict[int, int]) -> Figures:
        """Per node of a line, with the open functions where they are."""
        head = self.layers.mesh.lines[line].head
        joint, rest = self._on(line)
        if self.layers.places_on[line] is not None:
            first = self._vector(line, at, joint)
        else:
            first = self.to_head[line][0 if head is None else at[head]]
        return first + sum(float(factor.at(at)) for factor in rest)

    def _on(self, line: int) -> tuple[list[Factor], list[Factor]]:
        """On a line: what depends on the function that it places, and what on none but those that are open."""
        known = self._pending[line]
        if known is None:
            layers, new = self.layers, self.layers.places_on[line]
            placed = {f for f, layer in enumerate(layers.layer_of) if layer < line}
            told = {f for f in placed if f in layers.keep[line]} | {new}
            pending = [
                *self.lines[line + 1 :],
                *(m.factor for m in self.messages if m.of not in placed and m.of != new),
            ]
            pending += [f for f in self.apart if not placed.issuperset(f.scope)]
            pending = [_least_over(f, told) for f in pending if {*placed, new}.issuperset(f.scope)]
            joint = [] if new is None else [Factor((new,), self.own[new]), *(f for f in pending if new in f.scope)]
            known = self._pending[line] = joint, [f for f in pending if new is None or new not in f.scope]
        return known

    def _vector(self, line: int, at: dict[int, int], joint: list[Factor]) -> Figures:
        """Per node, the least over the places of the function that the line places."""
        new = self.layers.places_on[line]
        assert new is not None
        on = sorted({v for factor in joint for v in factor.scope} - {new})
        key = (line, *(at[v] for v in on))
        known = self._vectors.get(key)
        if known is None:
            beyond = sum((factor.at(at, new) for factor in joint), np.zeros(len(self.index[new])))
            known = self._vectors[key] = (self.to_head[line] + beyond[:, None]).min(axis=0)
        return known

    def _own(self, function: int) -> Figures:
        layers, layer = self.layers, self.layers.layer_of[function]
        price, time = self.counted.functions[function]
        own: Figures = price * layers.function_cost[layer] + time * layers.function_delay[layer]
        return own[layers.candidates[function]]

    def _factor(self, k: int) -> Factor:
        """What line k takes between the places of its two functions, or from or to an end."""
        line, saps = self.layers.mesh.lines[k], self.layers.graph.sap_count
        starts = np.array([self.layers.tails[k]]) if line.tail is None else saps + self.layers.candidates[line.tail]
        table = self.to_head[k][:, starts]
        scope = [f for f in (line.head, line.tail) if f is not None]
        shaped = table.reshape([len(self.index[f]) for f in scope])
        return Factor(tuple(sorted(scope)), shaped if scope == sorted(scope) else shaped.T, k)


def _least_over(factor: Factor, told: set[int | None]) -> Factor:
    """At its least over what is not told."""
    axes = tuple(n for n, v in enumerate(factor.scope) if v not in told)
    return Factor(tuple(v for v in factor.scope if v in told), factor.table.min(axis=axes)) if axes else factor


def weighed(price: float, tolls: Tolls) -> Counted:
    """Price, and what a microsecond counts."""
    return Counted(tuple((price, w) for w in tolls.lines), tuple((price, w) for w in tolls.functions))
