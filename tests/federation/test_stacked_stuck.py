"""Brokers stacked on brokers: a partner that does not come back, or comes back after it was given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.bootstrap.stuck_list import returned_discrepancies, stuck_segments
from broker.orders.records import Order
from broker.orders.stuck import NotStuck, named
from broker.storage import tables
from lower_sp_clients.vim.holds import AllocationState
from service_model.outcomes import STATUS, ReasonCode, Refused, ServiceState
from tests.support.faults import hangs, lost_before
from tests.support.orders import CTX, active, reserved
from tests.support.sites import AURORA, AURORA_CHAIN, POOL, Site, Sp, chain
from tests.support.stack import Stack

PATIENCE = timedelta(minutes=10)


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Stack]:
    """Aurora over boreas and notos over abyss; aurora and notos call a service stuck after ten minutes."""
    made = Stack(AURORA, tmp_path)
    for name in ("aurora", "notos"):
        made.nodes[name].stuck_after = PATIENCE
    async with made as stack:
        yield stack


async def stuck(stack: Stack, silent: str = "notos") -> None:
    """A service of which one supplier says nothing since it was to end."""
    await active(stack)
    await stack.stop(silent)
    await stack.customer().terminate("r", CTX)
    await stack.pass_time(PATIENCE.total_seconds() + 120)
    assert stack.state() is ServiceState.STUCK


def order_of(stack: Stack, name: str = "aurora") -> Order:
    (order,) = stack.broker(name).orders()
    return order


async def give_up(stack: Stack, segment: str = "", name: str = "aurora") -> Order:
    order, _ = await stack.broker(name).abandon(order_of(stack, name), segment, "notos is bankrupt", "oscar")
    return order


async def rows(stack: Stack, table: str, *columns: str, name: str = "aurora") -> list[tuple[object, ...]]:
    t = tables.metadata.tables[table]
    query = select(*(t.c[column] for column in columns)).order_by(t.c.seq)
    return [tuple(row) for row in await stack.nodes[name].engine.read(lambda c: c.execute(query).all())]


async def told(stack: Stack) -> list[ServiceState]:
    """The states that alice was told of, in turn."""
    documents = await stack.broker("aurora").book.events_after(0, "alice", 500)
    states = [STATUS.validate_json(document).state for _, document in documents]
    return [s for i, s in enumerate(states) if i == 0 or states[i - 1] is not s]


async def test_a_service_whose_supplier_is_silent_is_stuck_and_ends_when_it_is_back(impatient: Stack) -> None:
    await active(impatient)
    await impatient.stop("notos")
    await impatient.customer().terminate("r", CTX)
    begun = impatient.clock.now()
    await impatient.pass_time(PATIENCE.total_seconds() - 60)
    assert impatient.state() is ServiceState.TERMINATING, "not yet"
    await impatient.pass_time(180)
    status = impatient.broker("aurora").status("alice", "r")
    assert status.state is ServiceState.STUCK
    assert {s.alias: s.state for s in status.segments} == {
        "boreas.1": ServiceState.TERMINATED,
        "notos.1": ServiceState.STUCK,
    }
    (reason,) = status.reasons
    assert (reason.code, reason.segment) == (ReasonCode.SUPPLIER_UNREACHABLE, "notos.1")
    await impatient.customer().terminate("r", CTX)  # answered, and changes nothing
    (one,) = stuck_segments(impatient.broker("aurora").orders(), impatient.nodes["aurora"].catalogue.listing)
    assert (one.account, one.ref, one.segment, one.alias, one.supplier) == ("alice", "r", "notos.1", "notos", "notos")
    assert one.since is not None
    assert (one.since - begun).total_seconds() < 1
    assert (one.last_error, one.own) == ("nobody answers", False)
    assert one.block.startswith("10.64.")
    assert one.labels
    await impatient.start("notos")
    await impatient.ends_empty(step=2.0)
    assert impatient.state() is ServiceState.TERMINATED
    assert impatient.broker("aurora").status("alice", "r").reasons == ()
    assert (await told(impatient))[-3:] == [ServiceState.TERMINATING, ServiceState.STUCK, ServiceState.TERMINATED]


async def test_charges_stop_when_the_end_is_decided_and_not_again(impatient: Stack) -> None:
    await active(impatient)
    await impatient.stop("notos")
    ended = impatient.clock.now()
    await impatient.customer().terminate("r", CTX)
    await impatient.pass_time(PATIENCE.total_seconds() + 120)
    await give_up(impatient)
    stops = [at for at, kind in await rows(impatient, "charges", "at", "kind") if kind == "STOP"]
    assert stops == [ended] * 3, "alice's, boreas's and notos's"


async def test_a_stuck_service_survives_a_restart_and_is_asked_for_ever_more_rarely(impatient: Stack) -> None:
    await stuck(impatient)
    await impatient.restart("aurora")
    assert impatient.state() is ServiceState.STUCK
    line = impatient.line("aurora", "notos")
    await impatient.pass_time(6 * 3600, step=30)
    before = line.count("terminate")
    await impatient.pass_time(6 * 3600, step=30)
    assert 4 <= line.count("terminate") - before <= 7, "about hourly"
    await impatient.start("notos")
    await impatient.until(lambda: impatient.state() is ServiceState.TERMINATED, step=1.0, turns=60)


async def test_what_is_given_up_is_audited_freed_and_never_asked_for_again(impatient: Stack) -> None:
    await stuck(impatient)
    (block,) = impatient.broker("aurora").allocations()
    assert block.state is AllocationState.LIVE
    done = await give_up(impatient, "notos.1")
    assert done.state is impatient.state() is ServiceState.TERMINATED
    (resting,) = impatient.broker("aurora").allocations()
    assert (resting.value, resting.state) == (block.value, AllocationState.RESTING)
    audit = await rows(impatient, "audit", "actor", "on_behalf_of", "action", "subject", "before", "after", "reason")
    assert audit[-1] == (
        "oscar", "alice", "abandon", "r", "notos.1: TERMINATING", "notos.1: ABANDONED", "notos is bankrupt"
    )  # fmt: skip
    calls = len(impatient.line("aurora", "notos").calls)
    await impatient.restart("aurora")
    await impatient.pass_time(2 * 3600, step=30)
    assert len(impatient.line("aurora", "notos").calls) == calls
    assert impatient.broker("aurora").allocations() == (), "its quarantine is over"
    assert impatient.broker("aurora").unfinished() == ()
    (reason,) = impatient.broker("aurora").status("alice", "r").reasons
    assert "given up" in reason.message


async def test_a_partner_that_comes_back_is_reported_with_what_it_has_and_keeps_it(impatient: Stack) -> None:
    await stuck(impatient)
    await give_up(impatient)
    await impatient.start("notos")
    broker = impatient.broker("aurora")
    await impatient.until(lambda: bool(broker.returned()), step=0.5)
    (wrong,) = returned_discrepancies(broker.returned())
    assert wrong.where == "notos"
    assert wrong.message.startswith("is ACTIVE there: segment notos.1 of service ")
    assert wrong.message.endswith("by oscar: notos is bankrupt")
    await impatient.restart("aurora")
    await impatient.until(lambda: bool(impatient.broker("aurora").returned()), step=0.5)
    await impatient.pass_time(7200, step=30)
    (theirs,) = impatient.broker("notos").orders()
    assert theirs.state is ServiceState.ACTIVE, "nothing was asked of it"
    await impatient.broker("notos").terminate("aurora", theirs.ref, CTX)
    await impatient.until(lambda: not impatient.broker("aurora").returned(), step=0.5)
    await impatient.ends_empty()


async def test_giving_up_while_it_is_being_asked_for_stands(impatient: Stack) -> None:
    await active(impatient)
    line = impatient.line("aurora", "notos")
    line.always["terminate"] = lost_before()
    await impatient.customer().terminate("r", CTX)
    await impatient.pass_time(PATIENCE.total_seconds() + 60)
    line.always["terminate"] = hangs()
    asked = line.count("terminate")
    await impatient.until(lambda: line.count("terminate") > asked, step=5.0)
    giving = asyncio.ensure_future(give_up(impatient))
    await impatient.until(giving.done, step=1.0)
    order = giving.result()
    assert order.state is ServiceState.TERMINATED
    given = order.segment("notos.1")
    assert given is not None
    assert (given.attempts, given.retry_at, given.error) == (0, None, "the request was lost")


async def test_only_what_is_stuck_is_given_up(impatient: Stack) -> None:
    broker = impatient.broker("aurora")
    await active(impatient)
    with pytest.raises(NotStuck, match="service 'r' is ACTIVE, not STUCK"):
        await give_up(impatient)
    await impatient.stop("notos")
    await impatient.customer().terminate("r", CTX)
    await impatient.pass_time(60)
    with pytest.raises(NotStuck, match="TERMINATING, not STUCK"):
        await give_up(impatient)
    await impatient.pass_time(PATIENCE.total_seconds() + 120)
    with pytest.raises(NotStuck, match=r"'boreas\.1' of 'r' is not stuck; these are: notos\.1"):
        await give_up(impatient, "boreas.1")
    await give_up(impatient)
    with pytest.raises(NotStuck, match="TERMINATED, not STUCK"):
        await give_up(impatient)
    assert [r for r in await rows(impatient, "audit", "action") if r == ("abandon",)] == [("abandon",)]
    with pytest.raises(NotStuck, match="there is no service 'x'"):
        named(broker.orders(), "x", "")
    with pytest.raises(NotStuck, match="there is no service 'r' of account 'ben'"):
        named(broker.orders(), "r", "ben")


async def test_a_ref_that_two_accounts_have_has_to_be_told_apart(impatient: Stack) -> None:
    await active(impatient)
    assert isinstance(await impatient.customer("ben").reserve("r", 1, AURORA_CHAIN, CTX), Refused)  # it is recorded
    orders = impatient.broker("aurora").orders()
    with pytest.raises(NotStuck, match="several accounts have a service 'r': alice, ben") as wrong:
        named(orders, "r", "")
    assert wrong.value.field == "account"
    assert named(orders, "r", "ben").account == "ben"
    assert named(orders, orders[0].id, "") is orders[0]


async def test_a_hold_that_nobody_confirms_to_be_released_is_stuck_too(impatient: Stack) -> None:
    await reserved(impatient)
    impatient.line("aurora", "notos").always |= {"release": lost_before(), "terminate": lost_before()}
    await impatient.customer().release("r", 1, CTX)
    assert impatient.state() is ServiceState.EXPIRED
    await impatient.pass_time(PATIENCE.total_seconds() + 120)
    assert impatient.state() is ServiceState.STUCK
    impatient.line("aurora", "notos").always.clear()
    await impatient.ends_empty(step=30.0)
    assert impatient.state() is ServiceState.TERMINATED


async def test_what_is_stuck_below_is_stuck_above_and_one_decision_ends_both(impatient: Stack) -> None:
    await active(impatient)
    await impatient.stop("abyss")
    await impatient.customer().terminate("r", CTX)
    await impatient.pass_time(PATIENCE.total_seconds() + 300)
    assert order_of(impatient, "notos").state is ServiceState.STUCK
    assert impatient.state() is ServiceState.STUCK
    (one,) = stuck_segments(impatient.broker("aurora").orders(), impatient.nodes["aurora"].catalogue.listing)
    assert (one.segment, one.last_error) == ("notos.1", "its supplier says STUCK")
    await give_up(impatient, name="notos")
    await impatient.until(lambda: impatient.state() is ServiceState.TERMINATED, step=0.5)
    assert order_of(impatient).segments[0].abandoned is order_of(impatient).segments[1].abandoned is None
    assert impatient.broker("aurora").allocations()[0].state is AllocationState.RESTING


async def test_a_supplier_that_is_stuck_with_a_live_segment_has_failed_it(impatient: Stack) -> None:
    """It cannot be so while we want it; whoever says so does not deliver."""
    await active(impatient)
    ref = next(s.ref for s in order_of(impatient).segments if s.key == "notos.1")
    await impatient.stop("abyss")
    await impatient.broker("notos").terminate("aurora", ref, CTX)
    await impatient.pass_time(PATIENCE.total_seconds() + 300)
    assert order_of(impatient, "notos").state is ServiceState.STUCK
    assert impatient.state() is ServiceState.DEGRADED


async def test_nothing_is_given_up_in_a_domain_of_our_own(tmp_path: Path) -> None:
    made = Stack(Sp("a", (Site("s1", ("firewall",)), Sp("b", (Site("s2"),))), (POOL,)), tmp_path)
    made.nodes["a"].stuck_after = PATIENCE
    async with made as stack:
        await active(stack, chain("s1.uni", "b.s2.uni", "firewall"))
        for alias in ("s1", "b"):
            stack.line("a", alias).always["terminate"] = lost_before()
        await stack.customer().terminate("r", CTX)
        await stack.pass_time(PATIENCE.total_seconds() + 120)
        with pytest.raises(NotStuck, match=r"segment 's1\.1' is in our own domain 's1'"):
            await give_up(stack, "s1.1", "a")
        left = await give_up(stack, "", "a")
        assert {s.key: s.abandoned is not None for s in left.segments} == {"s1.1": False, "b.1": True}
        assert left.state is ServiceState.STUCK
        assert left.block is not None, "the domain may still send from it"
        stack.line("a", "s1").always.clear()
        await stack.until(lambda: stack.state() is ServiceState.TERMINATED, step=60.0)


async def test_a_broker_that_was_away_itself_asks_before_it_calls_a_service_stuck(impatient: Stack) -> None:
    await active(impatient)
    impatient.line("aurora", "notos").always["terminate"] = lost_before()
    await impatient.customer().terminate("r", CTX)
    await impatient.pass_time(60)
    await impatient.stop("aurora")
    await impatient.pass_time(2 * PATIENCE.total_seconds())
    impatient.line("aurora", "notos").always.clear()
    await impatient.start("aurora")
    await impatient.until(lambda: impatient.state() is ServiceState.TERMINATED, step=0.5)
    assert ServiceState.STUCK not in await told(impatient)
