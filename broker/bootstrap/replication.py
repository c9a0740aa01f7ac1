"""A node among others on one store: what is claimed here, and how its memory is kept true to what others record.

Theory of operation
- All that is changed is read in the order of the store (`Replica.news`), one batch after the other, and put where it is
  remembered: orders and allocations with the broker, holds with the domains, quotes, documents. A request first catches up,
  so that it is judged by all that was answered before it came, whoever answered.
- What is recorded here is known at once, unless others have recorded something before it that is not: then, and at the
  store's hint that others have, it is read. Without a hint the next tick finds out.
- At each tick the lease is renewed when a third of it is over, and a batch of what nobody works on is taken over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from broker.orders.broker import Broker
from broker.orders.engine import Stored
from broker.orders.path_ids import POOL
from broker.orders.pools import PREFIXES
from broker.storage.books import SqlOrderBook
from broker.storage.hints import Hints
from broker.storage.replicas import OWN, LeaseLost, News, Replica
from lower_sp_clients.supplier import NotRecorded
from service_model.clock import Clock
from service_model.outcomes import STATUS

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Where what others record is remembered. The keys of holds are (domain, ref), of quotes the domain, "" for the broker."""

    broker: Broker
    reads: Callable[[], Awaitable[None]]
    """All of the own domains, before they are worked on here."""
    leads: Callable[[bool], Awaitable[None]]
    holds: Callable[[list[tuple[str, str]]], Awaitable[None]]
    quotes: Callable[[list[str]], Awaitable[None]]
    documents: Callable[[], Awaitable[None]]


class Replication:
    """Claims of a node whose store is shared. `join` before anything is read, `follow` once its parts are made; `tick`."""

    shared = True

    def __init__(self, replica: Replica, book: SqlOrderBook, clock: Clock, lost: Callable[[LeaseLost], None]) -> None:
        """`lost` is told when this replica was away for too long, and has to end."""
        self._replica = replica
        self._book = book
        self._clock = clock
        self._lost = lost
        self._parts: Parts | None = None
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._moved: set[str] = set()
        """What changed hands and is not all known yet."""
        self._beat_at = clock.now()
        self._hints: Hints | None = None
        self._heard = asyncio.Event()
        self._hearing: asyncio.Task[None] | None = None

    async def join(self) -> None:
        await self._replica.join()
        self._beat_at = self._clock.now() + self._replica.lease / 3

    async def follow(self, parts: Parts, hints: Callable[[Callable[[], None]], Hints]) -> None:
        """Take over what nobody works on, and be told of changes from now on."""
        self._parts = parts
        await self.tick()
        loop = asyncio.get_running_loop()

        def heard() -> None:
            loop.call_soon_threadsafe(self._heard.set)

        self._replica.behind = self._heard.set
        self._hints = hints(heard)
        self._hearing = asyncio.create_task(self._hear(), name="hints")

    async def close(self) -> None:
        """Be told nothing any more."""
        if self._hearing is not None:
            self._hearing.cancel()
            with suppress(asyncio.CancelledError):
                await self._hearing
        if self._hints is not None:
            await asyncio.to_thread(self._hints.close)
        await asyncio.gather(*(t for t in (self._running, self._next) if t is not None), return_exceptions=True)

    async def leave(self) -> None:
        """Let others have what is claimed here, at once. Nobody works on it here any more."""
        await self._replica.leave()

    async def tick(self) -> None:
        now = self._clock.now()
        if now >= self._beat_at:
            try:
                await self._replica.beat()
            except LeaseLost as error:
                self._lost(error)
                raise
            self._beat_at = now + self._replica.lease / 3
        while await self._replica.take_over():
            await self.catch_up()
        await self.catch_up()

    async def _hear(self) -> None:
        while True:
            await self._heard.wait()
            self._heard.clear()
            try:
                await self.catch_up()
            except NotRecorded as error:  # here and below: the next tick tries again
                log.error("changes of other replicas not read", error=str(error))
            except Exception:
                log.exception("changes of other replicas not read")

    # Claims

    def mine(self, order: str) -> bool:
        return order in self._replica.fences

    def leads(self) -> bool:
        return OWN in self._replica.fences

    def begin(self, order: str) -> None:
        self._replica.fences[order] = 0

    def forget(self, order: str) -> None:
        self._replica.fences.pop(order, None)

    async def take(self, order: str) -> None:
        await self._replica.take(order)
        await self.catch_up()

    async def give(self, order: str) -> None:
        await self._replica.give(order, OWN)

    async def catch_up(self) -> None:
        """Who comes while others catch up begins with those who come next: what it has to know may have been too late."""
        if self._next is None:
            self._next = asyncio.create_task(self._catch_up(self._running), name="catch-up")
        await asyncio.shield(self._next)

    async def _catch_up(self, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await asyncio.wait([former])
        self._running, self._next = self._next, None
        if self._parts is None:
            return
        while (news := await self._replica.news()) is not None:
            await self._learn(news, self._parts)
            self._replica.learnt(news)

    async def _learn(self, news: News, parts: Parts) -> None:
        """May be done again from the beginning, where it failed."""
        broker, fences, moved = parts.broker, self._replica.fences, self._moved
        come: dict[str, int] = {}
        for claim in news.claims:
            ours = claim.owner == self._replica.id
            if claim.what in fences and (not ours or fences[claim.what] != claim.fence):
                del fences[claim.what]
                moved.add(claim.what)
                if claim.what == OWN:
                    await parts.leads(False)
                else:
                    broker.drop(claim.what)
            if ours and claim.what not in fences:
                come[claim.what] = claim.fence
                moved.add(claim.what)
        if "documents" in news.others:
            await parts.documents()
        orders = [*news.others.get("order", ()), *sorted(moved - {OWN})]
        if ids := [id for id in dict.fromkeys(orders) if id not in fences]:
            broker.learn(await self._book.find(ids))
        await self._allocations(news, sorted(moved - {OWN}), broker)
        if "hold" in news.others:
            pairs = (key.partition(" ") for key in news.others["hold"])
            await parts.holds([(domain, ref) for domain, _, ref in pairs])
        if "quote" in news.others:
            await parts.quotes(news.others["quote"])
        if OWN in come:
            await parts.reads()  # while nothing of them can be written here: there is no fence to do so under
            fences[OWN] = come.pop(OWN)
            log.info("this replica works on the own domains")
            await parts.leads(True)
        for order, fence in come.items():  # which may have parts in own domains
            fences[order] = fence
            broker.adopt(order)
        moved.clear()
        if news.orders:
            while batch := await self._book.events_of_all(broker.sequence, 500):
                broker.tell(
                    [Stored(sequence=n, account=who, status=STATUS.validate_json(doc)) for n, who, doc in batch]
                )

    async def _allocations(self, news: News, moved: list[str], broker: Broker) -> None:
        """Those that others changed; and all of the orders that changed hands, of which one was perhaps recorded unheard."""
        keys = [key.rpartition(" ")[::2] for key in news.others.get("allocation", ())]
        named = [(pool, value) for pool, value in keys if pool.startswith(PREFIXES) or pool == POOL]
        if named:
            found = await self._book.allocated(named)
            there = {(a.pool, a.value) for a in found}
            broker.mirror(found, [key for key in named if key not in there])
        if moved:
            theirs = await self._book.allocated_to(moved)
            for owner in moved:
                broker.settle(owner, [a for a in theirs if a.owner == owner])
