"""From a blueprint to kernel objects, as a value: which namespaces, devices, addresses, tables. Pure.

Rules enforced here
- Two members, both ports: a veth pair between the functions. A port and a VXLAN attachment: the VXLAN device *is* the
  port. A port and an ETHERNET attachment: a veth from the port to a bridge beside the access device; and a VLAN one: a
  veth from the port to a member beside the trunk. Where packets bear a path header outside, a namespace is between.
  All else (LAN, transit): a namespace with one bridge.
- Each ingress port has a table: the function's routes for it, the connected prefixes of all data ports, and then
  `unreachable`, so a packet never falls through to another path's routes. A management port's table is
  `unreachable` alone. Each flow at a port has a table of its own before that one, with the flow's routes alone; those of
  flows that name a port come first. The kernel sees no ports in later fragments: these go as packets of the protocol do.
- A port's hardware address is the one that was chosen; else it follows from its addresses, as VRRP's does (RFC 9568, 7.3):
  a function that is rebuilt, here or in another domain, is reached at once. Two ports of one broadcast domain share no
  address, so they share none here.
- Packets that the function originates (ICMP errors, probes) use the main table, which holds the same routes. Where two
  ingress ports send one destination different ways, the first in the blueprint wins there, and a flow's only where no
  route is for all packets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from lower_sp_clients.vim.driver import (
    Attachment,
    Blueprint,
    DriverError,
    FlowMatch,
    Function,
    Network,
    Port,
    Route,
)
from lower_sp_clients.vim.implementations import (
    FIREWALL,
    METER,
    SHAPER,
    FirewallRules,
    ShaperRate,
    firewall_rules,
    shaper_rate,
)
from lower_sp_clients.vim.linux import naming
from lower_sp_clients.vim.linux.saps import HEADER_OVERHEAD, Border, EthernetBorder, VlanBorder, VxlanBorder
from service_model.path_headers import Mark

FIRST_FLOW_TABLE = 1000
FIRST_TABLE = 10_000
"""Rules are tried in the order of their tables."""


@dataclass(frozen=True, slots=True)
class DeviceEnd:
    """A device: the namespace that it is in, and its name there."""

    namespace: str
    device: str


@dataclass(frozen=True, slots=True)
class Wire:
    """A veth pair. `split`: what leaves by `a` has been split into what the MTU carries."""

    a: DeviceEnd
    b: DeviceEnd
    mtu: int
    split: bool = False


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A VXLAN device at `end`, whose underlay is the border's namespace."""

    end: DeviceEnd
    border: VxlanBorder
    attachment: Attachment
    mtu: int


@dataclass(frozen=True, slots=True)
class AccessBridge:
    """A bridge in a border namespace that joins the access device and the veth `member` to the service."""

    border: EthernetBorder
    attachment: Attachment
    bridge: str
    member: str
    mtu: int


@dataclass(frozen=True, slots=True)
class TrunkPort:
    """The veth `member` in a border namespace whose frames go over the trunk device, tagged."""

    border: VlanBorder
    attachment: Attachment
    member: str
    mtu: int


@dataclass(frozen=True, slots=True)
class FlowTable:
    """The routes of one flow at one ingress port."""

    table: int
    flow: FlowMatch
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class PlannedPort:
    """A function's port: `table` is where packets that enter here are routed, after those of `flows`."""

    index: int
    name: str
    device: str
    management: bool
    interfaces: tuple[IPv4Interface | IPv6Interface, ...]
    routes: tuple[Route, ...]
    flows: tuple[FlowTable, ...] = ()
    mac: str = ""

    @property
    def table(self) -> int:
        return FIRST_TABLE + self.index

    @property
    def hardware_address(self) -> str | None:
        """As chosen, or derived from its addresses: whoever takes them over is already known to the neighbours' ARP tables."""
        if self.mac:
            return self.mac
        return naming.hardware_address(" ".join(map(str, self.interfaces))) if self.interfaces else None


