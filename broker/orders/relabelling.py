"""The labels of an order's segments: which class a refusal concerns, and a class with other labels. Pure.

Rules kept here
- Of an end that is the service's own, only whoever set the constraint can choose again: what is acceptable goes up.
- A class has the same labels in the order and in the specs of all its members.
- Members hear of a part of what is free where that is much (`shortened`). Where one can take none of that, the class goes on with
  what its members have not heard of; they are exhausted where nothing of all that is announced is left.
"""

from __future__ import annotations

from dataclasses import replace

from address_planner.classes import LabelClass, LabelsExhausted, shortened, without
from address_planner.labels import LabelSet
from broker.decompose.plan import Snapshot
from broker.orders.cut import Cut
from broker.orders.lanes import label_classes
from broker.orders.placing import mesh_of
from broker.orders.reasons import PHRASES
from broker.orders.records import Order, Segment
from service_model.outcomes import Nogood, Reason, ReasonCode

_LABEL_REASONS = frozenset({ReasonCode.LABEL_TAKEN, ReasonCode.LABEL_CONTENDED, ReasonCode.LABELS_EXHAUSTED})


def beside(order: Order, label_class: LabelClass) -> LabelSet:
    """What other classes use on the same interconnects."""
    shared = set(label_class.interconnects)
    others = (c for c in order.classes if c.id != label_class.id and shared & set(c.interconnects))
    return LabelSet.of(c.suggested for c in others if c.suggested is not None)


def _refused_end(segment: Segment) -> str:
    """The end at which a label was refused; "" when that is not why."""
    reason = segment.reasons[0]
    if reason.code not in _LABEL_REASONS:
        return ""
    return (reason.nogood.end if reason.nogood else "") or reason.subject


def label_from_above(order: Order, segment: Segment, reasons: tuple[Reason, ...]) -> Reason | None:
    """A label refused at an end of the service itself: only whoever set the constraint can choose another. What is
    acceptable there goes up, since the end is the caller's own word."""
    end, first = _refused_end(segment), segment.reasons[0]
    if order.spec is None or end not in {e.id for e in order.spec.ends}:
        return None
    heard = first.nogood or Nogood(end=end)
    return Reason(
        code=first.code,
        message=f"end {end!r}: {PHRASES[first.code]}",
        subject=end,
        retryable=first.retryable,
        nogood=Nogood(
            end=end,
            interconnect=heard.interconnect,
            refused_labels=heard.refused_labels,
            acceptable_labels=heard.acceptable_labels,
            proposed_label=heard.proposed_label,
        ),
        causes=reasons,
    )


def class_refused(order: Order, segment: Segment) -> LabelClass | None:
    end = _refused_end(segment)
    if not end:
        return None
    return next((c for c in order.classes if any((m.segment, m.end) == (segment.key, end) for m in c.members)), None)


def chosen_again(order: Order, label_class: LabelClass, nogood: Nogood | None, snapshot: Snapshot) -> LabelClass:
    """The class with another label, after a member refused the one that was suggested. Raises LabelsExhausted."""
    acceptable, proposed = (nogood.acceptable_labels, nogood.proposed_label) if nogood else (None, None)
    refused, taken = label_class.suggested, beside(order, label_class)
    try:
        return without(label_class, refused, acceptable, order.id, taken, proposed)
    except LabelsExhausted:
        unheard = replace(label_class, labels=_announced(order, label_class, snapshot) - label_class.labels)
        return shortened(without(unheard, refused, acceptable, order.id, taken, proposed))


def _announced(order: Order, label_class: LabelClass, snapshot: Snapshot) -> LabelSet:
    """All that the members of a class announce together."""
    assert order.spec is not None, "what is labelled was asked for"
    assert order.plan is not None, "what is labelled was planned"
    cut = Cut(mesh_of(order.spec), order.plan)
    return next(c.labels for c in label_classes(cut, snapshot) if c.id == label_class.id)


def relabel(order: Order, label_class: LabelClass) -> Order:
    """The class with its new labels, in the order and in the specs of its members."""
    classes = tuple(label_class if c.id == label_class.id else c for c in order.classes)
    for member in label_class.members:
        order = with_labels(order, member.segment, member.end, label_class.labels, label_class.suggested)
    return replace(order, classes=classes)


def with_labels(order: Order, key: str, end: str, labels: LabelSet, suggested: int | None) -> Order:
    segment = order.segment(key)
    assert segment is not None, "a class names segments of the plan"
    ends = tuple(replace(e, labels=labels, suggested_label=suggested) if e.id == end else e for e in segment.spec.ends)
    return order.with_segment(replace(segment, spec=replace(segment.spec, ends=ends)))


def chosen_labels(order: Order) -> dict[tuple[str, str], int]:
    """(segment, end) to the label chosen there."""
    return {
        (s.key, end): label for s in order.segments if s.wanted and s.choice for end, label in s.choice.labels.items()
    }
