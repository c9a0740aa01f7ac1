"""`spbroker serve` as a process of its own, and its health as a watcher hears it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.nodes import HOST, SETTLED_S, RealNode

ROOT = Path(__file__).resolve().parents[2]
DRAIN_S = 1.0
EXITS_WITHIN_S = 15.0
"""The drain, and what a loaded machine takes to end a process."""
STARTS_WITHIN_S = 120.0
"""What a loaded machine takes to start several at once."""


@asynccontextmanager
async def served(node: RealNode, **settings: str) -> AsyncIterator[Process]:
    """`spbroker serve` for this directory at these ports, in a process of its own; killed if it is still there. `settings`
    replace fields of node.yml."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
        "SPBROKER_LISTEN": f"{HOST}:{node.people}",
        "SPBROKER_LISTEN_PARTNERS": f"{HOST}:{node.partners}",
        "SPBROKER_DRAIN_S": str(DRAIN_S),
        **{f"SPBROKER_{name.upper()}": value for name, value in settings.items()},
    }
    line = [sys.executable, "-m", "broker.cli", "serve", str(node.directory)]
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
