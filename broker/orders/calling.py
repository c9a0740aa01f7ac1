"""The calls that orders make of suppliers, and how long they are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog

from broker.orders.delivering import Result, extension_s
from broker.orders.hoping import calls_below
from broker.orders.records import Order
from broker.orders.tasks import Call, CallKind
from lower_sp_clients.supplier import Context, OutcomeUnknown, Overloaded, ServiceNotFound, Supplier
from service_model.clock import Clock, within
from service_model.outcomes import ServiceState, ServiceStatus
from service_model.replacing import replace

log = structlog.get_logger()

PATIENCE = timedelta(seconds=30)
"""How long a reservation may take where the caller sets no deadline, and any other call."""
MARGIN = timedelta(milliseconds=250)
"""What each level keeps of the time until a caller's deadline, to record what came of it and to answer."""
GRACE = timedelta(seconds=1)
"""How long after the deadline that it was told a supplier may still answer."""


class Caller:
    """`suppliers` by alias."""

    def __init__(self, clock: Clock) -> None:
        self.suppliers: Mapping[str, Supplier] = {}
        self._clock = clock
        self._stragglers: set[asyncio.Task[Result]] = set()

    def below(self, order: Order) -> Context:
        """What our callees may spend: one level and our share of calls less, and no more time than we have."""
        parts = max(1, len(order.segments))
        reserving = order.state is ServiceState.RESERVING
        return Context(
            deadline=order.deadline if reserving else self._clock.now() + PATIENCE,
            hop_budget=order.hop_budget - 1,
            call_budget=calls_below((reserving and order.hoping) or order.call_budget, parts),
            trace=order.trace,
        )

    async def answers(self, order: Order, calls: tuple[Call, ...]) -> list[Result]:
        """The answers to all calls, made at once. A supplier that has none a moment after the deadline is not waited for:
        the call is made again, with the same key, so that what a straggler still does is the same."""
        parts = [call.of.part(order) or order for call in calls]
        contexts = [self.below(part) for part in parts]
        asked = zip(parts, calls, contexts, strict=True)
        tasks = [asyncio.create_task(self._perform(part, call, ctx)) for part, call, ctx in asked]
        patience = max(map(self._patience_s, contexts))
        try:
            await within(self._clock, patience, asyncio.gather(*tasks, return_exceptions=True))
        finally:
            for task in tasks:
                if not task.done():
                    self._stragglers.add(task)
                    task.add_done_callback(self._stragglers.discard)
        return [t.result() if t.done() else OutcomeUnknown("no answer by the deadline") for t in tasks]

    async def look(self, supplier: Supplier, order: Order, ref: str) -> ServiceStatus:
        """What the supplier says of a segment, waited for as any answer is. Raises ServiceNotFound, OutcomeUnknown."""
        ctx = self.below(order)
        asking = asyncio.ensure_future(supplier.status(ref, ctx))
        try:
            if not await within(self._clock, self._patience_s(ctx), asking):
                raise OutcomeUnknown("no answer by the deadline")
        finally:
            asking.cancel()
        return asking.result()

    def _patience_s(self, ctx: Context) -> float:
        now = self._clock.now()
        return (max(ctx.deadline or now, now) + GRACE - now).total_seconds()

    async def close(self) -> None:
        """Wait for nobody any more."""
        stragglers = tuple(self._stragglers)
        for task in stragglers:
            task.cancel()
        await asyncio.gather(*stragglers, return_exceptions=True)

    async def _perform(self, order: Order, call: Call, ctx: Context) -> Result:
        segment = order.segment(call.segment)
        supplier = self.suppliers.get(segment.alias) if segment else None
        if segment is None or supplier is None:
            return OutcomeUnknown(f"supplier {call.segment} is not administered any more")
        try:
            match call.kind:
                case CallKind.RESERVE:
                    quoted = replace(ctx, quote=segment.quote, hoped=segment.hoped)
                    return await supplier.reserve(segment.ref, call.version, segment.spec, quoted)
                case CallKind.EXTEND:
                    seconds = extension_s(order, self._clock.now())
                    return await supplier.extend(segment.ref, call.version, seconds, ctx)
                case CallKind.COMMIT:
                    assert segment.bindings is not None
                    return await supplier.commit(segment.ref, call.version, segment.bindings, ctx)
                case CallKind.RELEASE:
                    await supplier.release(segment.ref, call.version, ctx)
                case CallKind.TERMINATE:
                    await supplier.terminate(segment.ref, ctx)
                case CallKind.HEAL:
                    await supplier.heal(segment.ref, ctx)
                case CallKind.LOOK:
                    return await supplier.status(segment.ref, ctx)
            return None
        except ServiceNotFound:
            return None
        except Overloaded as busy:
            log.info("turned away", service=order.id, segment=segment.key, call=call.kind.value, error=str(busy))
            return busy
        except OutcomeUnknown as unknown:
            log.warning("no answer", service=order.id, segment=segment.key, call=call.kind.value, error=str(unknown))
            return unknown
        except Exception as error:
            log.exception("call failed", service=order.id, segment=segment.key, call=call.kind.value)
            return error
