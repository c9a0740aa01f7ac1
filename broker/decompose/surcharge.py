"""What crank-back learnt of prices: by how much a function or a way of a supplier is dearer than its note says.

Rules kept here
- A function is dearer at all places of the supplier, a way in both directions, at every point of its entry.
- What is learnt again adds up: each time it is what came on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.decompose.graph import Graph
from broker.decompose.piece import nano
from broker.decompose.plan import Dearer

Extra = tuple[int, int]
"""1e-9 currency units once, and per hour."""


class Surcharges:
    """`ways` by number; `functions` by the layer that places them and the number of the supplier."""

    def __init__(self, learnt: Sequence[Dearer], graph: Graph, layers: Mapping[str, int]) -> None:
        self.ways: dict[int, Extra] = {}
        self.functions: dict[tuple[int, int], Extra] = {}
        for one in learnt:
            more = nano(one.once), nano(one.per_hour)
            supplier = graph.supplier_number.get(one.alias)
            if supplier is not None and one.function in layers:
                key = layers[one.function], supplier
                self.functions[key] = _sum(self.functions.get(key), more)
            elif not one.function:
                for way in _between(graph, one):
                    self.ways[way] = _sum(self.ways.get(way), more)


def _between(graph: Graph, one: Dearer) -> set[int]:
    """The ways of a transit."""
    a, b = (graph.sap_at(one.alias, sap) for sap in one.way)
    if a is None or b is None:
        return set()
    ends = ((a, b), (b, a))
    return {way for source, target in ends for way, at, *_ in graph.leading_from(source) if at == target}


def _sum(known: Extra | None, more: Extra) -> Extra:
    return (known[0] + more[0], known[1] + more[1]) if known is not None else more
