"""A chain through two Linux domains, proved with packets: client - fw - meter = VXLAN = shaper - server."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
import pytest_asyncio

from lower_sp_clients.vim.driver import Attachment, Blueprint, Driver, Function, Network, Port, Route
from lower_sp_clients.vim.linux import packets
from lower_sp_clients.vim.linux.packets import Verdict
from tests.support.driver_bench import LinuxBench, linux_or_skip, two_port

pytestmark = pytest.mark.packets

CLIENT, SERVER = "10.1.0.2", "10.2.0.2"
CLIENT6, SERVER6 = "fd01::2", "fd02::2"
WESTERN, EASTERN = ("10.1.0.0/24", "fd01::/64"), ("10.2.0.0/24", "fd02::/64")
LABEL, MANAGEMENT_LABEL = 4001, 4002


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[LinuxBench]:
    made = linux_or_skip(f"p{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        await made.close()


def ways(ingress: str, egress: str, destinations: Sequence[str], hops: Sequence[str]) -> list[Route]:
    return [
        Route(ingress=ingress, destination=ip_network(d), egress=egress, next_hop=ip_address(hop))
        for d, hop in zip(destinations, hops, strict=True)
    ]


def management(host: int) -> Port:
    interfaces = (ip_interface(f"10.99.0.{host}/24"), ip_interface(f"fd99::{host}/64"))
    return Port(name="mgmt", network="management", interfaces=interfaces, management=True)


MANAGEMENT = Network(id="management", mtu=1450, lan=True)


def west_half(rules: dict[str, Any] | None = None, label: int = LABEL) -> Blueprint:
    fw = two_port(
        "fw",
        "firewall",
        ("access", "10.1.0.1/24 fd01::1/64"),
        ("inner", "10.255.0.0/31 fdff::/127"),
        ways("west", "east", EASTERN, ("10.255.0.1", "fdff::1")),
        rules,
        extra=[management(1)],
    )
    meter = two_port(
        "meter",
        "meter",
        ("inner", "10.255.0.1/31 fdff::1/127"),
        ("joint", "10.255.0.2/31 fdff::2/127"),
        [
            *ways("west", "east", EASTERN, ("10.255.0.3", "fdff::3")),
            *ways("east", "west", WESTERN, ("10.255.0.0", "fdff::")),
        ],
        extra=[management(2)],
    )
    return Blueprint(
        segment="chain",
        networks=(
            Network(id="access", mtu=1500),
            Network(id="inner", mtu=1500),
            Network(id="joint", mtu=1450),
            MANAGEMENT,
        ),
        functions=(fw, meter),
        attachments=(
            Attachment(network="access", sap="uni", label=0),
            Attachment(network="joint", sap="nni", label=label),
            Attachment(network="management", sap="alt", label=MANAGEMENT_LABEL),
        ),
    )


def east_half(rate_bps: int = 1_000_000_000) -> Blueprint:
    shaper = two_port(
        "shaper",
        "shaper",
        ("joint", "10.255.0.3/31 fdff::3/127"),
        ("access", "10.2.0.1/24 fd02::1/64"),
        ways("east", "west", WESTERN, ("10.255.0.2", "fdff::2")),
        {"rate_bps": rate_bps},
        extra=[management(3)],
    )
    return Blueprint(
        segment="chain",
        networks=(Network(id="joint", mtu=1450), Network(id="access", mtu=1500), MANAGEMENT),
        functions=(shaper,),
        attachments=(
            Attachment(network="joint", sap="nni", label=LABEL),
            Attachment(network="access", sap="uni", label=0),
            Attachment(network="management", sap="alt", label=MANAGEMENT_LABEL),
        ),
    )


async def hosts(bench: LinuxBench) -> tuple[str, str]:
    """Client and server, each with a route to the other by its first function."""
    default4, default6 = ip_network("10.0.0.0/8"), ip_network("fd00::/8")
    client = await bench.customer(
        "left",
        [f"{CLIENT}/24", f"{CLIENT6}/64"],
        [(default4, ip_address("10.1.0.1")), (default6, ip_address("fd01::1"))],
    )
    server = await bench.customer(
        "right",
        [f"{SERVER}/24", f"{SERVER6}/64"],
        [(default4, ip_address("10.2.0.1")), (default6, ip_address("fd02::1"))],
    )
    return client, server


async def chain(bench: LinuxBench, rules: dict[str, Any] | None = None) -> tuple[str, str]:
    client, server = await hosts(bench)
    await bench.left.apply(west_half(rules))
    await bench.right.apply(east_half())
    return client, server


async def received(driver: Driver, name: str) -> dict[tuple[str, str], int]:
    return {(c.function, c.port): getattr(c, name) for c in (await driver.measure("chain")).ports}


@pytest.mark.parametrize(("client_ip", "server_ip"), [(CLIENT, SERVER), (CLIENT6, SERVER6)])
async def test_echo_and_tcp_cross_the_chain_in_both_directions(
    bench: LinuxBench, client_ip: str, server_ip: str
) -> None:
    client, server = await chain(bench)
    assert packets.ping(client, server_ip).ok
    assert packets.ping(server, client_ip).ok
    there = packets.tcp_echo(server, client, server_ip, size=1 << 20)
    back = packets.tcp_echo(client, server, client_ip, size=1 << 20)
    assert (there.ok, back.ok) == (True, True), (there, back)
    assert there.seen_client == ip_address(client_ip)
    assert back.seen_client == ip_address(server_ip)


@pytest.mark.parametrize(("client_ip", "server_ip"), [(CLIENT, SERVER), (CLIENT6, SERVER6)])
async def test_the_mtu_of_the_chain_is_exact_and_hosts_are_told(
    bench: LinuxBench, client_ip: str, server_ip: str
) -> None:
    client, server = await chain(bench)
    assert packets.ping(client, server_ip, size=1450).ok
    refused = packets.ping(client, server_ip, size=1451)
    assert not refused.ok
    assert "do not fit" in refused.detail  # by an ICMP error from the chain, not by silence
    assert packets.path_mtu(client, server_ip, 1500) == 1450
    assert packets.path_mtu(server, client_ip, 1500) == 1450
    assert packets.ping(client, server_ip, size=1500, dont_fragment=False).ok


async def test_the_firewall_drops_what_is_denied_and_counts_it(bench: LinuxBench) -> None:
    client, server = await chain(bench, {"deny": [{"protocol": "tcp", "port": 2323}, {"protocol": "icmp"}]})
    with packets.listening(server, SERVER, 2323), packets.listening(server, SERVER, 8080):
        assert packets.tcp_verdict(client, SERVER, 2323) is Verdict.DROPPED
        assert packets.tcp_verdict(client, SERVER, 8080) is Verdict.OPEN
        assert packets.tcp_refused_or_dropped(client, SERVER, 2323)
    assert packets.tcp_verdict(client, SERVER, 8081) is Verdict.REFUSED
    assert not packets.ping(client, SERVER).ok
    assert not packets.ping(client, SERVER6).ok
    values = (await bench.left.measure("chain")).values
    assert values["fw.dropped"] >= 4
    assert values["meter.west.icmp"] == 0
    assert values["meter.west.tcp"] > 0


async def test_a_default_drop_lets_the_allowed_flow_and_its_path_mtu_errors_through(bench: LinuxBench) -> None:
    client, server = await chain(bench, {"policy": "drop", "allow": [{"protocol": "tcp", "port": 7007}]})
    assert packets.tcp_echo(server, client, SERVER, port=7007, size=1 << 20).ok
    assert packets.tcp_echo(server, client, SERVER6, port=7007, size=1 << 20).ok
    with packets.listening(server, SERVER, 7008):
        assert packets.tcp_verdict(client, SERVER, 7008) is Verdict.DROPPED
    assert not packets.ping(server, CLIENT).ok


async def test_counters_increase_along_the_whole_path(bench: LinuxBench) -> None:
    client, _ = await chain(bench)
    assert packets.ping(client, SERVER).ok
    before = [await received(driver, "rx_bytes") for driver in (bench.left, bench.right)]
    for _ in range(10):
        assert packets.ping(client, SERVER, size=1000).ok
    after = [await received(driver, "rx_bytes") for driver in (bench.left, bench.right)]
    for old, new, functions in zip(before, after, (("fw", "meter"), ("shaper",)), strict=True):
        for function in functions:
            for port in ("west", "east"):
                assert 10_000 <= new[function, port] - old[function, port] < 13_000
            assert new[function, "mgmt"] - old[function, "mgmt"] < 1_000
    values = (await bench.left.measure("chain")).values
    assert values["meter.west.icmp"] == values["meter.east.icmp"] == 11
    assert values["meter.west.icmp_bytes"] == 10_084
    assert values["meter.west.udp"] == 0


async def test_a_wrong_label_lets_nothing_through_and_the_counters_tell_where(bench: LinuxBench) -> None:
    client, _ = await hosts(bench)
    await bench.left.apply(west_half(label=LABEL + 7))
    await bench.right.apply(east_half())
    assert not packets.ping(client, SERVER).ok
    assert not packets.ping(client, SERVER6).ok
    assert (await bench.left.measure("chain")).values["meter.west.icmp"] >= 2
    assert (await received(bench.right, "rx_packets"))["shaper", "west"] == 0
    await bench.left.apply(west_half())
    assert packets.ping(client, SERVER).ok
    assert (await received(bench.right, "rx_packets"))["shaper", "west"] > 0


async def test_the_shaper_holds_the_rate(bench: LinuxBench) -> None:
    client, server = await chain(bench)
    assert packets.tcp_echo(server, client, SERVER, size=1 << 19).ok
    await bench.right.apply(east_half(rate_bps=8_000_000))
    started = time.monotonic()
    assert packets.tcp_echo(server, client, SERVER, size=1 << 19).ok
    assert time.monotonic() - started > 0.45  # 524288 bytes at 8 Mbit/s are 0.52 s; the burst is 20 kB of them


async def test_an_unchanged_apply_does_not_interrupt_a_connection(bench: LinuxBench) -> None:
    client, server = await chain(bench)
    before = await bench.left.measure("chain")
    await bench.left.apply(west_half())
    assert packets.tcp_echo(server, client, SERVER).ok
    after = {(c.function, c.port): c.rx_packets for c in (await bench.left.measure("chain")).ports}
    assert all(after[c.function, c.port] >= c.rx_packets for c in before.ports)
    assert any(c.rx_packets > 0 for c in before.ports)


@pytest.mark.parametrize("target", ["10.99.0.{}", "fd99::{}"])
async def test_management_ports_reach_each_other_across_the_domains(bench: LinuxBench, target: str) -> None:
    await chain(bench)
    ends = {1: ("left", "fw"), 2: ("left", "meter"), 3: ("right", "shaper")}
    for here, (side, function) in ends.items():
        for there in ends.keys() - {here}:
            assert packets.ping(bench.function(side, "chain", function), target.format(there)).ok, (here, there)


async def test_management_carries_no_data(bench: LinuxBench) -> None:
    """With the data joint cut, nothing finds its way over the management LAN, though both functions are on it."""
    client, _ = await hosts(bench)
    await bench.left.apply(west_half(label=LABEL + 7))
    await bench.right.apply(east_half())
    shaper = bench.function("right", "chain", "shaper")
    assert packets.ping(bench.function("left", "chain", "fw"), "10.99.0.3").ok
    bench.lab.route(shaper, ip_network(f"{CLIENT}/32"), ip_address("10.99.0.1"))
    assert not packets.ping(shaper, CLIENT).ok  # the firewall takes it in at `mgmt` and must not pass it on
    assert not packets.ping(client, "10.99.0.3").ok
    assert not packets.ping(client, SERVER).ok


async def test_a_management_lan_crosses_a_transit(bench: LinuxBench) -> None:
    def end(segment: str, sap: str, label: int, host: int) -> Blueprint:
        function: Function = two_port(
            "f", "forwarder", ("a", f"10.{host}.1.1/24"), ("b", f"10.{host}.2.1/24"), extra=[management(host)]
        )
        return Blueprint(
            segment=segment,
            networks=(Network(id="a", mtu=1500), Network(id="b", mtu=1500), MANAGEMENT),
            functions=(function,),
            attachments=(Attachment(network="management", sap=sap, label=label),),
        )

    await bench.right.apply(end("one", "nni", 51, 21))
    await bench.right.apply(end("two", "alt", 52, 22))
    through = (
        Attachment(network="management", sap="nni", label=51),
        Attachment(network="management", sap="alt", label=52),
    )
    one = bench.function("right", "one", "f")
    assert not packets.ping(one, "10.99.0.22").ok
    await bench.left.apply(Blueprint(segment="transit", networks=(MANAGEMENT,), attachments=through))
    assert packets.ping(one, "10.99.0.22", size=1450).ok
    assert packets.ping(one, "fd99::22", size=1450).ok
    assert not packets.ping(one, "10.99.0.22", size=1451).ok
    bench.lab.route(one, ip_network("10.22.1.0/24"), ip_address("10.99.0.22"))
    assert packets.tcp_verdict(one, "10.99.0.22", 9) is Verdict.REFUSED
    assert packets.tcp_verdict(one, "10.22.1.99", 9) is not Verdict.OPEN
    assert packets.tcp_refused_or_dropped(one, "10.22.1.99", 9)
