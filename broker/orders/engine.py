"""The engine of orders: one worker per order, between the pure tasks and the suppliers.

Theory of operation
- Every order has one worker at a time. It lets the tasks go as far as they can (`advance`), records where that led with
  the intents of the calls that follow, makes the calls in parallel, and folds the answers in; the next record holds them
  together with the next intents. When nothing is to be done it ends, to be woken by time, by a caller or by a supplier.
- Whoever changes an order changes it in memory (`change`) and waits (`until`) for what was recorded of it.
- A restart loads the orders and wakes them all: a call whose intent was recorded is made again, same ref, same version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

# the tasks register themselves
import broker.orders.delivering
import broker.orders.reserving  # noqa: F401
from broker.orders.accounting import charges, status
from broker.orders.catalogue import Catalogue
from broker.orders.delivering import Result, extension_s, fold, observe
from broker.orders.pools import Pool, Pools
from broker.orders.reasons import incident_id
from broker.orders.records import AuditRow, Change, JournalEntry, Order, OrderBook
from broker.orders.tasks import Call, CallKind, Env, Pause, Planner, advance, remains
from lower_sp_clients.broadcast import Broadcast
from lower_sp_clients.supplier import Context, Interest, OutcomeUnknown, ServiceNotFound, Supplier
from lower_sp_clients.vim.holds import Allocation, AllocationState
from service_model.clock import Clock
from service_model.outcomes import Refused, ServiceState, ServiceStatus

log = structlog.get_logger()

PATIENCE = timedelta(seconds=30)
"""How long a reservation may take where the caller sets no deadline, and any other call."""
_BEFORE = {ServiceState.RESERVING, ServiceState.RESERVED, ServiceState.COMMITTING}
_PARTS = Interest(states=frozenset(ServiceState) - _BEFORE, addressing=False)
"""What we hear of our segments: until they are committed, the answers to our calls tell it."""
GRACE = timedelta(seconds=1)
"""How long after the deadline that it was told a supplier may still answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An event as it is told to watchers: whose service, and at which place in the store's sequence."""

    sequence: int
    account: str
    status: ServiceStatus


