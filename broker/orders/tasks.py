"""The tasks that orders are made of, and the workflows that are schedules of them. Pure.

Theory of operation
- A task looks at an order and either leaves it, changes it, or pauses it: for calls, for time, or for a plan. It never
  calls itself.
- `advance` runs the tasks of the order's state from the first again and again until one pauses or none changes anything.
  Because every task starts from what is recorded, running them after a crash is running them.
- A call's intent is a change of the order (a segment RESERVING, COMMITTING, …); the engine records it before it calls.
- Extending the broker means one registered task and its place in a schedule. Plugins and managers have theirs in it too
  (`schedules`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

from broker.decompose.lexicon import Lexicon
from broker.decompose.plan import Avoid, Infeasible, Plan, Snapshot
from broker.orders.flapping import Flapping
from broker.orders.records import UNDER_WAY, Order, Segment, Terms
from broker.orders.records import remains as remains
from broker.orders.states import Event, SegmentState
from broker.orders.succession import absorbed, settled
from broker.orders.times import end_of
from service_model.outcomes import Reason, ReasonCode, ServiceState
from service_model.replacing import replace
from service_model.spec import ServiceSpec
from service_model.words import Prefix


class CallKind(Enum):
    RESERVE = "reserve"
    EXTEND = "extend"
    COMMIT = "commit"
    RELEASE = "release"
    TERMINATE = "terminate"
    LOOK = "look"
    HEAL = "heal"


class Track(Enum):
    """Which of an order's versions something is about: its own, the newer one beside it, what is past, or what heals it."""

    LIVE = ""
    BESIDE = "beside"
    HEALING = "healing"
    PAST = "past"

    def part(self, order: Order) -> Order | None:
        """That version."""
        match self:
            case Track.LIVE:
                return order
            case Track.BESIDE:
                return order.beside
            case Track.HEALING:
                return order.healing
            case Track.PAST:
                return order.past

    def put(self, order: Order, part: Order) -> Order:
        """The order with that version as it is now."""
        match self:
            case Track.LIVE:
                return part
            case Track.BESIDE:
                return replace(order, beside=part)
            case Track.HEALING:
                return replace(order, healing=part)
            case Track.PAST:
                return replace(order, past=part)


@dataclass(frozen=True, slots=True)
class Call:
    """One call to one supplier, to be made after the order was recorded."""

    kind: CallKind
    segment: str
    version: int
    of: Track = Track.LIVE


Found = Sequence[Plan] | Infeasible


class Planner(Protocol):
    async def __call__(
        self,
        spec: ServiceSpec,
        snapshot: Snapshot,
        now: datetime,
        avoid: Avoid,
        alternatives: int = 1,
        why: bool = True,
    ) -> Found:
        """At most so many plans, the best first; or why there is none, in full where `why` is asked."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be planned over the snapshot of the environment, or over what it hopes for: the spec as it is meant, around
    `avoid`. `why`: where there is no plan, the reasons are needed. `most`: so many plans, where there are."""

    spec: ServiceSpec
    avoid: Avoid
    hoped: bool = False
    why: bool = True
    most: int = 1


STUCK_AFTER = timedelta(hours=4)
HEAL_AFTER = timedelta(seconds=60)
Identify = Callable[[str, Sequence[str], Mapping[str, int]], Mapping[str, int] | Reason]


