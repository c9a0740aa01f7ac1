"""Prefixes and hosts: pure arithmetic, for IPv4 and IPv6 alike.

Rules kept here
- What is carved is disjoint, best-fit and deterministic: the largest first, each from the smallest free block that holds it.
- A point-to-point link takes /31 (RFC 3021) or /127 (RFC 6164), where both addresses are hosts; on a larger IPv4 link the
  first and last address are none, on a larger IPv6 link the first is not (subnet-router anycast, RFC 4291, 2.6.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_network,
)

Prefix = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
NOBODY: Mapping[str, Address] = {}


@dataclass
class PrefixTooSmall(Exception):
    """The allowed prefixes cannot hold what is wanted; `needed` addresses in one more block would. `version`: of which IP
    version, where that is known."""

    wanted: str
    needed: int
    version: int = 0

    def __str__(self) -> str:
        kind = f"IPv{self.version} addresses" if self.version else "addresses"
        return f"no room for {self.wanted}: {self.needed} {kind} are needed"


def overlap(a: Prefix, b: Prefix) -> bool:
    """Whether two prefixes of any family share an address."""
    if isinstance(a, IPv4Network):
        return isinstance(b, IPv4Network) and a.overlaps(b)
    return isinstance(b, IPv6Network) and a.overlaps(b)


def inside(inner: Prefix, outer: Prefix) -> bool:
    """Whether every address of `inner` is in `outer`."""
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def host_prefix(address: Address) -> Prefix:
    """The /32 or /128 of one address."""
    return ip_network(address)


def aggregate(prefixes: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """The same addresses in the fewest prefixes, IPv4 first, in order."""
    all_of_them = list(prefixes)
    four = [p for p in all_of_them if isinstance(p, IPv4Network)]
    six = [p for p in all_of_them if isinstance(p, IPv6Network)]
    return (*collapse_addresses(four), *collapse_addresses(six))


def subtract(prefixes: Iterable[Prefix], excluded: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """What is left of `prefixes` without any address of `excluded`."""
    left = list(prefixes)
    for cut in excluded:
        rest: list[Prefix] = []
        for prefix in left:
            if not overlap(prefix, cut):
                rest.append(prefix)
            elif not inside(prefix, cut):
                if isinstance(prefix, IPv4Network) and isinstance(cut, IPv4Network):
                    rest.extend(prefix.address_exclude(cut))
                elif isinstance(prefix, IPv6Network) and isinstance(cut, IPv6Network):
                    rest.extend(prefix.address_exclude(cut))
        left = rest
    return aggregate(left)


def carve(allowed: Iterable[Prefix], excluded: Iterable[Prefix], wanted: Mapping[str, int]) -> dict[str, Prefix]:
    """Give each key of `wanted` a prefix with that many host bits, disjoint, within `allowed` and outside `excluded`.

    All from the first family of `allowed`. Raises PrefixTooSmall with the number of addresses that the whole needs.
    """
    free = list(subtract(allowed, excluded))
    if free:
        free = [p for p in free if p.version == free[0].version]
    needed = sum(1 << bits for bits in wanted.values())
    out: dict[str, Prefix] = {}
    for key in sorted(wanted, key=lambda k: (-wanted[k], k)):
        bits = wanted[key]
        fitting = [p for p in free if p.max_prefixlen - p.prefixlen >= bits]
        if not fitting:
            raise PrefixTooSmall(key, needed)
        block = max(fitting, key=lambda p: (p.prefixlen, -int(p.network_address)))
        free.remove(block)
        while block.max_prefixlen - block.prefixlen > bits:
            low, high = block.subnets(1)
            free.append(high)
            block = low
        out[key] = block
    return out


def host_bits(hosts: int) -> int:
    """Host bits of a link for this many addresses: 1 for two, else room for network and broadcast as well."""
    return 1 if hosts <= 2 else (hosts + 1).bit_length()


def usable(prefix: Prefix) -> Iterator[Address]:
    """The addresses of a link that a port may have, lowest first."""
    return iter(prefix.hosts())


def is_usable(address: Address, prefix: Prefix) -> bool:
    """Whether a port on a link with this prefix may have this address."""
    if address not in prefix:
        return False
    if prefix.max_prefixlen - prefix.prefixlen <= 1:
        return True
    if prefix.version == 6:
        return address != prefix.network_address
    return address not in (prefix.network_address, prefix.broadcast_address)


def pick_hosts(
    prefix: Prefix,
    hosts: Sequence[Prefix],
    taken: Iterable[Address],
    points: Sequence[str],
    before: Mapping[str, Address] = NOBODY,
) -> dict[str, Address]:
    """An address for each point, in order, lowest first, within `hosts` (empty: all of the prefix) and not `taken`. Who had one
    `before` that it may have keeps it.

    Raises PrefixTooSmall when there are fewer than points.
    """
    used = set(taken)
    sources = hosts or (prefix,)
    kept: dict[str, Address] = {}
    for point in points:
        address = before.get(point)
        inside_of = address is not None and (not hosts or any(address in source for source in hosts))
        if address is not None and inside_of and is_usable(address, prefix) and address not in used:
            kept[point] = address
            used.add(address)
    pool = (a for source in sources for a in (source if hosts else usable(prefix)) if is_usable(a, prefix))
    out: dict[str, Address] = {}
    for point in points:
        if point in kept:
            out[point] = kept[point]
            continue
        address = next((a for a in pool if a not in used), None)
        if address is None:
            raise PrefixTooSmall(point, len(points) + len(used))
        out[point] = address
        used.add(address)
    return out
