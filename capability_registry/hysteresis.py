"""When a note that has changed is worth a new edition: loss at once, the rest when it has lasted.

An edition is signed here and verified, read and planned with at every customer, so not every order that takes a label may
cost one. A note is a hint that ages: the supplier decides when it is asked, and a refusal says what is free instead.

Rules kept here
- LESS: something that was announced would now be refused: a SAP, way or function is gone, dearer or slower; bandwidth,
  labels or capacity fell by more than `share`, or to where the last label, or a flavour's host, is gone. Out at once.
- MORE: new SAPs, places, functions. Out at once too.
- SLIGHT: smaller losses; amounts and ways that came back. Out when the note has differed for `rest`: what comes and goes
  within it is never told, and nothing that differs stays untold for longer.
- Who makes us flap does not get through: within `rest` at most `gains` editions for MORE, `losses` for LESS.
- Of a period, what it said is compared with what is said of that window now.
- Edition, validity and origin tokens are not what a note says: two notes that differ in them alone are the SAME.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import chain
from typing import TypeVar

from address_planner.labels import NO_LABEL, LabelSet
from capability_registry.front import MANY
from capability_registry.note import BorderPoint, CapabilityNote, PlaceCapacity, SapOffer, Share
from capability_registry.packing import total
from capability_registry.periods import seen, window_of, within

T = TypeVar("T")
Key = TypeVar("Key")


class Change(IntEnum):
    """How much a note says otherwise; of several changes the greatest counts."""

    SAME = 0
    SLIGHT = 1
    MORE = 2
    LESS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """`share`: the fraction of an amount that may go untold; `rest`: for how long. `gains`, `losses`: how many editions
    an audience gets within `rest` before their time."""

    share: float = 0.1
    rest: timedelta = timedelta(seconds=10)
    gains: int = 8
    losses: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Of one audience's note: since when the truth differs from it, and when editions were issued before their time."""

    since: datetime | None = None
    early: tuple[datetime, ...] = ()

    def seeing(self, change: Change, now: datetime) -> Pace:
        """After a look at what there is to tell."""
        if change is Change.SAME:
            return replace(self, since=None)
        return self if self.since is not None else replace(self, since=now)

    def due(self, change: Change, now: datetime, by: Pacing) -> bool:
        """Whether a new edition is to be issued now."""
        if change is Change.SAME:
            return False
        if self._rested(now, by):
            return True
        lately = sum(1 for instant in self.early if now - instant < by.rest)
        return (change is Change.LESS and lately < by.losses) or (change is Change.MORE and lately < by.gains)

    def issued(self, now: datetime, by: Pacing) -> Pace:
        """After an edition at `now`."""
        lately = tuple(instant for instant in self.early if now - instant < by.rest)
        return Pace(early=lately if self._rested(now, by) else (*lately, now))

    def _rested(self, now: datetime, by: Pacing) -> bool:
        return self.since is not None and now - self.since >= by.rest


def change(before: CapabilityNote, after: CapabilityNote, share: float) -> Change:
    """What became of what `before` said; `share` as in Pacing."""
    if before is after:
        return Change.SAME
    return max(
        Change.SAME if _frame(before) == _frame(after) else Change.LESS,
        _listed(before.places, after.places, Change.MORE),
        _listed(before.functions, after.functions, Change.MORE),
        _saps(before.saps, after.saps, share),
        _capacities(before, after, share),
        _entries(before, after, share),
        _shared(before, after, share),
        _sellers(before.shares, after.shares, share),
        _periods(before, after, share),
    )


def labels(before: LabelSet, after: LabelSet, share: float) -> Change:
    """What became of a set of free labels."""
    if before == after:
        return Change.SAME
    return _amount(len(before), len(before & after), share)


_NOT_SAID = {"edition", "not_before", "expires", "origin_tokens"}
_BY_PARTS = {"places", "functions", "saps", "capacities", "matrix", "guarded", "shared", "shares", "periods"}
_FRAME = tuple(f.name for f in fields(CapabilityNote) if f.name not in _NOT_SAID | _BY_PARTS)


