"""What a mesh still takes at least, from a state on.

Rules kept here
- Between two nodes a line takes the shortest way: one search backwards from each place where its head could be, and from
  each end, all in one call. Over the places, least sums by elimination (`elimination`).
- With nothing shared a bound is the truth. Work is done for the states that are come to.
- `Weighting` says what counts, line by line and function by function: so a path's delay has a bound of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from broker.decompose.bounds import Ground, Weighting, into_end
from broker.decompose.elimination import Factor, eliminated
from broker.decompose.meshed import MeshLayers, Tolls
from broker.decompose.piece import Figures, Numbers

NOTHING: Weighting = (0.0, 0.0)


class Distances:
    """Least sums from every node to each place where a function may be and to each end, per weighting and LANs beside."""

    def __init__(self, layers: MeshLayers, tolls: Tolls | None = None) -> None:
        """`tolls`: of flows, besides."""
        self.layers, self.tolls = layers, tolls
        self.candidates = [np.flatnonzero(layers.function_ok[layer]) for layer in layers.layer_of]
        """Per function the places where it may be."""
        self.places: Numbers = np.unique(np.concatenate([np.zeros(0, np.int64), *self.candidates]))
        self.saps = sorted({sap for sap in layers.heads if sap >= 0})
        self._known: dict[tuple[int, Weighting], Figures] = {}

    def to_head(self, line: int, weighting: Weighting) -> Figures:
        """From every node (columns) to each place of the line's head, or to the end (rows)."""
        layers = self.layers
        head, need = layers.mesh.lines[line].head, layers.need[line]
        if weighting == NOTHING:
            return np.broadcast_to(0.0, (1 if head is None else len(self.candidates[head]), layers.nodes))
        known = self._known.get((need, weighting))
        if known is None:
            known = self._known[need, weighting] = self._measured(need, weighting)
        if head is None:
            row = len(self.places) + self.saps.index(layers.heads[line])
            return known[row : row + 1]
        out: Figures = known[np.searchsorted(self.places, self.candidates[head])]
        return out

    def _measured(self, need: int, weighting: Weighting) -> Figures:
        layers, graph, arcs = self.layers, self.layers.graph, self.layers.graph.arcs
        saps, count, targets = graph.sap_count, len(self.places), len(self.places) + len(self.saps)
        ways = (weighting[0] * layers.way_cost + weighting[1] * graph.delay)[None]
        tolled = np.zeros(layers.nodes)
        if self.tolls is not None:
            ways, tolled[:saps] = ways + self.tolls.ways, self.tolls.entries
        ground = Ground(layers, ways, need)
        row_of = np.full(layers.nodes, -1)
        row_of[saps + self.places] = np.arange(count)
        last = [into_end(layers, sap, ways, ground.ok) for sap in self.saps]
        into = row_of[arcs.arriving.ends] >= 0
        rows = [arcs.passing.ends, saps + row_of[arcs.arriving.ends[into]]]
        columns = [arcs.passing.tails, arcs.arriving.tails[into]]
        values = [ground.passing[0] + tolled[arcs.passing.ends], ground.arriving[0, into]]
        for n, (entering, _) in enumerate(last):
            sources = np.flatnonzero(entering[0] != np.inf)
            rows.append(np.full(len(sources), saps + count + n))
            columns.append(sources)
            values.append(entering[0, sources])
        entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        back = coo_array(entries, shape=(saps + targets, saps + targets)).tocsr()
        out = np.full((targets, layers.nodes), np.inf)
        out[:, :saps] = dijkstra(back, indices=np.arange(saps, saps + targets))[:, :saps]
        ahead = np.full((targets, layers.nodes), np.inf)
        ahead[:, :saps] = np.where(ground.entry_ok, out[:, :saps], np.inf)
        ahead[np.arange(count), saps + self.places] = 0.0
        away = arcs.leaving.least(ground.leaving + (ahead + tolled)[:, arcs.leaving.ends], layers.nodes)
        out[:, saps:] = away[:, saps:]
        for n, (_, direct) in enumerate(last):
            out[count + n, saps:] = np.minimum(out[count + n, saps:], direct[0])
        out[np.arange(count), saps + self.places] = 0.0
        return out


