"""Pools of resources that a graph has of several sellers: who draws on them, and how much they bear together.

Rules kept here
- A seller is a share of a note: of two shares with one token each is another's.
- Only what several sell is looked up. Where nothing is, nothing here costs anything.
- What a service draws through several sellers is together within what each of these says. What others say of the pool, whom it
  does not buy of, is no matter: else anybody could say that there is nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from capability_registry.note import Share

if TYPE_CHECKING:
    from broker.decompose.graph import Graph

Draw = tuple[int, int, int]
"""The number of a pool, that of the seller, and how often."""


class Sellers:
    """Of one graph. `tokens`: of the pools."""

    def __init__(self, graph: Graph, tokens: Collection[str]) -> None:
        self._graph = graph
        self._pools = {token: n for n, token in enumerate(sorted(tokens))}
        self._shares: list[Share] = []
        """By seller."""
        self._sold: list[dict[int, tuple[int, int]]] = []
        """By supplier, of its shares by number those that count: the pool, and the seller."""
        for piece in graph.pieces:
            sold: dict[int, tuple[int, int]] = {}
            for n, share in enumerate(piece.note.shares) if not piece.tokens.isdisjoint(self._pools) else ():
                if (pool := self._pools.get(share.token)) is not None:
                    sold[n] = pool, len(self._shares)
                    self._shares.append(share)
            self._sold.append(sold)

    def enough(self, sellers: Iterable[int], bandwidth_bps: float, units: float) -> bool:
        """Whether so much may be drawn on a pool through these of its sellers together."""
        shares = [self._shares[n] for n in sellers]
        return all(bandwidth_bps <= s.bandwidth_bps and units <= s.units for s in shares)

    def of_sap(self, sap: int) -> Iterator[Draw]:
        """What whatever passes a SAP draws on."""
        return self._named(int(self._graph.sap_supplier[sap]), self._graph.sap_offer(sap).shares)

    def of_place(self, place: int) -> Iterator[Draw]:
        """What a function at a place draws on."""
        return self._named(int(self._graph.place_supplier[place]), self._graph.here(place).capacity.shares)

    def of_way(self, way: int) -> Iterator[Draw]:
        """What a flow over a way draws on, and at the places where it ends; what it draws on at SAPs is theirs."""
        graph, supplier = self._graph, self._graph.way_supplier(way)
        if not self._sold[supplier]:
            return
        between, piece = graph.between(way), graph.pieces[supplier]
        yield from self._named(supplier, between.point.shares)
        for end in (between.a, between.b):
            if end >= len(piece.saps):
                yield from self._named(supplier, piece.places[end - len(piece.saps)].capacity.shares)

    def _named(self, supplier: int, shares: Iterable[int]) -> Iterator[Draw]:
        sold = self._sold[supplier]
        return ((*sold[n], 1) for n in shares if n in sold)
