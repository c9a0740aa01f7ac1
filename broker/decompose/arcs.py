"""The directed ways of a graph as the search walks them, in arrays.

A *node* is an inward SAP s (number s) or a place p (number saps + p). An arc leads to a place, to an outward SAP, or on
over the interconnect of that SAP to the inward SAP at its other side.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from broker.decompose.backwards import Backwards
from broker.decompose.piece import Figures, Flags, Numbers


class Arcs:
    """`way`, `source`, `target`: per arc; a target below `saps` is that SAP outward. Arcs are in the order of their source,
    those of node n are `first[n]:first[n + 1]`. `passing` lead from SAP to SAP, `arriving` from a SAP to a place, `leaving`
    from a place.
    """

    def __init__(self, saps: int, places: int, a: Numbers, b: Numbers, peer: Numbers) -> None:
        self.saps, self.nodes = saps, saps + places
        source, target = np.concatenate((a, b)), np.concatenate((b, a))
        order = np.argsort(source, kind="stable")
        self.source, self.target = source[order], target[order]
        self.way = np.concatenate((np.arange(len(a)), np.arange(len(b))))[order]
        self.first = np.searchsorted(self.source, np.arange(self.nodes + 1))
        to_place = self.target >= saps
        self.onto = np.where(to_place, -1, peer[np.minimum(self.target, saps - 1)]) if saps else self.target
        """Per arc the SAP that it leads to over an interconnect, -1 where it leads to none."""
        from_place = self.source >= saps
        self.arriving = Fan(self, np.flatnonzero(to_place & ~from_place))
        self.leaving = Fan(self, np.flatnonzero(from_place & (to_place | (self.onto >= 0))))
        self.passing = Fan(self, np.flatnonzero(~from_place & ~to_place & (self.onto >= 0)))

    @cached_property
    def backwards(self) -> Backwards:
        fans = (self.passing, self.arriving, self.leaving)
        tails, heads = (np.concatenate(parts) for parts in zip(*((fan.tails, fan.ends) for fan in fans), strict=True))
        return Backwards(self.saps, self.nodes, tails, heads)


class Fan:
    """Some arcs, joined where they lead from the same node to the same: a place, or the SAP behind the interconnect.

    A joined arc leads from `tails` to `ends` and stands for the ways from `joins` on; `sources[i]` has those from
    `begins[i]` on.
    """

    def __init__(self, arcs: Arcs, chosen: Numbers) -> None:
        ends = np.where(arcs.target[chosen] >= arcs.saps, arcs.target[chosen], arcs.onto[chosen])
        order = np.lexsort((ends, arcs.source[chosen]))
        chosen, ends = chosen[order], ends[order]
        tails = arcs.source[chosen]
        self.way = arcs.way[chosen]
        self.joins = np.flatnonzero(_begins(tails, ends))
        self.ends = ends[self.joins]
        self.tails = tails[self.joins]
        self.sources, self.begins = np.unique(self.tails, return_index=True)

    def joined(self, weights: Figures) -> Figures:
        """Of the ways' weights (rows of them), the least between each two nodes."""
        values = weights[:, self.way]
        return np.minimum.reduceat(values, self.joins, axis=1) if len(self.joins) else values

    def least(self, values: Figures, nodes: int) -> Figures:
        """Per node the least of the values of its joined arcs (rows of them); infinite where it has none."""
        out = np.full((len(values), nodes), np.inf)
        if len(self.sources):
            out[:, self.sources] = np.minimum.reduceat(values, self.begins, axis=1)
        return out


def _begins(x: Numbers, y: Numbers) -> Flags:
    """Where another pair begins in two arrays that are in order."""
    begins: Flags = np.ones(len(x), dtype=np.bool_)
    begins[1:] = (x[1:] != x[:-1]) | (y[1:] != y[:-1])
    return begins
