"""The tasks that heal a live service: lose, consent, heal, confirm. Pure.

Rules kept here
- Lost is what its supplier says to have failed or not to have any more, and all that a supplier has which was not heard of for so
  long that it counts as dead. What is only degraded is given time: its supplier is nearer to it, and may heal it by itself.
- What is lost too often (`flapping`) counts as lost though it works, until it has held for long enough or is bought elsewhere.
  The service's state is as its parts are.
- A healing is the live version once more (`succession`): planned around what was lost, with everything else where it is. It
  takes no version of its owner's, and no decision of his but the one that it may be.
- The owner pays what he pays. What it comes to cost us more is bounded by what he pays and by the agreement.
- One change at a time: while a newer version is reserved, held or brought in, that goes first.
- A healing that cannot be had leaves everything as it is, and is tried again ever more rarely, TRIES times. Recovery ends it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from operator import or_

from broker.decompose.plan import Avoid
from broker.orders import learning
from broker.orders.ailing import BROKEN, LIVES, PAUSES, TRIES, ailing, may, steady_at
from broker.orders.decisions import Decision
from broker.orders.flapping import lost
from broker.orders.gather import whole
from broker.orders.records import UNDER_WAY, Care, Order, Quoted, Segment, remains
from broker.orders.states import Event, SegmentState
from broker.orders.succession import with_healing
from broker.orders.tasks import Call, CallKind, Env, Pause, abandon, task
from service_model.healing import HEALING, HealPhase
from service_model.managing import DecisionOutcome, ManagerTask
from service_model.money import Price
from service_model.outcomes import Reason, ReasonCode, ServiceState

GIVES_UP = 5
"""Who says to be healing its part is waited for so many times as long as who says nothing."""
PATIENCE = timedelta(seconds=30)
"""How long it may take to hold what a healing needs."""
_WAITS = frozenset({HealPhase.WAITING, HealPhase.LEFT})
_RESTS = _WAITS | {HealPhase.GIVEN_UP}
_BEING_BROUGHT_IN = frozenset({SegmentState.COMMITTING, SegmentState.COMMITTED})


@task
def lose(order: Order, env: Env) -> Order | Pause:
    """What a dead supplier has counts as failed, until it is heard of again."""
    mine = _BEING_BROUGHT_IN if order.newer else LIVES
    for segment in order.segments:
        there = segment.state in mine or segment.lives > 0
        if segment.wanted and not segment.kept and there and env.dead(segment.alias):
            gone = replace(segment, state=SegmentState.FAILED, reasons=(_UNHEARD,), retry_at=None, lives=0)
            worked = segment.state is SegmentState.ACTIVE
            order = order.with_segment(replace(gone, losses=lost(segment.losses, env.now)) if worked else gone)
    return order


_UNHEARD = Reason(code=ReasonCode.SUPPLIER_UNREACHABLE, message="its supplier is not heard of any more", retryable=True)


@task
def consent(order: Order, env: Env) -> Order | Pause:
    """Who may heal by itself, or was asked to, tells that to the suppliers that wait for a word of ours."""
    end = order.spec.end_time if order.spec is not None else None
    if not may(order) or (end is not None and end <= env.now):
        return order
    calls, waits = list[Call](), [end] if end is not None else []
    due = False
    for segment in ailing(order, env):
        waiting = segment.heals is not None and segment.heals.phase in (_RESTS if order.care.agreed else _WAITS)
        if segment.consented or not waiting or not _asks(segment, env):
            continue
        due = True
        if segment.retry_at is not None and segment.retry_at > env.now:
            waits.append(segment.retry_at)
            continue
        order = order.with_segment(replace(segment, retry_at=None))
        calls.append(Call(CallKind.HEAL, segment.key, segment.version))
    return Pause(order, tuple(calls), min(waits, default=None)) if due else order


def _asks(segment: Segment, env: Env) -> bool:
    """Whether its supplier lets itself be asked to heal."""
    note = next((view.note for view in env.snapshot.suppliers if view.alias == segment.alias), None)
    return note is not None and HEALING in note.api_features and segment.state in LIVES


@task
def heal(order: Order, env: Env) -> Order | Pause:
    """What is lost, or was too often, is bought elsewhere: by itself, or as its owner asked, and after who is nearer to it."""
    end = order.spec.end_time if order.spec is not None else None
    if end is not None and end <= env.now:
        return order
    bad = ailing(order, env)
    if not bad and order.state is ServiceState.ACTIVE:
        return _calmed(order, env.now)
    order = replace(order, care=care) if (care := _seen(order, bad, env)) != order.care else order
    idle = order if order.state is ServiceState.DEGRADED else rest(order, env)
    if not may(order) or order.being_healed or (order.beside is not None and order.beside.state in UNDER_WAY):
        return idle
    if _ends(order.healing) or _ends(order.beside) or order.care.tries >= TRIES:
        return idle
    if order.plan is None or order.choice is None:  # of a release that recorded no such plan
        return idle
    rests = order.care.last + PAUSES[order.care.tries - 1] if order.care.last and order.care.tries else env.now
    due = {s.key: max(rests, _due(order, s, env)) for s in bad}
    if not due or min(due.values()) > env.now:
        return rest(order, env, *due.values())
    return _begun(order, env, tuple(s for s in bad if due[s.key] <= env.now or s.state is SegmentState.FAILED))


def rest(order: Order, env: Env, *until: datetime) -> Pause:
    """Nothing is done until the first of these instants that is to come, or until what was lost too often has held for long
    enough, or the service ends by itself."""
    end = order.spec.end_time if order.spec is not None else None
    steady = (steady_at(s, env) for s in order.segments if s.wanted)
    wakes = [at for at in (*until, *steady, end) if at is not None and at > env.now]
    return Pause(order, wake=min(wakes, default=None))


def _calmed(order: Order, now: datetime) -> Order:
    """What was lost too often has held for long enough, or is bought elsewhere."""
    if not (order.care.broken or order.care.agreed):
        return order
    return replace(recovered(order, now), reasons=())


def _seen(order: Order, bad: tuple[Segment, ...], env: Env) -> Care:
    """Its care with what is broken now, and since when."""
    care = order.care
    if care.tries and care.last is not None and not care.broken and env.now - care.last >= PAUSES[-1]:
        care = replace(care, tries=0)  # it was whole for long
    care = replace(care, broken={s.key: care.broken.get(s.key, env.now) for s in bad})
    if care.early and any(_lasts(replace(order, care=care), s, env) for s in bad):
        return replace(care, tries=0, early=False)  # tries for what came back say nothing of what does not
    return care


def _lasts(order: Order, segment: Segment, env: Env) -> bool:
    """Whether it would be bought elsewhere too if it had never been lost before."""
    return segment.state in BROKEN and _patience_ends(order, segment, env) <= env.now


def _ends(former: Order | None) -> bool:
    """Whether something of a version that was not brought in is still to be given back, under a ref that is live."""
    return former is not None and any(s.stands and remains(s) for s in former.segments)


def _due(order: Order, segment: Segment, env: Env) -> datetime:
    """When it is bought elsewhere: what was lost too often at once, unless its supplier says that it heals it."""
    if segment.heals is None and steady_at(segment, env) is not None:
        return order.care.broken[segment.key]
    return _patience_ends(order, segment, env)


def _patience_ends(order: Order, segment: Segment, env: Env) -> datetime:
    """When what is broken is bought elsewhere: at once, where its supplier has failed it, or failed to heal it."""
    since = max((order.care.broken[segment.key], *segment.losses[-1:]))
    if segment.state is SegmentState.FAILED:
        return since
    heals = segment.heals
    if heals is not None and heals.tries and not heals.under_way:
        return since
    wait = env.heal_after(segment.alias)
    return since + (wait * GIVES_UP if heals is not None and heals.under_way else wait)


def _begun(order: Order, env: Env, gone: tuple[Segment, ...]) -> Order:
    """The order with what is to heal it: the live version once more, around what is lost."""
    assert order.spec is not None, "what is live was asked for"
    early = (order.care.early or not order.care.tries) and not any(_lasts(order, s, env) for s in gone)
    care = replace(order.care, tries=order.care.tries + 1, last=env.now, early=early)
    fresh = Order(
        id=order.id,
        account=order.account,
        ref=order.ref,
        version=order.version,
        state=ServiceState.RESERVING,
        created=order.created,
        updated=env.now,
        epoch=order.epoch,
        digest=order.digest,
        spec=order.spec,
        terms=order.terms,
        quoted=_bearable(order),
        hop_budget=order.hop_budget,
        call_budget=order.call_budget,
        trace=order.trace,
        deadline=env.now + PATIENCE,
        words=order.words,
        decisions=order.decisions,
        healed=order.heals + 1,
        lost=frozenset(s.ref for s in gone),
        avoid=reduce(or_, (_learnt(order, s, env) for s in gone), _unanswered(order, env)),
    )
    return replace(with_healing(order, fresh), heals=order.heals + 1, care=care)


def _bearable(order: Order) -> Quoted:
    """What it may cost us: as if what its owner pays had been quoted for it."""
    assert order.plan is not None, "what is live was planned"
    if order.healed and order.quoted is not None:
        return replace(order.quoted, plan=order.plan)
    hours = order.spec.term_hours if order.spec is not None else 1
    most = max(order.price.over(hours), order.cost.over(hours)) * (1 + order.terms.heal_loss)
    bearable = Price(once=most, currency=order.price.currency)
    return Quoted(
        id="",
        account=order.account,
        digest="",
        price=order.price,
        delay_us=order.delay_us,
        until=order.created,
        plan=order.plan,
        cost=bearable,
        parts={},
    )


def _learnt(order: Order, segment: Segment, env: Env) -> Avoid:
    """Where not to plan again: with a dead supplier, nowhere; else what its supplier names, as where it refuses."""
    if env.dead(segment.alias):
        return _closed(order, segment.alias, env)
    if segment.lives:  # only a change of it was refused: it is asked for again
        return Avoid()
    return learning.refused(segment.alias, segment.spec, segment.reasons)


def _closed(order: Order, alias: str, env: Env) -> Avoid:
    """All of a supplier."""
    functions = [f.id for f in order.spec.functions] if order.spec is not None else []
    saps = [sap.id for view in env.snapshot.suppliers if view.alias == alias for sap in view.note.saps]
    return Avoid(functions=frozenset((alias, f) for f in functions), saps=frozenset((alias, sap) for sap in saps))


def _unanswered(order: Order, env: Env) -> Avoid:
    """Suppliers that are not heard of just now, or left a former healing without an answer: nothing new is asked of them."""
    former = order.healing.segments if order.healing is not None else ()
    mute = {s.alias for s in former if remains(s) and not s.stands}
    mute |= {view.alias for view in env.snapshot.suppliers if env.silent(view.alias)}
    mine = {s.alias: {f.id for f in s.spec.functions} for s in order.segments if s.wanted}
    out = Avoid()
    for alias in sorted(mute):
        if alias not in mine:
            out |= _closed(order, alias, env)
        elif order.spec is not None:
            moved = frozenset((alias, f.id) for f in order.spec.functions if f.id not in mine[alias])
            out |= Avoid(functions=moved)
    return out


@task
def confirm(order: Order, env: Env) -> Order | Pause:
    """A healing is committed as soon as all of it is held: its owner keeps what he was told."""
    assert env.live is not None, "a healing is of something live"
    assert order.choice is not None, "what is held was chosen"
    told = env.live.bindings if env.live.bindings is not None else order.choice
    return replace(order, bindings=whole(order.choice, told), was_live=True).on(Event.COMMIT)


def recovered(order: Order, now: datetime) -> Order:
    """The live version is whole again: what was to heal it is not needed, unless it is being brought in already."""
    order = undecided(replace(order, care=replace(order.care, broken={}, agreed=False)), "whole again", now)
    segments = tuple(replace(s, consented=False) if s.consented else s for s in order.segments)
    order, healing = replace(order, segments=segments), order.healing
    if healing is None:
        return order
    if healing.state in (ServiceState.RESERVING, ServiceState.RESERVED):
        return replace(order, healing=abandon(healing).on(Event.RELEASE))
    over = healing.state not in UNDER_WAY and not any(map(remains, healing.segments))
    return replace(order, healing=None) if over else order


def undecided(order: Order, why: str, now: datetime) -> Order:
    """What a manager decided or is being asked of its healing counts no more."""
    over = tuple(replace(d, over=True) if d.task is ManagerTask.HEAL else d for d in order.decisions)
    if (asked := order.asked) is not None and asked.task is ManagerTask.HEAL:
        unheard = Decision(
            at=now,
            manager=asked.manager,
            task=asked.task,
            number=asked.number,
            outcome=DecisionOutcome.DEFAULT,
            detail=why,
            over=True,
        )
        return replace(order, asked=None, decisions=(*over, unheard))
    return replace(order, decisions=over) if over != order.decisions else order


def asked_for(order: Order, now: datetime) -> Order:
    """Its owner wants it healed, whatever its policy and its manager say, and now."""
    order = undecided(order, "its owner asked for it", now)
    segments = tuple(replace(s, consented=False) if s.consented else s for s in order.segments)
    return replace(order, segments=segments, care=Care(agreed=True))
