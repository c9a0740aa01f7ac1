"""Brokers stacked on brokers: when what is allocated goes back, and to whom."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from broker.orders.abandoning import NotAbandoned
from broker.storage import tables
from lower_sp_clients.supplier import ServiceNotFound
from lower_sp_clients.vim.accounting import TAKES
from lower_sp_clients.vim.holds import AllocationState
from service_model.outcomes import ServiceState
from tests.support.faults import lost_before
from tests.support.orders import CTX, active, reserved
from tests.support.stack import POOL, Site, Sp, Stack, chain

MANY = LabelSet(((1, 99),))
TOP = Sp("a", (Site("s1", ("firewall",), uni=MANY), Sp("b", (Site("s2", ("meter",), uni=MANY),))), (POOL,))
SPEC = chain("s1.uni", "b.s2.uni", "firewall", "meter")


def blocks(stack: Stack) -> list[tuple[str, AllocationState]]:
    return [(a.value, a.state) for a in stack.broker("a").allocations()]


async def test_what_is_committed_goes_back_only_when_its_owner_ends_it(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        await active(stack, SPEC, "live")
        await reserved(stack, SPEC, "held")
        stack.clock.advance(10 * 24 * 3600)
        await stack.until(lambda: len(blocks(stack)) == 1, step=1.0)
        assert stack.state("held") is ServiceState.EXPIRED
        await stack.customer().release("live", 1, CTX)
        assert blocks(stack) == [("10.64.0.0/24", AllocationState.LIVE)]
        assert {h.state for vim in stack.vims() for h in vim.holds() if h.state in TAKES} == {ServiceState.ACTIVE}
        await stack.restart("a")
        assert blocks(stack) == [("10.64.0.0/24", AllocationState.LIVE)]
        await stack.customer().terminate("live", CTX)
        await stack.until(lambda: stack.state("live") is ServiceState.TERMINATED, step=0.1)
        assert blocks(stack) == [("10.64.0.0/24", AllocationState.RESTING)]
        await reserved(stack, SPEC, "next")
        assert ("10.64.1.0/24", AllocationState.HELD) in blocks(stack), "what rests is not given"
        stack.clock.advance(POOL.quarantine / timedelta(seconds=1) + 1)
        await stack.broker("a").tick()
        assert [value for value, _ in blocks(stack)] == ["10.64.1.0/24"]
        await stack.customer().terminate("next", CTX)
        await stack.ends_empty()


async def test_a_supplier_that_never_gives_back_is_given_up_by_the_operator_alone(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        await active(stack, SPEC)
        broker, line = stack.broker("a"), stack.line("a", "b")
        with pytest.raises(NotAbandoned, match="'r' is ACTIVE"):
            await broker.give_up("alice", "r", "bankrupt", "root")
        line.always["terminate"] = lost_before()
        await stack.customer().terminate("r", CTX)
        await stack.until(lambda: line.count("terminate") > 3, step=5.0)
        stack.clock.advance(30 * 24 * 3600)
        await stack.turn()
        assert blocks(stack) == [("10.64.0.0/24", AllocationState.LIVE)], "nobody has said yes"
        assert await broker.give_up("alice", "r", "bankrupt", "root") == ("b.1",)
        assert stack.state() is ServiceState.TERMINATED
        assert blocks(stack) == [("10.64.0.0/24", AllocationState.RESTING)]
        rows = await stack.nodes["a"].engine.read(lambda c: [tuple(r) for r in c.execute(tables.audit.select())])
        (row,) = [r for r in rows if r[4] == "abandon"]
        assert row[2:9] == ("root", "alice", "abandon", "r", "TERMINATING", "b.1", "bankrupt")
        with pytest.raises(NotAbandoned, match="only what is being ended"):
            await broker.give_up("alice", "r", "bankrupt", "root")
        with pytest.raises(ServiceNotFound):
            await broker.give_up("alice", "another", "bankrupt", "root")


async def test_what_an_own_domain_has_is_not_given_up(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        await active(stack, SPEC)
        stack.line("a", "s1").always["terminate"] = lost_before()
        await stack.customer().terminate("r", CTX)
        await stack.until(lambda: stack.line("a", "s1").count("terminate") > 2, step=1.0)
        with pytest.raises(NotAbandoned, match="own domain 's1'"):
            await stack.broker("a").give_up("alice", "r", "in a hurry", "root")
        assert blocks(stack) == [("10.64.0.0/24", AllocationState.LIVE)]
