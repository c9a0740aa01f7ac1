"""What the way from each state to the goal takes at least: the bounds that guide the search.

Rules kept here
- All layers are one graph, and what counts (a *weighting*: price, delay, price and so much per microsecond) is one
  shortest-path search backwards over it from the goal (in C).
- A bound counts what a question admits step by step. What steps draw on together, labels that must continue, and SAPs
  entered twice are not counted: it is never above the truth, and where nothing is shared it is the truth.
- Sums are exact up to 2**53 (1e-9 currency units); above, they are right to one part in 10**15.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from broker.decompose.backwards import least
from broker.decompose.layered import ChainLayers, Layers
from broker.decompose.piece import Figures, Flags, Numbers

Weighting = tuple[float, float]
"""What counts: so much per 1e-9 currency unit, so much per microsecond."""

States = memoryview
"""By state, the least sum on the way to the goal; infinite where there is no way. A view gives single figures as Python's
own, and faster than an array does."""


class Bounds:
    """Of the questions that one set of layers asks."""

    def __init__(self, layers: ChainLayers) -> None:
        self.layers = layers
        self.arcs = layers.graph.arcs
        self.back = self.arcs.backwards
        self.storeys = layers.length + 1
        self.ways, self.into = _into(layers)

    def exact(self, weighting: Weighting) -> States:
        layers, back, saps = self.layers, self.back, self.arcs.saps
        ways = _weighed(layers, weighting)
        ground = {need: self._ground(ways, need) for need in set(layers.need)}
        functions = np.full((self.storeys, len(layers.place_ok)), np.inf)
        for layer in range(layers.length):
            functions[layer] = _functions(layers, layer, weighting)
        every = self._stacked.data
        storeys = every[: self.storeys * len(back.heads)].reshape(self.storeys, -1)
        for layer, need in enumerate(layers.need):
            storeys[layer] = ground[need]
        storeys[:, back.to_place :] += functions[:, back.placed]
        storeys[0, back.from_place] = np.inf
        nowhere = np.where(functions[:-1] == np.inf, np.inf, 0.0)
        storeys[1:, back.from_place] += nowhere[:, back.left]
        every[storeys.size :] = self._into_goal(ways)
        found = least(self._stacked)
        vertices = found[:-1].reshape(self.storeys, -1)
        out = np.full(len(found), np.inf)
        states = out[:-1].reshape(self.storeys, -1)
        states[:, :saps], states[1:, saps:], out[-1] = vertices[:, :saps], vertices[:-1, saps:], 0.0
        return memoryview(out.data)

    @cached_property
    def _stacked(self) -> csr_array:
        return self.back.storeys(self.storeys, self.into)

    def _ground(self, ways: Figures, need: int) -> Figures:
        """The weights of the arcs of one storey where `need` LANs run along, in their order backwards."""
        layers, back, arcs = self.layers, self.back, self.arcs
        weights = np.where(layers.way_ok[need], ways, np.inf)
        joined = [fan.joined(weights[None])[0] for fan in (arcs.passing, arcs.arriving, arcs.leaving)]
        out: Figures = np.concatenate((*joined, np.zeros(layers.nodes - arcs.saps)))[back.order]
        out[: back.to_place][~layers.entry_ok[need][back.heads[: back.to_place]]] = np.inf
        return out

    def _into_goal(self, ways: Figures) -> Figures:
        admitted = self.layers.way_ok[self.layers.need[-1]][self.ways]
        out: Figures = np.where(admitted, ways[self.ways], np.inf)
        return out


def _into(layers: ChainLayers) -> tuple[Numbers, Numbers]:
    """The ways of the last step to the goal, and the nodes from which they lead. (Ways lead in both directions alike.)"""
    arcs, goal = layers.graph.arcs, layers.goal
    here = slice(int(arcs.first[goal]), int(arcs.first[goal + 1]))
    ways, nodes = arcs.way[here], arcs.target[here]
    if layers.length:
        return ways, nodes
    kept = nodes < arcs.saps  # nothing was placed
    return ways[kept], nodes[kept]


def _weighed(layers: Layers, weighting: Weighting) -> Figures:
    price, time = weighting
    if not time:
        return layers.way_cost if price == 1.0 else price * layers.way_cost
    return price * layers.way_cost + time * layers.graph.delay


def _functions(layers: Layers, layer: int, weighting: Weighting) -> Figures:
    """Of a layer's function, at each place."""
    price, time = weighting
    out: Figures = price * layers.function_cost[layer] + time * layers.function_delay[layer]
    out[~layers.function_ok[layer]] = np.inf
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
        self.entry_ok: Flags = layers.entry_ok[need]
        weights = ways + self.ok
        self.arriving = arcs.arriving.joined(weights)
        self.leaving = arcs.leaving.joined(weights)
        passing = arcs.passing.joined(weights)
        passing[:, ~self.entry_ok[arcs.passing.ends]] = np.inf
        self.passing = passing
