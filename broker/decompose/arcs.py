"""The directed ways of a graph as the search walks them, in arrays.

A *node* is an inward SAP s (number s) or a place p (number saps + p). An arc leads to a place, to an outward SAP, or on
over the interconnect of that SAP to the inward SAP at its other side.

Rules kept here
- Arcs depend on where ways begin and end and on which SAPs are joined, and on no other figure.
- Whatever is put in order is sorted as one whole number that ends in its position: equal ones stay in their order, and
  numpy sorts whole numbers several times as fast as it finds their order.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from broker.decompose.backwards import Backwards
from broker.decompose.piece import Figures, Flags, Numbers


class Arcs:
    """`way`, `target`: per arc; a target below `saps` is that SAP outward. Arcs are in the order of where they begin,
    those of node n are `first[n]:first[n + 1]`. `passing` lead from SAP to SAP, `arriving` from a SAP to a place, `leaving`
    from a place.
    """

    def __init__(self, saps: int, places: int, a: Numbers, b: Numbers, peer: Numbers) -> None:
        self.saps, self.nodes = saps, saps + places
        source, order = _order(np.concatenate((a, b)))
        self.target = np.concatenate((b, a))[order]
        self.way = np.concatenate((np.arange(len(a)), np.arange(len(b))))[order]
        self.first = np.searchsorted(source, np.arange(self.nodes + 1))
        to_place = self.target >= saps
        self.onto = np.where(to_place, -1, peer[np.minimum(self.target, saps - 1)]) if saps else self.target
        """Per arc the SAP that it leads to over an interconnect, -1 where it leads to none."""
        from_place = source >= saps
        ends = np.where(to_place, self.target, self.onto)
        leads = ends >= 0
        self.arriving = Fan(self, source, ends, to_place & ~from_place)
        self.leaving = Fan(self, source, ends, from_place & leads)
        self.passing = Fan(self, source, ends, ~from_place & ~to_place & leads)

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

    def __init__(self, arcs: Arcs, source: Numbers, ends: Numbers, chosen: Flags) -> None:
        """`source`, `ends`: per arc of all, where it begins and where it leads to."""
        at, bits = np.flatnonzero(chosen), arcs.nodes.bit_length()
        pairs, order = _order((source[at] << bits) | ends[at])
        self.way = arcs.way[at[order]]
        self.joins = np.flatnonzero(_differ(pairs))
        joined = pairs[self.joins]
        self.tails, self.ends = joined >> bits, joined & ((1 << bits) - 1)
        self.begins = np.flatnonzero(_differ(self.tails))
        self.sources = self.tails[self.begins]

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


def _order(keys: Numbers) -> tuple[Numbers, Numbers]:
    """Keys (not below 0) in ascending order, and the positions that they had; equal ones in the order that they have."""
    bits = len(keys).bit_length()
    if len(keys) and int(keys.max()) >> (62 - bits):  # no room for a position behind the key
        order = np.argsort(keys, kind="stable")
        return keys[order], order
    both = keys << bits
    both |= np.arange(len(keys))
    both.sort()
    return both >> bits, both & ((1 << bits) - 1)


def _differ(values: Numbers) -> Flags:
    """Where another value than the one before begins."""
    differ: Flags = np.ones(len(values), dtype=np.bool_)
    differ[1:] = values[1:] != values[:-1]
    return differ
