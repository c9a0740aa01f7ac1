"""A node among others on one store: what is claimed here, and how its memory is kept true to what others record.

Theory of operation
- All that is changed is read in the order of the store (`Replica.news`), by one at a time, and put where it is remembered:
  orders and allocations with the broker, holds with the domains, quotes, documents. A request first catches up, so that it is
  judged by all that was answered before it came, whoever answered.
- The store's hint that something was changed is taken as one: without it, the next tick finds out.
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
from broker.storage.books import SqlOrderBook
from broker.storage.hints import Hints
from broker.storage.replicas import OWN, LeaseLost, News, Replica
from service_model.clock import Clock
from service_model.outcomes import STATUS

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Where what others record is remembered. The keys of holds are (domain, ref), of quotes the domain, "" for the broker."""

    broker: Broker
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
        self._following = asyncio.Lock()
        self._beat_at = clock.now()
        self._hints: Hints | None = None
        self._heard = asyncio.Event()
        self._hearing: asyncio.Task[None] | None = None

    async def join(self) -> None:
        await self._replica.join()
        self._beat_at = self._clock.now() + self._replica.lease / 3

    async def follow(self, parts: Parts, hints: Callable[[Callable[[], None]], Hints] | None = None) -> None:
        """Take over what nobody works on, and be told of changes from now on."""
        self._parts = parts
        await self.tick()
        loop = asyncio.get_running_loop()

        def heard() -> None:
            loop.call_soon_threadsafe(self._heard.set)

        if hints is not None:
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
            except Exception:  # the next tick tries again; what failed is in the log
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
        async with self._following:
            while (news := await self._replica.news()) is not None:
                await self._learn(news)

    async def _learn(self, news: News) -> None:
        parts, fences = self._parts, self._replica.fences
        if parts is None:
            return
        broker = parts.broker
        come: dict[str, int] = {}
        gone: list[str] = []
        for claim in news.claims:
            ours = claim.owner == self._replica.id
            if claim.what in fences and (not ours or fences[claim.what] != claim.fence):
                del fences[claim.what]
                gone.append(claim.what)
            if ours and claim.what not in fences:
                come[claim.what] = claim.fence
        for what in gone:
            if what == OWN:
                await parts.leads(False)
            else:
                broker.drop(what)
        if "documents" in news.others:
            await parts.documents()
        moved = [what for what in (*gone, *come) if what != OWN]
        ids = [id for id in dict.fromkeys((*news.others.get("order", ()), *moved)) if id not in fences]
        if ids:
            broker.learn(await self._book.find(ids))
        await self._allocations(news, moved)
        if "hold" in news.others:
            pairs = (key.partition(" ") for key in news.others["hold"])
            await parts.holds([(domain, ref) for domain, _, ref in pairs])
        if "quote" in news.others:
            await parts.quotes(news.others["quote"])
        for what, fence in come.items():
            fences[what] = fence
            if what == OWN:
                log.info("this replica works on the own domains")
                await parts.leads(True)
            else:
                broker.adopt(what)
        if news.orders:
            await self._tell()

    async def _allocations(self, news: News, moved: list[str]) -> None:
        """Those that others changed; and all of the orders that changed hands, of which one was perhaps recorded unheard."""
        assert self._parts is not None
        broker = self._parts.broker
        keys = [key.rpartition(" ")[::2] for key in news.others.get("allocation", ())]
        named = [(pool, value) for pool, value in keys if "/" not in pool or pool.startswith("prefixes/")]
        if named:
            found = await self._book.allocated(named)
            there = {(a.pool, a.value) for a in found}
            broker.mirror(found, [key for key in named if key not in there])
        if moved:
            mine = await self._book.allocated_to(moved)
            for owner in moved:
                broker.settle(owner, [a for a in mine if a.owner == owner])

    async def _tell(self) -> None:
        assert self._parts is not None
        broker = self._parts.broker
        while batch := await self._book.events_of_all(broker.sequence, 500):
            broker.tell([Stored(sequence=n, account=who, status=STATUS.validate_json(doc)) for n, who, doc in batch])
