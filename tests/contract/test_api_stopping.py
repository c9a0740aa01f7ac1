"""What callers hear of a node that stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.northbound.calls import LAST_CALLS_S
from lower_sp_clients.remote_sp import RemoteSp
from lower_sp_clients.supplier import OutcomeUnknown
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.api_calls import next_of, people, token_of
from tests.support.api_node import ApiNode, SetClock

CALLERS = 8


class Talking(SetClock):
    """While the server waits for its last calls, as much time passes as it takes to `say` something to it so many times."""

    def __init__(self) -> None:
        super().__init__()
        self.last_calls = asyncio.Event()
        self.say: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if seconds == LAST_CALLS_S:
            self.last_calls.set()
            for _ in range(4 * CALLERS):
                await self.say()


async def test_stopping_ends_streams_at_once_and_says_so(node: ApiNode, remote: RemoteSp) -> None:
    assert node.server is not None
    async with aclosing(cast(Any, remote.watch(""))) as events:
        await next_of(events)
        await asyncio.wait_for(node.server.stop(60.0), 20)
        with pytest.raises(OutcomeUnknown, match="SHUTTING_DOWN"):
            await next_of(events)


async def test_who_calls_again_as_soon_as_it_is_told_is_never_cut_off_without_a_word() -> None:
    clock = Talking()
    node = await ApiNode(clock=clock).start()
    assert node.server is not None
    channel = node.people_channel()
    broker, ann = people(node, channel), await token_of(node, "ann")
    health = health_pb2_grpc.HealthStub(channel)
    clock.say = lambda: health.Check(health_pb2.HealthCheckRequest())
    await clock.say()  # so that there is a connection

    async def call() -> list[str]:
        """How each call ended; it is made again at once, until nobody is there who says that the node stops."""
        ended: list[str] = []
        while len(ended) < 3 or "SHUTTING_DOWN" in ended[-1]:
            try:
                await broker.ListServices(pb.ListServicesRequest(), metadata=ann, timeout=60)
                ended.append("OK")
            except grpc.aio.AioRpcError as error:
                ended.append(f"{error.code().name} {error.details()} {error.trailing_metadata()}")
        return ended

    try:
        stopping = asyncio.create_task(node.server.stop(1.0))
        await clock.last_calls.wait()
        calls = [call() for _ in range(CALLERS)]
        for ended in await asyncio.wait_for(asyncio.gather(*calls), 20):
            assert "SHUTTING_DOWN" in ended[0]
            assert {how.split()[0] for how in ended} == {"UNAVAILABLE"}
        await asyncio.wait_for(stopping, 20)
    finally:
        clock.say = lambda: asyncio.sleep(0)
        await node.close()
