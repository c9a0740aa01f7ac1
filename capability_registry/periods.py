"""More than is always free: what a note announces for windows of time, period by period.

What a note tells otherwise is free at any time to come, whatever window a request has. Where somebody has reserved in
advance, or will end, more is free in some windows; a note tells a few of these.

Rules kept here
- A period counts for a request whose whole window it covers; of several the last that is told. What it does not name is as
  always, but what ways share it tells whole.
- Of at most MOST moments at which what is free changes, all windows between any two are looked at, the widest first. A window is
  told where it says otherwise than the last one told that covers it. So of two windows that are told and cover a request,
  the narrower counts, and what a request finds never becomes less with a shorter window.
- Where nobody reserves in advance, and nobody has said when it ends, there are no periods.
- To those who may not see much, periods are told in whole hours or days, rounded to be shorter (`coarser`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from capability_registry.note import BorderEntry, CapabilityNote, Period
from service_model.window import BEGINNING, NEVER, Window

MOST = 4

T = TypeVar("T")


def windows(moments: Iterable[datetime]) -> list[Window]:
    """All windows between two of these moments, or open at one side, the widest (by how many are within) first."""
    bounds = [BEGINNING, *sorted(set(moments)), NEVER]
    whole = len(bounds) - 1
    return [Window(bounds[i], bounds[i + n]) for n in range(whole - 1, 0, -1) for i in range(whole - n + 1)]


def telling(some: Iterable[Window], found: Callable[[Window], T], always: T) -> list[tuple[Window, T]]:
    """Those of these windows, the widest first, that say otherwise than what covers them; and what they say."""
    told: list[tuple[Window, T]] = []
    for window in some:
        says = found(window)
        known = next((other for wider, other in reversed(told) if wider.covers(window)), always)
        if says != known:
            told.append((window, says))
    return told


def window_of(period: Period) -> Window:
    return Window.of(period.start, period.end)


def covering(note: CapabilityNote, window: Window) -> int | None:
    """The number of the period that counts for a window; None: what is always free."""
    numbered = reversed([*enumerate(note.periods)])
    return next((n for n, period in numbered if window_of(period).covers(window)), None)


def within(note: CapabilityNote, window: Window) -> CapabilityNote:
    """What the note announces for a window; the note itself where that is what it announces always."""
    number = covering(note, window)
    return note if number is None else seen(note, number)


def seen(note: CapabilityNote, number: int) -> CapabilityNote:
    """The note as it is in one of its periods. It keeps them, and so its ways their numbers where two say the same then."""
    period = note.periods[number]
    bins = {capacity.place: capacity.bins for capacity in period.capacities}
    return replace(
        note,
        capacities=tuple(replace(c, bins=bins[c.place]) if c.place in bins else c for c in note.capacities),
        saps=tuple(replace(s, bandwidth_bps=period.saps[s.id]) if s.id in period.saps else s for s in note.saps),
        matrix=tuple(_entry(entry, "", period.ways) for entry in note.matrix),
        guarded=tuple(_entry(entry, "g", period.ways) for entry in note.guarded),
        shared=period.shared,
    )


def _entry(entry: BorderEntry, mark: str, ways: Mapping[str, int]) -> BorderEntry:
    figures = [ways.get(f"{entry.a}|{entry.b}#{mark}{n}") for n in range(len(entry.points))]
    if all(bps is None for bps in figures):
        return entry
    points = zip(entry.points, figures, strict=True)
    return replace(entry, points=tuple(p if bps is None else replace(p, bandwidth_bps=bps) for p, bps in points))


def coarser(periods: Iterable[Period], grain: timedelta) -> tuple[Period, ...]:
    """Periods that begin and end at whole grains, within those that they stand for; of equal ones the last."""
    out: dict[Window, Period] = {}
    for period in periods:
        within = window_of(period)
        start = within.start if period.start is None else _floor(within.start - timedelta.resolution, grain) + grain
        end = within.end if period.end is None else _floor(within.end, grain)
        window = Window(start, end)
        if not window.empty:
            out.pop(window, None)
            out[window] = lasting(window, period)
    return tuple(out.values())


def lasting(window: Window, period: Period) -> Period:
    """The period with this window."""
    start, end = window.told()
    return replace(period, start=start, end=end)


def _floor(at: datetime, grain: timedelta) -> datetime:
    since = datetime(1970, 1, 1, tzinfo=UTC)
    return at - (at - since) % grain
