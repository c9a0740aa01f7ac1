"""Who may begin something now, and who is told to come back later, so that what was begun is finished in time.

Rules kept here
- Only what begins something waits and is turned away: reserve, quote, qualify. What finishes something (commit, extend, release,
  terminate, status, a reservation asked again) is turned away only where very many of these run at once, and never first.
- How many begin at once follows how long work that is ready waits for its turn here (`Limit`), and not how long a call takes,
  which is mostly our suppliers' time (Zhou et al., Overload Control for Scaling WeChat Microservices, SoCC 2018, section 4.1).
- A call waits for its turn a moment, and less than that once there has been no room for long: a queue is for bursts, and one
  that stands only makes everybody late (Nichols and Jacobson, Controlling Queue Delay, ACM Queue 2012; Maurer, Fail at Scale,
  ACM Queue 2015).
- The next turn is for the account that has the fewest calls running; where too many wait, the last call of the account that
  has the most waiting goes. So nobody gets less than its share because others ask more often.
- Who is turned away is told when it is worth coming back: after as long as it takes to serve all who were turned away lately,
  and not all at the same time.
- What is turned away has had no effect. Everything is bounded.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

import structlog

from lower_sp_clients.supplier import Overloaded
from service_model.clock import Alarm, Clock

log = structlog.get_logger()

FEWEST = 4
"""How many may begin at once however late work is: what is late with so few is late for other reasons, as on a machine that
others use too."""
ROUND = 10
"""Of how many measurements of lateness the middle one counts."""
WAIT_S, SHORT_WAIT_S = 0.5, 0.1
"""How long a call waits for its turn, and how long once there has been no room for `STANDING_S`."""
STANDING_S = 1.0
WINDOW_S = 2.0
"""Over how long it is counted who was served and turned away."""
HINT_MIN_S, HINT_MAX_S = 0.2, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """`beginning`: how many calls that begin something run at once at most; `waiting`: how many more wait; `finishing`: how many
    others run at once; `streams`: how many streams of one account. `late_s`: how long work may wait for its turn as a
    rule, in seconds; 0: it is not looked at, and as many begin as may at most."""

    beginning: int = 32
    waiting: int = 256
    finishing: int = 2000
    streams: int = 100
    late_s: float = 0.03


class Limit:
    """How many may begin at once: one more after a round in which work was in time, a quarter less after one in which it was
    late (additive increase, multiplicative decrease). It begins with as many as may at most."""

    def __init__(self, most: int, late_s: float) -> None:
        self.value = self.most = most
        self._late_s = late_s
        self._late: list[float] = []

    def seen(self, late_s: float) -> None:
        """Work is so late."""
        if not self._late_s:
            return
        self._late.append(late_s)
        if len(self._late) < ROUND:
            return
        if median(self._late) > self._late_s:
            self.value = max(min(FEWEST, self.most), self.value * 3 // 4)
        else:
            self.value = min(self.most, self.value + 1)
        self._late.clear()


@dataclass(slots=True, eq=False)
class _Waiting:
    account: str
    turn: asyncio.Future[None]
    alarm: Alarm


@dataclass(slots=True, eq=False)
class Slot:
    """Somebody runs. `leave` gives its place to the next."""

    leave: Callable[[], None]


@dataclass(slots=True)
class _Window:
    """What was done in this window of time, and in the one before."""

    began: datetime
    served: int = 0
    turned_away: int = 0
    former: tuple[int, int] = (0, 0)

    def turn(self, now: datetime) -> None:
        passed = (now - self.began) / timedelta(seconds=WINDOW_S)
        if passed >= 1:
            self.former = (self.served, self.turned_away) if passed < 2 else (0, 0)
            self.began, self.served, self.turned_away = now, 0, 0

    @property
    def lately(self) -> tuple[int, int]:
        """Who was served and turned away: in the window before and this one, or as much as there is."""
        return self.former[0] + self.served, self.former[1] + self.turned_away


@dataclass(slots=True)
class _Told:
    """What the log has been told: since when calls are turned away, and how many were."""

    since: datetime | None = None
    turned_away: int = 0


class Admission:
    """`random` gives numbers of [0, 1)."""

    def __init__(self, bounds: Bounds, clock: Clock, random: Callable[[], float]) -> None:
        self.bounds = bounds
        self.limit = Limit(bounds.beginning, bounds.late_s)
        self._clock, self._random = clock, random
        self._running: Counter[str] = Counter()
        self._beginning = self._finishing = 0
        self._streams: Counter[str] = Counter()
        self._waiting: dict[str, list[_Waiting]] = {}
        """By account, in the order in which they came; the account that was served last is the last."""
        self._standing_since: datetime | None = None
        self._window = _Window(clock.now())
        self._told = _Told()

    @property
    def running(self) -> int:
        """How many that begin something run."""
        return self._beginning

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def begin(self, account: str) -> Slot:
        """A place to begin something, perhaps after a moment. Raises Overloaded."""
        if self._beginning < self.limit.value and not self._waiting:
            return self._run(account)
        waiting = self._queue(account)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self._leave(account)  # it was its turn at the moment at which its caller went away
            else:
                self._forget(waiting)
            raise
        finally:
            waiting.alarm.cancel()
        return Slot(lambda: self._leave(account))

    def finish(self) -> Slot:
        """A place for what finishes something. Raises Overloaded."""
        if self._finishing >= self.bounds.finishing:
            raise self._turned_away()
        self._finishing += 1
        return Slot(self._finished)

    def stream(self, account: str) -> Slot:
        """A place for one more stream of the account. Raises Overloaded."""
        if self._streams[account] >= self.bounds.streams:
            log.warning("too many streams", account=account, streams=self.bounds.streams)
            raise Overloaded(HINT_MAX_S)
        self._streams[account] += 1
        return Slot(lambda: _less(self._streams, account))

    def seen(self, late_s: float) -> None:
        """Work is so late: who may begin is decided anew, and the log is told where that has begun or ended."""
        self.limit.seen(late_s)
        self._next()
        self._tell(self._clock.now())

    def _run(self, account: str) -> Slot:
        self._take(account)
        return Slot(lambda: self._leave(account))

    def _take(self, account: str) -> None:
        self._beginning += 1
        self._running[account] += 1

    def _leave(self, account: str) -> None:
        self._beginning -= 1
        _less(self._running, account)
        self._window.turn(self._clock.now())
        self._window.served += 1
        self._next()

    def _finished(self) -> None:
        self._finishing -= 1

    def _queue(self, account: str) -> _Waiting:
        if self.waiting >= self.bounds.waiting:
            most = max(self._waiting.values(), key=len, default=[])
            if len(self._waiting.get(account, ())) + 1 >= len(most):
                raise self._turned_away()
            self._shed(most[-1])
        now = self._clock.now()
        self._standing_since = self._standing_since or now
        stands = (now - self._standing_since).total_seconds() >= STANDING_S
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        patience = SHORT_WAIT_S if stands else WAIT_S
        waiting = _Waiting(account, turn, self._clock.after(patience, lambda: self._shed(waiting)))
        self._waiting.setdefault(account, []).append(waiting)
        return waiting

    def _next(self) -> None:
        """Let those go on who may."""
        while self._waiting and self._beginning < self.limit.value:
            account = min(self._waiting, key=lambda a: self._running[a])  # the first of equals waits longest for a turn
            waiting = self._waiting[account][0]
            self._forget(waiting)
            if account in self._waiting:
                self._waiting[account] = self._waiting.pop(account)
            if not waiting.turn.done():
                self._take(account)
                waiting.turn.set_result(None)
        if self._beginning < self.limit.value:  # there is room again
            self._standing_since = None

    def _shed(self, waiting: _Waiting) -> None:
        self._forget(waiting)
        if not waiting.turn.done():
            waiting.turn.set_exception(self._turned_away())

    def _forget(self, waiting: _Waiting) -> None:
        mine = self._waiting.get(waiting.account, [])
        if waiting in mine:
            mine.remove(waiting)
            if not mine:
                del self._waiting[waiting.account]

    def _turned_away(self) -> Overloaded:
        now = self._clock.now()
        self._window.turn(now)
        self._window.turned_away += 1
        self._told.turned_away += 1
        served, turned_away = self._window.lately
        hint = WINDOW_S * turned_away / max(1, served) * (0.5 + self._random())
        return Overloaded(min(HINT_MAX_S, max(HINT_MIN_S, hint)))

    def _tell(self, now: datetime) -> None:
        told = self._told
        facts = {"limit": self.limit.value, "running": self._beginning, "waiting": self.waiting}
        self._window.turn(now)
        if self._window.lately[1]:
            if told.since is None:
                told.since = now
                log.warning("overloaded: calls are turned away", **facts)
        elif told.since is not None:
            for_s = round((now - told.since).total_seconds(), 1)
            log.warning("no longer overloaded", for_s=for_s, turned_away=told.turned_away, **facts)
            told.since, told.turned_away = None, 0


def _less(counts: Counter[str], account: str) -> None:
    """One less; nothing is kept of who has none."""
    counts[account] -= 1
    if counts[account] <= 0:
        del counts[account]
