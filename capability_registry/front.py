"""Which of the many ways between two points a note announces, and what of them draws on the same.

Rules kept here
- A way *serves* wherever another would when it is as wide, carries as large packets, a LAN where that does, offers each
  mechanism that it offers, passes no other country, takes each label that it takes at either end (or MANY), and leaves
  labels as free. Beaten is what another serves for that is
  neither dearer nor slower.
- Announced are the cheapest and the fastest. Then, one after the other until there are MOST, the way that gains most: the
  area of price times delay that is open with it and not without, to a flow that needs all that it offers and takes ROOM times
  the dearest and slowest. So what one way alone can do is not lost because it is dear.
- Each way is attainable as a whole: nothing is combined of two.
- A resource that several ways draw on is a shared limit where they together could overdraw it. (Of labels: `label_pools`.)
  One that another keeps within its bounds is not told: that bounds all its ways, each as often, by no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from address_planner.labels import LabelSet
from capability_registry.note import PointKind, SharedLimit

MANY = 16
"""Labels: where so many are left, which they are is not reckoned with."""
MOST = 9
ROOM = 2
UNLIMITED_BPS = 100_000_000_000_000

W = TypeVar("W")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(Generic[W]):
    """A way with the figures that ways are compared by. `cost` over any one term, the same for all that are compared, and
    `once` what of it does not grow with the term: who is cheaper by both is so over each shorter term. `countries` None: not
    told. `near`, `far`: the labels that it takes at its ends (None: any)."""

    way: W
    cost: float
    delay_us: int
    bandwidth_bps: int
    mtu: int = 0
    lan: bool = False
    swaps_labels: bool = True
    isolation: frozenset[str] = field(default_factory=frozenset)
    countries: frozenset[str] | None = frozenset()
    near: LabelSet | None = None
    far: LabelSet | None = None
    once: float = 0.0

    def serves(self, other: Candidate[W]) -> bool:
        """Whether it offers all that the other does, price and delay aside."""
        return (
            self.bandwidth_bps >= other.bandwidth_bps
            and self.mtu >= other.mtu
            and self.lan >= other.lan
            and self.swaps_labels >= other.swaps_labels
            and self.isolation >= other.isolation
            and (other.countries is None or (self.countries is not None and self.countries <= other.countries))
            and _takes(self.near, other.near)
            and _takes(self.far, other.far)
        )

    def beats(self, other: Candidate[W]) -> bool:
        return (
            self.cost <= other.cost
            and self.delay_us <= other.delay_us
            and self.once <= other.once
            and self.serves(other)
        )


def announced(candidates: Iterable[Candidate[W]], most: int = MOST) -> list[tuple[PointKind, W]]:
    """The ways to announce, the cheapest first, then the fastest (it may be the same), then what gains most; none of those
    that nothing is free on."""
    found = unbeaten(c for c in candidates if c.bandwidth_bps > 0)
    if not found:
        return []
    cheapest = min(found, key=lambda c: (c.cost, c.delay_us))
    fastest = min(found, key=lambda c: (c.delay_us, c.cost))
    kept = [cheapest, fastest]
    rest = [c for c in found if c is not cheapest and c is not fastest]
    most_of = tuple(ROOM * (1 + max(f)) for f in zip(*((c.cost, c.once, c.delay_us) for c in found), strict=True))
    gains = [_gain(c, kept, *most_of) for c in rest] if most > 2 else []
    while rest and len(kept) < most:
        n = max(range(len(rest)), key=gains.__getitem__)
        best = rest.pop(n)
        gains.pop(n)
        kept.append(best)
        gains = [_gain(c, kept, *most_of) if best.serves(c) else gain for c, gain in zip(rest, gains, strict=True)]
    kinds = (PointKind.CHEAPEST, PointKind.FASTEST, *(PointKind.BETWEEN for _ in kept[2:]))
    return [(kind, c.way) for kind, c in zip(kinds, kept, strict=True)]


def unbeaten(candidates: Iterable[Candidate[W]]) -> list[Candidate[W]]:
    """Cheapest first; of equal ones the first."""
    kept: list[Candidate[W]] = []
    for c in sorted(candidates, key=lambda c: (c.cost, c.delay_us, -c.bandwidth_bps)):
        if not any(k.beats(c) for k in kept):
            kept = [k for k in kept if not c.beats(k)]
            kept.append(c)
    return kept


def _takes(x: LabelSet | None, y: LabelSet | None) -> bool:
    """Whether x takes each label that y takes, or MANY."""
    return x is y or x is None or len(x) >= MANY or (y is not None and y <= x)


def _gain(c: Candidate[W], kept: Sequence[Candidate[W]], dearest: float, dearest_once: float, slowest: float) -> float:
    """The area in which a bound on price and one on delay admit `c`, and nothing of `kept` that serves for it: over the long
    term, and over the shortest."""
    others = [k for k in kept if k.serves(c)]
    long = _area(c.cost, c.delay_us, [(k.cost, k.delay_us) for k in others], dearest, slowest)
    short = _area(c.once, c.delay_us, [(k.once, k.delay_us) for k in others], dearest_once, slowest)
    return long / dearest + short / dearest_once


def _area(cost: float, delay: int, others: Iterable[tuple[float, int]], dearest: float, slowest: float) -> float:
    area, slow = 0.0, slowest
    for c, d in sorted((max(c, cost), max(d, delay)) for c, d in others):
        if d < slow:
            area += (dearest - c) * (slow - d)
            slow = d
    return (dearest - cost) * (slowest - delay) - area


@dataclass(slots=True)
class Draws:
    """What ways (by their key `a|b#n`) draw on, resource by resource: how often a flow passes it, and what each way carries."""

    by_resource: dict[str, dict[str, float]] = field(default_factory=dict)
    ceilings: dict[str, int] = field(default_factory=dict)

    def add(self, key: str, bandwidth_bps: int, drawn: Mapping[str, float]) -> None:
        """A way by its key."""
        self.ceilings[key] = bandwidth_bps
        for resource, times in drawn.items():
            self.by_resource.setdefault(resource, {})[key] = times

    def limits(self, has: Mapping[str, int]) -> tuple[SharedLimit, ...]:
        """What several flows could overdraw, by what each resource has (bit/s)."""
        bounds = [
            (has[resource], entries)
            for resource, entries in self.by_resource.items()
            if sum(times * self.ceilings[key] for key, times in entries.items()) > has[resource]
        ]
        return tuple(
            SharedLimit(id=f"limit-{n}", limit_bps=bps, coefficients=dict(over))
            for n, (over, bps) in enumerate(binding(bounds), start=1)
        )


def binding(bounds: Iterable[tuple[int, Mapping[str, float]]]) -> list[tuple[tuple[tuple[str, float], ...], int]]:
    """Of bounds, each with how often it counts each way, those that no other implies, in an order of their own."""
    number: dict[str, int] = {}
    kept: list[tuple[int, int, Mapping[str, float]]] = []
    for bound, times in sorted(bounds, key=lambda b: (b[0], -len(b[1]), sorted(b[1].items()))):
        ways = 0
        for way in times:
            ways |= 1 << number.setdefault(way, len(number))
        if not any(ways & ~more == 0 and all(t <= other[way] for way, t in times.items()) for more, _, other in kept):
            kept.append((ways, bound, times))
    return sorted((tuple(sorted(times.items())), bound) for _, bound, times in kept)


def shortened(limits: Iterable[SharedLimit], entries: Mapping[str, Collection[str]]) -> tuple[SharedLimit, ...]:
    """With the key `a|b` for all ways of an entry where they count alike. `entries`: by that key, the keys of its ways."""
    entry_of = {way: entry for entry, ways in entries.items() for way in ways}
    out = []
    for limit in limits:
        here: dict[str, list[str]] = {}
        for way in limit.coefficients:
            here.setdefault(entry_of[way], []).append(way)
        told: dict[str, float] = {}
        for entry, ways in here.items():
            counts = {limit.coefficients[way] for way in ways}
            if len(ways) == len(entries[entry]) and len(counts) == 1:
                told[entry] = counts.pop()
            else:
                told.update((way, limit.coefficients[way]) for way in ways)
        out.append(replace(limit, coefficients=told))
    return tuple(out)
