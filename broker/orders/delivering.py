"""The tasks after a reservation: prolong, bind, extend, commit, activate, degrade, recover; and what the answers of
suppliers change.

Rules kept here
- A commit goes forward only: bindings are recorded before the first call and never change for a version.
- One segment that refuses its commit or fails before the service was active ends the whole: the customer never keeps half a
  service, and is told per segment what happened.
- An answer counts for the version that was asked, and for nothing else.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from broker.orders.ailing import broken, unsteady, why_degraded
from broker.orders.flapping import lost
from broker.orders.gather import binding, violation
from broker.orders.healing import recovered
from broker.orders.reasons import words_of, wrapped
from broker.orders.records import Heals, Order, Segment
from broker.orders.reserving import parts_of
from broker.orders.states import Event, SegmentState
from broker.orders.tasks import GUARD, Call, CallKind, Env, Pause, Track, ending, repeat, retry_at, task
from broker.orders.times import about_to_end
from lower_sp_clients.supplier import Overloaded
from service_model.healing import HealPhase
from service_model.outcomes import (
    Bindings,
    Committed,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
)
from service_model.port_names import misnamed
from service_model.replacing import replace

EXTEND_BELOW = timedelta(seconds=20)
"""A child's hold that ends sooner is prolonged before the decision to commit is recorded."""
ERROR_LENGTH = 300
_DONE = frozenset({SegmentState.COMMITTED, SegmentState.ACTIVE, SegmentState.DEGRADED})


@task
def prolong(order: Order, env: Env) -> Order | Pause:
    """Ask for longer holds below because the owner wants a longer one, which then ends before the first of them."""
    if order.extending is None:
        return order
    mine = [s for s in order.segments if s.wanted and s.state is SegmentState.HELD]
    if (
        order.expires is None or order.expires <= env.now
    ):  # too late: what was prolonged below is released with the rest
        return replace(order, extending=None)
    calls = tuple(Call(CallKind.EXTEND, s.key, s.version) for s in mine if not s.extended)
    if calls:
        return Pause(order, calls)
    ends = [s.expires - GUARD for s in mine if s.expires is not None]
    until = max(order.expires, min([order.extending, *ends]))
    asked_anew = tuple(replace(s, extended=False) for s in order.segments)
    return replace(order, extending=None, expires=until, segments=asked_anew)


def extension_s(order: Order, now: datetime) -> float:
    """For how many seconds from now a supplier is to hold its part: for ours and a guard, or as long as we may."""
    if order.extending is None:
        return float(order.terms.max_hold_s)
    return (order.extending - now + GUARD).total_seconds()


@task
def bind(order: Order, env: Env) -> Order | Pause:
    """Tell each segment the values of its neighbours; immutable from here on."""
    if all(s.bindings for s in order.segments if s.wanted):
        return order
    for segment in order.segments:
        if segment.wanted and not segment.bindings and (bound := bindings_of(order, segment)) is not None:
            order = order.with_segment(replace(segment, bindings=bound))
    return order


def bindings_of(order: Order, segment: Segment) -> Bindings | None:
    """What a segment of a committed order is told; None where something of it is not known."""
    if order.spec is None or order.bindings is None or segment.choice is None:
        return None
    part = next(p for p in parts_of(order).segments if p.key == segment.key)
    return binding(order.spec, part, segment.choice, order.bindings)


@task
def extend(order: Order, env: Env) -> Order | Pause:
    """Prolong holds that might end while we commit."""
    calls = []
    for segment in order.segments:
        ends_soon = segment.expires is not None and segment.expires - env.now < EXTEND_BELOW
        if segment.state is SegmentState.HELD and segment.wanted and ends_soon and not segment.extended:
            calls.append(Call(CallKind.EXTEND, segment.key, segment.version))
    return Pause(order, tuple(calls)) if calls else order


@task
def commit(order: Order, env: Env) -> Order | Pause:
    """Commit every segment at once, until each supplier has answered."""
    if any(s.state is SegmentState.FAILED for s in order.segments if s.wanted):
        return _fail(order)
    result = repeat(
        order,
        env,
        CallKind.COMMIT,
        SegmentState.COMMITTING,
        lambda s: s.wanted and s.state not in _DONE,
    )
    if result is not order:
        return result
    return replace(order, expires=None, confirmed=True).on(Event.COMMITTED)


def _fail(order: Order) -> Order:
    assert order.spec is not None
    words = words_of(order.spec)
    reasons = tuple(
        wrapped(s, ReasonCode.SEGMENT_FAILED, words) for s in order.segments if s.state is SegmentState.FAILED
    )
    return replace(ending(order), reasons=reasons).on(Event.FAIL)


@task
def activate(order: Order, env: Env) -> Order | Pause:
    """Active when every segment is; failed when one cannot be."""
    mine = [s for s in order.segments if s.wanted]
    if any(s.state is SegmentState.FAILED for s in mine):
        return order if about_to_end(order, env.now) else _fail(order)
    if all(s.state in (SegmentState.ACTIVE, SegmentState.DEGRADED) for s in mine):
        return order.on(Event.ACTIVATED)
    return order


