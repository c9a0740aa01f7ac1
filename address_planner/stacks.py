"""Prefixes of one family or of both, for links that have them. Pure.

Rules kept here
- A family is carved from its own part of what is allowed: neither takes anything of the other.
- Who wants no family by name gets the first of what is allowed, IPv4 before IPv6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from address_planner.conflicts import carved_again
from address_planner.prefixes import Prefix, PrefixTooSmall, subtract

NOTHING: Mapping[str, Sequence[Prefix]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A prefix of so many host bits, of each of these IP versions (none: one prefix, of either)."""

    bits: int
    versions: tuple[int, ...] = ()


def carve_stacks(
    allowed: Iterable[Prefix],
    excluded: Iterable[Prefix],
    wanted: Mapping[str, Wanted],
    kept: Mapping[str, Sequence[Prefix]] = NOTHING,
    avoid: Sequence[Prefix] = (),
) -> dict[str, tuple[Prefix, ...]]:
    """The prefixes of each key, IPv4 first, all disjoint, within `allowed` and outside `excluded`. `kept`, `avoid`: as in
    `carved_again`.

    Raises PrefixTooSmall with the number of addresses that the whole needs of that family.
    """
    allowed, excluded = list(allowed), list(excluded)
    free = subtract(allowed, (*excluded, *avoid))
    either = free[0].version if free else 0
    out: dict[str, tuple[Prefix, ...]] = dict.fromkeys(wanted, ())
    for version in (0, 4, 6):
        here = {key: w.bits for key, w in wanted.items() if version in (w.versions or (either,))}
        if not here:
            continue
        before = {key: p for key, prefixes in kept.items() for p in prefixes if p.version == version}
        try:
            carved = carved_again([p for p in allowed if p.version == version], excluded, here, before, avoid)
        except PrefixTooSmall as error:
            raise PrefixTooSmall(error.wanted, error.needed, version) from None
        for key, prefix in carved.items():
            out[key] = (*out[key], prefix)
    return out
