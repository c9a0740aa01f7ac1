"""Small federations for the planner's tests: notes and specs in a few words, and random ones from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from address_planner.labels import LabelSet
from broker.decompose.plan import Plan, Snapshot, SupplierView
from capability_registry.note import (
    Bin,
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    Encapsulation,
    FunctionOffer,
    FunctionPort,
    Place,
    PlaceCapacity,
    PointKind,
    PortRole,
    SapOffer,
    SapRole,
)
from service_model.constraints import PLACEMENT
from service_model.flavours import Flavour
from service_model.flows import PATHS
from service_model.money import Price
from service_model.qos import QOS
from service_model.spec import (
    LAN_SITES,
    MACS,
    End,
    FunctionRequest,
    FunctionType,
    LinkKind,
    ServiceFunctionPath,
    ServiceSpec,
    VirtualLink,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PORTS = (
    FunctionPort(name="in"),
    FunctionPort(name="out"),
    FunctionPort(name="in2"),
    FunctionPort(name="out2"),
    FunctionPort(name="out3"),
    FunctionPort(name="mgmt", role=PortRole.MANAGEMENT),
)
GBIT = 1_000_000_000


def kind(name: str) -> FunctionType:
    return FunctionType("acme", name, "1")


def sap(id: str, place: str, to: str = "", peer: str = "", **more: Any) -> SapOffer:
    """`to`: the interconnect; without one it is a UNI."""
    figures: dict[str, Any] = {"mtu": 9000, "labels": LabelSet(((100, 199),)), "bandwidth_bps": 10 * GBIT} | more
    role = SapRole.NNI if to else SapRole.UNI
    return SapOffer(
        id=id, role=role, place=place, encapsulation=Encapsulation.VLAN, interconnect=to, peer=peer, **figures
    )


def point(cost: int | str, delay: int, **more: Any) -> BorderPoint:
    figures: dict[str, Any] = {"bandwidth_bps": 10 * GBIT, "lan": True, "countries": ("DE",)} | more
    figures.setdefault("lan_alone", figures["lan"])
    kind = figures.pop("kind", PointKind.CHEAPEST)
    return BorderPoint(kind=kind, price=Price(once=Decimal(cost)), delay_us=delay, **figures)


def entry(a: str, b: str, *points: BorderPoint) -> BorderEntry:
    return BorderEntry(a=a, b=b, points=points)


def offer(type: str, place: str, cost: int | str = 1, units: int = 1, delay: int = 0, **more: Any) -> FunctionOffer:
    flavour = Flavour(name="default", units=units, price=Price(once=Decimal(cost)), **more)
    return FunctionOffer(type=kind(type), place=place, ports=PORTS, flavours=(flavour,), delay_us=delay)


def view(
    alias: str,
    saps: Sequence[SapOffer],
    matrix: Iterable[BorderEntry],
    functions: Iterable[FunctionOffer] = (),
    bins: int = 8,
    lan: bool = True,
    local: bool = False,
    usable: bool = True,
    sp_id: str = "",
    **more: Any,
) -> SupplierView:
    offers = tuple(functions)
    places = dict.fromkeys([s.place for s in saps] + [f.place for f in offers])
    capacities = tuple(PlaceCapacity(place=p, bins=(Bin(size=bins, count=1),), lan=lan) for p in places)
    more.setdefault("capacities", capacities)
    more.setdefault("api_features", (LAN_SITES, MACS, PLACEMENT, PATHS, QOS))
    note = CapabilityNote(
        sp_id=sp_id or f"sp-{alias}",
        edition=1,
        audience="top",
        not_before=NOW - timedelta(hours=1),
        expires=NOW + timedelta(hours=1),
        places=tuple(Place(id=p, country="DE") for p in places),
        functions=offers,
        saps=tuple(saps),
        matrix=tuple(matrix),
        **more,
    )
    names = {f"{alias}.{s.id}": s.id for s in saps}
    return SupplierView(alias=alias, sp_id=note.sp_id, note=note, local=local, saps=names, usable=usable)


def snapshot(*views: SupplierView) -> Snapshot:
    return Snapshot(own_sp_id="top", number=1, suppliers=views)


def sides(plan: Plan) -> list[tuple[str, str, str]]:
    """Of each visit of a chain in order: alias, SAP of entry and of exit."""
    stretches = [s for line in plan.lines.values() for s in line]
    entries = [s for s in stretches if s.entry is not None]
    exits = [s for s in stretches if s.exit is not None]
    assert [s.segment for s in entries] == [s.segment for s in exits]
    return [(plan.segments[a.segment].alias, a.entry or "", b.exit or "") for a, b in zip(entries, exits, strict=True)]


def lan(id: str, *points: str) -> VirtualLink:
    return VirtualLink(id=id, kind=LinkKind.LAN, points=points)


def chain_spec(
    a: str, b: str, types: Sequence[str] = (), lans: Sequence[VirtualLink] = (), ends: Sequence[End] = (), **more: Any
) -> ServiceSpec:
    """From SAP a to SAP b through functions f0, f1, … of these types, with ends `a` and `b`."""
    hops = ["a"]
    for i in range(len(types)):
        hops += [f"f{i}:in", f"f{i}:out"]
    hops.append("b")
    pairs = zip(hops[::2], hops[1::2], strict=True)
    lines = tuple(VirtualLink(id=f"l{i}", points=pair) for i, pair in enumerate(pairs))
    more.setdefault("functions", tuple(FunctionRequest(id=f"f{i}", type=kind(t)) for i, t in enumerate(types)))
    return ServiceSpec(
        name="svc",
        ends=(End(id="a", sap=a), End(id="b", sap=b), *ends),
        links=lines + tuple(lans),
        paths=(ServiceFunctionPath(id="p", hops=tuple(hops)),),
        **more,
    )


def mesh_spec(
    ends: Mapping[str, str], types: Mapping[str, str], *paths: str, lans: Sequence[VirtualLink] = (), **more: Any
) -> ServiceSpec:
    """`ends`: id → SAP; `types`: function → type; `paths`: "a f0 b", each once written. Line `x-y` joins x to y; the nth line
    into a function is at its port `in`, `in2`, …, the nth out of it at `out`, `out2`, …"""
    ports: dict[tuple[str, str], tuple[str, str]] = {}
    taken: Counter[str] = Counter()

    def port(function: str, name: str) -> str:
        if function in ends:
            return function
        taken[f"{function}:{name}"] += 1
        number = taken[f"{function}:{name}"]
        return f"{function}:{name}{number if number > 1 else ''}"

    walked = []
    for n, path in enumerate(paths):
        hops: list[str] = []
        for x, y in pairwise(path.split()):
            if (x, y) not in ports:
                ports[x, y] = port(x, "out"), port(y, "in")
            hops += ports[x, y]
        walked.append(ServiceFunctionPath(id=f"p{n}", hops=tuple(hops)))
    return ServiceSpec(
        name="svc",
        ends=tuple(End(id=id, sap=at) for id, at in ends.items()),
        functions=tuple(FunctionRequest(id=id, type=kind(t)) for id, t in types.items()),
        links=(*(VirtualLink(id=f"{x}-{y}", points=pair) for (x, y), pair in ports.items()), *lans),
        paths=tuple(walked),
        **more,
    )


def random_snapshot(seed: int, suppliers: int = 4, labels: int = 0, joints: int = 3) -> Snapshot:
    """A random multigraph: UNIs, interconnects, up to two places each, and tight figures everywhere.

    `labels`: at least so many on each interconnect; `joints`: at most so many beside those of a line."""
    rng = random.Random(seed)
    names = [f"s{i}" for i in range(suppliers)]
    saps: dict[str, list[SapOffer]] = {n: [] for n in names}
    for n in names:
        saps[n].append(sap("uni", f"{n}p0", labels=LabelSet(((1, 9),)), bandwidth_bps=rng.choice([3, 10])))
    pairs = [(names[i], names[i + 1]) for i in range(suppliers - 1)]
    pairs += [tuple(sorted(rng.sample(names, 2))) for _ in range(rng.randint(1, joints))]  # type: ignore[misc]
    for i, (x, y) in enumerate(pairs):
        first = rng.randint(1, 6)
        free = LabelSet(((first, first + labels + rng.choice([0, 0, 1, 5])),))
        mtu = rng.choice([1500, 9000, 9000])
        for near, far, decides in ((x, y, True), (y, x, False)):
            bandwidth = rng.choice([1, 2, 10])
            saps[near].append(
                sap(
                    f"n{i}", f"{near}p0", to=f"ix{i}", peer=f"sp-{far}", decides_labels=decides,
                    labels=free, bandwidth_bps=bandwidth, mtu=mtu,
                )
            )  # fmt: skip
    views = []
    for n in names:
        offers = []
        for p in range(rng.randint(0, 2)):
            for t in "xy":
                if rng.random() < 0.7:
                    offers.append(offer(t, f"{n}p{p}", rng.randint(0, 9), rng.randint(1, 3), rng.randint(0, 5)))
        points = [s.id for s in saps[n]] + list(dict.fromkeys(f.place for f in offers))
        matrix = []
        for i, a in enumerate(points):
            for b in points[i + 1 :]:
                if rng.random() < 0.85:
                    ways = tuple(
                        point(
                            rng.randint(0, 9), rng.randint(1, 9), bandwidth_bps=rng.choice([1, 2, 4, 10]),
                            mtu=rng.choice([1500, 9000, 9000]), lan=rng.random() < 0.8,
                            swaps_labels=rng.random() < 0.7,
                        )
                        for _ in range(2)
                    )  # fmt: skip
                    matrix.append(entry(a, b, *(replace(w, lan_alone=w.lan and w.swaps_labels) for w in ways)))
        views.append(view(n, saps[n], matrix, offers, bins=rng.randint(2, 5), lan=rng.random() < 0.8))
    return snapshot(*views)
