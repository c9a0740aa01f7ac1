"""The note of an own domain, as it follows from what is free.

Rules kept here
- The border matrix announces routes that are free now between every two points (`capability_registry.front`), so what is
  announced is what a reservation then finds.
- What several routes take together is a shared limit.
- What is told is free at any time to come. Periods tell of the same routes what is free then, and besides of those that are worth
  telling only then: always, little or nothing may be free on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

from capability_registry.front import Draws
from capability_registry.note import (
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    FunctionOffer,
    Period,
    PlaceCapacity,
    PointKind,
    SapOffer,
    SharedLimit,
)
from capability_registry.periods import lasting
from lower_sp_clients.vim.domain import Domain, Sap, Usage, free_bins
from lower_sp_clients.vim.routing import Route, Routes
from service_model.constraints import PLACEMENT
from service_model.families import DUAL_STACK, FIXED_PORTS
from service_model.flows import PATHS
from service_model.qos import QOS
from service_model.spec import LAN_SITES, MACS
from service_model.window import Window


@dataclass(frozen=True, slots=True)
class _Told:
    """A route as it is announced, by its key in limits."""

    key: str
    kind: PointKind
    route: Route

    def bandwidth(self, routes: Routes) -> int:
        """Bit/s, where so much is free."""
        return max(0, min(routes.free(way) for way in self.route.ways))


_Pairs = dict[tuple[str, str], list[_Told]]


def _told(domain: Domain, always: Routes, later: Iterable[Routes]) -> _Pairs:
    """Between each two points the routes that are worth telling: always, and then those of the periods."""
    points = [*(s.id for s in domain.saps if s.usable), *(p.id for p in domain.places)]
    out: _Pairs = {}
    for a, b in combinations(points, 2):
        found = always.announced(a, b)
        known = {route.ways for _, route in found}
        for routes in later:
            for _, route in routes.announced(a, b):
                if route.ways not in known:
                    known.add(route.ways)
                    found.append((PointKind.BETWEEN, route))
        if found:
            out[a, b] = [_Told(f"{a}|{b}#{n}", kind, route) for n, (kind, route) in enumerate(found)]
    return out


def _entries(domain: Domain, told: _Pairs, routes: Routes) -> Iterator[BorderEntry]:
    saps = {s.id: s for s in domain.saps}
    for (a, b), found in told.items():
        mtu = min(saps[point].mtu if point in saps else 65535 for point in (a, b))
        ends = [saps[point] for point in (a, b) if point in saps]
        tied, swaps = len(ends) == 2 and domain.ties(*ends), domain.swaps_labels
        swaps = swaps or (len(ends) == 2 and not tied)
        yield BorderEntry(
            a=a, b=b, points=tuple(_point(domain, t, t.bandwidth(routes), mtu, tied, swaps) for t in found)
        )


def _limits(domain: Domain, told: _Pairs, routes: Routes) -> tuple[SharedLimit, ...]:
    draws = Draws()
    for found in told.values():
        for each in {t.route.ways: t for t in reversed(found)}.values():
            draws.add(each.key, each.bandwidth(routes), {way.id: 1.0 for way in each.route.ways})
    return draws.limits({way.id: max(0, routes.free(way)) for way in domain.ways})


def _period(domain: Domain, told: _Pairs, always: Usage, before: Routes, window: Window, usage: Usage) -> Period:
    """What is otherwise in the window, with `usage`, than `always`, with the routes of `before`."""
    now = Routes(domain, usage)
    bins = ((p.id, free_bins(domain, usage, p.id), free_bins(domain, always, p.id)) for p in domain.places)
    ways = ((t.key, t.bandwidth(now), t.bandwidth(before)) for found in told.values() for t in found)
    saps = ((s.id, _free(s, usage), _free(s, always)) for s in domain.saps if s.usable)
    period = Period(
        capacities=tuple(PlaceCapacity(place=place, bins=more) for place, more, least in bins if more != least),
        saps={id: more for id, more, least in saps if more != least},
        ways={key: more for key, more, least in ways if more != least},
        shared=_limits(domain, told, now),
    )
    return lasting(window, period)


def _free(sap: Sap, usage: Usage) -> int:
    return max(0, sap.bandwidth_bps - usage.bandwidth.get(sap.id, 0))


def _point(domain: Domain, told: _Told, bandwidth_bps: int, mtu: int, tied: bool, swaps: bool) -> BorderPoint:
    route = told.route
    return BorderPoint(
        kind=told.kind,
        price=route.price,
        delay_us=route.delay_us,
        bandwidth_bps=bandwidth_bps,
        availability=route.availability,
        mtu=mtu,
        swaps_labels=swaps,
        lan=bool(domain.lan),
        isolation=tuple(sorted(route.isolation)),
        countries=tuple(sorted(route.countries or ())),
        lan_alone=bool(domain.lan) and not tied,
    )


def note(
    domain: Domain,
    usage: Usage,
    edition: int,
    now: datetime,
    validity: timedelta,
    later: Sequence[tuple[Window, Usage]] = (),
) -> CapabilityNote:
    """The domain's own note at this moment: to its own broker only, so it needs no signature. `usage`: what is taken at any time
    to come; `later`: what is taken within windows, the widest first."""
    routes = Routes(domain, usage)
    told = _told(domain, routes, [Routes(domain, then) for _, then in later])
    offers = [
        FunctionOffer(
            type=f.type, place=place, ports=f.ports, flavours=f.flavours, delay_us=f.delay_us, families=f.families
        )
        for f in domain.functions
        for place in sorted(f.places)
    ]
    return CapabilityNote(
        sp_id=domain.sp_id,
        edition=edition,
        audience=domain.sp_id,
        not_before=now,
        expires=now + validity,
        api_features=(DUAL_STACK, FIXED_PORTS, LAN_SITES, MACS, PATHS, PLACEMENT, QOS),
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
                bandwidth_bps=_free(s, usage),
                interconnect=s.interconnect,
                peer=s.peer,
                decides_labels=s.decides_labels,
                path_headers=s.path_headers,
            )
            for s in domain.saps
            if s.usable
        ),
        matrix=tuple(_entries(domain, told, routes)),
        shared=_limits(domain, told, routes),
        periods=tuple(_period(domain, told, usage, routes, window, then) for window, then in later),
        max_hold_s=domain.max_hold_s,
        remaining_depth=0,
    )
