"""A broker to which something happens at a point: before, after or instead of one of its effects, which are writes, calls to
suppliers and what drivers build.

Points are not listed anywhere: every effect goes through `Points`, so those of a run are what it went through (`seen`). A node
that dies does nothing any more: what it had begun stays as it is, whoever waits for it waits until it is closed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, TypeVar, cast

import sqlalchemy

from broker.storage.engine import Engine
from broker.storage.errors import StoreError
from broker.storage.sqlite import WRITER_PRAGMAS, choose_driver, connections, installed_drivers
from broker.storage.statements import Script
from lower_sp_clients.supplier import OutcomeUnknown
from lower_sp_clients.vim.driver import (
    Blueprint,
    Driver,
    DriverError,
    DriverOffer,
    Item,
    Loss,
    Measurement,
    ProbePath,
    ProbeResult,
)
from tests.support.faults import Answer, Fault

T = TypeVar("T")
METHODS = ("reserve", "extend", "commit", "release", "terminate", "heal", "status")
"""Of suppliers: the calls that are points."""


class Mishap(StrEnum):
    DIES_BEFORE = "dies before"
    DIES_AFTER = "dies after"
    FAILS = "fails"
    FAILS_AFTER = "fails after all"
    REPEATED = "repeated"
    HANGS = "never arrives"
    SILENT = "never answered"
    LATE = "arrives late"

    @property
    def deadly(self) -> bool:
        return self in (Mishap.DIES_BEFORE, Mishap.DIES_AFTER)


class Effect(Enum):
    """What goes through a point, and what it raises where it fails."""

    WRITE = StoreError("the disk is full")
    CALL = OutcomeUnknown("the line broke")
    BUILD = DriverError("a cable is loose")

    def meets(self) -> tuple[Mishap, ...]:
        """What can happen to it. What is written is written once, and whoever writes knows whether it is."""
        if self is Effect.CALL:
            return tuple(Mishap)
        common = (Mishap.DIES_BEFORE, Mishap.DIES_AFTER, Mishap.FAILS)
        return common if self is Effect.WRITE else (*common, Mishap.FAILS_AFTER, Mishap.REPEATED)

    @staticmethod
    def of(what: str) -> Effect:
        """Of a point, by what it is in a report."""
        match what.split()[0]:
            case "write":
                return Effect.WRITE
            case "build" | "remove":
                return Effect.BUILD
            case _:
                return Effect.CALL


class Points:
    """Of one life of a node. `at`: the number of the effect, from 0, where the mishap comes. A call that is `LATE` comes when
    `later` is over, whether its caller still lives or not."""

    def __init__(self, at: int = -1, mishap: Mishap = Mishap.DIES_BEFORE) -> None:
        self.at, self.mishap = at, mishap
        self.seen: list[str] = []
        self.counts = False
        """Whether it has begun: what a node does while it opens is no point."""
        self.died = asyncio.Event()
        self.later: Callable[[], Awaitable[None]] = _for_ever
        self.under_way: set[asyncio.Task[Any]] = set()
        self.breaks: Callable[[], asyncio.Event] = asyncio.Event
        """Set when anybody dies: a late call that is just being answered may be one of its."""

    def meets(self, what: str) -> Mishap | None:
        """What befalls the next effect."""
        return self.mishap if len(self.seen) == self.at and self.mishap in Effect.of(what).meets() else None

    async def through(self, what: str, effect: Callable[[], Awaitable[T]]) -> T:
        """`what`: its kind, and where; for the report."""
        if self.died.is_set():
            await _for_ever()
        if not self.counts:
            return await effect()
        mishap = self.meets(what)
        self.seen.append(what)
        result = await (effect() if mishap is None else self._met(mishap, what, effect))
        if self.died.is_set():
            await _for_ever()
        return result

    async def _met(self, mishap: Mishap, what: str, effect: Callable[[], Awaitable[T]]) -> T:
        match mishap:
            case Mishap.DIES_BEFORE:
                await self.die()
            case Mishap.FAILS:
                raise Effect.of(what).value
            case Mishap.HANGS:
                await _for_ever()
            case Mishap.LATE:
                return await asyncio.shield(self._sent(effect))
        result = await effect()
        match mishap:
            case Mishap.DIES_AFTER:
                await self.die()
            case Mishap.FAILS_AFTER:
                raise Effect.of(what).value
            case Mishap.SILENT:
                await _for_ever()
            case Mishap.REPEATED:
                result = await effect()
        return result

    def _sent(self, effect: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        async def arrives() -> T:
            await self.later()
            doing, broken = asyncio.ensure_future(effect()), asyncio.ensure_future(self.breaks().wait())
            await asyncio.wait({doing, broken}, return_when=asyncio.FIRST_COMPLETED)
            broken.cancel()
            if not doing.done():
                doing.cancel()
                raise OutcomeUnknown("the connection broke")
            return doing.result()

        task = asyncio.create_task(arrives())
        self.under_way.add(task)
        task.add_done_callback(self._arrived)
        return task

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        self.under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever sent it may be gone

    async def die(self) -> None:
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

    def meets(self, what: str) -> Mishap | None:
        luck = self.luck
        if not luck.left or luck.rng.randrange(luck.rarely):
            return None
        mishap = luck.rng.choice(Effect.of(what).meets())
        luck.left -= 1
        luck.met[mishap] += 1
        return mishap


async def _for_ever() -> None:
    await asyncio.Event().wait()


def written(work: Callable[..., object]) -> str:
    """A write, by who writes."""
    if isinstance(work, Script):
        return f"write {work.by}"
    return f"write {getattr(work, '__qualname__', 'work').split('.<locals>')[0]}"


class CrashingStore:
    """The store of an Engine, whose writes are points. It has no threads, so that the same luck leads to the same life."""

    def __init__(self, engine: Engine, points: Callable[[], Points]) -> None:
        self._engine, self._points = engine, points
        driver = choose_driver(installed_drivers())
        opened = connections(engine.path, driver, begin="BEGIN IMMEDIATE", pragmas=WRITER_PRAGMAS)
        self._connection = opened.connect()

    async def tx(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        return await self._points().through(written(work), lambda: self.read(work))

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

    async def losses(self, blueprints: Sequence[Blueprint]) -> Mapping[str, tuple[Loss, ...]]:
        return await self._driver.losses(blueprints)

    async def measure(self, segment: str) -> Measurement:
        return await self._driver.measure(segment)

    async def probe(self, path: ProbePath) -> ProbeResult:
        return await self._driver.probe(path)


def calls(alias: str, method: str, points: Callable[[], Points]) -> Fault:
    """The calls of one method to one supplier as points."""

    async def fault(call: Answer, ref: str, version: int) -> Any:
        return await points().through(f"{method} {alias}", call)

    return fault
