"""Who waits until an order is recorded as it was wanted, and at which instants orders are woken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from broker.orders.records import Order
from lower_sp_clients.supplier import Context, OutcomeUnknown
from service_model.clock import Alarm, Clock, within


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    """Somebody who waits until an order is recorded that is `done`."""

    done: Callable[[Order], bool]
    recorded: asyncio.Future[Order]


class Waiters:
    """By the order's id."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of: dict[str, list[_Waiter]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    async def until(self, id: str, done: Callable[[Order], bool], ctx: Context) -> Order:
        """The order as soon as it is recorded and `done`. Raises OutcomeUnknown at the caller's deadline, when the work goes on,
        and what others are disappointed with."""
        waiter = _Waiter(done, asyncio.get_running_loop().create_future())
        self._of.setdefault(id, []).append(waiter)
        try:
            left = None if ctx.deadline is None else (ctx.deadline - self._clock.now()).total_seconds()
            if left is not None and not await within(self._clock, left, waiter.recorded):
                raise OutcomeUnknown("the deadline passed while the order was being worked on")
            return await waiter.recorded
        finally:
            if waiter in (waiting := self._of.get(id, [])):
                waiting.remove(waiter)
                if not waiting:
                    del self._of[id]

    def tell(self, order: Order) -> None:
        """The order is recorded so."""
        for waiter in self._of.get(order.id, ()):
            if not waiter.recorded.done() and waiter.done(order):
                waiter.recorded.set_result(order)

    def disappoint(self, id: str, error: OutcomeUnknown) -> None:
        """Nobody is to wait for the order any more."""
        for waiter in self._of.pop(id, ()):
            if not waiter.recorded.done():
                waiter.recorded.set_exception(error)

    def close(self, error: Callable[[], OutcomeUnknown]) -> None:
        """Nobody is to wait for anything any more."""
        for id in tuple(self._of):
            self.disappoint(id, error())


class Alarms:
    """At most one for each order: `ring` is called with its id."""

    def __init__(self, clock: Clock, ring: Callable[[str], None]) -> None:
        self._clock, self._rings = clock, ring
        self._set: dict[str, tuple[datetime, Alarm]] = {}
        self._closed = False

    def __iter__(self) -> Iterator[str]:
        return iter(self._set)

    def set(self, id: str, at: datetime | None) -> None:
        """At `at` instead of any former instant; None: never."""
        former = self._set.get(id)
        if former is not None:
            if former[0] == at:
                return
            del self._set[id]
            former[1].cancel()
        if at is not None and not self._closed:
            left = (at - self._clock.now()).total_seconds()
            self._set[id] = (at, self._clock.after(left, lambda: self._ring(id)))

    def close(self) -> None:
        """None rings any more, and none is set."""
        self._closed = True
        for _, alarm in self._set.values():
            alarm.cancel()

    def _ring(self, id: str) -> None:
        self._set.pop(id, None)
        self._rings(id)
