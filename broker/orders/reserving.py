"""The tasks that follow a plan: crank_back, hold, agree, price, decide. Pure.

Rules kept here
- All segments are asked in one parallel wave, but for those that gave way (`turns`); only what is refused, dearer or differs
  is asked again.
- A label on which answers differ is pinned to the authority's value; only the other side is reserved again, at its next
  version. A label that cannot be had shrinks its class. Rounds and crank-backs are bounded.
"""

from __future__ import annotations

from datetime import timedelta
from functools import reduce
from operator import or_

from address_planner.classes import LabelsExhausted, disagreement
from address_planner.labels import LabelSet
from broker.decompose.plan import Avoid
from broker.orders import learning
from broker.orders.bounds import path_delays
from broker.orders.cut import Cut
from broker.orders.gather import gather
from broker.orders.placing import mesh_of
from broker.orders.readdressing import readdressed
from broker.orders.reasons import words_of, wrapped
from broker.orders.records import Order, Segment
from broker.orders.relabelling import (
    chosen_again,
    chosen_labels,
    class_refused,
    label_from_above,
    relabel,
    with_labels,
)
from broker.orders.retrying import MAX_ROUNDS, again, exhausted, refuse
from broker.orders.split import NO_COMMON_LABEL, HandedDown, Split
from broker.orders.states import Event, SegmentState
from broker.orders.tasks import GUARD, Call, CallKind, Env, Pause, task
from broker.orders.turns import waits_its_turn
from service_model.money import FREE, CurrencyMismatch
from service_model.outcomes import Reason, ReasonCode
from service_model.port_names import named
from service_model.replacing import replace


@task
def crank_back(order: Order, env: Env) -> Order | Pause:
    """Around what was refused: choose a label again, plan again, or give up with the reasons."""
    refused = [
        s
        for s in order.segments
        if s.wanted and s.reasons and s.asked == s.body() and s.state in (SegmentState.REFUSED, SegmentState.RELEASED)
    ]
    if not refused or order.spec is None:
        return order
    if lost := [s for s in refused if s.quote and s.reasons[0].code is ReasonCode.QUOTE_NOT_VALID]:
        return _unquoted(order, lost)
    segment = refused[0]
    reasons = tuple(wrapped(s, ReasonCode.SEGMENT_REFUSED, words_of(order.spec)) for s in refused)
    label_class = class_refused(order, segment)
    if label_class is None and (above := label_from_above(order, segment, reasons)) is not None:
        return refuse(order, env.now, above)
    readdresses = order.rounds < MAX_ROUNDS and not order.healed  # who is healed keeps its prefixes
    if readdresses and (found := readdressed(order, segment, reasons)) is not None:
        return refuse(order, env.now, found) if isinstance(found, Reason) else found
    if label_class is not None:
        if order.rounds >= MAX_ROUNDS:
            return refuse(order, env.now, *reasons)
        try:
            chosen = chosen_again(order, label_class, segment.reasons[0].nogood, env.snapshot)
        except LabelsExhausted:
            none = Reason(code=ReasonCode.LABELS_EXHAUSTED, message=NO_COMMON_LABEL, causes=reasons, retryable=True)
            if exhausted(order):
                return refuse(order, env.now, none)
            return again(order, Avoid(interconnects=frozenset(label_class.interconnects)), none)
        return relabel(replace(order, rounds=order.rounds + 1), chosen)
    if exhausted(order):
        return refuse(order, env.now, *reasons)
    for_more = [
        s for s in refused if class_refused(order, s) is None
    ]  # a label is chosen again where it is planned again
    learnt = reduce(or_, (learning.refused(s.alias, s.spec, s.reasons) for s in for_more))
    return again(order, learnt, *reasons)


def _unquoted(order: Order, lost: list[Segment]) -> Order:
    """The segments whose suppliers do not know their quotes any more are asked for at today's price."""
    assert order.quoted is not None, "only who has a quote hands quotes down"
    keys = {s.key for s in lost}
    parts = {key: part for key, part in order.quoted.parts.items() if key not in keys}
    segments = tuple(replace(s, quote="") if s.key in keys else s for s in order.segments)
    return replace(order, quoted=replace(order.quoted, parts=parts), segments=segments)


@task
def hold(order: Order, env: Env) -> Order | Pause:
    """Ask every supplier for its segment, all at once; ask again where the outcome is not known."""
    calls: list[Call] = []
    waits = []
    late = order.deadline is not None and env.now >= order.deadline
    for segment in order.segments:
        digest = segment.body()
        there = segment.state is SegmentState.HELD or segment.kept
        if not segment.wanted or (there and segment.asked == digest):
            continue
        if late or _too_busy(order, segment):
            return refuse(order, env.now, _no_time(segment))
        if segment.state is SegmentState.RELEASING:
            if segment.retry_at is not None and segment.retry_at > env.now:
                waits.append(segment.retry_at)
            else:
                calls.append(Call(CallKind.RELEASE, segment.key, segment.version))
                order = order.with_segment(replace(segment, retry_at=None))
            continue
        if waits_its_turn(order, segment):
            continue
        version = segment.version
        if segment.state is SegmentState.RESERVING and segment.asked == digest:
            if segment.retry_at is not None and segment.retry_at > env.now:
                waits.append(segment.retry_at)
                continue
            order = order.with_segment(replace(segment, retry_at=None))
        elif segment.not_before is not None and segment.not_before > env.now:
            waits.append(segment.not_before)
            continue
        else:
            version = segment.next_version
            order = order.with_segment(
                replace(
                    segment,
                    state=SegmentState.RESERVING,
                    version=version,
                    asked=digest,
                    attempts=0,
                    retry_at=None,
                    not_before=None,
                    reasons=(),
                    lingers=segment.lingers or segment.state in (SegmentState.HELD, SegmentState.RESERVING),
                )
            )
        calls.append(Call(CallKind.RESERVE, segment.key, version))
    if calls:
        return Pause(order, tuple(calls))
    if waits:
        ends = [*waits, order.deadline] if order.deadline is not None else waits
        return Pause(order, wake=min(ends))
    return order


