"""How long work that is ready waits for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

EVERY_S = 0.02
Turn = Callable[[], Awaitable[None]]


async def measure(turn: Turn, told: Callable[[float], None]) -> None:
    """Tells, again and again and without end, after how many seconds it was its `turn`."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY_S
        await asyncio.sleep(EVERY_S)
        await turn()
        told(max(0.0, loop.time() - due))
