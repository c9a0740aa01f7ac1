"""Suppliers' notes as they are for a window of time. Pure.

Rules kept here
- Of each note the period counts that covers the window, else what is always free (`capability_registry.periods`).
- A snapshot whose notes have no such period is what is planned over, the same object. Notes and snapshots of a window are kept
  for a while, so that what is made of them can be kept as well.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from datetime import datetime
from typing import Generic, TypeVar

from broker.decompose.plan import Snapshot
from capability_registry.note import CapabilityNote
from capability_registry.periods import covering, seen
from service_model.spec import ServiceSpec
from service_model.window import Window

T = TypeVar("T")
Choice = tuple[int | None, ...]
"""Of each supplier the number of the period that counts; None: what is always free."""


class _Kept(Generic[T]):
    """What was made of an object, by that object and a key; those used last. The object is kept with it, so that its identity
    is its own for as long."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: OrderedDict[tuple[int, Hashable], tuple[object, T]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, source: object, key: Hashable, make: Callable[[], T]) -> T:
        at = id(source), key
        with self._lock:
            known = self._made.get(at)
            if known is not None:
                self._made.move_to_end(at)
                return known[1]
        made = make()
        with self._lock:
            self._made[at] = source, made
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        return made


_notes: _Kept[CapabilityNote] = _Kept(256)
_snapshots: _Kept[Snapshot] = _Kept(16)


def asked_for(spec: ServiceSpec, now: datetime) -> Window:
    """The window of a request: from its start, or now, to its end."""
    return Window.of(spec.start_time, spec.end_time).since(now)


def timely(snapshot: Snapshot, window: Window) -> Snapshot:
    """The snapshot as it is for requests with this window."""
    return in_periods(snapshot, choice(snapshot, window))


def choice(snapshot: Snapshot, window: Window) -> Choice:
    return tuple(covering(view.note, window) if view.note.periods else None for view in snapshot.suppliers)


def in_periods(snapshot: Snapshot, chosen: Choice) -> Snapshot:
    """The snapshot with the notes as they are in these of their periods."""
    if all(number is None for number in chosen):
        return snapshot
    views = zip(snapshot.suppliers, chosen, strict=True)

    def made() -> Snapshot:
        return replace(
            snapshot,
            suppliers=tuple(v if n is None else replace(v, note=_seen(v.note, n)) for v, n in views),
        )

    return _snapshots.of(snapshot, chosen, made)


def _seen(note: CapabilityNote, number: int) -> CapabilityNote:
    return _notes.of(note, number, lambda: seen(note, number))
