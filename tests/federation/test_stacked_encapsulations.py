"""VXLAN, VLAN and plain Ethernet along one service: joined where they are alike, converted by who has both, and carried as far as
the smallest of them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from itertools import pairwise
from pathlib import Path

import pytest

from address_planner.labels import UNTAGGED, LabelSet
from broker.decompose.interconnects import Interconnects
from capability_registry.note import Encapsulation
from lower_sp_clients.vim.driver import Attachment, Blueprint, Function, Network, Port, Route, SapPort
from lower_sp_clients.vim.simulated import SimulatedDriver
from lower_sp_clients.vim.simulated_domain import Lost, Station, echo
from service_model.outcomes import ReasonCode, Refused, Reserved
from service_model.spec import ServiceSpec
from tests.support.orders import CTX, active
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

ETHERNET, VLAN, VXLAN = Encapsulation.ETHERNET, Encapsulation.VLAN, Encapsulation.VXLAN
LOW = LabelSet(((100, 199),))


def line(*joints: Encapsulation, swaps: bool = False, nested: bool = False) -> Sp:
    """Sites in a row, met over these; those at the line's ends make the functions. `nested`: all but the first are bought."""
    sides = (VXLAN, *joints, VXLAN)
    sites = [
        Site(f"s{n}", ("forwarder",), labels=LOW, swaps=swaps, left=left, right=right)
        for n, (left, right) in enumerate(pairwise(sides))
    ]
    parts: tuple[Sp | Site, ...] = (sites[0], Sp("b", tuple(sites[1:]))) if nested else tuple(sites)
    return Sp("a", parts, (POOL,))


def along(joints: int, nested: bool = False, min_mtu: int = 1280) -> ServiceSpec:
    """From the first site of such a line to its last, through a function at each."""
    last = f"s{joints}"
    spec = chain("s0.uni", f"b.{last}.uni" if nested else f"{last}.uni", "forwarder", "forwarder", min_mtu=min_mtu)
    at = {"f0": "S0", "f1": last.upper()}
    return replace(spec, functions=tuple(replace(f, places=(at[f.id],)) for f in spec.functions))


def labels(stack: Stack) -> dict[str, int]:
    """By site and SAP: what every domain holds."""
    out: dict[str, int] = {}
    for vim in stack.vims():
        for hold in vim.holds():
            assert hold.spec is not None
            assert hold.choice is not None
            out |= {f"{vim.domain.name}/{end.sap}": hold.choice.labels[end.id] for end in hold.spec.ends}
    return out


def drivers(stack: Stack) -> dict[str, SimulatedDriver]:
    return {name: driver for node in stack.nodes.values() for name, driver in node.drivers.items()}


async def customer(driver: SimulatedDriver, address: str, gateway: str) -> Station:
    """At the plain Ethernet of a site."""
    host = SimulatedDriver([SapPort(id="wire", encapsulation="ETHERNET", mtu=1500)])
    host.join("wire", driver, "uni")
    near = ip_interface(address)
    way = Route(ingress="eth0", destination=POOL.prefix, egress="eth0", next_hop=ip_address(gateway))
    port = Port(name="eth0", network="lan", interfaces=(near,))
    await host.apply(
        Blueprint(
            segment="customer",
            networks=(Network(id="lan", mtu=1500),),
            functions=(Function(id="host", implementation="forwarder", ports=(port,), routes=(way,)),),
            attachments=(Attachment(network="lan", sap="wire", label=UNTAGGED),),
        )
    )
    return host.station("customer", "host")


async def carried(stack: Stack, answer: Reserved, sites: int) -> tuple[list[int], int]:
    """Of these sizes the ones that come from the one customer to the other and back; and the MTU that was told."""
    domains = drivers(stack)
    for n in range(sites - 1):
        domains[f"s{n}"].join(f"to-s{n + 1}", domains[f"s{n + 1}"], f"to-s{n}")
    first, last = answer.choice.link("l0"), answer.choice.link("l2")
    assert first is not None
    assert last is not None
    ends = {}
    for end, link, port, site in (("a", first, "f0:in", "s0"), ("b", last, "f1:out", f"s{sites - 1}")):
        assert link.prefix is not None
        own = f"{link.addresses[end]}/{link.prefix.prefixlen}"
        ends[end] = (await customer(domains[site], own, str(link.addresses[port])), link.addresses[end])
    told = min(link.mtu for link in answer.choice.links)
    arrived = []
    for size in (told - 1, told, told + 1):
        (near, _), (_, target) = ends["a"], ends["b"]
        try:
            echo(near, near.port("eth0"), target, size)
        except Lost:
            continue
        arrived.append(size)
    return arrived, told