def _frame(note: CapabilityNote) -> tuple[object, ...]:
    return tuple(getattr(note, name) for name in _FRAME)


def _amount(before: int, after: int, share: float) -> Change:
    return Change.LESS if after < before * (1 - share) or (before and not after) else Change.SLIGHT


def _listed(before: Iterable[T], after: Iterable[T], added: Change) -> Change:
    if before == after:
        return Change.SAME
    return added if set(before) <= set(after) else Change.LESS


def _matched(
    before: Mapping[Key, T], after: Mapping[Key, T], added: Change, compare: Callable[[T, T], Change]
) -> Change:
    worst = Change.SAME if before.keys() == after.keys() else added
    for key, was in before.items():
        now = after.get(key)
        if now is None:
            return Change.LESS
        if now != was:
            worst = max(worst, compare(was, now))
    return worst


def _saps(before: tuple[SapOffer, ...], after: tuple[SapOffer, ...], share: float) -> Change:
    def compare(was: SapOffer, now: SapOffer) -> Change:
        if _fixed(was) != _fixed(now):
            return Change.LESS
        return max(_amount(was.bandwidth_bps, now.bandwidth_bps, share), labels(was.free, now.free, share))

    if before == after:
        return Change.SAME
    return _matched({s.id: s for s in before}, {s.id: s for s in after}, Change.MORE, compare)


def _fixed(sap: SapOffer) -> SapOffer:
    return replace(sap, labels=NO_LABEL, more_labels=NO_LABEL, bandwidth_bps=0, shares=())


def _capacities(before: CapabilityNote, after: CapabilityNote, share: float) -> Change:
    def compare(was: PlaceCapacity, now: PlaceCapacity) -> Change:
        least = _largest(was), _largest(now)
        gone = any(least[1] < u <= least[0] for u in units.get(was.place, ()))
        if gone or (was.lan and not now.lan):
            return Change.LESS
        return _amount(total(was.bins), total(now.bins), share)

    if before.capacities == after.capacities:
        return Change.SAME
    units: dict[str, set[int]] = {}
    for offer in before.functions:
        units.setdefault(offer.place, set()).update(flavour.units for flavour in offer.flavours)
    return _matched(
        {c.place: c for c in before.capacities}, {c.place: c for c in after.capacities}, Change.SLIGHT, compare
    )


def _largest(capacity: PlaceCapacity) -> int:
    return max((b.size for b in capacity.bins if b.count), default=0)


def _entries(before: CapabilityNote, after: CapabilityNote, share: float) -> Change:
    """Guarded or not: who cannot read a guarded way is told that it lost it when the rest is over."""
    free = [{s.id: s.free for s in note.saps} for note in (before, after)]

    def told(point: BorderPoint, pair: _Pair, note: int) -> tuple[LabelSet, LabelSet]:
        a, b = pair
        return point.labels_a or free[note].get(a, NO_LABEL), point.labels_b or free[note].get(b, NO_LABEL)

    def compare(was: list[tuple[_Pair, BorderPoint]], now: list[tuple[_Pair, BorderPoint]]) -> Change:
        def kept(pair: _Pair, w: BorderPoint) -> bool:
            then = told(w, pair, 0)
            return any(
                _serves(n, w, share)
                and all(labels(x, y, share) <= Change.SLIGHT for x, y in zip(then, told(n, pair, 1), strict=True))
                for _, n in now
            )

        return Change.SLIGHT if all(kept(pair, w) for pair, w in was) else Change.LESS

    if (before.matrix, before.guarded) == (after.matrix, after.guarded):
        return Change.SAME
    return max(Change.SLIGHT, _matched(_points(before), _points(after), Change.SLIGHT, compare))


_Pair = tuple[str, str]