@task
def degrade(order: Order, env: Env) -> Order | Pause:
    """A part that failed or is degraded degrades the whole."""
    if not broken(order) or about_to_end(order, env.now):
        return order
    return replace(order, reasons=why_degraded(order, env)).on(Event.DEGRADE)


@task
def recover(order: Order, env: Env) -> Order | Pause:
    """Active again when every part is, and the matter ends, unless one of them is lost too often; else what is broken is told as
    it is now."""
    if all(s.state is SegmentState.ACTIVE for s in order.segments if s.wanted):
        whole = order if unsteady(order, env) else recovered(order, env.now)
        return replace(whole, reasons=why_degraded(whole, env)).on(Event.RECOVER)
    return order if (reasons := why_degraded(order, env)) == order.reasons else replace(order, reasons=reasons)


# what answers change

Result = Reserved | Refused | Committed | ServiceStatus | None | Exception


def fold(order: Order, call: Call, result: Result, sent: datetime, now: datetime) -> Order:
    """The order after the answer to `call`, which was sent at `sent`. An exception: the outcome is not known, or, Overloaded,
    the call was not looked at. None is the
    answer of a call that has none, and of LOOK where the supplier knows no such service."""
    segment = order.segment(call.segment)
    if segment is None or segment.version != call.version:
        return order
    if call.kind is CallKind.EXTEND:  # asked once: a hold that is not known to be longer is as long as it was
        segment = replace(segment, extended=True)
    if segment.state is SegmentState.ABANDONED:  # given up while the call was under way
        return order
    if isinstance(result, Overloaded):  # when it said; that is no attempt
        at, error = now + timedelta(seconds=result.retry_after_s), str(result)
        return order.with_segment(replace(segment, retry_at=at, error=error))
    if isinstance(result, Exception):
        attempts = segment.attempts + 1
        at = retry_at(now, attempts, order.state)
        error = str(result)[:ERROR_LENGTH] if segment.ending_since is not None else ""
        return order.with_segment(replace(segment, attempts=attempts, retry_at=at, error=error))
    if call.kind is CallKind.LOOK:
        return _looked(order, segment, result, now)
    segment = replace(segment, attempts=0, retry_at=None, error="")
    if call.kind is CallKind.TERMINATE:  # it tells when it is gone; if not, it is asked
        since = segment.ending_since if order.state is ServiceState.STUCK else now  # it agreed, and has its time for it
        segment = replace(segment, retry_at=retry_at(now, 0), ending_since=since)
    return order.with_segment(_FOLDS[call.kind](segment, result, sent))


def _reserved(segment: Segment, result: Result, sent: datetime) -> Segment:
    if segment.state is not SegmentState.RESERVING:
        return segment
    if isinstance(result, Refused):
        return replace(segment, state=SegmentState.REFUSED, reasons=result.reasons)
    assert isinstance(result, Reserved)
    wrong = violation(segment.spec, result.choice) or _misnamed(segment, result)
    if wrong is not None:  # released at once, and judged as a refusal
        return replace(segment, state=SegmentState.RELEASING, reasons=(wrong,))
    return replace(
        segment,
        state=SegmentState.HELD,
        choice=result.choice,
        price=result.price,
        delay_us=result.delay_us,
        path_delays_us=result.path_delays_us,
        parts=result.segments,
        expires=sent + timedelta(seconds=result.remaining_s),
        extended=False,
        lingers=False,
        bindings=None,
    )


def _misnamed(segment: Segment, result: Reserved) -> Reason | None:
    found = misnamed(result.choice, segment.ref)
    if found is None:
        return None
    return Reason(code=ReasonCode.CONSTRAINT_VIOLATED, message=f"{found[0]!r}: {found[1]}", subject=found[0])


def _extended(segment: Segment, result: Result, sent: datetime) -> Segment:
    if isinstance(result, Reserved) and segment.state is SegmentState.HELD:
        return replace(segment, expires=sent + timedelta(seconds=result.remaining_s))
    return segment


def _committed(segment: Segment, result: Result, sent: datetime) -> Segment:
    if segment.state is not SegmentState.COMMITTING:
        return segment
    if isinstance(result, Refused):
        return replace(segment, state=SegmentState.FAILED, reasons=result.reasons, lives=segment.stands)
    parts = tuple(part.all_in(ServiceState.ACTIVATING) for part in segment.parts)
    return replace(segment, state=SegmentState.COMMITTED, expires=None, parts=parts)


def _released(segment: Segment, result: Result, sent: datetime) -> Segment:
    if segment.state is not SegmentState.RELEASING:
        return segment
    return replace(segment, state=SegmentState.RELEASED, lingers=False, ending_since=None)


def _terminated(segment: Segment, result: Result, sent: datetime) -> Segment:
    return replace(segment, state=SegmentState.LEAVING) if segment.state is SegmentState.TERMINATING else segment


