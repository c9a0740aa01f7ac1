"""The engine of orders: one worker per order, between the pure tasks and the suppliers.

Theory of operation
- Every order has one worker at a time. It lets the tasks go as far as they can (`advance`), records where that led with
  the intents of the calls that follow, makes the calls in parallel, and folds the answers in; the next record holds them
  together with the next intents. When nothing is to be done it ends, to be woken by time, by a caller or by a supplier.
- Whoever changes an order changes it in memory (`change`) and waits (`until`) for what was recorded of it.
- A restart loads the orders and wakes those of which something is to be done: a call whose intent was recorded is made again,
  same ref, same version.
- Where other processes work on the same store, only orders that are claimed here are worked (`sharing`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from broker.decompose.lexicon import Lexicon, lexicon
from broker.orders import asking, path_ids
from broker.orders.accounting import charges, status
from broker.orders.calling import Caller
from broker.orders.catalogue import Catalogue
from broker.orders.claims import ALONE, Claims, Fenced, Taken
from broker.orders.comparing import shortfall
from broker.orders.decisions import Asked
from broker.orders.delivering import fold
from broker.orders.judging import judged
from broker.orders.listening import Listener, Returned
from broker.orders.own_resources import free_to_it, with_own
from broker.orders.path_ids import PathIds
from broker.orders.pools import PREFIXES, Pool, Pools, of_others
from broker.orders.reasons import incident_id
from broker.orders.records import AuditRow, Change, JournalEntry, Order, OrderBook, Terms
from broker.orders.schedules import CannotSchedule, Workflows
from broker.orders.steps import Steps
from broker.orders.tasks import STUCK_AFTER, Call, CallKind, Env, Pause, Planner, Track, advance
from broker.orders.unrecorded import Unrecorded
from broker.orders.waiting import Alarms, Waiters
from broker.orders.wanted import Wanted
from lower_sp_clients.broadcast import Broadcast
from lower_sp_clients.supplier import Context, NotRecorded, OutcomeUnknown, Supplier
from lower_sp_clients.vim.holds import Allocation
from service_model.clock import Clock
from service_model.outcomes import Reason, Refused, Reserved, ServiceState, ServiceStatus
from service_model.replacing import replace
from service_model.words import Prefix

log = structlog.get_logger()

WATCHER_BEHIND = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An event as it is told to watchers: whose service, and at which place in the store's sequence."""

    sequence: int
    account: str
    status: ServiceStatus


