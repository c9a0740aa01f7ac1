"""The broker: a Supplier built out of Suppliers.

Theory of operation
- Every order has one worker at a time. It lets the tasks go as far as they can (`advance`), records where that led with
  the intents of the calls that follow, makes the calls in parallel, and folds the answers in; the next record holds them
  together with the next intents. When nothing is to be done it ends, to be woken by time, by a caller or by a supplier.
- What a caller does (reserve, commit, release, terminate) changes the order in memory and wakes the worker; the caller is
  answered from what was recorded, never from what is only in memory.
- A restart loads the orders and wakes them all: a call whose intent was recorded is made again, same ref, same version.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

# the tasks register themselves
import broker.orders.delivering
import broker.orders.reserving  # noqa: F401
from broker.orders.accounting import answer, charges, status
from broker.orders.catalogue import Catalogue
from broker.orders.delivering import Result, fold, observe
from broker.orders.gather import unconfirmed, whole
from broker.orders.pools import Pool, Pools
from broker.orders.records import AuditRow, Change, JournalEntry, Order, OrderBook, Terms
from broker.orders.states import GONE, Event, SegmentState
from broker.orders.tasks import GUARD, Call, CallKind, Env, Pause, Planner, abandon, advance
from lower_sp_clients.broadcast import Broadcast, Overrun
from lower_sp_clients.supplier import Context, OutcomeUnknown, ServiceNotFound, SignedNote, Supplier
from lower_sp_clients.versions import LIVE, OVER, Verdict, judge
from lower_sp_clients.vim.holds import Allocation, AllocationState
from service_model.check import check
from service_model.clock import Clock
from service_model.outcomes import (
    STATUS,
    Bindings,
    Committed,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
)
from service_model.outcomes import (
    Event as ServiceEvent,
)
from service_model.spec import ServiceSpec

log = structlog.get_logger()

FEATURES = frozenset({"chains", "lan-management", "labels", "prefix-blocks"})
"""What a request may name in `required_features`, and notes list as `api_features`."""
PATIENCE = timedelta(seconds=30)
"""How long a reservation may take where the caller sets no deadline."""
_SETTLING = frozenset({ServiceState.RESERVING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An event as it is told to watchers: whose service, and at which place in the store's sequence."""

    sequence: int
    account: str
    status: ServiceStatus


