"""When a reservation is planned again, and when it is refused. Pure.

Rules kept here
- Plans over what is announced are made again at most MAX_CRANKBACKS times, and as often again once a size that a manager chose
  was overruled (`scaling`); those that hope count apart (`hoping`).
- If the whole is refused, everything is released; a hold that was to be replaced is restored first.
- Who was refused after hope is told first what it would have been told without.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from broker.decompose.plan import Avoid
from broker.orders.records import Answer, Order, Segment
from broker.orders.split import HandedDown
from broker.orders.states import Event
from broker.orders.tasks import abandon
from service_model.managing import DecisionOutcome, ManagerTask
from service_model.outcomes import Reason, ServiceState
from service_model.replacing import replace

RESTORING = timedelta(seconds=30)
"""How long it may take to hold again what a refused version was to replace."""
MAX_CRANKBACKS = 8
MAX_ROUNDS = 8


def refuse(order: Order, now: datetime, *reasons: Reason) -> Order:
    """The order refused. Where it was to replace a hold, that hold is wanted again as it was, with time of its own."""
    reasons = tuple(dict.fromkeys((*order.unannounced, *reasons)))
    answers = order.answers
    if not order.healed:  # that is no version of its owner's
        answers = {**answers, order.version: Answer(digest=order.digest, reasons=reasons)}
    previous = order.previous
    if previous is None:
        return abandon(replace(order, reasons=reasons, answers=answers).on(Event.REFUSE))
    before = {s.key: s for s in previous.segments if s.wanted}
    segments = [
        replace(handed(s, before[s.key]), quote=before[s.key].quote) if s.key in before else replace(s, wanted=False)
        for s in order.segments
    ]
    segments += [s for key, s in before.items() if order.segment(key) is None]
    return replace(
        previous,
        state=ServiceState.RESERVING,
        segments=tuple(segments),
        former_blocks=tuple(b for b in order.own_blocks() if b != previous.block),
        answers=answers,
        released_upto=max(previous.released_upto, order.released_upto),
        previous=None,
        expires=None,
        deadline=now + RESTORING,
        rounds=0,
        crankbacks=0,
    )


def again(order: Order, more: Avoid, *reasons: Reason) -> Order:
    """Plan again around `more`: one crank-back, where what was refused was announced."""
    return replace(
        order,
        avoid=order.avoid | more,
        plan=None,
        addressed=False,
        classes=(),
        crankbacks=order.crankbacks + (not order.hoping),
        reasons=reasons,
        rounds=0,
    )


def exhausted(order: Order) -> bool:
    """Whether it may not be planned again. Who hopes is stopped where it would hope again."""
    return not order.hoping and order.crankbacks >= most_crankbacks(order)


def most_crankbacks(order: Order) -> int:
    """How often it may be planned again: twice as often where it goes by default in the place of a manager's size."""
    overruled = any((d.task, d.outcome) == (ManagerTask.SCALE, DecisionOutcome.FALLBACK) for d in order.decisions)
    return MAX_CRANKBACKS * (2 if overruled else 1)


def handed(segment: Segment, part: HandedDown | Segment) -> Segment:
    """The segment, wanted as `part` says."""
    return replace(
        segment,
        spec=part.spec,
        towards=part.towards,
        crossings=part.crossings,
        lines=part.lines,
        wanted=True,
    )
