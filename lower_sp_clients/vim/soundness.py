"""What every infrastructure would refuse about a blueprint, found before anything is touched.

Rules enforced here (each error names the culprit)
- Identifiers are unique and can be names of objects; networks, ports and SAPs that are referred to exist.
- A network that is no LAN joins at most two members; an address is used once on a network, and so is a hardware address, which
  is that of one port.
- A label is used once per SAP; ETHERNET SAPs carry untagged frames only, VLAN SAPs an id of 1-4094, VXLAN SAPs a VNI of
  1-16777215.
- Ports have addresses of the IP versions that the driver offers.
- A network's MTU fits through the SAPs that it is attached to, and IPv6 needs 1280 bytes (RFC 8200, 5).
- A route goes between data ports of its function, and its next hop is on a prefix of its egress port;
  there is one way from an ingress port to a destination, for all packets and for those of each flow.
- An implementation is one that the driver offers, with parameters that it understands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from address_planner.labels import LABEL_MAX, UNTAGGED, VLAN_MAX
from address_planner.macs import INDIVIDUAL, Mac, MacError
from lower_sp_clients.vim.driver import (
    Attachment,
    Blueprint,
    DriverError,
    FlowMatch,
    Function,
    Network,
    Route,
    SapPort,
)
from lower_sp_clients.vim.implementations import PROTOCOLS

IPV6_LEAST_MTU = 1280
ETHERNET = "ETHERNET"
VLAN = "VLAN"
VXLAN = "VXLAN"
ENCAPSULATIONS = frozenset({ETHERNET, VLAN, VXLAN})
PORTED = ("tcp", "udp")

_SEGMENT = re.compile(r"[A-Za-z0-9-]{1,63}")
_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,125}[A-Za-z0-9])?")


def check_blueprint(
    blueprint: Blueprint,
    saps: Mapping[str, SapPort],
    implementations: frozenset[str],
    check_parameters: Callable[[str, Mapping[str, Any]], None],
    versions: Collection[int] = (4, 6),
    *,
    headed: Collection[str],
) -> None:
    """Raise DriverError naming what cannot be built in a domain of these SAPs, implementations and IP versions, whose packets
    bear path headers at the SAPs `headed`."""
    if not _SEGMENT.fullmatch(blueprint.segment):
        raise DriverError(f"segment {blueprint.segment!r} is not 1-63 letters, digits or hyphens")
    networks = {network.id: network for network in blueprint.networks}
    _identifiers("network", (n.id for n in blueprint.networks))
    _identifiers("function", (f.id for f in blueprint.functions))
    for function in blueprint.functions:
        _check_function(function, networks, implementations, check_parameters)
        foreign = [(p.name, i) for p in function.ports for i in p.interfaces if i.version not in versions]
        for port, interface in foreign:
            culprit = f"function {function.id!r}: port {port!r}"
            raise DriverError(f"{culprit} has {interface.ip}, and there is no IPv{interface.version} here")
    for attachment in blueprint.attachments:
        _check_attachment(attachment, networks, saps)
        if attachment.sap not in headed and (attachment.leaving or attachment.entering):
            raise DriverError(f"attachment to SAP {attachment.sap!r}: packets bear no path headers there")
        if (attachment.leaving is None) is not (attachment.entering is None):
            raise DriverError(f"attachment to SAP {attachment.sap!r}: packets bear a path header one way only")
    _check_labels(blueprint)
    for network in blueprint.networks:
        _check_network(network, blueprint)


def sap_of(attachment: Attachment, saps: Mapping[str, SapPort]) -> SapPort:
    """The SAP of an attachment. Raises DriverError when the domain has none of that name."""
    if attachment.sap not in saps:
        raise DriverError(f"unknown SAP {attachment.sap!r} in an attachment of network {attachment.network!r}")
    return saps[attachment.sap]


def _identifiers(kind: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if not _ID.fullmatch(name):
            raise DriverError(f"{kind} {name!r} is not an identifier")
        if name in seen:
            raise DriverError(f"{kind} {name!r} is there twice")
        seen.add(name)


def _check_function(
    function: Function,
    networks: Mapping[str, Network],
    implementations: frozenset[str],
    check_parameters: Callable[[str, Mapping[str, Any]], None],
) -> None:
    where = f"function {function.id!r}"
    if function.implementation not in implementations:
        raise DriverError(f"{where}: unknown implementation {function.implementation!r}")
    try:
        check_parameters(function.implementation, function.parameters)
    except ValueError as error:
        raise DriverError(f"{where}: {error}") from error
    _identifiers(f"{where}: port", (p.name for p in function.ports))
    for port in function.ports:
        if port.network not in networks:
            raise DriverError(f"{where}: port {port.name!r} is on unknown network {port.network!r}")
        mtu = networks[port.network].mtu
        if mtu < IPV6_LEAST_MTU and any(i.version == 6 for i in port.interfaces):
            raise DriverError(f"{where}: port {port.name!r} has IPv6 on a network of MTU {mtu}, less than 1280")
    data = {port.name: port for port in function.ports if not port.management}
    ways: dict[tuple[str, object, FlowMatch | None], Route] = {}
    for route in function.routes:
        for end in (route.ingress, route.egress):
            if end not in data:
                raise DriverError(f"{where}: route to {route.destination} names {end!r}, which is no data port of it")
        if route.next_hop.version != route.destination.version:
            raise DriverError(
                f"{where}: route to {route.destination} has a next hop {route.next_hop} of another version"
            )
        if ways.setdefault((route.ingress, route.destination, route.flow), route) != route:
            raise DriverError(f"{where}: two ways from {route.ingress!r} to {route.destination}")
        if route.flow is not None and route.flow.protocol not in (PORTED if route.flow.names_port else PROTOCOLS):
            raise DriverError(f"{where}: route to {route.destination}: no flow of protocol {route.flow.protocol!r}")
        if not any(route.next_hop in interface.network for interface in data[route.egress].interfaces):
            raise DriverError(
                f"{where}: next hop {route.next_hop} of the route to {route.destination} "
                f"is on no prefix of port {route.egress!r}"
            )


def _check_attachment(attachment: Attachment, networks: Mapping[str, Network], saps: Mapping[str, SapPort]) -> None:
    sap = sap_of(attachment, saps)
    if attachment.network not in networks:
        raise DriverError(f"attachment to SAP {sap.id!r} is on unknown network {attachment.network!r}")
    network = networks[attachment.network]
    if network.mtu > sap.mtu:
        raise DriverError(f"network {network.id!r} has MTU {network.mtu}; SAP {sap.id!r} carries {sap.mtu}")
    if sap.encapsulation == ETHERNET and attachment.label != UNTAGGED:
        raise DriverError(f"SAP {sap.id!r} carries untagged frames only, not label {attachment.label}")
    if sap.encapsulation == VLAN and not 0 < attachment.label <= VLAN_MAX:
        raise DriverError(f"label {attachment.label} on SAP {sap.id!r} is no VLAN id")
    if sap.encapsulation == VXLAN and not 0 < attachment.label <= LABEL_MAX:
        raise DriverError(f"label {attachment.label} on SAP {sap.id!r} is no VNI")


def _check_labels(blueprint: Blueprint) -> None:
    seen: set[tuple[str, int]] = set()
    for attachment in blueprint.attachments:
        key = (attachment.sap, attachment.label)
        if key in seen:
            raise label_in_use(attachment)
        seen.add(key)


def label_in_use(attachment: Attachment) -> DriverError:
    return DriverError(f"label {attachment.label} on SAP {attachment.sap!r} is in use")


def _check_network(network: Network, blueprint: Blueprint) -> None:
    ports = [(f.id, p) for f in blueprint.functions for p in f.ports if p.network == network.id]
    members = len(ports) + sum(a.network == network.id for a in blueprint.attachments)
    if members == 0:
        raise DriverError(f"network {network.id!r} has no members")
    if members > 2 and not network.lan:
        raise DriverError(f"network {network.id!r} is no LAN and has {members} members")
    seen: dict[object, str] = {}
    for function, port in ports:
        for interface in port.interfaces:
            if interface.ip in seen:
                raise DriverError(
                    f"address {interface.ip} is on both {seen[interface.ip]} and {function}:{port.name} "
                    f"of network {network.id!r}"
                )
            seen[interface.ip] = f"{function}:{port.name}"
        if port.mac:
            _check_mac(port.mac, f"{function}:{port.name}")
            if port.mac in seen:
                raise DriverError(
                    f"hardware address {port.mac} is on both {seen[port.mac]} and {function}:{port.name} "
                    f"of network {network.id!r}"
                )
            seen[port.mac] = f"{function}:{port.name}"


def _check_mac(mac: str, where: str) -> None:
    try:
        individual = Mac.parse(mac).number in INDIVIDUAL
    except MacError as error:
        raise DriverError(f"{where}: {error}") from error
    if not individual:
        raise DriverError(f"{where}: {mac} is no hardware address of one port")
