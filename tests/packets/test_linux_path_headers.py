"""Path headers in Linux domains: what is on the wire between two of them, in every encapsulation; what is lost for bearing
another header; and what a machine or a cable that cannot carry them is told."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
import pytest_asyncio
from pyroute2 import IPRoute

from lower_sp_clients.vim.driver import Attachment, Blueprint, DriverError, Network, Route, SapPort
from lower_sp_clients.vim.linux import LinuxDriver, packets
from lower_sp_clients.vim.linux.forwarding import NEIGHBOUR_RETRY_MS, NEIGHBOUR_TIME_MS
from lower_sp_clients.vim.linux.lab import Lab, WireEnd
from lower_sp_clients.vim.linux.namespaces import SYSCTLS, run_in
from lower_sp_clients.vim.linux.naming import FUNCTION, HEADER, NamespaceName
from lower_sp_clients.vim.linux.saps import HEADER_OVERHEAD
from service_model.path_headers import PathHeader
from tests.support.driver_bench import require_packets, two_port
from tests.support.wire_tap import frames, heard, marks

pytestmark = pytest.mark.packets

ROOT = Path(__file__).parents[2]
CLIENT, SERVER, SERVER6 = "10.1.0.2", "10.2.0.2", "fd02::2"
TOLD = PathHeader(id=0x12ABCE, index=254, back_index=251)
MTU = 1500
CABLE = MTU + HEADER_OVERHEAD + 50
"""What a service sends, its path header, and the headers of a tunnel."""
KINDS = {"ETHERNET": 0, "VLAN": 77, "VXLAN": 4001}
"""A label of each."""


@dataclass
class Cable:
    """Two domains and what is between them, of one encapsulation, with a customer at each."""

    lab: Lab
    token: str
    kind: str
    drivers: dict[str, LinuxDriver]
    client: str
    server: str

    @property
    def left(self) -> LinuxDriver:
        return self.drivers["left"]

    @property
    def right(self) -> LinuxDriver:
        return self.drivers["right"]

    def border(self, side: str) -> str:
        return f"{self.token}-{side}-joint"

    def half(self, side: str, told: PathHeader | None = TOLD) -> Blueprint:
        """A meter between the customer of a side and the cable. The path is from left to right."""
        n, m = (1, 2) if side == "left" else (2, 1)
        routes = [
            Route(ingress="west", destination=ip_network(f"{there}/{bits}"), egress="east", next_hop=ip_address(hop))
            for there, bits, hop in ((f"10.{m}.0.0", 24, f"10.255.0.{m}"), (f"fd0{m}::", 64, f"fdff::{m}"))
        ]
        own = (f"10.{n}.0.1/24 fd0{n}::1/64", f"10.255.0.{n}/24 fdff::{n}/64")
        joint = Attachment(network="joint", sap="joint", label=KINDS[self.kind])
        if told is not None:
            leaving, entering = (told.forth, told.back) if side == "left" else (told.back, told.forth)
            joint = replace(joint, leaving=leaving, entering=entering)
        return Blueprint(
            segment="half",
            networks=(Network(id="access", mtu=MTU), Network(id="joint", mtu=MTU)),
            functions=(two_port("f", "meter", ("access", own[0]), ("joint", own[1]), routes),),
            attachments=(Attachment(network="access", sap="uni", label=0), joint),
        )

    async def build(self, told: PathHeader | None = TOLD) -> None:
        await self.left.apply(self.half("left", told))
        await self.right.apply(self.half("right", told))

    def reaches(self, version: int = 4, size: int = 84) -> bool:
        target = SERVER if version == 4 else SERVER6
        return any(packets.ping(self.client, target, size=size).ok for _ in range(2))


def saps(token: str, side: str, kind: str, *, headers: bool = True) -> list[SapPort]:
    own, peer = ("1", "2") if side == "left" else ("2", "1")
    settings = {"namespace": f"{token}-{side}-joint"}
    settings |= {"local": f"192.0.2.{own}", "remote": f"192.0.2.{peer}"} if kind == "VXLAN" else {"device": "joint0"}
    settings |= {"path_headers": "nsh"} if headers else {}
    return [
        SapPort(
            id="uni", encapsulation="ETHERNET", mtu=MTU, settings={"namespace": f"{token}-{side}-uni", "device": "uni0"}
        ),
        SapPort(id="joint", encapsulation=kind, mtu=MTU, settings=settings),
    ]


@contextmanager
def cabled(kind: str, mtu: int = CABLE) -> Iterator[Cable]:
    require_packets(vlans=True)
    token = f"h{uuid.uuid4().hex[:8]}"
    with Lab(token) as lab:
        for side in ("left", "right"):
            for border in ("uni", "joint"):
                lab.namespace(f"{side}-{border}")
        lab.wire(WireEnd(f"{token}-left-joint", "joint0"), WireEnd(f"{token}-right-joint", "joint0"), mtu=mtu)
        if kind == "VXLAN":
            for side, own in (("left", "192.0.2.1/30"), ("right", "192.0.2.2/30")):
                lab.address(f"{token}-{side}-joint", "joint0", [ip_interface(own)])
        hosts = {}
        for n, side in enumerate(("left", "right"), 1):
            hosts[side] = lab.host(
                f"{side}-host",
                WireEnd(f"{token}-{side}-uni", "uni0"),
                [ip_interface(f"10.{n}.0.2/24"), ip_interface(f"fd0{n}::2/64")],
                [
                    (ip_network("10.0.0.0/8"), ip_address(f"10.{n}.0.1")),
                    (ip_network("fd00::/8"), ip_address(f"fd0{n}::1")),
                ],
            )
        drivers = {side: LinuxDriver(f"{token}-{side}", saps(token, side, kind)) for side in hosts}
        try:
            yield Cable(lab, token, kind, drivers, hosts["left"], hosts["right"])
        finally:
            for driver in drivers.values():
                driver.close()


@pytest_asyncio.fixture(params=KINDS)
async def cable(request: pytest.FixtureRequest) -> AsyncIterator[Cable]:
    with cabled(request.param) as made:
        try:
            yield made
        finally:
            for driver in made.drivers.values():
                for segment in {item.segment for item in await driver.inventory()}:
                    await driver.remove(segment)
                assert await driver.inventory() == ()


@pytest.mark.parametrize("version", [4, 6])
async def test_packets_up_to_the_mtu_and_bulk_cross_under_headers_and_one_byte_more_does_not(
    cable: Cable, version: int
) -> None:
    await cable.build()
    assert cable.reaches(version)
    target = SERVER if version == 4 else SERVER6
    assert packets.path_mtu(cable.client, target, 1600) == MTU
    bulk = packets.tcp_echo(cable.server, cable.client, target)
    assert bulk.ok, bulk


async def test_every_port_of_a_bridge_forwards_when_it_is_built(cable: Cable) -> None:
    await cable.build()
    spaces = {item.name for d in cable.drivers.values() for item in await d.inventory() if item.kind == "namespace"}
    spaces |= {f"{cable.token}-{side}-{border}" for side in cable.drivers for border in ("uni", "joint")}
    ports = {(space, device): state for space in spaces for device, state in run_in(space, bridge_ports).items()}
    assert ports
    assert set(ports.values()) == {3}, ports


async def test_ports_of_functions_ask_for_a_neighbour_again_soon_and_for_long_enough(cable: Cable) -> None:
    await cable.build()
    found = 0
    for driver in cable.drivers.values():
        for space in (item.name for item in await driver.inventory() if f".{FUNCTION}." in item.name):
            for retry_ms, times in run_in(space, neighbour_settings):
                found += 1
                assert NEIGHBOUR_RETRY_MS <= retry_ms < 2 * NEIGHBOUR_RETRY_MS, "the kernel counts in ticks"
                assert retry_ms * times >= NEIGHBOUR_TIME_MS
    assert found == 8, "two ports in each of two domains, and both families of addresses"


def neighbour_settings() -> list[tuple[int, int]]:
    """Of each port in this namespace and each family, how long it waits for an answer in milliseconds, and how often."""
    with IPRoute() as ip:
        ports = [name for link in ip.get_links() if (name := link.get("ifname")) in ("west", "east")]
    of = [SYSCTLS / family / "neigh" / port for port in ports for family in ("ipv4", "ipv6")]
    return [tuple(int((p / key).read_text()) for key in ("retrans_time_ms", "mcast_solicit")) for p in of]  # type: ignore[misc]


def bridge_ports() -> dict[str, int]:
    """The devices of this namespace that are ports of a bridge, and their states (`linux/if_bridge.h`; 3: forwarding)."""
    with IPRoute() as ip:
        told = {link.get("ifname"): link.get(("linkinfo", "slave_data")) for link in ip.get_links()}
    return {device: data.get("IFLA_BRPORT_STATE") for device, data in told.items() if data is not None}


async def test_the_wire_bears_the_mark_of_each_direction_and_the_service_none(cable: Cable) -> None:
    await cable.build()
    assert cable.reaches()
    function = str(NamespaceName(f"{cable.token}-right", "half", FUNCTION, "f"))
    with frames(cable.border("right"), "joint0") as wire, frames(function, "east") as inside:
        assert cable.reaches()
        outside, within = heard(wire), heard(inside)
    assert marks(outside, CLIENT, SERVER) == {TOLD.forth}
    assert marks(outside, SERVER, CLIENT) == {TOLD.back}
    assert marks(within, CLIENT, SERVER) == marks(within, SERVER, CLIENT) == {None}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(TOLD, id=TOLD.id + 2), id="another path"),
        pytest.param(replace(TOLD, index=TOLD.index - 1), id="another index forth"),
        pytest.param(replace(TOLD, back_index=TOLD.back_index - 1), id="another index back"),
        pytest.param(None, id="no header"),
    ],
)
async def test_what_bears_another_header_than_is_expected_is_lost(cable: Cable, other: PathHeader | None) -> None:
    await cable.left.apply(cable.half("left"))
    await cable.right.apply(cable.half("right", other))
    assert not packets.ping(cable.client, SERVER, attempts=1).ok
    await cable.right.apply(cable.half("right"))
    assert cable.reaches()


async def test_an_apply_puts_back_a_program_that_was_taken_off_and_touches_nothing_else(cable: Cable) -> None:
    await cable.build()
    assert cable.reaches()
    label = KINDS[cable.kind]
    between = str(NamespaceName(f"{cable.token}-left", "half", HEADER, f"joint.{label}"))

    def programs() -> list[int]:
        with IPRoute() as ip:
            return [link.get_nested("IFLA_XDP", "IFLA_XDP_PROG_ID") for link in ip.get_links() if link["index"] != 1]

    before = run_in(between, programs)
    await cable.left.apply(cable.half("left"))
    assert run_in(between, programs) == before
    assert all(before)

    def take() -> None:
        with IPRoute() as ip:
            (index,) = ip.link_lookup(ifname="outside")
            ip.link("set", index=index, xdp={"attrs": [("IFLA_XDP_FD", -1), ("IFLA_XDP_FLAGS", 2)]})

    run_in(between, take)
    assert not packets.ping(cable.client, SERVER, attempts=1).ok
    await cable.left.apply(cable.half("left"))
    assert cable.reaches()


@pytest.mark.parametrize(
    ("kind", "culprit"),
    [
        ("ETHERNET", "SAP 'joint': device 'joint0' has MTU 1521, the network needs 1522"),
        ("VLAN", "SAP 'joint': device 'joint0' has MTU 1521, the network needs 1522"),
        ("VXLAN", "SAP 'joint': underlay 'joint0' has MTU 1571, VXLAN with 1522 bytes needs 1572"),
    ],
)
async def test_a_cable_that_does_not_carry_the_header_too_is_named_and_nothing_is_left(kind: str, culprit: str) -> None:
    with cabled(kind, int(culprit.split("MTU ")[1].split(",")[0])) as cable:
        with pytest.raises(DriverError, match=culprit):
            await cable.left.apply(cable.half("left"))
        assert await cable.left.inventory() == ()


def test_a_header_is_offered_where_the_settings_ask_for_it_and_nowhere_else() -> None:
    require_packets(vlans=True)
    for asked, offered in ((True, {"joint"}), (False, set())):
        driver = LinuxDriver("offering", saps("offering", "left", "VLAN", headers=asked))
        driver.close()
        assert driver.offer.path_headers == offered
    joint = saps("offering", "left", "VLAN")[1]
    wrong = replace(joint, settings={**joint.settings, "path_headers": "yes"})
    with pytest.raises(ValueError, match="SAP 'joint': setting 'path_headers' 'yes' is not 'nsh'"):
        LinuxDriver("offering", [wrong])


def test_who_may_not_load_programs_is_offered_no_headers_and_told_why() -> None:
    require_packets()
    code = (
        "from lower_sp_clients.vim.driver import SapPort\n"
        "from lower_sp_clients.vim.linux import LinuxDriver\n"
        "settings = {'namespace': 'n', 'device': 'd', 'path_headers': 'nsh'}\n"
        "offer = LinuxDriver('x', [SapPort(id='s', encapsulation='ETHERNET', mtu=1500, settings=settings)]).offer\n"
        "print(*offer.path_headers, *offer.missing, sep='; ')"
    )
    inner = 'mount -t tmpfs t /run && mkdir /run/netns && exec "$@"'
    done = subprocess.run(
        ["unshare", "-Urnm", "sh", "-c", inner, "sh", sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "path headers: Operation not permitted; " in done.stdout, done
    assert not done.stdout.startswith("s;"), done