class OrderEngine:
    """All orders of a broker, in memory as recorded and as wanted."""

    def __init__(
        self,
        *,
        epoch: str,
        book: OrderBook,
        clock: Clock,
        catalogue: Catalogue,
        planner: Planner,
    ) -> None:
        self.catalogue = catalogue
        self.epoch = epoch
        self.book = book
        self.clock = clock
        self._planner = planner
        self._pools = Pools((), ())
        self.suppliers: dict[str, Supplier] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}
        self.wanted: dict[str, Order] = {}
        self.saved: dict[str, Order] = {}
        self.by_ref: dict[tuple[str, str], str] = {}
        self._by_child: dict[tuple[str, str], tuple[str, str]] = {}
        self._pending: dict[str, list[JournalEntry | AuditRow]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._alarms: dict[str, tuple[datetime, asyncio.Task[None]]] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self.events: Broadcast[Stored] = Broadcast()
        self._stragglers: set[asyncio.Task[Result]] = set()
        self.sequence = 0
        """The last event that was sent."""
        self._closing = False

    # life

    async def open(self, pools: tuple[Pool, ...]) -> None:
        """Load every order and take up what a former process left unfinished."""
        orders, allocations = await self.book.load()
        self._pools = Pools(pools, allocations)
        self.sequence = await self.book.last_event()
        for order in orders:
            self.wanted[order.id] = self.saved[order.id] = order
            self.by_ref[order.account, order.ref] = order.id
            self._index(order)
        for order in orders:
            if order.state is not ServiceState.TERMINATED:
                self._wake(order.id)

    async def close(self) -> None:
        """Stop working: every order stays as it is recorded. Whoever waits for one is told that its outcome is not known."""
        self._closing = True
        alarms = [task for _, task in self._alarms.values()]
        tasks: list[asyncio.Task[Any]] = [*alarms, *self._workers.values(), *self._followers.values()]
        await _end(tasks)
        await _end(list(self._stragglers))
        for future in [future for waiting in self._waiting.values() for future in waiting if not future.done()]:
            future.set_exception(_stopped())

    def use(self, suppliers: Mapping[str, Supplier]) -> None:
        """These are the suppliers from now on, by alias."""
        for alias in [a for a, s in self.suppliers.items() if suppliers.get(a) is not s]:
            self._followers.pop(alias).cancel()
        fresh = [a for a, s in suppliers.items() if self.suppliers.get(a) is not s]
        self.suppliers = dict(suppliers)
        for alias in fresh:
            self._followers[alias] = asyncio.create_task(self._follow(alias, suppliers[alias]), name=f"follow-{alias}")

    def check_pools(self, pools: tuple[Pool, ...]) -> None:
        """Raises PoolInUse where `use_pools` would."""
        self._pools.changed(pools)

    def use_pools(self, pools: tuple[Pool, ...]) -> None:
        """Raises PoolInUse where a live allocation would lose its place."""
        self._pools = self._pools.changed(pools)

    async def tick(self) -> None:
        """Free the blocks that have rested long enough."""
        rested = self._pools.rested(self.clock.now())
        if rested:
            await self.book.put_allocations((), rested)
            self._pools.stored((), rested)

    def allocations(self) -> tuple[Allocation, ...]:
        return self._pools.allocations()

    def orders(self) -> tuple[Order, ...]:
        """Every order as recorded, tombstones included."""
        return tuple(self.saved.values())

    def unfinished(self) -> tuple[str, ...]:
        """Orders that somebody works on, waits for or is to wake; segments whose supplier may still tell something."""
        waking = [f"order {id}" for id in {*self._workers, *self._alarms, *self._waiting}]
        return (*waking, *(f"segment {key} of {id}" for id, key in self._by_child.values()))

    def order_of(self, account: str, ref: str) -> Order | None:
        id = self.by_ref.get((account, ref))
        return self.wanted.get(id) if id is not None else None

    # the worker

    def change(self, order: Order) -> None:
        """An order as somebody wants it now; its worker records it before anybody hears of it."""
        self.wanted[order.id] = order
        self.by_ref[order.account, order.ref] = order.id
        self._wake(order.id)

    def _wake(self, id: str) -> None:
        if self._closing:
            return
        worker = self._workers.get(id)
        if worker is not None and not worker.done():
            self._again.add(id)
            return
        task = asyncio.create_task(self._work(id), name=f"order-{id}")
        self._workers[id] = task

    async def _work(self, id: str) -> None:
        try:
            while True:
                self._again.discard(id)
                pause = await self._step(id)
                if pause.calls:
                    await self._call(id, pause.calls)
                elif id not in self._again:
                    self._alarm(id, pause.wake)
                    return
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("order cannot be recorded", service=id)
            self._lose(id, error)
        finally:
            self._workers.pop(id, None)
            if id in self._again and not self._closing:
                self._again.discard(id)
                self._wake(id)

    async def _step(self, id: str) -> Pause:
        """As far as the order goes without a call, and recorded."""
        while True:
            order = self.wanted[id]
            now = self.clock.now()
            env = Env(now=now, snapshot=self.catalogue.snapshot, plan=self._planner, allocate=self._pools.allocate)
            pause = advance(order, env)
            if pause.order is self.saved.get(id):
                return pause
            recorded = replace(pause.order, updated=now)
            self.wanted[id] = recorded
            self._note_calls(recorded, pause.calls, "intent")
            await self._record(recorded, now)
            if self.wanted[id] is recorded:
                return Pause(recorded, pause.calls, pause.wake)
            if pause.calls:  # somebody changed it meanwhile; what was recorded as intended is done first
                return Pause(recorded, pause.calls, pause.wake)

    async def _record(self, order: Order, now: datetime) -> None:
        before = self.saved.get(order.id)
        put, drop = self._allocation_changes(before, order, now)
        rows = self._pending.pop(order.id, [])
        told = status(order, now) if order.version else None
        change = Change(
            order=order,
            journal=[r for r in rows if isinstance(r, JournalEntry)],
            audit=[r for r in rows if isinstance(r, AuditRow)],
            charges=charges(before, order, now),
            put=put,
            drop=drop,
            event=told,
        )
        sequence = await self.book.save(change)
        self._pools.stored(put, drop)
        self.saved[order.id] = order
        self._index(order)
        if told is not None:
            self.sequence = sequence
            self.events.send(Stored(sequence=sequence, account=order.account, status=told))
        for waiting in self._waiting.pop(order.id, ()):
            if not waiting.done():
                waiting.set_result(None)

    def _allocation_changes(
        self, before: Order | None, order: Order, now: datetime
    ) -> tuple[list[Allocation], list[Allocation]]:
        """What the change of the order changes of its block, to be stored with it: (put, drop)."""
        mine = self._pools.owned(order.id)
        if mine is None:
            return [], []
        if order.block is not None:
            state = AllocationState.LIVE if order.was_live else AllocationState.HELD
            fresh = before is None or before.block is None or state is not mine.state
            return ([replace(mine, state=state)], []) if fresh else ([], [])
        rests = self._pools.given_back(mine, now, mine.state is AllocationState.LIVE)
        return ([rests], []) if rests is not None else ([], [mine])

    def _lose(self, id: str, error: Exception) -> None:
        """The store refused: what was not recorded did not happen, and whoever waits hears of it."""
        self._pending.pop(id, None)
        saved = self.saved.get(id)
        if (mine := self._pools.owned(id)) is not None and (saved is None or saved.block is None):
            self._pools.stored((), [mine])
        if id in self.saved:
            self.wanted[id] = self.saved[id]
            self._alarm(id, self.clock.now() + timedelta(seconds=1))
        else:
            gone = self.wanted.pop(id, None)
            if gone is not None:
                self.by_ref.pop((gone.account, gone.ref), None)
        for waiting in self._waiting.pop(id, ()):
            if not waiting.done():
                waiting.set_exception(OutcomeUnknown(f"not recorded: {error}"))

    async def _call(self, id: str, calls: tuple[Call, ...]) -> None:
        order = self.wanted[id]
        sent = self.clock.now()
        results = await self._answers(order, calls)
        order, now = self.wanted[id], self.clock.now()
        for call, result in zip(calls, results, strict=True):
            order = fold(order, call, result, sent, now)
            segment = order.segment(call.segment)
            if (
                isinstance(result, Refused) and segment is not None
            ):  # the whole story stays here; up goes the incident id
                story = [f"{r.code.short}: {r.message}" for r in result.reasons]
                log.info("supplier refused", service=id, segment=segment.key, incident=incident_id(segment), why=story)
            outcome = type(result).__name__ if result is not None else "done"
            self._note(order, call, f"{outcome}: {result}" if isinstance(result, Exception) else outcome)
        self.wanted[id] = order

    async def _answers(self, order: Order, calls: tuple[Call, ...]) -> list[Result]:
        """The answers to all calls. A supplier that has none a moment after the deadline is not waited for: the call is
        made again, with the same key, so that what a straggler still does is the same."""
        ctx = self.below(order)
        tasks = [asyncio.create_task(self._perform(order, call, ctx)) for call in calls]
        limit = max(ctx.deadline or self.clock.now(), self.clock.now()) + GRACE
        alarm = asyncio.ensure_future(self.clock.sleep((limit - self.clock.now()).total_seconds()))
        everything = asyncio.ensure_future(asyncio.wait(tasks))
        try:
            await asyncio.wait({everything, alarm}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
            everything.cancel()
            for task in tasks:
                if not task.done():
                    self._stragglers.add(task)
                    task.add_done_callback(self._stragglers.discard)
        return [t.result() if t.done() else OutcomeUnknown("no answer by the deadline") for t in tasks]

    async def _perform(self, order: Order, call: Call, ctx: Context) -> Result:
        segment = order.segment(call.segment)
        supplier = self.suppliers.get(segment.alias) if segment else None
        if segment is None or supplier is None:
            return OutcomeUnknown(f"supplier {call.segment} is not administered any more")
        try:
            match call.kind:
                case CallKind.RESERVE:
                    return await supplier.reserve(segment.ref, call.version, segment.spec, ctx)
                case CallKind.EXTEND:
                    seconds = extension_s(order, self.clock.now())
                    return await supplier.extend(segment.ref, call.version, seconds, ctx)
                case CallKind.COMMIT:
                    assert segment.bindings is not None
                    return await supplier.commit(segment.ref, call.version, segment.bindings, ctx)
                case CallKind.RELEASE:
                    await supplier.release(segment.ref, call.version, ctx)
                case CallKind.TERMINATE:
                    await supplier.terminate(segment.ref, ctx)
                case CallKind.LOOK:
                    return await supplier.status(segment.ref, ctx)
            return None
        except ServiceNotFound:
            return None
        except OutcomeUnknown as unknown:
            log.warning("no answer", service=order.id, segment=segment.key, call=call.kind.value, error=str(unknown))
            return unknown
        except Exception as error:
            log.exception("call failed", service=order.id, segment=segment.key, call=call.kind.value)
            return error

    def below(self, order: Order) -> Context:
        """What our callees may spend: one level and our share of calls less, and no more time than we have."""
        parts = max(1, len(order.segments))
        reserving = order.state is ServiceState.RESERVING
        return Context(
            deadline=order.deadline if reserving else self.clock.now() + PATIENCE,
            hop_budget=order.hop_budget - 1,
            call_budget=(order.call_budget - parts) // parts,
            trace=order.trace,
        )

    def _note_calls(self, order: Order, calls: tuple[Call, ...], detail: str) -> None:
        for call in calls:
            self._note(order, call, detail)

    def _note(self, order: Order, call: Call, detail: str) -> None:
        segment = order.segment(call.segment)
        entry = JournalEntry(
            at=self.clock.now(),
            service=order.id,
            segment=call.segment,
            what=call.kind.value,
            key=f"{segment.ref if segment else ''}/{call.version}",
            detail=detail[:500],
        )
        self._pending.setdefault(order.id, []).append(entry)

    def audit(self, id: str, account: str, action: str, ref: str, before: str, after: str, ctx: Context) -> None:
        row = AuditRow(
            at=self.clock.now(),
            actor=account,
            on_behalf_of=account,
            action=action,
            subject=ref,
            before=before,
            after=after,
            reason="",
            trace=ctx.trace,
        )
        self._pending.setdefault(id, []).append(row)

    # waiting

    async def until(self, id: str, done: Callable[[Order], bool], ctx: Context) -> None:
        """Until the recorded order satisfies `done`. Raises OutcomeUnknown at the caller's deadline, when the work goes on,
        and when the node stops, when the next start takes it up."""
        while not ((saved := self.saved.get(id)) is not None and saved is self.wanted.get(id) and done(saved)):
            if self._closing:
                raise _stopped()
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(id, set()).add(future)
            try:
                await self._hear(future, ctx)
            finally:
                if (waiting := self._waiting.get(id)) is not None:
                    waiting.discard(future)
                    if not waiting:
                        del self._waiting[id]

    async def _hear(self, future: asyncio.Future[None], ctx: Context) -> None:
        if ctx.deadline is None:
            return await future
        left = (ctx.deadline - self.clock.now()).total_seconds()
        alarm = asyncio.ensure_future(self.clock.sleep(max(0.0, left)))
        try:
            await asyncio.wait({future, alarm}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
        if future.done():
            future.result()
        elif self.clock.now() >= ctx.deadline:
            raise OutcomeUnknown("the deadline passed while the order was being worked on")
        return None

    def _alarm(self, id: str, at: datetime | None) -> None:
        """Wake the order at `at`, instead of any former alarm."""
        former = self._alarms.get(id)
        if former is not None:
            if former[0] == at and not former[1].done():
                return
            del self._alarms[id]
            former[1].cancel()
        if at is not None and not self._closing:
            self._alarms[id] = (at, asyncio.create_task(self._sleep_until(id, at), name=f"alarm-{id}"))

    async def _sleep_until(self, id: str, at: datetime) -> None:
        await self.clock.sleep(max(0.0, (at - self.clock.now()).total_seconds()))
        self._alarms.pop(id, None)
        self._wake(id)

    # what suppliers tell

    def _index(self, order: Order) -> None:
        for segment in order.segments:
            if remains(segment):
                self._by_child[segment.alias, segment.ref] = (order.id, segment.key)
            else:
                self._by_child.pop((segment.alias, segment.ref), None)

    async def _follow(self, alias: str, supplier: Supplier) -> None:
        """Hear of every change at one supplier; after each (re)connection ask for the present state of all that is open."""
        attempts = 0
        while True:
            try:
                async for event in supplier.watch("", _PARTS):
                    if event.status is None:
                        await self._resync(alias, supplier)
                    else:
                        self._observe(alias, event.status.ref, event.status)
                    attempts = 0
            except Exception as error:
                log.warning("supplier's events broke off", supplier=alias, error=str(error))
            attempts += 1
            await self.clock.sleep(min(10.0, 0.2 * 2 ** min(attempts, 8)))

    async def _resync(self, alias: str, supplier: Supplier) -> None:
        for order in list(self.wanted.values()):
            for segment in order.segments:
                if segment.alias == alias and remains(segment):
                    with suppress(ServiceNotFound):
                        self._observe(alias, segment.ref, await supplier.status(segment.ref, self.below(order)))

    def _observe(self, alias: str, ref: str, seen: ServiceStatus) -> None:
        id, key = self._by_child.get((alias, ref), ("", ""))
        order = self.wanted.get(id)
        if order is None:
            return
        changed = observe(order, key, seen)
        if changed is not order:
            self.change(changed)


def _stopped() -> OutcomeUnknown:
    return OutcomeUnknown("the node stopped while the order was being worked on")


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