class Broker:
    """Orders of all accounts. `seen_by` gives each account its Supplier."""

    def __init__(
        self,
        *,
        epoch: str,
        book: OrderBook,
        clock: Clock,
        catalogue: Catalogue,
        planner: Planner,
        terms: Callable[[str], Terms | Reason],
        new_id: Callable[[], str],
    ) -> None:
        self.catalogue = catalogue
        self._epoch = epoch
        self._book = book
        self._clock = clock
        self._planner = planner
        self._terms = terms
        self._new_id = new_id
        self._pools = Pools((), ())
        self._suppliers: dict[str, Supplier] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._orders: dict[str, Order] = {}
        self._saved: dict[str, Order] = {}
        self._by_ref: dict[tuple[str, str], str] = {}
        self._by_child: dict[tuple[str, str], tuple[str, str]] = {}
        self._pending: dict[str, list[JournalEntry | AuditRow]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._alarms: dict[str, tuple[datetime, asyncio.Task[None]]] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._events: Broadcast[Stored] = Broadcast()
        self._closing = False

    # life

    async def open(self, pools: tuple[Pool, ...]) -> None:
        """Load every order and take up what a former process left unfinished."""
        orders, allocations = await self._book.load()
        self._pools = Pools(pools, allocations)
        for order in orders:
            self._orders[order.id] = self._saved[order.id] = order
            self._by_ref[order.account, order.ref] = order.id
            self._index(order)
        for order in orders:
            if order.state not in (ServiceState.TERMINATED,):
                self._wake(order.id)

    async def close(self) -> None:
        """Stop working: every order stays as it is recorded."""
        self._closing = True
        alarms = [task for _, task in self._alarms.values()]
        tasks = [*alarms, *self._workers.values(), *self._followers.values()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    def use(self, suppliers: Mapping[str, Supplier]) -> None:
        """These are the suppliers from now on, by alias."""
        for alias in [a for a, s in self._suppliers.items() if suppliers.get(a) is not s]:
            self._followers.pop(alias).cancel()
        fresh = [a for a, s in suppliers.items() if self._suppliers.get(a) is not s]
        self._suppliers = dict(suppliers)
        for alias in fresh:
            self._followers[alias] = asyncio.create_task(self._follow(alias, suppliers[alias]), name=f"follow-{alias}")

    def use_pools(self, pools: tuple[Pool, ...]) -> None:
        """Raises PoolInUse where a live allocation would lose its place."""
        self._pools = self._pools.changed(pools)

    async def tick(self) -> None:
        """Free the blocks that have rested long enough."""
        rested = self._pools.rested(self._clock.now())
        if rested:
            await self._book.put_allocations((), rested)

    def allocations(self) -> tuple[Allocation, ...]:
        return self._pools.allocations()

    def orders(self) -> tuple[Order, ...]:
        """Every order as recorded, tombstones included."""
        return tuple(self._saved.values())

    def seen_by(self, account: str) -> AccountView:
        return AccountView(self, account)

    # what callers do

    async def reserve(
        self, account: str, ref: str, version: int, spec: ServiceSpec, ctx: Context
    ) -> Reserved | Refused:
        known = self._of(account, ref)
        digest = spec.digest()
        if known is not None and version in known.answers:
            if known.answers[version].digest == digest:
                return answer(known, version, self._clock.now())
            reason = Reason(code=ReasonCode.KEY_REUSED, message=f"version {version} was used for another request")
            return Refused(ref=ref, version=version, reasons=(reason,))
        verdict = judge(known.known() if known else None, version, digest)
        if isinstance(verdict, Reason):
            return Refused(ref=ref, version=version, reasons=(verdict,))
        if verdict is not Verdict.REPEAT or known is None:
            terms = self._terms(account)
            wrong = (terms,) if isinstance(terms, Reason) else self._unacceptable(account, spec, ctx, terms)
            if wrong or isinstance(terms, Reason):
                return Refused(ref=ref, version=version, reasons=wrong)
            known = self._begin(known, account, ref, version, spec, digest, terms, ctx)
        await self._until(known.id, lambda o: o.state not in _SETTLING or o.version > version, ctx)
        return answer(self._saved[known.id], version, self._clock.now())

    def _begin(
        self,
        known: Order | None,
        account: str,
        ref: str,
        version: int,
        spec: ServiceSpec,
        digest: str,
        terms: Terms,
        ctx: Context,
    ) -> Order:
        now = self._clock.now()
        patience = min(ctx.deadline, now + PATIENCE) if ctx.deadline is not None else now + PATIENCE
        fresh = Order(
            id=known.id if known else self._new_id(),
            account=account,
            ref=ref,
            version=version,
            state=ServiceState.RESERVING,
            created=known.created if known else now,
            updated=now,
            epoch=self._epoch,
            digest=digest,
            spec=spec,
            terms=terms,
            hop_budget=ctx.hop_budget,
            call_budget=ctx.call_budget,
            trace=ctx.trace,
            deadline=patience - timedelta(milliseconds=250),
        )
        if known is not None and known.version:
            held = known.state is ServiceState.RESERVED
            fresh = replace(
                fresh,
                block=known.block,
                pool=known.pool,
                segments=tuple(replace(s, wanted=False) for s in known.segments),
                released_upto=known.released_upto if held else max(known.released_upto, known.version),
                answers=known.answers,
                previous=replace(known, previous=None) if held else None,
            )
        self._audit(fresh.id, account, "reserve", ref, known.state.short if known else "", "RESERVING", ctx)
        self._change(fresh)
        return fresh

    def _unacceptable(self, account: str, spec: ServiceSpec, ctx: Context, terms: Terms) -> tuple[Reason, ...]:
        """Everything that is wrong with a request before it is planned."""

        def no(code: ReasonCode, message: str, subject: str = "") -> Reason:
            return Reason(code=code, message=message, subject=subject)

        if ctx.hop_budget <= 0:
            return (no(ReasonCode.HOP_BUDGET, "the request may not go to one more level"),)
        if ctx.call_budget <= 0:
            return (no(ReasonCode.CALL_BUDGET, "the request has no calls left"),)
        problems = check(spec)
        if problems:
            return tuple(
                no(ReasonCode.INVALID_SPEC, f"{'.'.join(map(str, p.field))}: {p.reason}", ".".join(map(str, p.field)))
                for p in problems
            )
        out = [
            no(ReasonCode.MANAGER_NOT_ALLOWED, f"service-specific manager {name!r} is not run here", name)
            for name in spec.managers
        ]
        out += [
            no(ReasonCode.FEATURE_NOT_OFFERED, f"feature {name!r} is not offered", name)
            for name in spec.required_features
            if name not in FEATURES
        ]
        live = sum(
            1 for o in self._orders.values() if o.account == account and o.state in LIVE | {ServiceState.RESERVED}
        )
        if live >= terms.max_services:
            out.append(no(ReasonCode.QUOTA, f"the agreement allows {terms.max_services} services"))
        return tuple(out)

    async def extend(self, account: str, ref: str, version: int, seconds: float, ctx: Context) -> Reserved | Refused:
        order = self._of(account, ref)
        refusal = self._not_held(order, version)
        if order is None or refusal is not None:
            return Refused(ref=ref, version=version, reasons=(refusal or _NOT_HELD,))
        sent = self._clock.now()
        seconds = min(seconds, order.terms.max_hold_s)
        mine = [s for s in order.segments if s.wanted]
        answers = await asyncio.gather(
            *(
                self._suppliers[s.alias].extend(s.ref, s.version, seconds + GUARD.total_seconds(), self._below(order))
                for s in mine
            ),
            return_exceptions=True,
        )
        order = self._orders[order.id]
        if refusal := self._not_held(order, version):
            return Refused(ref=ref, version=version, reasons=(refusal,))
        for segment, result in zip(mine, answers, strict=True):
            if isinstance(result, Reserved):
                order = fold(order, Call(CallKind.EXTEND, segment.key, segment.version), result, sent, sent)
        ends = [s.expires - GUARD for s in order.segments if s.wanted and s.expires is not None]
        until = min([sent + timedelta(seconds=seconds), *ends])
        if order.expires is not None and until > order.expires:
            order = replace(order, expires=until)
        self._audit(order.id, account, "extend", ref, "RESERVED", "RESERVED", ctx)
        self._change(order)
        await self._until(order.id, lambda saved: saved.expires == order.expires, ctx)
        return answer(self._saved[order.id], version, self._clock.now())

    async def commit(self, account: str, ref: str, version: int, told: Bindings, ctx: Context) -> Committed | Refused:
        order = self._of(account, ref)
        if order is None or order.version != version or order.state not in LIVE:
            refusal = self._not_held(order, version)
            if order is None or order.choice is None or refusal is not None:
                failed = order is not None and order.version == version and order.state is ServiceState.FAILED
                reasons = order.reasons if order is not None and failed else (refusal or _NOT_HELD,)
                return Refused(ref=ref, version=version, reasons=reasons)
            wrong = unconfirmed(order.choice, told)
            if wrong is not None:
                return Refused(ref=ref, version=version, reasons=(wrong,))
            self._audit(order.id, account, "commit", ref, "RESERVED", "COMMITTING", ctx)
            self._change(replace(order, bindings=whole(order.choice, told)).on(Event.COMMIT))
        elif order.choice is not None and order.bindings != whole(order.choice, told):
            reason = Reason(code=ReasonCode.KEY_REUSED, message="committed with other bindings", subject="bindings")
            return Refused(ref=ref, version=version, reasons=(reason,))
        await self._until(order.id, lambda o: o.state not in (ServiceState.RESERVED, ServiceState.COMMITTING), ctx)
        done = self._saved[order.id]
        if done.state in LIVE:
            return Committed(ref=ref, version=version)
        ended = Reason(code=ReasonCode.NOT_HELD, message="the service was terminated")
        return Refused(ref=ref, version=version, reasons=done.reasons or (ended,))

    async def release(self, account: str, ref: str, version: int, ctx: Context) -> None:
        order = self._of(account, ref)
        if order is None:
            tombstone = replace(self._tombstone(account, ref, ServiceState.EXPIRED), released_upto=version)
            self._audit(tombstone.id, account, "release", ref, "", "EXPIRED", ctx)
            self._change(tombstone)
        elif order.state in (ServiceState.RESERVED, ServiceState.RESERVING) and order.version <= version:
            reason = Reason(code=ReasonCode.CUSTOMER, message="released by its owner")
            self._audit(order.id, account, "release", ref, order.state.short, "EXPIRED", ctx)
            self._change(replace(abandon(order), reasons=(reason,), released_upto=version).on(Event.RELEASE))
        elif order.released_upto < version and order.state in (ServiceState.REFUSED, ServiceState.EXPIRED):
            self._change(replace(order, released_upto=version))
        else:
            return
        order = self._of(account, ref)
        assert order is not None
        await self._until(order.id, lambda o: o.released_upto >= version, ctx)

    async def terminate(self, account: str, ref: str, ctx: Context) -> None:
        order = self._of(account, ref)
        if order is None:
            tombstone = self._tombstone(account, ref, ServiceState.TERMINATED)
            self._audit(tombstone.id, account, "terminate", ref, "", "TERMINATED", ctx)
            self._change(tombstone)
            order = tombstone
        elif order.state not in OVER:
            self._audit(order.id, account, "terminate", ref, order.state.short, "TERMINATING", ctx)
            self._change(replace(order, previous=None, expires=None).on(Event.TERMINATE))
        await self._until(order.id, lambda o: o.state in OVER, ctx)

    def status(self, account: str, ref: str) -> ServiceStatus:
        order = self._by_ref.get((account, ref))
        if order is None or order not in self._saved or not self._saved[order].version:
            raise ServiceNotFound(ref)
        return status(self._saved[order], self._clock.now())

    def services(self, account: str) -> tuple[ServiceStatus, ...]:
        mine = [o for o in self._saved.values() if o.account == account and o.version]
        return tuple(status(o, self._clock.now()) for o in sorted(mine, key=lambda o: (o.created, o.id)))

    async def watch(self, account: str, after: str) -> AsyncIterator[ServiceEvent]:
        """Events behind the token `after` ("" or one of another epoch: from now), first a bookmark."""
        live = self._events.receive(first=Stored(sequence=0, account="", status=_NOTHING))
        await anext(live)  # from here on nothing is missed
        epoch, _, number = after.partition(".")
        resumes = epoch == self._epoch and number.isdecimal()
        at = int(number) if resumes else await self._book.last_event()
        yield ServiceEvent(token=self._token(at))
        while resumes and (batch := await self._book.events_after(at, account, 500)):
            for at, document in batch:
                yield ServiceEvent(token=self._token(at), status=STATUS.validate_json(document))
        try:
            async for event in live:
                if event.account == account and event.sequence > at:
                    at = event.sequence
                    yield ServiceEvent(token=self._token(at), status=event.status)
        except Overrun as error:
            raise OutcomeUnknown(str(error)) from None

    def _token(self, sequence: int) -> str:
        return f"{self._epoch}.{sequence}"

    def _tombstone(self, account: str, ref: str, state: ServiceState) -> Order:
        now = self._clock.now()
        return Order(
            id=self._new_id(),
            account=account,
            ref=ref,
            version=0,
            state=state,
            created=now,
            updated=now,
            epoch=self._epoch,
        )

    def _not_held(self, order: Order | None, version: int) -> Reason | None:
        if order is None or order.version != version:
            return _NOT_HELD
        now = self._clock.now()
        if order.state is ServiceState.RESERVED and order.expires is not None and order.expires > now:
            return None
        if order.state in (ServiceState.RESERVED, ServiceState.EXPIRED):
            return Reason(code=ReasonCode.HOLD_EXPIRED, message="the hold has expired", subject="version")
        return _NOT_HELD

    def _of(self, account: str, ref: str) -> Order | None:
        id = self._by_ref.get((account, ref))
        return self._orders.get(id) if id is not None else None

    # the worker

    def _change(self, order: Order) -> None:
        """An order as somebody wants it now; its worker records it before anybody hears of it."""
        self._orders[order.id] = order
        self._by_ref[order.account, order.ref] = order.id
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
            order = self._orders[id]
            now = self._clock.now()
            env = Env(now=now, snapshot=self.catalogue.snapshot, plan=self._planner, allocate=self._pools.allocate)
            pause = advance(order, env)
            if pause.order is self._saved.get(id):
                return pause
            recorded = replace(pause.order, updated=now)
            self._orders[id] = recorded
            self._note_calls(recorded, pause.calls, "intent")
            await self._record(recorded, now)
            if self._orders[id] is recorded:
                return Pause(recorded, pause.calls, pause.wake)
            if pause.calls:  # somebody changed it meanwhile; what was recorded as intended is done first
                return Pause(recorded, pause.calls, pause.wake)

    async def _record(self, order: Order, now: datetime) -> None:
        before = self._saved.get(order.id)
        put, drop = self._allocation_changes(before, order, now)
        rows = self._pending.pop(order.id, [])
        change = Change(
            order=order,
            journal=[r for r in rows if isinstance(r, JournalEntry)],
            audit=[r for r in rows if isinstance(r, AuditRow)],
            charges=charges(before, order, now),
            put=put,
            drop=drop,
        )
        sequence = await self._book.save(change)
        self._saved[order.id] = order
        self._index(order)
        if order.version:
            self._events.send(Stored(sequence=sequence, account=order.account, status=status(order, now)))
        for waiting in self._waiting.pop(order.id, ()):
            if not waiting.done():
                waiting.set_result(None)

    def _allocation_changes(
        self, before: Order | None, order: Order, now: datetime
    ) -> tuple[list[Allocation], list[Allocation]]:
        had = before.block if before else None
        if order.block is not None:
            live = order.was_live
            if had is None or (before is not None and live != before.was_live):
                state = AllocationState.LIVE if live else AllocationState.HELD
                return [self._pools.record(order.pool, order.block, state)], []
        elif had is not None and before is not None:
            given = self._pools.give_back(before.pool, had, now, before.was_live)
            return ([given], []) if given.state is AllocationState.RESTING else ([], [given])
        return [], []

    def _lose(self, id: str, error: Exception) -> None:
        """The store refused: what was not recorded did not happen, and whoever waits hears of it."""
        if id in self._saved:
            self._orders[id] = self._saved[id]
            self._alarm(id, self._clock.now() + timedelta(seconds=1))
        else:
            gone = self._orders.pop(id, None)
            if gone is not None:
                self._by_ref.pop((gone.account, gone.ref), None)
        for waiting in self._waiting.pop(id, ()):
            if not waiting.done():
                waiting.set_exception(OutcomeUnknown(f"not recorded: {error}"))

    async def _call(self, id: str, calls: tuple[Call, ...]) -> None:
        order = self._orders[id]
        sent = self._clock.now()
        results = await asyncio.gather(*(self._perform(order, call) for call in calls))
        order, now = self._orders[id], self._clock.now()
        for call, result in zip(calls, results, strict=True):
            order = fold(order, call, result, sent, now)
            outcome = type(result).__name__ if result is not None else "done"
            self._note(order, call, f"{outcome}: {result}" if isinstance(result, Exception) else outcome)
        self._orders[id] = order

    async def _perform(self, order: Order, call: Call) -> Result:
        segment = order.segment(call.segment)
        supplier = self._suppliers.get(segment.alias) if segment else None
        if segment is None or supplier is None:
            return OutcomeUnknown(f"supplier {call.segment} is not administered any more")
        ctx = self._below(order)
        try:
            match call.kind:
                case CallKind.RESERVE:
                    return await supplier.reserve(segment.ref, call.version, segment.spec, ctx)
                case CallKind.EXTEND:
                    return await supplier.extend(segment.ref, call.version, order.terms.max_hold_s, ctx)
                case CallKind.COMMIT:
                    assert segment.bindings is not None
                    return await supplier.commit(segment.ref, call.version, segment.bindings, ctx)
                case CallKind.RELEASE:
                    await supplier.release(segment.ref, call.version, ctx)
                case CallKind.TERMINATE:
                    await supplier.terminate(segment.ref, ctx)
            return None
        except OutcomeUnknown as unknown:
            log.warning("no answer", service=order.id, segment=segment.key, call=call.kind.value, error=str(unknown))
            return unknown
        except Exception as error:
            log.exception("call failed", service=order.id, segment=segment.key, call=call.kind.value)
            return error

    def _below(self, order: Order) -> Context:
        """What our callees may spend: one level and our share of calls less, and no more time than we have."""
        parts = max(1, len(order.segments))
        reserving = order.state is ServiceState.RESERVING
        return Context(
            deadline=order.deadline if reserving else self._clock.now() + PATIENCE,
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
            at=self._clock.now(),
            service=order.id,
            segment=call.segment,
            what=call.kind.value,
            key=f"{segment.ref if segment else ''}/{call.version}",
            detail=detail[:500],
        )
        self._pending.setdefault(order.id, []).append(entry)

    def _audit(self, id: str, account: str, action: str, ref: str, before: str, after: str, ctx: Context) -> None:
        row = AuditRow(
            at=self._clock.now(),
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

    async def _until(self, id: str, done: Callable[[Order], bool], ctx: Context) -> None:
        """Until the recorded order satisfies `done`. Raises OutcomeUnknown at the caller's deadline; the work goes on."""
        while not ((saved := self._saved.get(id)) is not None and saved is self._orders.get(id) and done(saved)):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(id, set()).add(future)
            if ctx.deadline is None:
                await future
                continue
            left = (ctx.deadline - self._clock.now()).total_seconds()
            alarm = asyncio.ensure_future(self._clock.sleep(max(0.0, left)))
            try:
                await asyncio.wait({future, alarm}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                alarm.cancel()
            if future.done():
                future.result()
            elif self._clock.now() >= ctx.deadline:
                self._waiting.get(id, set()).discard(future)
                raise OutcomeUnknown("the deadline passed while the order was being worked on")

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
        await self._clock.sleep(max(0.0, (at - self._clock.now()).total_seconds()))
        self._alarms.pop(id, None)
        self._wake(id)

    # what suppliers tell

    def _index(self, order: Order) -> None:
        for segment in order.segments:
            self._by_child[segment.alias, segment.ref] = (order.id, segment.key)

    async def _follow(self, alias: str, supplier: Supplier) -> None:
        """Hear of every change at one supplier; after each (re)connection ask for the present state of all that is open."""
        attempts = 0
        while True:
            try:
                async for event in supplier.watch(""):
                    attempts = 0
                    if event.status is None:
                        await self._resync(alias, supplier)
                    else:
                        self._observe(alias, event.status.ref, event.status)
            except Exception as error:
                log.warning("supplier's events broke off", supplier=alias, error=str(error))
            attempts += 1
            await self._clock.sleep(min(10.0, 0.2 * 2**attempts))

    async def _resync(self, alias: str, supplier: Supplier) -> None:
        for order in list(self._orders.values()):
            for segment in order.segments:
                if segment.alias == alias and segment.version and segment.state not in GONE:
                    try:
                        self._observe(alias, segment.ref, await supplier.status(segment.ref, self._below(order)))
                    except ServiceNotFound:
                        if segment.state is SegmentState.LEAVING:
                            self._observe(alias, segment.ref, None)

    def _observe(self, alias: str, ref: str, seen: ServiceStatus | None) -> None:
        id, key = self._by_child.get((alias, ref), ("", ""))
        order = self._orders.get(id)
        if order is None:
            return
        changed = observe(order, key, seen)
        if changed is not order:
            self._change(changed)


class AccountView:
    """The broker as one account's Supplier: everything else does not exist for it."""

    def __init__(
        self, broker: Broker, account: str, note: Callable[[], AsyncIterator[SignedNote]] | None = None
    ) -> None:
        self._broker = broker
        self._account = account
        self._note = note

    def notes(self) -> AsyncIterator[SignedNote]:
        if self._note is None:
            raise OutcomeUnknown("no notes are published to this account")
        return self._note()

    async def reserve(self, ref: str, version: int, spec: ServiceSpec, ctx: Context) -> Reserved | Refused:
        return await self._broker.reserve(self._account, ref, version, spec, ctx)

    async def extend(self, ref: str, version: int, seconds: float, ctx: Context) -> Reserved | Refused:
        return await self._broker.extend(self._account, ref, version, seconds, ctx)

    async def commit(self, ref: str, version: int, bindings: Bindings, ctx: Context) -> Committed | Refused:
        return await self._broker.commit(self._account, ref, version, bindings, ctx)

    async def release(self, ref: str, version: int, ctx: Context) -> None:
        await self._broker.release(self._account, ref, version, ctx)

    async def terminate(self, ref: str, ctx: Context) -> None:
        await self._broker.terminate(self._account, ref, ctx)

    async def status(self, ref: str, ctx: Context) -> ServiceStatus:
        return self._broker.status(self._account, ref)

    async def services(self, ctx: Context) -> AsyncIterator[ServiceStatus]:
        for item in self._broker.services(self._account):
            yield item

    def watch(self, after: str) -> AsyncIterator[ServiceEvent]:
        return self._broker.watch(self._account, after)


_NOT_HELD = Reason(code=ReasonCode.NOT_HELD, message="this version is not held", subject="version")
_NOTHING = ServiceStatus(ref="", version=0, state=ServiceState.UNSPECIFIED)
