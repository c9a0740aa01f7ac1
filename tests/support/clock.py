"""A clock that stands still until it is told to go on."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Sleeper(ABC):
    """A clock of which only `sleep` is written: an alarm is somebody who sleeps until then."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None: ...

    def after(self, seconds: float, then: Callable[[], None]) -> asyncio.Task[None]:
        async def ring() -> None:
            await self.sleep(max(0.0, seconds))
            then()

        return asyncio.create_task(ring())


class Timer:
    def __init__(self, then: Callable[[], None]) -> None:
        self._then: Callable[[], None] | None = then

    def cancel(self) -> None:
        self._then = None

    def ring(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()


class SimulatedClock:
    """`advance` moves time and wakes, in order, everybody whose sleep ends by then."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._timers: list[tuple[datetime, int, Timer]] = []
        self._count = itertools.count()

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.after(seconds, lambda: None if future.done() else future.set_result(None))
        try:
            await future
        finally:
            timer.cancel()

    def after(self, seconds: float, then: Callable[[], None]) -> Timer:
        timer = Timer(then)
        if seconds <= 0:
            asyncio.get_running_loop().call_soon(timer.ring)
        else:
            heapq.heappush(self._timers, (self._now + timedelta(seconds=seconds), next(self._count), timer))
        return timer

    def quiet_s(self) -> float:
        """How long nobody wakes from now on; endless if nobody sleeps. Timers that were cancelled count."""
        return (self._timers[0][0] - self._now).total_seconds() if self._timers else math.inf

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        while self._timers and self._timers[0][0] <= self._now:
            heapq.heappop(self._timers)[2].ring()
