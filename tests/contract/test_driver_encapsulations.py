"""VXLAN, VLAN and plain Ethernet at SAPs, and what converts between them: the same suite over the simulated and the Linux
domain."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_interface

import pytest
import pytest_asyncio

from lower_sp_clients.vim.driver import Attachment, Blueprint, Driver, DriverError, Function, Network, Port, ProbePath
from tests.support.driver_bench import TUNNEL_MTU, UNDERLAY_MTU, Bench, SimulatedBench, linux_or_skip

LABELS = {"uni": 0, "trunk": 77, "nni": 4001}
"""A label of each of the SAPs that stand for an encapsulation: plain Ethernet, VLAN, VXLAN."""
MTUS = {"uni": UNDERLAY_MTU, "trunk": UNDERLAY_MTU, "nni": TUNNEL_MTU}
UNLIKE = [(a, b) for a in LABELS for b in LABELS if a < b]


@pytest_asyncio.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.packets)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    name = f"e{uuid.uuid4().hex[:8]}"
    made: Bench = SimulatedBench() if request.param == "simulated" else linux_or_skip(name, vlans=True)
    try:
        yield made
    finally:
        await made.close()


def attached(segment: str, label: int, *, sap: str = "trunk", host: int = 1, mtu: int = UNDERLAY_MTU) -> Blueprint:
    """One function with a port 10.9.0.`host` on a SAP."""
    port = Port(
        name="west", network="joint", interfaces=tuple(map(ip_interface, (f"10.9.0.{host}/24", f"fd09::{host}/64")))
    )
    return Blueprint(
        segment=segment,
        networks=(Network(id="joint", mtu=mtu),),
        functions=(Function(id="edge", implementation="forwarder", ports=(port,)),),
        attachments=(Attachment(network="joint", sap=sap, label=label),),
    )


def conversion(a: str, b: str, mtu: int) -> Blueprint:
    """A transit between two SAPs, which has no function."""
    ends = tuple(Attachment(network="through", sap=sap, label=LABELS[sap]) for sap in (a, b))
    return Blueprint(segment="conversion", networks=(Network(id="through", mtu=mtu),), attachments=ends)


async def reaches(driver: Driver, segment: str, target: str, size: int = 84) -> bool:
    path = ProbePath(segment=segment, function="edge", port="west", target=ip_address(target), size=size)
    return (await driver.probe(path)).ok


@pytest.mark.parametrize("target", ["10.9.0.2", "fd09::2"])
async def test_the_same_vlan_joins_two_domains_exactly_up_to_the_mtu_and_another_does_not(
    bench: Bench, target: str
) -> None:
    await bench.left.apply(attached("s1", 77))
    await bench.right.apply(attached("s1", 78, host=2))
    assert not await reaches(bench.left, "s1", target)
    await bench.right.apply(attached("s1", 77, host=2))
    assert await reaches(bench.left, "s1", target, UNDERLAY_MTU)
    assert not await reaches(bench.left, "s1", target, UNDERLAY_MTU + 1)


async def test_two_customers_with_the_same_addresses_on_one_trunk_do_not_see_each_other(bench: Bench) -> None:
    for segment, vlan, host in (("s1", 77, 2), ("s2", 78, 3)):
        await bench.left.apply(attached(segment, vlan))
        await bench.right.apply(attached(segment, vlan, host=host))
    assert await reaches(bench.left, "s1", "10.9.0.2")
    assert await reaches(bench.left, "s2", "10.9.0.3")
    assert not await reaches(bench.left, "s1", "10.9.0.3")
    assert not await reaches(bench.left, "s2", "10.9.0.2")


async def test_a_vlan_serves_one_segment_and_is_free_again_at_once(bench: Bench) -> None:
    await bench.left.apply(attached("s1", 77))
    with pytest.raises(DriverError, match=r"label 77 on SAP 'trunk' is in use"):
        await bench.left.apply(attached("s2", 77))
    assert {item.segment for item in await bench.left.inventory()} == {"s1"}
    await bench.left.remove("s1")
    assert await bench.left.inventory() == ()
    await bench.left.apply(attached("s2", 77))
    await bench.right.apply(attached("s1", 77, host=2))
    assert await reaches(bench.left, "s2", "10.9.0.2")


async def test_a_restarted_driver_finds_and_removes_its_vlans(bench: Bench) -> None:
    await bench.left.apply(attached("s1", 77))
    before = await bench.left.inventory()
    heir = await bench.restarted()
    assert await heir.inventory() == before
    await heir.remove("s1")
    assert await heir.inventory() == ()


@pytest.mark.parametrize(("a", "b"), UNLIKE)
async def test_a_transit_converts_between_unlike_encapsulations_exactly_up_to_the_smaller_mtu(
    bench: Bench, a: str, b: str
) -> None:
    """What is attached at `a` of the right domain reaches what is behind `b`, through the left one and back."""
    mtu = min(MTUS[a], MTUS[b])
    far, near = sorted((a, b), key=lambda sap: sap == "uni")  # nothing joins the two domains at their customers' SAPs
    if near == "uni":
        await bench.customer("left", ["10.9.0.3/24"])
    else:
        await bench.right.apply(attached("s2", LABELS[near], sap=near, host=3, mtu=mtu))
    await bench.right.apply(attached("s1", LABELS[far], sap=far, mtu=mtu))
    assert not await reaches(bench.right, "s1", "10.9.0.3")
    await bench.left.apply(conversion(a, b, mtu))
    tried = [await reaches(bench.right, "s1", "10.9.0.3") for _ in range(3)]
    assert any(tried), "a kernel may take a moment until it forwards to a new port"
    assert await reaches(bench.right, "s1", "10.9.0.3", mtu)
    assert not await reaches(bench.right, "s1", "10.9.0.3", mtu + 1)
    await bench.left.remove("conversion")
    assert not await reaches(bench.right, "s1", "10.9.0.3")


@pytest.mark.parametrize(
    ("sap", "label", "culprit"),
    [
        ("trunk", 0, "label 0 on SAP 'trunk' is no VLAN id"),
        ("trunk", 4095, "label 4095 on SAP 'trunk' is no VLAN id"),
        ("uni", 77, "SAP 'uni' carries untagged frames only"),
        ("nni", 0, "label 0 on SAP 'nni' is no VNI"),
    ],
)
async def test_a_label_that_the_encapsulation_has_not_is_refused(
    bench: Bench, sap: str, label: int, culprit: str
) -> None:
    with pytest.raises(DriverError, match=culprit):
        await bench.left.apply(attached("s1", label, sap=sap, mtu=MTUS[sap]))
    assert await bench.left.inventory() == ()
