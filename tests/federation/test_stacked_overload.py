"""Deadlines that get shorter on their way down, suppliers that have too much to do, and watchers that do not keep up: counted
on a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.orders.calling import MARGIN
from lower_sp_clients.supplier import OutcomeUnknown
from service_model.outcomes import Committed, Event, ReasonCode, Refused, Reserved, ServiceState
from service_model.quotes import Qualification, Quote
from tests.support.faults import turned_away
from tests.support.orders import CONFIRM, CTX, active, reserved
from tests.support.sites import AURORA, AURORA_CHAIN
from tests.support.stack import Stack

HINT_S = 2.0


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(AURORA, tmp_path) as made:
        yield made


def within(stack: Stack, seconds: float) -> Any:
    return replace(CTX, deadline=stack.clock.now() + timedelta(seconds=seconds))


async def answer_of(stack: Stack, asking: Any, seconds: float) -> Any:
    """What is answered when so much time has passed, and not before."""
    task = asyncio.ensure_future(asking)
    before = stack.clock.now()
    await stack.until(task.done, step=0.1)
    assert stack.clock.now() - before >= timedelta(seconds=seconds)
    return task.result()


# Deadlines ------------------------------------------------------------------------------------------------------------


async def test_each_level_keeps_a_margin_of_the_time_that_its_caller_has(stack: Stack) -> None:
    deadline = stack.clock.now() + timedelta(seconds=20)
    answer = await stack.customer().reserve("r", 1, AURORA_CHAIN, replace(CTX, deadline=deadline))
    assert isinstance(answer, Reserved), answer
    told: dict[str, Any] = {"aurora": deadline}
    for name in ("aurora", "boreas", "notos", "abyss"):  # whoever sells first
        for alias, line in stack.nodes[name].lines.items():
            for ctx in line.contexts:
                assert ctx.deadline == told[name] - MARGIN, (name, alias)
                told[alias] = ctx.deadline
    assert set(told) > {"aurora", "boreas", "notos", "abyss", "ghent"}, "every level was told"


@pytest.mark.parametrize("left_s", [0.0, MARGIN.total_seconds()])
async def test_what_comes_too_late_to_be_answered_is_refused_before_anything_is_recorded(
    stack: Stack, left_s: float
) -> None:
    customer, late = stack.customer(), within(stack, left_s)
    refused = await customer.reserve("r", 1, AURORA_CHAIN, late)
    assert isinstance(refused, Refused)
    assert [reason.code for reason in refused.reasons] == [ReasonCode.DEADLINE]
    assert refused.reasons[0].retryable
    for asked in (await customer.qualify(AURORA_CHAIN, late), await customer.quote(AURORA_CHAIN, late)):
        assert isinstance(asked, Qualification)
        assert [reason.code for reason in asked.reasons] == [ReasonCode.DEADLINE]
    assert stack.broker("aurora").orders() == ()
    assert not any(line.calls for line in stack.nodes["aurora"].lines.values())
    assert isinstance(await customer.reserve("r", 1, AURORA_CHAIN, CTX), Reserved), "the same version, with time"


async def test_what_was_answered_before_is_answered_again_however_late(stack: Stack) -> None:
    first = await reserved(stack)
    again = await stack.customer().reserve("r", 1, AURORA_CHAIN, within(stack, 0.0))
    assert again == first


# Suppliers that have too much to do -----------------------------------------------------------------------------------


async def test_a_reservation_that_a_supplier_turned_away_is_made_again_when_it_said(stack: Stack) -> None:
    line = stack.line("aurora", "boreas")
    line.next("reserve", turned_away(HINT_S), turned_away(HINT_S))
    answer = await answer_of(stack, stack.customer().reserve("r", 1, AURORA_CHAIN, CTX), 2 * HINT_S)
    assert isinstance(answer, Reserved), answer
    asked = [call for call in line.calls if call[0] == "reserve"]
    assert len(asked) == 3
    assert len(set(asked)) == 1, "the same ref and version each time"
    assert line.count("release") == 0, "it is no refusal: nothing is planned around"


async def test_who_is_turned_away_for_longer_than_there_is_time_hears_so_at_once(stack: Stack) -> None:
    stack.line("aurora", "boreas").always["reserve"] = turned_away(60.0, times=9)
    before = stack.clock.now()
    refused = await stack.customer().reserve("r", 1, AURORA_CHAIN, within(stack, 10.0))
    assert isinstance(refused, Refused)
    assert [reason.code for reason in refused.reasons] == [ReasonCode.DEADLINE]
    assert "overloaded" in refused.reasons[0].message
    assert refused.reasons[0].retryable
    assert stack.clock.now() - before < timedelta(seconds=1)
    await stack.ends_empty()


@pytest.mark.parametrize("alias", ["boreas", "notos"])
async def test_a_commit_and_an_end_that_were_turned_away_are_asked_for_until_they_are_done(
    stack: Stack, alias: str
) -> None:
    await reserved(stack)
    line = stack.line("aurora", alias)
    line.next("commit", turned_away(HINT_S))
    done = await answer_of(stack, stack.customer().commit("r", 1, CONFIRM, CTX), HINT_S)
    assert done == Committed(ref="r", version=1)
    assert line.count("commit") == 2
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE)
    line.next("terminate", turned_away(HINT_S))
    await stack.customer().terminate("r", CTX)
    await stack.until(lambda: stack.state() is ServiceState.TERMINATED, step=0.1)
    await stack.ends_empty()


async def test_a_quote_waits_for_a_supplier_that_turned_it_away(stack: Stack) -> None:
    stack.line("aurora", "notos").next("quote", turned_away(HINT_S))
    quote = await answer_of(stack, stack.customer().quote(AURORA_CHAIN, CTX), HINT_S)
    assert isinstance(quote, Quote), quote


# Watchers -------------------------------------------------------------------------------------------------------------


async def test_a_watcher_that_does_not_read_is_cut_off_and_resumes_without_loss(tmp_path: Path) -> None:
    stack = Stack(AURORA, tmp_path)
    stack.nodes["aurora"].watcher_behind = 3
    async with stack:
        attentive = Reader(stack)
        slow = stack.customer().watch("")
        first = await anext(slow)
        await active(stack)
        await attentive.read()
        await stack.customer().terminate("r", CTX)
        await stack.until(lambda: stack.state() is ServiceState.TERMINATED)
        await attentive.read()
        heard = [await anext(slow) for _ in range(3)]
        with pytest.raises(OutcomeUnknown, match="too far behind"):
            await anext(slow)
        resumed = Reader(stack, after=heard[-1].token)
        await resumed.read()
        assert [e.status for e in (*heard, *resumed.events)] == [e.status for e in attentive.events]
        assert len(resumed.events) > 3, "it had missed something"
        assert first.status is None
        await resumed.close()
        await attentive.close()


class Reader:
    """Reads what there is of a stream of events."""

    def __init__(self, stack: Stack, after: str = "") -> None:
        self.events: list[Event] = []
        self._stack = stack
        self._task = asyncio.create_task(self._read(after))

    async def _read(self, after: str) -> None:
        async with aclosing(self._stack.customer().watch(after)) as events:  # type: ignore[type-var]
            async for event in events:
                if event.status is not None:
                    self.events.append(event)

    async def read(self) -> None:
        before = -1
        while before != len(self.events):
            before = len(self.events)
            for _ in range(20):
                await self._stack.turn()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
