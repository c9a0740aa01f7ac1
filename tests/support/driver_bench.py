"""Two joined domains with a customer at each, for any driver: the same cabling in memory and in namespaces.

    client -- uni [left] nni ==== nni [right] uni -- server
                         alt ==== alt
                       trunk ==== trunk

`uni` is ETHERNET, and so is `uni2`, which each domain has beside it. `nni` and `alt` are VXLAN over an underlay of MTU
1500: a service may send 1450 bytes through them. `trunk` is VLAN: 1500 bytes.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_interface
from typing import Any, Protocol

import pytest

from lower_sp_clients.vim.driver import (
    Attachment,
    Blueprint,
    Driver,
    DriverError,
    Function,
    Network,
    Port,
    Route,
    SapPort,
)
from lower_sp_clients.vim.linux import LinuxDriver, namespaces, packets
from lower_sp_clients.vim.linux.ability import NO_VLAN
from lower_sp_clients.vim.linux.lab import Lab, WireEnd
from lower_sp_clients.vim.linux.naming import NETWORK, NamespaceName
from lower_sp_clients.vim.simulated import SimulatedDriver
from lower_sp_clients.vim.simulated_domain import Lost, echo, hears

Prefix = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface

UNDERLAY_MTU = 1500
HAIL = 4000
QUIET_S = 1.0
"""A broadcast that nobody gets for so long has arrived everywhere."""
TUNNEL_MTU = 1450


class Bench(Protocol):
    """What a test of drivers needs besides the drivers."""

    left: Driver
    right: Driver

    async def customer(
        self, side: str, interfaces: Sequence[str], routes: Sequence[tuple[Prefix, Address]] = (), sap: str = "uni"
    ) -> str:
        """A customer's host at `uni` or `uni2` of `left` or `right`; what to call it by."""

    async def asks(self, near: str, far: str, target: Address, port: int | None) -> bool:
        """Whether a request of one customer to another, of 1400 bytes or more, and the answer of that size arrive:
        an ICMP echo (None), or a TCP connection to a port."""

    async def heard(self, near: str, broadcast: IPv4Address) -> Counter[str]:
        """The other customers that get a broadcast of one, each as often as it comes there."""

    async def half_finish(self, blueprint: Blueprint) -> None:
        """Leave in the left domain what an `apply` that died half-way leaves."""

    async def restarted(self) -> Driver:
        """The left domain's driver as it is after a restart of the process."""

    def loses(self, segment: str, function: str) -> None:
        """In the left domain a function goes by itself."""

    async def close(self) -> None:
        """Remove all segments and cabling, and check that nothing is left."""


class SimulatedBench:
    def __init__(self) -> None:
        saps = [
            SapPort(id="uni", encapsulation="ETHERNET", mtu=UNDERLAY_MTU),
            SapPort(id="uni2", encapsulation="ETHERNET", mtu=UNDERLAY_MTU),
            SapPort(id="nni", encapsulation="VXLAN", mtu=TUNNEL_MTU),
            SapPort(id="alt", encapsulation="VXLAN", mtu=TUNNEL_MTU),
            SapPort(id="trunk", encapsulation="VLAN", mtu=UNDERLAY_MTU),
        ]
        self._left, self._right = SimulatedDriver(saps), SimulatedDriver(saps)
        self.left: Driver = self._left
        self.right: Driver = self._right
        for name in ("nni", "alt", "trunk"):
            self._left.join(name, self._right, name)
        self._hosts: dict[str, SimulatedDriver] = {}

    async def customer(
        self, side: str, interfaces: Sequence[str], routes: Sequence[tuple[Prefix, Address]] = (), sap: str = "uni"
    ) -> str:
        host = SimulatedDriver([SapPort(id="wire", encapsulation="ETHERNET", mtu=UNDERLAY_MTU)])
        host.join("wire", self._left if side == "left" else self._right, sap)
        port = Port(name="eth0", network="lan", interfaces=tuple(ip_interface(i) for i in interfaces))
        ways = tuple(Route(ingress="eth0", destination=d, egress="eth0", next_hop=hop) for d, hop in routes)
        await host.apply(
            Blueprint(
                segment="customer",
                networks=(Network(id="lan", mtu=UNDERLAY_MTU),),
                functions=(Function(id="host", implementation="forwarder", ports=(port,), routes=ways),),
                attachments=(Attachment(network="lan", sap="wire", label=0),),
            )
        )
        self._hosts[f"{side}-{sap}"] = host
        return f"{side}-{sap}"

    async def asks(self, near: str, far: str, target: Address, port: int | None) -> bool:
        start = self._hosts[near].station("customer", "host")
        try:
            echo(start, start.port("eth0"), target, 1400, "icmp" if port is None else "tcp", port)
        except Lost:
            return False
        return True

    async def heard(self, near: str, broadcast: IPv4Address) -> Counter[str]:
        start = self._hosts[near].station("customer", "host")
        names = {id(host.station("customer", "host").domain): name for name, host in self._hosts.items()}
        return Counter(names[id(station.domain)] for station, _ in hears(start, start.port("eth0")))

    async def half_finish(self, blueprint: Blueprint) -> None:
        self._left.fail_next("apply", DriverError("power failed"), half_done=True)
        with pytest.raises(DriverError, match="power failed"):
            await self._left.apply(blueprint)

    async def restarted(self) -> Driver:
        return self._left

    def loses(self, segment: str, function: str) -> None:
        self._left.lose(segment, function)

    async def close(self) -> None:
        for driver in (self._left, self._right):
            for segment in {item.segment for item in await driver.inventory()}:
                await driver.remove(segment)
            assert await driver.inventory() == ()


