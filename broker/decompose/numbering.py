"""The pieces of a graph in a row: which numbers their SAPs, places, ways and shared limits have, and back.

Rules kept here
- Numbers of each kind are counted from 0 through the pieces in their order, so that they say whose they are.
- Vertices are numbers: SAP s inward is s, outward is `sap_count + s`, places follow. A node is as in `Arcs`.
- What is found by its number is found in its piece: nothing here grows with what is looked up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.decompose.difference import NEW, Difference
from broker.decompose.piece import Between, Flags, Here, Numbers, Piece, default_flavour
from capability_registry.distance import kilometres
from capability_registry.note import FunctionOffer, Place, SapOffer, SharedLimit
from service_model.flavours import Flavour
from service_model.spec import FunctionType

NO_COUNTS: Numbers = np.zeros((0, 4), dtype=np.int64)


class Numbering:
    """`counts`: of each piece, as in `Piece.counts`. `sap_first` and the like: where each piece's begin, and where the last
    ends."""

    def __init__(self, pieces: tuple[Piece, ...], counts: Numbers) -> None:
        self.pieces, self.counts = pieces, counts
        firsts = np.zeros((4, len(pieces) + 1), dtype=np.int64)
        np.cumsum(counts.T, axis=1, out=firsts[:, 1:])
        self.sap_first, self.place_first, self.way_first, self.shared_first = firsts
        self.sap_count, self.place_count = int(self.sap_first[-1]), int(self.place_first[-1])
        self.size = 2 * self.sap_count + self.place_count
        self.sap_supplier: Numbers = np.repeat(np.arange(len(pieces)), counts[:, 0])
        self.place_supplier: Numbers = np.repeat(np.arange(len(pieces)), counts[:, 1])

    def offering_feature(self, feature: str) -> Flags:
        """The suppliers that offer a feature."""
        return np.array([feature in piece.note.api_features for piece in self.pieces], dtype=np.bool_)

    def outward(self, sap: int) -> int:
        return self.sap_count + sap

    def nodes_of(self, supplier: int, points: Numbers) -> Numbers:
        """The nodes of border points that have these numbers in the supplier's piece."""
        saps = len(self.pieces[supplier].saps)
        place = self.sap_count + self.place_first[supplier] - saps
        out: Numbers = points + np.where(points < saps, self.sap_first[supplier], place)
        return out

    def sap_offer(self, sap: int) -> SapOffer:
        supplier = int(self.sap_supplier[sap])
        return self.pieces[supplier].saps[sap - int(self.sap_first[supplier])]

    def here(self, place: int) -> Here:
        """A place by its number (places are counted from 0)."""
        supplier = int(self.place_supplier[place])
        return self.pieces[supplier].places[place - int(self.place_first[supplier])]

    def between(self, way: int) -> Between:
        supplier = self.way_supplier(way)
        return self.pieces[supplier].ways[way - int(self.way_first[supplier])]

    def way_supplier(self, way: int) -> int:
        return bisect_right(self._way_first, way) - 1

    @cached_property
    def _way_first(self) -> list[int]:
        out: list[int] = self.way_first.tolist()
        return out

    def node_supplier(self, node: int) -> int:
        saps = self.sap_count
        return int(self.sap_supplier[node] if node < saps else self.place_supplier[node - saps])

    def along(self, way: int, node: int) -> tuple[int, int]:
        """The border points of a way in the supplier's own numbers, the one at `node` first."""
        supplier, between = self.way_supplier(way), self.between(way)
        saps = len(self.pieces[supplier].saps)
        first = (
            self.sap_first[supplier] if node < self.sap_count else self.place_first[supplier] - saps + self.sap_count
        )
        return (between.a, between.b) if node - int(first) == between.a else (between.b, between.a)

    def limits(self, way: int) -> tuple[tuple[int, float], ...]:
        """The shared limits on a way, by their numbers in `shared`, with the coefficients."""
        supplier = self.way_supplier(way)
        first = int(self.shared_first[supplier])
        return tuple((first + i, c) for i, c in self.pieces[supplier].ways[way - int(self.way_first[supplier])].limits)

    def limit(self, shared: int) -> SharedLimit:
        supplier = int(np.searchsorted(self.shared_first, shared, side="right")) - 1
        return self.pieces[supplier].note.shared[shared - int(self.shared_first[supplier])]

    def place_known(self, place: int) -> Place | None:
        return self.here(place).known

    def sap_known(self, sap: int) -> Place | None:
        """What is known of the place that a SAP is at."""
        at, piece = self.sap_offer(sap).place, self.pieces[int(self.sap_supplier[sap])]
        return next((p for p in piece.note.places if p.id == at), None)

    def km_between(self, x: int, y: int) -> float:
        """Between two places; infinite where one does not tell where it lies."""
        return kilometres(self.place_known(x), self.place_known(y))

    def chosen(self, place: int, type: FunctionType, flavour: str | None) -> tuple[FunctionOffer, Flavour]:
        """What would be at a place where it is offered."""
        offer = self.here(place).offers[type]
        chosen = default_flavour(offer, flavour)
        assert chosen is not None, "only where it is offered"
        return offer, chosen


class Renumbering:
    """From one numbering to the next, between whose pieces is this difference."""

    def __init__(self, before: Numbering, now: Numbering, changed: Difference) -> None:
        self.before, self.now, self.changed = before, now, changed
        self.none = changed.in_place and np.array_equal(before.counts, now.counts)
        """Whether everything that stays has the numbers that it had, and there is as much of everything."""

    def array(self, known: NDArray[Any], over: str, part: Callable[[int], NDArray[Any]]) -> NDArray[Any]:
        """An array over SAPs, places or ways ("sap", "place", "way") with the parts of new pieces; the same one where it is
        as it was."""
        first = getattr(self.before, f"{over}_first")
        if self.none:
            pieces = self.changed.fresh
            if all(np.array_equal(known[first[i] : first[i + 1]], part(i)) for i in pieces):
                return known
        out = self.changed.array(known, first, part)
        out.setflags(write=False)
        return out

    def nodes_at(self, known: Numbers, over: str, part: Callable[[int], Numbers]) -> Numbers:
        """The same for an array of nodes, which have other numbers now. NEW stays what it is, and is what no node is."""
        return self.array(known if self.none else self.nodes[known], over, part)

    @cached_property
    def nodes(self) -> Numbers:
        """By the number of a node, and NEW, the one that it has now."""
        places = self.places
        return np.concatenate((self.saps, np.where(places == NEW, NEW, places + self.now.sap_count), [NEW]))

    @cached_property
    def saps(self) -> Numbers:
        return self.changed.numbers(self.before.sap_first, self.now.sap_first)

    @cached_property
    def places(self) -> Numbers:
        return self.changed.numbers(self.before.place_first, self.now.place_first)
