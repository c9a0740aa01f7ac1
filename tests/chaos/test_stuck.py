"""A broker dies before and after each of its writes, from a terminate that a supplier leaves without an answer to the decision
that gives the supplier's part up. `SPBROKER_CRASH_POINTS` says how many points are tried (`all`: every one; `make chaos`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.orders.stuck import NotStuck
from broker.storage import tables
from lower_sp_clients.supplier import OutcomeUnknown
from lower_sp_clients.vim.holds import AllocationState
from service_model.outcomes import ServiceState
from tests.support.crashing import CrashingStore, Mishap, Points
from tests.support.orders import CTX, active
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

TRIED = os.environ.get("SPBROKER_CRASH_POINTS", "12")
TOP = Sp("a", (Site("s1", ("firewall",)), Sp("b", (Site("s2"),))), (POOL,))
SPEC = chain("s1.uni", "b.s2.uni", "firewall")


class Life:
    """Of `a`, whose supplier b goes for ever."""

    def __init__(self, directory: Path, points: Points) -> None:
        self.stack, self.points = Stack(TOP, directory), points
        node = self.stack.nodes["a"]
        node.stuck_after = timedelta(minutes=1)
        node.store = lambda engine: CrashingStore.over(engine, lambda: self.points)

    async def lived(self) -> None:
        async with self.stack as stack:
            await active(stack, SPEC)
            await stack.stop("b")
            first, self.points.counts = self.points, True
            await self._asked(lambda: stack.customer().terminate("r", CTX))
            await self._asked(self._stuck)
            await self._asked(self._given_up)
            first.counts = False
            await self._right()

    async def _stuck(self) -> None:
        while self.stack.state() is not ServiceState.STUCK:  # noqa: ASYNC110  time is passed by who waits for us
            await asyncio.sleep(0)

    async def _given_up(self) -> None:
        (order,) = self.stack.broker("a").orders()
        if order.state is ServiceState.TERMINATED:  # it was, and the answer was lost with the broker
            return
        await self.stack.broker("a").abandon(order, "b.1", "b is bankrupt", "oscar")

    async def _asked(self, call: Callable[[], Awaitable[object]]) -> None:
        """Until it is answered; a broker that dies comes back."""
        for _ in range(10):
            task = asyncio.ensure_future(call())
            for _ in range(300):
                if task.done() or self.points.died.is_set():
                    break
                for _ in range(20):
                    await asyncio.sleep(0)
                self.stack.clock.advance(1)
            if self.points.died.is_set():
                await self.stack.stop("a")
                self.points = Points()
                await self.stack.start("a")
                task.cancel()
            try:
                await task
                return
            except (OutcomeUnknown, asyncio.CancelledError):
                continue
        raise AssertionError(f"no answer: {self.stack.states()}")

    async def _right(self) -> None:
        broker, engine = self.stack.broker("a"), self.stack.nodes["a"].plain
        (order,) = broker.orders()
        assert order.state is ServiceState.TERMINATED
        assert {s.key: s.state.short for s in order.segments} == {"s1.1": "TERMINATED", "b.1": "ABANDONED"}
        (block,) = broker.allocations()
        assert block.state is AllocationState.RESTING
        assert broker.unfinished() == ()
        audit, charges = tables.audit.c, tables.charges.c
        decided = await engine.read(
            lambda c: c.execute(select(audit.actor, audit.reason).where(audit.action == "abandon")).all()
        )
        assert [tuple(row) for row in decided] == [("oscar", "b is bankrupt")]
        stops = await engine.read(lambda c: c.execute(select(charges.segment).where(charges.kind == "STOP")).all())
        assert sorted(row.segment for row in stops) == ["", "b.1", "s1.1"]
        with pytest.raises(NotStuck, match="is TERMINATED, not STUCK"):
            await broker.abandon(order, "", "again", "oscar")


async def test_a_decision_to_give_up_is_made_once_whenever_the_broker_dies(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = Points()
    await Life(tmp_path / "plain", plain).lived()
    assert {what.split()[0] for what in plain.seen} == {"write"}
    every = [(n, mishap) for n in range(len(plain.seen)) for mishap in (Mishap.DIES_BEFORE, Mishap.DIES_AFTER)]
    assert len(every) > 10
    last = every[-8:]  # about the decision
    tried = every if TRIED == "all" else sorted({*every[:: max(1, len(every) // int(TRIED))], *last})
    failed = []
    for n, mishap in tried:
        directory = tmp_path / f"{n}-{mishap.name}"
        directory.mkdir()
        points = Points(n, mishap)
        try:
            await Life(directory, points).lived()
            assert points.died.is_set(), "the point was met"
        except AssertionError as error:
            failed.append(f"{mishap} {n}: {plain.seen[n]}\n{error}")
    assert not failed, "\n".join(failed)
