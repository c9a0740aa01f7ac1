"""An order over three brokers' Linux domains that meet over VLAN and VXLAN, between customers on plain Ethernet: planned, held,
built, and proved with packets, which bear between two of them the path header that both were told."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
import pytest_asyncio

from address_planner.labels import UNTAGGED, LabelSet
from capability_registry.note import Encapsulation
from lower_sp_clients.vim.driver import SapPort
from lower_sp_clients.vim.linux import LinuxDriver, packets
from lower_sp_clients.vim.linux.lab import Lab, WireEnd
from lower_sp_clients.vim.linux.packets import Verdict
from lower_sp_clients.vim.linux.saps import HEADER_OVERHEAD
from service_model.outcomes import Committed, Reserved, ServiceState
from service_model.spec import ServiceSpec
from tests.support.driver_bench import require_packets
from tests.support.orders import CONFIRM, CTX
from tests.support.stack import POOL, Site, Sp, Stack, chain
from tests.support.wire_tap import frames, heard, marks

pytestmark = pytest.mark.packets

VLANS = LabelSet(((100, 199),))
CABLE = 1500 + HEADER_OVERHEAD
"""What a service sends, with its path header; a VLAN tag comes on top."""
LINE = Sp(
    "a",
    (
        Site("s0", ("firewall",), labels=VLANS, swaps=False, right=Encapsulation.VLAN),
        Sp("b", (Site("s1", labels=VLANS, swaps=False, left=Encapsulation.VLAN, right=Encapsulation.VXLAN),)),
        Sp("c", (Site("s2", ("meter",), labels=VLANS, swaps=False, left=Encapsulation.VXLAN),)),
    ),
    (POOL,),
)
"""What is in the middle has no function: it converts, and nothing else."""


@dataclass(frozen=True)
class Cabling:
    """The borders of the three domains, wired."""

    lab: Lab
    token: str

    @classmethod
    def of(cls, lab: Lab, token: str) -> Cabling:
        for name in ("s0-uni", "s0-trunk", "s1-trunk", "s1-core", "s2-core", "s2-uni"):
            lab.namespace(name)
        lab.wire(WireEnd(f"{token}-s0-trunk", "trunk0"), WireEnd(f"{token}-s1-trunk", "trunk0"), mtu=CABLE)
        near, far = (
            WireEnd(f"{token}-{site}-core", "core0", (ip_interface(f"192.0.2.{n}/30"),))
            for n, site in enumerate(("s1", "s2"), 1)
        )
        lab.wire(near, far, mtu=CABLE)
        return cls(lab, token)

    def saps(self, site: str) -> list[SapPort]:
        access = {"namespace": f"{self.token}-{site}-uni", "device": "uni0"}
        trunk = {"namespace": f"{self.token}-{site}-trunk", "device": "trunk0", "path_headers": "nsh"}
        own, peer = ("1", "2") if site == "s1" else ("2", "1")
        core = {
            "path_headers": "nsh",
            "namespace": f"{self.token}-{site}-core",
            "local": f"192.0.2.{own}",
            "remote": f"192.0.2.{peer}",
        }
        by_site = {
            "s0": [("uni", "ETHERNET", access), ("to-s1", "VLAN", trunk)],
            "s1": [("to-s0", "VLAN", trunk), ("to-s2", "VXLAN", core)],
            "s2": [("to-s1", "VXLAN", core), ("uni", "ETHERNET", access)],
        }
        return [
            SapPort(id=id, encapsulation=kind, mtu=1450 if kind == "VXLAN" else 1500, settings=settings)
            for id, kind, settings in by_site[site]
        ]

    def customers(self, spec: ServiceSpec, answer: Reserved) -> tuple[str, str]:
        """Client and server, each with its address and its gateway as they were told; their namespaces."""
        made = []
        for end, link, port, site in (("a", "l0", "f0:in", "s0"), ("b", "l2", "f1:out", "s2")):
            told = answer.choice.link(link)
            assert told is not None
            assert told.prefix is not None
            own = ip_interface(f"{told.addresses[end]}/{told.prefix.prefixlen}")
            gateway = ip_address(str(told.addresses[port]))
            border = WireEnd(f"{self.token}-{site}-uni", "uni0")
            made.append(self.lab.host(f"{site}-host", border, [own], [(POOL.prefix, gateway)]))
        return made[0], made[1]


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[tuple[Stack, Cabling]]:
    require_packets(vlans=True)
    token = f"k{uuid.uuid4().hex[:8]}"
    with Lab(token) as lab:
        cabling = Cabling.of(lab, token)
        stack = Stack(LINE, tmp_path)
        drivers = []
        for node in stack.nodes.values():
            for site, domain in node.domains.items():
                driver = LinuxDriver(f"{token}-{site}", cabling.saps(site))
                drivers.append(driver)
                node.drivers[site] = driver  # type: ignore[assignment]
                headed = driver.offer.path_headers
                saps = tuple(replace(sap, path_headers=sap.id in headed) for sap in domain.saps)
                node.domains[site] = replace(domain, saps=saps)
        try:
            async with stack:
                yield stack, cabling
        finally:
            for driver in drivers:
                for segment in {item.segment for item in await driver.inventory()}:
                    await driver.remove(segment)
                driver.close()


async def test_an_order_between_plain_ethernets_is_carried_over_vlan_and_vxlan_by_who_converts(
    stack: tuple[Stack, Cabling],
) -> None:
    brokers, cabling = stack
    spec = chain("s0.uni", "c.s2.uni", "firewall", "meter", min_mtu=1450)
    deny = replace(spec.functions[0], parameters={"deny": [{"protocol": "tcp", "port": 23}]})
    spec = replace(spec, functions=(deny, spec.functions[1]))
    answer = await brokers.customer().reserve("r", 1, spec, CTX)
    assert isinstance(answer, Reserved), answer
    client, server = cabling.customers(spec, answer)
    assert await brokers.customer().commit("r", 1, CONFIRM, CTX) == Committed(ref="r", version=1)
    await brokers.until(lambda: brokers.state() is ServiceState.ACTIVE, turns=50_000)
    labels = {
        f"{vim.domain.name}/{end.sap}": hold.choice.labels[end.id]
        for vim in brokers.vims()
        for hold in vim.holds()
        if hold.spec is not None and hold.choice is not None
        for end in hold.spec.ends
    }
    assert labels["s0/uni"] == labels["s2/uni"] == UNTAGGED
    assert labels["s0/to-s1"] == labels["s1/to-s0"]
    assert labels["s1/to-s2"] == labels["s2/to-s1"]
    first, last = answer.choice.link("l0"), answer.choice.link("l2")
    assert first is not None
    assert last is not None
    target = last.addresses["b"]
    assert packets.ping(client, target).ok
    assert packets.path_mtu(client, target, 1600) == 1450
    told = {
        f"{vim.domain.name}/{end.sap}": end.path_header
        for vim in brokers.vims()
        for hold in vim.holds()
        if hold.spec is not None
        for end in hold.spec.ends
    }
    assert told["s0/uni"] is told["s2/uni"] is None, "a customer's packets bear none"
    ends = str(first.addresses["a"]), str(target)
    for near, far, border, device in (
        ("s0/to-s1", "s1/to-s0", "s0-trunk", "trunk0"),
        ("s1/to-s2", "s2/to-s1", "s2-core", "core0"),
    ):
        header = told[near]
        assert header is not None
        assert header == told[far]
        with frames(f"{cabling.token}-{border}", device) as tap:
            assert packets.ping(client, target).ok
            found = heard(tap)
        assert marks(found, *ends) == {header.forth}
        assert marks(found, *reversed(ends)) == {header.back}
    bulk = packets.tcp_echo(server, client, target)
    assert bulk.ok, bulk
    with packets.listening(server, target, 23):
        assert packets.tcp_verdict(client, target, 23) is Verdict.DROPPED
    await brokers.customer().terminate("r", CTX)
    await brokers.until(lambda: brokers.state() is ServiceState.TERMINATED, turns=50_000)
    assert not packets.ping(client, target, attempts=1).ok
    for vim in brokers.vims():
        assert await vim.inventory() == ()
