"""A provider that is gone for good, over sockets: its customer's services go on with another one.

    client -- [west] ==(left: meter)== [east] -- server
                  \\\\==(right: meter)==//

top has west and east and buys the meter of left, or of right. How long left may be silent is in its document.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service_model.healing import HealPhase, HealPolicy
from service_model.managing import DecisionOutcome, ManagerTask
from service_model.outcomes import ServiceState, ServiceStatus
from spbroker.v1 import broker_service_pb2 as pb
from tests.federation.test_sockets_managers import example
from tests.support.customer import PASSWORD, Customer
from tests.support.nodes import OPERATOR, SETTLED_S, Nodes
from tests.support.served_manager import NAME
from tests.support.topologies import agreement, chain, customer_of, person, pool, supplier
from tests.support.trees import SIDES, meter_buyer, meter_seller

DEAD_S = 6
SPEC = chain(ends=("client", "server"))


def buyer(nodes: Nodes) -> list[dict[str, Any]]:
    sellers = [supplier(side, nodes[side], "top", dead_after_s=DEAD_S) for side in SIDES]
    return [pool(), agreement("retail"), person("ann"), *meter_buyer(sellers)]


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    made = Nodes(tmp_path)
    try:
        for sp_id in ("top", *SIDES):
            await made.add(sp_id)
        for side in SIDES:
            await made[side].administer(meter_seller(side, made["top"]))
        await made["top"].administer(buyer(made))
        await made["top"].node.admin.set_password("ann", PASSWORD, actor=OPERATOR)
        await made["top"].announced("ann", "client", "server")
        await sold_by_both(made)
        yield made
    finally:
        await made.close()


async def sold_by_both(nodes: Nodes) -> None:
    async with asyncio.timeout(SETTLED_S):
        while {view.alias for view in nodes["top"].node.catalogue.snapshot.suppliers} < {*SIDES, "west", "east"}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.fixture
async def ann(nodes: Nodes) -> AsyncIterator[Customer]:
    customer = await customer_of(nodes["top"], "ann")
    yield customer
    await customer.close()


async def until(ann: Customer, what: Callable[[ServiceStatus], bool], ref: str = "web") -> ServiceStatus:
    async with asyncio.timeout(SETTLED_S):
        while not what(status := await ann.status(ref)):  # noqa: ASYNC110  what is asked for is elsewhere
            await asyncio.sleep(0.05)
    return status


def seller_of(status: ServiceStatus) -> str:
    return next(part.alias.removesuffix(".1") for part in status.segments if part.alias.removesuffix(".1") in SIDES)


async def test_a_provider_that_is_not_heard_of_is_replaced_and_its_part_ends_when_it_comes_back(
    nodes: Nodes, ann: Customer
) -> None:
    first = await ann.order("web", SPEC)
    gone = seller_of(first)
    await nodes[gone].close()
    await until(ann, lambda s: s.state is ServiceState.DEGRADED or seller_of(s) != gone)
    status = await until(ann, lambda s: s.state is ServiceState.ACTIVE)
    assert seller_of(status) != gone
    assert (status.price, status.version) == (first.price, 1)
    assert first.choice is not None
    assert status.choice is not None
    assert [(x.prefix, x.addresses) for x in status.choice.links] == [
        (x.prefix, x.addresses) for x in first.choice.links
    ]
    await nodes[gone].open()
    async with asyncio.timeout(SETTLED_S):
        while any(h.state is not ServiceState.TERMINATED for v in nodes[gone].node.vims() for h in v.holds()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await ann.status("web")).state is ServiceState.ACTIVE
    await ann.end("web")


async def test_who_wants_to_be_asked_says_yes_over_the_wire(nodes: Nodes, ann: Customer) -> None:
    first = await ann.order("web", replace(SPEC, healing=HealPolicy.ASK))
    gone = seller_of(first)
    await nodes[gone].close()
    status = await until(ann, lambda s: s.state is ServiceState.DEGRADED)
    assert status.healing is not None
    assert (status.healing.phase, status.healing.broken) == (HealPhase.WAITING, (f"{gone}.1",))
    await ann._call("HealService", pb.HealServiceRequest(ref="web"), SETTLED_S)
    status = await until(ann, lambda s: s.state is ServiceState.ACTIVE)
    assert seller_of(status) != gone


async def test_the_example_manager_lets_it_be_healed_in_its_country_alone(
    nodes: Nodes, ann: Customer, tmp_path: Path
) -> None:
    """The provider that is left sells in CH: the manager that was started for GR leaves the service, the other one does not."""
    spec = replace(SPEC, managers=("ssm",))
    for country, outcome in (("GR", DecisionOutcome.REFUSED), ("CH", DecisionOutcome.CHOSEN)):
        async with example(nodes, tmp_path, country) as (endpoint, ca):
            await allow_healing(nodes, endpoint, ca)
            first = await ann.order(f"web-{country}", spec)
            assert first.decisions == ()
            gone = seller_of(first)
            await nodes[gone].close()
            status = await until(ann, lambda s: bool(s.decisions), f"web-{country}")
            (decision,) = status.decisions
            assert (decision.manager, decision.task, decision.outcome) == ("ssm", ManagerTask.HEAL, outcome)
            if outcome is DecisionOutcome.REFUSED:
                assert decision.detail == "what is lost is not offered in GR"
                status = await until(ann, lambda s: s.healing is not None, f"web-{country}")
                assert status.healing is not None
                assert (status.state, status.healing.phase) == (ServiceState.DEGRADED, HealPhase.LEFT)
                await ann._call("HealService", pb.HealServiceRequest(ref=f"web-{country}"), SETTLED_S)
            status = await until(ann, lambda s: s.state is ServiceState.ACTIVE, f"web-{country}")
            assert seller_of(status) != gone
            await nodes[gone].open()
            await ann.end(f"web-{country}")
            await sold_by_both(nodes)


async def allow_healing(nodes: Nodes, endpoint: str, ca: bytes) -> None:
    manager = {
        "kind": "manager", "name": "acme", "endpoint": endpoint, "ca": ca.decode(), "server_name": NAME,
        "decides": ["HEAL"],
    }  # fmt: skip
    await nodes["top"].administer([manager, person("ann", managers={"ssm": "acme"})])