def _too_busy(order: Order, segment: Segment) -> bool:
    """Whether its supplier turned us away for longer than there is time."""
    return (
        bool(segment.error)
        and segment.state is SegmentState.RESERVING
        and segment.retry_at is not None
        and order.deadline is not None
        and segment.retry_at >= order.deadline
    )


def _no_time(segment: Segment) -> Reason:
    """Why a segment is not held by the deadline."""
    busy = segment.state is SegmentState.RESERVING and bool(segment.error)
    return Reason(
        code=ReasonCode.DEADLINE if busy else ReasonCode.SUPPLIER_UNREACHABLE,
        message=f"segment {segment.key}: {'its supplier is overloaded' if busy else 'no answer in time'}",
        segment=segment.key,
        retryable=True,
    )


@task
def agree(order: Order, env: Env) -> Order | Pause:
    """Where the two sides of an interconnect chose differently, pin the other side to the authority's value."""
    chosen = chosen_labels(order)
    pinned = order
    for label_class in order.classes:
        differs = disagreement(label_class, chosen)
        if differs is None:
            continue
        value, others = differs
        for member in others:
            pinned = with_labels(pinned, member.segment, member.end, LabelSet.of([value]), value)
        classes = tuple(replace(c, suggested=value) if c.id == label_class.id else c for c in pinned.classes)
        pinned = replace(pinned, classes=classes)
    if pinned is order:
        return order
    if order.rounds >= MAX_ROUNDS:
        return refuse(
            order,
            env.now,
            Reason(code=ReasonCode.LABEL_CONTENDED, message="the suppliers did not agree on labels", retryable=True),
        )
    return replace(pinned, rounds=order.rounds + 1)


@task
def price(order: Order, env: Env) -> Order | Pause:
    """What was quoted, as long as that covers the cost; or what the suppliers ask with our margin. Either against what the
    customer allows."""
    if order.spec is None:
        return order
    try:
        cost = sum((s.price for s in order.segments if s.wanted), FREE)
    except CurrencyMismatch:
        foreign = Reason(code=ReasonCode.PRICE, message="the suppliers ask in different currencies")
        return refuse(order, env.now, foreign)
    asked = order.quoted.price if order.quoted is not None else cost.scaled(order.terms.margin)
    hours = order.spec.term_hours
    if order.quoted is not None and not order.quoted.covers(cost, hours):
        message = "price: it has become dearer than it was quoted, and than we can bear"
        return refuse(order, env.now, Reason(code=ReasonCode.PRICE, message=message, subject="quote"))
    if order.spec.max_price is not None and asked.over(hours) > order.spec.max_price:
        message = f"price: {asked.over(hours)} {asked.currency} over {hours} h > {order.spec.max_price}"
        return refuse(order, env.now, Reason(code=ReasonCode.PRICE, message=message, subject="max_price"))
    if (cost, asked) == (order.cost, order.price):
        return order
    return replace(order, cost=cost, price=asked)


@task
def decide(order: Order, env: Env) -> Order | Pause:
    """All is held and fits: the service is reserved until shortly before the first of its holds ends. Where that is over
    while others were still asked, not all is held."""
    if order.spec is None:
        return order
    mine = [s for s in order.segments if s.wanted]
    answers = {s.key: s.choice for s in mine if s.choice is not None}
    until = env.now + timedelta(seconds=order.terms.max_hold_s)
    expires = min([until, *(s.expires - GUARD for s in mine if s.expires is not None)])
    if expires <= env.now:
        message = "a part's hold ended before the others were held"
        return refuse(order, env.now, Reason(code=ReasonCode.HOLD_EXPIRED, message=message))
    choice = named(gather(order.spec, parts_of(order), answers), order.spec, env.snapshot.own_sp_id, order.ref)
    assert order.plan is not None, "what is held was planned"
    delays = path_delays(Cut(mesh_of(order.spec), order.plan), {s.key: s for s in mine})
    return replace(
        order,
        choice=choice,
        former_blocks=(),
        delay_us=max(delays.values(), default=0),
        path_delays_us=delays,
        expires=expires,
        previous=None,
        reasons=(),
        was_live=False,
    ).on(Event.HELD)


def parts_of(order: Order) -> Split:
    """The split as the order records it."""
    handed = tuple(
        HandedDown(key=s.key, alias=s.alias, spec=s.spec, towards=s.towards, crossings=s.crossings, lines=s.lines)
        for s in order.segments
        if s.wanted
    )
    return Split(segments=handed, classes=order.classes, links=order.links)
