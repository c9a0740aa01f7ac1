"""The interface to write for a new kind of infrastructure: six methods and what it offers.

A driver is declarative and idempotent: `apply` makes the infrastructure equal to the blueprint whatever was there before
(also after a crash half-way), `remove` of what is not there succeeds, `inventory` finds everything by tag so that nothing
is forgotten, and `losses` tells what went by itself. It keeps no state of its own that a restart would lose.

A blueprint is what one segment needs in one domain
- a *network* is one broadcast domain; its members are function ports and attachments. Two members: a point-to-point link;
- an *attachment* joins a network to a SAP of the domain under a label (0 = untagged). A network of two attachments and
  no port is a transit. Where it says so, packets bear a path header outside: another one for what leaves than for what enters;
- a *function* has ports with addresses and forwards at layer 3 between its data ports: one routing table per ingress port
  (so that several paths may share it), and the same routes for packets it originates (ICMP errors). A route of a flow is
  for its packets alone, and wins over one for all; one that names a port wins over one of the protocol. A management
  port does not forward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Protocol

from service_model.path_headers import Mark


class DriverError(Exception):
    """The infrastructure refused or failed; the message names the object. `apply` may be called again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A function's port on a network. `name` is the port of the spec (`input`); `network` an id in the blueprint; `mac` the
    hardware address that it must have (`02:00:00:00:00:10`), empty: the driver's choice."""

    name: str
    network: str
    interfaces: tuple[IPv4Interface | IPv6Interface, ...] = ()
    management: bool = False
    mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowMatch:
    """Packets of one protocol, with one port where one is named: a request has it as destination, the reply as source.

    `protocol`: `icmp` (of the packet's family), `tcp` or `udp`.
    """

    protocol: str
    destination_port: int | None = None
    source_port: int | None = None

    @property
    def names_port(self) -> bool:
        return self.destination_port is not None or self.source_port is not None

    def takes(self, protocol: str, destination_port: int | None, source_port: int | None) -> bool:
        """Whether a packet of this protocol and these ports is of the flow."""
        return (
            protocol == self.protocol
            and self.destination_port in (None, destination_port)
            and self.source_port in (None, source_port)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Packets that entered at `ingress` for `destination` leave by `egress` to `next_hop`: those of `flow`, or all (None)."""

    ingress: str
    destination: IPv4Network | IPv6Network
    egress: str
    next_hop: IPv4Address | IPv6Address
    flow: FlowMatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """`implementation` is one of the driver's (`forwarder`, `firewall`, …); `parameters` are its own."""

    id: str
    implementation: str
    ports: tuple[Port, ...]
    routes: tuple[Route, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One broadcast domain of the segment, with the MTU (bytes of IP packet) of every member."""

    id: str
    mtu: int
    lan: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    network: str
    sap: str
    label: int
    leaving: Mark | None = None
    entering: Mark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """Everything that one segment needs here. `segment` is unique in the domain (letters, digits, hyphen; ≤ 63)."""

    segment: str
    networks: tuple[Network, ...]
    functions: tuple[Function, ...] = ()
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One object that the driver made: `segment` from its tag, `kind` (`namespace`, `interface`, …) and `name`. `sap`, `label`:
    of an attachment, which SAP it is at and under which label, where the driver can tell."""

    segment: str
    kind: str
    name: str
    sap: str = ""
    label: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A part of a segment that went by itself, or is not as it was built. `function`: which; empty for what joins them. `what`
    goes on from "lost: "."""

    what: str
    function: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCounters:
    """Packets and bytes that entered and left one port since it was made."""

    function: str
    port: str
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    ports: tuple[PortCounters, ...]
    values: Mapping[str, float] = field(default_factory=dict)
    """Counters of the functions' own, `function.counter` (`fw.dropped`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePath:
    """From a function's port to an address: does a packet of `size` bytes (IP, not fragmented) come back?"""

    segment: str
    function: str
    port: str
    target: IPv4Address | IPv6Address
    size: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SapPort:
    """Configuration of a SAP in the domain, for the driver: where its device is made, and its tunnel end points."""

    id: str
    encapsulation: str
    """`ETHERNET`, `VLAN` or `VXLAN`."""
    mtu: int
    """Bytes of IP packet that a service may send through the SAP."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The driver's own words, from the domain's configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverOffer:
    """What the driver can really do on this machine, found at start: nothing else is announced."""

    implementations: frozenset[str]
    encapsulations: frozenset[str]
    lan: bool
    probes: bool
    path_headers: frozenset[str] = frozenset()
    """The SAPs where packets may bear them."""
    missing: tuple[str, ...] = ()
    """What it cannot offer here, each with its reason, for the operator."""
    versions: frozenset[int] = frozenset({4, 6})
    """IP versions that ports may have addresses of."""


class Driver(Protocol):
    """All methods may be called again with the same arguments; calls for one segment never overlap."""

    @property
    def offer(self) -> DriverOffer: ...

    def check_parameters(self, implementation: str, parameters: Mapping[str, Any]) -> None:
        """Raise ValueError naming the parameter that this implementation does not understand."""

    async def apply(self, blueprint: Blueprint) -> None: ...

    async def remove(self, segment: str) -> None: ...

    async def inventory(self) -> tuple[Item, ...]: ...

    async def losses(self, blueprints: Sequence[Blueprint]) -> Mapping[str, tuple[Loss, ...]]:
        """Of segments that were built by these: what is lost, by segment; nothing of those that are whole. `apply` brings
        it back. A parameter that is asked for otherwise by now is no loss. Raises DriverError where it cannot be seen, also
        where nothing is asked for: nothing is known to be lost then."""

    async def measure(self, segment: str) -> Measurement: ...

    async def probe(self, path: ProbePath) -> ProbeResult: ...
