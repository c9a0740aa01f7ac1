"""A supplier that is not there: told in time, remembered, and made good when it is back."""

from __future__ import annotations

import asyncio
import time

import pytest

from broker.accounts.admin_port import FeedState, SupplierStatus
from broker.orders.states import GONE
from service_model.outcomes import Reason, ReasonCode, Refused, ServiceState
from tests.federation.test_sockets_restarts import hurried
from tests.support.customer import Customer
from tests.support.nodes import SETTLED_S, Nodes
from tests.support.topologies import chain, nothing_left

AWAY = pytest.mark.parametrize("away", ["middle", "leaf"])


def codes(*reasons: Reason) -> set[ReasonCode]:
    """Of the reasons and of their causes at every depth."""
    return {r.code for r in reasons} | {code for r in reasons for code in codes(*r.causes)}


@AWAY
async def test_a_supplier_that_is_away_refuses_an_order_in_time_and_leaves_nothing(
    nodes: Nodes, ann: Customer, away: str
) -> None:
    await nodes[away].close()
    begun = time.monotonic()
    refused = await ann.reserve("web", chain(), within=4)
    assert time.monotonic() - begun < 4
    assert isinstance(refused, Refused)
    assert ReasonCode.SUPPLIER_UNREACHABLE in codes(*refused.reasons)
    assert (await ann.status("web")).state is ServiceState.REFUSED
    await nodes[away].open()
    async with hurried(nodes.clock):
        await nothing_left(nodes)
        await nodes[away].announced("top" if away == "middle" else "middle", *_way(away))
        for node in nodes.by_id.values():
            for order in node.node.broker.orders():
                assert order.state in (ServiceState.REFUSED, ServiceState.EXPIRED), (node.settings.sp_id, order)
        async with asyncio.timeout(SETTLED_S):
            while not nothing_asked(nodes):  # noqa: ASYNC110  many nodes: none has an event for it
                await asyncio.sleep(0.05)
    assert (await ann.order("again", chain())).state is ServiceState.ACTIVE


async def test_an_operator_sees_a_supplier_go_stale_and_lapse_and_come_back(nodes: Nodes, ann: Customer) -> None:
    async def seen(state: FeedState) -> SupplierStatus:
        async with asyncio.timeout(SETTLED_S):
            while True:
                (found,) = await nodes["top"].node.admin.suppliers()
                if found.feed is state:
                    return found
                await asyncio.sleep(0.05)

    await ann.order("web", chain())
    live = await seen(FeedState.LIVE)
    assert (live.sp_id, live.kept, live.broken, live.refusal) == ("middle", 1, 0, "")
    await nodes["middle"].close()
    stale = await seen(FeedState.STALE)
    assert (stale.edition, stale.expires) == (live.edition, live.expires)
    nodes.clock.move(3700)
    await seen(FeedState.LAPSED)
    await nodes["middle"].open()
    async with hurried(nodes.clock):
        back = await seen(FeedState.LIVE)
    assert back.edition > live.edition
    await nodes["top"].restart()
    (after,) = await nodes["top"].node.admin.suppliers()
    assert after.kept == 1


def _way(away: str) -> tuple[str, str]:
    return ("client", "lower.server") if away == "middle" else ("to-middle", "server")


def nothing_asked(nodes: Nodes) -> bool:
    orders = [o for node in nodes.by_id.values() for o in node.node.broker.orders()]
    return all(segment.state in GONE for order in orders for segment in order.segments if segment.version)


@AWAY
async def test_a_supplier_that_is_away_keeps_a_service_terminating_until_it_is_back(
    nodes: Nodes, ann: Customer, away: str
) -> None:
    await ann.order("web", chain())
    await nodes[away].close()
    await ann.terminate("web")  # answered once it is decided
    assert (await ann.status("web")).state is ServiceState.TERMINATING
    assert isinstance(await ann.commit("web"), Refused)
    await nodes[away].open()
    async with hurried(nodes.clock):
        await ann.until("web", ServiceState.TERMINATED)
    await nothing_left(nodes)
