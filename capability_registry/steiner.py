"""The cheapest tree that joins some points of a network: how a planner lays a LAN, and the supplier that delivers it.

Rules kept here
- A terminal may be met at one of several vertices. Arcs go both ways, each with a weight above 0.
- Up to EXACT terminals the tree is the cheapest there is: for each set of terminals and each vertex the cheapest tree that
  joins the set and the vertex (Dreyfus, Wagner, The Steiner problem in graphs, 1971; a terminal of several vertices is a
  group as in Reich, Widmayer, Beyond Steiner's problem, 1989).
- Beyond, the tree grows by the nearest terminal each time, from wherever that ends cheapest (Takahashi, Matsuyama, An
  approximate solution for the Steiner problem in graphs, 1980): where each terminal has one vertex, less than twice the
  cheapest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

EXACT = 7

_Figures = NDArray[np.float64]
_Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """`arcs`: numbers of arcs. `met`: of each terminal, the vertex where the tree meets it."""

    arcs: tuple[int, ...]
    met: tuple[int, ...]
    weight: float


def cheapest_tree(
    size: int,
    tails: Sequence[int] | _Numbers,
    heads: Sequence[int] | _Numbers,
    weights: Sequence[float] | _Figures,
    terminals: Sequence[Iterable[int]],
) -> Tree | None:
    """Over vertices 0 to `size` - 1; None where nothing joins the terminals (≥ 1)."""
    network = _Network(size, np.asarray(tails, np.int64), np.asarray(heads, np.int64), np.asarray(weights, np.float64))
    groups = [tuple(sorted(set(group))) for group in terminals]
    return _exact(network, groups) if len(groups) <= EXACT else _grown(network, groups)


class _Network:
    """Of parallel arcs the lightest. Vertex `size` is a source that leads to every other by `reset`."""

    def __init__(self, size: int, tails: _Numbers, heads: _Numbers, weights: _Figures) -> None:
        self.size = size
        source, target = np.concatenate((tails, heads)), np.concatenate((heads, tails))
        number, weight = np.tile(np.arange(len(tails)), 2), np.tile(weights, 2)
        order = np.lexsort((weight, target, source))
        key = source[order] * size + target[order]
        first = np.ones(len(key), dtype=np.bool_)
        first[1:] = key[1:] != key[:-1]
        chosen = order[first]
        self.keys, self.numbers = key[first], number[chosen]
        self.weights = weights
        self.indices = np.concatenate((target[chosen], np.arange(size))).astype(np.int32)
        begins = np.searchsorted(source[chosen], np.arange(size + 1))
        self.indptr = np.concatenate((begins, [begins[-1] + size])).astype(np.int32)
        self.data = np.concatenate((weight[chosen], np.zeros(size)))

    def reach(self, begun: _Figures) -> tuple[_Figures, _Numbers]:
        """How far each vertex is where those begin at `begun`, and which is before it; `size` where it begins itself."""
        self.data[len(self.data) - self.size :] = begun + 1.0  # an arc of weight 0 would be none
        shape = (self.size + 1, self.size + 1)
        matrix: Any = csr_matrix((self.data, self.indices, self.indptr), shape=shape)
        distance, before = dijkstra(matrix, indices=self.size, return_predecessors=True)
        return distance[:-1] - 1.0, before[:-1].astype(np.int64)

    def begun(self, vertices: Iterable[int]) -> _Figures:
        out: _Figures = np.full(self.size, np.inf)
        out[list(vertices)] = 0.0
        return out

    def arc(self, source: int, target: int) -> int:
        return int(self.numbers[np.searchsorted(self.keys, source * self.size + target)])

    def back(self, before: _Numbers, vertex: int) -> tuple[list[int], int]:
        """The arcs from `vertex` back to where its way begins, and that vertex."""
        arcs = []
        while (earlier := int(before[vertex])) != self.size:
            arcs.append(self.arc(earlier, vertex))
            vertex = earlier
        return arcs, vertex

    def tree(self, arcs: Iterable[int], met: Sequence[int]) -> Tree:
        numbers = tuple(sorted(set(arcs)))
        return Tree(arcs=numbers, met=tuple(met), weight=float(sum(self.weights[n] for n in numbers)))


def _exact(network: _Network, groups: Sequence[tuple[int, ...]]) -> Tree | None:
    whole = (1 << len(groups)) - 1
    far: dict[int, _Figures] = {}
    before: dict[int, _Numbers] = {}
    parted: dict[int, _Numbers] = {}
    for number, group in enumerate(groups):
        far[1 << number], before[1 << number] = network.reach(network.begun(group))
    for mask in sorted(range(1, whole + 1), key=int.bit_count):
        if mask.bit_count() < 2:
            continue
        begun: _Figures = np.full(network.size, np.inf)
        parted[mask] = np.zeros(network.size, np.int64)
        part = (mask - 1) & mask
        while part > mask ^ part:  # each pair of parts once
            sums = far[part] + far[mask ^ part]
            less = sums < begun
            begun[less], parted[mask][less] = sums[less], part
            part = (part - 1) & mask
        far[mask], before[mask] = (
            (begun, np.full(network.size, network.size)) if mask == whole else network.reach(begun)
        )
    root = int(np.argmin(far[whole]))
    if not np.isfinite(far[whole][root]):
        return None
    arcs: list[int] = []
    met = [root] * len(groups)
    open_ = [(whole, root)]
    while open_:
        mask, vertex = open_.pop()
        way, vertex = network.back(before[mask], vertex)
        arcs += way
        if mask.bit_count() == 1:
            met[mask.bit_length() - 1] = vertex
        else:
            part = int(parted[mask][vertex])
            open_ += [(part, vertex), (mask ^ part, vertex)]
    return network.tree(arcs, met)


def _grown(network: _Network, groups: Sequence[tuple[int, ...]]) -> Tree | None:
    found = (_grown_from(network, groups, start) for start in groups[0])
    return min((tree for tree in found if tree is not None), key=lambda tree: tree.weight, default=None)


def _grown_from(network: _Network, groups: Sequence[tuple[int, ...]], start: int) -> Tree | None:
    inside, arcs = {start}, []
    met = [start] * len(groups)
    left = set(range(1, len(groups)))
    while left:
        far, before = network.reach(network.begun(inside))
        distance, nearest, vertex = min((float(far[v]), n, v) for n in left for v in groups[n])
        if not np.isfinite(distance):
            return None
        left.remove(nearest)
        met[nearest] = vertex
        while (earlier := int(before[vertex])) != network.size:
            arcs.append(network.arc(earlier, vertex))
            inside.add(vertex)
            vertex = earlier
    return network.tree(arcs, met)
