"""A hold that its owner prolongs: recorded before it is asked for, finished after a restart, never longer than known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from broker.orders.records import Order
from broker.orders.tasks import GUARD
from lower_sp_clients.supplier import Context, OutcomeUnknown
from service_model.outcomes import AddressingChoice, Committed, ReasonCode, Refused, Reserved, ServiceState
from tests.support.faults import Answer, Fault, hangs, lost_after, lost_before, refuses, waits_for
from tests.support.sites import AURORA, AURORA_CHAIN
from tests.support.stack import Stack

CTX = Context()
LATER = 100.0
"""So many seconds after the reservation somebody asks for more."""
SHORT, LONG = 250.0, 270.0


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Stack]:
    """A hold over four brokers, some time after it was taken."""
    async with Stack(AURORA, tmp_path) as stack:
        answer = await stack.customer().reserve("r", 1, AURORA_CHAIN, CTX)
        assert isinstance(answer, Reserved), answer
        await stack.pass_time(LATER)
        yield stack


def order_of(stack: Stack) -> Order:
    (order,) = stack.broker("aurora").orders()
    return order


def ends(stack: Stack) -> list[datetime]:
    """When each domain's hold ends."""
    return [hold.expires for vim in stack.vims() for hold in vim.holds() if hold.expires is not None]


async def extended(stack: Stack, seconds: float = SHORT) -> float:
    answer = await stack.customer().extend("r", 1, seconds, CTX)
    assert isinstance(answer, Reserved), answer
    return answer.remaining_s


async def test_a_hold_is_prolonged_at_every_level_and_ends_before_those_it_rests_on(held: Stack) -> None:
    assert await extended(held) == SHORT
    now = held.clock.now()
    assert len(ends(held)) == 3
    assert all((end - now).total_seconds() >= SHORT + GUARD.total_seconds() for end in ends(held))
    await held.pass_time(SHORT - 1)
    assert await held.customer().commit("r", 1, AddressingChoice(), CTX) == Committed(ref="r", version=1)


async def test_the_intent_is_recorded_before_any_supplier_is_asked(held: Stack) -> None:
    recorded = []

    def witness() -> Fault:
        async def fault(call: Answer, ref: str, version: int) -> Any:
            recorded.append(order_of(held).extending)
            return await call()

        return fault

    for alias in ("boreas", "notos"):
        held.line("aurora", alias).next("extend", witness())
    asked = held.clock.now()
    await extended(held)
    assert [(at - asked).total_seconds() for at in recorded if at is not None] == [SHORT, SHORT]
    assert order_of(held).extending is None


async def test_a_crash_while_suppliers_are_asked_is_finished_after_the_restart(held: Stack) -> None:
    before = order_of(held).expires
    line = held.line("aurora", "notos")
    line.always["extend"] = hangs()
    asking = asyncio.ensure_future(held.customer().extend("r", 1, SHORT, CTX))
    await held.until(lambda: line.count("extend") == 1)
    wanted = order_of(held).extending
    await held.stop("aurora")
    with suppress(OutcomeUnknown):
        await asking
    line.always.clear()
    await held.start("aurora")
    await held.until(lambda: order_of(held).extending is None)
    assert before is not None
    assert wanted is not None
    assert order_of(held).expires == wanted > before
    assert line.count("extend") == 2


@pytest.mark.parametrize("fault", [lost_before(), lost_after(), refuses(ReasonCode.CAPACITY)])
async def test_where_one_supplier_does_not_say_yes_the_hold_stays_as_it_was_and_leaves_nothing(
    held: Stack, fault: Fault
) -> None:
    before = order_of(held).expires
    held.line("aurora", "notos").next("extend", fault)  # its own hold ends first
    await extended(held)
    assert order_of(held).expires == before
    await held.until(lambda: held.state() is ServiceState.EXPIRED, step=5.0)
    await held.ends_empty()


async def test_the_one_that_did_not_answer_is_asked_when_the_owner_asks_again(held: Stack) -> None:
    held.line("aurora", "boreas").next("extend", lost_before())
    assert await extended(held) < SHORT
    assert await extended(held) == SHORT


async def test_two_who_ask_at_once_each_get_what_they_ask_for(held: Stack) -> None:
    asking = [asyncio.ensure_future(extended(held, seconds)) for seconds in (SHORT, LONG)]
    await held.until(lambda: all(task.done() for task in asking))
    assert [task.result() for task in asking] == [SHORT, LONG]


async def test_a_hold_that_ended_while_suppliers_were_asked_has_ended(held: Stack) -> None:
    ends_at = order_of(held).expires
    assert ends_at is not None
    await held.pass_time((ends_at - held.clock.now()).total_seconds() - 1)
    gate = asyncio.Event()
    line = held.line("aurora", "boreas")
    line.next("extend", waits_for(gate))
    asking = asyncio.ensure_future(held.customer().extend("r", 1, SHORT, CTX))
    await held.until(lambda: line.count("extend") == 1)
    held.clock.advance(2)
    gate.set()
    await held.until(asking.done)
    refused = asking.result()
    assert isinstance(refused, Refused)
    assert {r.code for r in refused.reasons} == {ReasonCode.HOLD_EXPIRED}
    await held.ends_empty()


@pytest.mark.parametrize("end", ["commit", "terminate", "release"])
async def test_what_the_owner_decides_meanwhile_overtakes_the_extension(held: Stack, end: str) -> None:
    gate = asyncio.Event()
    held.line("aurora", "boreas").next("extend", waits_for(gate))
    customer = held.customer()
    asking = asyncio.ensure_future(customer.extend("r", 1, SHORT, CTX))
    await held.until(lambda: held.line("aurora", "boreas").count("extend") == 1)
    deciding: asyncio.Future[Any]
    match end:
        case "commit":
            deciding = asyncio.ensure_future(customer.commit("r", 1, AddressingChoice(), CTX))
        case "terminate":
            deciding = asyncio.ensure_future(customer.terminate("r", CTX))
        case _:
            deciding = asyncio.ensure_future(customer.release("r", 1, CTX))
    await held.turn()
    gate.set()
    await held.until(lambda: asking.done() and deciding.done())
    assert isinstance(asking.result(), Refused)
    if end == "commit":
        assert isinstance(deciding.result(), Committed)
        await held.until(lambda: held.state() is ServiceState.ACTIVE)
        await customer.terminate("r", CTX)
    await held.ends_empty()
