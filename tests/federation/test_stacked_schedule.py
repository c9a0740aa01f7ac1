"""Brokers stacked on brokers: a service with a start and an end, whoever is down when these come."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.orders.records import Order
from broker.orders.times import about_to_end, end_of, owed_at, wrong_time
from broker.storage import tables
from lower_sp_clients.vim.driver import DriverError
from service_model.outcomes import Committed, ReasonCode, Refused, ServiceState, ServiceStatus
from service_model.spec import ServiceSpec
from tests.support.orders import CONFIRM, CTX, reserved
from tests.support.sites import AURORA_CHAIN
from tests.support.stack import Stack

HOUR = timedelta(hours=1)
BROKERS = ("aurora", "boreas", "notos", "abyss")


def ahead(stack: Stack, start: timedelta | None = HOUR, end: timedelta | None = 3 * HOUR) -> ServiceSpec:
    now = stack.clock.now()
    times = {"start_time": start and now + start, "end_time": end and now + end}
    return replace(AURORA_CHAIN, **times)  # type: ignore[arg-type]


async def committed(stack: Stack, spec: ServiceSpec, version: int = 1) -> None:
    await reserved(stack, spec, version=version)
    assert await stack.customer().commit("r", version, CONFIRM, CTX) == Committed(ref="r", version=version)
    await stack.turn()


async def seen(stack: Stack) -> ServiceStatus:
    return await stack.customer().status("r", CTX)


async def built(stack: Stack) -> int:
    """How many domains have anything of it."""
    items = [await driver.inventory() for node in stack.nodes.values() for driver in node.drivers.values()]
    return sum(bool(some) for some in items)


async def charges(stack: Stack, name: str) -> list[tuple[str, str, datetime]]:
    """What is owed from when to when, without what is owed once."""
    c = tables.charges.c
    query = select(c.side, c.kind, c.at).order_by(c.seq)
    rows = await stack.nodes[name].engine.read(lambda connection: connection.execute(query).all())
    return [(side, kind, at) for side, kind, at in rows if "ONCE" not in kind]


async def pass_to(stack: Stack, moment: datetime) -> None:
    await stack.pass_time((moment - stack.clock.now()).total_seconds(), step=300)
    await stack.pass_time(10, step=1)


async def test_a_service_is_reserved_now_built_at_its_start_and_over_at_its_end_at_every_level(aurora: Stack) -> None:
    spec = ahead(aurora)
    assert spec.start_time is not None
    assert spec.end_time is not None
    await committed(aurora, spec)
    await pass_to(aurora, spec.start_time - timedelta(minutes=2))
    status = await seen(aurora)
    assert (status.state, status.start_time, status.end_time) == (
        ServiceState.ACTIVATING,
        spec.start_time,
        spec.end_time,
    )
    assert await built(aurora) == 0
    await pass_to(aurora, spec.start_time)
    assert (await seen(aurora)).state is ServiceState.ACTIVE
    assert await built(aurora) == 3
    await pass_to(aurora, spec.end_time)
    assert (await seen(aurora)).state is ServiceState.TERMINATED
    assert await built(aurora) == 0
    await aurora.ends_empty(step=5.0)


async def test_what_is_owed_is_owed_from_the_start_to_the_end_on_both_sides(aurora: Stack) -> None:
    spec = ahead(aurora)
    assert spec.end_time is not None
    await committed(aurora, spec)
    await pass_to(aurora, spec.end_time)
    for name in BROKERS:
        owed = await charges(aurora, name)
        assert {at for _, kind, at in owed if "START" in kind} == {spec.start_time}
        assert {at for _, kind, at in owed if "STOP" in kind} == {spec.end_time}
        assert len([1 for _, kind, _ in owed if "START" in kind]) == len([1 for _, kind, _ in owed if "STOP" in kind])


async def test_what_ends_before_its_start_owes_nothing_per_hour(aurora: Stack) -> None:
    spec = ahead(aurora)
    await committed(aurora, spec)
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()
    for name in BROKERS:
        owed = await charges(aurora, name)
        assert owed
        assert {at for _, _, at in owed} == {spec.start_time}


@pytest.mark.parametrize("down", [*BROKERS, "all"])
async def test_whoever_was_down_at_the_start_begins_late(aurora: Stack, down: str) -> None:
    spec = ahead(aurora)
    assert spec.start_time is not None
    await committed(aurora, spec)
    for name in BROKERS if down == "all" else (down,):
        await aurora.stop(name)
    await pass_to(aurora, spec.start_time + HOUR / 2)
    for name in reversed(BROKERS if down == "all" else (down,)):
        await aurora.start(name)
    await aurora.pass_time(60, step=2)
    assert aurora.state() is ServiceState.ACTIVE
    assert await built(aurora) == 3


@pytest.mark.parametrize("down", [*BROKERS, "all"])
async def test_whoever_was_down_at_the_end_ends_it_late_and_owes_no_more_for_it(aurora: Stack, down: str) -> None:
    spec = ahead(aurora)
    assert spec.start_time is not None
    assert spec.end_time is not None
    await committed(aurora, spec)
    await pass_to(aurora, spec.start_time)
    assert aurora.state() is ServiceState.ACTIVE
    for name in BROKERS if down == "all" else (down,):
        await aurora.stop(name)
    await pass_to(aurora, spec.end_time + HOUR)
    for name in reversed(BROKERS if down == "all" else (down,)):
        await aurora.start(name)
    await aurora.pass_time(120, step=2)
    assert aurora.state() is ServiceState.TERMINATED
    await aurora.ends_empty(step=5.0)
    for name in BROKERS:
        assert {at for _, kind, at in await charges(aurora, name) if "STOP" in kind} == {spec.end_time}


@pytest.mark.parametrize("down", [*BROKERS, "all"])
async def test_whoever_was_down_over_both_ends_it_and_builds_nothing(aurora: Stack, down: str) -> None:
    spec = ahead(aurora)
    assert spec.end_time is not None
    await committed(aurora, spec)
    stopped = BROKERS if down == "all" else (down,)
    drivers = [driver for name in stopped for driver in aurora.nodes[name].drivers.values()]
    for driver in drivers:
        driver.fail_next("apply", DriverError("nobody should build this"))
    for name in stopped:
        await aurora.stop(name)
    await pass_to(aurora, spec.end_time + HOUR)
    for name in reversed(stopped):
        await aurora.start(name)
    await aurora.pass_time(120, step=2)
    assert aurora.state() is ServiceState.TERMINATED
    await aurora.ends_empty(step=5.0)
    assert all(driver._fault("apply") is not None for driver in drivers), "what is over was built"


async def test_a_newer_version_ends_the_service_earlier_or_later(aurora: Stack) -> None:
    spec = ahead(aurora, start=None)
    assert spec.end_time is not None
    await committed(aurora, spec)
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.1)
    later = replace(spec, end_time=spec.end_time + HOUR)
    await committed(aurora, later, version=2)
    await aurora.pass_time(60, step=2)
    assert (await seen(aurora)).version == 2
    await pass_to(aurora, spec.end_time)
    assert (await seen(aurora)).state is ServiceState.ACTIVE
    earlier = replace(spec, end_time=spec.end_time + HOUR / 2)
    await committed(aurora, earlier, version=3)
    await pass_to(aurora, spec.end_time + HOUR / 2)
    assert (await seen(aurora)).state is ServiceState.TERMINATED


async def test_a_newer_version_does_not_begin_after_the_live_one_has_ended(aurora: Stack) -> None:
    spec = ahead(aurora, start=None)
    await committed(aurora, spec)
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.1)
    answer = await aurora.customer().reserve("r", 2, ahead(aurora, 4 * HOUR, 5 * HOUR), CTX)
    assert isinstance(answer, Refused)
    assert (answer.reasons[0].code, answer.reasons[0].subject) == (ReasonCode.INVALID_SPEC, "start_time")


async def test_a_label_that_is_reserved_for_later_is_not_given_to_anybody_before(aurora: Stack) -> None:
    """The ends of the chain are untagged ports: there is one label, whatever the time (ADR 0044)."""
    await committed(aurora, ahead(aurora, 2 * HOUR, 3 * HOUR))
    aurora.announce_all()
    answer = await aurora.customer().reserve("s", 1, ahead(aurora, None, HOUR), CTX)
    assert isinstance(answer, Refused)
    assert answer.reasons[0].code is ReasonCode.LABELS_EXHAUSTED


def order(spec: ServiceSpec, state: ServiceState = ServiceState.ACTIVE, beside: Order | None = None) -> Order:
    at = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    return Order(id="o", account="a", ref="r", version=1, state=state, created=at, updated=at, spec=spec, beside=beside)


def test_the_end_is_that_of_the_version_that_was_committed_last(tmp_path: Path) -> None:
    now = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    early, late = (replace(AURORA_CHAIN, end_time=now + n * HOUR) for n in (1, 2))
    for state, end in (
        (ServiceState.RESERVED, early.end_time),
        (ServiceState.REFUSED, early.end_time),
        (ServiceState.COMMITTING, late.end_time),
        (ServiceState.ACTIVATING, late.end_time),
    ):
        assert end_of(order(early, beside=order(late, state))) == end
    live = order(early)
    assert not about_to_end(live, now + HOUR - timedelta(seconds=61))
    assert about_to_end(live, now + HOUR - timedelta(seconds=60))
    assert not about_to_end(order(AURORA_CHAIN), now)
    assert [owed_at(live, at) for at in (now, now + 2 * HOUR)] == [now, now + HOUR]
    assert wrong_time(early, now) is None
    assert wrong_time(early, now + HOUR) is not None


async def test_a_supplier_whose_clock_is_ahead_ends_its_part_and_nothing_is_degraded(aurora: Stack) -> None:
    spec = ahead(aurora, start=None)
    assert spec.end_time is not None
    await committed(aurora, spec)
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.1)
    await pass_to(aurora, spec.end_time - timedelta(seconds=50))
    (segment,) = (o for o in aurora.broker("boreas").orders())
    await aurora.broker("boreas").seen_by("aurora").terminate(segment.ref, CTX)
    await aurora.pass_time(10, step=1)
    assert aurora.state() is ServiceState.ACTIVE
    await pass_to(aurora, spec.end_time)
    assert aurora.state() is ServiceState.TERMINATED
    await aurora.ends_empty(step=5.0)
