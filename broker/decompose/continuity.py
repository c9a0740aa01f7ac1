"""Labels along the lines of a route: what may still be used, from interconnect to interconnect, and whether it suits the ends.

Rules kept here
- Segments that do not swap tie the labels of the interconnects at both sides: what may be used is what both have free.
- A way may tell which labels do at its ends, fewer than are free there.
- A line and each LAN beside it take a label each. Along a line there must be enough for those; that all that meet at one SAP
  or interconnect have labels of their own is judged of a whole route (`apart`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from address_planner.classes import LabelClass, LabelsExhausted, suggest
from address_planner.labels import LabelSet
from broker.decompose.layered import Layers, Move
from service_model.outcomes import ReasonCode


class Continuity:
    """Of one question. `first`: by line, the labels that may be used where it begins (None: any), and None for the end."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self._checked = layers.holds(ReasonCode.LABELS_EXHAUSTED)
        told = layers.graph.way_told
        self._told_by = told if self._checked and told.any() else None
        self.first: list[LabelSet | None] = [
            *(self._free(sap, line.a) for sap, line in zip(layers.tails, layers.mesh.lines, strict=True)),
            None,
        ]

    def continued(self, labels: LabelSet | None, state: int, move: Move) -> LabelSet | None:
        """Of the labels that may be used before a move, those on the interconnect that it crosses; None where there are too
        few. `state`: where it sets out from."""
        crossing = self.layers.graph.crossing[move.entry]
        assert crossing is not None
        near, beyond = labels, crossing.labels
        if self._tells(move):
            near, far = self._told(labels, state, move)
            if near is not None and len(near) <= self.layers.need[move.layer]:
                return None
            beyond = beyond if far is None else beyond & far
        if near is None or self.layers.graph.way_swaps[move.way]:
            return beyond if beyond is crossing.labels or self._enough(beyond, move) else None
        both = beyond & near
        return both if self._enough(both, move) else None

    def fits_end(self, labels: LabelSet | None, state: int, move: Move) -> bool:
        """Whether they suit the end that the line comes to, where the last segment does not swap."""
        sap, swaps = self.layers.heads[move.layer], self.layers.graph.way_swaps
        near, far = labels, None
        if self._tells(move):
            near, far = self._told(labels, state, move)
            if near is not None and not self._enough(near, move):
                return False
        if sap < 0 or not self._checked:
            return True
        tied = near is not None and not swaps[move.way]
        free = self._free(sap, self.layers.mesh.lines[move.layer].b) if tied or far is not None else None
        if free is None:
            return True
        if far is not None:
            free = free & far
        if tied:
            assert near is not None, "what is tied has labels"
            free = free & near
        return self._enough(free, move)

    def apart(self, moves: Iterable[Move]) -> bool:
        """Whether all that a route takes labels for at one SAP or interconnect can have labels of their own. (Where it is hard to
        tell, not.)"""
        moves = tuple(moves)
        if not self._checked or not self._twice(moves):
            return True
        classes = list(self._classes(moves))
        met = Counter(where for item in classes for where in item.saps)
        if all(len(item.labels) > sum(met[where] - 1 for where in item.saps) for item in classes):
            return True  # each has one that none of the others at its SAPs takes
        try:
            suggest(classes, "")
        except LabelsExhausted:
            return False
        return True

    def _twice(self, moves: Sequence[Move]) -> bool:
        """Whether a route enters over one interconnect twice, or has several ends at one SAP."""
        layers = self.layers
        ends = [sap for sap in (*layers.tails, *layers.heads) if sap >= 0]
        crossed = [layers.graph.crossing[m.entry] for m in moves if m.entry >= 0]
        lans = bool(layers.mesh.lans) and bool(ends or crossed)
        return lans or len(set(ends)) < len(ends) or len({c.id for c in crossed if c is not None}) < len(crossed)

    def _classes(self, moves: Iterable[Move]) -> Iterator[LabelClass]:
        """Of each line and each LAN beside it, where one label does: the interconnects and SAPs, and what may be used there."""
        layers = self.layers
        state, along = layers.origin, dict[int, list[tuple[int, Move]]]()
        for move in moves:
            along.setdefault(move.layer, []).append((state, move))
            state = move.target
        for number, steps in along.items():
            line = layers.mesh.lines[number]
            yield from self._lane(str(number), (line.a, line.b), steps)
            for lan in layers.mesh.lans_beside(number):
                ends = {outer.beside.id: outer.end.id for outer in lan.outer}
                yield from self._lane(f"{number}/{lan.id}", (ends.get(line.a, ""), ends.get(line.b, "")), steps)

    def _lane(self, lane: str, ends: tuple[str, str], steps: Iterable[tuple[int, Move]]) -> Iterator[LabelClass]:
        """Its classes. `ends`: the ids of the ends that it has where the line begins and ends."""
        layers = self.layers
        labels: LabelSet | None = None
        at: list[str] = []
        for n, (state, move) in enumerate(steps):
            tail, head = layers.tails[move.layer], layers.heads[move.layer] if move.place < 0 else -1
            if n == 0 and ends[0]:
                labels, at = self._free(tail, ends[0]), [f"end at {tail}"]
            labels, far = self._told(labels, state, move) if self._tells(move) else (labels, None)
            beyond, there = self._free(head, ends[1]) if ends[1] else None, f"end at {head}"
            if move.entry >= 0:
                crossing = layers.graph.crossing[move.entry]
                assert crossing is not None
                beyond, there = crossing.labels, crossing.id
            if beyond is not None and far is not None:
                beyond = beyond & far
            tied = move.way >= 0 and not layers.graph.way_swaps[move.way]
            if tied and labels is not None and beyond is not None:
                labels, at = labels & beyond, [*at, there]
            else:
                yield from _class(lane, labels, at)
                labels, at = beyond, [there]
        yield from _class(lane, labels, at)

    def _tells(self, move: Move) -> bool:
        return self._told_by is not None and move.way >= 0 and bool(self._told_by[move.way])

    def _told(self, labels: LabelSet | None, state: int, move: Move) -> tuple[LabelSet | None, LabelSet | None]:
        """What may be used before and after a way that tells labels of its own (None: whatever is free)."""
        near, far = self.layers.graph.told_along(move.way, self.layers.node(state))
        if labels is None:
            return None, far
        return (labels if near is None else labels & near), far

    def _enough(self, labels: LabelSet, move: Move) -> bool:
        return len(labels) > self.layers.need[move.layer] or not self._checked

    def _free(self, sap: int, id: str) -> LabelSet | None:
        """The labels that may be used at an end; None where a line begins or ends at a function (`sap` -1)."""
        if sap < 0:
            return None
        free, asked = self.layers.graph.sap_offer(sap).free, self.layers.spec.end(id).labels
        return free if asked is None else free & asked


def _class(lane: str, labels: LabelSet | None, at: list[str]) -> Iterator[LabelClass]:
    if labels is not None:
        yield LabelClass(id=f"{lane}/{at[0]}", members=(), interconnects=(), saps=tuple(at), labels=labels)
