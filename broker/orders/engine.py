"""The engine of orders: one worker per order, between the pure tasks and the suppliers.

Theory of operation
- Every order has one worker at a time. It lets the tasks go as far as they can (`advance`), records where that led with
  the intents of the calls that follow, makes the calls in parallel, and folds the answers in; the next record holds them
  together with the next intents. When nothing is to be done it ends, to be woken by time, by a caller or by a supplier.
- Whoever changes an order changes it in memory (`change`) and waits (`until`) for what was recorded of it.
- A restart loads the orders and wakes them all: a call whose intent was recorded is made again, same ref, same version.
- Where other processes work on the same store, only orders that are claimed here are worked (`sharing`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

import structlog

# the tasks register themselves
import broker.orders.contending
import broker.orders.delivering
import broker.orders.placing
import broker.orders.reserving
import broker.orders.stuck  # noqa: F401
from broker.decompose.lexicon import Lexicon, lexicon
from broker.orders import path_ids
from broker.orders.accounting import charges, status
from broker.orders.calling import Caller
from broker.orders.catalogue import Catalogue
from broker.orders.claims import ALONE, Claims, Fenced, Taken
from broker.orders.comparing import shortfall
from broker.orders.delivering import fold
from broker.orders.listening import Listener, Returned
from broker.orders.path_ids import PathIds
from broker.orders.pools import Pool, Pools
from broker.orders.reasons import incident_id
from broker.orders.records import AuditRow, Change, JournalEntry, Order, OrderBook, Terms
from broker.orders.tasks import STUCK_AFTER, Call, CallKind, Env, Pause, Planner, advance
from lower_sp_clients.broadcast import Broadcast
from lower_sp_clients.supplier import Context, OutcomeUnknown, Supplier
from lower_sp_clients.vim.holds import Allocation
from service_model.clock import Alarm, Clock, within
from service_model.outcomes import Reason, Refused, Reserved, ServiceState, ServiceStatus
from service_model.words import Prefix

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An event as it is told to watchers: whose service, and at which place in the store's sequence."""

    sequence: int
    account: str
    status: ServiceStatus


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """Somebody who waits until an order is recorded that is `done`."""

    done: Callable[[Order], bool]
    recorded: asyncio.Future[Order]


