"""An own domain as a value: its points and ways, what is in use of them, and the note that follows.

Rules kept here
- Points are SAPs and places; ways join them; a route is a sequence of ways. The border matrix announces for every pair of
  points the cheapest and the fastest route that is free now, so what is announced is what a reservation then finds.
- Where ways offer isolation, the cheapest route that has a mechanism throughout is announced beside those two.
- Functions are packed onto anonymous hosts by best fit (the host with the least room that still holds them).
- Nothing here has an effect: `Usage` is changed by the caller, who keeps the durable record.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from address_planner.labels import LabelSet
from capability_registry.note import (
    Bin,
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    Encapsulation,
    Flavour,
    FunctionOffer,
    FunctionPort,
    Place,
    PlaceCapacity,
    PointKind,
    SapOffer,
    SapRole,
)
from service_model.constraints import PLACEMENT
from service_model.money import FREE, Price
from service_model.spec import FunctionType

TERM_HOURS = 720
"""Ways are compared by their price over one month (30 days) where no request says for how long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sap:
    id: str
    role: SapRole
    place: str
    encapsulation: Encapsulation
    mtu: int
    labels: LabelSet
    bandwidth_bps: int
    interconnect: str = ""
    peer: str = ""
    decides_labels: bool = False
    usable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One class of transport between two points, the same in both directions."""

    id: str
    a: str
    b: str
    price: Price
    delay_us: int
    bandwidth_bps: int
    availability: float = 1.0
    isolation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueFunction:
    """A function type as this domain makes it. `places` are those where it is offered."""

    type: FunctionType
    implementation: str
    ports: tuple[FunctionPort, ...]
    flavours: tuple[Flavour, ...]
    places: frozenset[str]
    delay_us: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """`hosts`: capacity units of each host at a place. `lan`: the places that offer LAN links."""

    name: str
    sp_id: str
    places: tuple[Place, ...]
    hosts: Mapping[str, tuple[int, ...]]
    lan: frozenset[str]
    saps: tuple[Sap, ...]
    ways: tuple[Way, ...]
    functions: tuple[CatalogueFunction, ...]
    swaps_labels: bool = True
    max_hold_s: int = 300
    quote_s: int = 3600

    def sap(self, id: str) -> Sap | None:
        return next((s for s in self.saps if s.id == id), None)

    def function(self, type: FunctionType) -> CatalogueFunction | None:
        return next((f for f in self.functions if f.type == type), None)


@dataclass(slots=True)
class Usage:
    """What is taken: bit/s by way or SAP id, units by (place, host index), labels by SAP (held, live or resting)."""

    bandwidth: dict[str, int] = field(default_factory=dict)
    units: dict[tuple[str, int], int] = field(default_factory=dict)
    labels: dict[str, dict[int, str]] = field(default_factory=dict)

    def free_labels(self, sap: Sap) -> LabelSet:
        return sap.labels - LabelSet.of(self.labels.get(sap.id, ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Ways in order between two points, with their sums (delay) and minima (bandwidth that is free)."""

    ways: tuple[Way, ...]
    price: Price
    delay_us: int
    bandwidth_bps: int
    availability: float

    @property
    def isolation(self) -> tuple[str, ...]:
        """The mechanisms that every way offers."""
        return tuple(sorted(set.intersection(*(set(w.isolation) for w in self.ways)))) if self.ways else ()


_WIDE = 100_000_000_000_000


def routes(domain: Domain, usage: Usage, source: str, by_delay: bool, bandwidth_bps: int = 0) -> dict[str, Route]:
    """Best routes from a point to all others with `bandwidth_bps` free, by price then delay, or by delay then price."""
    adjacent: dict[str, list[tuple[str, Way]]] = {}
    for way in domain.ways:
        if way.bandwidth_bps - usage.bandwidth.get(way.id, 0) >= bandwidth_bps:
            adjacent.setdefault(way.a, []).append((way.b, way))
            adjacent.setdefault(way.b, []).append((way.a, way))
    zero = Route(ways=(), price=FREE, delay_us=0, bandwidth_bps=_WIDE, availability=1.0)
    done: dict[str, Route] = {}
    heap: list[tuple[Decimal | int, Decimal | int, int, str, Route]] = [(0, 0, 0, source, zero)]
    count = 0
    sap_ids = {s.id for s in domain.saps}
    while heap:
        _, _, _, point, route = heapq.heappop(heap)
        if point in done:
            continue
        done[point] = route
        if point in sap_ids and point != source:  # a SAP is a border, not a way through
            continue
        for other, way in adjacent.get(point, ()):
            if other in done:
                continue
            longer = Route(
                ways=(*route.ways, way),
                price=route.price + way.price if route.ways else way.price,
                delay_us=route.delay_us + way.delay_us,
                bandwidth_bps=min(route.bandwidth_bps, way.bandwidth_bps - usage.bandwidth.get(way.id, 0)),
                availability=route.availability * way.availability,
            )
            count += 1
            cost = longer.price.over(TERM_HOURS)
            key = (longer.delay_us, cost) if by_delay else (cost, longer.delay_us)
            heapq.heappush(heap, (*key, count, other, longer))
    return done


