"""Two processes of one broker on one PostgreSQL, behind one address: killed and restarted while customers order.

The customers repeat a call that ends with UNAVAILABLE, and no other.
"""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc
import pytest
from grpc_health.v1 import health_pb2

from service_model.outcomes import Committed, Reserved, ServiceState
from service_model.spec import ServiceSpec
from tests.support.balancer import Balancer
from tests.support.customer import Customer
from tests.support.nodes import SETTLED_S, Nodes, RealNode, free_port
from tests.support.orders import CTX
from tests.support.postgres import Where
from tests.support.served import STARTS_WITHIN_S, Health, served, stopped
from tests.support.topologies import chain, nothing_left, three_levels

T = TypeVar("T")
COUNT = 2
LEASE_S = 3.0
MOVING = frozenset({ServiceState.RESERVING, ServiceState.COMMITTING, ServiceState.ACTIVATING, ServiceState.TERMINATING})


@dataclass
class Replicated:
    """top as two processes; middle and leaf are here."""

    nodes: Nodes
    front: RealNode
    """Where customers call: the balancer's port."""
    replicas: list[RealNode]
    stack: AsyncExitStack
    processes: list[Process] = field(default_factory=list)

    async def start(self, number: int) -> None:
        replica = self.replicas[number]
        process = await self.stack.enter_async_context(
            served(replica, more={"SPBROKER_LEASE_S": str(LEASE_S), "SPBROKER_LOG_LEVEL": "warning"})
        )
        self.processes[number : number + 1] = [process]
        health = Health(replica)
        await health.until(health_pb2.HealthCheckResponse.SERVING, STARTS_WITHIN_S)
        await health.close()

    async def customer(self, at: RealNode | None = None) -> Customer:
        customer = Customer(at or self.front, "ann")
        self.stack.push_async_callback(customer.close)
        await persistently(customer.log_in)
        return customer


async def persistently(call: Callable[[], Awaitable[T]]) -> T:
    """The call's answer; it is made again while nobody is there to answer it."""
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.05)


@pytest.fixture
async def top(tmp_path: Path, databases: Where) -> AsyncIterator[Replicated]:
    nodes = Nodes(tmp_path, where=databases)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(nodes.close)
        await three_levels(nodes)
        await nodes["top"].close()
        directory = nodes["top"].directory
        replicas = [RealNode(directory, nodes.clock) for _ in range(COUNT)]
        front = RealNode(directory, nodes.clock)
        balancer = await Balancer([replica.people for replica in replicas]).open(front.people)
        stack.push_async_callback(balancer.close)
        replicated = Replicated(nodes, front, replicas, stack)
        await asyncio.gather(*(replicated.start(number) for number in range(COUNT)))
        yield replicated
        for process in replicated.processes:
            if process.returncode is None:
                assert await stopped(process) == 0
        top = RealNode(directory, nodes.clock, free_port(), free_port())
        nodes.by_id["top"] = await top.open()
        for ref in [o.ref for o in top.node.broker.orders() if o.version]:
            await top.node.broker.terminate("ann", ref, CTX)
        await nothing_left(nodes)


async def lives(customer: Customer, name: str, spec: ServiceSpec, until: asyncio.Event) -> int:
    """How many services lived from reservation to end, one after the other."""
    number = 0
    while not until.is_set():
        number, ref = number + 1, f"{name}-{number}"
        held = await persistently(lambda ref=ref: customer.reserve(ref, spec))  # type: ignore[misc]
        assert isinstance(held, Reserved), held
        done = await persistently(lambda ref=ref: customer.commit(ref))  # type: ignore[misc]
        assert done == Committed(ref=ref, version=1), done
        await persistently(lambda ref=ref: customer.terminate(ref))  # type: ignore[misc]
    return number


async def test_when_one_is_killed_under_load_the_others_finish_its_orders_within_the_lease(top: Replicated) -> None:
    victim, other = await top.customer(top.replicas[0]), await top.customer(top.replicas[1])
    refs = [f"r{n}" for n in range(12)]

    async def order(ref: str) -> None:
        assert isinstance(await victim.reserve(ref, chain()), Reserved)
        await victim.commit(ref)

    orders = [asyncio.create_task(order(ref)) for ref in refs]
    async with asyncio.timeout(SETTLED_S):
        while len(await other.refs()) < 6:  # noqa: ASYNC110  another process
            await asyncio.sleep(0.01)
    top.processes[0].kill()
    killed = time.monotonic()
    outcomes = await asyncio.gather(*orders, return_exceptions=True)
    lost = [o for o in outcomes if o is not None]
    assert all(isinstance(o, grpc.aio.AioRpcError) and o.code() is grpc.StatusCode.UNAVAILABLE for o in lost)
    assert lost, "it was killed after everything was done"
    async with asyncio.timeout(SETTLED_S):
        while [r for r in await other.refs() if (await other.status(r)).state in MOVING]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert time.monotonic() - killed < LEASE_S + 20, "the lease, and what an order takes on a slow machine"
    for ref in await other.refs():  # and whoever asks again gets the answer
        assert (
            isinstance(await other.reserve(ref, chain()), Reserved)
            or (await other.status(ref)).state is ServiceState.ACTIVE
        )


async def test_no_call_fails_while_each_is_killed_once(top: Replicated) -> None:
    done = asyncio.Event()
    customers = [await top.customer() for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        working = [group.create_task(lives(c, f"c{n}", chain(), done)) for n, c in enumerate(customers)]
        for number in range(COUNT):
            await asyncio.sleep(1.0)
            top.processes[number].kill()
            await top.processes[number].wait()
            await top.start(number)
        done.set()
    assert min(task.result() for task in working) >= 1


async def test_no_call_fails_while_each_is_stopped_and_started_in_turn(top: Replicated) -> None:
    done = asyncio.Event()
    customers = [await top.customer() for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        working = [group.create_task(lives(c, f"c{n}", chain(), done)) for n, c in enumerate(customers)]
        for number in range(COUNT):
            assert await stopped(top.processes[number]) == 0
            await top.start(number)
        done.set()
    assert min(task.result() for task in working) >= 1
