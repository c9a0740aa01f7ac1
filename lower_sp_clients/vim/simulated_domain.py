"""A domain in memory, and the walk of a packet through it and through the domains that it is joined to.

Rules enforced here
- A packet goes where the blueprint says and nowhere else: tables of the ingress port, those of its flow first, longest
  prefix, next hop on the egress network, attachments with the same label on both sides of a joint. It is counted wherever
  it passes.
- Outside, it bears the path header of the attachment that it left by, and one that comes with another than is expected is lost.
  Inside it bears the domain's own, of this segment, whose index each function takes one off: nobody outside sees that one.
- It is never fragmented: larger than the MTU of a network on its way, it is lost there.
- A management port neither forwards nor is reached from another port; a function's own packets use all its routes.
- A firewall judges the first packet of a flow; the reply passes where the request was accepted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from lower_sp_clients.vim.driver import Attachment, Blueprint, FlowMatch, Function, Port, PortCounters, Route
from lower_sp_clients.vim.implementations import FIREWALL, METER, firewall_rules
from service_model.path_headers import INDEX_FIRST, Mark

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

HOP_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """What a packet bore (None: no header) in a network of a segment, or where it left by a SAP under a label."""

    where: str
    mark: Mark | None
    outside: bool


@dataclass(eq=False, slots=True)
class Domain:
    """What is built, by segment, the joints of its SAPs to other domains, and what has been counted."""

    built: dict[str, Blueprint] = field(default_factory=dict)
    attached: dict[tuple[str, int], tuple[str, Attachment]] = field(default_factory=dict)
    """By SAP and label: the segment that uses it, and its attachment."""
    joints: dict[str, list[tuple[Domain, str]]] = field(default_factory=dict)
    counted: dict[str, Counter[tuple[str, str, str]]] = field(default_factory=dict)
    """By segment: by function, port and one of the four names of `PortCounters`."""
    values: dict[str, Counter[str]] = field(default_factory=dict)
    """By segment: the functions' own counters."""
    numbers: dict[str, int] = field(default_factory=dict)
    """By segment: the identifier of its own path, even, as long as it is built."""
    unused: list[int] = field(default_factory=list)
    """A heap of the identifiers that were used before, and are not now."""
    seen: deque[Seen] = field(default_factory=lambda: deque(maxlen=10_000))
    """What packets bore, in their order: in its networks, and where they left by its SAPs."""

    def join(self, sap: str, other: Domain, other_sap: str) -> None:
        """Wire a SAP to one of another domain: what leaves here under a label arrives there under the same."""
        self.joints.setdefault(sap, []).append((other, other_sap))
        other.joints.setdefault(other_sap, []).append((self, sap))

    def replace(self, blueprint: Blueprint) -> None:
        """Build a segment; its counters begin at zero."""
        self.forget(blueprint.segment)
        segment = blueprint.segment
        self.built[segment] = blueprint
        for attachment in blueprint.attachments:
            self.attached[attachment.sap, attachment.label] = (segment, attachment)
        self.numbers[segment] = heappop(self.unused) if self.unused else 2 * len(self.built)
        self.counted[segment], self.values[segment] = Counter(), Counter()

    def forget(self, segment: str) -> None:
        blueprint = self.built.pop(segment, None)
        if blueprint is None:
            return
        for attachment in blueprint.attachments:
            del self.attached[attachment.sap, attachment.label]
        heappush(self.unused, self.numbers.pop(segment))
        del self.counted[segment], self.values[segment]

    def holder(self, sap: str, label: int) -> tuple[str, Attachment] | None:
        """The segment that uses a label on a SAP, and its attachment."""
        return self.attached.get((sap, label))

    def port_counters(self, segment: str) -> tuple[PortCounters, ...]:
        counted = self.counted[segment]
        return tuple(
            PortCounters(
                function=function.id,
                port=port.name,
                rx_packets=counted[function.id, port.name, "rx_packets"],
                rx_bytes=counted[function.id, port.name, "rx_bytes"],
                tx_packets=counted[function.id, port.name, "tx_packets"],
                tx_bytes=counted[function.id, port.name, "tx_bytes"],
            )
            for function in self.built[segment].functions
            for port in function.ports
        )


