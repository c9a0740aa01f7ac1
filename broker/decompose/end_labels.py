"""Which labels an exported SAP announces, where ways that do not swap tie it to interconnects inside.

Rules kept here
- The buyer sees the SAP alone, so every label that it announces must do for every way that is announced from it.
- A SAP's labels are narrowed to what its ways can use, those of the most ways first, as long as FEW are left or nothing is
  lost of a smaller set. A way for which that does not hold is not announced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from address_planner.labels import LabelSet
from broker.decompose.reach import Known
from broker.decompose.walks import Walk

FEW = 4


def narrowed(
    announced: Mapping[str, LabelSet], found: Mapping[tuple[str, str], Sequence[Known]]
) -> dict[str, LabelSet]:
    """What each SAP (by the name that is announced) announces, of what is free there."""
    asked: dict[str, dict[LabelSet, int]] = {}
    for (a, b), ways in found.items():
        for known in ways:
            for name, labels in ((a, known.way.near), (b, known.way.far)):
                if labels is not None and name in announced:
                    times = asked.setdefault(name, {})
                    times[labels] = times.get(labels, 0) + 1
    out = dict(announced)
    for name, times in asked.items():
        for labels in sorted(times, key=lambda s: (-times[s], -len(s), s.ranges)):
            common = out[name] & labels
            if len(common) >= min(FEW, len(out[name]), len(labels)):
                out[name] = common
    return out


def usable(way: Walk, between: tuple[str, str], labels: Mapping[str, LabelSet]) -> bool:
    """Whether every label that may be used at its ends does for the way."""
    a, b = (labels.get(name) for name in between)
    if way.tied:
        assert a is not None, "only a SAP is tied"
        assert way.near is not None, "and by its labels"
        common = a if b is None else a & b
        return bool(common) and common <= way.near
    near, far = way.near, way.far
    return (a is None or near is None or a <= near) and (b is None or far is None or b <= far)
