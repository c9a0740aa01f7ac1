"""Claims with lease and fence, between two engines on one PostgreSQL database, by a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.bootstrap.replication import Parts, Replication
from broker.orders.claims import Fenced, Taken
from broker.orders.engine import Stored
from broker.orders.records import QUOTED, Change, Order
from broker.storage.books import SqlHoldBook, SqlOrderBook
from broker.storage.engine import Engine
from broker.storage.migrations import migrate
from broker.storage.quote_book import SqlQuoteBook
from broker.storage.replicas import KEPT, OWN, LeaseLost, Replica
from lower_sp_clients.vim.holds import Allocation, AllocationState, Hold
from service_model.outcomes import STATUS, ServiceState, ServiceStatus
from tests.support.clock import SimulatedClock
from tests.support.postgres import Where

LEASE = timedelta(seconds=10)


class Process:
    """What one process knows and has claimed."""

    def __init__(self, name: str, engine: Engine, clock: SimulatedClock) -> None:
        self.replica = Replica(engine, name, LEASE, lambda connection: clock.now())
        self.book = SqlOrderBook(engine, "e", self.replica)
        self.holds = SqlHoldBook(engine, "e", "d", self.replica)
        self.quotes = SqlQuoteBook(engine, "", QUOTED, self.replica)

    async def read(self) -> dict[str, list[str]]:
        """What others changed; claims count from here on."""
        found: dict[str, list[str]] = {}
        while (news := await self.replica.news()) is not None:
            for claim in news.claims:
                self.replica.fences.pop(claim.what, None)
                if claim.owner == self.replica.id:
                    self.replica.fences[claim.what] = claim.fence
            for kind, keys in news.others.items():
                found.setdefault(kind, []).extend(keys)
            self.replica.learnt(news)
        return found

    async def claims(self) -> set[str]:
        """After a batch of what nobody works on, and all that is read."""
        await self.replica.take_over()
        await self.read()
        return set(self.replica.fences)

    async def record(self, order: Order, *blocks: str) -> int:
        if order.id not in self.replica.fences:
            self.replica.fences[order.id] = 0
        put = [Allocation(pool="prefixes/p", value=b, owner=order.id, state=AllocationState.HELD) for b in blocks]
        told = ServiceStatus(ref=order.ref, version=1, state=order.state)
        return await self.book.save(Change(order=order, put=put, event=told))


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
async def processes(databases: Where, clock: SimulatedClock) -> AsyncIterator[tuple[Process, Process]]:
    """a and b, of which a came first."""
    engines = [Engine.open(databases("d"), migrate=migrate) for _ in range(2)]
    a, b = (Process(name, engine, clock) for name, engine in zip("ab", engines, strict=True))
    await a.replica.join()
    await a.claims()
    await b.replica.join()
    yield a, b
    for engine in engines:
        await engine.close()


def order(clock: SimulatedClock, id: str = "o", state: ServiceState = ServiceState.RESERVING) -> Order:
    now = clock.now()
    return Order(id=id, account="alice", ref=id, version=1, state=state, created=now, updated=now)


Pair = tuple[Process, Process]


async def test_what_a_silent_process_works_on_is_taken_over_when_its_lease_is_over_and_no_sooner(
    processes: Pair, clock: SimulatedClock
) -> None:
    a, b = processes
    await a.record(order(clock))
    clock.advance(9.9)
    await b.replica.beat()
    assert await b.claims() == set()
    clock.advance(0.2)
    assert await b.claims() == {"o", OWN}


async def test_a_lease_that_is_renewed_keeps_everything(processes: Pair, clock: SimulatedClock) -> None:
    a, b = processes
    await a.record(order(clock))
    for _ in range(5):
        clock.advance(6)
        await a.replica.beat()
        await b.replica.beat()
        assert await b.claims() == set()


async def test_what_is_given_up_is_taken_at_once_and_what_is_over_by_nobody(
    processes: Pair, clock: SimulatedClock
) -> None:
    a, b = processes
    await a.record(order(clock))
    await a.record(order(clock, "over"))
    await a.record(order(clock, "over", ServiceState.TERMINATED))
    await a.replica.leave()
    assert await b.claims() == {"o", OWN}


async def test_a_former_owner_writes_nothing_any_more(processes: Pair, clock: SimulatedClock) -> None:
    a, b = processes
    await a.record(order(clock), "10.0.0.0/24")
    clock.advance(11)
    await b.replica.beat()
    await b.claims()
    with pytest.raises(Fenced):  # it was away, and does not know yet
        await a.record(order(clock, state=ServiceState.REFUSED), "10.0.1.0/24")
    now = clock.now()
    hold = Hold(ref="r", version=1, state=ServiceState.RESERVED, created=now, updated=now)
    with pytest.raises(Fenced):
        await a.holds.save(hold, (), (), now)
    with pytest.raises(Fenced):
        await a.book.put_allocations((), (), clock.now())
    assert [o.state for o in await b.book.find(["o"])] == [ServiceState.RESERVING]
    assert [x.value for x in await b.book.allocated_to(["o"])] == ["10.0.0.0/24"]
    await b.record(order(clock, state=ServiceState.REFUSED))
    await a.read()
    assert a.replica.fences == {}


async def test_an_owner_that_lost_an_order_and_has_it_again_writes_under_the_new_fence_only(
    processes: Pair, clock: SimulatedClock
) -> None:
    a, b = processes
    await a.record(order(clock))
    stale = a.replica.guarded("o")
    await b.replica.take("o")
    await a.replica.take("o")
    with pytest.raises(Fenced):
        await a.book._engine.tx(stale)
    await a.read()
    await a.record(order(clock, state=ServiceState.REFUSED))


async def test_an_order_is_taken_from_whoever_has_it(processes: Pair, clock: SimulatedClock) -> None:
    a, b = processes
    await a.record(order(clock))
    await b.replica.take("o")
    assert (await b.read(), await a.read()) == ({"order": ["o"]}, {})
    assert (set(b.replica.fences), set(a.replica.fences)) == ({"o"}, {OWN})
    with pytest.raises(Fenced):
        await a.replica.give("o", OWN)
    await b.replica.give("o", OWN)
    assert await a.read() == {}
    assert set(a.replica.fences) == {"o", OWN}


async def test_one_ref_is_one_order_whoever_records_it_first(processes: Pair, clock: SimulatedClock) -> None:
    a, b = processes
    await a.record(order(clock))
    with pytest.raises(Exception, match="uq_services_account_ref"):
        await b.record(replace(order(clock, "other"), ref="o"))
    assert await b.book.find(["other"]) == []


@pytest.mark.parametrize("other", ["10.0.0.0/24", "10.0.0.0/23", "10.0.0.128/25"])
async def test_no_two_processes_give_the_same_block_or_a_part_of_it(
    processes: Pair, clock: SimulatedClock, other: str
) -> None:
    a, b = processes
    await a.record(order(clock), "10.0.0.0/24")
    with pytest.raises(Taken):
        await b.record(order(clock, "second"), "10.1.0.0/24", other)
    assert await b.book.find(["second"]) == []
    assert [x.value for x in await b.book.allocated_to(["second"])] == []
    assert await b.read() == {"order": ["o"], "allocation": ["prefixes/p 10.0.0.0/24"]}


async def test_changes_are_read_once_and_events_are_numbered_in_the_order_of_the_store(
    processes: Pair, clock: SimulatedClock
) -> None:
    a, b = processes
    for n, process in enumerate((a, b, a, b)):
        await process.record(order(clock, f"{n}"))
    assert (await a.read(), await b.read()) == ({"order": ["1", "3"]}, {"order": ["0", "2"]})
    assert (await a.read(), await b.read()) == ({}, {})
    told = await a.book.events_of_all(0, 10)
    assert [STATUS.validate_json(document).ref for _, _, document in told] == ["0", "1", "2", "3"]
    numbers = [number for number, _, _ in told]
    assert numbers == sorted(numbers)


async def test_what_a_process_records_itself_it_need_not_read(processes: Pair, clock: SimulatedClock) -> None:
    a, b = processes
    await a.read()
    now = clock.now()
    hold = Hold(ref="r", version=1, state=ServiceState.RESERVED, created=now, updated=now)
    kept = Allocation(pool="prefixes/p", value="10.9.0.0/24", owner="x", state=AllocationState.RESTING)
    events = [await a.record(order(clock, f"{n}"), f"10.{n}.0.0/24", f"10.{n}.1.0/24") for n in range(3)]
    await a.holds.save(hold, (), (), now)
    await a.book.put_allocations([kept], (), now)
    await a.quotes.drop(["q"])
    events += await asyncio.gather(*(a.record(order(clock, f"{n}")) for n in range(3, 9)))
    assert await a.replica.news() is None
    assert [number for number, _, _ in await b.book.events_of_all(0, 100)] == events
    assert set(await b.read()) == {"order", "allocation", "hold", "quote"}


async def test_what_a_process_records_behind_what_it_has_not_read_is_read_with_it(
    processes: Pair, clock: SimulatedClock
) -> None:
    """Its watchers hear of the other's first, and it never passes over what another recorded."""
    a, b = processes
    await a.read()
    behind: list[None] = []
    a.replica.behind = lambda: behind.append(None)
    assert await a.record(order(clock, "mine"))
    assert behind == []
    await b.record(order(clock, "theirs"))
    assert await asyncio.gather(*(a.record(order(clock, name)) for name in ("first", "second"))) == [0, 0]
    assert len(behind) == 2
    news = await a.replica.news()
    assert news is not None
    assert (news.orders, news.others) == (True, {"order": ["theirs"]})
    a.replica.learnt(news)
    assert await a.record(order(clock, "after"))
    assert (len(behind), await a.replica.news()) == (2, None)


