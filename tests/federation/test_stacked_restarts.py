"""Brokers stacked on brokers: whatever is lost, late, overtaken or restarted on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from lower_sp_clients.supplier import OutcomeUnknown
from service_model.outcomes import (
    Committed,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
)
from tests.support.faults import hangs, lost_after, lost_before, waits_for
from tests.support.orders import CONFIRM, CTX, active, reserved
from tests.support.stack import AURORA_CHAIN, Stack


@pytest.mark.parametrize("lost", [lost_before, lost_after], ids=["before", "after"])
@pytest.mark.parametrize("method", ["reserve", "commit", "terminate"])
async def test_a_lost_message_is_asked_again_with_the_same_key_until_it_is_answered(
    aurora: Stack, method: str, lost: Callable[[], object]
) -> None:
    for pair in (("aurora", "notos"), ("notos", "abyss"), ("abyss", "ghent")):
        aurora.line(*pair).next(method, lost(), lost())  # type: ignore[arg-type]
    customer = aurora.customer()
    task = asyncio.ensure_future(customer.reserve("r", 1, AURORA_CHAIN, CTX))
    await aurora.until(task.done, step=0.2)
    assert isinstance(task.result(), Reserved)
    committed = asyncio.ensure_future(customer.commit("r", 1, CONFIRM, CTX))
    await aurora.until(committed.done, step=0.2)
    assert committed.result() == Committed(ref="r", version=1)
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.2)
    await customer.terminate("r", CTX)
    await aurora.ends_empty()
    keys = {(ref, version) for name, ref, version in aurora.line("aurora", "notos").calls if name == method}
    assert len(keys) == 1
    assert all(len(v.holds()) == 1 for v in aurora.vims())


@pytest.mark.parametrize("fault", [lost_before, lost_after, hangs], ids=["before", "after", "hangs"])
async def test_a_supplier_that_does_not_answer_in_time_is_refused_and_released_later(
    aurora: Stack, fault: Callable[[], object]
) -> None:
    line = aurora.line("aurora", "notos")
    line.always |= {"reserve": fault(), "release": fault()}  # type: ignore[dict-item]
    task = asyncio.ensure_future(aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX))
    await aurora.until(task.done, step=0.5)
    answer = task.result()
    assert isinstance(answer, Refused)
    assert answer.reasons[0].code is ReasonCode.SUPPLIER_UNREACHABLE
    line.always.clear()
    await aurora.ends_empty(step=2.0)
    late = await aurora.broker("notos").seen_by("aurora").reserve(line.calls[0][1], 1, AURORA_CHAIN, CTX)
    assert isinstance(late, Refused), "what was released before it was seen has no effect later"


async def test_terminate_overtakes_a_commit_that_is_under_way(aurora: Stack) -> None:
    gate = asyncio.Event()
    await reserved(aurora)
    aurora.line("notos", "abyss").next("commit", waits_for(gate))
    committing = asyncio.ensure_future(aurora.customer().commit("r", 1, CONFIRM, CTX))
    await aurora.until(lambda: aurora.line("notos", "abyss").count("commit") == 1)
    ending = asyncio.ensure_future(aurora.customer().terminate("r", CTX))
    await aurora.turn()
    gate.set()
    await aurora.until(ending.done)
    answer = await committing
    assert isinstance(answer, Refused)
    await aurora.ends_empty()
    assert aurora.state() is ServiceState.TERMINATED


async def test_terminate_overtakes_a_reservation_that_is_under_way(aurora: Stack) -> None:
    gate = asyncio.Event()
    aurora.line("notos", "abyss").next("reserve", waits_for(gate))
    asking = asyncio.ensure_future(aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX))
    await aurora.until(lambda: aurora.line("notos", "abyss").count("reserve") == 1)
    ending = asyncio.ensure_future(aurora.customer().terminate("r", CTX))
    await aurora.turn()
    gate.set()
    await aurora.until(ending.done)
    answer = await asking
    assert isinstance(answer, Refused)
    assert answer.reasons
    await aurora.ends_empty()


@pytest.mark.parametrize("name", ["aurora", "boreas", "notos", "abyss"])
async def test_a_broker_that_restarts_while_it_is_reserved_goes_on(aurora: Stack, name: str) -> None:
    before = await reserved(aurora)
    await aurora.restart(name)
    again = await aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX)
    assert isinstance(again, Reserved)
    assert (again.choice, again.price) == (before.choice, before.price)
    task = asyncio.ensure_future(aurora.customer().commit("r", 1, CONFIRM, CTX))
    await aurora.until(task.done, step=0.2)
    assert isinstance(task.result(), Committed)
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.2)
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()


@pytest.mark.parametrize("name", ["aurora", "boreas", "notos", "abyss"])
async def test_a_broker_that_restarts_while_an_answer_to_its_commit_is_lost_goes_forward(
    aurora: Stack, name: str
) -> None:
    await reserved(aurora)
    for pair in (("aurora", "boreas"), ("aurora", "notos"), ("notos", "abyss"), ("abyss", "ghent")):
        aurora.line(*pair).always["commit"] = lost_after()
    task = asyncio.ensure_future(aurora.customer().commit("r", 1, CONFIRM, CTX))
    await aurora.until(lambda: aurora.line("abyss", "ghent").count("commit") > 0, step=0.1)
    await aurora.restart(name)
    for node in aurora.nodes.values():
        for line in node.lines.values():
            line.always.clear()
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.5)
    task.cancel()
    assert await aurora.customer().commit("r", 1, CONFIRM, CTX) == Committed(ref="r", version=1)
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()


@pytest.mark.parametrize("name", ["aurora", "boreas", "notos", "abyss"])
async def test_a_broker_that_restarts_while_it_terminates_finishes(aurora: Stack, name: str) -> None:
    await active(aurora)
    for pair in (("aurora", "boreas"), ("aurora", "notos"), ("notos", "abyss"), ("abyss", "ghent")):
        aurora.line(*pair).always["terminate"] = lost_before()
    await aurora.customer().terminate("r", CTX)
    await aurora.turn()
    await aurora.restart(name)
    for node in aurora.nodes.values():
        for line in node.lines.values():
            line.always.clear()
    await aurora.ends_empty()
    assert aurora.state() is ServiceState.TERMINATED


@pytest.mark.parametrize("name", ["aurora", "boreas", "notos", "abyss"])
async def test_a_broker_that_restarts_while_it_is_active_stays_so(aurora: Stack, name: str) -> None:
    await active(aurora)
    await aurora.restart(name)
    await aurora.pass_time(20)
    assert aurora.state() is ServiceState.ACTIVE
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()


async def test_a_live_service_of_which_nothing_is_to_be_done_is_not_worked_on_after_a_restart(aurora: Stack) -> None:
    await active(aurora)
    await aurora.restart("aurora")
    assert not [work for work in aurora.broker("aurora").unfinished() if work.startswith("order ")]
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()


async def test_what_ended_while_its_broker_was_down_is_heard_of_afterwards(aurora: Stack) -> None:
    await active(aurora)
    aurora.line("aurora", "notos").always["terminate"] = lost_after()
    await aurora.customer().terminate("r", CTX)
    await aurora.until(lambda: aurora.line("aurora", "notos").count("terminate") > 0)
    await aurora.stop("aurora")
    await aurora.pass_time(5)
    aurora.line("aurora", "notos").always.clear()
    await aurora.start("aurora")
    await aurora.ends_empty()


async def test_a_supplier_that_never_saw_the_order_is_rid_of_it_too(aurora: Stack) -> None:
    """A terminate of what was never seen leaves only a tombstone, which tells nothing: it is asked for."""
    line = aurora.line("aurora", "notos")
    line.always["reserve"] = lost_before()
    asking = asyncio.ensure_future(aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX))
    await aurora.until(lambda: line.count("reserve") > 0)
    line.next("terminate", lost_after())
    await aurora.customer().terminate("r", CTX)
    await asking
    await aurora.ends_empty()
    assert aurora.state() is ServiceState.TERMINATED


async def test_an_order_whose_supplier_is_gone_ends_when_it_is_back(aurora: Stack) -> None:
    await active(aurora)
    node = aurora.nodes["aurora"]
    node.broker.use({a: s for a, s in node.lines.items() if a != "notos"})
    await aurora.customer().terminate("r", CTX)
    await aurora.pass_time(60)
    assert aurora.state() is ServiceState.TERMINATING
    node.broker.use(node.lines)
    await aurora.ends_empty(step=2.0)
    assert aurora.state() is ServiceState.TERMINATED


async def test_extending_and_committing_at_once_leaves_nobody_waiting(aurora: Stack) -> None:
    await reserved(aurora)
    customer = aurora.customer()
    calls = [customer.extend("r", 1, 200, CTX), customer.extend("r", 1, 250, CTX)]
    waiting = [asyncio.ensure_future(call) for call in calls]
    committing = asyncio.ensure_future(customer.commit("r", 1, CONFIRM, CTX))
    await aurora.until(lambda: all(task.done() for task in (*waiting, committing)))
    assert isinstance(committing.result(), Committed)


async def test_a_broker_that_stops_leaves_nobody_waiting(aurora: Stack) -> None:
    aurora.line("aurora", "notos").always["reserve"] = hangs()
    customer = aurora.customer()
    asking = asyncio.ensure_future(customer.reserve("r", 1, AURORA_CHAIN, CTX))
    await aurora.until(lambda: aurora.line("aurora", "notos").count("reserve") == 1)
    await aurora.stop("aurora")
    async with asyncio.timeout(60):
        with pytest.raises(OutcomeUnknown):
            await asking
        with pytest.raises(OutcomeUnknown):  # one that comes in while it stops
            await customer.reserve("r", 1, AURORA_CHAIN, CTX)
    aurora.line("aurora", "notos").always.clear()
    await aurora.start("aurora")
    await reserved(aurora)
