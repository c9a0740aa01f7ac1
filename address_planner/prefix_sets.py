"""Prefix sets: addresses of both families as one immutable set with the operators of sets.

Rules kept here
- Equal sets have one canonical form: per family the ranges of addresses, as text the fewest prefixes, IPv4 first.
- A prefix is in a set when each of its addresses is.
- Nothing counts or lists addresses one by one: a set of a /8 and a /32 costs as much as one of two hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, summarize_address_range
from typing import ClassVar

from address_planner.prefixes import Address, Prefix
from address_planner.ranges import RangeSet


@dataclass(frozen=True, slots=True)
class V4Addresses(RangeSet):
    MAX: ClassVar[int] = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class V6Addresses(RangeSet):
    MAX: ClassVar[int] = (1 << 128) - 1


@dataclass(frozen=True, slots=True)
class PrefixSet:
    v4: V4Addresses = V4Addresses()
    v6: V6Addresses = V6Addresses()

    @classmethod
    def of(cls, items: Iterable[Prefix | Address]) -> PrefixSet:
        """All addresses of these."""
        four, six = list[tuple[int, int]](), list[tuple[int, int]]()
        for item in items:
            match item:
                case IPv4Network() | IPv6Network():
                    bounds = int(item.network_address), int(item.broadcast_address)
                case _:
                    bounds = int(item), int(item)
            (four if item.version == 4 else six).append(bounds)
        return cls(V4Addresses(tuple(four)), V6Addresses(tuple(six)))

    def prefixes(self) -> Iterator[Prefix]:
        """The fewest that are this set, IPv4 first, in order."""
        for first, last in self.v4.ranges:
            yield from summarize_address_range(IPv4Address(first), IPv4Address(last))
        for first, last in self.v6.ranges:
            yield from summarize_address_range(IPv6Address(first), IPv6Address(last))

    def __str__(self) -> str:
        return ",".join(map(str, self.prefixes()))

    def __contains__(self, item: object) -> bool:
        match item:
            case IPv4Network() | IPv6Network() | IPv4Address() | IPv6Address():
                return PrefixSet.of([item]) <= self
        return False

    def __bool__(self) -> bool:
        return bool(self.v4) or bool(self.v6)

    def __and__(self, other: PrefixSet) -> PrefixSet:
        return PrefixSet(self.v4 & other.v4, self.v6 & other.v6)

    def __or__(self, other: PrefixSet) -> PrefixSet:
        return PrefixSet(self.v4 | other.v4, self.v6 | other.v6)

    def __sub__(self, other: PrefixSet) -> PrefixSet:
        return PrefixSet(self.v4 - other.v4, self.v6 - other.v6)

    def __le__(self, other: PrefixSet) -> bool:
        return self.v4 <= other.v4 and self.v6 <= other.v6


EVERYWHERE = PrefixSet(V4Addresses.all(), V6Addresses.all())
NOWHERE = PrefixSet()
