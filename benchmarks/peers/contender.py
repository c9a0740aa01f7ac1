"""Who is measured: orders in turn for the latency, many at once for the throughput, and when an order is over."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

SETTLES_WITHIN_S = 30.0
Order = Callable[[str], Awaitable[None]]
"""Reserves and commits under a ref."""


@dataclass
class Contender:
    """One of the two that are measured: how to order, and to wait until everything after an order is over."""

    order: Order
    settled: Callable[[str], Awaitable[None]]
    latencies: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)
    """Of an order, by all programs together, until everything after it is over; the client's not."""

    async def in_turn(self, orders: int) -> None:
        for _ in range(orders):
            ref = str(uuid.uuid4())
            begun = time.perf_counter()
            await self.order(ref)
            self.latencies.append(time.perf_counter() - begun)
            await self.settled(ref)

    async def at_once(self, clients: int, seconds: float) -> int:
        """How many were ordered."""
        begun = time.perf_counter()
        counts = [0] * clients

        async def client(number: int) -> None:
            while time.perf_counter() - begun < seconds:
                await self.order(str(uuid.uuid4()))
                counts[number] += 1

        await asyncio.gather(*(client(number) for number in range(clients)))
        self.per_second.append(sum(counts) / (time.perf_counter() - begun))
        return sum(counts)

    def figures(self) -> dict[str, float]:
        ordered = sorted(self.latencies)
        return {
            "p50_ms": round(statistics.median(ordered) * 1000, 2),
            "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 2),
            "orders_per_s": round(statistics.median(self.per_second), 1),
            "processor_ms": round(statistics.median(self.processor_ms), 2),
        }


class Settling:
    """Which refs a stream has told of."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}
        self.begun = asyncio.Event()

    def tell(self, ref: str) -> None:
        self._waiting.setdefault(ref, asyncio.Event()).set()

    async def wait(self, ref: str) -> None:
        async with asyncio.timeout(SETTLES_WITHIN_S):
            await self._waiting.setdefault(ref, asyncio.Event()).wait()
