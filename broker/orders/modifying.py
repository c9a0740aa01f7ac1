"""The tasks that bring a newer version in beside a live one: rebind, bring_in, built, undo. Pure.

Rules kept here
- First what is new is committed and built, at places where nothing of the service was. Only then is what is changed committed,
  so that the live version carries its traffic until the newer one's parts are there.
- Until the first commit of what is changed, a modification that fails is taken back whole: what it had is ended, and the live
  version is as it was. From then on it goes forward only: a part that fails then is told, and the service is DEGRADED.
- What is kept is told nothing new. Where its neighbours' values differ after all, it is held in a next version, before
  anything is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from broker.orders.delivering import EXTEND_BELOW, bindings_of
from broker.orders.reasons import words_of, wrapped
from broker.orders.records import Order, Segment, remains
from broker.orders.states import Event, SegmentState
from broker.orders.tasks import Call, CallKind, Env, Pause, abandon, repeat, task
from service_model.outcomes import ReasonCode

_LIVE = frozenset({SegmentState.COMMITTED, SegmentState.ACTIVE, SegmentState.DEGRADED})
_UNHELD = frozenset({SegmentState.REFUSED, SegmentState.RELEASING, SegmentState.RELEASED})


@task
def rebind(order: Order, env: Env) -> Order | Pause:
    """What is kept, and is to be told other values of its neighbours, is held in a next version."""
    calls, waits = [], []
    again = [s for s in order.segments if s.wanted and s.stands]
    if not_held := [s for s in again if s.state in _UNHELD or _differs(s, env)]:
        return given_up(order, not_held)
    for segment in again:
        if segment.kept:
            if bindings_of(order, segment) == segment.bindings:
                continue
            segment = replace(
                segment,
                state=SegmentState.RESERVING,
                version=segment.next_version,
                asked=segment.body(),
                attempts=0,
                retry_at=None,
                bindings=None,
            )
        elif segment.state is not SegmentState.RESERVING:
            continue
        elif segment.retry_at is not None and segment.retry_at > env.now:
            waits.append(segment.retry_at)
            continue
        order = order.with_segment(replace(segment, retry_at=None))
        calls.append(Call(CallKind.RESERVE, segment.key, segment.version))
    if calls:
        return Pause(order, tuple(calls))
    return Pause(order, wake=min(waits)) if waits else order


def _differs(segment: Segment, env: Env) -> bool:
    """Whether what was asked for as it is live is held otherwise."""
    assert env.live is not None, "a modification is of something live"
    ref = (segment.alias, segment.ref)
    live = next((s for s in env.live.segments if (s.alias, s.ref) == ref and s.spec == segment.spec), None)
    return segment.state is SegmentState.HELD and live is not None and live.choice != segment.choice


@task
def bring_in(order: Order, env: Env) -> Order | Pause:
    """Commit what is new and wait until it is built; then commit what is changed."""
    asked = [s for s in order.segments if s.wanted and not s.kept]
    new, changed = [s for s in asked if not s.stands], [s for s in asked if s.stands]
    begun = any(s.state is not SegmentState.HELD for s in changed)
    if not begun and (failed := [s for s in new if s.state is SegmentState.FAILED]):
        return given_up(order, failed)
    result = _commit(order, env, new)
    if result is not order:
        return result
    if not begun and (changed or order.healed) and any(s.state is SegmentState.COMMITTED for s in new):
        return _waiting(order, env, changed)
    result = _commit(order, env, changed)
    if result is not order:
        return result
    failed = [s for s in asked if s.state is SegmentState.FAILED]
    if failed and not any(s.state in _LIVE for s in changed):
        return given_up(order, failed)
    return replace(order, expires=None, confirmed=True).on(Event.COMMITTED)


def _commit(order: Order, env: Env, some: Iterable[Segment]) -> Order | Pause:
    keys = {s.key for s in some if s.state is not SegmentState.FAILED and s.state not in _LIVE}
    return repeat(order, env, CallKind.COMMIT, SegmentState.COMMITTING, lambda s: s.key in keys)


def _waiting(order: Order, env: Env, changed: Iterable[Segment]) -> Pause:
    """Until what is new is built; the holds of what is changed are prolonged meanwhile."""
    wakes = []
    for segment in changed:
        if segment.expires is None:
            continue
        if segment.expires - env.now >= EXTEND_BELOW:
            order = order.with_segment(replace(segment, extended=False))
            wakes.append(segment.expires - EXTEND_BELOW / 2)
    return Pause(order, wake=min(wakes, default=None))


@task
def built(order: Order, env: Env) -> Order | Pause:
    """In the live version's place as soon as each part is active, or has failed to be."""
    if any(s.state is SegmentState.COMMITTED for s in order.segments if s.wanted and not s.kept):
        return Pause(order)
    return order.on(Event.ACTIVATED)


def given_up(order: Order, failed: Iterable[Segment]) -> Order:
    """The modification is not made; what it has is ended, and nothing else."""
    words = words_of(order.spec) if order.spec is not None else frozenset[str]()
    reasons = tuple(wrapped(s, ReasonCode.SEGMENT_FAILED, words) for s in failed)
    return replace(abandon(order), reasons=reasons).on(Event.FAIL)


@task
def undo(order: Order, env: Env) -> Order | Pause:
    """End what was new, and release what was held beside what is live."""

    def released(order: Order) -> Order | Pause:
        return repeat(order, env, CallKind.RELEASE, SegmentState.RELEASING, lambda s: remains(s) and s.stands > 0)

    def ended(order: Order) -> Order | Pause:
        def leaves(segment: Segment) -> bool:
            return remains(segment) and not segment.stands and segment.state is not SegmentState.LEAVING

        return repeat(order, env, CallKind.TERMINATE, SegmentState.TERMINATING, leaves)

    def looked(order: Order) -> Order | Pause:
        return repeat(order, env, CallKind.LOOK, SegmentState.LEAVING, lambda s: s.state is SegmentState.LEAVING)

    return _together(order, released, ended, looked)


def _together(order: Order, *steps: Callable[[Order], Order | Pause]) -> Order | Pause:
    """All steps at once: none waits for another's answers."""
    calls, wakes = list[Call](), []
    for step in steps:
        result = step(order)
        if isinstance(result, Pause):
            order, calls = result.order, [*calls, *result.calls]
            wakes += [result.wake] if result.wake is not None else []
        else:
            order = result
    if calls or wakes:
        return Pause(order, tuple(calls), min(wakes, default=None))
    return order
