"""A broker that dies at a point: before or after one of its effects, which are writes, calls to suppliers and what drivers build.

Points are not listed anywhere: every effect goes through `Points`, so those of a run are what it went through (`seen`). A node
that dies does nothing any more: what it had begun stays as it is, whoever waits for it waits until it is closed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar, cast

import sqlalchemy

from broker.storage.engine import Engine
from broker.storage.sqlite import WRITER_PRAGMAS, choose_driver, connections, installed_drivers
from lower_sp_clients.supplier import OutcomeUnknown
from lower_sp_clients.vim.driver import Blueprint, Driver, DriverOffer, Item, Measurement, ProbePath, ProbeResult
from tests.support.faults import Answer, Fault

T = TypeVar("T")


class Mishap(StrEnum):
    DIES_BEFORE = "dies before"
    DIES_AFTER = "dies after"
    LOST_BEFORE = "request lost"
    LOST_AFTER = "answer lost"
    REPEATED = "repeated"

    @property
    def deadly(self) -> bool:
        return self in (Mishap.DIES_BEFORE, Mishap.DIES_AFTER)


class Points:
    """Of one life of a node. `at`: the number of the effect, from 0, where the mishap comes."""

    def __init__(self, at: int = -1, mishap: Mishap = Mishap.DIES_BEFORE) -> None:
        self.at, self.mishap = at, mishap
        self.seen: list[str] = []
        self.counts = False
        """Whether it has begun: what a node does while it opens is no point."""
        self.died = asyncio.Event()

    def meets(self, call: bool) -> Mishap | None:
        """What befalls the next effect; only a `call` to a supplier can be lost or come twice."""
        return self.mishap if len(self.seen) == self.at and (call or self.mishap.deadly) else None

    async def through(self, what: str, effect: Callable[[], Awaitable[T]], call: bool = False) -> T:
        """`what`: for the report."""
        if self.died.is_set():
            await _for_ever()
        if not self.counts:
            return await effect()
        mishap = self.meets(call)
        self.seen.append(what)
        if mishap is Mishap.DIES_BEFORE:
            await self._die()
        if mishap is Mishap.LOST_BEFORE:
            raise OutcomeUnknown("the request was lost")
        result = await effect()
        if mishap is Mishap.REPEATED:
            result = await effect()
        if mishap is Mishap.DIES_AFTER:
            await self._die()
        if self.died.is_set():
            await _for_ever()
        if mishap is Mishap.LOST_AFTER:
            raise OutcomeUnknown("the answer was lost")
        return result

    async def _die(self) -> None:
        self.died.set()
        await _for_ever()


@dataclass
class Luck:
    """What befalls a whole federation: at most `left` mishaps, one in `rarely` effects."""

    rng: random.Random
    left: int
    rarely: int = 12
    met: Counter[str] = field(default_factory=Counter)


class Chance(Points):
    """Any mishap at any point."""

    def __init__(self, luck: Luck) -> None:
        super().__init__()
        self.luck = luck

    def meets(self, call: bool) -> Mishap | None:
        luck = self.luck
        if not luck.left or luck.rng.randrange(luck.rarely):
            return None
        mishap = luck.rng.choice([m for m in Mishap if call or m.deadly])
        luck.left -= 1
        luck.met[mishap] += 1
        return mishap


async def _for_ever() -> None:
    await asyncio.Event().wait()


class CrashingStore:
    """The store of an Engine, whose writes are points. It has no threads, so that the same luck leads to the same life."""

    def __init__(self, engine: Engine, points: Callable[[], Points]) -> None:
        self._engine, self._points = engine, points
        driver = choose_driver(installed_drivers())
        opened = connections(engine.path, driver, begin="BEGIN IMMEDIATE", pragmas=WRITER_PRAGMAS)
        self._connection = opened.connect()

    async def tx(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        name = getattr(work, "__qualname__", "work").removesuffix(".<locals>.work")
        return await self._points().through(f"write {name}", lambda: self.read(work))

    async def read(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        with self._connection.begin():
            return work(self._connection)

    async def close(self) -> None:
        self._connection.close()
        await self._engine.close()

    @classmethod
    def over(cls, engine: Engine, points: Callable[[], Points]) -> Engine:
        return cast(Engine, cls(engine, points))


class CrashingDriver:
    """A driver of which what it builds and removes are points."""

    def __init__(self, driver: Driver, name: str, points: Callable[[], Points]) -> None:
        self._driver, self._name, self._points = driver, name, points

    @property
    def offer(self) -> DriverOffer:
        return self._driver.offer

    def check_parameters(self, implementation: str, parameters: Mapping[str, Any]) -> None:
        self._driver.check_parameters(implementation, parameters)

    async def apply(self, blueprint: Blueprint) -> None:
        await self._points().through(f"build {self._name}", lambda: self._driver.apply(blueprint))

    async def remove(self, segment: str) -> None:
        await self._points().through(f"remove {self._name}", lambda: self._driver.remove(segment))

    async def inventory(self) -> tuple[Item, ...]:
        return await self._driver.inventory()

    async def measure(self, segment: str) -> Measurement:
        return await self._driver.measure(segment)

    async def probe(self, path: ProbePath) -> ProbeResult:
        return await self._driver.probe(path)


def calls(alias: str, method: str, points: Callable[[], Points]) -> Fault:
    """The calls of one method to one supplier as points."""

    async def fault(call: Answer, ref: str, version: int) -> Any:
        return await points().through(f"{method} {alias}", call, call=True)

    return fault
