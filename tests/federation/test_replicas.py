"""Two processes' worth of each node on one PostgreSQL: whichever is asked, there is one truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from service_model.outcomes import Committed, Event, Reserved, ServiceState
from tests.support.customer import Customer
from tests.support.nodes import SETTLED_S, Nodes, RealNode
from tests.support.postgres import Where
from tests.support.topologies import LEVELS, chain, customer_of, nothing_left, pool, three_levels


@pytest.fixture
async def nodes(tmp_path: Path, databases: Where) -> AsyncIterator[Nodes]:
    nodes = Nodes(tmp_path, where=databases)
    try:
        await three_levels(nodes)
        for sp_id in LEVELS:
            await nodes.twin(sp_id)
        yield nodes
    finally:
        await nodes.close()


@pytest.fixture
async def anns(nodes: Nodes) -> AsyncIterator[tuple[Customer, Customer]]:
    """One customer, connected to each of top's replicas."""
    both = await customer_of(nodes["top"], "ann"), await customer_of(nodes.twins[0], "ann")
    yield both
    for customer in both:
        await customer.close()


def leaders(*replicas: RealNode) -> list[bool]:
    return [replica.node.broker.claims.leads() for replica in replicas]


async def test_each_call_of_one_order_may_go_to_another_replica(nodes: Nodes, anns: tuple[Customer, Customer]) -> None:
    first, second = anns
    assert isinstance(await first.reserve("r", chain()), Reserved)
    assert isinstance(await second.reserve("r", chain()), Reserved)  # the same request: the recorded answer
    assert await second.commit("r") == Committed(ref="r", version=1)
    assert await first.commit("r") == Committed(ref="r", version=1)
    for ann in anns:
        assert (await ann.until("r", ServiceState.ACTIVE)).state is ServiceState.ACTIVE
    await first.terminate("r")
    for ann in anns:
        await ann.until("r", ServiceState.TERMINATED)
        assert await ann.refs() == {"r"}
    await nothing_left(nodes)


async def test_orders_at_both_replicas_at_once_share_blocks_and_labels_without_a_clash(
    nodes: Nodes, anns: tuple[Customer, Customer]
) -> None:
    async def order(ann: Customer, ref: str) -> None:
        assert isinstance(await ann.reserve(ref, chain()), Reserved)
        assert await ann.commit(ref) == Committed(ref=ref, version=1)

    await asyncio.gather(*(order(ann, f"{n}-{i}") for n, ann in enumerate(anns) for i in range(6)))
    blocks = [a for a in (await nodes["top"].inventory()).allocations if a.pool.startswith("prefixes/")]
    assert len(blocks) == len({a.value for a in blocks}) == 12
    for replica in (nodes["top"], nodes.twins[0]):
        inventory = await replica.inventory()
        assert [d.message for d in inventory.discrepancies] == []
    await asyncio.gather(*(anns[1 - n].end(f"{n}-{i}") for n in range(2) for i in range(6)))
    await nothing_left(nodes)


async def test_every_watcher_hears_everything_once_and_in_one_order(
    nodes: Nodes, anns: tuple[Customer, Customer]
) -> None:
    begun = await anext(aiter(anns[0].watch()))
    await asyncio.gather(*(ann.order(f"{n}", chain()) for n, ann in enumerate(anns)))
    await asyncio.gather(*(anns[1 - n].end(f"{n}") for n in range(2)))
    told = [await until_over(ann, begun.token, "0", "1") for ann in anns]
    tokens = [[event.token for event in events] for events in told]
    assert tokens[0][: len(tokens[1])] == tokens[1][: len(tokens[0])]
    assert len(tokens[0]) == len(set(tokens[0])) > 10


async def until_over(ann: Customer, after: str, *refs: str) -> list[Event]:
    """Everything that is told behind a token until these services are over."""
    events, left = [], set(refs)
    async with asyncio.timeout(SETTLED_S):
        async for event in ann.watch(after):
            events.append(event)
            if event.status is not None and event.status.state is ServiceState.TERMINATED:
                left.discard(event.status.ref)
            if not left:
                return events
    raise AssertionError("the events ended")


async def comes_true(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SETTLED_S):
        while not await condition():  # noqa: ASYNC110  another process's worth tells nothing here
            await asyncio.sleep(0.05)


async def test_own_domains_are_worked_by_one_replica_and_ordered_from_at_any(
    nodes: Nodes, anns: tuple[Customer, Customer]
) -> None:
    leaf, twin = nodes["leaf"], nodes.twins[2]
    assert leaders(leaf, twin) == [True, False]
    await anns[0].order("r", chain())
    assert [len(r.node.vims()[0].holds()) for r in (leaf, twin)] == [1, 1]
    await leaf.close()  # gracefully: the other leads at once

    async def led() -> bool:
        return leaders(twin) == [True]

    await comes_true(led)
    await leaf.open()  # where it is called, and not the one that works on the domain
    assert leaders(leaf, twin) == [False, True]
    await anns[0].end("r")
    await anns[1].order("s", chain())
    await anns[1].end("s")


async def test_what_is_administered_at_one_replica_is_so_at_the_other(nodes: Nodes) -> None:
    top, twin = nodes["top"], nodes.twins[0]
    await twin.administer([pool("10.97.0.0/16", name="more")])

    async def known() -> bool:
        return "more" in {use.name for use in await top.node.admin.pools()}

    await comes_true(known)
    await top.administer([pool("10.97.0.0/16", name="more", block=28)])
    await twin.administer([pool("10.97.0.0/16", name="more", block=26)])
