"""Whether functions of one service fit on the hosts of one place, with those that must share a host and those that must
not. The planner asks it of announced bins, a domain of its hosts: by the same algorithm, so they never differ.

Rules kept here
- Functions that must share a host are packed as one. Without any that must not share, it is the published packing.
- Else best-fit decreasing in the same order, past hosts that hold a function from which it must be apart. It may miss a
  packing that exists; what it accepts exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from capability_registry.note import Bin
from capability_registry.packing import packs
from service_model.constraints import Group, GroupKind, GroupScope


def fits(bins: Iterable[Bin], units: Mapping[str, int], groups: Iterable[Group]) -> bool:
    """`units`: of each function that is to be at the place."""
    groups = tuple(groups)
    parts, apart = _parts(units, groups), _apart(groups)
    if not any(len(foes & units.keys()) > 1 for foes in apart):
        return packs(bins, [sum(units[name] for name in part) for part in parts])
    return hosts([size for b in bins for size in [b.size] * min(b.count, len(parts))], units, groups) is not None


def hosts(free: Sequence[int], units: Mapping[str, int], groups: Iterable[Group]) -> dict[str, int] | None:
    """A host, by its number in `free` (units), for each function; None when they do not fit so."""
    groups = tuple(groups)
    parts, apart = _parts(units, groups), _apart(groups)
    if any(len(part & foes) > 1 for part in parts for foes in apart):
        return None
    loads = [(sum(units[name] for name in part), part) for part in parts]
    left: list[tuple[int, int]] = sorted((size, number) for number, size in enumerate(free))
    held: list[set[str]] = [set() for _ in left]
    out: dict[str, int] = {}
    for load, part in sorted(loads, key=lambda item: (-item[0], sorted(item[1]))):
        fitting = [
            (not held[i], room, i)
            for i, (room, _) in enumerate(left)
            if room >= load and not any(foes & part and foes & held[i] for foes in apart)
        ]
        if not fitting:
            return None
        _, room, i = min(fitting)
        number = left[i][1]
        left[i], held[i] = (room - load, number), held[i] | part
        out.update(dict.fromkeys(part, number))
    return out


def _parts(units: Mapping[str, int], groups: Iterable[Group]) -> list[set[str]]:
    """The functions, those that must share a host in one set."""
    parts: list[set[str]] = [{name} for name in units]
    for group in groups:
        if group.scope is GroupScope.HOST and group.kind is GroupKind.AFFINITY:
            joined = [p for p in parts if p.intersection(group.functions)]
            parts = [p for p in parts if p not in joined] + ([set().union(*joined)] if joined else [])
    return parts


def _apart(groups: Iterable[Group]) -> list[set[str]]:
    by_host = (g for g in groups if g.scope is GroupScope.HOST)
    return [set(g.functions) for g in by_host if g.kind is GroupKind.ANTI_AFFINITY]