@dataclass(frozen=True, slots=True)
class FunctionSpace:
    """A function's namespace. `routes` is for the main table; `egress` maps port names to devices."""

    name: str
    ports: tuple[PlannedPort, ...]
    routes: tuple[Route, ...]
    firewall: FirewallRules | None = None
    rate: ShaperRate | None = None
    metered: bool = False


@dataclass(frozen=True, slots=True)
class BridgeSpace:
    """A network's namespace: one bridge and the devices that join it."""

    name: str
    members: tuple[str, ...]
    mtu: int


@dataclass(frozen=True, slots=True)
class HeaderSpace:
    """The namespace between a segment and a SAP, where path headers are put on and taken off."""

    name: str
    leaving: Mark
    entering: Mark


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    segment: str
    functions: tuple[FunctionSpace, ...]
    bridges: tuple[BridgeSpace, ...]
    wires: tuple[Wire, ...]
    tunnels: tuple[Tunnel, ...]
    accesses: tuple[AccessBridge, ...]
    trunks: tuple[TrunkPort, ...] = ()
    headers: tuple[HeaderSpace, ...] = ()

    @property
    def spaces(self) -> tuple[FunctionSpace | BridgeSpace | HeaderSpace, ...]:
        return (*self.functions, *self.bridges, *self.headers)

    @property
    def namespaces(self) -> frozenset[str]:
        return frozenset(space.name for space in self.spaces)

    @property
    def digest(self) -> str:
        """Equal for equal plans: what a namespace is marked with when it is complete."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:32]


def plan(domain: str, blueprint: Blueprint, borders: Mapping[str, Border]) -> SegmentPlan:
    """The kernel objects of a blueprint that has passed `check_blueprint`. Raises DriverError when names clash."""
    weaver = _Weaver(domain, blueprint, borders)
    for network in blueprint.networks:
        weaver.weave(network)
    return SegmentPlan(
        segment=blueprint.segment,
        functions=tuple(_space(domain, blueprint.segment, function) for function in blueprint.functions),
        bridges=tuple(weaver.bridges),
        wires=tuple(weaver.wires),
        tunnels=tuple(weaver.tunnels),
        accesses=tuple(weaver.accesses),
        trunks=tuple(weaver.trunks),
        headers=tuple(weaver.headers),
    )


def _space(domain: str, segment: str, function: Function) -> FunctionSpace:
    name = str(naming.NamespaceName(domain, segment, naming.FUNCTION, function.id))
    flows = _flow_tables(function)
    ports = tuple(
        PlannedPort(
            index=index,
            name=port.name,
            device=naming.device_name(port.name),
            management=port.management,
            interfaces=port.interfaces,
            routes=tuple(r for r in function.routes if r.ingress == port.name and r.flow is None),
            flows=tuple(table for table in flows if table.routes[0].ingress == port.name),
            mac=port.mac,
        )
        for index, port in enumerate(function.ports)
    )
    if len({port.device for port in ports}) != len(ports):
        raise DriverError(f"function {function.id!r}: two ports would have the same device name")
    own: dict[object, Route] = {}
    for route in sorted(function.routes, key=lambda r: r.flow is not None):
        own.setdefault(route.destination, route)
    return FunctionSpace(
        name=name,
        ports=ports,
        routes=tuple(own.values()),
        firewall=firewall_rules(function.parameters) if function.implementation == FIREWALL else None,
        rate=shaper_rate(function.parameters) if function.implementation == SHAPER else None,
        metered=function.implementation == METER,
    )


def _flow_tables(function: Function) -> tuple[FlowTable, ...]:
    by_flow: dict[tuple[bool, str, FlowMatch], list[Route]] = {}
    for route in function.routes:
        if route.flow is not None:
            by_flow.setdefault((not route.flow.names_port, route.ingress, route.flow), []).append(route)
    order = sorted(by_flow, key=lambda key: key[:2])
    return tuple(
        FlowTable(table=FIRST_FLOW_TABLE + n, flow=key[2], routes=tuple(by_flow[key])) for n, key in enumerate(order)
    )


class _Weaver:
    """Collects what joins the members of each network."""

    def __init__(self, domain: str, blueprint: Blueprint, borders: Mapping[str, Border]) -> None:
        self._domain = domain
        self._blueprint = blueprint
        self._borders = borders
        self.bridges: list[BridgeSpace] = []
        self.wires: list[Wire] = []
        self.tunnels: list[Tunnel] = []
        self.accesses: list[AccessBridge] = []
        self.trunks: list[TrunkPort] = []
        self.headers: list[HeaderSpace] = []

    def weave(self, network: Network) -> None:
        ports = [self._port_end(f, p) for f in self._blueprint.functions for p in f.ports if p.network == network.id]
        attachments = [a for a in self._blueprint.attachments if a.network == network.id]
        if len(ports) == 2 and not attachments:
            self.wires.append(Wire(ports[0], ports[1], network.mtu))
        elif len(ports) == 1 and len(attachments) == 1:
            self._attach(ports[0], attachments[0], network.mtu)
        else:
            self._bridge(network, ports, attachments)

    def _port_end(self, function: Function, port: Port) -> DeviceEnd:
        space = naming.NamespaceName(self._domain, self._blueprint.segment, naming.FUNCTION, function.id)
        return DeviceEnd(str(space), naming.device_name(port.name))

    def _attach(self, end: DeviceEnd, attachment: Attachment, mtu: int) -> None:
        border = self._borders[attachment.sap]
        if attachment.leaving is not None and attachment.entering is not None:
            at = f"{attachment.sap}.{attachment.label}"
            name = str(naming.NamespaceName(self._domain, self._blueprint.segment, naming.HEADER, at))
            self.headers.append(HeaderSpace(name, attachment.leaving, attachment.entering))
            self.wires.append(Wire(end, DeviceEnd(name, naming.INSIDE), mtu, split=True))
            end, mtu = DeviceEnd(name, naming.OUTSIDE), mtu + HEADER_OVERHEAD
            if isinstance(border, VlanBorder):
                end = self._bridged(end, at, mtu)
        if isinstance(border, VxlanBorder):
            self.tunnels.append(Tunnel(end, border, attachment, mtu))
            return
        segment = self._blueprint.segment
        if isinstance(border, VlanBorder):
            member = naming.border_device(self._domain, segment, f"{border.sap}/{attachment.label}", "v")
            self.trunks.append(TrunkPort(border, attachment, member, mtu))
            self.wires.append(Wire(end, DeviceEnd(border.namespace, member), mtu))
            return
        bridge = naming.border_device(self._domain, segment, border.sap, "b")
        member = naming.border_device(self._domain, segment, border.sap, "v")
        self.accesses.append(AccessBridge(border, attachment, bridge, member, mtu))
        self.wires.append(Wire(end, DeviceEnd(border.namespace, member), mtu))

    def _bridged(self, end: DeviceEnd, at: str, mtu: int) -> DeviceEnd:
        """The far side of a bridge: no program sees what a filter has sent on until it came through one (`skb_is_redirected`)."""
        name = str(naming.NamespaceName(self._domain, self._blueprint.segment, naming.HEADER, f"{at}.trunk"))
        self.bridges.append(BridgeSpace(name, ("header", "trunk"), mtu))
        self.wires.append(Wire(DeviceEnd(name, "header"), end, mtu))
        return DeviceEnd(name, "trunk")

    def _bridge(self, network: Network, ports: list[DeviceEnd], attachments: list[Attachment]) -> None:
        name = str(naming.NamespaceName(self._domain, self._blueprint.segment, naming.NETWORK, network.id))
        members: list[str] = []
        for index, port in enumerate(ports):
            members.append(f"port{index}")
            self.wires.append(Wire(DeviceEnd(name, members[-1]), port, network.mtu))
        for index, attachment in enumerate(attachments):
            members.append(f"sap{index}")
            self._attach(DeviceEnd(name, members[-1]), attachment, network.mtu)
        self.bridges.append(BridgeSpace(name, tuple(members), network.mtu))
