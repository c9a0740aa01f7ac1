"""What else may come while a live service is healed: versions of its owner, its end, failures, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from service_model.outcomes import (
    Committed,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
)
from tests.support.faults import hangs, lost_before, refuses
from tests.support.healings import (
    FASTER,
    SPEC,
    TOP,
    addresses,
    at,
    bought,
    calls,
    ends,
    fails,
    healed,
    healed_beside,
    healing,
    more,
    order,
    status,
)
from tests.support.orders import CONFIRM, CTX, active
from tests.support.stack import Stack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(TOP, tmp_path, draw="heal") as made:
        yield made


async def test_the_owner_is_answered_as_before_and_has_his_next_version(stack: Stack) -> None:
    first = await active(stack, SPEC)
    await fails(stack, "a", "c")
    await healed(stack)
    again = await stack.customer().reserve("r", 1, SPEC, CTX)
    assert isinstance(again, Reserved)
    assert addresses(again.choice) == addresses(first.choice)
    assert again.price == first.price
    assert await stack.customer().commit("r", 1, CONFIRM, CTX) == Committed(ref="r", version=1)
    other = await stack.customer().reserve("r", 1, FASTER, CTX)
    assert isinstance(other, Refused)
    assert other.reasons[0].code is ReasonCode.KEY_REUSED
    answer = await stack.customer().reserve("r", 2, FASTER, CTX)
    assert isinstance(answer, Reserved), answer
    assert answer.choice.labels == first.choice.labels
    assert await stack.customer().commit("r", 2, CONFIRM, CTX) == Committed(ref="r", version=2)
    await healed(stack, version=2)
    await ends(stack)


async def test_a_refused_version_of_the_owners_stays_as_he_was_told_over_a_healing(stack: Stack) -> None:
    await active(stack, SPEC)
    stack.line("a", "c").always["reserve"] = refuses(ReasonCode.CAPACITY)
    stack.line("a", "d").always["reserve"] = refuses(ReasonCode.CAPACITY)
    refused = await stack.customer().reserve("r", 2, FASTER, CTX)
    assert isinstance(refused, Refused)
    stack.line("a", "d").always.pop("reserve")
    await fails(stack, "a", "c")
    await healed_beside(stack)
    assert await stack.customer().reserve("r", 2, FASTER, CTX) == refused
    reused = await stack.customer().reserve("r", 2, SPEC, CTX)
    assert isinstance(reused, Refused)
    assert reused.reasons[0].code is ReasonCode.KEY_REUSED
    answer = await stack.customer().reserve("r", 3, FASTER, CTX)
    assert isinstance(answer, Reserved), answer
    assert await stack.customer().commit("r", 3, CONFIRM, CTX) == Committed(ref="r", version=3)
    await healed(stack, version=3)
    await ends(stack)


async def test_the_owner_may_not_change_it_while_it_is_healed_and_is_asked_to_come_again(stack: Stack) -> None:
    await active(stack, SPEC)
    stack.line("a", "d").next("reserve", hangs())
    await fails(stack, "a", "c")
    await stack.until(lambda: stack.line("a", "d").count("reserve") == 1)
    answer = await stack.customer().reserve("r", 2, FASTER, CTX)
    assert isinstance(answer, Refused)
    assert answer.reasons[0].code is ReasonCode.MODIFICATION_NOT_OFFERED
    assert answer.reasons[0].retryable
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=1)
    reserving = asyncio.create_task(stack.customer().reserve("r", 2, FASTER, CTX))
    await stack.until(reserving.done, step=0.2)
    assert isinstance(reserving.result(), Reserved), reserving.result()
    assert await stack.customer().commit("r", 2, CONFIRM, CTX) == Committed(ref="r", version=2)
    await healed(stack, version=2)
    await ends(stack)


async def test_a_newer_version_that_is_held_goes_first_and_a_healing_follows(stack: Stack) -> None:
    await active(stack, SPEC)
    answer = await stack.customer().reserve("r", 2, FASTER, CTX)
    assert isinstance(answer, Reserved), answer
    await fails(stack, "a", "c")
    await stack.until(lambda: stack.state() is ServiceState.DEGRADED)
    await stack.pass_time(30)
    assert order(stack).heals == 0
    await stack.pass_time(400)
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE and at(stack)[1] == "d", step=0.2)
    assert status(stack).version == 1
    await ends(stack)


async def test_a_modification_of_which_a_part_fails_at_its_commit_is_healed(stack: Stack) -> None:
    await active(stack, SPEC)
    answer = await stack.customer().reserve("r", 2, FASTER, CTX)
    assert isinstance(answer, Reserved), answer
    stack.line("a", "c").next("commit", refuses(ReasonCode.HOLD_EXPIRED))
    assert await stack.customer().commit("r", 2, CONFIRM, CTX) == Committed(ref="r", version=2)
    await healed(stack, version=2)
    assert at(stack)[1] == "c", "what its supplier still delivers is changed there once more"
    assert stack.line("a", "d").count("reserve") == 0
    assert {
        h.spec.bandwidth_bps for v in stack.vims() for h in v.holds() if h.spec and h.state is ServiceState.ACTIVE
    } == {10**7}
    await ends(stack)


async def test_a_healing_of_which_a_changed_part_fails_at_its_commit_is_healed_by_another(stack: Stack) -> None:
    """A neighbour's site refuses the second wave: it still delivers what it did, and is asked to change that once more."""
    first = await active(stack, SPEC)
    ref = bought(stack, "s4").ref
    stack.line("a", "s4").next("commit", refuses(ReasonCode.HOLD_EXPIRED))
    await fails(stack, "a", "c")
    await stack.until(lambda: order(stack).heals == 2, step=0.5)
    await healed(stack)
    assert (at(stack)[1], bought(stack, "s4").ref) == ("d", ref)
    assert addresses(status(stack).choice) == addresses(first.choice)
    await ends(stack)


