"""The task that lets what a supplier refused go before what it holds of the same order. Pure.

Rules kept here
- A plan counts on the ways that it chose; a supplier takes the cheapest that is within what it is asked. So of two segments
  at one supplier, where all of it cannot be one (`broker.decompose.segments`), the first may take what only the other needs,
  though both can be had.
- Where a supplier refuses a segment and holds others of the order, these are given back; they are asked for again when
  all that go before them are held. A segment gives way once in a plan, and what has given way goes before nothing: so it ends.
- Of the refusals, those that tell of something that was there and is taken: a label that can be chosen again, a quote, a
  constraint that was broken are no matter of turns.
"""

from __future__ import annotations

from dataclasses import replace

from broker.orders.records import Order, Segment
from broker.orders.relabelling import class_refused, label_from_above
from broker.orders.states import SegmentState
from broker.orders.tasks import Env, Pause, task
from service_model.outcomes import ReasonCode

_TAKEN = frozenset(
    {
        ReasonCode.AVAILABILITY,
        ReasonCode.BANDWIDTH,
        ReasonCode.CAPACITY,
        ReasonCode.DELAY,
        ReasonCode.DISTANCE,
        ReasonCode.LABELS_EXHAUSTED,
        ReasonCode.LAN_NOT_OFFERED,
        ReasonCode.NO_PATH,
        ReasonCode.SEGMENT_REFUSED,
    }
)


@task
def give_way(order: Order, env: Env) -> Order | Pause:
    """What is held at a supplier that refused another part of the order is given back, and asked for after that."""
    for segment in order.segments:
        held = _beside(order, segment) if _refused(order, segment) else []
        if not held:
            continue
        for other in held:
            order = order.with_segment(replace(other, state=SegmentState.RELEASING, gave_way=True))
        state = SegmentState.RELEASING if segment.lingers else SegmentState.RELEASED
        return order.with_segment(replace(segment, state=state, reasons=()))
    return order


def _refused(order: Order, segment: Segment) -> bool:
    """Whether what was refused may be taken by what its supplier holds of the order."""
    return (
        segment.wanted
        and not segment.gave_way
        and segment.state is SegmentState.REFUSED
        and segment.asked == segment.body()
        and bool(segment.reasons)
        and segment.reasons[0].code in _TAKEN
        and class_refused(order, segment) is None
        and label_from_above(order, segment, ()) is None
    )


def _beside(order: Order, segment: Segment) -> list[Segment]:
    """What its supplier holds of the order and may be asked to give back."""
    return [
        s for s in order.segments
        if s.wanted and s.alias == segment.alias and s.state is SegmentState.HELD and not s.gave_way
    ]  # fmt: skip


def waits_its_turn(order: Order, segment: Segment) -> bool:
    """Whether a segment that is to be asked for has to wait for others at its supplier: who gave way until those that go
    before it are held; they until it was given back."""
    others = [s for s in order.segments if s.wanted and s.alias == segment.alias and s.gave_way != segment.gave_way]
    if segment.gave_way:
        return any(s.state is not SegmentState.HELD for s in others)
    return any(s.state is SegmentState.RELEASING for s in others)
