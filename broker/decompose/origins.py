"""Which origin tokens our note has, and on which of them each part of it rests.

Rules kept here
- Ours comes first, then those of our suppliers' notes in the order of the suppliers: the order stays while the suppliers do,
  though the tokens are new in each edition.
- Everything in our note rests on us; a way also on what each of its parts rests on at its supplier.
- Where a part rests on all tokens, none is named.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from broker.decompose.graph import Graph, Way
from broker.decompose.reach import Reached


class Origins:
    def __init__(self, graph: Graph, own: str) -> None:
        self._graph = graph
        self._first: list[int] = []
        tokens = [own]
        for view in graph.suppliers:
            self._first.append(len(tokens))
            tokens += view.note.origin_tokens
        self.tokens = tuple(tokens)
        self._ways: dict[int, frozenset[int]] = {}
        self._entries: dict[tuple[int, str, str], frozenset[int]] = {}
        for i, view in enumerate(graph.suppliers):
            for entry in chain(view.note.matrix, view.note.guarded):
                for key in ((i, entry.a, entry.b), (i, entry.b, entry.a)):
                    self._entries[key] = self._entries.get(key, frozenset()) | self._at(i, entry.origins)

    def of(self, supplier: int, origins: tuple[int, ...]) -> tuple[int, ...]:
        """Of a SAP or function of a supplier, as it says itself."""
        return self._named(self._at(supplier, origins))

    def along(self, ways: Iterable[Reached]) -> tuple[int, ...]:
        """Of an entry that promises these ways."""
        return self._named(frozenset().union(*map(self._of_way, {step for way in ways for step in way.ways})))

    def _of_way(self, way: Way) -> frozenset[int]:
        known = self._ways.get(way.number)
        if known is None:
            entry = self._graph.supplier(way.source), self._name(way.source), self._name(way.target)
            known = self._ways[way.number] = self._entries[entry]
        return known

    def _name(self, vertex: int) -> str:
        place = self._graph.place(vertex)
        return place.place if place is not None else self._graph.sap(vertex).offer.id

    def _at(self, supplier: int, origins: tuple[int, ...]) -> frozenset[int]:
        count = len(self._graph.suppliers[supplier].note.origin_tokens)
        return frozenset(self._first[supplier] + i for i in origins or range(count))

    def _named(self, others: frozenset[int]) -> tuple[int, ...]:
        found = {0, *others}
        return () if len(found) == len(self.tokens) else tuple(sorted(found))
