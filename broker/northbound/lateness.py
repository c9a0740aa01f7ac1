"""How late the event loop is: how long what is ready to run waits for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

EVERY_S = 0.05


async def measure(told: Callable[[float], None]) -> None:
    """Tells, again and again and without end, by how many seconds the loop was late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY_S
        await asyncio.sleep(EVERY_S)
        told(max(0.0, loop.time() - due))
