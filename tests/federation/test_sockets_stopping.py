"""A node that is told to stop: it says so, gives what runs a moment, and goes with everything recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from grpc_health.v1 import health_pb2

from broker.settings.anchor import ANCHOR
from capability_registry.signing import verify
from lower_sp_clients.wire import parse_note
from service_model.outcomes import Committed, Reserved, ServiceState
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.customer import Customer, wrong
from tests.support.nodes import SETTLED_S, Nodes, RealNode
from tests.support.served import Health, served, stopped
from tests.support.topologies import FROM, TO, chain


async def up(node: RealNode, customer: Customer) -> None:
    """Until the node serves, and knows the way through its supplier."""
    health = Health(node)
    await health.until(health_pb2.HealthCheckResponse.SERVING)
    await health.close()
    await customer.log_in()
    async with asyncio.timeout(SETTLED_S):
        request = pb.WatchCapabilityNotesRequest()
        async for message in customer.broker.WatchCapabilityNotes(request, metadata=customer.metadata):
            if message.WhichOneof("kind") == "note":
                note = parse_note(verify(message.note.jws, ANCHOR.validate_python(node.anchor).keys(), 4 << 20))
                if any({entry.a, entry.b} == {FROM, TO} for entry in note.matrix):
                    return


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
