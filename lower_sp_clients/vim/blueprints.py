"""From a segment and its bindings to the blueprint that a driver builds. Pure.

Rules kept here
- A function's ingress decides its way on: from the path, what enters at the port towards one end leaves by the other,
  to the far port of that adjacency, for every prefix that lies beyond (`reach`). So replies take the path in reverse.
- What is on the link itself needs no route. A prefix is reached by the far port's address of its own family.
- Where paths part, a path's flows tell its packets: by the port as destination towards the path's last end, as source on
  the way back. Where all that lead to a prefix go the same way, that is the way of every packet for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from address_planner.prefixes import inside
from lower_sp_clients.vim.domain import Domain
from lower_sp_clients.vim.driver import (
    Attachment,
    Blueprint,
    FlowMatch,
    Function,
    Network,
    Port,
    ProbePath,
    Route,
)
from service_model.outcomes import Bindings, LinkChoice, Stack
from service_model.spec import End, LinkKind, ServiceFunctionPath, ServiceSpec, VirtualLink, split_point
from service_model.words import Address, Prefix


def blueprint(domain: Domain, segment: str, spec: ServiceSpec, bindings: Bindings) -> Blueprint:
    """`segment` is the name in the domain; `bindings` must name every label, prefix and address of the spec's links."""
    ends = {end.id: end for end in spec.ends}
    chosen = {link.id: bindings.link(link.id) or LinkChoice(link=link.id) for link in spec.links}
    return Blueprint(
        segment=segment,
        networks=tuple(
            Network(id=link.id, mtu=chosen[link.id].mtu or spec.min_mtu, lan=link.kind is LinkKind.LAN)
            for link in spec.links
        ),
        functions=tuple(
            Function(
                id=f.id,
                implementation=_implementation(domain, spec, f.id),
                ports=tuple(_ports(spec, chosen, f.id)),
                routes=tuple(dict.fromkeys(_routes(spec, bindings, chosen, f.id))),
                parameters=parameters(domain, spec, f.id),
            )
            for f in spec.functions
        ),
        attachments=tuple(
            _attachment(spec, bindings, link.id, ends[point])
            for link in spec.links
            for point in link.points
            if point in ends
        ),
    )


def _attachment(spec: ServiceSpec, bindings: Bindings, network: str, end: End) -> Attachment:
    bare = Attachment(network=network, sap=end.sap, label=bindings.labels[end.id])
    header = bindings.path_headers.get(end.id)
    if header is None:
        return bare
    last = any(path.hops[-1] == end.id for path in spec.paths)
    leaving, entering = (header.forth, header.back) if last else (header.back, header.forth)
    return replace(bare, leaving=leaving, entering=entering)


def parameters(domain: Domain, spec: ServiceSpec, function: str) -> Mapping[str, Any]:
    """The function's parameters: the catalogue's defaults, replaced key by key by the spec's."""
    request = spec.function(function)
    offer = domain.function(request.type)
    return {**(offer.parameters if offer else {}), **request.parameters}


def _implementation(domain: Domain, spec: ServiceSpec, function: str) -> str:
    offer = domain.function(spec.function(function).type)
    assert offer is not None, "the catalogue still has every type that is held"
    return offer.implementation


def _ports(spec: ServiceSpec, chosen: Mapping[str, LinkChoice], function: str) -> Iterator[Port]:
    for link in spec.links:
        for point in link.points:
            owner, name = split_point(point)
            if owner == function and name:
                yield Port(
                    name=name,
                    network=link.id,
                    interfaces=_interfaces(chosen[link.id], point),
                    management=link.kind is LinkKind.LAN,
                    mac=str(chosen[link.id].macs.get(point, "")),
                )


def _interfaces(choice: LinkChoice, point: str) -> tuple[IPv4Interface | IPv6Interface, ...]:
    return tuple(
        ip_interface(f"{address}/{stack.prefix.prefixlen}")
        for stack in choice.stacks
        if stack.prefix is not None and (address := stack.addresses.get(point)) is not None
    )


def _link_of(spec: ServiceSpec, point: str) -> VirtualLink:
    return next(link for link in spec.links if point in link.points)


@dataclass(frozen=True, slots=True)
class _Way:
    """How one path leads on from an ingress of a function: back is towards its first end."""

    path: ServiceFunctionPath
    back: bool
    ingress: str
    egress: str
    next_hop: Address


def _routes(spec: ServiceSpec, bindings: Bindings, chosen: Mapping[str, LinkChoice], function: str) -> Iterator[Route]:
    ways: dict[tuple[str, Prefix], list[_Way]] = {}
    for way, destinations in _ways(spec, bindings, chosen, function):
        for destination in destinations:
            ways.setdefault((way.ingress, destination), []).append(way)
    for (ingress, destination), found in ways.items():
        parts = len({(way.egress, way.next_hop) for way in found}) > 1
        for way in found:
            for flow in _flows(way) if parts else [None]:
                yield Route(
                    ingress=ingress, destination=destination, egress=way.egress, next_hop=way.next_hop, flow=flow
                )


def _ways(
    spec: ServiceSpec, bindings: Bindings, chosen: Mapping[str, LinkChoice], function: str
) -> Iterator[tuple[_Way, list[Prefix]]]:
    """Each path's way on from each ingress of the function, and the prefixes that it leads to."""
    for path in spec.paths:
        first, last = path.hops[0], path.hops[-1]
        for into, out in zip(path.hops[1:-1:2], path.hops[2:-1:2], strict=True):
            if split_point(into)[0] != function:
                continue
            for back, ingress, egress, end in ((False, into, out, last), (True, out, into, first)):
                link = _link_of(spec, egress)
                far = next(p for p in link.points if p != egress)
                for stack in chosen[link.id].stacks:
                    beyond = [p for p in bindings.beyond(end, path.id) if _leads(stack, p)]
                    if (next_hop := stack.addresses.get(far)) is not None:
                        yield _Way(path, back, split_point(ingress)[1], split_point(egress)[1], next_hop), beyond


def _leads(stack: Stack, to: Prefix) -> bool:
    """Whether a prefix is of the family and beyond the link itself."""
    prefix = stack.prefix
    return prefix is not None and prefix.version == to.version and not inside(to, prefix)


def _flows(way: _Way) -> Iterator[FlowMatch | None]:
    """What tells the packets of its path; None: what no other path's do."""
    if not way.path.flows:
        yield None
    for flow in way.path.flows:
        protocol = flow.protocol.short.lower()
        if way.back:
            yield FlowMatch(protocol=protocol, source_port=flow.port)
        else:
            yield FlowMatch(protocol=protocol, destination_port=flow.port)


def probes(segment: str, spec: ServiceSpec, bindings: Bindings) -> tuple[ProbePath, ...]:
    """What can be proven inside the segment alone: for each link between two of its functions, a full-size packet of each
    family."""
    out = []
    for link in spec.links:
        choice = bindings.link(link.id)
        ports = [p for p in link.points if split_point(p)[1]]
        if choice is None or len(ports) < 2:
            continue
        owner, port = split_point(ports[0])
        out += [
            ProbePath(segment=segment, function=owner, port=port, target=target, size=choice.mtu or 64)
            for far in ports[1:]
            for target in choice.all_addresses(far)
        ]
    return tuple(out)
