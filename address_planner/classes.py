"""Label classes: the places of a service that must carry one label, and how they agree on it.

Rules kept here
- A label means something only on one interconnect; members tied by segments that do not swap form one class.
- The set offered to a class is the intersection of all members' free sets: narrowed, never widened.
- Two classes on one interconnect never get the same suggestion.
- Where answers differ, the value of the class's authority is pinned on the others; a member that cannot take it answers with
  what it could (acceptable label set, RFC 3473, 4.1), and the class chooses again from what is left. Rounds are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from address_planner.labels import ANY_LABEL, NO_LABEL, LabelSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One end at which the class's label is used: `segment` and `end` name it, `decides` if its SP is the authority."""

    segment: str
    end: str
    decides: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelClass:
    """`labels`: what every member may use; `interconnects`: the joints it runs over."""

    id: str
    members: tuple[Member, ...]
    interconnects: tuple[str, ...]
    labels: LabelSet = ANY_LABEL
    suggested: int | None = None


class LabelsExhausted(Exception):
    """A class has no label left that all its members could use."""

    def __init__(self, label_class: LabelClass) -> None:
        super().__init__(f"no common label is left on {', '.join(label_class.interconnects)}")
        self.label_class = label_class


def suggest(classes: Sequence[LabelClass], key: str) -> tuple[LabelClass, ...]:
    """Give every class its suggested label by hash of `key` and the class, distinct on every interconnect.

    Raises LabelsExhausted.
    """
    used: dict[str, set[int]] = {}
    out = []
    for item in classes:
        taken = LabelSet.of(v for x in item.interconnects for v in used.get(x, ()))
        value = (item.labels - taken).suggest(f"{key}/{item.id}")
        if value is None:
            raise LabelsExhausted(item)
        for interconnect in item.interconnects:
            used.setdefault(interconnect, set()).add(value)
        out.append(replace(item, suggested=value))
    return tuple(out)


def disagreement(item: LabelClass, chosen: Mapping[tuple[str, str], int]) -> tuple[int, tuple[Member, ...]] | None:
    """`chosen` maps (segment, end) to the label taken there. None when all members agree; else the authority's value and
    the members to be pinned to it. Without an authority among those that answered, the first member decides."""
    answered = [m for m in item.members if (m.segment, m.end) in chosen]
    if not answered:
        return None
    authority = next((m for m in answered if m.decides), answered[0])
    value = chosen[authority.segment, authority.end]
    others = tuple(m for m in answered if chosen[m.segment, m.end] != value)
    return (value, others) if others else None


def without(
    item: LabelClass, value: int | None, acceptable: LabelSet | None, key: str, taken: LabelSet = NO_LABEL
) -> LabelClass:
    """The class after a member could not take `value`: what is left, with a new suggestion that is not one of `taken`
    by other classes. Raises LabelsExhausted."""
    left = item.labels if value is None else item.labels - LabelSet.of([value])
    if acceptable is not None:
        left &= acceptable
    again = (left - taken).suggest(f"{key}/{item.id}/{value}")
    if again is None:
        raise LabelsExhausted(item)
    return replace(item, labels=left, suggested=again)