@dataclass(frozen=True)
class _Side:
    name: str
    underlay: dict[str, str]
    far: dict[str, str]


_SIDES = {
    "left": _Side("left", {"nni": "192.0.2.1", "alt": "198.51.100.1"}, {"nni": "192.0.2.2", "alt": "198.51.100.2"}),
    "right": _Side("right", {"nni": "192.0.2.2", "alt": "198.51.100.2"}, {"nni": "192.0.2.1", "alt": "198.51.100.1"}),
}


class LinuxBench:
    """All names begin with or contain `token`, so that benches run side by side."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._others = frozenset(_children())
        """What was started before, by others: a database that tests share."""
        self.lab = Lab(token)
        self._linux: dict[str, LinuxDriver] = {}
        self._hosts: list[str] = []
        try:
            for side in _SIDES.values():
                self.lab.namespace(f"{side.name}-uni")
                for joint in (*side.underlay, "trunk"):
                    self.lab.namespace(f"{side.name}-{joint}")
            for joint in ("nni", "alt"):
                ends = (
                    WireEnd(f"{token}-{s.name}-{joint}", "core0", (ip_interface(f"{s.underlay[joint]}/30"),))
                    for s in _SIDES.values()
                )
                self.lab.wire(*ends, mtu=UNDERLAY_MTU)
            self.lab.wire(*(WireEnd(f"{token}-{name}-trunk", "trunk0") for name in _SIDES), mtu=UNDERLAY_MTU)
            self._linux = {name: LinuxDriver(self.domain(name), self.saps(name)) for name in _SIDES}
        except BaseException:
            self.lab.close()
            raise
        self.left: Driver = self._linux["left"]
        self.right: Driver = self._linux["right"]

    def domain(self, side: str) -> str:
        return f"{self.token}-{side}"

    def saps(self, side: str) -> list[SapPort]:
        there = _SIDES[side]
        tunnels = [
            SapPort(
                id=joint,
                encapsulation="VXLAN",
                mtu=TUNNEL_MTU,
                settings={
                    "namespace": f"{self.token}-{side}-{joint}",
                    "local": there.underlay[joint],
                    "remote": there.far[joint],
                },
            )
            for joint in there.underlay
        ]
        access = [
            SapPort(
                id=uni,
                encapsulation="ETHERNET",
                mtu=UNDERLAY_MTU,
                settings={"namespace": f"{self.token}-{side}-{uni}", "device": "uni0"},
            )
            for uni in ("uni", "uni2")
        ]
        trunk = SapPort(
            id="trunk",
            encapsulation="VLAN",
            mtu=UNDERLAY_MTU,
            settings={"namespace": f"{self.token}-{side}-trunk", "device": "trunk0"},
        )
        return [*tunnels, *access, trunk]

    async def customer(
        self, side: str, interfaces: Sequence[str], routes: Sequence[tuple[Prefix, Address]] = (), sap: str = "uni"
    ) -> str:
        name = f"{side}-{sap}"
        if f"{self.token}-{name}" not in self.lab.namespaces:
            self.lab.namespace(name)
        border = WireEnd(f"{self.token}-{name}", "uni0")
        host = self.lab.host(f"{name}-host", border, [ip_interface(i) for i in interfaces], routes, mtu=UNDERLAY_MTU)
        self._hosts.append(host)
        return host

    async def asks(self, near: str, far: str, target: Address, port: int | None) -> bool:
        if port is None:
            return packets.ping(near, target, size=1400).ok
        return packets.tcp_echo(far, near, target, port=port, size=4000, wait=2.0).ok

    async def heard(self, near: str, broadcast: IPv4Address) -> Counter[str]:
        with ExitStack() as open_:
            ears = {}
            for host in self._hosts:
                ears[host] = open_.enter_context(namespaces.socket_in(host, socket.AF_INET, socket.SOCK_DGRAM))
                ears[host].setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                ears[host].bind(("0.0.0.0", HAIL))
            ears[near].sendto(b"who is there?", (str(broadcast), HAIL))
            found: Counter[str] = Counter()
            while ready := select.select([ear for host, ear in ears.items() if host != near], [], [], QUIET_S)[0]:
                for host, ear in ears.items():
                    if ear in ready:
                        ear.recv(64)
                        found[host] += 1
            return found

    async def half_finish(self, blueprint: Blueprint) -> None:
        await self.left.apply(blueprint)
        for item in await self.left.inventory():
            if item.kind == "namespace" and item.segment == blueprint.segment:
                namespaces.delete(item.name)  # the last to be found is taken away
                break
        namespaces.create(str(NamespaceName(self.domain("left"), blueprint.segment, NETWORK, "never-finished")))

    async def restarted(self) -> Driver:
        self._linux["left"].close()
        self._linux["left"] = LinuxDriver(self.domain("left"), self.saps("left"))
        self.left = self._linux["left"]
        return self.left

    def loses(self, segment: str, function: str) -> None:
        namespaces.delete(self.function("left", segment, function))

    def function(self, side: str, segment: str, function: str) -> str:
        """The namespace of a function."""
        return str(NamespaceName(self.domain(side), segment, "f", function))

    async def close(self) -> None:
        try:
            for driver in self._linux.values():
                for segment in {item.segment for item in await driver.inventory()}:
                    await driver.remove(segment)
                assert await driver.inventory() == ()
        finally:
            for driver in self._linux.values():
                driver.close()
            self.lab.close()
        assert [name for name in namespaces.names() if self.token in name] == []
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("netns")] == []
        assert set(_children()) <= self._others


def _children() -> list[str]:
    """Processes that this one started and that still are."""
    found: list[str] = []
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError), open(f"/proc/self/task/{task}/children") as children:
            found += children.read().split()
    return found


def linux_or_skip(token: str, *, vlans: bool = False) -> LinuxBench:
    """A Linux bench where everything is on offer, VLANs where they are asked for."""
    require_packets(vlans=vlans)
    return LinuxBench(token)


def require_packets(*, vlans: bool = False) -> None:
    """Skip the test where namespaces are not permitted or something is missing; fail it if CI demands packets."""
    try:
        driver = LinuxDriver("require-packets", [])
        driver.close()
        reason = "; ".join(what for what in driver.offer.missing if vlans or not what.startswith(NO_VLAN))
    except DriverError as error:
        reason = str(error)
    if reason:
        if os.environ.get("SPBROKER_REQUIRE_PACKETS") == "1":
            pytest.fail(f"packets are required and cannot be sent: {reason}")
        pytest.skip(reason)


def two_port(
    id: str,
    implementation: str,
    west: tuple[str, str],
    east: tuple[str, str],
    routes: Sequence[Route] = (),
    parameters: dict[str, Any] | None = None,
    extra: Sequence[Port] = (),
) -> Function:
    """A function with ports `west` and `east`, each (network, addresses separated by blanks)."""
    ports = [
        Port(name=name, network=network, interfaces=tuple(ip_interface(i) for i in addresses.split()))
        for name, (network, addresses) in {"west": west, "east": east}.items()
    ]
    return Function(
        id=id,
        implementation=implementation,
        ports=(*ports, *extra),
        routes=tuple(routes),
        parameters=parameters or {},
    )
