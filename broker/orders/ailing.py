"""What of a live service is broken, or lost too often; why; and how far its healing is, for its owner. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from broker.orders.decisions import Decision
from broker.orders.reasons import words_of, wrapped
from broker.orders.records import Order, Segment
from broker.orders.states import SegmentState
from broker.orders.tasks import Env
from service_model.healing import HealPhase, HealPolicy
from service_model.managing import DecisionOutcome, ManagerTask, Remedy
from service_model.outcomes import Healing, Reason, ReasonCode, ServiceState

TRIES = 5
"""How many healings are begun until its owner asks for another."""
PAUSES = (timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))
"""How long after the n-th the next is begun, at least; after the last it counts as whole for long."""
BROKEN = frozenset({SegmentState.DEGRADED, SegmentState.FAILED})
LIVES = frozenset({SegmentState.ACTIVE, SegmentState.DEGRADED})


def broken(order: Order) -> tuple[Segment, ...]:
    """The segments of a live service that are not as they are to be."""
    return tuple(s for s in order.segments if s.wanted and s.state in BROKEN)


def unsteady(order: Order, env: Env) -> tuple[Segment, ...]:
    """The segments of a live service that were lost too often, whether they work now or not."""
    return tuple(s for s in order.segments if s.wanted and steady_at(s, env) is not None)


def steady_at(segment: Segment, env: Env) -> datetime | None:
    """When what was lost too often has held for long enough; None: it was not, or has."""
    live = segment.losses and segment.state in LIVES | BROKEN
    return env.flapping(segment.alias).until(segment.losses, env.now) if live else None


def why_degraded(order: Order, env: Env) -> tuple[Reason, ...]:
    """What is broken: where its supplier does not say what of it, every function that it has. What was lost too often, and how
    often."""
    words = words_of(order.spec) if order.spec is not None else frozenset[str]()
    out = []
    for segment in broken(order):
        reason = wrapped(segment, ReasonCode.SEGMENT_FAILED, words)
        functions = [f.id for f in segment.spec.functions] if not reason.subject else []
        out += [replace(reason, subject=id) for id in functions or [reason.subject]]
    for segment in unsteady(order, env):
        flapping = env.flapping(segment.alias)
        reason = wrapped(segment, ReasonCode.SEGMENT_FAILED, words, segment.reasons or (_WAS_LOST,))
        times = f"{flapping.lately(segment.losses, env.now)} times {flapping}"
        out.append(replace(reason, message=f"segment {segment.key} failed {times}"))
    return tuple(out)


_WAS_LOST = Reason(code=ReasonCode.INFRASTRUCTURE, message="it was lost, and came back")


def may(order: Order) -> bool:
    """Whether it is to be healed without another word of its owner's."""
    return order.care.agreed or (order.spec is not None and order.spec.healing.by_itself)


def ailing(order: Order, env: Env) -> tuple[Segment, ...]:
    """What is broken, and what is lost too often."""
    return tuple(s for s in order.segments if s.wanted and (s.state in BROKEN or steady_at(s, env) is not None))


def decided(order: Order) -> Decision | None:
    """What a manager decided of the healing that would begin now; None where it was not asked yet."""
    made = next((d for d in reversed(order.decisions) if d.task is ManagerTask.HEAL), None)
    return made if made is not None and not made.over else None


def waits_until(decision: Decision | None) -> datetime | None:
    """Until when it puts the healing off."""
    if decision is None or not isinstance(decision.choice, Remedy) or not decision.choice.wait_s:
        return None
    return decision.at + timedelta(seconds=decision.choice.wait_s)


def told(order: Order, shows_segments: bool) -> Healing | None:
    """How far its healing is, for its owner; None where nothing is broken, nor is lost too often."""
    bad = tuple(s for s in order.segments if s.wanted and (s.state in BROKEN or s.key in order.care.broken))
    former = order.healing
    degraded = order.state is ServiceState.DEGRADED and (bad or order.being_healed)
    if not degraded and not (order.state is ServiceState.ACTIVE and order.care.broken):
        return None
    phase = HealPhase.PENDING if order.care.tries < TRIES else HealPhase.GIVEN_UP
    if order.being_healed:
        phase = HealPhase.UNDER_WAY
    elif not may(order):
        asks = order.spec is not None and order.spec.healing is HealPolicy.ASK
        phase = HealPhase.WAITING if asks else HealPhase.LEFT
    elif (decision := decided(order)) is not None and decision.outcome is DecisionOutcome.REFUSED:
        phase = HealPhase.LEFT
    elif not order.care.tries and any(s.heals is not None and s.heals.phase is HealPhase.UNDER_WAY for s in bad):
        phase = HealPhase.UNDER_WAY  # by who delivers it
    rests = order.care.last + PAUSES[order.care.tries - 1] if order.care.last and order.care.tries else None
    rests = waits_until(decided(order)) or rests
    return Healing(
        phase=phase,
        broken=tuple(s.key for s in bad) if shows_segments else (),
        tries=order.care.tries,
        next_time=rests if phase is HealPhase.PENDING else None,
        reasons=former.reasons if former is not None and not order.being_healed else (),
    )
