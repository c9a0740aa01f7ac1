"""What a change of state costs, and how an order reads to its owner. Pure.

Its owner reads places in its own words, and of reasons what says nothing else about ours. What is recorded is in ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from broker.orders import ailing, times
from broker.orders.reasons import for_customer, rewritten, words_of, wrapped
from broker.orders.records import Charge, ChargeKind, Order, Side
from broker.orders.states import SegmentState
from broker.orders.stuck import shown, untold
from capability_registry.abstraction import Abstraction
from service_model.money import Price
from service_model.outcomes import (
    Healing,
    NewerVersion,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    SegmentStatus,
    ServiceState,
    ServiceStatus,
)

_CHARGED = frozenset({ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.DEGRADED})

_SETTLED = _CHARGED | {ServiceState.RESERVED, ServiceState.COMMITTING}
"""Where what was given up on the way is no part of it."""


def charges(before: Order | None, order: Order, now: datetime) -> tuple[Charge, ...]:
    """The charges that follow from this change: what is owed begins when a service is committed, or at its start where that is
    later, and ends when its end is decided, or at its end where that was earlier."""
    was = _sold(before, before.updated) if before is not None else None
    sold = _sold(order, now)
    if was is None and sold is None:
        return ()
    return tuple(_events(was, sold, now))


def _sold(order: Order, now: datetime) -> Order | None:
    """The version that is charged: a newer one from when all of it was committed and it has begun."""
    if order.state not in _CHARGED:
        return None
    others = (order.beside, order.healing)
    committed = (o for o in others if o is not None and o.state in _CHARGED and times.begun(o, now))
    return next(committed, order)


def _events(was: Order | None, sold: Order | None, now: datetime) -> Iterator[Charge]:
    """The end of what is not owed any more, and the beginning of what is; what stays as it is goes on."""
    had, has = _owed(was), _owed(sold)
    for key, price in had.items():
        if was is not None and has.get(key) != price:
            yield _charge(was, now, key, ChargeKind.STOP, price)
    for key, price in has.items():
        before = had.get(key)
        if sold is None or before == price:
            continue
        once = price.once - (before.once if before is not None else 0)  # what goes on was paid for once
        if once > 0:
            yield _charge(sold, now, key, ChargeKind.ONCE, replace(price, once=once))
        yield _charge(sold, now, key, ChargeKind.START, price)


def _owed(order: Order | None) -> dict[tuple[Side, str, str], Price]:
    """By side, partner and segment; "" is the service."""
    if order is None:
        return {}
    bought = {(Side.BUY, s.alias, s.key): s.price for s in order.segments if s.wanted}
    return {(Side.SELL, order.account, ""): order.price, **bought}


def _charge(order: Order, now: datetime, key: tuple[Side, str, str], kind: ChargeKind, price: Price) -> Charge:
    side, partner, segment = key
    return Charge(
        at=now if kind is ChargeKind.ONCE else times.owed_at(order, now),
        side=side,
        partner=partner,
        service=order.id,
        segment=segment,
        kind=kind,
        price=price,
        agreement=order.terms.agreement,
        agreement_version=order.terms.version,
    )


def remaining(order: Order, now: datetime) -> float:
    """Seconds until the hold ends; 0 when it is not a hold."""
    if order.state is not ServiceState.RESERVED or order.expires is None:
        return 0.0
    return max(0.0, (order.expires - now).total_seconds())


def answer(order: Order, version: int, now: datetime) -> Reserved | Refused:
    """The recorded answer to the reservation of `version`."""
    if (refusal := order.refusals.get(version)) is not None:
        return Refused(ref=order.ref, version=version, reasons=_reasons(order, refusal.reasons))
    order = order.of(version) or order.beside or order
    if order.version != version or version <= order.released_upto or order.choice is None:
        newer = Reason(code=ReasonCode.VERSION_CONFLICT, message=f"version {order.version} came after it")
        ended = Reason(code=ReasonCode.VERSION_RELEASED, message="this version was ended by its owner")
        reason = newer if order.version > version else ended
        return Refused(ref=order.ref, version=version, reasons=(reason,))
    parts = _segments(order) if order.terms.show_segments else ()
    return Reserved(
        ref=order.ref,
        version=version,
        choice=order.choice,
        price=order.price,
        remaining_s=remaining(order, now),
        delay_us=order.delay_us,
        path_delays_us=order.path_delays_us,
        segments=tuple(p.all_in(ServiceState.RESERVED) for p in parts),  # the same for ever, whatever became of them
    )


def status(order: Order, now: datetime) -> ServiceStatus:
    """The service as its owner sees it."""
    return ServiceStatus(
        ref=order.ref,
        version=order.version,
        state=order.state,
        name=order.spec.name if order.spec else "",
        reference=order.spec.reference if order.spec else "",
        tags=order.spec.tags if order.spec else (),
        price=order.price,
        delay_us=order.delay_us,
        choice=order.choice,
        binding=order.bindings,
        remaining_s=remaining(order, now),
        reasons=_reasons(order, order.reasons) + untold(order),
        segments=tuple(_segments(order)) if order.terms.show_segments else (),
        create_time=order.created,
        update_time=order.updated,
        decisions=tuple(decision.told() for decision in order.decisions),
        newer=_newer(order.beside, now) if order.beside is not None else None,
        start_time=order.spec.start_time if order.spec else None,
        end_time=order.spec.end_time if order.spec else None,
        healing=_healing(order),
    )


def _healing(order: Order) -> Healing | None:
    told = ailing.told(order, order.terms.show_segments)
    return replace(told, reasons=_reasons(order, told.reasons)) if told is not None else None


def _newer(order: Order, now: datetime) -> NewerVersion:
    return NewerVersion(
        version=order.version,
        state=order.state,
        price=order.price,
        delay_us=order.delay_us,
        remaining_s=remaining(order, now),
        reasons=_reasons(order, order.reasons),
        segments=tuple(_segments(order)) if order.terms.show_segments else (),
        start_time=order.spec.start_time if order.spec else None,
        end_time=order.spec.end_time if order.spec else None,
    )


def _segments(order: Order) -> Iterator[SegmentStatus]:
    words = words_of(order.spec) if order.spec else frozenset()
    for segment in order.segments:
        if not segment.wanted and order.state in _SETTLED:
            continue
        failed = segment.reasons and segment.state in (SegmentState.REFUSED, SegmentState.FAILED)
        yield SegmentStatus(
            alias=segment.key,
            state=shown(order, segment),
            functions=tuple(f.id for f in segment.spec.functions),
            place=_place(order, segment.place),
            reasons=(wrapped(segment, ReasonCode.SEGMENT_REFUSED, words),) if failed else (),
            segments=tuple(_told(order, part, words) for part in segment.parts),
        )


def _told(order: Order, part: SegmentStatus, words: frozenset[str]) -> SegmentStatus:
    """A part of a part, its place and reasons in words that may go up."""
    return replace(
        part,
        place=_place(order, part.place),
        reasons=tuple(rewritten(r, words) for r in part.reasons),
        segments=tuple(_told(order, p, words) for p in part.segments),
    )


def _place(order: Order, ours: str) -> str:
    """Where a part is, in its owner's words: of a place that was not planned, none."""
    if order.terms.disclosure.abstraction is Abstraction.WHITE:
        return ours
    return ", ".join(sorted({order.words[place] for place in ours.split(", ") if place in order.words}))


def _reasons(order: Order, reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    return reasons if order.spec is None else for_customer(reasons, order.spec, order.terms.disclosure)
