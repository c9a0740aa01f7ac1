"""A Linux domain meets the world: what was tampered with, borders that are wrong, missing rights and tools."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
import pytest_asyncio
from pyroute2 import IPRoute

from lower_sp_clients.vim.driver import Attachment, Blueprint, DriverError, Network, Route, SapPort
from lower_sp_clients.vim.linux import LinuxDriver, naming, packets
from lower_sp_clients.vim.linux.lab import Lab, WireEnd
from lower_sp_clients.vim.linux.namespaces import DIRECTORY, names, run_in
from lower_sp_clients.vim.linux.packets import Verdict
from lower_sp_clients.vim.linux.plan import FIRST_TABLE
from lower_sp_clients.vim.linux.ruleset import Nft
from tests.support.driver_bench import LinuxBench, linux_or_skip, require_packets, two_port

pytestmark = pytest.mark.packets

ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[LinuxBench]:
    made = linux_or_skip(f"d{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        await made.close()


def guarded(sap: str = "uni", label: int = 0) -> Blueprint:
    """A firewall before a forwarder, whose 10.3.0.1 the customer 10.1.0.9 at `uni` reaches but for port 22."""
    fw = two_port(
        "fw",
        "firewall",
        ("outer", "10.1.0.1/24"),
        ("inner", "10.2.0.1/24"),
        [Route(ingress="west", destination=ip_network("10.3.0.0/24"), egress="east", next_hop=ip_address("10.2.0.2"))],
        {"deny": [{"protocol": "tcp", "port": 22}]},
    )
    back = Route(ingress="east", destination=ip_network("10.1.0.0/24"), egress="west", next_hop=ip_address("10.2.0.1"))
    fwd = two_port("fwd", "forwarder", ("inner", "10.2.0.2/24"), ("beyond", "10.3.0.1/24"), [back])
    return Blueprint(
        segment="s1",
        networks=tuple(Network(id=name, mtu=1450) for name in ("outer", "inner", "beyond")),
        functions=(fw, fwd),
        attachments=(Attachment(network="outer", sap=sap, label=label),),
    )


async def customer(bench: LinuxBench) -> str:
    return await bench.customer("left", ["10.1.0.9/24"], [(ip_network("10.0.0.0/8"), ip_address("10.1.0.1"))])


def _delete_device(name: str) -> Callable[[], None]:
    def work() -> None:
        with IPRoute() as ip:
            ip.link("del", index=ip.link_lookup(ifname=name)[0])

    return work


def _flush_routes() -> None:
    with IPRoute() as ip:
        for table in (254, FIRST_TABLE, FIRST_TABLE + 1):
            ip.flush_routes(table=table)


def _lower_device() -> None:
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="west")[0], state="down")


def _replace_rules() -> None:
    Nft().load("flush ruleset\n")


TAMPERINGS: dict[str, Callable[[], None]] = {
    "a device deleted": _delete_device("east"),
    "routes flushed": _flush_routes,
    "a device down": _lower_device,
    "firewall rules flushed": _replace_rules,
}


@pytest.mark.parametrize("tampering", sorted(TAMPERINGS))
async def test_what_somebody_broke_by_hand_is_repaired_by_the_next_apply(bench: LinuxBench, tampering: str) -> None:
    host = await customer(bench)
    await bench.left.apply(guarded())
    inner = bench.function("left", "s1", "fwd")
    with packets.listening(inner, "0.0.0.0", 22):
        assert packets.tcp_verdict(host, "10.2.0.2", 22) is Verdict.DROPPED
        run_in(bench.function("left", "s1", "fw"), TAMPERINGS[tampering])
        broken = (packets.ping(host, "10.3.0.1").ok, packets.tcp_verdict(host, "10.2.0.2", 22))
        assert broken != (True, Verdict.DROPPED)
    await bench.left.apply(guarded())
    with packets.listening(bench.function("left", "s1", "fwd"), "0.0.0.0", 22):
        assert packets.tcp_verdict(host, "10.2.0.2", 22) is Verdict.DROPPED
    assert packets.ping(host, "10.3.0.1").ok


async def test_the_access_device_survives_its_service(bench: LinuxBench) -> None:
    host = await customer(bench)
    for _ in range(2):
        await bench.left.apply(guarded())
        assert packets.ping(host, "10.1.0.1").ok
        await bench.left.remove("s1")
        assert not packets.ping(host, "10.1.0.1", attempts=1).ok


async def test_a_border_bridge_left_without_its_tag_is_found_by_its_name(bench: LinuxBench) -> None:
    await customer(bench)
    await bench.left.apply(guarded())
    border, device = next(i.name for i in await bench.left.inventory() if i.kind == "interface").split(":")

    def untag() -> None:
        with IPRoute() as ip:
            ip.link("set", index=ip.link_lookup(ifname=device)[0], ifalias="")

    run_in(border, untag)
    assert f"{border}:{device}" in {item.name for item in await bench.left.inventory()}
    await bench.left.remove("s1")

    def devices() -> set[str]:
        with IPRoute() as ip:
            return {link.get("ifname") for link in ip.get_links()}

    assert not {
        name for name in run_in(border, devices) if name.startswith(naming.border_prefix(bench.domain("left"), "s1"))
    }
    assert "uni0" in run_in(border, devices)


async def test_a_namespace_whose_creation_was_interrupted_is_found_and_repaired(bench: LinuxBench) -> None:
    path = DIRECTORY / bench.function("left", "s1", "fw")
    path.touch(exist_ok=False)  # as if the power failed between the file and the mount
    assert {(item.segment, item.name) for item in await bench.left.inventory()} == {("s1", path.name)}
    host = await customer(bench)
    await bench.left.apply(guarded())
    assert packets.ping(host, "10.3.0.1").ok
    await bench.left.remove("s1")
    path.touch(exist_ok=False)
    await bench.left.remove("s1")
    assert await bench.left.inventory() == ()


async def test_a_cancelled_apply_is_over_before_the_next_change_begins(bench: LinuxBench) -> None:
    applying = asyncio.ensure_future(bench.left.apply(guarded(sap="nni", label=5)))
    await asyncio.wait({applying}, timeout=0)
    applying.cancel()
    await bench.left.remove("s1")
    assert await bench.left.inventory() == ()
    await bench.left.apply(guarded(sap="nni", label=5))
    assert {item.segment for item in await bench.left.inventory()} == {"s1"}


async def test_a_vni_that_somebody_else_uses_in_the_border_is_in_use(bench: LinuxBench) -> None:
    def plant() -> None:
        with IPRoute() as ip:
            ip.link("add", ifname="other", kind="vxlan", vxlan_id=77, vxlan_port=4789, vxlan_group="192.0.2.2")

    run_in(f"{bench.token}-left-nni", plant)
    with pytest.raises(DriverError, match=r"label 77 on SAP 'nni' is in use"):
        await bench.left.apply(guarded(sap="nni", label=77))
    assert await bench.left.inventory() == ()
    await bench.left.apply(guarded(sap="alt", label=77))
    assert {item.segment for item in await bench.left.inventory()} == {"s1"}


async def test_a_border_that_is_not_as_configured_is_named(bench: LinuxBench) -> None:
    with pytest.raises(DriverError, match=r"SAP 'uni': no device 'uni0'"):
        await bench.left.apply(guarded())
    thin = WireEnd(bench.lab.namespace("thin"), "eth0", (ip_interface("10.1.0.9/24"),))
    bench.lab.wire(thin, WireEnd(f"{bench.token}-left-uni", "uni0"), mtu=1400)
    with pytest.raises(DriverError, match="'uni0' has MTU 1400, the network needs 1450"):
        await bench.left.apply(guarded())
    sap = replace(bench.saps("left")[0], settings=dict(bench.saps("left")[0].settings, namespace=f"{bench.token}-gone"))
    driver = LinuxDriver(f"{bench.token}-x", [sap])
    with pytest.raises(DriverError, match=f"border namespace '{bench.token}-gone' does not exist"):
        await driver.apply(guarded(sap="nni", label=5))
    assert await driver.inventory() == ()
    driver.close()


async def test_a_vxlan_interconnect_over_ipv6_carries_ipv4(bench: LinuxBench) -> None:
    ends = [WireEnd(bench.lab.namespace(f"six{i}"), "core0", (ip_interface(f"fd77::{i}/64"),)) for i in (1, 2)]
    bench.lab.wire(*ends)
    drivers = []
    for here, there in ((1, 2), (2, 1)):
        settings = {
            "namespace": ends[here - 1].namespace,
            "local": f"fd77::{here}",
            "remote": f"fd77::{there}",
            "device": "core0",
        }
        sap = SapPort(id="nni", encapsulation="VXLAN", mtu=1430, settings=settings)
        drivers.append(LinuxDriver(f"{bench.token}-six{here}", [sap]))
        function = two_port("f", "forwarder", ("joint", f"10.9.0.{here}/24"), ("stub", "10.8.0.1/24"))
        await drivers[-1].apply(
            Blueprint(
                segment="s1",
                networks=(Network(id="joint", mtu=1430), Network(id="stub", mtu=1430)),
                functions=(function,),
                attachments=(Attachment(network="joint", sap="nni", label=9),),
            )
        )
    try:
        assert packets.path_mtu(f"spb.{bench.token}-six1.s1.f.f", "10.9.0.2", 1500) == 1430
    finally:
        for driver in drivers:
            await driver.remove("s1")
            driver.close()


def test_without_nft_there_is_no_firewall_and_the_operator_is_told_the_remedy() -> None:
    require_packets()
    driver = LinuxDriver("nonft", [], nft="/nonexistent/nft")
    assert driver.offer.implementations == {"forwarder", "shaper"}
    assert any("apt-get install nftables" in reason for reason in driver.offer.missing)
    with pytest.raises(ValueError, match="firewall"):
        driver.check_parameters("firewall", {})
    driver.close()


def _python(code: str, *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_without_the_rights_the_driver_says_what_it_needs() -> None:
    require_packets()
    code = "from lower_sp_clients.vim.linux import LinuxDriver\nLinuxDriver('x', [])"
    done = _python(code, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert done.returncode != 0
    assert "DriverError: network namespaces are not permitted: run as root" in done.stderr


UNPRIVILEGED = """
import asyncio
from ipaddress import ip_address
from lower_sp_clients.vim.driver import Blueprint, Network, ProbePath
from lower_sp_clients.vim.linux import LinuxDriver
from tests.support.driver_bench import two_port