def _consented(segment: Segment, result: Result, sent: datetime) -> Segment:
    return replace(segment, consented=True)


def _looked(order: Order, segment: Segment, result: Result, now: datetime) -> Order:
    if segment.state is not SegmentState.LEAVING:
        return order
    if isinstance(result, ServiceStatus):
        order = observe(order, segment.key, result, now)
        segment = order.segment(segment.key) or segment
    elif result is None:
        segment = _gone(segment)
    if segment.state is SegmentState.LEAVING:
        attempts = segment.attempts + 1
        says = f"its supplier says {result.state.short}" if isinstance(result, ServiceStatus) else ""
        segment = replace(segment, attempts=attempts, retry_at=retry_at(now, attempts, order.state), error=says)
    return order.with_segment(segment)


def _gone(segment: Segment) -> Segment:
    ended = replace(segment, state=SegmentState.TERMINATED, lingers=False, attempts=0, retry_at=None)
    return replace(ended, ending_since=None, error="")


_FOLDS = {
    CallKind.RESERVE: _reserved,
    CallKind.EXTEND: _extended,
    CallKind.COMMIT: _committed,
    CallKind.RELEASE: _released,
    CallKind.TERMINATE: _terminated,
    CallKind.HEAL: _consented,
}

_SEEN: dict[ServiceState, SegmentState] = {
    ServiceState.ACTIVE: SegmentState.ACTIVE,
    ServiceState.DEGRADED: SegmentState.DEGRADED,
    ServiceState.FAILED: SegmentState.FAILED,
}
_OURS_LIVE = frozenset(
    {SegmentState.COMMITTING, SegmentState.COMMITTED, SegmentState.ACTIVE, SegmentState.DEGRADED, SegmentState.FAILED}
)


def observed(order: Order, alias: str, ref: str, status: ServiceStatus, now: datetime) -> Order:
    """The order, whichever of its versions it concerns, after seeing a supplier's status of what it has under a ref, at `now`."""
    for track in Track:
        if (part := track.part(order)) is not None:
            for key in [s.key for s in part.segments if (s.alias, s.ref) == (alias, ref)]:
                changed = observe(part, key, status, now)
                if changed is not part:
                    part, order = changed, track.put(order, changed)
    return order


def vanished(order: Order, alias: str, ref: str, now: datetime) -> Order:
    """The order after its supplier said not to know what is live there."""
    for key in [s.key for s in order.segments if (s.alias, s.ref) == (alias, ref) and s.state in _DONE]:
        gone = Reason(code=ReasonCode.INFRASTRUCTURE, message="not known to its supplier any more")
        segment = order.segment(key)
        assert segment is not None, "it is one of the order's"
        failed = replace(segment, state=SegmentState.FAILED, reasons=(gone,))
        order = order.with_segment(_counted(segment, failed, now))
    return order


def observe(order: Order, key: str, status: ServiceStatus, now: datetime) -> Order:
    """The order after seeing a supplier's status of one segment. What is told of another version than the one that was
    asked for last is old, or not ours; only that the whole has ended counts whatever its version."""
    segment = order.segment(key)
    if segment is None or (status.version != segment.version and status.state is not ServiceState.TERMINATED):
        return order
    over = status.state in (ServiceState.TERMINATED, ServiceState.EXPIRED, ServiceState.STUCK)
    heals = Heals(phase=status.healing.phase, tries=status.healing.tries) if status.healing is not None else None
    changed = replace(segment, parts=status.segments, heals=heals)
    if segment.state in (SegmentState.TERMINATING, SegmentState.LEAVING):
        if status.state is ServiceState.TERMINATED:
            changed = _gone(changed)
        elif order.state is ServiceState.STUCK:  # it is back: it is asked at once
            changed = replace(changed, retry_at=None)
    elif segment.state in _OURS_LIVE and status.state in _SEEN:
        was_lost = segment.reasons if segment.losses and status.state is ServiceState.ACTIVE else ()
        changed = replace(changed, state=_SEEN[status.state], reasons=status.reasons or was_lost)
    elif segment.state in _OURS_LIVE and segment.state is not SegmentState.COMMITTING and over:
        reason = Reason(code=ReasonCode.INFRASTRUCTURE, message="ended by its supplier")
        changed = replace(changed, state=SegmentState.FAILED, reasons=(reason,))
    changed = _counted(segment, changed, now)
    return order.with_segment(changed) if changed != segment else order


def _counted(before: Segment, after: Segment, now: datetime) -> Segment:
    """The segment with its losses: one more where it worked until now; none where its supplier has bought it elsewhere."""
    if before.state is SegmentState.ACTIVE and after.state in (SegmentState.DEGRADED, SegmentState.FAILED):
        return replace(after, losses=lost(before.losses, now))
    was_bought = before.heals is not None and before.heals.phase is HealPhase.UNDER_WAY
    if was_bought and after.heals is None and after.state is SegmentState.ACTIVE:
        return replace(after, losses=(), reasons=())
    return after