async def test_a_new_part_that_cannot_be_built_leaves_the_live_version_as_it_was(stack: Stack) -> None:
    await active(stack, SPEC)
    stack.line("a", "d").next("commit", refuses(ReasonCode.HOLD_EXPIRED))
    before = calls(stack)
    await fails(stack, "a", "c")
    await stack.until(lambda: stack.state() is ServiceState.DEGRADED and healing(stack).reasons != (), step=0.1)
    assert "commit" not in more(stack, before).get("s1", [])
    await stack.pass_time(30, step=1)
    await healed(stack)
    await ends(stack)


@pytest.mark.parametrize("stage", ["reserving", "committing", "active"])
async def test_whoever_ends_the_service_meanwhile_wins(stack: Stack, stage: str) -> None:
    await active(stack, SPEC)
    if stage == "reserving":
        stack.line("a", "d").always["reserve"] = hangs()
    if stage == "committing":
        stack.line("a", "d").always["commit"] = lost_before()
    await fails(stack, "a", "c")
    if stage == "reserving":
        await stack.until(lambda: stack.line("a", "d").count("reserve") == 1)
    if stage == "committing":
        await stack.until(lambda: stack.line("a", "d").count("commit") > 0, step=0.1)
    if stage == "active":
        await stack.until(lambda: stack.state() is ServiceState.ACTIVE and order(stack).heals == 1, step=0.1)
    await ends(stack)


@pytest.mark.parametrize("name", ["a", "c", "d"])
@pytest.mark.parametrize("stage", ["reserve", "commit"])
async def test_a_restart_in_the_middle_goes_on_where_it_was(stack: Stack, name: str, stage: str) -> None:
    first = await active(stack, SPEC)
    stack.line("a", "d").next(stage, hangs())
    await fails(stack, "a", "c")
    await stack.until(lambda: stack.line("a", "d").count(stage) == 1, step=0.1)
    await stack.restart(name)
    stack.announce_all()
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE and order(stack).past is None, step=0.5)
    assert at(stack)[1] == "d"
    assert addresses(status(stack).choice) == addresses(first.choice)
    await ends(stack)


async def test_a_service_whose_time_is_over_ends_also_where_it_cannot_be_healed(stack: Stack) -> None:
    end = stack.clock.now() + timedelta(seconds=200)
    stack.line("a", "d").always["reserve"] = refuses(ReasonCode.CAPACITY)
    await active(stack, replace(SPEC, end_time=end))
    await fails(stack, "a", "c")
    await stack.pass_time(230)
    await stack.until(lambda: stack.state() is ServiceState.TERMINATED, step=0.5)
    await stack.ends_empty()
