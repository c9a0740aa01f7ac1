"""The steps of orders one by one, so that whoever calls is heard between two of them.

The server takes in one call in each round of the event loop. A round in which every order goes a step takes as long as all these
steps, and calls that nobody has heard yet wait before the gate, where nobody can turn them away. So in each round at most one
order goes on; the others wait here, in the order in which they came. How long, is how busy the node is.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Steps:
    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False

    async def turn(self) -> None:
        """Returns when it is the caller's turn: at once where nobody had this round's."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._next)
            return
        mine: asyncio.Future[None] = loop.create_future()
        self._waiting.append(mine)
        await mine

    def _next(self) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # it may have been cancelled
                first.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._taken = False
