"""Labels along the lines of a route: what may still be used, from interconnect to interconnect, and whether it suits the ends.

Rules kept here
- Segments that do not swap tie the labels of the interconnects at both sides: what may be used is what both have free.
- A way may tell which labels do at its ends, fewer than are free there. Where several ends are at one SAP it is not followed
  which of them gets which label: there such a way does for nobody.
- A line and each LAN beside it take a label each.
"""

from __future__ import annotations

from collections import Counter

from address_planner.labels import NO_LABEL, LabelSet
from broker.decompose.layered import Layers, Move
from service_model.outcomes import ReasonCode


class Continuity:
    """Of one question. `first`: by line, the labels that may be used where it begins (None: any), and None for the end."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self._checked = layers.holds(ReasonCode.LABELS_EXHAUSTED)
        told = layers.graph.way_told
        self._told_by = told if self._checked and told.any() else None
        ends = [*(e.sap for e in layers.mesh.ends), *(o.end.sap for lan in layers.mesh.lans for o in lan.outer)]
        self._several_at = {layers.graph.sap_named(sap) for sap, times in Counter(ends).items() if times > 1}
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

    def _tells(self, move: Move) -> bool:
        return self._told_by is not None and move.way >= 0 and bool(self._told_by[move.way])

    def _told(self, labels: LabelSet | None, state: int, move: Move) -> tuple[LabelSet | None, LabelSet | None]:
        """What may be used before and after a way that tells labels of its own (None: whatever is free)."""
        node = self.layers.node(state)
        near, far = self.layers.graph.told_along(move.way, node)
        if near is not None and node in self._several_at:
            near = NO_LABEL
        if far is not None and self.layers.heads[move.layer] in self._several_at and move.entry < 0 and move.place < 0:
            far = NO_LABEL
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
