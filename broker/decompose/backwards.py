"""The layers of a chain as one graph, walked backwards: what a shortest-path search from the goal needs, in arrays.

Rules kept here
- A vertex is a node in a *storey*: a SAP on line k, or a place where line k places its function; so arcs that arrive at
  places stay in their storey, and those from places come from the storey before. The goal is the vertex behind all.
- Which vertices an arc joins depends on the graph alone, and is the same in every storey: it is known once per graph.
- A function whose successor stays where it is takes an arc from its place to the same place in the next storey.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from broker.decompose.piece import Figures, Numbers

_FAR = np.finfo(np.float64).max
"""Beyond this nothing is looked for: what may not be walked weighs more."""


class Backwards:
    """`heads`, `tails`: nodes of the joined arcs, in the order of their heads. `order` takes what is known of passing,
    arriving, leaving and staying arcs, one after another, to this order."""

    def __init__(self, saps: int, nodes: int, tails: Numbers, heads: Numbers) -> None:
        places = np.arange(saps, nodes)
        tails, heads = np.concatenate((tails, places)), np.concatenate((heads, places))
        self.saps, self.nodes = saps, nodes
        self.order = np.argsort(heads * nodes + tails)
        self.heads, self.tails = heads[self.order], tails[self.order]
        self.first = np.searchsorted(self.heads, np.arange(nodes + 1)).astype(np.int32)
        self.to_place = int(self.first[saps])
        """From this arc on, arcs lead to places."""
        self.placed = self.heads[self.to_place :] - saps
        self.from_place = np.flatnonzero(self.tails >= saps)
        self.left = self.tails[self.from_place] - saps

    def storeys(self, count: int, into: Numbers) -> csr_array:
        """So many, one after another, and the goal, which is come to from the nodes `into` of the last. Without weights: those
        are its data, storey by storey, and then those of the last arcs."""
        arcs, nodes, size = len(self.heads), self.nodes, count * self.nodes + 1
        own = np.where(self.tails < self.saps, self.tails, self.tails - nodes).astype(np.int32)
        number = np.arange(count, dtype=np.int32)[:, None]
        columns = np.empty(count * arcs + len(into), np.int32)
        columns[: count * arcs] = np.maximum(own + number * nodes, 0).ravel()
        columns[count * arcs :] = np.where(into < self.saps, into, into - nodes) + (count - 1) * nodes
        rows = np.empty(size + 1, np.int32)
        rows[: size - 1] = (self.first[:-1] + number * arcs).ravel()
        rows[size - 1 :] = count * arcs, len(columns)
        return csr_array((np.empty(len(columns)), columns, rows), shape=(size, size))


def least(back: csr_array) -> Figures:
    """From every vertex to the last."""
    out: Figures = dijkstra(back, indices=back.shape[0] - 1, limit=_FAR)
    return out