async def test_what_was_told_without_being_learnt_is_read(processes: Pair, clock: SimulatedClock) -> None:
    """A claim that is taken, and a write of which it is not known what became."""
    a, b = processes
    await b.read()
    await a.record(order(clock))
    await b.read()
    behind: list[None] = []
    b.replica.behind = lambda: behind.append(None)
    await b.replica.take("o")
    assert await b.record(order(clock, "other")) == 0
    await b.read()
    gone = asyncio.ensure_future(b.record(order(clock, "gone")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    assert len(behind) == 2
    await b.read()
    assert set(b.replica.fences) >= {"o", "other"}


async def test_a_process_that_was_away_for_longer_than_changes_are_kept_has_to_begin_again(
    processes: Pair, clock: SimulatedClock
) -> None:
    a, b = processes
    clock.advance(KEPT.total_seconds())
    await b.replica.beat()
    await a.replica.beat()  # late, and nothing that it missed is forgotten
    clock.advance(KEPT.total_seconds() + LEASE.total_seconds() + 1)
    await b.replica.beat()
    with pytest.raises(LeaseLost, match="start it again"):
        await a.replica.beat()


class Followed:
    """What a node does with the claims that its replica learns, in order."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.done: list[str] = []
        self.sequence = 0

    def _may_be_written(self) -> bool:
        return OWN in self._process.replica.fences

    async def reads(self) -> None:
        self.done.append(f"own domains are read, may be written: {self._may_be_written()}")

    async def leads(self, ours: bool) -> None:
        self.done.append(f"own domains are worked on, may be written: {self._may_be_written()}")

    def adopt(self, order: str) -> None:
        self.done.append(f"order {order} is adopted")

    def ignore(self, *_: object) -> None:
        pass

    learn = settle = mirror = drop = ignore

    def tell(self, events: Sequence[Stored]) -> None:
        self.sequence = events[-1].sequence

    async def nothing(self, *_: object) -> None:
        pass


class NoHints:
    def close(self) -> None:
        pass


async def test_own_domains_are_read_while_nothing_of_them_can_be_written_and_orders_are_adopted_afterwards(
    processes: Pair, clock: SimulatedClock
) -> None:
    """An order that is adopted is worked on at once: a later reading would forget what it wrote of an own domain."""
    a, b = processes
    await a.record(order(clock))
    await b.replica.take("o")  # it changes hands before what is own does
    await a.replica.leave()
    node: Any = Followed(b)
    parts = Parts(
        broker=node, reads=node.reads, leads=node.leads, holds=node.nothing, quotes=node.nothing, documents=node.nothing
    )
    hints: Any = NoHints()
    replication = Replication(b.replica, b.book, clock, lambda lost: None)
    await replication.follow(parts, lambda heard: hints)
    await replication.close()
    assert node.done == [
        "own domains are read, may be written: False",
        "own domains are worked on, may be written: True",
        "order o is adopted",
    ]
