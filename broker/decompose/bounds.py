"""What the way from each state to the goal takes at least: the bounds that guide the search.

Rules kept here
- Between two functions only inward SAPs are passed, so each layer is one shortest-path search backwards over them (in C)
  that begins at all of them at once, with what the next layer adds; places are read off before and after it.
- Several *weightings* (price, delay, price and so much per microsecond) are searched in one call, side by side.
- A bound counts what a question admits step by step. What steps draw on together, labels that must continue, and SAPs
  entered twice are not counted: it is never above the truth, and where nothing is shared it is the truth.
- Sums are exact up to 2**53 (1e-9 currency units); above, they are right to one part in 10**15.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from broker.decompose.arcs import Arcs
from broker.decompose.layered import ChainLayers, Layers
from broker.decompose.piece import Figures

Weighting = tuple[float, float]
"""What counts: so much per 1e-9 currency unit, so much per microsecond."""


def backward(layers: ChainLayers, weightings: Sequence[Weighting]) -> list[list[float]]:
    """Per weighting, by state, the least sum on the way to the goal; infinite where there is no way."""
    graph, arcs, saps = layers.graph, layers.graph.arcs, layers.graph.sap_count
    price, time = np.array(weightings).T[:, :, None]
    ways = price * layers.way_cost + time * graph.delay
    grounds = {need: Ground(layers, ways, need) for need in set(layers.need)}
    ahead = np.full((len(weightings), layers.nodes), np.inf)
    placed = ahead[:, saps:]
    entering, leaving = into_end(layers, layers.goal, ways, grounds[layers.need[-1]].ok)
    out = np.zeros((len(weightings), layers.target + 1))
    for layer in range(layers.length, -1, -1):
        ground = grounds[layers.need[layer]]
        here = out[:, layer * layers.nodes : (layer + 1) * layers.nodes]
        if layer < layers.length:
            beyond = out[:, (layer + 1) * layers.nodes + saps : (layer + 2) * layers.nodes]
            placed[:] = _weighed(layers, layer, price, time) + beyond
            entering = arcs.arriving.least(ground.arriving + ahead[:, arcs.arriving.ends], saps)
            leaving = placed
        here[:, :saps] = ground.spread(entering)
        ahead[:, :saps] = np.where(ground.entry_ok, here[:, :saps], np.inf)
        away = arcs.leaving.least(ground.leaving + ahead[:, arcs.leaving.ends], layers.nodes)
        here[:, saps:] = np.minimum(away[:, saps:], leaving)
    states: list[list[float]] = out.tolist()
    return states


def _weighed(layers: Layers, layer: int, price: Figures, time: Figures) -> Figures:
    """Of a layer's function, at each place."""
    admitted = layers.function_ok[layer]
    out: Figures = price * layers.function_cost[layer] + time * layers.function_delay[layer]
    out[:, ~admitted] = np.inf
    return out


def into_end(layers: Layers, goal: int, ways: Figures, ok: Figures) -> tuple[Figures, Figures]:
    """Of the last step to an end's SAP, from each SAP and from each place."""
    arcs, saps = layers.graph.arcs, layers.graph.sap_count
    last = np.full((len(ways), layers.nodes), np.inf)
    here = slice(int(arcs.first[goal]), int(arcs.first[goal + 1]))  # ways lead in both directions alike
    for way, source in zip(arcs.way[here].tolist(), arcs.target[here].tolist(), strict=True):
        last[:, source] = np.minimum(last[:, source], ways[:, way] + ok[way])
    return last[:, :saps], last[:, saps:]


class Ground:
    """The weights of admitted arcs where `need` LANs run along; a row per weighting."""

    def __init__(self, layers: Layers, ways: Figures, need: int) -> None:
        arcs = layers.graph.arcs
        self.ok = np.where(layers.way_ok[need], 0.0, np.inf)
        self.entry_ok = layers.entry_ok[need]
        weights = ways + self.ok
        self.arriving = arcs.arriving.joined(weights)
        self.leaving = arcs.leaving.joined(weights)
        passing = arcs.passing.joined(weights)
        passing[:, ~self.entry_ok[arcs.passing.ends]] = np.inf
        self.arcs, self.passing = arcs, passing

    @cached_property
    def _back(self) -> csr_array:
        return _side_by_side(self.arcs, self.passing[:, self.arcs.back])

    def spread(self, entering: Figures) -> Figures:
        """Per SAP the least of what it enters with itself and of what those have that it leads to."""
        count, saps, back = len(entering), self.arcs.saps, self._back
        back.data.reshape(count, -1)[:, len(self.arcs.back) :] = entering
        rows = np.arange(count)
        begin = rows * (saps + 1) + saps
        out: Figures = dijkstra(back, indices=begin).reshape(count, count, saps + 1)[rows, rows, :saps]
        return out


def _side_by_side(arcs: Arcs, passing: Figures) -> csr_array:
    """One graph with a part of its own for each row of weights: SAPs, and the vertex from which a search begins."""
    count, size = len(passing), arcs.saps + 1
    data = np.concatenate((passing, np.full((count, arcs.saps), np.inf)), axis=1)
    steps = np.arange(count, dtype=np.int32)[:, None]
    columns = (arcs.back_columns + steps * np.int32(size)).ravel()
    rows = np.append((arcs.back_rows[:-1] + steps * np.int32(data.shape[1])).ravel(), np.int32(data.size))
    return csr_array((data.ravel(), columns, rows), shape=(count * size, count * size))
