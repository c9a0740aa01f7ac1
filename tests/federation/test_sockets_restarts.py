"""Any node of three levels stops and starts again while services are held, live and leaving: one truth, nothing missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest

from lower_sp_clients.vim.driver import DriverError
from lower_sp_clients.vim.simulated import SimulatedDriver
from service_model.outcomes import Committed, Event, Refused, Reserved, ServiceState
from tests.support.customer import Customer
from tests.support.nodes import SETTLED_S, MovedClock, Nodes, RealNode
from tests.support.topologies import LEVELS, chain, nothing_left, three_levels


@pytest.fixture(params=["sqlite", "postgresql"])
async def nodes(request: pytest.FixtureRequest, tmp_path: Path, founded: Path) -> AsyncIterator[Nodes]:
    """The three levels on each kind of store."""
    where = request.getfixturevalue("databases") if request.param == "postgresql" else None
    nodes = Nodes(tmp_path, founded, where)
    try:
        yield await three_levels(nodes)
    finally:
        await nodes.close()


class Diary:
    """Everything that a customer's watch tells, over interruptions: it goes on behind the last token."""

    def __init__(self, customer: Customer) -> None:
        self._customer = customer
        self.events: list[Event] = []
        self.interruptions = 0
        self._more = asyncio.Event()
        self.begun = asyncio.Event()

    async def keep(self) -> None:
        while True:
            with suppress(grpc.aio.AioRpcError):
                async for event in self._customer.watch(self.events[-1].token if self.events else ""):
                    if event.status is not None or not self.events:
                        self.events.append(event)
                    self._more.set()
                    self.begun.set()
            self.interruptions += 1
            await asyncio.sleep(0.05)  # the node is away

    async def until(self, ref: str, state: ServiceState) -> None:
        async with asyncio.timeout(SETTLED_S):
            while state not in self.of(ref):
                self._more.clear()
                await self._more.wait()

    def of(self, ref: str) -> list[ServiceState]:
        """The states of one service, without repetitions and without ACTIVATING, which may be over before it is told."""
        states = [e.status.state for e in self.events if e.status is not None and e.status.ref == ref]
        states = [s for s in states if s is not ServiceState.ACTIVATING]
        return [s for i, s in enumerate(states) if i == 0 or states[i - 1] is not s]


@asynccontextmanager
async def diary_of(customer: Customer) -> AsyncIterator[Diary]:
    diary = Diary(customer)
    task = asyncio.create_task(diary.keep())
    async with asyncio.timeout(SETTLED_S):
        await diary.begun.wait()
    try:
        yield diary
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def hurried(clock: MovedClock) -> AsyncIterator[None]:
    """Inside, time goes by faster: what is tried again is tried again soon."""

    async def run() -> None:
        while True:
            await asyncio.sleep(0.1)
            clock.move(1.0)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()


def driver_of(node: RealNode) -> SimulatedDriver:
    (vim,) = node.node.vims()
    assert isinstance(vim.driver, SimulatedDriver)
    return vim.driver


@pytest.mark.parametrize("level", LEVELS)
async def test_a_restart_of_any_node_loses_nothing(nodes: Nodes, ann: Customer, level: str) -> None:
    async with diary_of(ann) as diary:
        await ann.order("leaving", chain())
        live = await ann.order("live", chain())
        held = await ann.reserve("held", chain())
        assert isinstance(held, Reserved)
        for _ in range(4):  # the leaf cannot take it down for some seconds
            driver_of(nodes["leaf"]).fail_next("remove", DriverError("a cable is stuck"))
        going = asyncio.create_task(ann.terminate("leaving"))
        await diary.until("leaving", ServiceState.TERMINATING)
        assert (await ann.status("leaving")).state is ServiceState.TERMINATING

        await nodes[level].restart()

        with suppress(grpc.aio.AioRpcError):  # the outcome may be unknown; the intent is recorded
            await going
        async with hurried(nodes.clock):
            await ann.until("leaving", ServiceState.TERMINATED)
        assert (await ann.until("live", ServiceState.ACTIVE)).choice == live.choice
        again = await ann.reserve("held", chain())
        assert isinstance(again, Reserved)
        assert (again.choice, again.price) == (held.choice, held.price)
        assert await ann.commit("held") == Committed(ref="held", version=1)
        assert (await ann.until("held", ServiceState.ACTIVE)).choice == held.choice
        for ref in ("held", "live"):
            await ann.terminate(ref)
            await diary.until(ref, ServiceState.TERMINATED)
        await nothing_left(nodes)

        assert (diary.interruptions > 0) == (level == "top")
        whole = [
            ServiceState.RESERVING,
            ServiceState.RESERVED,
            ServiceState.COMMITTING,
            ServiceState.ACTIVE,
            ServiceState.TERMINATING,
            ServiceState.TERMINATED,
        ]
        assert [diary.of(ref) for ref in ("leaving", "live", "held")] == [whole] * 3
        assert diary.events[1:] == await replayed(ann, diary.events[0].token, len(diary.events) - 1)


async def replayed(customer: Customer, after: str, number: int) -> list[Event]:
    """So many events behind a token, as the store has them."""
    found: list[Event] = []
    async with asyncio.timeout(SETTLED_S):
        async for event in customer.watch(after):
            if event.status is not None:
                found.append(event)
            if len(found) == number:
                break
    return found


async def test_all_nodes_stop_during_a_reservation_and_it_ends_one_way_or_the_other(
    nodes: Nodes, ann: Customer
) -> None:
    asking = asyncio.create_task(ann.reserve("web", chain()))
    await ann.until("web", ServiceState.RESERVING, ServiceState.RESERVED)
    for level in LEVELS:
        await nodes[level].close()
    with suppress(grpc.aio.AioRpcError):
        await asking
    for level in reversed(LEVELS):
        await nodes[level].open()
    over = await ann.until("web", ServiceState.RESERVED, ServiceState.REFUSED)
    answer = await ann.reserve("web", chain())
    assert isinstance(answer, Reserved if over.state is ServiceState.RESERVED else Refused)
    await ann.terminate("web")
    await nothing_left(nodes)
