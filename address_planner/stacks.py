"""Prefixes of one family or of both, for links that have them. Pure.

Rules kept here
- A family is carved from its own part of what is allowed: neither takes anything of the other.
- Who wants no family by name gets the first of what is allowed, IPv4 before IPv6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from address_planner.prefixes import Prefix, PrefixTooSmall, carve, subtract


@dataclass(frozen=True, slots=True)
class Wanted:
    """A prefix of so many host bits, of each of these IP versions (none: one prefix, of either)."""

    bits: int
    versions: tuple[int, ...] = ()


def carve_stacks(
    allowed: Iterable[Prefix], excluded: Iterable[Prefix], wanted: Mapping[str, Wanted]
) -> dict[str, tuple[Prefix, ...]]:
    """The prefixes of each key, IPv4 first, all disjoint, within `allowed` and outside `excluded`.

    Raises PrefixTooSmall with the number of addresses that the whole needs of that family.
    """
    free = subtract(allowed, excluded)
    either = free[0].version if free else 0
    out: dict[str, tuple[Prefix, ...]] = dict.fromkeys(wanted, ())
    for version in (0, 4, 6):
        here = {key: w.bits for key, w in wanted.items() if version in (w.versions or (either,))}
        if not here:
            continue
        try:
            carved = carve([p for p in free if p.version == version], (), here)
        except PrefixTooSmall as error:
            raise PrefixTooSmall(error.wanted, error.needed, version) from None
        for key, prefix in carved.items():
            out[key] = (*out[key], prefix)
    return out