async def main():
    driver = LinuxDriver("user", [])
    pair = [two_port(f"f{i}", "firewall", ("n", f"10.0.0.{i}/24"), (f"m{i}", f"10.{i}.0.1/24")) for i in (1, 2)]
    networks = tuple(Network(id=name, mtu=1500) for name in ("n", "m1", "m2"))
    await driver.apply(Blueprint(segment="s1", networks=networks, functions=tuple(pair)))
    path = ProbePath(segment="s1", function="f1", port="west", target=ip_address("10.0.0.2"), size=1500)
    print("reached" if (await driver.probe(path)).ok else "lost")
    await driver.remove("s1")
    print(len(await driver.inventory()), "left")

asyncio.run(main())
"""


def test_an_unprivileged_user_builds_a_domain_in_a_user_namespace() -> None:
    require_packets()
    inner = 'mount -t tmpfs t /run && mkdir /run/netns && exec "$@"'
    done = _python(UNPRIVILEGED, "unshare", "-Urnm", "sh", "-c", inner, "sh")
    assert done.stdout.split("\n")[:2] == ["reached", "0 left"], done.stderr


def test_a_lab_takes_everything_away_also_when_it_failed_half_way() -> None:
    require_packets()
    token = f"d{uuid.uuid4().hex[:8]}"

    def half() -> None:
        with Lab(token) as lab:
            lab.wire(WireEnd(lab.namespace("a"), "x"), WireEnd(lab.namespace("b"), "y"))
            lab.wire(WireEnd(f"{token}-missing", "x"), WireEnd(f"{token}-a", "z"))

    with pytest.raises(DriverError, match=f"'{token}-missing' does not exist"):
        half()
    assert [name for name in names() if name.startswith(token)] == []


MACS = {("fw", "west"): "02:00:00:00:00:11", ("fw", "east"): "02:00:00:00:00:12", ("fwd", "west"): "06:00:00:00:00:13"}


async def test_ports_have_the_hardware_addresses_that_were_chosen_and_packets_pass(bench: LinuxBench) -> None:
    host, plan = await customer(bench), guarded()
    functions = tuple(
        replace(f, ports=tuple(replace(p, mac=MACS.get((f.id, p.name), "")) for p in f.ports)) for f in plan.functions
    )
    await bench.left.apply(replace(plan, functions=functions))

    def addresses() -> dict[str, str]:
        with IPRoute() as ip:
            return {link.get("ifname"): link.get("address") for link in ip.get_links()}

    for (function, port), mac in MACS.items():
        assert run_in(bench.function("left", "s1", function), addresses)[port] == mac
    derived = run_in(bench.function("left", "s1", "fwd"), addresses)["east"]
    assert derived == naming.hardware_address("10.3.0.1/24")
    assert packets.ping(host, "10.3.0.1").ok
    twice = tuple(
        replace(f, ports=tuple(replace(p, mac="02:00:00:00:00:11" if p.network == "inner" else "") for p in f.ports))
        for f in plan.functions
    )
    with pytest.raises(DriverError, match="02:00:00:00:00:11 is on both fw:east and fwd:west"):
        await bench.left.apply(replace(plan, functions=twice))
