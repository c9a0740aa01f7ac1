"""A graph for reading: its SAPs, places and ways as objects, vertex by vertex.

Rules kept here
- The search needs the arrays alone: an object is made when it is looked at, and the lists of all of them when somebody
  goes through them, which takes long where there are many suppliers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from address_planner.labels import LabelSet
from broker.decompose.numbering import Numbering
from capability_registry.note import BorderPoint, FunctionOffer, PlaceCapacity, SapOffer, SharedLimit
from service_model.spec import FunctionType


@dataclass(frozen=True, slots=True, kw_only=True)
class Sap:
    """A SAP: vertex `index` inward, `Graph.outward(index)` outward."""

    index: int
    supplier: int
    offer: SapOffer


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceVertex:
    """A place of one supplier with what is offered there."""

    vertex: int
    supplier: int
    place: str
    capacity: PlaceCapacity
    offers: dict[FunctionType, FunctionOffer]


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One border point in one direction; `number` is the same in both. `limits`: (shared limit, coefficient). `labels`: what
    may be used where it begins and where it ends (None: whatever is free there)."""

    number: int
    source: int
    target: int
    point: BorderPoint
    once: int
    hour: int
    limits: tuple[tuple[int, float], ...]
    labels: tuple[LabelSet | None, LabelSet | None] = (None, None)


class Reading(Numbering):
    @cached_property
    def saps(self) -> list[Sap]:
        return [
            Sap(index=first + number, supplier=i, offer=offer)
            for i, (piece, first) in enumerate(zip(self.pieces, self.sap_first.tolist(), strict=False))
            for number, offer in enumerate(piece.saps)
        ]

    @cached_property
    def places(self) -> list[PlaceVertex]:
        vertices = iter(range(2 * self.sap_count, self.size))
        return [
            PlaceVertex(vertex=next(vertices), supplier=i, place=h.place, capacity=h.capacity, offers=h.offers)
            for i, piece in enumerate(self.pieces)
            for h in piece.places
        ]

    @cached_property
    def shared(self) -> list[tuple[int, SharedLimit]]:
        return [(i, limit) for i, piece in enumerate(self.pieces) for limit in piece.note.shared]

    @cached_property
    def way_bandwidth(self) -> list[int]:
        return [w.point.bandwidth_bps for piece in self.pieces for w in piece.ways]

    @cached_property
    def ways(self) -> list[list[Way]]:
        """Per vertex the ways that lead from it."""
        out: list[list[Way]] = [[] for _ in range(self.size)]
        number = 0
        for i, piece in enumerate(self.pieces):
            leave, arrive = self._vertices(i)
            for w in piece.ways:
                held = tuple((int(self.shared_first[i]) + k, c) for k, c in w.limits)
                for x, y in ((w.a, w.b), (w.b, w.a)):
                    way = Way(number, leave(x), arrive(y), w.point, w.once, w.hour, held, w.from_(x))
                    out[leave(x)].append(way)
                number += 1
        return out

    def _vertices(self, supplier: int) -> tuple[Callable[[int], int], Callable[[int], int]]:
        """How border points of a piece become vertices to leave from, and to arrive at."""
        count = len(self.pieces[supplier].saps)
        sap, place = int(self.sap_first[supplier]), 2 * self.sap_count + int(self.place_first[supplier]) - count
        outward = self.outward(sap)
        return (
            lambda x: x + (sap if x < count else place),
            lambda x: x + (outward if x < count else place),
        )

    def place(self, vertex: int) -> PlaceVertex | None:
        """The place at a vertex, None where the vertex is a SAP's."""
        i = vertex - 2 * self.sap_count
        return self.places[i] if i >= 0 else None

    def sap(self, vertex: int) -> Sap:
        """The SAP of a vertex that is no place's."""
        return self.saps[vertex % self.sap_count]

    def supplier(self, vertex: int) -> int:
        place = self.place(vertex)
        return place.supplier if place else self.sap(vertex).supplier
