"""Every crash point of an order's life: a broker dies before and after each of its writes, calls and builds; or the call is
lost, its answer is, or it comes twice. Afterwards all is as if nothing had happened.

The points are those that a life without a mishap goes through: a new effect is covered by itself. `SPBROKER_CRASH_POINTS` says
how many of them are tried (`all`: every one; `make chaos`); the rest is for the long run.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.storage import tables
from lower_sp_clients.supplier import OutcomeUnknown
from lower_sp_clients.vim.accounting import TAKES
from service_model.outcomes import Committed, Refused, Reserved, ServiceState
from tests.support.crashing import CrashingDriver, CrashingStore, Mishap, Points, calls
from tests.support.orders import CONFIRM, CTX
from tests.support.stack import POOL, Node, Site, Sp, Stack, chain

TRIED = os.environ.get("SPBROKER_CRASH_POINTS", "36")
TOP = Sp(
    "a", (Site("s1", ("firewall",)), Sp("b", (Site("s2", ("meter",)), Sp("c", (Site("s3", ("shaper",)),))))), (POOL,)
)
SPEC = chain("s1.uni", "b.c.s3.uni", "firewall", "meter", "shaper", lan=True)
METHODS = ("reserve", "extend", "commit", "release", "terminate", "status")
DOWN_S = 3.0


@dataclass(frozen=True)
class Point:
    node: str
    number: int
    what: str
    mishap: Mishap

    def __str__(self) -> str:
        return f"{self.node} {self.mishap} {self.number}: {self.what}"


class Life:
    """One order from reservation to its end, of a customer who asks again until there is an answer, and what it met.
    `committed`: it is delivered and then terminated; else it is released."""

    def __init__(self, directory: Path, committed: bool, point: Point | None = None) -> None:
        self.committed = committed
        self.stack = Stack(TOP, directory)
        self.points: dict[str, Points] = {name: Points() for name in self.stack.nodes}
        if point is not None:
            self.points[point.node] = Points(point.number, point.mishap)
        self.dead = point.node if point is not None and point.mishap.deadly else ""
        self.versions = 0
        for name, node in self.stack.nodes.items():
            self._watch(name, node)

    def _watch(self, name: str, node: Node) -> None:
        def points() -> Points:
            return self.points[name]

        node.store = lambda engine: CrashingStore.over(engine, points)
        node.building = lambda site, driver: CrashingDriver(driver, site, points)

    async def lived(self) -> None:
        async with self.stack as stack:
            for name, node in stack.nodes.items():
                for alias, line in node.lines.items():
                    line.always = {m: calls(alias, m, lambda name=name: self.points[name]) for m in METHODS}  # type: ignore[misc]
            for points in self.points.values():
                points.counts = True
            life = asyncio.create_task(self._life())
            try:
                await self._passes(life)
            finally:
                life.cancel()
            await self._ends()

    async def _passes(self, life: asyncio.Task[None]) -> None:
        """Time passes until the order's life is over and nothing is left; a broker that dies comes back."""
        busy: list[str] = []
        for _ in range(4000):
            if self.dead and self.points[self.dead].died.is_set():
                await self._comes_back(self.dead)
            if life.done():
                life.result()
                busy = await self.stack.busy()
                if not busy:
                    return
            await self.stack.turn()
            self.stack.clock.advance(0.1)
        raise AssertionError(f"it goes on for ever: {busy} {self.stack.states()}")

    async def _comes_back(self, name: str) -> None:
        self.dead = ""
        await self.stack.stop(name)
        for _ in range(round(DOWN_S / 0.5)):
            await self.stack.turn()
            self.stack.clock.advance(0.5)
        self.points[name] = Points()
        await self.stack.start(name)

    async def _life(self) -> None:
        while True:
            self.versions += 1
            version = self.versions
            answer = await self._asked(lambda v=version: self.stack.customer().reserve("r", v, SPEC, CTX))  # type: ignore[misc]
            if isinstance(answer, Reserved):
                break
            assert isinstance(answer, Refused)
            assert version < 5, answer.reasons
        assert await self._asked(lambda: self.stack.customer().reserve("r", version, SPEC, CTX)), "the same again"
        if not self.committed:
            await self._asked(lambda: self.stack.customer().release("r", version, CTX))
            return
        assert await self._asked(lambda: self.stack.customer().commit("r", version, CONFIRM, CTX)) == Committed(
            ref="r", version=version
        )
        await self._until_active()
        self._one_truth(answer)
        await self._asked(lambda: self.stack.customer().terminate("r", CTX))

    async def _asked(self, call: Callable[[], Awaitable[object]]) -> object:
        while True:
            try:
                if not self.stack.nodes["a"].down.is_set():
                    return await call()
            except OutcomeUnknown:
                pass
            await self.stack.clock.sleep(1)

    async def _until_active(self) -> None:
        while True:
            if not self.stack.nodes["a"].down.is_set() and not self.points["a"].died.is_set():
                state = self.stack.state()
                assert state in (ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.COMMITTING), state
                below = [n for n in self.stack.nodes.values() if not n.down.is_set()]
                if state is ServiceState.ACTIVE and len(below) == len(self.stack.nodes):
                    return
            await self.stack.clock.sleep(0.2)

    def _one_truth(self, answer: Reserved) -> None:
        """Each domain has one segment of it, and what customers were told is what is there."""
        for vim in self.stack.vims():
            assert len([h for h in vim.holds() if h.state in TAKES]) == 1, vim.domain.name
        status = self.stack.broker("a").status("alice", "r")
        assert (status.choice, status.price) == (answer.choice, answer.price)

    async def _ends(self) -> None:
        """Everything was charged once."""
        for name, node in self.stack.nodes.items():
            c = tables.charges.c
            rows = await node.engine.read(
                lambda connection: connection.execute(select(c.side, c.service, c.segment, c.kind)).all()  # noqa: B023
            )
            twice = {tuple(row): n for row, n in Counter(map(tuple, rows)).items() if n > 1}
            assert not twice, (name, twice)


async def _met(directory: Path, committed: bool) -> list[Point]:
    """All points of a life without a mishap."""
    life = Life(directory, committed)
    await life.lived()
    assert life.versions == 1
    return [
        Point(node, number, what, mishap)
        for node, points in life.points.items()
        for number, what in enumerate(points.seen)
        for mishap in Mishap
        if mishap.deadly or what.split()[0] in METHODS
    ]


EFFECTS = {True: {"write", "reserve", "commit", "terminate", "build", "remove"}, False: {"write", "reserve", "release"}}


@pytest.mark.parametrize("committed", [True, False], ids=["terminated", "released"])
async def test_whatever_happens_at_a_point_nothing_is_left_doubled_or_hidden(committed: bool, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    every = await _met(tmp_path / "plain", committed)
    assert {p.what.split()[0] for p in every} >= EFFECTS[committed]
    step = 1 if TRIED == "all" else max(1, len(every) // int(TRIED))
    failed = []
    tried = every[::step]
    for n, point in enumerate(tried):
        directory = tmp_path / str(n)
        directory.mkdir()
        try:
            await Life(directory, committed, point).lived()
        except AssertionError as error:
            failed.append(f"{point}\n{error}")
    assert not failed, "\n".join([f"{len(failed)} of {len(tried)} of {len(every)} points:", *failed])