class Allocate(Protocol):
    def __call__(
        self, owner: str, sizes: Mapping[int, int], avoid: Sequence[Prefix] = ()
    ) -> tuple[tuple[str, Prefix], ...] | Reason:
        """Blocks for a service, of at least so many host bits by IP version (0: of either), with no address of `avoid`: (pool
        name, prefix) of each, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Env:
    """What tasks may know besides the order. `allocate(service, sizes, avoid)` takes blocks from the address pools,
    `identify(service, paths, known)` gives an identifier to each path that has none, `lexicon(account, terms)` knows what the
    account calls our places, `planned` are the questions that were answered.
    `hoped()` is the snapshot with what suppliers announced before; it is planned over at most `hopes` times for an order.
    `stuck_after`: how long a supplier may leave unconfirmed that its part is gone, until the order is STUCK."""

    now: datetime
    snapshot: Snapshot
    allocate: Allocate
    identify: Identify
    lexicon: Callable[[str, Terms], Lexicon]
    planned: tuple[tuple[Question, Found], ...] = ()
    hoped: Callable[[], Snapshot] | None = None
    hopes: int = 0
    stuck_after: timedelta = STUCK_AFTER
    live: Order | None = None
    """While a newer version is worked on: the live one that it stands beside."""
    silent: Callable[[str], bool] = lambda alias: False
    """Whether that supplier is not heard of at this moment."""
    dead: Callable[[str], bool] = lambda alias: False
    """Whether it was not heard of for so long that what it delivers counts as lost."""
    heal_after: Callable[[str], timedelta] = lambda alias: HEAL_AFTER
    """How long that supplier has to heal its part by itself."""
    flapping: Callable[[str], Flapping] = lambda alias: Flapping()
    """How often a part of that supplier may be lost until it is bought elsewhere though it comes back."""

    def answer(self, question: Question) -> Found | None:
        """The answer, if the question was asked."""
        return next((found for asked, found in self.planned if asked == question), None)

    def over(self, question: Question) -> Snapshot:
        """The snapshot that a question is asked of."""
        return self.hoped() if question.hoped and self.hoped is not None else self.snapshot

    @property
    def may_hope(self) -> bool:
        """Whether anything was announced before that is not now."""
        return self.hopes > 0 and self.hoped is not None and self.hoped() is not self.snapshot


@dataclass(frozen=True, slots=True)
class Pause:
    """The order as it is to be recorded, the calls to be made then, and when to look again if nothing happens. With `asks`
    it is not to be recorded yet: it goes on from here with the answer."""

    order: Order
    calls: tuple[Call, ...] = ()
    wake: datetime | None = None
    asks: Question | None = None


Task = Callable[[Order, Env], Order | Pause]
TASKS: dict[str, Task] = {}


def task(function: Task) -> Task:
    """Register a task under its name."""
    TASKS[function.__name__] = function
    return function


GUARD = timedelta(seconds=5)
"""By how much a hold of ours ends before the earliest of the holds that it rests on."""
_BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STUCK_BACKOFF = (60.0, 300.0, 900.0, 3600.0)
_ENDING = frozenset({CallKind.RELEASE, CallKind.TERMINATE, CallKind.LOOK})


def retry_at(now: datetime, attempts: int, state: ServiceState = ServiceState.UNSPECIFIED) -> datetime:
    """When an unanswered call is made again, for a service in `state`: of what is STUCK ever more rarely, down to hourly."""
    pauses = _STUCK_BACKOFF if state is ServiceState.STUCK else _BACKOFF
    return now + timedelta(seconds=pauses[min(attempts, len(pauses) - 1)])


def repeat(order: Order, env: Env, kind: CallKind, state: SegmentState, of: Callable[[Segment], bool]) -> Order | Pause:
    """Bring every segment that `of` selects to `state` and call its supplier, again after a pause if it did not answer."""
    calls, waits = [], []
    for segment in order.segments:
        if not of(segment):
            continue
        if segment.state is state and segment.retry_at is not None and segment.retry_at > env.now:
            waits.append(segment.retry_at)
            continue
        attempts = segment.attempts if segment.state is state else 0
        since = (segment.ending_since or env.now) if kind in _ENDING else None
        order = order.with_segment(replace(segment, state=state, attempts=attempts, retry_at=None, ending_since=since))
        calls.append(Call(kind, segment.key, segment.version))
    if calls:
        return Pause(order, tuple(calls))
    return Pause(order, wake=min(waits)) if waits else order


@task
def release(order: Order, env: Env) -> Order | Pause:
    """Give back what is held and no longer wanted. In a live plan only the segments that fell out of it."""
    return repeat(
        order,
        env,
        CallKind.RELEASE,
        SegmentState.RELEASING,
        lambda s: not s.wanted and remains(s),
    )


@task
def expire(order: Order, env: Env) -> Order | Pause:
    """A hold ends by itself."""
    if order.expires is not None and order.expires <= env.now:
        reason = Reason(code=ReasonCode.HOLD_EXPIRED, message="the hold expired before it was committed")
        return abandon(replace(order, reasons=(reason,)).on(Event.EXPIRE))
    return Pause(order, wake=order.expires)


def abandon(order: Order) -> Order:
    """Nothing of the order is wanted any more."""
    segments = tuple(replace(s, wanted=False) for s in order.segments)
    return replace(order.alone(), segments=segments, expires=None, extending=None)


def ending(order: Order) -> Order:
    """The whole service ends, with every version of it."""
    return absorbed(order.alone())


@task
def quiesce(order: Order, env: Env) -> Order | Pause:
    """End every segment at its supplier, whatever is known of it, until each supplier has said yes."""
    return repeat(
        order,
        env,
        CallKind.TERMINATE,
        SegmentState.TERMINATING,
        lambda s: remains(s) and s.state is not SegmentState.LEAVING,
    )


@task
def gone(order: Order, env: Env) -> Order | Pause:
    """The service is over when every supplier has taken its part away: each tells, and is asked if it does not."""
    if any(remains(s) for s in order.segments):
        return repeat(order, env, CallKind.LOOK, SegmentState.LEAVING, lambda s: s.state is SegmentState.LEAVING)
    return order.on(Event.GONE) if order.state in (ServiceState.TERMINATING, ServiceState.STUCK) else order


@task
def free(order: Order, env: Env) -> Order | Pause:
    """Give blocks and path ids back once nothing below can use them. The engine drops their allocations then."""
    if (order.blocks() or order.path_ids) and not any(remains(s) for s in order.segments):
        return replace(order.with_blocks(()), former_blocks=(), path_ids={})
    return order


@task
def ended(order: Order, env: Env) -> Order | Pause:
    """A service with an end time ends by itself."""
    end = end_of(order)
    if end is not None and end <= env.now:
        return ending(order).on(Event.TERMINATE)
    return Pause(order, wake=end)


WORKFLOWS: dict[ServiceState, tuple[str, ...]] = {
    ServiceState.RESERVING: (
        "place",
        "address",
        "contend",
        "give_way",
        "crank_back",
        "hold",
        "reconsider",
        "release",
        "agree",
        "price",
        "decide",
    ),
    ServiceState.RESERVED: ("prolong", "release", "expire"),
    ServiceState.COMMITTING: ("bind", "extend", "commit"),
    ServiceState.ACTIVATING: ("activate", "ended"),
    ServiceState.ACTIVE: ("lose", "degrade", "consent", "heal", "ended"),
    ServiceState.DEGRADED: ("lose", "recover", "consent", "heal", "ended"),
    ServiceState.REFUSED: ("stick", "release", "free"),
    ServiceState.EXPIRED: ("stick", "release", "free"),
    ServiceState.FAILED: ("stick", "quiesce", "gone", "free"),
    ServiceState.TERMINATING: ("stick", "quiesce", "free", "gone"),
    ServiceState.STUCK: ("quiesce", "free", "gone"),
    ServiceState.TERMINATED: (),
}


NEWER: dict[ServiceState, tuple[str, ...]] = {
    ServiceState.RESERVING: WORKFLOWS[ServiceState.RESERVING],
    ServiceState.RESERVED: WORKFLOWS[ServiceState.RESERVED],
    ServiceState.COMMITTING: ("rebind", "bind", "extend", "lose", "bring_in"),
    ServiceState.ACTIVATING: ("lose", "built"),
    ServiceState.ACTIVE: (),
    ServiceState.REFUSED: ("release", "free"),
    ServiceState.EXPIRED: ("release", "free"),
    ServiceState.FAILED: ("undo", "free"),
}
"""The workflows of a version beside a live one, by its own state."""

HEALING: dict[ServiceState, tuple[str, ...]] = NEWER | {ServiceState.RESERVED: ("confirm",)}
"""Those of what heals a live one: nobody else decides that it is committed."""

Schedules = Callable[[Order], Sequence[Task]]
"""The tasks of one version of an order in its state, in order."""


def built_in(order: Order) -> Sequence[Task]:
    beside = HEALING if order.healed else NEWER
    return [TASKS[name] for name in (beside if order.newer else WORKFLOWS)[order.state]]


def advance(order: Order, env: Env, schedules: Schedules = built_in) -> Pause:
    """As far as the order goes without a call, each of its versions by itself: what to record, what to call then, when to look
    again."""
    while True:
        pauses, ended = [], False
        for track in Track:
            part = track.part(order)
            if part is None:
                continue
            beside = track in (Track.BESIDE, Track.HEALING)
            pause = _advance(part, replace(env, live=order) if beside else env, schedules)
            ended = ended or (beside and part.state in UNDER_WAY and pause.order.state not in UNDER_WAY)
            if pause.order is not part:
                order = track.put(order, pause.order)
            if pause.asks is not None:
                return Pause(order, asks=pause.asks)
            pauses.append(Pause(order, tuple(replace(call, of=track) for call in pause.calls), pause.wake))
        if (then := settled(order)) is order and not ended:  # what ended beside it, the live one may have waited for
            wakes = [pause.wake for pause in pauses if pause.wake is not None]
            return Pause(order, tuple(call for pause in pauses for call in pause.calls), min(wakes, default=None))
        order = then


def _advance(order: Order, env: Env, schedules: Schedules) -> Pause:
    while True:
        for work in schedules(order):
            result = work(order, env)
            if isinstance(result, Pause):
                return result
            if result is not order:
                order = result
                break
        else:
            return Pause(order)