@dataclass(frozen=True, slots=True)
class Counted:
    """What counts: per line and per function of the mesh."""

    lines: tuple[Weighting, ...]
    functions: tuple[Weighting, ...]


class Ahead:
    """By the number of a state: the least sum from there to the target, infinite where there is no way."""

    def __init__(self, distances: Distances, counted: Counted) -> None:
        self.layers, self.distances, self.counted = distances.layers, distances, counted
        layers = self.layers
        self.index = [{place: n for n, place in enumerate(places.tolist())} for places in distances.candidates]
        self.to_head = [distances.to_head(k, weighting) for k, weighting in enumerate(counted.lines)]
        self.own = [self._own(f) for f in range(len(self.index))]
        lines = [self._factor(k) for k in range(len(self.to_head))]
        factors = [*lines, *(Factor((f,), own) for f, own in enumerate(self.own))]
        messages = eliminated(factors, [len(places) for places in self.index])
        self.joint: list[list[Factor]] = []
        self.rest: list[list[Factor]] = []
        for k, new in enumerate(layers.places_on):
            known = sum(layer < k for layer in layers.layer_of)
            pending = [*lines[k + 1 :], *(m.factor for m in messages if m.of >= known and m.of != new)]
            self.rest.append([f for f in pending if all(v < known for v in f.scope)])
            own = [] if new is None else [Factor((new,), self.own[new])]
            self.joint.append(own + [f for f in pending if f.scope and f.scope[-1] == new])
        self._vectors: dict[tuple[int, ...], Figures] = {}
        self._known: dict[int, float] = {self.layers.target: 0.0}

    def __getitem__(self, state: int) -> float:
        known = self._known.get(state)
        if known is None:
            known = self._known[state] = self._least(state)
        return known

    def _least(self, state: int) -> float:
        line, node, placed = self.layers.states[state]
        at = {f: self.index[f][place] for f, place in placed}
        head = self.layers.mesh.lines[line].head
        if self.layers.places_on[line] is not None:
            first = self._vector(line, at)[node]
        else:
            first = self.to_head[line][0 if head is None else at[head], node]
        return float(first + sum(float(factor.at(at)) for factor in self.rest[line]))

    def _vector(self, line: int, at: dict[int, int]) -> Figures:
        """Per node, the least over the places of the function that the line places."""
        new = self.layers.places_on[line]
        assert new is not None
        on = sorted({v for factor in self.joint[line] for v in factor.scope} - {new})
        key = (line, *(at[v] for v in on))
        known = self._vectors.get(key)
        if known is None:
            beyond = sum((factor.at(at, new) for factor in self.joint[line]), np.zeros(len(self.index[new])))
            known = self._vectors[key] = (self.to_head[line] + beyond[:, None]).min(axis=0)
        return known

    def _own(self, function: int) -> Figures:
        layers, layer = self.layers, self.layers.layer_of[function]
        price, time = self.counted.functions[function]
        own: Figures = price * layers.function_cost[layer] + time * layers.function_delay[layer]
        return own[self.distances.candidates[function]]

    def _factor(self, k: int) -> Factor:
        """What line k takes between the places of its two functions, or from or to an end."""
        line, saps = self.layers.mesh.lines[k], self.layers.graph.sap_count
        starts = np.array([self.layers.tails[k]]) if line.tail is None else saps + self.distances.candidates[line.tail]
        table = self.to_head[k][:, starts]
        scope = [f for f in (line.head, line.tail) if f is not None]
        shaped = table.reshape([len(self.index[f]) for f in scope])
        return Factor(tuple(sorted(scope)), shaped if scope == sorted(scope) else shaped.T, k)


def weighed(price: float, tolls: Tolls) -> Counted:
    """Price, and what a microsecond counts."""
    return Counted(tuple((price, w) for w in tolls.lines), tuple((price, w) for w in tolls.functions))