_ASKS = frozenset({ServiceState.RESERVING, ServiceState.ACTIVE, ServiceState.DEGRADED})
"""The states in which managers are asked."""
_LIVE = frozenset({ServiceState.ACTIVE, ServiceState.DEGRADED})
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
        watcher_behind: int = WATCHER_BEHIND,
        workflows: Workflows | None = None,
        managers: asking.Managers = asking.nobody,
    ) -> None:
        """`secret`: what accounts' words for our places are made with. `fell_short` is told the alias of a supplier that
        held for more than announced, or not what it was asked. `hopes`: how often an order may be planned over what was
        announced before. `stuck_after`: see Env. `watcher_behind`: how many events a watcher may be behind. `workflows`: those
        that are built in, if not given. `managers`: whom services may name."""
        self.catalogue = catalogue
        self.epoch = epoch
        self.book = book
        self.clock = clock
        self.claims = claims
        self._planner = planner
        self._secret = secret
        self._fell_short = fell_short
        self._hopes, self._stuck_after = hopes, stuck_after
        self.steps = Steps()
        """Whose turn it is to go on."""
        self.workflows = workflows or Workflows()
        self._managers = managers
        self._pools = Pools((), ())
        self.path_ids = PathIds()
        self.wanted = Wanted()
        self.saved: dict[str, Order] = {}
        self.by_ref: dict[tuple[str, str], str] = {}
        self._unrecorded = Unrecorded(clock)
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._alarms, self._waiters = Alarms(clock, self._wake), Waiters(clock)
        self.events: Broadcast[Stored] = Broadcast(watcher_behind)
        self._caller = Caller(clock)
        self._listener = Listener(
            self._caller, clock, self.wanted, self._heard, dead_after=catalogue.dead_after, died=self._wake
        )
        self.sequence = 0
        """The last event that was sent."""
        self._closing = False
        self.read_only = ""
        """Why nothing is changed at present; empty: it is."""
        self.untracked_since: datetime | None = None
        """When the store was restored from a backup, as long as somebody below has what it does not know of."""
        self._known: Mapping[str, Supplier] = {}

    # life

    async def open(self, pools: tuple[Pool, ...], read_only: str = "") -> None:
        """Load every order and take up what a former process left unfinished; not now where it is `read_only`, for the reason
        given. What orders of a former incarnation of the store ask for from now on bears the refs of this one. Raises
        CannotSchedule for one that needs a plugin which is not loaded."""
        self.read_only = read_only
        loaded, allocations = await self.book.load()
        orders = [_of_epoch(order, self.epoch) for order in loaded]
        for order in orders:
            try:
                self.workflows(order)
            except CannotSchedule as error:
                raise CannotSchedule(f"service {order.ref!r} of {order.account!r}: {error}") from None
        self._pools = Pools(pools, [a for a in allocations if a.pool != path_ids.POOL])
        self.path_ids = PathIds(a for a in allocations if a.pool == path_ids.POOL)
        self.sequence = await self.book.last_event()
        for order in orders:
            self.wanted[order.id] = self.saved[order.id] = order
            self.by_ref[order.account, order.ref] = order.id
            self._listener.index(order)
        self._take_up()

    def _take_up(self) -> None:
        """Work on every order that was loaded, and is to be worked here."""
        for order in () if self.read_only else tuple(self.saved.values()):
            if self.claims.mine(order.id):
                self._resume(order)

    def _resume(self, order: Order) -> None:
        """Go on where another process, or another life of this one, was; or be woken in time where nothing is to be done now,
        as of most that are live."""
        states = [part.state for part in (order, order.beside, order.healing) if part is not None]
        if ServiceState.RESERVING not in states:  # whose tasks take addresses
            pause = advance(order, self._env(order), self.workflows)
            if pause.order is order and not pause.calls and pause.asks is None and not any(_asked(order)):
                self._alarms.set(order.id, pause.wake)
                return
        self._wake(order.id)

    def keep_off(self, kept_off: Sequence[Allocation]) -> None:
        """These blocks and identifiers of paths are given to nobody, and no others but what orders have. What an order of ours
        only holds is among them: its end does not free it."""
        kept = {(a.pool, a.value) for a in kept_off}
        own = [a for a in self._pools.allocations() if not of_others(a) and (a.pool, a.value) not in kept]
        self._pools = Pools(self._pools.all(), [*own, *(a for a in kept_off if a.pool.startswith(PREFIXES))])
        named = [a for a in self.path_ids.allocations() if not of_others(a) and (a.pool, a.value) not in kept]
        self.path_ids = PathIds([*named, *(a for a in kept_off if a.pool == path_ids.POOL)])

    def go_on(self) -> None:
        """What was read-only may be changed from now on."""
        if self.read_only:
            self.read_only = ""
            self.use(self._known)
            self._take_up()

    async def close(self) -> None:
        """Stop working: every order stays as it is recorded. Whoever waits for one is told that its outcome is not known."""
        self._closing = True
        self._alarms.close()
        workers = tuple(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await self._listener.close()
        await self._caller.close()
        self._waiters.close(_stopped)

    def use(self, suppliers: Mapping[str, Supplier]) -> None:
        """These are the suppliers from now on, by alias. While nothing is changed, nothing that they tell is heard."""
        self._known = suppliers
        if not self.read_only:
            self._listener.follow(suppliers)

    @property
    def pools(self) -> Pools:
        return self._pools

    def use_pools(self, pools: tuple[Pool, ...]) -> None:
        """Raises PoolInUse where a live allocation would lose its place."""
        self._pools = self._pools.changed(pools)

    async def tick(self) -> None:
        """Free the blocks that have rested long enough."""
        if self.read_only:
            return
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
        waking = [f"order {id}" for id in {*self._workers, *self._alarms, *self._waiters}]
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
        if self._closing or self.read_only or not self.claims.mine(id):
            return
        worker = self._workers.get(id)
        if worker is not None and not worker.done():
            self._again.add(id)
            return
        task = asyncio.create_task(self._work(id), name=f"order-{id}")
        self._workers[id] = task
        task.add_done_callback(lambda done: self._rests(id, done))

    def _rests(self, id: str, worker: asyncio.Task[None]) -> None:
        """Nobody works on the order any more. A worker that is cancelled before it has begun could not say so itself."""
        if self._workers.get(id) is not worker:
            return
        del self._workers[id]
        if id in self._again and not self._closing:
            self._again.discard(id)
            self._wake(id)

    async def _work(self, id: str) -> None:
        try:
            while True:
                self._again.discard(id)
                pause = await self._step(id)
                if pause.calls and self._are_elsewhere(pause.order, pause.calls):
                    await self.claims.give(id)
                    return
                answers = [self._ask(id, track, asked) for track, asked in _asked(pause.order)]
                if pause.calls:
                    answers.append(self._call(id, pause.calls))
                if answers:
                    await asyncio.gather(*answers)
                elif id not in self._again:
                    self._alarms.set(id, pause.wake)
                    return
        except asyncio.CancelledError:
            raise
        except Fenced:
            log.info("another replica works on the order", service=id)
            self._let_go(id)
        except NotRecorded as error:
            log.error("order cannot be recorded", service=id, error=str(error))
            self._lose(id, error)
        except Exception as error:
            log.exception("order cannot be recorded", service=id)
            self._lose(id, OutcomeUnknown(f"not recorded: {error}"))

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
            rows = self._unrecorded.of(id)
            self._unrecorded.add_calls(recorded, pause.calls, "intent")
            for track, asked in _asked(recorded):
                part, before = track.part(recorded), track.part(order)
                if part is not None and (before is None or asked is not before.asked):
                    self._unrecorded.add(id, asking.entry(part, asked, now, "intent"))
            try:
                await self._record(recorded, now)
            except Taken:
                refused += 1
                if self.wanted[id] is not recorded or refused > _REFUSED:  # somebody built on it
                    raise
                self._give_back(id)
                self.wanted[id] = order
                self._unrecorded.put(id, rows)
                await self.claims.catch_up()
                continue
            if self.wanted[id] is recorded:
                return Pause(recorded, pause.calls, pause.wake)
            if pause.calls:  # somebody changed it meanwhile; what was recorded as intended is done first
                return Pause(recorded, pause.calls, pause.wake)

    async def _advanced(self, order: Order) -> Pause:
        """As far as it goes over the notes of this moment, planned wherever a task asks for it."""
        await self.steps.turn()
        env = self._env(order)
        pause = advance(order, env, self.workflows)
        if pause.asks is not None and pause.order.being_healed and not order.being_healed:
            env = self._env(pause.order)  # what has just begun is planned over what stays of the service, too
            pause = advance(pause.order, env, self.workflows)
        while (asked := pause.asks) is not None:
            await self.steps.turn()
            found = await self._planner(asked.spec, env.over(asked), env.now, asked.avoid, asked.most, why=asked.why)
            env = replace(env, now=self.clock.now(), planned=(*env.planned, (asked, found)))
            pause = advance(pause.order, env, self.workflows)
        return pause

    def _env(self, order: Order) -> Env:
        """What its tasks may know at this moment."""
        snapshot = self.catalogue.snapshot
        alone = order.beside is None and order.healing is None
        return Env(
            now=self.clock.now(),
            snapshot=snapshot if alone else with_own(snapshot, free_to_it(order)),
            allocate=self._allocate,
            identify=self.path_ids.allocate,
            lexicon=self.lexicon,
            hoped=partial(self.catalogue.hoped, snapshot) if alone else None,
            hopes=self._hopes,
            stuck_after=self._stuck_after,
            silent=self._listener.silent,
            dead=self._listener.dead,
            heal_after=self.catalogue.heal_after,
            flapping=self.catalogue.flapping,
        )

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
        rows = self._unrecorded.take(order.id)
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
        if before is not None and order.state in _LIVE and order.reasons and order.reasons != before.reasons:
            why = [reason.message for reason in order.reasons]
            log.warning("a live service is not whole", service=order.id, state=order.state.short, why=why)
        if before is not None and order.heals > before.heals:
            log.warning("a healing begins", service=order.id, healing=order.heals, broken=sorted(order.care.broken))
        sequence = await self.book.save(change)
        self._pools.stored(put, drop)
        self.path_ids.stored(named, unnamed)
        self.saved[order.id] = order
        self._listener.index(order)
        if told is not None and sequence > self.sequence:  # it was not read and told meanwhile
            self.sequence = sequence
            self.events.send(Stored(sequence=sequence, account=order.account, status=told))
        if self.wanted[order.id] is order:
            self._waiters.tell(order)

    def _check_new(self, before: Order | None, order: Order) -> None:
        """Raises Taken where what it was given anew turned out to be another's meanwhile."""
        blocks = order.blocks() - (before.blocks() if before is not None else frozenset())
        ids = order.all_path_ids() - (before.all_path_ids() if before is not None else frozenset())
        if not (blocks <= {a.value for a in self._pools.owned(order.id)} and self.path_ids.has(order.id, ids)):
            raise Taken(f"service {order.id}: what it was given is another's")

    def _allocation_changes(
        self, before: Order | None, order: Order, now: datetime
    ) -> tuple[list[Allocation], list[Allocation]]:
        """What the change of the order changes of its blocks, to be stored with it: (put, drop)."""
        had = before.blocks() if before is not None else frozenset[str]()
        return self._pools.changes(order.id, had, order.blocks(), order.was_live, now)

    def _lose(self, id: str, error: OutcomeUnknown) -> None:
        """The store refused: what was not recorded did not happen, and whoever waits hears of it."""
        self._forget_wish(id)
        if id in self.saved:
            self._listener.ask_again(id)
            self._alarms.set(id, self.clock.now() + timedelta(seconds=1))
        self._waiters.disappoint(id, error)

    def _give_back(self, id: str) -> None:
        """What the order was given and is not recorded of it."""
        saved = self.saved.get(id)
        kept = saved.blocks() if saved is not None else frozenset[str]()
        self._pools.stored((), [mine for mine in self._pools.owned(id) if mine.value not in kept])
        self.path_ids.lost(id, saved)

    def _forget_wish(self, id: str) -> None:
        """The order is as it is recorded, or is not."""
        self._unrecorded.take(id)
        self._give_back(id)
        if id in self.saved:
            self.wanted[id] = self.saved[id]
            return
        self.claims.forget(id)
        gone = self.wanted.lose(id)
        if gone is not None and self.by_ref.get((gone.account, gone.ref)) == id:
            del self.by_ref[gone.account, gone.ref]

    # other processes on the same store

    def _are_elsewhere(self, order: Order, calls: tuple[Call, ...]) -> bool:
        """Whether any of them is to be made of an own domain, and those are another replica's."""
        if self.claims.leads():
            return False
        parts = ((call.of.part(order), call.segment) for call in calls)
        segments = (part.segment(key) for part, key in parts if part is not None)
        listings = (self.catalogue.listing(segment.alias) for segment in segments if segment is not None)
        return any(listing is not None and listing.local for listing in listings)

    def _let_go(self, id: str) -> None:
        unrecorded = self.wanted.get(id) is not self.saved.get(id)
        self._alarms.set(id, None)
        self._forget_wish(id)
        if unrecorded:
            self._waiters.disappoint(id, OutcomeUnknown("another replica has taken the order over"))

    # managers

    async def _ask(self, id: str, track: Track, asked: Asked) -> None:
        """Ask a manager what was recorded. What it decides is recorded before anything follows from it."""
        part = track.part(self.wanted[id])
        if part is None or part.asked != asked:
            return
        answer = await asking.answer_of(part, asked, self._managers, self.clock)
        order, now = self.wanted[id], self.clock.now()
        part = track.part(order)
        if part is None or part.asked != asked:  # it was released meanwhile, or asked for anew
            return
        decision = judged(part, asked, answer, now)
        log.info("a manager decided", service=id, manager=asked.manager, what=asked.task.short, detail=decision.detail)
        told = f"{decision.outcome.short}: {decision.detail}"
        self._unrecorded.add(id, asking.entry(part, asked, now, told))
        self.wanted[id] = track.put(order, replace(part, asked=None, decisions=(*part.decisions, decision)))

    async def _call(self, id: str, calls: tuple[Call, ...]) -> None:
        order = self.wanted[id]
        sent = self.clock.now()
        results = await self._caller.answers(order, calls)
        order, now = self.wanted[id], self.clock.now()
        for call, result in zip(calls, results, strict=True):
            if (part := call.of.part(order)) is None:  # ended meanwhile with the service
                continue
            part = fold(part, call, result, sent, now)
            order = call.of.put(order, part)
            segment = part.segment(call.segment)
            if isinstance(result, Refused) and segment is not None:  # the story stays here; up goes the incident id
                story = [f"{r.code.short}: {r.message}" for r in result.reasons]
                log.info("supplier refused", service=id, segment=segment.key, incident=incident_id(segment), why=story)
            holds = isinstance(result, Reserved) and call.kind is CallKind.RESERVE
            if holds and segment is not None and (told := shortfall(part, segment)):
                log.info("held otherwise than announced or asked", service=id, segment=segment.key, **told)
                self._fell_short(segment.alias)
            outcome = type(result).__name__ if result is not None else "done"
            became = f"{outcome}: {result}" if isinstance(result, Exception) else outcome
            self._unrecorded.add_call(part, call, became)
        self.wanted[id] = order

    def audit(self, id: str, account: str, action: str, ref: str, before: str, after: str, ctx: Context) -> None:
        """To be recorded with the order's next change."""
        row = AuditRow.by_owner(self.clock.now(), account, action, ref, before, after, ctx.trace)
        self._unrecorded.add(id, row)

    async def until(self, id: str, done: Callable[[Order], bool], ctx: Context) -> Order:
        """The order as soon as it is recorded as somebody wanted it last, and `done`. Raises OutcomeUnknown at the caller's
        deadline, when the work goes on, and when the node stops, when the next start takes it up."""
        if (saved := self.saved.get(id)) is not None and saved is self.wanted.get(id) and done(saved):
            return saved
        if self._closing:
            raise _stopped()
        return await self._waiters.until(id, done, ctx)


def _of_epoch(order: Order, epoch: str) -> Order:
    """The order with all of its versions as one of this incarnation of the store."""
    for track in Track:
        part = track.part(order)
        if part is not None and part.epoch != epoch:
            order = track.put(order, replace(part, epoch=epoch))
    return order


def _asked(order: Order) -> Iterator[tuple[Track, Asked]]:
    """What managers are being asked, and of which of the order's versions."""
    for track in Track:
        part = track.part(order)
        if part is not None and part.asked is not None and part.state in _ASKS:
            yield track, part.asked


def _stopped() -> OutcomeUnknown:
    return OutcomeUnknown("the node stopped while the order was being worked on")
