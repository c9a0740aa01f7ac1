"""Which shares our note has, and on which of them each part of it draws.

Rules kept here
- What a supplier's share says is relayed as it is. Of two suppliers' shares with one token both are: each is another seller of
  the pool.
- A way draws on what its parts draw on, and on the SAPs of the interconnects that it crosses. What its two ends draw on is
  theirs.
- A way that itself draws on one pool through several sellers is announced where there is enough for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from broker.decompose.graph import Graph
from broker.decompose.passages import Passage
from capability_registry.note import Share
from capability_registry.note import Shares as Indices


class Shares:
    """Of one graph's suppliers. `told`: as our note has them, in the order in which they were come to."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._numbers: dict[tuple[int, int], int] = {}
        self._found: list[Share] = []

    @property
    def told(self) -> tuple[Share, ...]:
        return tuple(self._found)

    def of(self, supplier: int, own: Indices) -> Indices:
        """Of a SAP or place of a supplier, by its own numbers."""
        return tuple(self._number(supplier, n) for n in own)

    def along(self, passages: Iterable[Passage]) -> Indices:
        """Of a way through them."""
        return tuple(sorted(self._number(*seller) for seller in drawn(self._graph, passages)))

    def _number(self, supplier: int, own: int) -> int:
        known = self._numbers.get((supplier, own))
        if known is None:
            known = self._numbers[supplier, own] = len(self._found)
            self._found.append(self._graph.suppliers[supplier].note.shares[own])
        return known


def drawn(graph: Graph, passages: Iterable[Passage]) -> list[tuple[int, int]]:
    """What a way draws on, as often as it passes there: supplier, and its share."""
    out: list[tuple[int, int]] = []
    for passage in passages:
        supplier = graph.supplier(passage.way.source)
        out += ((supplier, n) for n in passage.way.point.shares)
        if passage.crossing is not None:
            for sap in (passage.crossing.source, passage.crossing.target):
                out += ((int(graph.sap_supplier[sap]), n) for n in graph.sap_offer(sap).shares)
    return out


def enough(graph: Graph, passages: Iterable[Passage], bandwidth_bps: int) -> bool:
    """Whether so much fits through all of a way, where it comes by one pool through several sellers."""
    sellers: dict[str, list[Share]] = {}
    times = Counter[str]()
    for (supplier, n), often in Counter(drawn(graph, passages)).items():
        share = graph.suppliers[supplier].note.shares[n]
        sellers.setdefault(share.token, []).append(share)
        times[share.token] += often
    return all(
        times[token] * bandwidth_bps <= min(s.bandwidth_bps for s in shares)
        for token, shares in sellers.items()
        if len(shares) > 1
    )
