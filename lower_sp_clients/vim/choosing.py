"""The lower SP's choice: ways, labels and addresses for one segment, within its constraint. Pure.

Rules kept here
- The suggested label is taken if it is free, else another of the label set, picked by hash; which one is said in the answer.
- What goes straight from SAP to SAP of a domain that does not swap has one label, free at both.
- What a live version of the segment has and may still have stays: its labels where none is suggested, prefixes, addresses.
- A link's prefix of each family is the one required, else carved from the allowed blocks; a port's address is the one
  stated, else comes from the hosts given.
- Where the functions are is decided in `placing`, which ways the LINEs take in `laying`, and the LANs in `lan_laying`.
- Everything wrong is named at once where it can be, each with the spec's own word for the culprit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from address_planner.conflicts import conflicting, nearest
from address_planner.macs import INDIVIDUAL, Mac
from address_planner.prefixes import PrefixTooSmall, host_bits, pick_hosts
from address_planner.stacks import Wanted, carve_stacks
from capability_registry.note import PortRole, SapRole
from lower_sp_clients.vim.accounting import passes
from lower_sp_clients.vim.domain import CatalogueFunction, Domain, Sap, Usage, Way
from lower_sp_clients.vim.labelling import choose_labels
from lower_sp_clients.vim.lan_laying import lay_lans
from lower_sp_clients.vim.laying import lay
from lower_sp_clients.vim.placing import Impossible, assign, check_ends, flavour_of, no, not_then, place
from service_model.families import named, versions
from service_model.money import FREE, Price
from service_model.outcomes import AddressingChoice, LinkChoice, Nogood, ReasonCode, Stack
from service_model.replacing import replace
from service_model.spec import (
    AddressRole,
    End,
    FunctionRequest,
    LinkKind,
    ServiceSpec,
    VirtualLink,
    split_point,
)
from service_model.words import Address, Prefix

NOTHING_CHOSEN = AddressingChoice()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """All that a hold takes. `hosts`: function id to (place, host index); `ways` that bandwidth is taken of, with repetition
    where used twice; `delays_us`: of each path by its id."""

    addressing: AddressingChoice
    price: Price
    delays_us: Mapping[str, int]
    ways: tuple[Way, ...]
    hosts: dict[str, tuple[str, int]]

    @property
    def delay_us(self) -> int:
        """Of the slowest path."""
        return max(self.delays_us.values(), default=0)


def choose(
    domain: Domain, usage: Usage, spec: ServiceSpec, key: str, before: AddressingChoice = NOTHING_CHOSEN
) -> Choice:
    """`usage` is what others have; `key` seeds the choice of labels; `before`: what a live version of it has. Raises
    Impossible."""
    spec = _suggesting(spec, before)
    saps = {end.id: _sap(domain, end) for end in spec.ends}
    offers = {f.id: _offer(domain, f) for f in spec.functions}
    _check_ports(spec, offers)
    _check_families(spec, offers)
    if any(link.kind is LinkKind.LAN for link in spec.links) and not domain.lan:
        lan = next(link for link in spec.links if link.kind is LinkKind.LAN)
        raise no(ReasonCode.LAN_NOT_OFFERED, f"link {lan.id!r}: LAN links are not offered here", lan.id)
    if spec.qos is not None:
        raise no(ReasonCode.QOS, f"there are no classes of service here, and so no {spec.qos!r}", "qos")
    through = passes(spec)
    for end in spec.ends:
        sap = saps[end.id]
        if end.path_header is not None and not sap.path_headers:
            message = f"end {end.id!r}: packets bear no path headers at its SAP"
            raise no(ReasonCode.FEATURE_NOT_OFFERED, message, end.id)
        if sap.mtu < spec.min_mtu:
            raise no(ReasonCode.MTU, f"end {end.id!r}: MTU {sap.mtu} is below {spec.min_mtu}", end.id)
        free = sap.bandwidth_bps - usage.bandwidth.get(sap.id, 0)
        if free < spec.bandwidth_bps * through[sap.id]:
            figures = f"{max(0, free)} of {sap.bandwidth_bps} bit/s are free"
            message = f"end {end.id!r}: not enough bandwidth is free at its SAP; {figures}"
            raise not_then(ReasonCode.BANDWIDTH, message, end.id, usage.when(sap.id))
    check_ends(domain, spec, saps)
    placed = place(domain, usage, spec, saps, offers)
    at = {id: sap.id for id, sap in saps.items()} | placed
    laying = lay(domain, usage, spec, at, offers)
    lined = tuple(way for route in laying.routes for way in route.ways)
    lans = lay_lans(domain, usage, spec, at, lined)
    price = sum((route.price for route in laying.routes), FREE) + sum((way.price for way in lans), FREE)
    for function in spec.functions:
        price = price + flavour_of(offers[function.id], function).price
    hosts = assign(domain, usage, spec, offers, placed)
    labels = choose_labels(domain, usage, spec, saps, key)
    _check_prefixes(domain, spec)
    links, reach = _addresses(domain, spec, saps, key, before)
    return Choice(
        addressing=AddressingChoice(
            labels=labels,
            links=links,
            reach=reach,
            path_headers={end.id: end.path_header for end in spec.ends if end.path_header is not None},
        ),
        price=price,
        delays_us=laying.delays_us,
        ways=lined if spec.paths else lans,
        hosts=hosts,
    )


def _suggesting(spec: ServiceSpec, before: AddressingChoice) -> ServiceSpec:
    """The spec with the labels that its ends had, where none is suggested."""
    ends = (
        replace(end, suggested_label=before.labels.get(end.id)) if end.suggested_label is None else end
        for end in spec.ends
    )
    return replace(spec, ends=tuple(ends)) if before.labels else spec


def _sap(domain: Domain, end: End) -> Sap:
    sap = domain.sap(end.sap)
    if sap is None:
        known = ", ".join(sorted(s.id for s in domain.saps))
        raise no(ReasonCode.UNKNOWN_SAP, f"end {end.id!r}: no SAP {end.sap!r} here (there are {known})", end.id)
    if not sap.usable:
        raise no(ReasonCode.NOT_IN_SERVICE, f"end {end.id!r}: SAP {end.sap!r} takes nothing new", end.id)
    return sap


def _offer(domain: Domain, request: FunctionRequest) -> CatalogueFunction:
    offer = domain.function(request.type)
    if offer is None or not offer.places:
        raise no(
            ReasonCode.UNKNOWN_FUNCTION_TYPE,
            f"function {request.id!r}: type {request.type} is not offered here",
            request.id,
        )
    return offer


def _check_ports(spec: ServiceSpec, offers: dict[str, CatalogueFunction]) -> None:
    for link in spec.links:
        wanted = PortRole.MANAGEMENT if link.kind is LinkKind.LAN else PortRole.DATA
        for owner, port in map(split_point, link.points):
            if not port:
                continue
            roles = {p.name: p.role for p in offers[owner].ports}
            if port not in roles:
                raise no(
                    ReasonCode.UNKNOWN_PORT,
                    f"function {owner!r} has no port {port!r} (it has {', '.join(roles)})",
                    owner,
                )
            if roles[port] is not wanted:
                raise no(
                    ReasonCode.UNKNOWN_PORT,
                    f"link {link.id!r}: port {port!r} of {owner!r} is a {roles[port].short} port",
                    link.id,
                )


def _check_prefixes(domain: Domain, spec: ServiceSpec) -> None:
    """No prefix that was given to a link with ports is excluded here; all that are, are told at once."""
    given = {link.id: link.addressing.prefixes for link in spec.links if link.ports}
    wrong = [id for id, prefixes in given.items() if conflicting(prefixes, domain.excluded)]
    if wrong:
        raise _conflict(domain, (prefix for prefixes in given.values() for prefix in prefixes), wrong[0])


def _conflict(domain: Domain, given: Iterable[Prefix], link: str) -> Impossible:
    refused = conflicting(given, domain.excluded)
    return no(
        ReasonCode.PREFIX_CONFLICT,
        f"link {link!r}: {', '.join(map(str, refused))} cannot be used here",
        link,
        Nogood(link=link, refused_prefixes=refused, acceptable_prefixes=nearest(refused, domain.excluded)),
    )


def _addresses(
    domain: Domain, spec: ServiceSpec, saps: dict[str, Sap], key: str, before: AddressingChoice
) -> tuple[tuple[LinkChoice, ...], dict[str, tuple[Prefix, ...]]]:
    open_links = {
        id: Wanted(host_bits(len(spec.link(id).points)), versions) for id, versions in spec.open_links().items()
    }
    taken = [prefix for link in spec.links for prefix in link.addressing.prefixes]
    behind = [n for end in spec.ends for n in end.networks]
    if open_links and not spec.blocks.allowed:
        raise no(ReasonCode.NOT_ADDRESSABLE, "no prefixes were given to choose from", "blocks")
    try:
        excluded = (*spec.blocks.excluded, *taken, *behind, *domain.excluded)
        had = {link.link: link.prefixes for link in before.links}
        carved = carve_stacks(spec.blocks.allowed, excluded, open_links, had)
    except PrefixTooSmall as error:
        if conflicting(spec.blocks.allowed, domain.excluded):
            raise _conflict(domain, spec.blocks.allowed, error.wanted) from None
        raise no(ReasonCode.PREFIX_TOO_SMALL, str(error), error.wanted, Nogood(needed_addresses=error.needed)) from None
    links, reach = [], {}
    for link in spec.links:
        prefixes = (*link.addressing.prefixes, *carved.get(link.id, ()))
        # a link at a SAP takes the SAP's MTU, so that the function behind it can say what does not fit further on
        mtu = min([saps[p].mtu for p in link.points if p in saps] or [sap.mtu for sap in saps.values()])
        stacks = [Stack(prefix, _hosts_of(link, prefix, before) if link.ports else {}) for prefix in prefixes]
        links.append(replace(LinkChoice.stacked(link.id, stacks, mtu), macs=_macs(link, key)))
        for point in link.points:
            if (
                prefixes
                and link.ports
                and point in saps
                and saps[point].role is SapRole.UNI
                and link.kind is LinkKind.LINE
            ):
                reach[point] = (*links[-1].prefixes, *spec.end(point).networks)
    return tuple(links), reach


def _macs(link: VirtualLink, key: str) -> dict[str, Mac]:
    """A hardware address for each port, where the link has a pool of them."""
    pool = link.addressing.macs
    if pool is None or not link.ports:
        return {}
    try:
        return (pool & INDIVIDUAL).pick(link.ports, f"{key}/{link.id}")
    except IndexError:
        message = f"link {link.id!r}: no hardware address is left for its {len(link.ports)} ports in {pool}"
        raise no(ReasonCode.ADDRESS_EXHAUSTED, message, link.id) from None


def _hosts_of(link: VirtualLink, prefix: Prefix, before: AddressingChoice) -> dict[str, Address]:
    """The addresses of the prefix's family."""
    told, known = link.addressing.of(prefix.version), before.link(link.id)
    had = known.of(prefix.version).addresses if known is not None else {}
    given = {r.point: r.address for r in told.reserved if r.role is AddressRole.PEER and r.point is not None}
    given |= {r.point: r.address for r in told.reserved if r.point is not None and r.point in link.ports}
    gateway = next((r.address for r in told.reserved if r.role is AddressRole.GATEWAY), None)
    out = {p: given[p] for p in link.ports if p in given}
    if gateway is not None and link.kind is LinkKind.LINE:
        out.setdefault(link.ports[0], gateway)
    taken = [r.address for r in told.reserved]
    try:
        # an end's own address first: on a link of two the customer gets the lower one
        line = link.kind is LinkKind.LINE
        ends = [p for p in link.points if p not in link.ports and p not in given] if line else []
        out.update(pick_hosts(prefix, (), [*taken, *out.values()], ends, had))
        left = [p for p in link.ports if p not in out]
        out.update(pick_hosts(prefix, told.hosts, [*taken, *out.values()], left, had))
    except PrefixTooSmall as error:
        raise no(
            ReasonCode.ADDRESS_EXHAUSTED,
            f"link {link.id!r}: no address is left for {error.wanted!r} in {prefix}",
            link.id,
        ) from None
    out.update({p: a for p, a in given.items() if p in link.points})
    return out


def _check_families(spec: ServiceSpec, offers: dict[str, CatalogueFunction]) -> None:
    for function in spec.functions:
        forwards = versions(offers[function.id].families)
        lacking = [v for v in spec.versions_at(function.id) if v not in forwards]
        if lacking:
            message = f"function {function.id!r}: {function.type} forwards no {named(lacking)} here"
            raise no(ReasonCode.ADDRESS_FAMILY, message, function.id)
