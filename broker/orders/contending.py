"""The task that waits for a label which another order holds.

Rules kept here
- At each interconnect one side decides labels. Its labels are each one order's, so of two orders that want the same label at
  the other side, one has to move there: whoever waits gives back what it holds at that side first, so nobody waits in a circle.
- What is asked for again is the value of the deciding side alone.
- The pause grows and is different for each order, by hash: no two meet in step. Who only has to move does so at once; after
  MOST_WAITS the label is held for good, and counts as refused.
- A label under a commitment, or none at the deciding side, is no matter of waiting (`crank_back`).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta

from address_planner.labels import LabelSet
from broker.orders.records import Order, Segment
from broker.orders.relabelling import chosen_labels, class_refused, with_labels
from broker.orders.states import SegmentState
from broker.orders.tasks import Env, Pause, task
from service_model.outcomes import ReasonCode

MOST_WAITS = 6
_SHORTEST, _LONGEST = 0.1, 3.2


@task
def contend(order: Order, env: Env) -> Order | Pause:
    """Where a label is under another order's hold: give back what is held there, and ask again after a while."""
    for segment in order.segments:
        if not _waits(order, segment):
            continue
        label_class = class_refused(order, segment)
        assert label_class is not None
        chosen = chosen_labels(order)
        decided = next(
            (chosen[m.segment, m.end] for m in label_class.members if m.decides and (m.segment, m.end) in chosen), None
        )
        if decided is not None:
            for member in label_class.members:
                if member.segment == segment.key:
                    order = with_labels(order, member.segment, member.end, LabelSet.of([decided]), decided)
        current = order.segment(segment.key)
        assert current is not None
        order = order.with_segment(
            replace(
                current,
                state=SegmentState.RELEASING if segment.lingers else SegmentState.RELEASED,
                reasons=(),
                waits=segment.waits + 1,
                not_before=env.now + pause(order.id, segment.key, segment.waits),
            )
        )
    return order


def _waits(order: Order, segment: Segment) -> bool:
    return (
        segment.wanted
        and segment.state is SegmentState.REFUSED
        and segment.asked == segment.body()
        and bool(segment.reasons)
        and segment.reasons[0].code is ReasonCode.LABEL_CONTENDED
        and segment.waits < MOST_WAITS
        and class_refused(order, segment) is not None
    )


def pause(order: str, segment: str, waits: int) -> timedelta:
    """Between half and one and a half times what doubles with each time, up to _LONGEST seconds."""
    digest = hashlib.blake2b(f"{order}/{segment}/{waits}".encode(), digest_size=8).digest()
    part = 0.5 + int.from_bytes(digest, "big") / (1 << 64)
    return timedelta(seconds=min(_LONGEST, _SHORTEST * 2**waits) * part)
