"""Two processes' worth of each node on one PostgreSQL: whichever is asked, there is one truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.cli.faults import Fault
from broker.cli.node_store import store_of
from broker.orders.engine import Stored
from broker.storage.books import SqlOrderBook
from service_model.outcomes import STATUS, Committed, Event, Reserved, ServiceState, ServiceStatus
from spbroker.v1 import manager_service_pb2 as manager_pb
from tests.support.customer import Customer
from tests.support.nodes import SETTLED_S, Nodes, RealNode
from tests.support.postgres import Where
from tests.support.served_manager import NAME, ServedManager, by_default
from tests.support.topologies import LEVELS, chain, customer_of, nothing_left, person, pool, three_levels


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


def counted(nodes: Nodes) -> list[int]:
    """What counts against ann's agreement, at each of top's replicas."""
    return [r.node.broker.wanted.count("ann", besides=None) for r in (nodes["top"], nodes.twins[0])]


async def test_each_call_of_one_order_may_go_to_another_replica(nodes: Nodes, anns: tuple[Customer, Customer]) -> None:
    first, second = anns
    assert isinstance(await first.reserve("r", chain()), Reserved)
    assert isinstance(await second.reserve("r", chain()), Reserved)  # the same request: the recorded answer
    assert await second.commit("r") == Committed(ref="r", version=1)
    assert await first.commit("r") == Committed(ref="r", version=1)
    for ann in anns:
        assert (await ann.until("r", ServiceState.ACTIVE)).state is ServiceState.ACTIVE
    assert counted(nodes) == [1, 1]
    await first.terminate("r")
    for ann in anns:
        await ann.until("r", ServiceState.TERMINATED)
        assert await ann.refs() == {"r"}
    assert counted(nodes) == [0, 0]
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


async def leads(replica: RealNode) -> None:
    async def led() -> bool:
        return leaders(replica) == [True]

    await comes_true(led)


async def test_an_order_that_goes_before_anybody_has_begun_to_work_on_it_is_let_go_of(
    nodes: Nodes, anns: tuple[Customer, Customer]
) -> None:
    broker = nodes["top"].node.broker
    assert isinstance(await anns[0].reserve("r", chain()), Reserved)
    (order,) = broker.orders()
    broker.change(order)  # somebody is to work on it
    broker.drop(order.id)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert f"order {order.id}" not in broker.unfinished()
    broker.change(order)
    broker.drop(order.id)
    broker.change(order)  # it has come back before the one that was to work on it has gone
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert f"order {order.id}" in broker.unfinished()  # it is worked on, and woken when its hold ends
    assert await anns[0].commit("r") == Committed(ref="r", version=1)


async def test_what_was_told_when_it_was_recorded_is_not_told_again_when_it_is_read(
    nodes: Nodes, anns: tuple[Customer, Customer]
) -> None:
    """A reading that is under way while something is recorded may come to know of it later than those who recorded it."""
    broker, twin = nodes["top"].node.broker, nodes.twins[0].node.broker
    assert isinstance(await anns[0].reserve("r", chain()), Reserved)
    assert isinstance(broker.book, SqlOrderBook)
    found = await broker.book.events_of_all(0, 100)
    events = [Stored(sequence=n, account=who, status=STATUS.validate_json(document)) for n, who, document in found]
    for each in (broker, twin):
        await each.claims.catch_up()
        assert each.sequence >= events[-1].sequence
        later = replace(events[-1], sequence=each.sequence + 1000)
        async with aclosing(each.events.receive(first=events[0])) as live:
            await anext(live)
            each.tell([*events, later])
            assert await anext(live) == later


async def test_own_domains_are_worked_by_one_replica_and_ordered_from_at_any(
    nodes: Nodes, anns: tuple[Customer, Customer]
) -> None:
    leaf, twin = nodes["leaf"], nodes.twins[2]
    assert leaders(leaf, twin) == [True, False]
    await anns[0].order("r", chain())
    assert [len(r.node.vims()[0].holds()) for r in (leaf, twin)] == [1, 1]
    await leaf.close()  # gracefully: the other leads at once
    await leads(twin)
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


FASTER = replace(chain(), bandwidth_bps=10**7)


async def becomes(ann: Customer, ref: str, version: int) -> ServiceStatus:
    """The service as soon as it is live in this version, and nothing newer is beside it."""

    async def is_so() -> bool:
        status = await ann.status(ref)
        return (status.version, status.state, status.newer) == (version, ServiceState.ACTIVE, None)

    await comes_true(is_so)
    return await ann.status(ref)


async def test_a_newer_version_is_held_at_one_replica_and_committed_at_another(
    nodes: Nodes, anns: tuple[Customer, Customer]
) -> None:
    first, second = anns
    await first.order("r", chain())
    assert isinstance(await first.reserve("r", FASTER, 2), Reserved)
    assert isinstance(await second.reserve("r", FASTER, 2), Reserved)  # the same request: the recorded answer
    for ann in anns:
        status = await ann.status("r")
        assert status.newer is not None
        assert (status.version, status.newer.version) == (1, 2)
    assert await second.commit("r", 2) == Committed(ref="r", version=2)
    for ann in anns:
        await becomes(ann, "r", 2)
    assert isinstance(await first.reserve("r", chain(), 3), Reserved)
    await second.end("r")  # and what is held beside it
    await nothing_left(nodes)


async def test_a_modification_goes_on_where_the_replicas_that_held_it_leave(
    nodes: Nodes, anns: tuple[Customer, Customer]
) -> None:
    first, second = anns
    await first.order("r", chain())
    assert isinstance(await first.reserve("r", FASTER, 2), Reserved)
    leaf, twin = nodes["leaf"], nodes.twins[2]
    assert leaders(leaf, twin) == [True, False]
    await leaf.close()  # it worked on the domain; the other leads at once
    await leads(twin)
    await leaf.open()
    await nodes["top"].close()
    assert await second.commit("r", 2) == Committed(ref="r", version=2)
    await becomes(second, "r", 2)
    assert leaders(leaf, twin) == [False, True]
    holds = [replica.node.vims()[0].holds() for replica in (leaf, twin)]
    assert [[(hold.version, hold.beside) for hold in known] for known in holds] == [[(2, None)], [(2, None)]]
    await nodes["top"].open()
    await second.end("r")
    await nothing_left(nodes)


async def test_a_manager_is_asked_by_the_replica_that_has_the_order(
    nodes: Nodes, anns: tuple[Customer, Customer]
) -> None:
    first, second = anns
    spec = replace(chain(), managers=("mine",))

    async def answers_the_second(request: manager_pb.PlaceRequest, context: Any) -> manager_pb.PlaceResponse:
        if len(manager.asked) == 1:
            await asyncio.Event().wait()
        return await by_default(request, context)

    manager = ServedManager(nodes["top"].anchor["ca"].encode(), answers_the_second)
    async with manager:
        document = {
            "kind": "manager", "name": "acme", "endpoint": manager.endpoint, "ca": manager.roots.decode(),
            "server_name": NAME, "decides": ["PLACE"],
        }  # fmt: skip
        await nodes["top"].administer([document, person("ann", managers={"mine": "acme"})])
        asking = asyncio.create_task(first.reserve("r", spec))

        async def asked() -> bool:
            return len(manager.asked) == 1

        await comes_true(asked)
        held = await second.reserve("r", spec)  # takes the order over, and asks anew what is recorded as asked
        assert isinstance(held, Reserved), held
        assert isinstance(await asking, Reserved)
        assert len(manager.asked) == 2
    for ann in anns:
        assert len((await ann.status("r")).decisions) == 1
    await first.end("r")
    await nothing_left(nodes)


async def test_files_are_neither_copied_nor_put_back_of_a_node_that_has_none(nodes: Nodes) -> None:
    with pytest.raises(Fault, match="this is a database of PostgreSQL") as refused:
        store_of(nodes["top"].directory)
    assert "pg_dump" in refused.value.hint