def _points(note: CapabilityNote) -> dict[_Pair, list[tuple[_Pair, BorderPoint]]]:
    """By the two ends, the ways between them with these."""
    out: dict[_Pair, list[tuple[_Pair, BorderPoint]]] = {}
    for entry in chain(note.matrix, note.guarded):
        pair = entry.a, entry.b
        out.setdefault(pair, []).extend((pair, point) for point in entry.points)
    return out


def _serves(now: BorderPoint, was: BorderPoint, share: float) -> bool:
    """Whether `now` does for whoever was told `was`, but for a little bandwidth."""
    return (
        now.price.currency == was.price.currency
        and now.price.once <= was.price.once
        and now.price.per_hour <= was.price.per_hour
        and now.delay_us <= was.delay_us
        and _amount(was.bandwidth_bps, now.bandwidth_bps, share) is Change.SLIGHT
        and now.availability >= was.availability
        and now.mtu >= was.mtu
        and now.swaps_labels >= was.swaps_labels
        and now.lan >= was.lan
        and now.lan_alone >= was.lan_alone
        and set(now.isolation) >= set(was.isolation)
        and (not was.countries or (bool(now.countries) and set(now.countries) <= set(was.countries)))
    )


def _shared(before: CapabilityNote, after: CapabilityNote, share: float) -> Change:
    """A limit that is new bounds what was bounded by its entries' own bandwidths till now, and by limits over more entries.
    Which of an entry's points it is that a limit is on says nothing: they change places."""
    if before.shared == after.shared:
        return Change.SAME
    ceilings = {f"{a}|{b}": sum(p.bandwidth_bps for _, p in points) for (a, b), points in _points(before).items()}
    limits: dict[frozenset[tuple[str, float]], int] = {}
    pools: dict[frozenset[tuple[str, float]], int] = {}
    for limit in before.shared:
        known, amount = (pools, limit.labels) if limit.labels else (limits, limit.limit_bps)
        over = _over(limit.coefficients)
        known[over] = min(known.get(over, amount), amount)
    for limit in after.shared:
        if limit.labels:
            over = _over(limit.coefficients)
            was = min((labels for known, labels in pools.items() if over <= known), default=MANY)
            if _amount(was, limit.labels, share) is Change.LESS:
                return Change.LESS
            continue
        over = _over(limit.coefficients)
        implied = int(sum(c * ceilings.get(entry, 0) for entry, c in over))
        was = min([implied, *(bps for known, bps in limits.items() if over <= known)])
        if _amount(was, min(was, limit.limit_bps), share) is Change.LESS:
            return Change.LESS
    return Change.SLIGHT


def _sellers(before: tuple[Share, ...], after: tuple[Share, ...], share: float) -> Change:
    """Of a pool there is less for several sellers, or it has one more of them: who counts on the rest is refused."""
    if before == after:
        return Change.SAME
    now: dict[str, list[Share]] = {}
    for each in after:
        now.setdefault(each.token, []).append(each)
    worst = Change.SLIGHT
    for each in before:
        others = now.get(each.token, [each])
        for name in ("bandwidth_bps", "units"):
            was, least = getattr(each, name), min(getattr(o, name) for o in others)
            if least < was:
                worst = max(worst, _amount(was, least, share))
    return worst


def _periods(before: CapabilityNote, after: CapabilityNote, share: float) -> Change:
    """What became of what was told of each period that is not past, in which now another may count. More than before is told when
    the rest is over."""
    if before.periods == after.periods:
        return Change.SAME
    worst = Change.SLIGHT
    for number, period in enumerate(before.periods):
        window = window_of(period).since(after.not_before)
        if not window.empty:
            then, now = seen(before, number), within(after, window)
            worst = max(worst, change(replace(then, periods=()), replace(now, periods=()), share))
    return worst


def _over(coefficients: Mapping[str, float]) -> frozenset[tuple[str, float]]:
    """The entries of these ways, each with the most."""
    most: dict[str, float] = {}
    for key, coefficient in coefficients.items():
        entry = key.partition("#")[0]
        most[entry] = max(most.get(entry, 0.0), coefficient)
    return frozenset(most.items())
