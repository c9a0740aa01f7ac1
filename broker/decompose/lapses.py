"""What of a graph's notes depends on the time that is asked for: known once per graph.

Rules kept here
- While no note begins or ends there is nothing to look at; else each note is.
"""

from __future__ import annotations

from datetime import datetime
from weakref import WeakKeyDictionary

import numpy as np

from broker.decompose.graph import Graph
from broker.decompose.piece import Flags
from capability_registry.note import Outage


class Lapses:
    """`outages`: of all notes, with the number of the supplier."""

    def __init__(self, graph: Graph) -> None:
        self._spans = [(view.note.not_before, view.note.expires) for view in graph.suppliers]
        self._begun = max((begin for begin, _ in self._spans), default=None)
        self._ended = min((end for _, end in self._spans), default=None)
        self.outages: list[tuple[int, Outage]] = [
            (i, outage) for i, view in enumerate(graph.suppliers) for outage in view.note.outages
        ]

    def valid(self, now: datetime) -> Flags:
        """The suppliers whose notes are in their validity."""
        if self._begun is not None and self._ended is not None and self._begun <= now < self._ended:
            return np.ones(len(self._spans), dtype=np.bool_)
        return np.array([begin <= now < end for begin, end in self._spans], dtype=np.bool_)


_known: WeakKeyDictionary[Graph, Lapses] = WeakKeyDictionary()


def lapses(graph: Graph) -> Lapses:
    known = _known.get(graph)
    if known is None:
        known = _known[graph] = Lapses(graph)
    return known
