"""A partner that does not come back, between real nodes: what the operator sees, decides, and hears of afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from broker.accounts.admin_port import Discrepancy
from broker.northbound.admin_servicer import ABANDONED, STUCK
from lower_sp_clients.supplier import Context
from service_model.outcomes import ServiceState
from spbroker.v1 import admin_service_pb2 as pb
from tests.federation.test_sockets_restarts import hurried
from tests.support.customer import Customer
from tests.support.nodes import OPERATOR, OPERATOR_PASSWORD, SETTLED_S, Nodes
from tests.support.topologies import chain, supplier


@pytest.fixture
async def operator(nodes: Nodes, ann: Customer) -> AsyncIterator[Customer]:
    """Of top, where ann's service is stuck: middle is away since it was to end, for longer than a node waits."""
    await ann.order("web", chain())
    await nodes["middle"].close()
    await ann.terminate("web")
    nodes.clock.move(nodes["top"].settings.stuck_after_s + 60)
    await ann.log_in()
    async with hurried(nodes.clock):
        await ann.until("web", ServiceState.STUCK)
    operator = await Customer(nodes["top"], OPERATOR).log_in(OPERATOR_PASSWORD)
    yield operator
    await operator.close()


async def abandon(operator: Customer, **what: str) -> object:
    request = pb.AbandonServiceRequest(reason="middle is bankrupt", **what)
    return ABANDONED.decode(await operator.admin.AbandonService(request, metadata=operator.metadata))


async def test_a_supplier_is_removed_once_its_part_is_given_up(nodes: Nodes, operator: Customer) -> None:
    top = nodes["top"]
    listed = await operator.admin.ListStuck(pb.ListStuckRequest(), metadata=operator.metadata)
    (one,) = map(STUCK.decode, listed.segments)
    assert (one.account, one.ref, one.alias, one.supplier) == ("ann", "web", "wholesale", "middle")
    assert one.block.startswith("10.96.")
    assert one.last_error
    instead = supplier("other", nodes["leaf"], "top")
    kept = await top.apply(instead, prune=True)
    assert [p for c in kept.changes for p in c.problems] == [f"segment {one.segment} of service 'web' is still with it"]
    with pytest.raises(grpc.aio.AioRpcError, match="there is no service 'nay'"):
        await abandon(operator, service="nay")
    await abandon(operator, service=one.service, segment=one.segment)
    assert (await top.inventory()).allocations == (), "top's pool has no quarantine"
    assert (await top.apply(instead, prune=True)).applied
    await top.restart()
    (order,) = top.node.broker.orders()
    assert order.state is ServiceState.TERMINATED
    assert order.segments[0].abandoned is not None
    assert order.segments[0].abandoned.actor == OPERATOR


async def test_what_a_supplier_has_that_comes_back_is_a_disagreement(nodes: Nodes, operator: Customer) -> None:
    async def disagreements() -> tuple[Discrepancy, ...]:
        async with asyncio.timeout(SETTLED_S):
            while not (found := (await nodes["top"].inventory()).discrepancies):  # noqa: ASYNC110  it has no event
                await asyncio.sleep(0.05)
        return found

    await abandon(operator, service="web", account="ann")
    await nodes["middle"].open()
    async with hurried(nodes.clock):
        (wrong,) = await disagreements()
    assert wrong.where == "wholesale"
    assert "ACTIVE there" in wrong.message
    assert wrong.message.endswith("by operator: middle is bankrupt")
    (theirs,) = nodes["middle"].node.broker.orders()
    assert (wrong.subject, theirs.state) == (theirs.ref, ServiceState.ACTIVE)
    await nodes["middle"].node.broker.terminate("top", theirs.ref, Context())
    async with hurried(nodes.clock), asyncio.timeout(SETTLED_S):
        while (await nodes["top"].inventory()).discrepancies:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
