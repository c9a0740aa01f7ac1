"""What is wrong with the addresses of a spec in itself.

Rules kept here
- Networks of two different ends are disjoint, prefixes of two different links too, unless these are parts of one LINE.
- Where the service says which families it has, every network, and every prefix of a LINE, is of one of them. A link has one
  prefix of a family.
- A link's prefix keeps off the excluded blocks (customers' networks are among those: they are not ours to use).
- Host sets and reserved addresses lie in their link's prefix of their family; an address is reserved once, and a function's
  port has one of a family, among the hosts.
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
from service_model.families import named, versions
from service_model.problem import Path, Problem
from service_model.spec import LinkKind, ServiceSpec, VirtualLink
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
        yield from _link(("links", i, "addressing"), link, spec.min_mtu)
        yield from _fixed(("links", i, "addressing"), link)
        yield from _macs(("links", i, "addressing", "macs"), link)
    yield from _families(spec)
    yield from _foreign(spec)


@dataclass(frozen=True, slots=True)
class _Claim:
    prefix: Prefix
    path: Path
    owner: str


def _of_links(spec: ServiceSpec) -> Iterator[_Claim]:
    first: dict[Prefix, VirtualLink] = {}
    for i, link in enumerate(spec.links):
        for field in ("prefix", "second_prefix"):
            prefix = getattr(link.addressing, field)
            if prefix is not None and not (prefix in first and _one(link, first[prefix], prefix.version)):
                yield _Claim(prefix, ("links", i, "addressing", field), f"the link {link.id!r}")
                first.setdefault(prefix, link)


def _one(link: VirtualLink, other: VirtualLink, version: int) -> bool:
    """Whether two LINEs are parts of one whose middle is elsewhere: one prefix, and each is told which hosts it has."""
    x, y = link.addressing.of(version), other.addressing.of(version)
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


def _outside(inner: Prefix | Address, outer: Sequence[Prefix]) -> str | None:
    mine = [prefix for prefix in outer if prefix.version == inner.version]
    if not mine:
        return f"{inner} is IPv{inner.version}, the prefix {outer[0]} is IPv{outer[0].version}"
    inside = inner in mine[0] if isinstance(inner, IPv4Address | IPv6Address) else _within(inner, mine[0])
    return None if inside else f"{inner} is outside the prefix {mine[0]}"


def _link(path: Path, link: VirtualLink, mtu: int) -> Iterator[Problem]:
    addressing, name = link.addressing, link.id
    prefixes = addressing.prefixes
    wanted: list[tuple[Path, Prefix | Address]] = [
        ((*path, "hosts", k), hosts) for k, hosts in enumerate(addressing.hosts)
    ]
    wanted += [((*path, "reserved", k, "address"), r.address) for k, r in enumerate(addressing.reserved)]
    for where, item in wanted:
        if not prefixes:
            yield Problem(where, f"{item} on the link {name!r}, which has no prefix")
        elif reason := _outside(item, prefixes):
            yield Problem(where, f"{reason} of the link {name!r}")
    if addressing.second_prefix is not None and (
        addressing.prefix is None or addressing.prefix.version == addressing.second_prefix.version
    ):
        beside = f"beside {addressing.prefix}" if addressing.prefix is not None else "and no first"
        reason = f"{addressing.second_prefix} on the link {name!r} {beside}: the second is of the other family than the first"
        yield Problem((*path, "second_prefix"), reason)
    for field in ("prefix", "second_prefix"):
        prefix = getattr(addressing, field)
        if prefix is not None and prefix.version == 6 and mtu < IPV6_LEAST_MTU:
            reason = f"{prefix} on the link {name!r} is IPv6, which needs a min_mtu of {IPV6_LEAST_MTU}, not {mtu}"
            yield Problem((*path, field), reason)
    seen: set[Address] = set()
    for k, reserved in enumerate(addressing.reserved):
        where = (*path, "reserved", k, "address")
        if reserved.address in seen:
            yield Problem(where, f"{reserved.address} is already reserved on the link {name!r}")
        seen.add(reserved.address)
        for prefix in prefixes:
            edges = (prefix.network_address, prefix.broadcast_address) if prefix.version == 4 else ()
            if prefix.prefixlen < 31 and reserved.address in edges:
                yield Problem(where, f"{reserved.address} is the network or broadcast address of {prefix}")


def _fixed(path: Path, link: VirtualLink) -> Iterator[Problem]:
    seen: dict[tuple[str, int], Address] = {}
    for k, reserved in enumerate(link.addressing.reserved):
        if reserved.point in link.ports and reserved.point is not None:
            other = seen.setdefault((reserved.point, reserved.address.version), reserved.address)
            if other != reserved.address:
                reason = f"{reserved.point!r} has {other} already, and gets one address of a family"
                yield Problem((*path, "reserved", k, "address"), reason)
            hosts = link.addressing.of(reserved.address.version).hosts
            if hosts and not any(reserved.address in among for among in hosts):
                reason = f"{reserved.address} of {reserved.point!r} is not among the hosts that its ports may take"
                yield Problem((*path, "reserved", k, "address"), reason)


def _macs(path: Path, link: VirtualLink) -> Iterator[Problem]:
    pool, ports = link.addressing.macs, len(link.ports)
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


def _foreign(spec: ServiceSpec) -> Iterator[Problem]:
    """What is of a family that the service says it has not, or cannot have."""
    said = versions(spec.families)
    told = any(prefix.version == 6 for link in spec.links for prefix in link.addressing.prefixes)
    if 6 in spec.versions and not told and spec.min_mtu < IPV6_LEAST_MTU:
        yield Problem(("min_mtu",), f"the service has IPv6, which needs {IPV6_LEAST_MTU}, not {spec.min_mtu}")
    if not said:
        return
    for i, end in enumerate(spec.ends):
        for k, network in enumerate(end.networks):
            if network.version not in said:
                reason = f"{network} of the end {end.id!r} is IPv{network.version}, the service is {named(said)} alone"
                yield Problem(("ends", i, "networks", k), reason)
    for i, link in enumerate(spec.links):
        if link.kind is LinkKind.LINE:
            for field in ("prefix", "second_prefix"):
                prefix = getattr(link.addressing, field)
                if prefix is not None and prefix.version not in said:
                    reason = (
                        f"{prefix} of the link {link.id!r} is IPv{prefix.version}, the service is {named(said)} alone"
                    )
                    yield Problem(("links", i, "addressing", field), reason)
