"""A supplier is not heard of, or does not know what it delivers: what it has is lost, and what is done then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.bootstrap.stuck_list import stuck_segments
from lower_sp_clients.supplier import ServiceNotFound
from service_model.outcomes import (
    ServiceState,
)
from tests.support.faults import Answer
from tests.support.healings import (
    DEAD_S,
    SPEC,
    TOP,
    addresses,
    at,
    bought,
    calls,
    ends,
    healing,
    more,
    order,
    status,
)
from tests.support.orders import CTX, active
from tests.support.stack import Stack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(TOP, tmp_path, draw="heal") as made:
        yield made


async def test_a_supplier_that_is_not_heard_of_is_dead_after_its_time_and_nobody_waits_for_it(stack: Stack) -> None:
    first = await active(stack, SPEC)
    await stack.stop("c")
    await stack.pass_time(DEAD_S - 20)
    assert stack.state() is ServiceState.ACTIVE
    await stack.pass_time(40)
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE and at(stack)[1] == "d", step=0.1)
    assert addresses(status(stack).choice) == addresses(first.choice)
    past = order(stack).past
    assert past is not None, "what the dead one has is not known to be gone"
    assert [s.alias for s in past.segments] == ["c"]
    await stack.pass_time(4 * 3600 + 60, step=60)
    (stuck,) = stuck_segments(stack.broker("a").orders(), stack.nodes["a"].catalogue.listing)
    assert (stuck.alias, stuck.ref, stuck.own) == ("c", "r", False)
    assert stack.state() is ServiceState.ACTIVE
    await stack.start("c")
    stack.announce_all()
    await stack.until(lambda: order(stack).past is None, step=1)
    assert await stack.vim("s2").inventory() == ()
    await ends(stack)


async def test_what_a_dead_supplier_has_can_be_given_up_while_the_service_lives(stack: Stack) -> None:
    await active(stack, SPEC)
    await stack.stop("c")
    await stack.pass_time(DEAD_S + 20)
    await stack.until(lambda: at(stack)[1] == "d", step=0.1)
    await stack.pass_time(4 * 3600 + 60, step=60)
    _, given = await stack.broker("a").abandon(order(stack), "", "c is bankrupt", "olga")
    assert len(given) == 1
    await stack.until(lambda: order(stack).past is None or order(stack).past.state is ServiceState.TERMINATED)  # type: ignore[union-attr]
    assert stuck_segments(stack.broker("a").orders(), stack.nodes["a"].catalogue.listing) == ()
    assert stack.state() is ServiceState.ACTIVE
    await stack.start("c")
    stack.announce_all()
    await stack.until(lambda: len(stack.broker("a").returned()) == 1, step=1)
    ending = asyncio.create_task(stack.customer().terminate("r", CTX))
    await stack.until(ending.done, step=0.2)
    await stack.until(lambda: stack.state() is ServiceState.TERMINATED, step=0.2)


async def test_who_comes_back_in_time_is_not_replaced(stack: Stack) -> None:
    await active(stack, SPEC)
    before = calls(stack)
    await stack.stop("c")
    await stack.pass_time(DEAD_S - 60)
    await stack.start("c")
    stack.announce_all()
    await stack.pass_time(DEAD_S)
    assert stack.state() is ServiceState.ACTIVE
    assert more(stack, before) == {}
    assert order(stack).heals == 0
    await ends(stack)


async def test_who_comes_back_after_it_was_in_vain_to_look_elsewhere_ends_the_matter(stack: Stack) -> None:
    await active(stack, SPEC)
    stack.nodes["a"].catalogue.put("d", None)
    await stack.stop("c")
    await stack.pass_time(DEAD_S + 30)
    assert stack.state() is ServiceState.DEGRADED
    assert healing(stack).tries > 0
    await stack.start("c")
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=1)
    assert at(stack)[1] == "c"
    assert status(stack).healing is None
    await ends(stack)


async def not_found(call: Answer, ref: str, version: int) -> Any:
    raise ServiceNotFound(ref)


async def test_a_supplier_that_does_not_know_what_is_live_has_lost_it(stack: Stack) -> None:
    await active(stack, SPEC)
    ref = bought(stack, "c").ref
    stack.line("a", "c").always["status"] = not_found
    await stack.restart("c")
    await stack.until(lambda: at(stack)[1] == "d" and stack.state() is ServiceState.ACTIVE, step=0.2)
    stack.line("a", "c").always.pop("status")
    assert ("terminate", ref, 0) in stack.line("a", "c").calls
    await ends(stack)


async def test_the_time_of_a_silent_supplier_begins_anew_with_a_restart(stack: Stack) -> None:
    await active(stack, SPEC)
    await stack.stop("c")
    await stack.pass_time(DEAD_S - 100)
    await stack.restart("a")
    await stack.pass_time(DEAD_S - 100)
    assert stack.state() is ServiceState.ACTIVE
    await stack.pass_time(150)
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE and at(stack)[1] == "d", step=0.2)
    await stack.start("c")
    stack.announce_all()
    await stack.until(lambda: order(stack).past is None, step=1)
    await ends(stack)
