"""Adjacencies: which links of a service are parts of one network between two layer-3 ports, and which are not. Pure.

Rules kept here
- Parts of one adjacency have one prefix, and no address twice. Two adjacencies of one service share no address.
- `a & b` says what both say: parts that either calls one are one, and what follows from that. It is associative, commutative and
  idempotent. `a <= b`: what b calls one, a calls one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from address_planner.prefixes import Address, Prefix, overlap


@dataclass(frozen=True, slots=True)
class Adjacencies:
    """`groups`: links that are one, at least two in each; a link that stands nowhere is an adjacency by itself."""

    groups: frozenset[frozenset[str]] = frozenset()

    @classmethod
    def of(cls, groups: Iterable[Iterable[str]]) -> Adjacencies:
        """Groups that have a link in common are one."""
        out: list[frozenset[str]] = []
        for group in map(frozenset, groups):
            apart = [other for other in out if group.isdisjoint(other)]
            out = [*apart, group.union(*(other for other in out if other not in apart))]
        return cls(frozenset(group for group in out if len(group) > 1))

    def __and__(self, other: Adjacencies) -> Adjacencies:
        return Adjacencies.of([*self.groups, *other.groups])

    def __le__(self, other: Adjacencies) -> bool:
        return all(any(group <= mine for mine in self.groups) for group in other.groups)

    def one(self, a: str, b: str) -> bool:
        return a == b or any(a in group and b in group for group in self.groups)

    def clash(
        self, prefixes: Mapping[str, Iterable[Prefix]], addresses: Mapping[str, Mapping[str, Address]]
    ) -> tuple[str, str] | None:
        """What breaks the rules of what was chosen by link: the link, and why; None where nothing does. `addresses` of each link
        by connection point."""
        for a, b in combinations(prefixes, 2):
            one = self.one(a, b)
            for p in prefixes[a]:
                for q in prefixes[b]:
                    if overlap(p, q) and not (one and p == q):
                        return b, f"prefix {q} overlaps {p} of {a!r}"
            if one and set(prefixes[a]) != set(prefixes[b]):
                return b, f"it is one with {a!r} and has another prefix"
        first: dict[tuple[str, Address], tuple[str, str]] = {}
        for link, chosen in addresses.items():
            group = min((min(g) for g in self.groups if link in g), default=link)
            for point, address in chosen.items():
                other = first.setdefault((group, address), (link, point))
                if other[1] != point:
                    return link, f"{address} of {point} is that of {other[1]} too"
        return None