def free_bins(domain: Domain, usage: Usage, place: str) -> tuple[Bin, ...]:
    """The free capacity of a place's hosts as anonymous bins, largest first."""
    sizes: dict[int, int] = {}
    for index, size in enumerate(domain.hosts.get(place, ())):
        free = max(0, size - usage.units.get((place, index), 0))
        sizes[free] = sizes.get(free, 0) + 1
    return tuple(Bin(size=size, count=sizes[size]) for size in sorted(sizes, reverse=True) if size)


def pack(domain: Domain, usage: Usage, place: str, units: Sequence[int]) -> tuple[int, ...] | None:
    """A host index at `place` for each demand, largest first by best fit; None when they do not fit together."""
    free = {i: size - usage.units.get((place, i), 0) for i, size in enumerate(domain.hosts.get(place, ()))}
    out: dict[int, int] = {}
    for demand in sorted(range(len(units)), key=lambda d: -units[d]):
        host = min((i for i in free if free[i] >= units[demand]), key=lambda i: (free[i], i), default=None)
        if host is None:
            return None
        free[host] -= units[demand]
        out[demand] = host
    return tuple(out[i] for i in range(len(units)))


def _entries(domain: Domain, usage: Usage) -> Iterable[BorderEntry]:
    sap_mtu = {s.id: s.mtu for s in domain.saps}
    points = [*(s.id for s in domain.saps if s.usable), *(p.id for p in domain.places)]
    lan = bool(domain.lan)
    offered = sorted({mechanism for way in domain.ways for mechanism in way.isolation})
    within = [replace(domain, ways=tuple(w for w in domain.ways if m in w.isolation)) for m in offered]
    for i, a in enumerate(points):
        cheapest = routes(domain, usage, a, by_delay=False)
        fastest = routes(domain, usage, a, by_delay=True)
        isolated = [routes(ways, usage, a, by_delay=False) for ways in within]
        for b in points[i + 1 :]:
            if b in cheapest:
                found = [(PointKind.CHEAPEST, cheapest[b]), (PointKind.FASTEST, fastest[b])]
                for more in isolated:
                    if b in more and more[b] not in [route for _, route in found]:
                        found.append((PointKind.CHEAPEST, more[b]))
                yield BorderEntry(
                    a=a,
                    b=b,
                    points=tuple(
                        BorderPoint(
                            kind=kind,
                            price=route.price,
                            delay_us=route.delay_us,
                            bandwidth_bps=route.bandwidth_bps,
                            availability=route.availability,
                            mtu=min(sap_mtu.get(a, 65535), sap_mtu.get(b, 65535)),
                            swaps_labels=domain.swaps_labels,
                            lan=lan,
                            isolation=route.isolation,
                        )
                        for kind, route in found
                    ),
                )


def note(domain: Domain, usage: Usage, edition: int, now: datetime, validity: timedelta) -> CapabilityNote:
    """The domain's own note at this moment: to its own broker only, so it needs no signature."""
    offers = [
        FunctionOffer(type=f.type, place=place, ports=f.ports, flavours=f.flavours, delay_us=f.delay_us)
        for f in domain.functions
        for place in sorted(f.places)
    ]
    return CapabilityNote(
        sp_id=domain.sp_id,
        edition=edition,
        audience=domain.sp_id,
        not_before=now,
        expires=now + validity,
        api_features=(PLACEMENT,),
        places=domain.places,
        functions=tuple(offers),
        capacities=tuple(
            PlaceCapacity(place=p.id, bins=free_bins(domain, usage, p.id), lan=p.id in domain.lan)
            for p in domain.places
        ),
        saps=tuple(
            SapOffer(
                id=s.id,
                role=s.role,
                place=s.place,
                encapsulation=s.encapsulation,
                mtu=s.mtu,
                labels=usage.free_labels(s),
                bandwidth_bps=s.bandwidth_bps - usage.bandwidth.get(s.id, 0),
                interconnect=s.interconnect,
                peer=s.peer,
                decides_labels=s.decides_labels,
            )
            for s in domain.saps
            if s.usable
        ),
        matrix=tuple(_entries(domain, usage)),
        max_hold_s=domain.max_hold_s,
        remaining_depth=0,
    )