ROWS = [
    ((VLAN, VXLAN), 1450),
    ((VXLAN, ETHERNET), 1450),
    ((ETHERNET, VLAN), 1500),
    ((VLAN, VXLAN, ETHERNET, VLAN), 1450),
    ((VLAN, VLAN, ETHERNET), 1500),
]


@pytest.mark.parametrize("nested", [False, True], ids=["of its own", "bought"])
@pytest.mark.parametrize("swaps", [False, True], ids=["labels carried through", "swapping"])
@pytest.mark.parametrize(("joints", "mtu"), ROWS, ids=["-".join(e.short.lower() for e in row) for row, _ in ROWS])
async def test_unlike_encapsulations_are_converted_and_packets_arrive_exactly_up_to_the_smallest_mtu(
    tmp_path: Path, joints: tuple[Encapsulation, ...], mtu: int, swaps: bool, nested: bool
) -> None:
    async with Stack(line(*joints, swaps=swaps, nested=nested), tmp_path) as stack:
        answer = await active(stack, along(len(joints), nested))
        arrived, told = await carried(stack, answer, len(joints) + 1)
        assert (arrived, told) == ([mtu - 1, mtu], mtu)
        held = labels(stack)
        for n, kind in enumerate(joints):
            here, there = held[f"s{n}/to-s{n + 1}"], held[f"s{n + 1}/to-s{n}"]
            assert here == there, "both sides of an interconnect have one label"
            assert (here == UNTAGGED) == (kind is ETHERNET)
        for n, (kind, other) in enumerate(pairwise(joints), 1):
            if kind is other and not swaps:
                assert held[f"s{n}/to-s{n - 1}"] == held[f"s{n}/to-s{n + 1}"], "what is not swapped is carried through"


async def test_an_interconnect_between_unlike_encapsulations_joins_nothing(tmp_path: Path) -> None:
    sites = (Site("s0", ("forwarder",), labels=LOW, right=VLAN), Site("s1", ("forwarder",), labels=LOW, left=VXLAN))
    async with Stack(Sp("a", sites, (POOL,)), tmp_path) as stack:
        answer = await stack.customer().reserve("r", 1, along(1), CTX)
        assert isinstance(answer, Refused)
        assert {reason.code for reason in answer.reasons} == {ReasonCode.NO_PATH}
        [unjoined] = Interconnects(stack.nodes["a"].catalogue.snapshot).unjoined
        assert (unjoined.id, unjoined.why) == ("ic-s0-s1", "s0 and s1 encapsulate differently")


async def test_a_service_that_an_encapsulation_leaves_too_few_bytes_is_refused_with_what_there_is(
    tmp_path: Path,
) -> None:
    async with Stack(line(VLAN, VXLAN, ETHERNET), tmp_path) as stack:
        answer = await stack.customer().reserve("r", 1, along(3, min_mtu=1451), CTX)
        assert isinstance(answer, Refused)
        assert [(r.code, r.message) for r in answer.reasons] == [(ReasonCode.MTU, "MTU: best 1450 < 1451 bytes")]
        await active(stack, along(3, min_mtu=1450), "r2")


async def test_without_a_tunnel_nothing_of_the_cable_is_lost(tmp_path: Path) -> None:
    async with Stack(line(VLAN, ETHERNET), tmp_path) as stack:
        answer = await active(stack, along(2, min_mtu=1500))
        assert {link.mtu for link in answer.choice.links} == {1500}


async def test_plain_ethernet_carries_one_service_at_a_time(tmp_path: Path) -> None:
    tagged = LabelSet(((10, 19),))
    sites = (
        Site("s0", ("forwarder",), uni=tagged, right=ETHERNET),
        Site("s1", ("forwarder",), uni=tagged, left=ETHERNET),
    )
    async with Stack(Sp("a", sites, (POOL,)), tmp_path) as stack:
        await active(stack, along(1), "r1")
        second = await stack.customer().reserve("r2", 1, along(1), CTX)
        assert isinstance(second, Refused)
        codes = {reason.code for reason in second.reasons}
        assert codes <= {ReasonCode.LABELS_EXHAUSTED, ReasonCode.LABEL_TAKEN}, second
        stack.announce_all()
        third = await stack.customer().reserve("r3", 1, along(1), CTX)
        assert isinstance(third, Refused)
        assert [reason.code for reason in third.reasons] == [ReasonCode.LABELS_EXHAUSTED]
        await stack.customer().terminate("r1", CTX)
        await stack.ends_empty()
        stack.announce_all()
        await active(stack, along(1), "r4")
