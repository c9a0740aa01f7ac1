"""What a supplier announced lately beyond its last note: what may be there again. Pure.

A note that is old hides what has become free since, and nobody is asked, so no refusal tells. What was announced a while
ago could be had then: it may be had again, and the reservation decides.

Rules kept here
- Amounts come and go: hosts, bandwidth, labels, and ways that were full. Of these the most that was announced is remembered.
- Everything else is as the last note says: places, functions, SAPs, features, outages. What it does not name any more is not
  remembered, and nothing is hoped for that no note ever told.
- What ways draw on together is not remembered: it is told of what was free at one moment.
- It is forgotten after MEMORY to twice that, by the times at which notes were issued.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from capability_registry.note import Bin, BorderEntry, BorderPoint, CapabilityNote, PlaceCapacity, SapOffer

MEMORY = timedelta(minutes=10)
WAYS = 8
"""How many ways between two points are remembered: whoever changes its prices all the time does not fill us."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one supplier. `latest` is its last note, `recent` and `former` the most of what was announced since `recent`'s first
    note, and in the time before."""

    latest: CapabilityNote
    recent: CapabilityNote
    since: CapabilityNote
    former: CapabilityNote | None = None

    @classmethod
    def of(cls, note: CapabilityNote) -> Memory:
        return cls(note, note, note)

    def seeing(self, note: CapabilityNote) -> Memory:
        """With a newer note."""
        if note.not_before - self.since.not_before <= MEMORY:
            return replace(self, latest=note, recent=most(note, self.recent))
        gap = note.not_before - self.latest.not_before
        return Memory(note, most(note, self.latest), note, self.recent if gap <= MEMORY else None)

    def note(self) -> CapabilityNote:
        """The last note with what is remembered; that note itself where nothing is."""
        wide = most(self.latest, self.recent)
        return wide if self.former is None else most(wide, self.former)


def most(note: CapabilityNote, before: CapabilityNote) -> CapabilityNote:
    """`note` with the most that either announces; `note` itself where that is no more than it says."""
    if before is note:
        return note
    hosts, saps = {c.place: c for c in before.capacities}, {s.id: s for s in before.saps}
    capacities = tuple(_roomier(c, hosts.get(c.place)) for c in note.capacities)
    offers = tuple(_freer(s, saps.get(s.id)) for s in note.saps)
    matrix = tuple(_ways(note, note.matrix, before.matrix))
    guarded = tuple(_ways(note, note.guarded, before.guarded))
    if (capacities, offers, matrix, guarded) == (note.capacities, note.saps, note.matrix, note.guarded):
        return note
    return replace(note, capacities=capacities, saps=offers, matrix=matrix, guarded=guarded, shared=())


def _roomier(now: PlaceCapacity, before: PlaceCapacity | None) -> PlaceCapacity:
    """The largest hosts first, each as large as it was in either."""
    if before is None or before.bins == now.bins:
        return now
    runs = [sorted(((b.size, b.count) for b in bins if b.count), reverse=True) for bins in (now.bins, before.bins)]
    sizes: dict[int, int] = {}
    for size, count in _highest(*runs):
        sizes[size] = sizes.get(size, 0) + count
    old = {b.size: b.count for b in now.bins if b.count}
    return now if sizes == old else replace(now, bins=tuple(Bin(size=s, count=n) for s, n in sorted(sizes.items())))


def _highest(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The greater of two descending sequences at each place, all three as runs: (value, how often)."""
    left, right = [*reversed(one)], [*reversed(other)]
    while left or right:
        (x, n), (y, m) = left[-1] if left else (0, right[-1][1]), right[-1] if right else (0, left[-1][1])
        step = min(n, m)
        yield max(x, y), step
        for runs, value, count in ((left, x, n), (right, y, m)):
            if runs:
                runs.pop()
                if count > step:
                    runs.append((value, count - step))


def _freer(now: SapOffer, before: SapOffer | None) -> SapOffer:
    if before is None:
        return now
    labels, bps = now.labels | before.labels, max(now.bandwidth_bps, before.bandwidth_bps)
    more = (now.more_labels | before.more_labels) - labels
    return replace(now, labels=labels, more_labels=more, bandwidth_bps=bps)


def _ways(note: CapabilityNote, now: Sequence[BorderEntry], before: Sequence[BorderEntry]) -> Iterator[BorderEntry]:
    """The entries of both, between points that the note still has."""
    known = {(e.a, e.b): e for e in before}
    for entry in now:
        old = known.pop((entry.a, entry.b), None)
        yield entry if old is None or old.points == entry.points else _wider(entry, old.points)
    points = {*(s.id for s in note.saps), *(p.id for p in note.places)}
    yield from (replace(e, origins=()) if e.origins else e for e in known.values() if {e.a, e.b} <= points)


def _wider(now: BorderEntry, before: Sequence[BorderPoint]) -> BorderEntry:
    """With the ways of before that are not announced, or carried more: those that carried most."""
    carries = {_way(p): p.bandwidth_bps for p in sorted(now.points, key=_bps)}
    lost = {_way(p): p for p in sorted(before, key=_bps) if p.bandwidth_bps > carries.get(_way(p), -1)}
    more = sorted(lost.values(), key=_bps)[-WAYS:]
    return replace(now, points=(*now.points, *more)) if more else now


def _bps(point: BorderPoint) -> int:
    return point.bandwidth_bps


def _way(point: BorderPoint) -> tuple[object, ...]:
    return (
        point.price, point.delay_us, point.availability, point.mtu, point.swaps_labels, point.lan, point.isolation,
        point.countries,
    )  # fmt: skip
