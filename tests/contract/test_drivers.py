"""What every driver promises, whatever it builds with: the same suite over the simulated and the Linux domain."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from typing import Any

import pytest
import pytest_asyncio

from lower_sp_clients.vim.driver import (
    Attachment,
    Blueprint,
    Driver,
    DriverError,
    FlowMatch,
    Function,
    Network,
    Port,
    ProbePath,
    Route,
)
from tests.support.driver_bench import Bench, SimulatedBench, linux_or_skip, two_port


@pytest_asyncio.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.packets)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made: Bench = SimulatedBench() if request.param == "simulated" else linux_or_skip(f"c{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        await made.close()


def route(ingress: str, destination: str, egress: str, next_hop: str) -> Route:
    return Route(ingress=ingress, destination=ip_network(destination), egress=egress, next_hop=ip_address(next_hop))


def pair(segment: str, *, firewall: dict[str, Any] | None = None, last: int = 2) -> Blueprint:
    """A firewall and a forwarder on an inner network: 10.1.0.1 - fw - 10.2.0.1/10.2.0.`last` - fwd - 10.3.0.1."""
    far = f"10.2.0.{last}"
    fw = two_port(
        "fw",
        "firewall",
        ("outer", "10.1.0.1/24"),
        ("inner", "10.2.0.1/24"),
        [route("west", "10.3.0.0/24", "east", far)],
        firewall,
    )
    fwd = two_port(
        "fwd",
        "forwarder",
        ("inner", f"{far}/24"),
        ("beyond", "10.3.0.1/24"),
        [route("east", "10.1.0.0/24", "west", "10.2.0.1")],
    )
    return Blueprint(
        segment=segment,
        networks=(
            Network(id="outer", mtu=1500),
            Network(id="inner", mtu=1400),
            Network(id="beyond", mtu=1500),
        ),
        functions=(fw, fwd),
    )


def attached(segment: str, label: int, *, sap: str = "nni", host: int = 1, mtu: int = 1450) -> Blueprint:
    """One function with a port 10.9.0.`host` on a SAP, and another port that leads nowhere."""
    function = two_port("edge", "forwarder", ("joint", f"10.9.0.{host}/24 fd09::{host}/64"), ("stub", "10.8.0.1/24"))
    return Blueprint(
        segment=segment,
        networks=(Network(id="joint", mtu=mtu), Network(id="stub", mtu=1500)),
        functions=(function,),
        attachments=(Attachment(network="joint", sap=sap, label=label),),
    )


async def reaches(driver: Driver, segment: str, function: str, port: str, target: str, size: int = 84) -> bool:
    path = ProbePath(segment=segment, function=function, port=port, target=ip_address(target), size=size)
    return (await driver.probe(path)).ok


async def test_applying_twice_changes_nothing_and_keeps_the_counters(bench: Bench) -> None:
    await bench.left.apply(pair("s1"))
    assert await reaches(bench.left, "s1", "fw", "east", "10.2.0.2")
    before, inventory = await bench.left.measure("s1"), await bench.left.inventory()
    await bench.left.apply(pair("s1"))
    after = {(c.function, c.port): c.rx_packets for c in (await bench.left.measure("s1")).ports}
    assert await bench.left.inventory() == inventory
    assert before.ports[0].function == "fw"
    assert all(after[c.function, c.port] >= c.rx_packets for c in before.ports)
    assert after["fw", "east"] > 0


async def test_a_changed_blueprint_replaces_the_old_one(bench: Bench) -> None:
    await bench.left.apply(pair("s1"))
    assert not await reaches(bench.left, "s1", "fw", "east", "10.2.0.7")
    await bench.left.apply(pair("s1", last=7))
    assert await reaches(bench.left, "s1", "fw", "east", "10.2.0.7")
    assert not await reaches(bench.left, "s1", "fw", "east", "10.2.0.2")


async def test_removing_is_repeatable_and_what_was_never_there_is_removed_too(bench: Bench) -> None:
    await bench.left.remove("never")
    await bench.left.apply(pair("s1"))
    await bench.left.remove("s1")
    await bench.left.remove("s1")
    assert await bench.left.inventory() == ()


async def test_the_inventory_names_every_segment_until_it_is_removed(bench: Bench) -> None:
    await bench.customer("left", ["10.9.0.9/24"])
    await bench.left.apply(pair("s1"))
    await bench.left.apply(attached("s2", 77))
    await bench.left.apply(attached("s3", 0, sap="uni"))
    found = await bench.left.inventory()
    assert {item.segment for item in found} == {"s1", "s2", "s3"}
    assert len(set(found)) == len(found)
    await bench.left.remove("s2")
    assert {item.segment for item in await bench.left.inventory()} == {"s1", "s3"}


async def test_a_restarted_driver_finds_and_removes_what_its_predecessor_made(bench: Bench) -> None:
    await bench.customer("left", ["10.9.0.9/24"])
    await bench.left.apply(pair("s1"))
    await bench.left.apply(attached("s2", 0, sap="uni"))
    before = await bench.left.inventory()
    heir = await bench.restarted()
    assert await heir.inventory() == before
    await heir.remove("s1")
    await heir.remove("s2")
    assert await heir.inventory() == ()


async def test_a_half_finished_apply_is_in_the_inventory_and_repaired_by_the_next(bench: Bench) -> None:
    await bench.half_finish(pair("s1"))
    assert {item.segment for item in await bench.left.inventory()} == {"s1"}
    await bench.left.apply(pair("s1"))
    assert await reaches(bench.left, "s1", "fwd", "west", "10.2.0.1")
    complete = await bench.left.inventory()
    await bench.left.remove("s1")
    await bench.left.apply(pair("s1"))
    assert await bench.left.inventory() == complete


async def test_a_half_finished_apply_can_be_removed(bench: Bench) -> None:
    await bench.half_finish(attached("s1", 77))
    await bench.left.remove("s1")
    assert await bench.left.inventory() == ()


async def test_a_label_serves_one_segment_per_sap_and_is_free_again_at_once(bench: Bench) -> None:
    await bench.left.apply(attached("s1", 77))
    with pytest.raises(DriverError, match=r"label 77 on SAP 'nni' is in use"):
        await bench.left.apply(attached("s2", 77))
    assert {item.segment for item in await bench.left.inventory()} == {"s1"}
    await bench.left.apply(attached("s2", 78))
    await bench.left.apply(attached("s3", 77, sap="alt"))
    await bench.left.remove("s1")
    await bench.left.apply(attached("s4", 77))
    assert {item.segment for item in await bench.left.inventory()} == {"s2", "s3", "s4"}


async def test_an_access_device_serves_one_segment(bench: Bench) -> None:
    await bench.customer("left", ["10.9.0.9/24"])
    await bench.left.apply(attached("s1", 0, sap="uni"))
    with pytest.raises(DriverError, match=r"label 0 on SAP 'uni' is in use"):
        await bench.left.apply(attached("s2", 0, sap="uni"))
    assert await reaches(bench.left, "s1", "edge", "west", "10.9.0.9")


async def test_segments_with_the_same_addresses_do_not_see_each_other(bench: Bench) -> None:
    await bench.left.apply(pair("s1"))
    await bench.left.apply(pair("s2", last=3))
    assert await reaches(bench.left, "s1", "fw", "east", "10.2.0.2")
    assert await reaches(bench.left, "s2", "fw", "east", "10.2.0.3")
    assert not await reaches(bench.left, "s1", "fw", "east", "10.2.0.3")
    assert not await reaches(bench.left, "s2", "fw", "east", "10.2.0.2")


@pytest.mark.parametrize("target", ["10.9.0.2", "fd09::2"])
async def test_the_same_label_joins_two_domains_exactly_up_to_the_mtu(bench: Bench, target: str) -> None:
    await bench.left.apply(attached("s1", 77))
    await bench.right.apply(attached("s1", 77, host=2))
    assert await reaches(bench.left, "s1", "edge", "west", target, 1450)
    assert not await reaches(bench.left, "s1", "edge", "west", target, 1451)


async def test_different_labels_do_not_join(bench: Bench) -> None:
    await bench.left.apply(attached("s1", 77))
    await bench.right.apply(attached("s1", 78, host=2))
    assert not await reaches(bench.left, "s1", "edge", "west", "10.9.0.2")
    await bench.right.apply(attached("s1", 77, host=2))
    assert await reaches(bench.left, "s1", "edge", "west", "10.9.0.2")


async def test_a_firewall_decides_which_echo_passes_and_counts_it(bench: Bench) -> None:
    await bench.customer("left", ["10.1.0.9/24"], [(ip_network("10.0.0.0/8"), IPv4Address("10.1.0.1"))])
    await bench.left.apply(at_customer(pair("s1")))
    assert await reaches(bench.left, "s1", "fwd", "west", "10.1.0.9")
    assert (await bench.left.measure("s1")).values["fw.accepted"] == 2
    await bench.left.apply(at_customer(pair("s1", firewall={"deny": [{"protocol": "icmp"}]})))
    assert not await reaches(bench.left, "s1", "fwd", "west", "10.1.0.9")
    assert (await bench.left.measure("s1")).values["fw.dropped"] >= 1
    await bench.left.apply(at_customer(pair("s1", firewall={"policy": "drop", "allow": [{"protocol": "icmp"}]})))
    assert await reaches(bench.left, "s1", "fwd", "west", "10.1.0.9")
    await bench.left.apply(at_customer(pair("s1", firewall={"policy": "drop", "allow": [{"protocol": "tcp"}]})))
    assert not await reaches(bench.left, "s1", "fwd", "west", "10.1.0.9")


def at_customer(blueprint: Blueprint) -> Blueprint:
    return replace(blueprint, attachments=(Attachment(network="outer", sap="uni", label=0),))


async def test_a_transit_joins_two_labels_and_holds_no_address(bench: Bench) -> None:
    await bench.right.apply(attached("s1", 77, host=2))
    await bench.right.apply(attached("s2", 88, sap="alt", host=3))
    assert not await reaches(bench.right, "s1", "edge", "west", "10.9.0.3")
    await bench.left.apply(
        Blueprint(
            segment="transit",
            networks=(Network(id="through", mtu=1450),),
            attachments=(
                Attachment(network="through", sap="nni", label=77),
                Attachment(network="through", sap="alt", label=88),
            ),
        )
    )
    assert await reaches(bench.right, "s1", "edge", "west", "10.9.0.3", 1450)
    assert await reaches(bench.right, "s1", "edge", "west", "fd09::3", 1450)
    assert (await bench.left.measure("transit")).ports == ()
    await bench.left.remove("transit")
    assert not await reaches(bench.right, "s1", "edge", "west", "10.9.0.3")


async def test_a_lan_joins_all_its_members_in_both_domains(bench: Bench) -> None:
    members = tuple(single(f"m{i}", "joint", f"10.9.0.{i}/24") for i in (5, 6, 7))
    lan = Blueprint(
        segment="lan",
        networks=(Network(id="joint", mtu=1400, lan=True),),
        functions=members,
        attachments=(Attachment(network="joint", sap="nni", label=77),),
    )
    with pytest.raises(DriverError, match="is no LAN and has 4 members"):
        await bench.left.apply(replace(lan, networks=(Network(id="joint", mtu=1400),)))
    await bench.left.apply(lan)
    await bench.right.apply(attached("s1", 77, host=2, mtu=1400))
    for target in ("10.9.0.6", "10.9.0.7", "10.9.0.2"):
        assert await reaches(bench.left, "lan", "m5", "only", target, 1400)
    assert not await reaches(bench.left, "lan", "m5", "only", "10.9.0.8")


def single(id: str, network: str, addresses: str, routes: tuple[tuple[str, str], ...] = ()) -> Function:
    """An end point: one port `only`, routes as (destination, next hop)."""
    port = Port(name="only", network=network, interfaces=tuple(ip_interface(a) for a in addresses.split()))
    ways = tuple(route("only", destination, "only", hop) for destination, hop in routes)
    return Function(id=id, implementation="forwarder", ports=(port,), routes=ways)


def crossroads() -> Blueprint:
    """`mid` between four end points: `west` may go to `east` and 10.6.0.0/24 behind it, `south` has no such route."""
    mid = two_port(
        "mid",
        "forwarder",
        ("w", "10.1.0.1/24 fd01::1/64"),
        ("e", "10.2.0.1/24 fd02::1/64"),
        [route("west", "10.6.0.0/24", "east", "10.2.0.2")],
        extra=(
            Port(name="south", network="s", interfaces=(ip_interface("10.4.0.1/24"),)),
            Port(
                name="mgmt",
                network="m",
                interfaces=(ip_interface("10.5.0.1/24"), ip_interface("fd05::1/64")),
                management=True,
            ),
        ),
    )
    everything = ("10.0.0.0/8", "fd00::/8")
    ends = {
        "w": ("10.1.0.2/24 fd01::2/64", ("10.1.0.1", "fd01::1")),
        "e": ("10.2.0.2/24 10.6.0.1/24 fd02::2/64", ("10.2.0.1", "fd02::1")),
        "s": ("10.4.0.2/24", ("10.4.0.1",)),
        "m": ("10.5.0.2/24 fd05::2/64", ("10.5.0.1", "fd05::1")),
    }
    functions = tuple(
        single(f"at-{network}", network, addresses, tuple(zip(everything, hops, strict=False)))
        for network, (addresses, hops) in ends.items()
    )
    networks = tuple(Network(id=network, mtu=1500) for network in ends)
    return Blueprint(segment="x", networks=networks, functions=(mid, *functions))


async def test_a_packet_follows_the_table_of_its_ingress_port(bench: Bench) -> None:
    await bench.left.apply(crossroads())
    assert await reaches(bench.left, "x", "at-w", "only", "10.2.0.2")
    assert await reaches(bench.left, "x", "at-w", "only", "10.6.0.1")
    assert await reaches(bench.left, "x", "at-s", "only", "10.2.0.2")
    assert not await reaches(bench.left, "x", "at-s", "only", "10.6.0.1")


@pytest.mark.parametrize(
    ("near", "east", "manager"), [("10.5.0.1", "10.2.0.2", "10.5.0.2"), ("fd05::1", "fd02::2", "fd05::2")]
)
async def test_a_management_port_answers_and_does_not_forward(bench: Bench, near: str, east: str, manager: str) -> None:
    await bench.left.apply(crossroads())
    assert await reaches(bench.left, "x", "at-m", "only", near)
    assert await reaches(bench.left, "x", "mid", "mgmt", manager)
    assert await reaches(bench.left, "x", "at-w", "only", east)
    assert not await reaches(bench.left, "x", "at-m", "only", east)
    assert not await reaches(bench.left, "x", "at-w", "only", manager)


async def test_every_port_counts_what_enters_and_leaves(bench: Bench) -> None:
    await bench.left.apply(pair("s1"))
    empty = {(c.function, c.port): c for c in (await bench.left.measure("s1")).ports}
    assert set(empty) == {("fw", "west"), ("fw", "east"), ("fwd", "west"), ("fwd", "east")}
    assert await reaches(bench.left, "s1", "fw", "east", "10.2.0.2", 1000)
    after = {(c.function, c.port): c for c in (await bench.left.measure("s1")).ports}
    for key in (("fw", "east"), ("fwd", "west")):
        assert after[key].tx_bytes - empty[key].tx_bytes >= 1000
        assert after[key].rx_bytes - empty[key].rx_bytes >= 1000
        assert after[key].rx_packets > empty[key].rx_packets


async def test_probing_and_measuring_what_is_not_there_names_it(bench: Bench) -> None:
    await bench.left.apply(pair("s1"))
    with pytest.raises(DriverError, match="s9"):
        await bench.left.measure("s9")
    with pytest.raises(DriverError, match="s9"):
        await reaches(bench.left, "s9", "fw", "west", "10.2.0.2")
    with pytest.raises(DriverError, match="nat"):
        await reaches(bench.left, "s1", "nat", "west", "10.2.0.2")
    with pytest.raises(DriverError, match="north"):
        await reaches(bench.left, "s1", "fw", "north", "10.2.0.2")


def _with_function(function: Function) -> Blueprint:
    return replace(pair("s1"), functions=(function, pair("s1").functions[1]))


FW = pair("s1").functions[0]

UNSOUND = {
    "unknown SAP 'moon'": attached("s1", 7, sap="moon"),
    "SAP 'uni' carries untagged": attached("s1", 7, sap="uni"),
    "label 0 on SAP 'nni' is no VNI": attached("s1", 0),
    "SAP 'nni' carries 1450": attached("s1", 7, mtu=1451),
    "label 7 on SAP 'nni' is in use": replace(
        attached("s1", 7),
        attachments=(
            Attachment(network="joint", sap="nni", label=7),
            Attachment(network="stub", sap="nni", label=7),
        ),
        networks=(Network(id="joint", mtu=1450), Network(id="stub", mtu=1450)),
    ),
    "unknown implementation 'toaster'": _with_function(replace(FW, implementation="toaster", parameters={})),
    "'polcy'": _with_function(replace(FW, parameters={"polcy": "drop"})),
    "address 10.2.0.1 is on both fw:east and fwd:west": pair("s1", last=1),
    "network 'outer' is there twice": replace(
        pair("s1"), networks=(*pair("s1").networks, Network(id="outer", mtu=1500))
    ),
    "unknown network 'inner'": replace(pair("s1"), networks=(Network(id="outer", mtu=1500),)),
    "'north', which is no data port": _with_function(
        replace(FW, routes=(route("north", "10.3.0.0/24", "east", "10.2.0.2"),))
    ),
    "next hop 10.7.0.1": _with_function(replace(FW, routes=(route("west", "10.3.0.0/24", "east", "10.7.0.1"),))),
    "two ways from 'west' to 10.3.0.0/24": _with_function(
        replace(FW, routes=tuple(route("west", "10.3.0.0/24", "east", hop) for hop in ("10.2.0.2", "10.2.0.3")))
    ),
    "no flow of protocol 'icmp'": _with_function(
        replace(FW, routes=(replace(FW.routes[0], flow=FlowMatch(protocol="icmp", source_port=8)),))
    ),
    "segment 'a.b'": pair("a.b"),
}


@pytest.mark.parametrize("culprit", sorted(UNSOUND))
async def test_a_blueprint_that_cannot_be_built_is_refused_with_the_culprit_and_leaves_nothing(
    bench: Bench, culprit: str
) -> None:
    with pytest.raises(DriverError) as refusal:
        await bench.left.apply(UNSOUND[culprit])
    assert culprit in str(refusal.value)
    assert await bench.left.inventory() == ()


@pytest.mark.parametrize(
    ("implementation", "parameters", "culprit"),
    [
        ("toaster", {}, "toaster"),
        ("forwarder", {"speed": 1}, "speed"),
        ("firewall", {"polcy": "drop"}, "polcy"),
        ("firewall", {"policy": "maybe"}, "policy"),
        ("firewall", {"deny": [{"protocol": "gre"}]}, "deny[0]"),
        ("firewall", {"allow": [{"protocol": "tcp", "port": 70000}]}, "allow[0]"),
        ("firewall", {"deny": [{"protocol": "icmp", "port": 1}]}, "icmp has no port"),
        ("firewall", {"deny": [{"protocol": "tcp", "dport": 22}]}, "dport"),
        ("shaper", {}, "rate_bps"),
        ("shaper", {"rate_bps": "fast"}, "rate_bps"),
        ("shaper", {"rate_bps": 10**6, "burst_bytes": 1}, "burst_bytes"),
        ("meter", {"interval": 5}, "interval"),
    ],
)
async def test_a_parameter_that_is_not_understood_is_named(
    bench: Bench, implementation: str, parameters: dict[str, Any], culprit: str
) -> None:
    with pytest.raises(ValueError, match=culprit.replace("[", r"\[").replace("]", r"\]")):
        bench.left.check_parameters(implementation, parameters)


async def test_every_announced_implementation_can_be_built(bench: Bench) -> None:
    parameters: dict[str, dict[str, Any]] = {"shaper": {"rate_bps": 10_000_000}}
    for implementation in sorted(bench.left.offer.implementations):
        function = two_port(
            "only", implementation, ("w", "10.1.0.1/24"), ("e", "10.2.0.1/24"), (), parameters.get(implementation)
        )
        networks = (Network(id="w", mtu=1500), Network(id="e", mtu=1500))
        await bench.left.apply(Blueprint(segment=implementation, networks=networks, functions=(function,)))
        assert {(c.function, c.port) for c in (await bench.left.measure(implementation)).ports} == {
            ("only", "west"),
            ("only", "east"),
        }
    assert {item.segment for item in await bench.left.inventory()} == set(bench.left.offer.implementations)
