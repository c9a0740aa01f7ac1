"""The note of an own domain, as it follows from what is free.

Rules kept here
- The border matrix announces routes that are free now between every two points (`capability_registry.front`), so what is
  announced is what a reservation then finds.
- What several routes take together is a shared limit.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import combinations

from capability_registry.front import Draws
from capability_registry.note import (
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    FunctionOffer,
    PlaceCapacity,
    PointKind,
    SapOffer,
    SharedLimit,
)
from lower_sp_clients.vim.domain import Domain, Usage, free_bins
from lower_sp_clients.vim.routing import Route, Routes
from service_model.constraints import PLACEMENT
from service_model.families import DUAL_STACK, FIXED_PORTS
from service_model.flows import PATHS
from service_model.qos import QOS
from service_model.spec import LAN_SITES, MACS


def _matrix(domain: Domain, usage: Usage) -> tuple[tuple[BorderEntry, ...], tuple[SharedLimit, ...]]:
    routes, draws = Routes(domain, usage), Draws()
    saps = {s.id: s for s in domain.saps}
    sap_mtu = {s.id: s.mtu for s in domain.saps}
    points = [*(s.id for s in domain.saps if s.usable), *(p.id for p in domain.places)]
    entries = []
    for a, b in combinations(points, 2):
        if found := routes.announced(a, b):
            mtu = min(sap_mtu.get(a, 65535), sap_mtu.get(b, 65535))
            ends = [saps[point] for point in (a, b) if point in saps]
            tied, swaps = len(ends) == 2 and domain.ties(*ends), domain.swaps_labels
            swaps = swaps or (len(ends) == 2 and not tied)
            entries.append(
                BorderEntry(a=a, b=b, points=tuple(_point(domain, k, r, mtu, tied, swaps) for k, r in found))
            )
            for number, route in {r.ways: (n, r) for n, (_, r) in reversed([*enumerate(found)])}.values():
                draws.add(f"{a}|{b}#{number}", route.bandwidth_bps, {way.id: 1.0 for way in route.ways})
    return tuple(entries), draws.limits({way.id: routes.free(way) for way in domain.ways})


def _point(domain: Domain, kind: PointKind, route: Route, mtu: int, tied: bool, swaps: bool) -> BorderPoint:
    return BorderPoint(
        kind=kind,
        price=route.price,
        delay_us=route.delay_us,
        bandwidth_bps=route.bandwidth_bps,
        availability=route.availability,
        mtu=mtu,
        swaps_labels=swaps,
        lan=bool(domain.lan),
        isolation=tuple(sorted(route.isolation)),
        countries=tuple(sorted(route.countries or ())),
        lan_alone=bool(domain.lan) and not tied,
    )


def note(domain: Domain, usage: Usage, edition: int, now: datetime, validity: timedelta) -> CapabilityNote:
    """The domain's own note at this moment: to its own broker only, so it needs no signature."""
    matrix, shared = _matrix(domain, usage)
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
                bandwidth_bps=s.bandwidth_bps - usage.bandwidth.get(s.id, 0),
                interconnect=s.interconnect,
                peer=s.peer,
                decides_labels=s.decides_labels,
                path_headers=s.path_headers,
            )
            for s in domain.saps
            if s.usable
        ),
        matrix=matrix,
        shared=shared,
        max_hold_s=domain.max_hold_s,
        remaining_depth=0,
    )
