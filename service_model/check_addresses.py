"""What is wrong with the addresses of a spec in itself.

Rules kept here
- Networks of two different ends are disjoint, prefixes of two different links too, unless these are parts of one LINE.
- A link's prefix keeps off the excluded blocks (customers' networks are among those: they are not ours to use).
- Host sets and reserved addresses lie in their link's prefix and are of its family; an address is reserved once.
- The first and last address of an IPv4 prefix shorter than /31 belong to nobody (RFC 3021 frees those of a /31).
- A path whose two ends have networks has some of one family at both, or nothing could flow.
- A pool of hardware addresses has none of a group, and one for each port of its link (IEEE 802-2014, 8.2.2).
- A link with IPv6 needs an MTU of 1280 (RFC 8200, 5). Multicast and loopback prefixes name no customer.

Prefixes nest or are disjoint, so one pass over them in order finds every overlap: nothing here is quadratic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from address_planner.macs import INDIVIDUAL
from address_planner.prefixes import overlap
from service_model.problem import Path, Problem
from service_model.spec import LinkAddressing, LinkKind, ServiceSpec, VirtualLink, split_point
from service_model.words import Address, Prefix

IPV6_LEAST_MTU = 1280


def address_faults(spec: ServiceSpec) -> Iterator[Problem]:
    """Every problem with networks, prefixes, hosts and reserved addresses, in the order of the spec."""
    networks = [
        _Claim(network, ("ends", i, "networks", k), f"the end {end.id!r}")
        for i, end in enumerate(spec.ends)
        for k, network in enumerate(end.networks)
    ]
    prefixes = list(_of_links(spec))
    yield from _nameable([*networks, *prefixes])
    yield from _overlaps(networks)
    yield from _overlaps(prefixes)
    yield from _excluded(prefixes, spec.blocks.excluded)
    for i, link in enumerate(spec.links):
        yield from _link(("links", i, "addressing"), link.id, link.addressing, spec.min_mtu)
        yield from _macs(("links", i, "addressing", "macs"), link)
    yield from _families(spec)


@dataclass(frozen=True, slots=True)
class _Claim:
    prefix: Prefix
    path: Path
    owner: str


def _of_links(spec: ServiceSpec) -> Iterator[_Claim]:
    first: dict[Prefix, VirtualLink] = {}
    for i, link in enumerate(spec.links):
        prefix = link.addressing.prefix
        if prefix is not None and not (prefix in first and _one(link, first[prefix])):
            yield _Claim(prefix, ("links", i, "addressing", "prefix"), f"the link {link.id!r}")
            first.setdefault(prefix, link)


def _one(link: VirtualLink, other: VirtualLink) -> bool:
    """Whether two LINEs are parts of one whose middle is elsewhere: one prefix, and each is told which hosts it has."""
    x, y = link.addressing, other.addressing
    told = LinkKind.LINE is link.kind is other.kind and bool(x.hosts and y.hosts)
    return told and not any(overlap(a, b) for a in x.hosts for b in y.hosts)


def _nameable(claims: Sequence[_Claim]) -> Iterator[Problem]:
    for claim in claims:
        for kind in ("multicast", "loopback"):
            if getattr(claim.prefix, f"is_{kind}"):
                yield Problem(claim.path, f"{claim.prefix} of {claim.owner} is a {kind} prefix")


def _within(inner: Prefix, outer: Prefix) -> bool:
    return inner.version == outer.version and (inner.network_address in outer and inner.broadcast_address in outer)


def _overlaps(claims: Sequence[_Claim]) -> Iterator[Problem]:
    found: list[tuple[int, Problem]] = []
    order = sorted(
        enumerate(claims), key=lambda c: (c[1].prefix.version, int(c[1].prefix.network_address), c[1].prefix.prefixlen)
    )
    around: list[tuple[int, _Claim]] = []
    for position, claim in order:
        while around and not _within(claim.prefix, around[-1][1].prefix):
            around.pop()
        other = next(((p, c) for p, c in reversed(around) if c.owner != claim.owner), None)
        if other:
            (_, early), (at, late) = sorted([other, (position, claim)], key=lambda c: c[0])
            reason = f"{late.prefix} of {late.owner} overlaps {early.prefix} of {early.owner}"
            found.append((at, Problem(late.path, reason)))
        around.append((position, claim))
    yield from (problem for _, problem in sorted(found, key=lambda f: (f[0], f[1].reason)))


def _excluded(prefixes: Sequence[_Claim], excluded: Sequence[Prefix]) -> Iterator[Problem]:
    for claim in prefixes:
        for block in excluded:
            if _within(claim.prefix, block) or _within(block, claim.prefix):
                yield Problem(claim.path, f"{claim.prefix} of {claim.owner} touches {block}, which is excluded")
                break


def _outside(inner: Prefix | Address, outer: Prefix) -> str | None:
    if inner.version != outer.version:
        return f"{inner} is IPv{inner.version}, the prefix {outer} is IPv{outer.version}"
    inside = inner in outer if isinstance(inner, IPv4Address | IPv6Address) else _within(inner, outer)
    return None if inside else f"{inner} is outside the prefix {outer}"


def _link(path: Path, name: str, addressing: LinkAddressing, mtu: int) -> Iterator[Problem]:
    prefix = addressing.prefix
    wanted: list[tuple[Path, Prefix | Address]] = [
        ((*path, "hosts", k), hosts) for k, hosts in enumerate(addressing.hosts)
    ]
    wanted += [((*path, "reserved", k, "address"), r.address) for k, r in enumerate(addressing.reserved)]
    for where, item in wanted:
        if prefix is None:
            yield Problem(where, f"{item} on the link {name!r}, which has no prefix")
        elif reason := _outside(item, prefix):
            yield Problem(where, f"{reason} of the link {name!r}")
    if prefix is not None and prefix.version == 6 and mtu < IPV6_LEAST_MTU:
        reason = f"{prefix} on the link {name!r} is IPv6, which needs a min_mtu of {IPV6_LEAST_MTU}, not {mtu}"
        yield Problem((*path, "prefix"), reason)
    seen: set[Address] = set()
    for k, reserved in enumerate(addressing.reserved):
        where = (*path, "reserved", k, "address")
        if reserved.address in seen:
            yield Problem(where, f"{reserved.address} is already reserved on the link {name!r}")
        seen.add(reserved.address)
        edges = (prefix.network_address, prefix.broadcast_address) if prefix and prefix.version == 4 else ()
        if prefix and prefix.prefixlen < 31 and reserved.address in edges:
            yield Problem(where, f"{reserved.address} is the network or broadcast address of {prefix}")


def _macs(path: Path, link: VirtualLink) -> Iterator[Problem]:
    pool, ports = link.addressing.macs, sum(bool(split_point(p)[1]) for p in link.points)
    if pool is None:
        return
    if alien := pool - INDIVIDUAL:
        yield Problem(path, f"{alien} of the link {link.id!r} is no hardware address of one port")
    if pool.size < ports:
        yield Problem(path, f"the link {link.id!r} has {ports} ports and a pool of {pool.size} hardware addresses")


def _families(spec: ServiceSpec) -> Iterator[Problem]:
    families = {end.id: {network.version for network in end.networks} for end in spec.ends}
    for i, path in enumerate(spec.paths):
        a, b = families.get(path.hops[0]), families.get(path.hops[-1])
        if a and b and not a & b:
            reason = f"the path {path.id!r} joins {path.hops[0]!r} (IPv{min(a)}) and {path.hops[-1]!r} (IPv{min(b)})"
            yield Problem(("paths", i), reason + ": no family at both")
