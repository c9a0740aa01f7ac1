"""What is lost is told: the same suite over the simulated and the Linux domain, and what the kernel may lose besides."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from pyroute2 import IPRoute

from lower_sp_clients.vim.driver import Blueprint
from lower_sp_clients.vim.linux import namespaces
from tests.contract.test_drivers import attached, pair, reaches
from tests.support.driver_bench import Bench, LinuxBench, SimulatedBench, linux_or_skip


@pytest_asyncio.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.packets)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made: Bench = SimulatedBench() if request.param == "simulated" else linux_or_skip(f"l{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        await made.close()


@pytest_asyncio.fixture
async def linux() -> AsyncIterator[LinuxBench]:
    made = linux_or_skip(f"k{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        await made.close()


async def test_what_is_whole_has_lost_nothing_also_after_packets_and_a_restart(bench: Bench) -> None:
    await bench.customer("left", ["10.9.0.9/24"])
    blueprints = [pair("s1", firewall={"policy": "accept"}), attached("s2", 77), attached("s3", 0, sap="uni")]
    for blueprint in blueprints:
        await bench.left.apply(blueprint)
    assert await reaches(bench.left, "s1", "fw", "east", "10.2.0.2")
    assert await bench.left.losses(blueprints) == {}
    assert await (await bench.restarted()).losses(blueprints) == {}


async def test_a_function_that_goes_by_itself_is_named_and_is_there_again_when_it_is_applied(bench: Bench) -> None:
    for segment in ("s1", "s2"):
        await bench.left.apply(pair(segment))
    bench.loses("s1", "fw")
    lost = await bench.left.losses([pair("s1"), pair("s2")])
    assert {segment: [loss.function for loss in losses] for segment, losses in lost.items()} == {"s1": ["fw"]}
    assert "'fw' is gone" in lost["s1"][0].what
    await bench.left.apply(pair("s1"))
    assert await bench.left.losses([pair("s1"), pair("s2")]) == {}
    assert await reaches(bench.left, "s1", "fw", "east", "10.2.0.2")


async def test_of_what_is_not_there_at_all_something_is_lost(bench: Bench) -> None:
    assert set(await bench.left.losses([pair("never")])) == {"never"}
    await bench.left.apply(pair("s1"))
    await bench.left.remove("s1")
    assert set(await bench.left.losses([pair("s1")])) == {"s1"}


async def test_what_is_asked_for_otherwise_by_now_is_not_lost(bench: Bench) -> None:
    await bench.left.apply(pair("s1"))
    assert await bench.left.losses([pair("s1", firewall={"policy": "drop"})]) == {}


def _in(linux: LinuxBench, function: str, work: Callable[[Any], object]) -> None:
    def there() -> None:
        with IPRoute() as ip:
            work(ip)

    namespaces.run_in(linux.function("left", "s1", function), there)


def _device(ip: Any, how: str) -> None:
    index = ip.link_lookup(ifname="east")[0]
    ip.link("del", index=index) if how == "del" else ip.link("set", index=index, state="down")


def _rules(linux: LinuxBench) -> None:
    space = linux.function("left", "s1", "fw")
    namespaces.run_in(space, lambda: subprocess.run(["nft", "flush", "ruleset"], check=True))


DAMAGES: dict[str, Callable[[LinuxBench], None]] = {
    "a device": lambda linux: _in(linux, "fw", partial(_device, how="del")),
    "a device that is down": lambda linux: _in(linux, "fw", partial(_device, how="down")),
    "an address": lambda linux: _in(linux, "fw", lambda ip: ip.flush_addr(address="10.2.0.1")),
    "the rules": _rules,
}


@pytest.mark.packets
@pytest.mark.parametrize("what", DAMAGES)
async def test_what_the_kernel_lost_inside_a_function_is_lost(linux: LinuxBench, what: str) -> None:
    wanted = pair("s1", firewall={"policy": "accept"})
    await linux.left.apply(wanted)
    DAMAGES[what](linux)
    lost = (await linux.left.losses([wanted]))["s1"]
    assert "fw" in [loss.function for loss in lost]
    assert all("is not as it was built" in loss.what for loss in lost)
    await linux.left.apply(wanted)
    assert await linux.left.losses([wanted]) == {}
    assert await reaches(linux.left, "s1", "fw", "east", "10.2.0.2")


@pytest.mark.packets
@pytest.mark.parametrize(("sap", "label", "border"), [("uni", 0, "left-uni"), ("trunk", 77, "left-trunk")])
async def test_what_joins_a_function_to_a_sap_may_be_lost_alone(
    linux: LinuxBench, sap: str, label: int, border: str
) -> None:
    if sap == "trunk" and "VLAN" not in linux.left.offer.encapsulations:
        pytest.skip("no VLANs here")
    await linux.customer("left", ["10.9.0.9/24"])
    wanted: Blueprint = replace(attached("s1", label, sap=sap, mtu=1450))
    await linux.left.apply(wanted)
    made = [item.name.split(":") for item in await linux.left.inventory() if item.kind == "interface"]
    bridge = next(parts[1] for parts in made if parts[0] == f"{linux.token}-{border}" and parts[1][10:11] in "bv")

    def cut() -> None:
        with IPRoute() as ip:
            ip.link("del", index=ip.link_lookup(ifname=bridge)[0])

    namespaces.run_in(f"{linux.token}-{border}", cut)
    assert "s1" in await linux.left.losses([wanted])
    await linux.left.apply(wanted)
    assert await linux.left.losses([wanted]) == {}
