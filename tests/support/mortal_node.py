"""The harness's side of a node in a process of its own (`mortal`): it starts it, asks it and sees it die."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.nodes import RealNode

ROOT = Path(__file__).resolve().parents[2]
STARTED_S = 120.0
"""How long a process may take until it serves."""


class Died(Exception):
    """The process is gone: what it was asked has no answer."""


@dataclass
class MortalNode:
    """`start` it, again after each death, on the same directory and ports; `log` is what it says."""

    node: RealNode
    log: Path
    process: asyncio.subprocess.Process | None = None
    deaths: int = 0
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self, ahead: float) -> None:
        command = ["-m", "tests.support.mortal", str(self.node.directory)]
        arguments = [str(self.node.people), str(self.node.partners), str(ahead)]
        path = os.pathsep.join((str(ROOT), str(ROOT / "proto")))
        async with asyncio.timeout(STARTED_S), self._asking:  # who asks meanwhile asks the one that is started
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable, *command, *arguments, cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, limit=1 << 22,
                )  # fmt: skip
            assert await self._answer() == "serving"

    async def _answer(self) -> Any:
        assert self.process is not None
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise Died
        return json.loads(line)

    async def ask(self, name: str, **given: Any) -> Any:
        """Raises Died."""
        async with self._asking:
            assert self.process is not None
            assert self.process.stdin is not None
            try:
                self.process.stdin.write(json.dumps([name, given]).encode() + b"\n")
                await self.process.stdin.drain()
            except ConnectionError:
                raise Died from None
            return await self._answer()

    async def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
