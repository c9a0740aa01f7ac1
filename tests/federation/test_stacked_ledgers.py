"""The table of allocations beside what its owners have: every difference is told, with both names."""

from __future__ import annotations

from dataclasses import replace

from broker.bootstrap.reconciling import disagreements
from broker.storage.allocations import all_allocations
from lower_sp_clients.vim.holds import Allocation, AllocationState
from service_model.outcomes import ServiceState
from tests.support.orders import CTX, active, reserved
from tests.support.stack import Stack


async def told(
    stack: Stack, name: str, *changed: Allocation, without: Allocation | None = None
) -> list[tuple[str, str, str]]:
    """What disagrees at one node, where its table has these rows beside its own, and one of them not."""
    node = stack.nodes[name]
    table = [*changed, *(a for a in await all_allocations(node.engine) if a != without)]
    holds = [(vim.domain.name, hold) for vim in node.vims.values() for hold in vim.holds()]
    return [(d.where, d.subject, d.message) for d in disagreements(table, node.broker.orders(), holds)]


async def test_nothing_disagrees_at_any_stage(aurora: Stack) -> None:
    await active(aurora)
    for name in aurora.nodes:
        assert await told(aurora, name) == []
    await aurora.customer().terminate("r", CTX)
    await aurora.until(lambda: aurora.state() is ServiceState.TERMINATED)
    for name in aurora.nodes:
        assert await told(aurora, name) == [], "what rests has no owner"


async def test_what_only_one_side_knows_is_told(aurora: Stack) -> None:
    await reserved(aurora)
    order = aurora.broker("aurora").orders()[0]
    id, row = sorted(await all_allocations(aurora.nodes["aurora"].engine), key=lambda a: a.pool, reverse=True)
    assert (id.pool, row.pool) == ("~path-ids", "prefixes/p")
    for gone, pool in ((row, "prefixes/"), (id, "~path-ids")):
        missing = f"{order.id} has {gone.value}, which is not allocated"
        assert await told(aurora, "aurora", without=gone) == [(pool, gone.value, missing)]
    stray = replace(row, value="10.64.9.0/24", owner="nobody", state=AllocationState.LIVE)
    alien = "10.64.9.0/24 is allocated to nobody, which does not have it"
    assert await told(aurora, "aurora", stray) == [("prefixes/p", "10.64.9.0/24", alien)]
    early = f"{row.value} of {order.id} is recorded as LIVE, and is HELD"
    live = replace(row, state=AllocationState.LIVE)
    assert await told(aurora, "aurora", live, without=row) == [("prefixes/p", row.value, early)]
    label = next(a for a in await all_allocations(aurora.nodes["notos"].engine) if "/" in a.pool)
    other = replace(label, value="1", owner="x")
    assert [where for where, _, _ in await told(aurora, "notos", other)] == [label.pool]