@dataclass(frozen=True, slots=True)
class Station:
    """A function where it is built."""

    domain: Domain
    segment: str
    function: Function

    def owns(self, address: Address) -> bool:
        return any(interface.ip == address for port in self.function.ports for interface in port.interfaces)

    def port(self, name: str) -> Port:
        return next(port for port in self.function.ports if port.name == name)

    def way_to(self, packet: Packet, ingress: str | None) -> tuple[Port, Address] | None:
        """Egress port and next hop for a packet that entered at `ingress`, or is the function's own (None)."""
        if ingress is not None and self.port(ingress).management:
            return None
        flows = [
            r for r in self.function.routes if r.ingress == ingress and r.flow is not None and packet.is_of(r.flow)
        ]
        for named in (True, False):
            ways = {r.destination: (self.port(r.egress), r.next_hop) for r in flows if _names_port(r) is named}
            if (way := _longest(ways, packet.target)) is not None:
                return way
        return _longest(self._ways(packet.target, ingress), packet.target)

    def _ways(self, target: Address, ingress: str | None) -> dict[Prefix, tuple[Port, Address]]:
        """What holds for all packets. Its own go as those of any flow do, where no route is for all."""
        ways: dict[Prefix, tuple[Port, Address]] = {}
        for port in self.function.ports:
            if ingress is None or not port.management:
                for interface in port.interfaces:
                    ways.setdefault(interface.network, (port, target))
        routed: set[Prefix] = set()
        for route in sorted(self.function.routes, key=lambda r: r.flow is not None):
            fits = ingress is None or (ingress == route.ingress and route.flow is None)
            if fits and route.destination not in routed:
                routed.add(route.destination)
                ways[route.destination] = (self.port(route.egress), route.next_hop)
        return ways

    def count(self, port: str, direction: str, size: int) -> None:
        counted = self.domain.counted[self.segment]
        counted[self.function.id, port, f"{direction}_packets"] += 1
        counted[self.function.id, port, f"{direction}_bytes"] += size

    def count_value(self, name: str, size: int) -> None:
        values = self.domain.values[self.segment]
        values[f"{self.function.id}.{name}"] += 1
        values[f"{self.function.id}.{name}_bytes"] += size


def _longest(ways: dict[Prefix, tuple[Port, Address]], target: Address) -> tuple[Port, Address] | None:
    fitting = [prefix for prefix in ways if target in prefix]
    return ways[max(fitting, key=lambda prefix: prefix.prefixlen)] if fitting else None


def _names_port(route: Route) -> bool:
    return route.flow is not None and route.flow.names_port


@dataclass(frozen=True, slots=True)
class Packet:
    """`port` is that of the far station's service: the destination of a request, the source of the reply."""

    target: Address
    size: int
    reply: bool = False
    protocol: str = "icmp"
    port: int | None = None

    def is_of(self, flow: FlowMatch) -> bool:
        return flow.takes(self.protocol, *((None, self.port) if self.reply else (self.port, None)))


class Lost(Exception):
    """The packet went no further; the message says where and why."""


def echo(
    start: Station, port: Port, target: Address, size: int, protocol: str = "icmp", service: int | None = None
) -> None:
    """A packet from a port and one back: an ICMP echo, or a request to a TCP or UDP port `service`. Raises Lost."""
    sources = [interface for interface in port.interfaces if interface.version == target.version]
    if not sources:
        raise Lost(f"port {port.name!r} has no IPv{target.version} address")
    source = next((i.ip for i in sources if target in i.network), sources[0].ip)
    flow = _Flow()
    far = flow.send(start, Packet(target, size, protocol=protocol, port=service), port.name)
    flow.send(far, Packet(source, size, reply=True, protocol=protocol, port=service), None)


def hears(start: Station, port: Port) -> Iterator[tuple[Station, Port]]:
    """Who else gets a broadcast that leaves by a port, each as often as it comes there."""
    for station, other, _, _ in _neighbours(start.domain, start.segment, port.network):
        itself = station.domain is start.domain and station.segment == start.segment
        if not itself or (station.function.id, other.name) != (start.function.id, port.name):
            yield station, other


