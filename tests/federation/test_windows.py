"""Planned maintenance: a window opens and closes by itself, whatever it is the window of; what is live stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.accounts.founding import Layout, read_keys
from broker.accounts.secrets import Passwords
from broker.bootstrap.node import Node, Parts, over_grpc
from lower_sp_clients.supplier import Context, Supplier
from service_model.outcomes import Committed, Reason, ReasonCode, Refused, Reserved, ServiceState
from tests.support.clock import SimulatedClock
from tests.support.nodes import CHEAP, found_at
from tests.support.topologies import agreement, chain, function, interconnect, nni, own_domain, person, pool, uni

HOUR = 3600.0
CTX = Context()
Documents = tuple[dict[str, Any], ...]


def documents(**planned: dict[str, Any]) -> Documents:
    """west with a client, east with a server, joined by `ic`; `planned` is said of a SAP, the domain or the joint."""
    west = own_domain("west", "W", uni("client", "W"), {**nni("to-east", "W"), **planned.get("sap", {})})
    east = own_domain("east", "E", uni("server", "E"), nni("to-west", "E"))
    return (
        {"kind": "place", "name": "W", "country": "CH"},
        {"kind": "place", "name": "E", "country": "GR"},
        {**interconnect("own", decides=True), **planned.get("interconnect", {})},
        {**west, **planned.get("domain", {})},
        east,
        function("firewall"),
        pool(),
        agreement("retail"),
        person("ann"),
    )


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
async def node(tmp_path: Path, clock: SimulatedClock) -> AsyncIterator[Node]:
    await found_at(tmp_path, "own")
    keys = read_keys(Layout(tmp_path))
    parts = Parts(clock=clock, connect=over_grpc(keys, clock), passwords=Passwords(CHEAP))
    node = Node("own", tmp_path / "broker.db", keys, parts)
    await node.open()
    try:
        yield node
    finally:
        await node.close()


async def turn(node: Node) -> None:
    """A tick, and what it tells is heard."""
    await node.tick()
    for _ in range(5):
        await asyncio.sleep(0)


def state(at: datetime) -> dict[str, Any]:
    """Maintenance for an hour from `at`."""
    window = {"start": at.isoformat(), "end": (at + timedelta(seconds=HOUR)).isoformat()}
    return {"state": "MAINTENANCE", "window": window}


async def reserve(customer: Supplier, ref: str) -> Reserved | Refused:
    return await customer.reserve(ref, 1, chain(ends=("client", "server"), functions=("firewall",)), CTX)


def codes(*reasons: Reason) -> set[ReasonCode]:
    return {r.code for r in reasons} | {code for r in reasons for code in codes(*r.causes)}


@pytest.mark.parametrize("planned", ["sap", "interconnect", "domain"])
async def test_a_window_opens_and_closes_by_itself_and_what_is_live_stays(
    node: Node, clock: SimulatedClock, planned: str
) -> None:
    whole = documents(**{planned: state(clock.now() + timedelta(seconds=HOUR))})
    applied = await node.admin.apply(whole, dry_run=False, prune=False, reason="planned", actor="operator")
    assert applied.applied, applied
    await turn(node)
    ann = node.supplier_for("ann")

    async def is_live() -> bool:
        return (await ann.status("live", CTX)).state is ServiceState.ACTIVE

    live = await reserve(ann, "live")
    assert isinstance(live, Reserved), live
    assert isinstance(await ann.commit("live", 1, live.choice, CTX), Committed)
    async with asyncio.timeout(60):
        async for _ in ann.watch(""):
            if await is_live():
                break

    clock.advance(HOUR - 1)
    await turn(node)
    assert isinstance(await reserve(ann, "before"), Reserved), "a second before the window"
    clock.advance(1)
    await turn(node)
    refused = await reserve(ann, "within")
    assert isinstance(refused, Refused), "the window has opened"
    assert not codes(*refused.reasons) & {ReasonCode.QUOTA, ReasonCode.INVALID_SPEC}
    assert await is_live()
    clock.advance(HOUR - 1)
    await turn(node)
    assert isinstance(await reserve(ann, "still within"), Refused), "the last second of the window"
    clock.advance(1)
    await turn(node)
    assert isinstance(await reserve(ann, "after"), Reserved), "the window has closed"
    assert await is_live()


async def test_a_window_that_is_taken_back_meanwhile_does_not_open(node: Node, clock: SimulatedClock) -> None:
    ann = node.supplier_for("ann")
    for whole in (documents(interconnect=state(clock.now() + timedelta(seconds=HOUR))), documents()):
        applied = await node.admin.apply(whole, dry_run=False, prune=False, reason="planned", actor="operator")
        assert applied.applied, applied
    clock.advance(HOUR)
    await turn(node)
    assert isinstance(await reserve(ann, "r"), Reserved)
