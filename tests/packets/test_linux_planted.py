"""What is proved with packets can fail: faults are planted in blueprints, and each is found where and as it should be."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from broker.storage.books import SqlHoldBook, epoch_of
from broker.storage.engine import Engine
from broker.storage.migrations import migrate
from broker.storage.quote_book import SqlQuoteBook
from lower_sp_clients.quotes import STANDING
from lower_sp_clients.vim.domain import Domain
from lower_sp_clients.vim.driver import Blueprint, Function, Network, Route
from lower_sp_clients.vim.linux import packets
from lower_sp_clients.vim.local_vim import LocalVim
from service_model.clock import SystemClock
from service_model.families import ANY_FAMILY
from service_model.flows import Flow, FlowProtocol
from service_model.outcomes import Committed, Event, ReasonCode, Reserved, ServiceState, ServiceStatus
from service_model.spec import Blocks, ServiceSpec
from tests.support.built_mesh import Built, Plant, as_bound, built, one_way, places
from tests.support.driver_bench import LinuxBench, linux_or_skip
from tests.support.meshes import service
from tests.support.orders import CTX
from tests.support.planted import PlantedDriver
from tests.support.sites import POOL, POOL6, Site, Sp, chain
from tests.support.stack import Stack

pytestmark = pytest.mark.packets

TCP_80 = Flow(protocol=FlowProtocol.TCP, port=80)
CHAIN = service("a f g b", families=ANY_FAMILY)
DIAMOND = service("a s g j b", "a s h j b", flows={"w0": (TCP_80,)}, families=ANY_FAMILY)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[LinuxBench]:
    made = linux_or_skip(f"x{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        await made.close()


async def unproved(made: Built, functions: set[str], port: int | None = None, mtu: int = 1450) -> list[str]:
    """What does not hold from `a` to `b` or back, of either family: an answer, over the same functions, of the bound size."""
    out = []
    for version in made.service.host_at("b"):
        for near, far in (("a", "b"), ("b", "a")) if port is None else (("a", "b"),):
            way, moved = f"IPv{version} {near} → {far}", await made.moved(near, far, port, version)
            if moved is None:
                out.append(f"{way}: no answer")
                continue
            if one_way(moved) or {function for function, _ in moved} != functions:
                out.append(f"{way}: another way back")
            found = packets.path_mtu(made.hosts[near], made.address(far, version), 1500)
            if found != mtu:
                out.append(f"{way}: path MTU {found}, bound is {mtu}")
    return out


# --- what is planted -------------------------------------------------------------------------------------------------


def wrong_label(domain: str, made: Blueprint) -> Blueprint:
    """The right side of the interconnect has another than was agreed."""
    return replace(
        made,
        attachments=tuple(
            replace(a, label=a.label + 1) if (domain, a.sap) == ("right", "nni") else a for a in made.attachments
        ),
    )


def wrong_mtu(domain: str, made: Blueprint) -> Blueprint:
    """The right end of the interconnect carries less than was bound."""
    return replace(
        made, networks=tuple(_smaller(n) if (domain, n.id) == ("right", "f-g") else n for n in made.networks)
    )


def _smaller(network: Network) -> Network:
    return replace(network, mtu=1400)


def no_way_back(domain: str, made: Blueprint) -> Blueprint:
    """Of IPv6 alone: nothing leads from g to where replies go."""
    return _routed(made, "g", lambda r: () if r.ingress == "b" and r.destination.version == 6 else (r,))


def another_way_back(domain: str, made: Blueprint) -> Blueprint:
    """Where the branches meet again, replies of the flow take the branch that is not its own."""
    j = next((f for f in made.functions if f.id == "j"), None)
    if j is None:
        return made
    other = {(r.destination, r.next_hop.version): r for r in j.routes if r.ingress == "b" and r.flow is None}

    def turned(route: Route) -> tuple[Route, ...]:
        if route.ingress != "b" or route.flow is None:
            return (route,)
        plain = other[route.destination, route.next_hop.version]
        return (replace(route, egress=plain.egress, next_hop=plain.next_hop),)

    return _routed(made, "j", turned)


def _routed(made: Blueprint, function: str, change: object) -> Blueprint:
    assert callable(change)

    def rerouted(f: Function) -> Function:
        return replace(f, routes=tuple(r for route in f.routes for r in change(route))) if f.id == function else f

    return replace(made, functions=tuple(map(rerouted, made.functions)))


NOTHING_ARRIVES = [f"IPv{v} {way}: no answer" for v in (4, 6) for way in ("a → b", "b → a")]


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        pytest.param(as_bound, [], id="nothing"),
        pytest.param(wrong_label, NOTHING_ARRIVES, id="wrong label"),
        pytest.param(wrong_mtu, [f"IPv{v} b → a: path MTU 1400, bound is 1450" for v in (4, 6)], id="wrong MTU"),
        pytest.param(no_way_back, [line for line in NOTHING_ARRIVES if "IPv6" in line], id="no way back for IPv6"),
    ],
)
async def test_a_fault_in_a_chain_is_found_by_packets_of_the_families_it_concerns(
    bench: LinuxBench, plant: Plant, expected: list[str]
) -> None:
    made = await built(bench, CHAIN, places("a f", "g b"), plant=plant)
    assert await unproved(made, {"f", "g"}) == expected


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        pytest.param(as_bound, [], id="nothing"),
        pytest.param(another_way_back, [f"IPv{v} a → b: another way back" for v in (4, 6)], id="wrong return path"),
    ],
)
async def test_a_reply_that_takes_another_branch_arrives_and_is_found_all_the_same(
    bench: LinuxBench, plant: Plant, expected: list[str]
) -> None:
    made = await built(bench, DIAMOND, places("a s g", "h j b"), plant=plant)
    assert await unproved(made, {"s", "g", "j"}, port=80) == expected


# --- what a domain verifies itself before it says ACTIVE -------------------------------------------------------------

PAIR: ServiceSpec = replace(
    chain("uni", "uni2", "forwarder", "meter", families=ANY_FAMILY), blocks=Blocks(allowed=(POOL.prefix, POOL6.prefix))
)


def too_small(made: Blueprint) -> Blueprint:
    """Between the two functions."""
    return replace(made, networks=tuple(_smaller(n) if n.id == "l1" else n for n in made.networks))


def without_ipv6(made: Blueprint) -> Blueprint:
    """The second function has no IPv6 address on the link to the first."""

    def changed(f: Function) -> Function:
        if f.id != "f1":
            return f
        four = [replace(p, interfaces=tuple(i for i in p.interfaces if i.version == 4)) for p in f.ports]
        ports = tuple(low if p.name == "in" else p for p, low in zip(f.ports, four, strict=True))
        return replace(f, ports=ports, routes=tuple(r for r in f.routes if r.destination.version == 4))

    return replace(made, functions=tuple(map(changed, made.functions)))


def a_domain(tmp_path: Path) -> Domain:
    """With two accesses."""
    (made,) = Stack(Sp("a", (Site("left", ("forwarder", "meter")),)), tmp_path).nodes["a"].domains.values()
    ways = tuple(replace(w, id=f"{w.id}2", a="uni2") for w in made.ways)
    return replace(made, saps=(*made.saps, replace(made.saps[0], id="uni2")), ways=(*made.ways, *ways))


@pytest.mark.parametrize(
    ("alter", "why"),
    [
        pytest.param(lambda made: made, "", id="nothing"),
        pytest.param(too_small, "no packet of 1500 bytes from f0:out: 1500 bytes do not fit", id="wrong MTU"),
        pytest.param(without_ipv6, "no packet of 1500 bytes from f0:out", id="no IPv6"),
    ],
)
async def test_a_domain_that_was_built_otherwise_than_bound_is_never_active(
    bench: LinuxBench, tmp_path: Path, alter: Callable[[Blueprint], Blueprint], why: str
) -> None:
    for sap in ("uni", "uni2"):
        await bench.customer("left", [], sap=sap)
    engine = Engine.open(tmp_path / "a.db", migrate=migrate)
    epoch = await epoch_of(engine, uuid.uuid4())
    vim = LocalVim(
        a_domain(tmp_path),
        PlantedDriver(bench.left, alter),
        SqlHoldBook(engine, epoch, "left"),
        SqlQuoteBook(engine, "left", STANDING),
        SystemClock(),
    )
    await vim.open()
    held = await vim.reserve("r", 1, PAIR, CTX)
    assert isinstance(held, Reserved), held
    async with aclosing(cast("AsyncGenerator[Event]", vim.watch(""))) as events:
        await anext(events)
        assert await vim.commit("r", 1, held.choice, CTX) == Committed(ref="r", version=1)
        status = await ended(events, ServiceState.ACTIVE, ServiceState.FAILED)
        assert status.state is (ServiceState.FAILED if why else ServiceState.ACTIVE), status.reasons
        assert [(r.code, r.message[: len(why)]) for r in status.reasons] == (
            [(ReasonCode.INFRASTRUCTURE, why)] if why else []
        )
        await vim.terminate("r", CTX)
        await ended(events, ServiceState.TERMINATED)
    await vim.close()
    await engine.close()
    assert await bench.left.inventory() == ()


async def ended(events: AsyncIterator[Event], *states: ServiceState) -> ServiceStatus:
    """The first status in one of these states."""
    async for event in events:
        if event.status is not None and event.status.state in states:
            return event.status
    raise AssertionError("the stream ended")
