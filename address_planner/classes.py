"""Label classes: the places of a service that must carry one label, and how they agree on it.

Rules kept here
- A label means something only on one interconnect; members tied by segments that do not swap form one class.
- The set offered to a class is the intersection of all members' free sets: narrowed, never widened. Of one that is long and
  full of holes its members hear of `ENOUGH` labels from the suggested one on: more than an order could ask for in its rounds.
- Two classes on one interconnect, or at one SAP, never get the same suggestion; two that meet in a segment do only where
  nothing else is left: below, what ties them may cross one interconnect.
- What is suggested to us for an end of a class is suggested on: both sides of that end then take it in one round. Other
  classes on the interconnect keep off it while they can.
- Where answers differ, the value of the class's authority is pinned on the others; a member that cannot take it answers with
  what it could (acceptable label set, RFC 3473, 4.1), and the class chooses again from what is left. Rounds are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from address_planner.labels import ANY_LABEL, NO_LABEL, LabelSet

ENOUGH = 256
_MAX_STEPS = 1000
"""After how many tries the labels count as exhausted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One end at which the class's label is used: `segment` and `end` name it, `decides` if its SP is the authority."""

    segment: str
    end: str
    decides: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelClass:
    """`labels`: what every member may use; `interconnects`: the joints it runs over; `saps`: names of where it has ends of the
    service itself; `suggested`: which it is to use, before `suggest` the one that is suggested to us, if any."""

    id: str
    members: tuple[Member, ...]
    interconnects: tuple[str, ...]
    saps: tuple[str, ...] = ()
    labels: LabelSet = ANY_LABEL
    suggested: int | None = None


class LabelsExhausted(Exception):
    """A class has no label left that all its members could use."""

    def __init__(self, label_class: LabelClass) -> None:
        super().__init__(f"no common label is left on {', '.join(label_class.interconnects)}")
        self.label_class = label_class


def suggest(classes: Sequence[LabelClass], key: str) -> tuple[LabelClass, ...]:
    """Give every class its suggested label, distinct on every interconnect and SAP: the one suggested to us, else by hash of
    `key` and the class.

    Those with the fewest labels choose first; where one is left without, the one before it chooses again, within bounds.
    Raises LabelsExhausted.
    """
    order = sorted(classes, key=lambda item: len(item.labels))
    values: list[int] = []
    choices: list[Iterator[int]] = []
    steps = 0
    while len(values) < len(order):
        if len(choices) == len(values):
            choices.append(_choices(order, values, key))
        value = next(choices[-1], None)
        steps += 1
        if value is not None:
            values.append(value)
        elif steps > _MAX_STEPS or not values:
            raise LabelsExhausted(order[len(values)])
        else:
            choices.pop()
            values.pop()
    found = dict(zip((item.id for item in order), values, strict=True))
    return tuple(replace(item, suggested=found[item.id]) for item in classes)


def _choices(order: Sequence[LabelClass], values: Sequence[int], key: str) -> Iterator[int]:
    """The labels that the next class may have beside the `values` of those before it, by hash, what is suggested for a later one
    or used at another end of the same segment last; more than there are classes serve nobody."""
    item, later = order[len(values)], order[len(values) + 1 :]
    here, segments = {*item.interconnects, *item.saps}, {m.segment for m in item.members}
    beside = tuple(zip(order, values, strict=False))
    left = item.labels - LabelSet.of(
        v for other, v in beside if not here.isdisjoint((*other.interconnects, *other.saps))
    )
    if item.suggested is not None and item.suggested in left:
        yield item.suggested
        left -= LabelSet.of([item.suggested])
    wanted = LabelSet.of(
        other.suggested
        for other in later
        if other.suggested is not None and not here.isdisjoint((*other.interconnects, *other.saps))
    ) | LabelSet.of(v for other, v in beside if not segments.isdisjoint(m.segment for m in other.members))
    for some in (left - wanted, left & wanted):
        for _ in range(len(order)):
            value = some.suggest(f"{key}/{item.id}")
            if value is None:
                break
            yield value
            some -= LabelSet.of([value])


def shortened(item: LabelClass) -> LabelClass:
    """The class as its members hear of it, and as it is recorded: every live service leaves a hole in what is free, and nobody
    needs to hear of thousands."""
    return item if item.suggested is None else replace(item, labels=item.labels.around(item.suggested, ENOUGH))


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
    item: LabelClass,
    value: int | None,
    acceptable: LabelSet | None,
    key: str,
    taken: LabelSet = NO_LABEL,
    proposed: int | None = None,
) -> LabelClass:
    """The class after a member could not take `value`: what is left, with a new suggestion that is not one of `taken`
    by other classes: what the member `proposed`, if that is left. Raises LabelsExhausted."""
    left = item.labels if value is None else item.labels - LabelSet.of([value])
    if acceptable is not None:
        left &= acceptable
    open_to_it = left - taken
    again = proposed if proposed in open_to_it else open_to_it.suggest(f"{key}/{item.id}/{value}")
    if again is None:
        raise LabelsExhausted(item)
    return replace(item, labels=left, suggested=again)
