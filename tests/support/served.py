"""Nodes served by `spbroker serve`, each in a process of its own, and what their health says."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from broker.settings.anchor import ANCHOR
from capability_registry.signing import verify
from lower_sp_clients.wire import parse_note
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.customer import Customer
from tests.support.nodes import HOST, SETTLED_S, RealNode
from tests.support.topologies import FROM, TO

ROOT = Path(__file__).resolve().parents[2]
DRAIN_S = 1.0
EXITS_WITHIN_S = 15.0
"""The drain, and what a loaded machine takes to end a process."""
STARTS_WITHIN_S = 120.0
"""What a loaded machine takes to start several at once."""


@asynccontextmanager
async def served(
    node: RealNode, begun: Callable[..., list[str]] = lambda *line: [*line], more: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """`spbroker serve` for this directory at these ports, in a process of its own; killed if it is still there. `begun`: the
    command line that runs one; `more`: settings that differ."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
        "SPBROKER_LISTEN": f"{HOST}:{node.people}",
        "SPBROKER_LISTEN_PARTNERS": f"{HOST}:{node.partners}",
        "SPBROKER_DRAIN_S": str(DRAIN_S),
        **(more or {}),
    }
    line = begun(sys.executable, "-m", "broker.cli", "serve", str(node.directory))
    process = await asyncio.create_subprocess_exec(*line, env=environment, stdout=PIPE, stderr=STDOUT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def stopped(process: Process) -> int:
    """The exit code after SIGTERM; 124 where it did not end in time."""
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(EXITS_WITHIN_S):
            told, code = await process.stdout.read(), await process.wait()
    except TimeoutError:
        return 124
    assert b"Traceback" not in told, told.decode()
    return code


class Health:
    """The node's health as a watcher hears it."""

    def __init__(self, node: RealNode) -> None:
        credentials = grpc.ssl_channel_credentials(node.layout.credential("ca")[0].read_bytes())
        self._channel = grpc.aio.secure_channel(f"{HOST}:{node.people}", credentials)
        self._stub: Any = health_pb2_grpc.HealthStub(self._channel)

    async def until(self, status: Any, within: float = SETTLED_S) -> None:
        async with asyncio.timeout(within):
            while True:
                try:
                    async for answer in self._stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True):
                        if answer.status == status:
                            return
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)  # it is not up yet

    async def close(self) -> None:
        await self._channel.close()


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
