"""Services with a start and an end: one contract for every supplier. What is asked for at another time is in nobody's way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from lower_sp_clients.vim.accounting import TAKES
from lower_sp_clients.vim.driver import Blueprint, DriverError
from service_model.outcomes import Committed, Reason, ReasonCode, Refused, Reserved, ServiceState
from service_model.spec import ServiceSpec
from tests.contract.test_suppliers import CTX, Bench, bench, code

__all__ = ["bench"]
LATER = timedelta(days=1)


def within(bench: Bench, start: timedelta | None, end: timedelta | None, bps: int = 3 * 10**8) -> ServiceSpec:
    """From so long after now to so long after: at 0.3 Gbit/s, of which the SAP carries one at a time."""
    now = bench.stack.clock.now()
    return replace(
        bench.spec,
        bandwidth_bps=bps,
        start_time=None if start is None else now + start,
        end_time=None if end is None else now + end,
    )


async def ordered(bench: Bench, ref: str, spec: ServiceSpec, version: int = 1, announced: bool = True) -> None:
    held = await bench.reserve(ref, version, spec)
    assert isinstance(held, Reserved), held
    assert await bench.supplier.commit(ref, version, held.choice, CTX) == Committed(ref=ref, version=version)
    if announced:
        bench.stack.announce_all()


def why(answer: Reserved | Refused) -> Reason:
    """The innermost reason."""
    assert isinstance(answer, Refused), answer
    reason = answer.reasons[0]
    while reason.causes:
        reason = reason.causes[0]
    return reason


async def built(bench: Bench) -> int:
    """How many segments the infrastructure has anything of."""
    return len({item.segment for item in await bench.stack.nodes["x1"].drivers["s1"].inventory()})


async def test_two_that_follow_each_other_have_in_turn_what_one_alone_can_have(bench: Bench) -> None:
    await ordered(bench, "first", within(bench, None, LATER))
    between = await bench.reserve("between", 1, within(bench, LATER / 2, 2 * LATER))
    assert why(between).code is ReasonCode.BANDWIDTH
    for_ever = await bench.reserve("for-ever", 1, within(bench, None, None))
    assert why(for_ever).code is ReasonCode.BANDWIDTH
    await ordered(bench, "second", within(bench, LATER, None))


async def test_a_refusal_names_the_culprit_and_says_when_too_little_is_free(bench: Bench) -> None:
    await ordered(bench, "first", within(bench, LATER, 2 * LATER), announced=False)
    start = bench.stack.clock.now()
    reason = why(await bench.reserve("r", 1, within(bench, None, 3 * LATER)))
    assert (reason.code, reason.subject) == (ReasonCode.BANDWIDTH, "a")
    assert (reason.start_time, reason.end_time) == (start + LATER, start + 2 * LATER)
    assert reason.message.endswith("between 2026-01-02 00:00:00Z and 2026-01-03 00:00:00Z")
    if bench.supplier is bench.stack.vim("s1"):
        assert "400000000 of 1000000000 bit/s are free" in reason.message


async def test_a_service_waits_for_its_start_and_ends_at_its_end(bench: Bench) -> None:
    await ordered(bench, "r", within(bench, LATER, 2 * LATER))
    await bench.stack.pass_time(3600, step=600)
    assert (await bench.state(), await built(bench)) == (ServiceState.ACTIVATING, 0)
    await bench.stack.pass_time(LATER.total_seconds(), step=3600)
    await bench.becomes(ServiceState.ACTIVE)
    assert await built(bench) == 1
    await bench.stack.pass_time(LATER.total_seconds(), step=3600)
    await bench.becomes(ServiceState.TERMINATED)
    assert await built(bench) == 0
    assert not [h for vim in bench.stack.vims() for h in vim.holds() if h.state in TAKES]


async def test_what_is_over_before_it_could_be_built_is_never_built(bench: Bench) -> None:
    driver = bench.stack.nodes["x1"].drivers["s1"]
    driver.fail_next("apply", DriverError("nobody should build this"))
    await ordered(bench, "r", within(bench, LATER, LATER + timedelta(minutes=10)))
    await bench.stack.pass_time(2 * LATER.total_seconds(), step=2 * LATER.total_seconds())
    await bench.becomes(ServiceState.TERMINATED)
    with pytest.raises(DriverError, match="nobody"):
        await driver.apply(Blueprint(segment="s", networks=()))


async def test_a_start_that_is_past_is_now(bench: Bench) -> None:
    await ordered(bench, "r", within(bench, -LATER, LATER))
    await bench.becomes(ServiceState.ACTIVE)


@pytest.mark.parametrize("end", [-LATER, timedelta(0)])
async def test_an_end_that_is_past_is_refused_by_name(bench: Bench, end: timedelta) -> None:
    refused = await bench.reserve("r", 1, within(bench, -2 * LATER, end))
    assert isinstance(refused, Refused)
    assert code(refused) is ReasonCode.INVALID_SPEC
    assert refused.reasons[0].subject == "end_time"
    assert "is past" in refused.reasons[0].message


async def test_an_end_that_passes_while_it_is_held_frees_the_hold(bench: Bench) -> None:
    spec = within(bench, None, timedelta(seconds=60))
    held = await bench.reserve("r", 1, spec)
    assert isinstance(held, Reserved)
    assert held.remaining_s <= 60
    longer = await bench.supplier.extend("r", 1, 290, CTX)
    assert isinstance(longer, Reserved)
    assert longer.remaining_s <= 60
    await bench.stack.pass_time(70)
    assert await bench.state() is ServiceState.EXPIRED
    assert code(await bench.supplier.commit("r", 1, held.choice, CTX)) is ReasonCode.HOLD_EXPIRED


async def test_a_start_that_passes_while_it_is_held_is_when_it_is_committed(bench: Bench) -> None:
    held = await bench.reserve("r", 1, within(bench, timedelta(seconds=30), LATER))
    assert isinstance(held, Reserved)
    await bench.stack.pass_time(60)
    assert await bench.state() is ServiceState.RESERVED
    assert await bench.supplier.commit("r", 1, held.choice, CTX) == Committed(ref="r", version=1)
    await bench.becomes(ServiceState.ACTIVE)


async def test_one_that_is_ended_before_its_start_leaves_its_time_to_others(bench: Bench) -> None:
    await ordered(bench, "first", within(bench, LATER, 2 * LATER))
    await bench.supplier.terminate("first", CTX)
    await bench.becomes(ServiceState.TERMINATED, "first")
    assert await built(bench) == 0
    bench.stack.announce_all()
    await ordered(bench, "second", within(bench, LATER, 2 * LATER))


async def test_a_newer_version_may_end_earlier_or_later_where_nothing_is_in_the_way(bench: Bench) -> None:
    await ordered(bench, "r", within(bench, None, LATER))
    await bench.becomes(ServiceState.ACTIVE)
    await ordered(bench, "next", within(bench, 2 * LATER, None))
    start = bench.stack.clock.now()
    refused = await bench.reserve("r", 2, within(bench, None, 3 * LATER))
    assert why(refused).code is ReasonCode.BANDWIDTH
    assert await bench.state() is ServiceState.ACTIVE
    await ordered(bench, "r", within(bench, None, 2 * LATER), version=3)
    for _ in range(50):
        await bench.stack.turn()
        bench.stack.clock.advance(0.1)
    await bench.stack.pass_time(1.5 * LATER.total_seconds(), step=3600)
    assert await bench.state() is ServiceState.ACTIVE
    await bench.stack.pass_time((start + 2 * LATER - bench.stack.clock.now()).total_seconds() + 60, step=3600)
    await bench.becomes(ServiceState.TERMINATED)
    await bench.becomes(ServiceState.ACTIVE, "next")


async def test_a_newer_version_that_ends_earlier_leaves_the_rest_to_others(bench: Bench) -> None:
    await ordered(bench, "r", within(bench, None, 3 * LATER))
    await bench.becomes(ServiceState.ACTIVE)
    await ordered(bench, "r", within(bench, None, LATER), version=2)
    for _ in range(50):
        await bench.stack.turn()
        bench.stack.clock.advance(0.1)
    await ordered(bench, "next", within(bench, LATER + timedelta(minutes=2), None))


async def test_a_newer_version_with_a_later_start_takes_over_then(bench: Bench) -> None:
    await ordered(bench, "r", within(bench, None, None, bps=10**8))
    await bench.becomes(ServiceState.ACTIVE)
    await ordered(bench, "r", within(bench, LATER, None, bps=4 * 10**8), version=2)
    await bench.stack.pass_time(LATER.total_seconds() / 2, step=3600)
    assert await built(bench) == 1
    bench.stack.announce_all()
    until_then = await bench.reserve("s", 1, within(bench, None, LATER / 2 - timedelta(minutes=2)))
    assert isinstance(until_then, Reserved)
    await bench.stack.pass_time(LATER.total_seconds() / 2 + 60, step=600)
    for _ in range(400):
        status = await bench.supplier.status("r", CTX)
        if (status.version, status.state) == (2, ServiceState.ACTIVE):
            return
        await bench.stack.turn()
        bench.stack.clock.advance(0.1)
    raise AssertionError(bench.stack.states())
