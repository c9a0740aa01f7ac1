"""One supplier's note as a piece of the graph: its own numbers for SAPs, places and ways, and their figures in arrays.

Rules kept here
- A piece depends on the note alone, so it is kept for as long as the note is, whatever else changes.
- Border points are numbered SAPs first, then places at which a function is offered. What names anything else is left out;
  a way from a point to itself does not exist; the same way is kept once, but for notes with periods: there it may be two.
- A way of the matrix or a guarded one: labels that may be used at its ends are kept where it tells them.
- Prices are kept as whole numbers of 1e-9 currency units, so sums are exact. A price in another currency than its
  note's is not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from decimal import ROUND_CEILING, Decimal
from itertools import chain
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from address_planner.labels import LabelSet
from capability_registry.note import (
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    FunctionOffer,
    FunctionPort,
    Place,
    PlaceCapacity,
    SapOffer,
)
from service_model.families import versions
from service_model.flavours import Flavour
from service_model.money import Price
from service_model.spec import FunctionType

_NANO = Decimal(10) ** 9
ROOM = 1 + 1e-12
"""A quotient of floats may be too low by rounding; what is admitted so is judged exactly afterwards."""

Numbers = NDArray[np.int64]
Figures = NDArray[np.float64]
Flags = NDArray[np.bool_]
Countries = NDArray[np.object_]


def nano(amount: Decimal) -> int:
    """An amount in 1e-9 units; finer amounts round up, so that a plan is never announced too cheap."""
    return int((amount * _NANO).to_integral_value(ROUND_CEILING))


def price_of(currency: str, once: int, hour: int) -> Price:
    """The Price of these nano-amounts."""
    return Price(currency=currency, once=Decimal(once) / _NANO, per_hour=Decimal(hour) / _NANO)


@dataclass(frozen=True, slots=True, eq=False)
class Between:
    """The way between two border points (piece's numbers), the same in both directions. `limits`: (shared limit of the
    note, coefficient). `labels`: what may be used at `a` and at `b` (None: whatever is free there)."""

    a: int
    b: int
    point: BorderPoint
    once: int
    hour: int
    limits: tuple[tuple[int, float], ...]
    labels: tuple[LabelSet | None, LabelSet | None]

    def from_(self, point: int) -> tuple[LabelSet | None, LabelSet | None]:
        """What may be used at this border point of its two, and at the other."""
        return self.labels if point == self.a else (self.labels[1], self.labels[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """A place with what is offered there; `known` is what the note tells about where it lies."""

    place: str
    known: Place | None
    capacity: PlaceCapacity
    offers: dict[FunctionType, FunctionOffer]

    @property
    def site(self) -> str:
        return self.known.location if self.known else self.place


_FAMILY_BITS = {4: 1, 6: 2}
ONE_FAMILY = 4
"""The bit of who does either family, one at a time."""
_OFFERED = ("once", "hour", "delay", "units", "most_bps", "families")


def family_bits(versions: Iterable[int]) -> int:
    """IP versions as bits. None: those of both, but not both at once."""
    return sum(_FAMILY_BITS[version] for version in versions) or ONE_FAMILY


@dataclass(frozen=True, slots=True, eq=False)
class Offering:
    """One type and flavour as offered at the places `at` (numbers of places), in arrays of the same length."""

    at: Numbers
    once: Figures
    hour: Figures
    delay: Figures
    units: Figures
    most_bps: Figures
    families: Numbers
    """Of addresses, bits as in `family_bits`."""
    ports: tuple[tuple[FunctionPort, ...], ...]

    @property
    def kinds_of_ports(self) -> Iterator[tuple[FunctionPort, ...]]:
        """Each list of ports once: offers of a type mostly share it."""
        seen: set[tuple[FunctionPort, ...]] = set()
        last = None
        for ports in self.ports:
            if ports is not last and ports not in seen:
                seen.add(ports)
                yield ports
            last = ports

    @classmethod
    def of(cls, rows: list[tuple[int, FunctionOffer, Flavour]]) -> Offering:
        return cls(
            at=np.array([at for at, _, _ in rows], dtype=np.int64),
            once=np.array([nano(f.price.once) for _, _, f in rows], dtype=np.float64),
            hour=np.array([nano(f.price.per_hour) for _, _, f in rows], dtype=np.float64),
            delay=np.array([offer.delay_us for _, offer, _ in rows], dtype=np.float64),
            units=np.array([f.units for _, _, f in rows], dtype=np.float64),
            most_bps=np.array([f.max_bandwidth_bps or np.inf for _, _, f in rows], dtype=np.float64),
            families=np.array([family_bits(versions(offer.families)) for _, offer, _ in rows], dtype=np.int64),
            ports=tuple(offer.ports for _, offer, _ in rows),
        )

    def forwarding(self, versions: Collection[int]) -> Flags:
        """Where all of these IP versions are forwarded at once."""
        wanted = family_bits(versions)
        either: Flags = self.families == ONE_FAMILY
        whole: Flags = self.families & wanted == wanted
        return whole | either if len(versions) < 2 else whole

    def at_places(self, first: int) -> Offering:
        """The same, its places counted from `first`."""
        return replace(self, at=self.at + first)

    def kept(self, at: Numbers) -> Offering:
        """Where `at` says that its places are now: what is below 0 is no more."""
        if (at >= 0).all():
            return replace(self, at=at)
        stays = np.flatnonzero(at >= 0)
        figures = {name: getattr(self, name)[stays] for name in _OFFERED}
        return Offering(at=at[stays], **figures, ports=tuple(self.ports[i] for i in stays.tolist()))

    @classmethod
    def joined(cls, parts: list[Offering]) -> Offering | None:
        """Of different places, in their order; None where there are none."""
        if len(parts) < 2:
            return parts[0] if parts else None
        at = np.concatenate([o.at for o in parts])
        order = np.argsort(at)
        figures = {name: np.concatenate([getattr(o, name) for o in parts])[order] for name in _OFFERED}
        ports = [p for o in parts for p in o.ports]
        return cls(at=at[order], **figures, ports=tuple(ports[i] for i in order.tolist()))


class Piece:
    """`ways` in their order in the note; `figures[name]` is the array over them of what the name says."""

    def __init__(self, note: CapabilityNote) -> None:
        self.note = note
        saps = first_named(note.saps)
        self.saps = tuple(saps.values())
        self.sap_number = {id: i for i, id in enumerate(saps)}
        self.places = _places(note)
        self.place_number = {here.place: i for i, here in enumerate(self.places)}
        self.sites: dict[str, list[int]] = {}
        """By site the numbers of its places."""
        for i, here in enumerate(self.places):
            self.sites.setdefault(here.site, []).append(i)
        self.place_alike = _alike(self.places, self.sites)
        self.tokens = frozenset(share.token for share in note.shares)
        self.tokens_twice = _twice(note) if len(self.tokens) < len(note.shares) else frozenset()
        """Of the pools that it sells of, and of those that it has of several sellers."""
        self.ways = tuple(self._ways())
        self.sap_mtu = np.array([s.mtu for s in self.saps], dtype=np.float64)
        self.sap_bps = np.array([s.bandwidth_bps for s in self.saps], dtype=np.float64)
        self.largest_bin = np.array(
            [max((b.size for b in h.capacity.bins if b.count), default=0) for h in self.places], dtype=np.float64
        )
        self.place_lan = np.array([h.capacity.lan for h in self.places], dtype=np.bool_)
        self.sap_country = _countries(note, (s.place for s in self.saps))
        self.place_country = _countries(note, (h.place for h in self.places))
        self.counts = np.array([[len(self.saps), len(self.places), len(self.ways), len(note.shared)]], dtype=np.int64)
        """How many SAPs, places, ways and shared limits it has: one row."""
        self.way_a = np.array([w.a for w in self.ways], dtype=np.int64)
        self.way_b = np.array([w.b for w in self.ways], dtype=np.int64)
        points = [w.point for w in self.ways]
        self.once = np.array([w.once for w in self.ways], dtype=np.float64)
        self.hour = np.array([w.hour for w in self.ways], dtype=np.float64)
        self.delay = np.array([p.delay_us for p in points], dtype=np.float64)
        self.way_most_bps = np.array([self._most(w) for w in self.ways], dtype=np.float64)
        self.way_mtu = np.array([p.mtu for p in points], dtype=np.float64)
        self.way_lan = np.array([p.lan for p in points], dtype=np.bool_)
        self.way_swaps = np.array([p.swaps_labels for p in points], dtype=np.bool_)
        self.way_told = np.array([w.labels != (None, None) for w in self.ways], dtype=np.bool_)
        """The ways that tell labels of their own, by number."""
        self._offerings: dict[tuple[FunctionType, str | None], Offering | None] = {}

    def point(self, number: int) -> str:
        """The id of a border point."""
        count = len(self.saps)
        return self.saps[number].id if number < count else self.places[number - count].place

    def offering(self, type: FunctionType, flavour: str | None) -> Offering | None:
        """Where the type is offered in this flavour (None: the default one); None where it is not."""
        key = (type, flavour)
        if key not in self._offerings:
            rows = [
                (number, offer, chosen)
                for number, here in enumerate(self.places)
                if (offer := here.offers.get(type)) and (chosen := default_flavour(offer, flavour))
            ]
            self._offerings[key] = Offering.of(rows) if rows else None
        return self._offerings[key]

    def _number(self, id: str) -> int | None:
        sap = self.sap_number.get(id)
        if sap is not None:
            return sap
        place = self.place_number.get(id)
        return None if place is None else len(self.saps) + place

    def _ways(self) -> list[Between]:
        limits: dict[str, list[tuple[int, float]]] = {}
        for index, limit in enumerate(self.note.shared):
            for key, coefficient in limit.coefficients.items():
                limits.setdefault(key, []).append((index, coefficient))
        out = []
        for entry, mark in self._entries():
            a, b = self._number(entry.a), self._number(entry.b)
            if a is None or b is None or a == b:
                continue
            keys = (f"{entry.a}|{entry.b}", f"{entry.b}|{entry.a}")
            for number, point in enumerate(entry.points) if self.note.periods else different(entry.points):
                if payable(point.price, self.note):
                    once, hour = nano(point.price.once), nano(point.price.per_hour)
                    held = [limits.get(k, []) for key in keys for k in (key, f"{key}#{mark}{number}")]
                    told = (point.labels_a or None, point.labels_b or None)
                    out.append(Between(a, b, point, once, hour, tuple(chain.from_iterable(held)), told))
        return out

    def _entries(self) -> Iterator[tuple[BorderEntry, str]]:
        """With what their points' numbers are marked by in keys of shared limits."""
        yield from ((entry, "") for entry in self.note.matrix)
        yield from ((entry, "g") for entry in self.note.guarded)

    def _most(self, way: Between) -> float:
        """The bandwidth that it and the limits on it carry when nothing else is ordered."""
        shared = self.note.shared
        return min([way.point.bandwidth_bps, *(shared[i].limit_bps / c * ROOM for i, c in way.limits if c > 0)])


