"""Whether functions of one service fit on the hosts of one place, with those that must share a host and those that must
not.

Rules kept here
- Functions that must share a host are packed as one. Without any that must not share, it is the published packing.
- Else best-fit decreasing in the same order, past hosts that hold a function from which it must be apart. It may miss a
  packing that exists; what it accepts exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from capability_registry.note import Bin
from capability_registry.packing import packs
from service_model.constraints import Group, GroupKind, GroupScope


def fits(bins: Iterable[Bin], units: Mapping[str, int], groups: Iterable[Group]) -> bool:
    """`units`: of each function that is to be at the place."""
    by_host = [g for g in groups if g.scope is GroupScope.HOST]
    parts: list[set[str]] = [{name} for name in units]
    for group in by_host:
        if group.kind is GroupKind.AFFINITY:
            joined = [p for p in parts if p.intersection(group.functions)]
            parts = [p for p in parts if p not in joined] + ([set().union(*joined)] if joined else [])
    apart = [set(g.functions) for g in by_host if g.kind is GroupKind.ANTI_AFFINITY]
    if any(len(part & foes) > 1 for part in parts for foes in apart):
        return False
    loads = [(sum(units[name] for name in part), part) for part in parts]
    if not any(len(foes & units.keys()) > 1 for foes in apart):
        return packs(bins, [load for load, _ in loads])
    free = sorted(size for b in bins for size in [b.size] * min(b.count, len(parts)))
    hosts: list[tuple[int, set[str]]] = [(size, set()) for size in free]
    for load, part in sorted(loads, key=lambda item: (-item[0], sorted(item[1]))):
        fitting = [
            (not held, left, i)
            for i, (left, held) in enumerate(hosts)
            if left >= load and not any(foes & part and foes & held for foes in apart)
        ]
        if not fitting:
            return False
        _, left, i = min(fitting)
        hosts[i] = (left - load, hosts[i][1] | part)
    return True
