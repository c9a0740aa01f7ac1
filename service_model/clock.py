"""Time as an argument: what the effectful parts ask instead of the system, so that tests need no sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol


class Alarm(Protocol):
    """Something that will be called; `cancel` may come at any time, and again."""

    def cancel(self) -> object: ...


class Clock(Protocol):
    def now(self) -> datetime:
        """The present instant, in UTC."""

    async def sleep(self, seconds: float) -> None: ...

    def after(self, seconds: float, then: Callable[[], None]) -> Alarm:
        """Call `then` once, so many seconds later, unless it is cancelled. To be called where a loop runs."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def after(self, seconds: float, then: Callable[[], None]) -> Alarm:
        return asyncio.get_running_loop().call_later(max(0.0, seconds), then)


async def within(clock: Clock, seconds: float, future: asyncio.Future[Any]) -> bool:
    """Wait for `future`, at most so many seconds; whether it is done. It is neither cancelled nor asked for its result."""
    if future.done():
        return True
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    alarm = clock.after(seconds, end)
    future.add_done_callback(end)
    try:
        await over
    finally:
        alarm.cancel()
        future.remove_done_callback(end)
    return future.done()
