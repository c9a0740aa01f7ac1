"""A node that is told to stop: it says so, gives what runs a moment, and goes with everything recorded."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from broker.cli.failures import Status
from service_model.outcomes import Committed, Reserved, ServiceState
from tests.support.customer import Customer, wrong
from tests.support.nodes import Nodes
from tests.support.served import EXITS_WITHIN_S, Health, served, stopped, up
from tests.support.topologies import chain


async def begun(
    nodes: Nodes, ann: Customer, call: Callable[[], Awaitable[Any]], state: ServiceState
) -> asyncio.Task[Any]:
    """The call, made while top's supplier is away, once it is under way there."""
    task = asyncio.ensure_future(call())
    await ann.until("web", state)
    return task


async def test_a_commit_whose_supplier_is_away_does_not_keep_a_node_from_stopping(nodes: Nodes, ann: Customer) -> None:
    top, middle = nodes["top"], nodes["middle"]
    await top.close()
    async with served(top) as process:
        await up(top, ann)
        assert isinstance(await ann.reserve("web", chain()), Reserved)
        await middle.close()
        asking = await begun(nodes, ann, lambda: ann.commit("web", within=None), ServiceState.COMMITTING)
        health = Health(top)
        leaving = asyncio.create_task(health.until(health_pb2.HealthCheckResponse.NOT_SERVING))
        await health.until(health_pb2.HealthCheckResponse.SERVING)
        ending = asyncio.create_task(stopped(process))
        await leaving
        assert await wrong(ann.refs()) == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert await wrong(asking) == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        assert await ending == 0
        await health.close()
    await middle.open()
    await top.open()
    assert await ann.commit("web") == Committed(ref="web", version=1)
    await ann.until("web", ServiceState.ACTIVE)


async def test_a_reservation_whose_supplier_is_away_does_not_keep_a_node_from_stopping(
    nodes: Nodes, ann: Customer
) -> None:
    top, middle = nodes["top"], nodes["middle"]
    await top.close()
    async with served(top) as process:
        await up(top, ann)
        await middle.close()
        asking = await begun(nodes, ann, lambda: ann.reserve("web", chain(), within=None), ServiceState.RESERVING)
        ending = asyncio.create_task(stopped(process))
        assert await wrong(asking) == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        assert await ending == 0
    await middle.open()
    await top.open()
    await ann.until("web", ServiceState.RESERVED, ServiceState.REFUSED)


async def test_a_call_that_ends_in_the_meantime_is_answered(nodes: Nodes, ann: Customer) -> None:
    top = nodes["top"]
    await top.close()
    async with served(top) as process:
        await up(top, ann)
        asking = await begun(nodes, ann, lambda: ann.reserve("web", chain()), ServiceState.RESERVING)
        assert await stopped(process) == 0
        held = await asking
        assert isinstance(held, Reserved), held
    await top.open()
    again = await ann.reserve("web", chain())
    assert isinstance(again, Reserved)
    assert again.choice == held.choice


AFTER = {
    ServiceState.RESERVED: (ServiceState.RESERVED, ServiceState.ACTIVE),
    ServiceState.ACTIVE: (ServiceState.ACTIVE, ServiceState.TERMINATED),
}
"""Where an order may be of which the next call was not answered."""


@dataclass
class Load:
    """Customers who order, commit and end without a pause: what they were answered last of each ref, and how each call ended
    that had no answer."""

    customer: Customer
    answered: dict[str, ServiceState] = field(default_factory=dict)
    unanswered: list[tuple[str, str]] = field(default_factory=list)
    pending: set[str] = field(default_factory=set)
    """Of which a call has no answer."""

    async def orders(self, name: str) -> None:
        """Until a call has no answer."""
        number = 0
        while True:
            number += 1
            ref = f"{name}-{number}"
            try:
                self.pending.add(ref)
                held = await self.customer.reserve(ref, chain())
                assert isinstance(held, Reserved), held
                self.answered[ref] = ServiceState.RESERVED
                assert await self.customer.commit(ref) == Committed(ref=ref, version=1)
                self.answered[ref] = ServiceState.ACTIVE
                if number % 3 == 0:
                    await self.customer.terminate(ref)
                    self.answered[ref] = ServiceState.TERMINATED
                self.pending.discard(ref)
            except grpc.aio.AioRpcError as error:
                status = Status.of(error)
                self.unanswered.append((status.code, status.reason))
                return

    async def watches(self) -> tuple[str, str]:
        """How the stream ended."""
        events: AsyncIterator[Any] = self.customer.watch()
        try:
            async for _ in events:
                pass
        except grpc.aio.AioRpcError as error:
            status = Status.of(error)
            return status.code, status.reason
        return "OK", ""


async def test_under_load_every_call_is_answered_or_unavailable_and_no_answered_order_is_lost(
    nodes: Nodes, ann: Customer
) -> None:
    top = nodes["top"]
    await top.close()
    for round in range(2):
        async with served(top) as process:
            await up(top, ann)
            load = Load(ann)
            watching = asyncio.create_task(load.watches())
            lanes = [asyncio.create_task(load.orders(f"r{round}-{lane}")) for lane in range(6)]
            await ann.until(f"r{round}-0-3", ServiceState.TERMINATED)
            assert await stopped(process) == 0
            await asyncio.gather(*lanes)
            assert {code for code, _ in load.unanswered} == {"UNAVAILABLE"}, load.unanswered
            assert len(load.unanswered) == len(lanes)
            assert await watching == ("UNAVAILABLE", "SHUTTING_DOWN")
        async with served(top) as process:
            await up(top, ann)
            for ref, state in load.answered.items():
                if ref not in load.pending:
                    await ann.until(ref, state)
            known = await ann.refs()
            for ref in load.pending:  # asked again with the same ref and version, as everybody does
                if ref in load.answered:
                    assert ref in known
                    await ann.until(ref, *AFTER[load.answered[ref]])
                elif ref in known:
                    assert isinstance(await ann.reserve(ref, chain()), Reserved), ref
                await ann.terminate(ref)
                if ref in known:
                    await ann.until(ref, ServiceState.TERMINATED)
            assert await stopped(process) == 0
    await top.open()


async def test_a_second_signal_ends_the_node_at_once(nodes: Nodes, ann: Customer) -> None:
    top, middle = nodes["top"], nodes["middle"]
    await top.close()
    async with served(top, more={"SPBROKER_DRAIN_S": "300"}) as process:
        await up(top, ann)
        assert isinstance(await ann.reserve("web", chain()), Reserved)
        await middle.close()
        asking = await begun(nodes, ann, lambda: ann.commit("web", within=None), ServiceState.COMMITTING)
        health = Health(top)
        process.send_signal(signal.SIGTERM)
        await health.until(health_pb2.HealthCheckResponse.NOT_SERVING)
        assert process.returncode is None, "it waits for the call"
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(EXITS_WITHIN_S):
            assert await process.wait() == -signal.SIGTERM
        assert (await wrong(asking))[0] == "UNAVAILABLE"
        await health.close()
    await middle.open()
    await top.open()
    assert await ann.commit("web") == Committed(ref="web", version=1), "it was recorded before anybody was asked"
    await ann.until("web", ServiceState.ACTIVE)