def first_named(saps: Iterable[SapOffer]) -> dict[str, SapOffer]:
    """By id; of several with one id the first counts."""
    out: dict[str, SapOffer] = {}
    for sap in saps:
        out.setdefault(sap.id, sap)
    return out


def _countries(note: CapabilityNote, places: Iterable[str]) -> Countries:
    """Of these places, None where it is not told: where several have one id, the last counts."""
    known = {p.id: p.told_country for p in note.places}
    return np.array([known.get(place) for place in places], dtype=np.object_)


def _places(note: CapabilityNote) -> tuple[Here, ...]:
    capacities = {c.place: c for c in note.capacities}
    known = {p.id: p for p in note.places}
    offers: dict[str, dict[FunctionType, FunctionOffer]] = {}
    for offer in note.functions:
        if all(payable(f.price, note) for f in offer.flavours):
            offers.setdefault(offer.place, {}).setdefault(offer.type, offer)
    return tuple(
        Here(place=p, known=known.get(p), capacity=capacities.get(p, PlaceCapacity(place=p, bins=())), offers=here)
        for p, here in offers.items()
    )


def _alike(places: tuple[Here, ...], sites: dict[str, list[int]]) -> Numbers:
    """Of each place how many places before it the first is that may be the same: the note may have them of two who sell one
    thing. -1: none may. What they offer would be alike in all that no seller changes. What has shares tells itself."""
    found: dict[tuple[str, frozenset[object]], list[int]] = {}
    for site, numbers in sites.items():
        for place in numbers if len(numbers) > 1 else ():
            if places[place].capacity.shares:
                continue
            offers = places[place].offers.values()
            alike = frozenset(
                (o.type, o.ports, o.delay_us, tuple((f.name, f.units, f.runtime) for f in o.flavours)) for o in offers
            )
            found.setdefault((site, alike), []).append(place)
    out: Numbers = np.full(len(places), -1, dtype=np.int64)
    for same in found.values():
        if len(same) > 1:
            out[same] = np.array(same) - same[0]
    return out


def _twice(note: CapabilityNote) -> frozenset[str]:
    times = Counter(share.token for share in note.shares)
    return frozenset(token for token, often in times.items() if often > 1)


def payable(price: Price, note: CapabilityNote) -> bool:
    """Whether a price is in its note's currency, or nothing."""
    return price.currency == note.currency or not (price.once or price.per_hour)


def default_flavour(offer: FunctionOffer, wanted: str | None) -> Flavour | None:
    """The flavour `wanted`, or the default (the first) where None; None where it is not offered."""
    if wanted is None:
        return offer.flavours[0]
    return next((f for f in offer.flavours if f.name == wanted), None)


_FIGURES = [f.name for f in fields(BorderPoint) if f.name != "kind"]
_figures = attrgetter(*_FIGURES)


def different(points: tuple[BorderPoint, ...]) -> list[tuple[int, BorderPoint]]:
    """Each way once, with its number among the points: the cheapest may be the fastest. One that another beats is kept: a
    second flow may need it."""
    kept: dict[object, tuple[int, BorderPoint]] = {}
    for number, p in enumerate(points):
        kept.setdefault(_figures(p), (number, p))
    return list(kept.values())