class _Flow:
    """One echo: remembers which firewalls accepted it (their connection tracking)."""

    def __init__(self) -> None:
        self._accepted_by: set[tuple[int, str, str]] = set()

    def send(self, origin: Station, packet: Packet, only_by: str | None) -> Station:
        """The station that the packet reaches. `only_by`: the port that it must leave the origin by."""
        here, ingress, index = origin, None, INDEX_FIRST
        for _ in range(HOP_LIMIT):
            if here.owns(packet.target):
                return here
            way = here.way_to(packet, ingress)
            if way is None or (ingress is None and only_by not in (None, way[0].name)):
                raise Lost(f"{here.function.id}: no route to {packet.target}")
            egress, next_hop = way
            if ingress is not None:
                self._pass_function(here, ingress, packet)
                index -= 1
            there, ingress = _cross(here, egress, next_hop, packet, index)
            if (there.domain, there.segment) != (here.domain, here.segment):
                index = INDEX_FIRST
            here = there
        raise Lost(f"{packet.target}: more than {HOP_LIMIT} hops")

    def _pass_function(self, here: Station, ingress: str, packet: Packet) -> None:
        if here.function.implementation == METER:
            here.count_value(f"{ingress}.{packet.protocol}", packet.size)
        if here.function.implementation != FIREWALL:
            return
        key = (id(here.domain), here.segment, here.function.id)
        known = packet.reply and key in self._accepted_by
        if not known and not firewall_rules(here.function.parameters).accepts(packet.protocol, packet.port):
            here.count_value("dropped", packet.size)
            raise Lost(f"{here.function.id}: dropped")
        self._accepted_by.add(key)
        here.count_value("accepted", packet.size)


def _cross(here: Station, egress: Port, next_hop: Address, packet: Packet, index: int) -> tuple[Station, str]:
    """Over one broadcast domain to whoever has the next hop; the station and the port of entry. `index`: of the segment's own
    path, as far as it has come there."""
    network = next(n for n in here.domain.built[here.segment].networks if n.id == egress.network)
    if packet.size > network.mtu:
        raise Lost(f"{here.function.id}: {packet.size} bytes do not fit the MTU {network.mtu} of {network.id}")
    for station, port, mtu, trail in _neighbours(here.domain, here.segment, egress.network):
        if any(interface.ip == next_hop for interface in port.interfaces):
            here.count(egress.name, "tx", packet.size)
            if packet.size > mtu:
                raise Lost(f"{here.function.id}: {packet.size} bytes are lost on a network of MTU {mtu}")
            _bear(here.domain, here.segment, egress.network, index)
            for crossing in trail:
                crossing.pass_on()
            station.count(port.name, "rx", packet.size)
            return station, port.name
    raise Lost(f"{here.function.id}: nobody answers for {next_hop} on {egress.network}")


def _bear(domain: Domain, segment: str, network: str, index: int) -> None:
    """What a packet bears inside a segment: the domain's own path, where there is one outside."""
    if any(a.leaving is not None for a in domain.built[segment].attachments):
        mark = Mark(domain.numbers[segment], index)
        domain.seen.append(Seen(f"{segment}/{network}", mark, outside=False))


@dataclass(frozen=True, slots=True)
class _Crossing:
    """From one domain's attachment to the other's, into a network of a segment there."""

    near: Domain
    left_by: Attachment
    far: Domain
    segment: str
    entered_by: Attachment

    def pass_on(self) -> None:
        """A packet takes off what it bore inside and bears what the path has here. Raises Lost."""
        mark, expected = self.left_by.leaving, self.entered_by.entering
        self.near.seen.append(Seen(f"{self.left_by.sap}:{self.left_by.label}", mark, outside=True))
        if mark != expected:
            raise Lost(f"{self.entered_by.sap}: a packet bears {mark or 'no header'}, {expected or 'none'} is expected")
        _bear(self.far, self.segment, self.entered_by.network, INDEX_FIRST)


def _neighbours(
    domain: Domain, segment: str, network: str
) -> Iterator[tuple[Station, Port, int, tuple[_Crossing, ...]]]:
    """Every port of the broadcast domain that the network is part of, the least MTU on the way to it, and where that crosses
    from one domain to another."""
    waiting: list[tuple[Domain, str, str, int | None, tuple[_Crossing, ...]]] = [(domain, segment, network, None, ())]
    seen: set[tuple[int, str, str]] = set()
    while waiting:
        at, owner, name, so_far, trail = waiting.pop()
        if (id(at), owner, name) in seen:
            continue
        seen.add((id(at), owner, name))
        blueprint = at.built[owner]
        here = next(n.mtu for n in blueprint.networks if n.id == name)
        mtu = here if so_far is None else min(so_far, here)
        for function in blueprint.functions:
            for port in function.ports:
                if port.network == name:
                    yield Station(at, owner, function), port, mtu, trail
        for attachment in blueprint.attachments:
            if attachment.network == name:
                for far, far_sap in at.joints.get(attachment.sap, ()):
                    held = far.holder(far_sap, attachment.label)
                    if held is not None:
                        crossing = _Crossing(at, attachment, far, held[0], held[1])
                        waiting.append((far, held[0], held[1].network, mtu, (*trail, crossing)))
