"""One writer, many async readers: how events and notes reach whoever watches.

A reader that falls `limit` items behind is cut off with `Overrun`, after what it was sent until then: it begins again behind
the last item that it got, or from the present. So one that does not read costs no more than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

T = TypeVar("T")


class Overrun(Exception):
    """The reader fell too far behind and missed something."""


class Broadcast(Generic[T]):
    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._readers: set[asyncio.Queue[T | None]] = set()

    def send(self, item: T) -> None:
        for queue in list(self._readers):
            if queue.qsize() >= self._limit:
                self._readers.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(item)

    async def receive(self, *, first: T | None = None) -> AsyncGenerator[T, None]:
        """`first`, when given, and then every item sent from the moment that iteration begins. Raises Overrun."""
        queue: asyncio.Queue[T | None] = asyncio.Queue()
        self._readers.add(queue)
        try:
            if first is not None:
                yield first
            while True:
                item = await queue.get()
                if item is None:
                    raise Overrun("this reader fell too far behind")
                yield item
        finally:
            self._readers.discard(queue)
