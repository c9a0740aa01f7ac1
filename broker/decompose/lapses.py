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
        notes = [view.note for view in graph.suppliers]
        self._begins, self._ends = [note.not_before for note in notes], [note.expires for note in notes]
        self._begun, self._ended = max(self._begins, default=None), min(self._ends, default=None)
        self.outages: list[tuple[int, Outage]] = [
            (i, outage) for i, note in enumerate(notes) if note.outages for outage in note.outages
        ]

    def valid(self, now: datetime) -> Flags:
        """The suppliers whose notes are in their validity."""
        if self._begun is not None and self._ended is not None and self._begun <= now < self._ended:
            return np.ones(len(self._ends), dtype=np.bool_)
        return np.array(
            [begin <= now < end for begin, end in zip(self._begins, self._ends, strict=True)], dtype=np.bool_
        )


_known: WeakKeyDictionary[Graph, Lapses] = WeakKeyDictionary()


def lapses(graph: Graph) -> Lapses:
    known = _known.get(graph)
    if known is None:
        known = _known[graph] = Lapses(graph)
    return known