_REFUSED = 16
"""How often in a row another process may have been first with what an order was given."""


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
        secret: bytes,
        fell_short: Callable[[str], None],
        hopes: int = 0,
        stuck_after: timedelta = STUCK_AFTER,
        claims: Claims = ALONE,
    ) -> None:
        """`secret`: what accounts' words for our places are made with. `fell_short` is told the alias of a supplier that
        held for more than announced, or not what it was asked. `hopes`: how often an order may be planned over what was
        announced before. `stuck_after`: see Env."""
        self.catalogue = catalogue
        self.epoch = epoch
        self.book = book
        self.clock = clock
        self.claims = claims
        self._planner = planner
        self._secret = secret
        self._fell_short = fell_short
        self._hopes, self._stuck_after = hopes, stuck_after
        self._pools = Pools((), ())
        self.path_ids = PathIds()
        self.wanted: dict[str, Order] = {}
        self.saved: dict[str, Order] = {}
        self.by_ref: dict[tuple[str, str], str] = {}
        self._pending: dict[str, list[JournalEntry | AuditRow]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._alarms: dict[str, tuple[datetime, Alarm]] = {}
        self._waiting: dict[str, list[Waiter]] = {}
        self.events: Broadcast[Stored] = Broadcast()
        self._caller = Caller(clock)
        self._listener = Listener(self._caller, clock, self.wanted, self._heard)
        self.sequence = 0
        """The last event that was sent."""
        self._closing = False

    # life

    async def open(self, pools: tuple[Pool, ...]) -> None:
        """Load every order and take up what a former process left unfinished."""
        orders, allocations = await self.book.load()
        self._pools = Pools(pools, [a for a in allocations if a.pool != path_ids.POOL])
        self.path_ids = PathIds(a for a in allocations if a.pool == path_ids.POOL)
        self.sequence = await self.book.last_event()
        for order in orders:
            self.wanted[order.id] = self.saved[order.id] = order
            self.by_ref[order.account, order.ref] = order.id
            self._listener.index(order)
        for order in orders:
            if order.state is not ServiceState.TERMINATED:
                self._wake(order.id)

    async def close(self) -> None:
        """Stop working: every order stays as it is recorded. Whoever waits for one is told that its outcome is not known."""
        self._closing = True
        for _, alarm in self._alarms.values():
            alarm.cancel()
        workers = tuple(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await self._listener.close()
        await self._caller.close()
        for waiter in [w for waiting in self._waiting.values() for w in waiting if not w.recorded.done()]:
            waiter.recorded.set_exception(_stopped())

    def use(self, suppliers: Mapping[str, Supplier]) -> None:
        """These are the suppliers from now on, by alias."""
        self._listener.follow(suppliers)

    @property
    def pools(self) -> Pools:
        return self._pools

    def use_pools(self, pools: tuple[Pool, ...]) -> None:
        """Raises PoolInUse where a live allocation would lose its place."""
        self._pools = self._pools.changed(pools)

    async def tick(self) -> None:
        """Free the blocks that have rested long enough."""
        now = self.clock.now()
        rested = self._pools.rested(now)
        if rested and self.claims.leads():
            await self.book.put_allocations((), rested, now)
            self._pools.stored((), rested)

    def allocations(self) -> tuple[Allocation, ...]:
        return self._pools.allocations()

    def returned(self) -> tuple[Returned, ...]:
        """What suppliers say to have of segments that were given up."""
        return self._listener.returned()

    def orders(self) -> tuple[Order, ...]:
        """Every order as recorded, tombstones included."""
        return tuple(self.saved.values())

    def unfinished(self) -> tuple[str, ...]:
        """Orders that somebody works on, waits for or is to wake; segments whose supplier may still tell something."""
        waking = [f"order {id}" for id in {*self._workers, *self._alarms, *self._waiting}]
        return (*waking, *self._listener.open())

    def lexicon(self, account: str, terms: Terms) -> Lexicon:
        """What the account calls the places that there are now."""
        return lexicon(self.catalogue.snapshot, self._secret, account, terms.disclosure)

    def order_of(self, account: str, ref: str) -> Order | None:
        id = self.by_ref.get((account, ref))
        return self.wanted.get(id) if id is not None else None

    # the worker

    def change(self, order: Order) -> None:
        """An order as somebody wants it now; its worker records it before anybody hears of it."""
        self.wanted[order.id] = order
        self.by_ref[order.account, order.ref] = order.id
        self._wake(order.id)

    def _heard(self, order: Order) -> None:
        """An order as a supplier's word makes it; where it is another process's, that one hears it too."""
        if self.claims.mine(order.id):
            self.change(order)

    def _wake(self, id: str) -> None:
        if self._closing or not self.claims.mine(id):
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
                if pause.calls and self._are_elsewhere(id, pause.calls):
                    await self.claims.give(id)
                    return
                if pause.calls:
                    await self._call(id, pause.calls)
                elif id not in self._again:
                    self._alarm(id, pause.wake)
                    return
        except asyncio.CancelledError:
            raise
        except Fenced:
            log.info("another replica works on the order", service=id)
            self._let_go(id)
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
        refused = 0
        while True:
            order = self.wanted[id]
            pause = await self._advanced(order)
            if self.wanted[id] is not order:  # somebody changed it while it was planned
                continue
            if pause.order is self.saved.get(id):
                return pause
            now = self.clock.now()
            recorded = replace(pause.order, updated=now)
            self.wanted[id] = recorded
            rows = list(self._pending.get(id, ()))
            self._note_calls(recorded, pause.calls, "intent")
            try:
                await self._record(recorded, now)
            except Taken:
                refused += 1
                if self.wanted[id] is not recorded or refused > _REFUSED:  # somebody built on it
                    raise
                self._give_back(id)
                self.wanted[id], self._pending[id] = order, rows
                await self.claims.catch_up()
                continue
            if self.wanted[id] is recorded:
                return Pause(recorded, pause.calls, pause.wake)
            if pause.calls:  # somebody changed it meanwhile; what was recorded as intended is done first
                return Pause(recorded, pause.calls, pause.wake)

    async def _advanced(self, order: Order) -> Pause:
        """As far as it goes over the notes of this moment, planned wherever a task asks for it."""
        env = Env(
            now=self.clock.now(),
            snapshot=(snapshot := self.catalogue.snapshot),
            allocate=self._allocate,
            identify=self.path_ids.allocate,
            lexicon=self.lexicon,
            hoped=partial(self.catalogue.hoped, snapshot),
            hopes=self._hopes,
            stuck_after=self._stuck_after,
        )
        pause = advance(order, env)
        while (asked := pause.asks) is not None:
            found = await self._planner(asked.spec, env.over(asked), env.now, asked.avoid, why=asked.why)
            env = replace(env, now=self.clock.now(), planned=(*env.planned, (asked, found)))
            pause = advance(pause.order, env)
        return pause

    def _allocate(
        self, owner: str, sizes: Mapping[int, int], avoid: Sequence[Prefix] = ()
    ) -> tuple[tuple[str, Prefix], ...] | Reason:
        """Of the pools as they are at this moment: they may be changed while an order is planned."""
        return self._pools.allocate(owner, sizes, avoid)

    async def _record(self, order: Order, now: datetime) -> None:
        before = self.saved.get(order.id)
        put, drop = self._allocation_changes(before, order, now)
        named, unnamed = self.path_ids.changes(before, order)
        if self.claims.shared:
            self._check_new(before, order)
        rows = self._pending.pop(order.id, [])
        told = status(order, now) if order.version else None
        change = Change(
            order=order,
            journal=[r for r in rows if isinstance(r, JournalEntry)],
            audit=[r for r in rows if isinstance(r, AuditRow)],
            charges=charges(before, order, now),
            put=[*put, *named],
            drop=[*drop, *unnamed],
            event=told,
        )
        sequence = await self.book.save(change)
        self._pools.stored(put, drop)
        self.path_ids.stored(named, unnamed)
        self.saved[order.id] = order
        self._listener.index(order)
        if told is not None and not self.claims.shared:  # else they are told in the order of all replicas (`tell`)
            self.sequence = sequence
            self.events.send(Stored(sequence=sequence, account=order.account, status=told))
        if self.wanted[order.id] is order:
            self._answer(order)

    def _answer(self, order: Order) -> None:
        """Tell who waits for this order as it is recorded now."""
        for waiter in self._waiting.get(order.id, ()):
            if not waiter.recorded.done() and waiter.done(order):
                waiter.recorded.set_result(order)

    def _check_new(self, before: Order | None, order: Order) -> None:
        """Raises Taken where what it was given anew turned out to be another's meanwhile."""
        blocks = order.blocks() - (before.blocks() if before is not None else frozenset())
        ids = set(order.path_ids.values()) - set(before.path_ids.values() if before is not None else ())
        if not (blocks <= {a.value for a in self._pools.owned(order.id)} and self.path_ids.has(order.id, ids)):
            raise Taken(f"service {order.id}: what it was given is another's")

    def _allocation_changes(
        self, before: Order | None, order: Order, now: datetime
    ) -> tuple[list[Allocation], list[Allocation]]:
        """What the change of the order changes of its blocks, to be stored with it: (put, drop)."""
        had = before.blocks() if before is not None else frozenset[str]()
        return self._pools.changes(order.id, had, order.blocks(), order.was_live, now)

    def _lose(self, id: str, error: Exception) -> None:
        """The store refused: what was not recorded did not happen, and whoever waits hears of it."""
        self._forget_wish(id)
        if id in self.saved:
            self._alarm(id, self.clock.now() + timedelta(seconds=1))
        self._disappoint(id, OutcomeUnknown(f"not recorded: {error}"))

    def _give_back(self, id: str) -> None:
        """What the order was given and is not recorded of it."""
        saved = self.saved.get(id)
        kept = saved.blocks() if saved is not None else frozenset[str]()
        self._pools.stored((), [mine for mine in self._pools.owned(id) if mine.value not in kept])
        self.path_ids.lost(id, saved)

    def _forget_wish(self, id: str) -> None:
        """The order is as it is recorded, or is not."""
        self._pending.pop(id, None)
        self._give_back(id)
        if id in self.saved:
            self.wanted[id] = self.saved[id]
            return
        self.claims.forget(id)
        gone = self.wanted.pop(id, None)
        if gone is not None and self.by_ref.get((gone.account, gone.ref)) == id:
            del self.by_ref[gone.account, gone.ref]

    def _disappoint(self, id: str, error: OutcomeUnknown) -> None:
        for waiter in self._waiting.pop(id, ()):
            if not waiter.recorded.done():
                waiter.recorded.set_exception(error)

    # other processes on the same store

    def _are_elsewhere(self, id: str, calls: tuple[Call, ...]) -> bool:
        """Whether any of them is to be made of an own domain, and those are another replica's."""
        if self.claims.leads():
            return False
        segments = (self.wanted[id].segment(call.segment) for call in calls)
        listings = (self.catalogue.listing(segment.alias) for segment in segments if segment is not None)
        return any(listing is not None and listing.local for listing in listings)

    def _let_go(self, id: str) -> None:
        unrecorded = self.wanted.get(id) is not self.saved.get(id)
        self._alarm(id, None)
        self._forget_wish(id)
        if unrecorded:
            self._disappoint(id, OutcomeUnknown("another replica has taken the order over"))

    async def _call(self, id: str, calls: tuple[Call, ...]) -> None:
        order = self.wanted[id]
        sent = self.clock.now()
        results = await self._caller.answers(order, calls)
        order, now = self.wanted[id], self.clock.now()
        for call, result in zip(calls, results, strict=True):
            order = fold(order, call, result, sent, now)
            segment = order.segment(call.segment)
            if isinstance(result, Refused) and segment is not None:  # the story stays here; up goes the incident id
                story = [f"{r.code.short}: {r.message}" for r in result.reasons]
                log.info("supplier refused", service=id, segment=segment.key, incident=incident_id(segment), why=story)
            holds = isinstance(result, Reserved) and call.kind is CallKind.RESERVE
            if holds and segment is not None and (told := shortfall(order, segment)):
                log.info("held otherwise than announced or asked", service=id, segment=segment.key, **told)
                self._fell_short(segment.alias)
            outcome = type(result).__name__ if result is not None else "done"
            self._note(order, call, f"{outcome}: {result}" if isinstance(result, Exception) else outcome)
        self.wanted[id] = order

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
        self._note_audit(id, AuditRow.by_owner(self.clock.now(), account, action, ref, before, after, ctx.trace))

    def _note_audit(self, id: str, row: AuditRow) -> None:
        """To be recorded with the order's next change."""
        self._pending.setdefault(id, []).append(row)

    # waiting

    async def until(self, id: str, done: Callable[[Order], bool], ctx: Context) -> Order:
        """The order as soon as it is recorded as somebody wanted it last, and `done`. Raises OutcomeUnknown at the caller's
        deadline, when the work goes on, and when the node stops, when the next start takes it up."""
        if (saved := self.saved.get(id)) is not None and saved is self.wanted.get(id) and done(saved):
            return saved
        if self._closing:
            raise _stopped()
        waiter = Waiter(done, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(id, []).append(waiter)
        try:
            left = None if ctx.deadline is None else (ctx.deadline - self.clock.now()).total_seconds()
            if left is not None and not await within(self.clock, left, waiter.recorded):
                raise OutcomeUnknown("the deadline passed while the order was being worked on")
            return await waiter.recorded
        finally:
            if waiter in (waiting := self._waiting.get(id, [])):
                waiting.remove(waiter)
                if not waiting:
                    del self._waiting[id]

    def _alarm(self, id: str, at: datetime | None) -> None:
        """Wake the order at `at`, instead of any former alarm."""
        former = self._alarms.get(id)
        if former is not None:
            if former[0] == at:
                return
            del self._alarms[id]
            former[1].cancel()
        if at is not None and not self._closing:
            left = (at - self.clock.now()).total_seconds()
            self._alarms[id] = (at, self.clock.after(left, lambda: self._ring(id)))

    def _ring(self, id: str) -> None:
        self._alarms.pop(id, None)
        self._wake(id)


def _stopped() -> OutcomeUnknown:
    return OutcomeUnknown("the node stopped while the order was being worked on")
