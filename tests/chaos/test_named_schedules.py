"""Schedules that have a name: messages that come late, twice or in the wrong order, and holds that end meanwhile.

Each is told at every level where it can happen: at a broker, at a broker below it, and at a domain.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import select

from broker.storage import tables
from lower_sp_clients.vim.accounting import TAKES
from lower_sp_clients.vim.driver import DriverError
from service_model.outcomes import Committed, ReasonCode, Refused, Reserved, ServiceState
from tests.support.crashing import CrashingStore, Mishap, Points
from tests.support.faults import hangs, late, lost_after, lost_before, waits_for
from tests.support.orders import CONFIRM, CTX, active, reserved
from tests.support.sites import AURORA, AURORA_CHAIN, POOL, Site, Sp, chain
from tests.support.stack import Stack

T = TypeVar("T")
LEVELS = [("aurora", "notos"), ("notos", "abyss"), ("abyss", "ghent")]
AT = pytest.mark.parametrize("at", LEVELS, ids=["-".join(pair) for pair in LEVELS])


@pytest.fixture
async def aurora(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(AURORA, tmp_path) as stack:
        yield stack


async def in_time(stack: Stack, call: Awaitable[T], step: float = 0.5) -> T:
    """The answer, while time passes."""
    task = asyncio.ensure_future(call)
    await stack.until(task.done, step=step, turns=3000)
    return task.result()


async def charged(stack: Stack) -> Counter[tuple[str, ...]]:
    """How often each thing is charged anywhere."""
    c, rows = tables.charges.c, []
    for name, node in stack.nodes.items():
        found = await node.engine.read(lambda db: db.execute(select(c.side, c.service, c.segment, c.kind)).all())
        rows += [(name, *row) for row in found]
    return Counter(rows)


async def once(stack: Stack) -> None:
    """Each domain has one part of the one service, and everything is charged once."""
    assert [sum(h.state in TAKES for h in vim.holds()) for vim in stack.vims()] == [1, 1, 1]
    assert set((await charged(stack)).values()) == {1}


@AT
async def test_a_reserve_that_arrives_after_its_release_has_no_effect(aurora: Stack, at: tuple[str, str]) -> None:
    line, gate = aurora.line(*at), asyncio.Event()
    line.next("reserve", late(gate))
    line.always["reserve"] = lost_before()
    answer = await in_time(aurora, aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX))
    assert isinstance(answer, Refused)
    await aurora.ends_empty(step=2.0)
    assert line.count("release") + line.count("terminate") > 0
    gate.set()
    await aurora.pass_time(5)
    await aurora.ends_empty()
    assert not any(vim.holds() and h.state in TAKES for vim in aurora.vims() for h in vim.holds())


@AT
async def test_a_hold_whose_answer_was_lost_and_is_asked_for_again_late_is_the_same_and_counts_from_its_own_time(
    aurora: Stack, at: tuple[str, str]
) -> None:
    line = aurora.line(*at)
    line.next("reserve", lost_after())
    first = await in_time(aurora, aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX))
    assert isinstance(first, Reserved)
    ends = aurora.clock.now() + timedelta(seconds=first.remaining_s)
    assert line.count("reserve") == 2
    assert all(hold.expires is not None and hold.expires > ends for vim in aurora.vims() for hold in vim.holds())
    await aurora.pass_time((ends - aurora.clock.now()).total_seconds() - 20, step=1.0)
    again = await aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX)
    assert isinstance(again, Reserved)
    assert (again.choice, again.price) == (first.choice, first.price)
    assert again.remaining_s == pytest.approx((ends - aurora.clock.now()).total_seconds(), abs=0.6)
    await aurora.pass_time(30)
    assert await aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX) == replace(first, remaining_s=0.0)
    over = await aurora.customer().commit("r", 1, CONFIRM, CTX)
    assert isinstance(over, Refused)
    assert over.reasons[0].code is ReasonCode.HOLD_EXPIRED
    await aurora.ends_empty()


@AT
async def test_a_commit_whose_answer_was_lost_and_is_asked_for_again_after_expiry_is_committed(
    aurora: Stack, at: tuple[str, str]
) -> None:
    await reserved(aurora)
    line = aurora.line(*at)
    line.always["commit"] = lost_after()
    committing = asyncio.ensure_future(aurora.customer().commit("r", 1, CONFIRM, CTX))
    await aurora.until(lambda: line.count("commit") > 0)
    assert await in_time(aurora, committing) == Committed(ref="r", version=1)  # told by what became of the parts
    await aurora.pass_time(400)
    line.always.clear()
    segment = next(s for o in aurora.broker(at[0]).orders() for s in o.segments if s.alias == at[1])
    assert segment.bindings is not None
    same = Committed(ref=segment.ref, version=segment.version)
    assert await line.commit(segment.ref, segment.version, segment.bindings, CTX) == same
    assert await aurora.customer().commit("r", 1, CONFIRM, CTX) == Committed(ref="r", version=1)
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.5)
    await once(aurora)


@AT
async def test_attempt_one_that_timed_out_while_attempt_two_is_in_flight_is_the_same_attempt(
    aurora: Stack, at: tuple[str, str]
) -> None:
    await reserved(aurora)
    line, one, two = aurora.line(*at), asyncio.Event(), asyncio.Event()
    line.next("commit", late(one), waits_for(two))
    committing = asyncio.ensure_future(aurora.customer().commit("r", 1, CONFIRM, CTX))
    await aurora.until(lambda: line.count("commit") == 2, step=1.0)
    one.set()
    await aurora.pass_time(2, step=0.5)
    two.set()
    assert await in_time(aurora, committing) == Committed(ref="r", version=1)
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.5)
    await once(aurora)


async def test_a_customer_whose_first_attempt_timed_out_gets_the_same_by_the_second(aurora: Stack) -> None:
    gate = asyncio.Event()
    aurora.line("aurora", "notos").next("reserve", waits_for(gate))
    soon = replace(CTX, deadline=aurora.clock.now() + timedelta(seconds=20))
    one = asyncio.ensure_future(aurora.customer().reserve("r", 1, AURORA_CHAIN, soon))
    await aurora.turn()
    two = asyncio.ensure_future(aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX))
    await aurora.turn()
    one.cancel()  # its caller hears no answer any more
    gate.set()
    held = await in_time(aurora, two)
    assert isinstance(held, Reserved)
    assert [vim.holds()[0].version for vim in aurora.vims()] == [1, 1, 1]
    assert [len(vim.holds()) for vim in aurora.vims()] == [1, 1, 1]


@AT
async def test_a_child_that_expires_during_the_decision_of_its_parent_ends_the_whole(
    aurora: Stack, at: tuple[str, str]
) -> None:
    await reserved(aurora)
    gate = asyncio.Event()
    aurora.line(*at).always["commit"] = waits_for(gate)
    committing = asyncio.ensure_future(aurora.customer().commit("r", 1, CONFIRM, CTX))
    await aurora.until(lambda: aurora.line(*at).count("commit") > 0)
    await aurora.pass_time(400)
    gate.set()
    answer = await in_time(aurora, committing)
    assert isinstance(answer, Refused)
    assert ReasonCode.SEGMENT_FAILED in {reason.code for reason in answer.reasons}
    assert aurora.state() in (ServiceState.FAILED, ServiceState.TERMINATED)
    await aurora.ends_empty()


async def test_a_child_that_expires_while_another_is_still_asked_is_not_what_the_parent_stands_on(
    tmp_path: Path,
) -> None:
    brief, slow = Site("s1", ("firewall",), max_hold_s=20), Site("s2", ("meter",))
    async with Stack(Sp("a", (brief, slow), (POOL,)), tmp_path) as stack:
        gate = asyncio.Event()
        stack.line("a", "s2").next("reserve", waits_for(gate))
        asking = asyncio.ensure_future(
            stack.customer().reserve("r", 1, chain("s1.uni", "s2.uni", "firewall", "meter"), CTX)
        )
        await stack.until(lambda: stack.line("a", "s2").count("reserve") == 1)
        await stack.pass_time(25)
        assert stack.vim("s1").holds()[0].state is ServiceState.EXPIRED
        gate.set()
        answer = await in_time(stack, asking)
        assert isinstance(answer, Refused)
        assert answer.reasons[0].code is ReasonCode.HOLD_EXPIRED
        await stack.ends_empty()


@AT
async def test_a_commit_that_arrives_after_its_terminate_builds_nothing(aurora: Stack, at: tuple[str, str]) -> None:
    await reserved(aurora)
    line, gate = aurora.line(*at), asyncio.Event()
    line.always["commit"] = late(gate)
    committing = asyncio.ensure_future(aurora.customer().commit("r", 1, CONFIRM, CTX))
    await aurora.until(lambda: line.count("commit") == 1)
    await in_time(aurora, aurora.customer().terminate("r", CTX))
    await aurora.ends_empty(step=2.0)
    gate.set()
    assert isinstance(await in_time(aurora, committing), Refused)
    await aurora.pass_time(5)
    await aurora.ends_empty()
    assert aurora.state() is ServiceState.TERMINATED


@AT
async def test_a_supplier_that_does_not_say_what_became_of_a_segment_is_asked_again(
    aurora: Stack, at: tuple[str, str]
) -> None:
    await active(aurora)
    await aurora.stop(at[0])
    aurora.line(*at).next("status", hangs())
    await aurora.start(at[0])
    await aurora.until(lambda: aurora.line(*at).count("status") > 0, step=0.5)
    seen = aurora.line(*at).count("status")
    await aurora.pass_time(60)
    assert aurora.line(*at).count("status") > seen


class Full(Points):
    """While it is full, no order can be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.full, self.counts, self.failed = False, True, 0

    def meets(self, what: str) -> Mishap | None:
        if not self.full or what != "write SqlOrderBook.save":
            return None
        self.failed += 1
        return Mishap.FAILS


@pytest.mark.parametrize("name", ["aurora", "notos", "abyss"])
async def test_what_a_supplier_told_while_it_could_not_be_recorded_is_asked_for(name: str, tmp_path: Path) -> None:
    stack, disk = Stack(AURORA, tmp_path), Full()
    stack.nodes[name].store = lambda engine: CrashingStore.over(engine, lambda: disk)
    async with stack:
        await reserved(stack)
        for vim in stack.vims():
            stack.nodes[vim.domain.sp_id].drivers[vim.domain.name].fail_next("apply", DriverError("a cable is loose"))
        assert await stack.customer().commit("r", 1, CONFIRM, CTX) == Committed(ref="r", version=1)
        disk.full = True  # they are built at the second attempt, and that is told
        await stack.until(lambda: disk.failed > 0, step=0.1)
        disk.full = False
        await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=0.5)
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()
