"""The harness's side of a node in a process of its own (`mortal`): it starts it, asks it and sees it die."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.nodes import RealNode
from tests.support.nursery import Born, Nursery

STARTED_S = 120.0
"""How long a process may take until it serves."""


class Died(Exception):
    """The process is gone: what it was asked has no answer."""


@dataclass
class MortalNode:
    """`start` it, again after each death, on the same directory and ports; `log` is what it says."""

    nursery: Nursery
    node: RealNode
    log: Path
    process: Born | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self, ahead: float) -> None:
        arguments = [str(self.node.directory), str(self.node.people), str(self.node.partners), str(ahead)]
        async with asyncio.timeout(STARTED_S), self._asking:  # who asks meanwhile asks the one that is started
            with self.log.open("ab") as log:
                self.process = await self.nursery.bear(arguments, log)
            assert await self._answer() == "serving"

    async def _answer(self) -> Any:
        assert self.process is not None
        try:
            line = await self.process.said.readline()
        except ConnectionError:
            line = b""
        if not line:
            raise Died
        return json.loads(line)

    async def ask(self, name: str, **given: Any) -> Any:
        """Raises Died."""
        async with self._asking:
            assert self.process is not None
            try:
                self.process.asked.write(json.dumps([name, given]).encode() + b"\n")
                await self.process.asked.drain()
            except ConnectionError:
                raise Died from None
            return await self._answer()

    async def ended(self) -> int:
        """With which code."""
        assert self.process is not None
        return await asyncio.shield(self.process.code)

    def kill(self) -> None:
        assert self.process is not None
        self.nursery.kill(self.process)
