"""Which labels an exported SAP announces, and which of them a way takes, where ways that do not swap tie it to interconnects
inside.

Rules kept here
- A way tells the labels that it takes at a SAP where they are not all that are free there.
- A reader of the first release does not know that: it takes each label of a SAP for each way that it reads of. So the SAP's
  `labels` are narrowed to what its ways take, those of the most ways first, as long as FEW are left or nothing is lost of a
  smaller set; the rest is told apart (`more_labels`), and a way for which that does not hold stands apart (guarded).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from address_planner.labels import NO_LABEL, LabelSet
from broker.decompose.reach import Known, Reached

FEW = 4
RANGES = 16
"""That a way tells of, the longest."""


def narrowed(free: Mapping[str, LabelSet], found: Mapping[tuple[str, str], Sequence[Known]]) -> dict[str, LabelSet]:
    """What each SAP (by the name that is announced) tells every reader, of what is free there."""
    asked: dict[str, dict[LabelSet, int]] = {}
    for (a, b), ways in found.items():
        for known in ways:
            for name, labels in ((a, known.near), (b, known.far)):
                if labels is not None and name in free:
                    times = asked.setdefault(name, {})
                    times[labels] = times.get(labels, 0) + 1
    out = dict(free)
    for name, times in asked.items():
        for labels in sorted(times, key=lambda s: (-times[s], -len(s), s.ranges)):
            common = out[name] & labels
            if len(common) >= min(FEW, len(out[name]), len(labels)):
                out[name] = common
    return out


def taken(known: Known, between: tuple[str, str], free: Mapping[str, LabelSet]) -> bool:
    """Whether some label that is free at its ends does for the way."""
    a, b = (free.get(name) for name in between)
    if a is not None and b is not None and not known.swaps_labels:
        return known.near is None or bool(a & b & known.near)
    return _meets(known.near, a) and _meets(known.far, b)


def _meets(takes: LabelSet | None, free: LabelSet | None) -> bool:
    return takes is None or free is None or bool(takes & free)


def told_by(way: Reached, between: tuple[str, str], free: Mapping[str, LabelSet]) -> tuple[LabelSet, LabelSet]:
    """What the way tells of labels at its ends; nothing where all that are free do."""
    a, b = (free.get(name) for name in between)
    return _part(way.near, a), _part(way.far, b)


def _part(takes: LabelSet | None, free: LabelSet | None) -> LabelSet:
    if takes is None or free is None or free <= takes:
        return NO_LABEL
    return (takes & free).longest(RANGES)


def plain(way: Reached | Known, between: tuple[str, str], labels: Mapping[str, LabelSet]) -> bool:
    """Whether every label that a reader of the first release may use at its ends does for the way."""
    a, b = (labels.get(name) for name in between)
    if not way.swaps_labels:
        assert a is not None, "only a SAP is tied"
        assert way.near is not None, "and by its labels"
        common = a if b is None else a & b
        return bool(common) and common <= way.near
    return (a is None or way.near is None or a <= way.near) and (b is None or way.far is None or b <= way.far)
