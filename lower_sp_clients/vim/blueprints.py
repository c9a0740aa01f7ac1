"""From a segment and its bindings to the blueprint that a driver builds. Pure.

Rules kept here
- A function's ingress decides its way on: from the path, what enters at the port towards one end leaves by the other,
  to the far port of that adjacency, for every prefix that lies beyond (`reach`). So replies take the path in reverse.
- What is on the link itself needs no route.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from address_planner.prefixes import inside
from lower_sp_clients.vim.domain import Domain
from lower_sp_clients.vim.driver import Attachment, Blueprint, Function, Network, Port, ProbePath, Route
from service_model.outcomes import Bindings, LinkChoice
from service_model.spec import LinkKind, ServiceSpec, VirtualLink, split_point


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
            Attachment(network=link.id, sap=ends[point].sap, label=bindings.labels[point])
            for link in spec.links
            for point in link.points
            if point in ends
        ),
    )


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
                )


def _interfaces(choice: LinkChoice, point: str) -> tuple[IPv4Interface | IPv6Interface, ...]:
    address = choice.addresses.get(point)
    if address is None or choice.prefix is None:
        return ()
    return (ip_interface(f"{address}/{choice.prefix.prefixlen}"),)


def _link_of(spec: ServiceSpec, point: str) -> VirtualLink:
    return next(link for link in spec.links if point in link.points)


def _routes(spec: ServiceSpec, bindings: Bindings, chosen: Mapping[str, LinkChoice], function: str) -> Iterator[Route]:
    for path in spec.paths:
        first, last = path.hops[0], path.hops[-1]
        for i, hop in enumerate(path.hops[:-1]):
            owner, port = split_point(hop)
            if owner != function or i % 2 == 0:
                continue
            other = path.hops[i + 1]  # hop enters the function, other leaves it
            for ingress, egress_point, beyond in ((port, other, last), (split_point(other)[1], hop, first)):
                link = _link_of(spec, egress_point)
                choice = chosen[link.id]
                far = next(p for p in link.points if p != egress_point)
                next_hop = choice.addresses.get(far)
                for destination in bindings.reach.get(beyond, ()):
                    on_link = choice.prefix is not None and inside(destination, choice.prefix)
                    if next_hop is not None and not on_link:
                        yield Route(
                            ingress=ingress,
                            destination=destination,
                            egress=split_point(egress_point)[1],
                            next_hop=next_hop,
                        )


def probes(segment: str, spec: ServiceSpec, bindings: Bindings) -> tuple[ProbePath, ...]:
    """What can be proven inside the segment alone: for each link between two of its functions, a full-size packet."""
    out = []
    for link in spec.links:
        choice = bindings.link(link.id)
        ports = [p for p in link.points if split_point(p)[1]]
        if choice is None or len(ports) < 2:
            continue
        for far in ports[1:]:
            if far in choice.addresses:
                owner, port = split_point(ports[0])
                out.append(
                    ProbePath(
                        segment=segment, function=owner, port=port, target=choice.addresses[far], size=choice.mtu or 64
                    )
                )
    return tuple(out)
