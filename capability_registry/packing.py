"""Packing functions into a place's anonymous bins: the one published algorithm that both sides try.

Rules kept here
- Best-fit decreasing: the units in decreasing order, each into the fullest open host that still holds it, else into a
  new host of the smallest size that holds it (Johnson, Near-optimal bin packing algorithms, 1973, ch. 2).
- What does not fit by this algorithm is not offered, even if a cleverer packing exists: a buyer and a seller who run
  the same algorithm on the same bins never differ.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

from capability_registry.note import Bin


def packs(bins: Iterable[Bin], units: Iterable[int]) -> bool:
    """Whether functions of these capacity units all fit into the bins. A function of no units always fits."""
    closed: dict[int, int] = {}
    for b in bins:
        if b.size and b.count:
            closed[b.size] = closed.get(b.size, 0) + b.count
    sizes = sorted(closed)
    opened: list[int] = []  # what is left on the hosts in use, ascending
    for need in sorted((u for u in units if u), reverse=True):
        i = bisect_left(opened, need)
        if i < len(opened):
            left = opened.pop(i) - need
        else:
            size = next((s for s in sizes[bisect_left(sizes, need) :] if closed[s]), None)
            if size is None:
                return False
            closed[size] -= 1
            left = size - need
        if left:
            insort(opened, left)
    return True


def total(bins: Iterable[Bin]) -> int:
    """All capacity units of the bins together."""
    return sum(b.size * b.count for b in bins)
