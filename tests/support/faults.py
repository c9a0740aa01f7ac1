"""A line to a supplier that does what a script says: loses, refuses, changes or delays. It implements Supplier.

`line.next("reserve", lost_after())` is for the next such call, `line.always["commit"] = hangs()` for all. Every call that came in
is in `line.calls`. A supplier that goes down loses the calls under way, as a connection does. `line.fails(ref)`: from now on its
supplier tells that what is live under that ref has failed, until it is ended.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from lower_sp_clients.supplier import EVERYTHING, Context, Interest, OutcomeUnknown, Overloaded, SignedNote, Supplier
from service_model.clock import Clock
from service_model.outcomes import (
    Bindings,
    Committed,
    Event,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
)
from service_model.quotes import Qualification, Quote
from service_model.spec import ServiceSpec

Answer = Callable[[], Awaitable[Any]]
Fault = Callable[[Answer, str, int], Awaitable[Any]]
"""Gets the call as it would be made, its ref and version (0: none); returns or raises what the caller is to see."""


def lost_before() -> Fault:
    async def fault(call: Answer, ref: str, version: int) -> Any:
        raise OutcomeUnknown("the request was lost")

    return fault


def lost_after() -> Fault:
    async def fault(call: Answer, ref: str, version: int) -> Any:
        await call()
        raise OutcomeUnknown("the answer was lost")

    return fault


def refuses(code: ReasonCode, message: str = "not today", subject: str = "") -> Fault:
    async def fault(call: Answer, ref: str, version: int) -> Any:
        reason = Reason(code=code, message=message, subject=subject)
        return Refused(ref=ref, version=version, reasons=(reason,))

    return fault


def turned_away(seconds: float, times: int = 1) -> Fault:
    """So often it says that it has too much to do, and does nothing."""
    left = [times]

    async def fault(call: Answer, ref: str, version: int) -> Any:
        if left[0]:
            left[0] -= 1
            raise Overloaded(seconds)
        return await call()

    return fault


def alters(change: Callable[[Any], Any]) -> Fault:
    """The supplier does what it is asked, and answers something else."""

    async def fault(call: Answer, ref: str, version: int) -> Any:
        return change(await call())

    return fault


def waits_for(gate: asyncio.Event) -> Fault:
    async def fault(call: Answer, ref: str, version: int) -> Any:
        await gate.wait()
        return await call()

    return fault


def late(gate: asyncio.Event) -> Fault:
    """The request is on its way until `gate` opens, and arrives then, whether its caller still waits or not."""
    sent: set[asyncio.Future[Any]] = set()

    async def fault(call: Answer, ref: str, version: int) -> Any:
        async def arrives() -> Any:
            await gate.wait()
            return await call()

        task = asyncio.ensure_future(arrives())
        sent.add(task)
        return await asyncio.shield(task)

    return fault


def delayed(turns: Callable[[], int]) -> Fault:
    """The call is made after so many turns of the loop, and its answer comes after as many again."""

    async def fault(call: Answer, ref: str, version: int) -> Any:
        for _ in range(turns()):
            await asyncio.sleep(0)
        answer = await call()
        for _ in range(turns()):
            await asyncio.sleep(0)
        return answer

    return fault


def takes(clock: Clock, seconds: float) -> Fault:
    """The call is answered after so much time."""

    async def fault(call: Answer, ref: str, version: int) -> Any:
        await clock.sleep(seconds)
        return await call()

    return fault


def hangs() -> Fault:
    return waits_for(asyncio.Event())


class FaultySupplier:
    """`supplier` gives the one at the other end; it raises OutcomeUnknown while that is down. `down` is set when it goes."""

    def __init__(self, supplier: Callable[[], Supplier], down: Callable[[], asyncio.Event]) -> None:
        self._supplier = supplier
        self._down = down
        self._script: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.always: dict[str, Fault] = {}
        self.calls: list[tuple[str, str, int]] = []
        self.contexts: list[Context] = []
        """Of the reservations."""
        self._failed: dict[str, tuple[ServiceState, tuple[Reason, ...]]] = {}
        self._told: set[asyncio.Queue[Event]] = set()
        """Of those who watch."""

    async def fails(
        self, ref: str, *reasons: Reason, state: ServiceState = ServiceState.FAILED, recovers: bool = False
    ) -> None:
        """Its supplier tells of what is live under that ref that it is in that state, or that it is well again."""
        self._failed.pop(ref, None)
        if not recovers:
            self._failed[ref] = state, reasons
        try:
            status = self._seen(await self._supplier().status(ref, Context()))
        except OutcomeUnknown:  # it is away, and tells when it is asked again
            return
        for told in self._told:
            told.put_nowait(Event(token="", status=status))

    def _seen(self, status: ServiceStatus) -> ServiceStatus:
        """Of a service that is made to fail, as long as it lives."""
        failed = self._failed.get(status.ref)
        if failed is None or status.state not in (ServiceState.ACTIVE, ServiceState.DEGRADED):
            return status
        return replace(status, state=failed[0], reasons=failed[1])

    def next(self, method: str, *faults: Fault) -> None:
        self._script[method].extend(faults)

    def count(self, method: str) -> int:
        return sum(1 for name, _, _ in self.calls if name == method)

    async def _call(self, method: str, ref: str, version: int, answer: Callable[[Supplier], Awaitable[Any]]) -> Any:
        self.calls.append((method, ref, version))
        script = self._script[method]
        fault = script.popleft() if script else self.always.get(method)

        async def call() -> Any:
            return await answer(self._supplier())

        async def asked() -> Any:
            return await (call() if fault is None else fault(call, ref, version))

        task = asyncio.ensure_future(asked())
        gone = asyncio.ensure_future(self._down().wait())
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not task.done():
                task.cancel()
        if not task.done():
            raise OutcomeUnknown("the connection broke")
        return task.result()

    async def notes(self) -> AsyncIterator[SignedNote]:
        async for note in self._supplier().notes():
            yield note

    async def qualify(self, spec: ServiceSpec, ctx: Context) -> Qualification:
        result: Qualification = await self._call("qualify", "", 0, lambda s: s.qualify(spec, ctx))
        return result

    async def quote(self, spec: ServiceSpec, ctx: Context) -> Quote | Qualification:
        result: Quote | Qualification = await self._call("quote", "", 0, lambda s: s.quote(spec, ctx))
        return result

    async def reserve(self, ref: str, version: int, spec: ServiceSpec, ctx: Context) -> Reserved | Refused:
        self.contexts.append(ctx)
        result: Reserved | Refused = await self._call(
            "reserve", ref, version, lambda s: s.reserve(ref, version, spec, ctx)
        )
        return result

    async def extend(self, ref: str, version: int, seconds: float, ctx: Context) -> Reserved | Refused:
        result: Reserved | Refused = await self._call(
            "extend", ref, version, lambda s: s.extend(ref, version, seconds, ctx)
        )
        return result

    async def commit(self, ref: str, version: int, bindings: Bindings, ctx: Context) -> Committed | Refused:
        result: Committed | Refused = await self._call(
            "commit", ref, version, lambda s: s.commit(ref, version, bindings, ctx)
        )
        return result

    async def release(self, ref: str, version: int, ctx: Context) -> None:
        await self._call("release", ref, version, lambda s: s.release(ref, version, ctx))

    async def terminate(self, ref: str, ctx: Context) -> None:
        await self._call("terminate", ref, 0, lambda s: s.terminate(ref, ctx))

    async def heal(self, ref: str, ctx: Context) -> None:
        await self._call("heal", ref, 0, lambda s: s.heal(ref, ctx))

    async def status(self, ref: str, ctx: Context) -> ServiceStatus:
        result: ServiceStatus = await self._call("status", ref, 0, lambda s: s.status(ref, ctx))
        return self._seen(result)

    async def services(self, ctx: Context) -> AsyncIterator[ServiceStatus]:
        async for item in self._supplier().services(ctx):
            yield item

    async def watch(self, after: str, interest: Interest = EVERYTHING) -> AsyncIterator[Event]:
        down, told = self._down(), asyncio.Queue[Event]()
        self._told.add(told)
        async with aclosing(self._supplier().watch(after, interest)) as events:  # type: ignore[type-var]
            coming = asyncio.ensure_future(anext(events))
            try:
                while True:
                    gone, made = asyncio.ensure_future(down.wait()), asyncio.ensure_future(told.get())
                    try:
                        await asyncio.wait({coming, gone, made}, return_when=asyncio.FIRST_COMPLETED)
                        broke, heard = gone.done() and not coming.done(), made.result() if made.done() else None
                    finally:
                        gone.cancel()
                        made.cancel()
                    if broke:
                        raise OutcomeUnknown("the stream broke")
                    if heard is not None:
                        yield heard
                    if coming.done():
                        event, coming = coming.result(), asyncio.ensure_future(anext(events))
                        yield event if event.status is None else replace(event, status=self._seen(event.status))
            finally:
                self._told.discard(told)
                if not coming.done():
                    coming.cancel()
                    await asyncio.wait({coming})
