"""A plain enumerator as the oracle of the planner: every walk, judged as a whole, written without the planner's parts.

It walks notes directly (no graph, no bounds, no dominance) and judges a finished walk by the rules of the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from math import acos, cos, radians, sin

from address_planner.labels import LabelSet
from broker.decompose.plan import Snapshot, SupplierView
from capability_registry.note import BorderPoint, Place, SapOffer
from service_model.constraints import Distance, GroupKind, GroupScope
from service_model.spec import LinkKind, ServiceSpec


@dataclass
class Walk:
    """`stages`: the parts of the walk at one supplier each: entry, functions' places, exit, the ways between."""

    stages: list[Stage] = field(default_factory=list)
    crossings: list[str] = field(default_factory=list)


@dataclass
class Stage:
    view: SupplierView
    entry: str
    exit: str
    places: list[str]
    ways: list[tuple[str, int, BorderPoint, int]]
    """(entry of the matrix, number of the point, the point, functions placed before it)"""


def _ways(view: SupplierView, a: str, b: str) -> Iterator[tuple[str, int, BorderPoint]]:
    for e in view.note.matrix:
        if {e.a, e.b} == {a, b} and a != b:
            for number, p in enumerate(e.points):
                yield f"{e.a}|{e.b}", number, p


def _inside(view: SupplierView, entry: str, types: list[object], done: int) -> Iterator[Stage]:
    """Every stage that begins at `entry` with `done` functions placed."""
    note = view.note

    def go(at: str, places: list[str], ways: list[tuple[str, int, BorderPoint, int]]) -> Iterator[Stage]:
        k = done + len(places)
        for s in note.saps:
            if s.id != at:
                for key, number, p in _ways(view, at, s.id):
                    yield Stage(view, entry, s.id, places, [*ways, (key, number, p, k)])
        if k < len(types):
            for f in note.functions:
                if f.type != types[k]:
                    continue
                if f.place == at:
                    yield from go(at, [*places, at], ways)
                for key, number, p in _ways(view, at, f.place):
                    yield from go(f.place, [*places, f.place], [*ways, (key, number, p, k)])

    yield from go(entry, [], [])


def walks(spec: ServiceSpec, snapshot: Snapshot) -> Iterator[Walk]:
    """Every feasible walk from end a to end b (their SAPs are `alias.sap`), not entering a SAP twice in one layer."""
    views = {v.alias: v for v in snapshot.suppliers}
    sides: dict[str, list[tuple[str, SapOffer]]] = {}
    for v in snapshot.suppliers:
        for s in v.note.saps:
            if s.interconnect:
                sides.setdefault(s.interconnect, []).append((v.alias, s))
    types: list[object] = [f.type for f in spec.functions]
    start, goal = spec.ends[0].sap.split("."), spec.ends[1].sap.split(".")

    def go(alias: str, entry: str, done: int, walk: Walk, seen: set[tuple[str, str, int]]) -> Iterator[Walk]:
        if (alias, entry, done) in seen:
            return
        for stage in _inside(views[alias], entry, types, done):
            k = done + len(stage.places)
            longer = Walk([*walk.stages, stage], walk.crossings)
            if not feasible(longer, spec):  # what is too much already never becomes less
                continue
            if [alias, stage.exit] == goal:
                if k == len(types):
                    yield longer
                continue
            out = views[alias].note.sap(stage.exit)
            assert out is not None
            if out.interconnect:
                for other, s in sides[out.interconnect]:
                    if (other, s.id) != (alias, stage.exit):
                        longer = Walk(longer.stages, [*walk.crossings, out.interconnect])
                        yield from go(other, s.id, k, longer, seen | {(alias, entry, done)})

    yield from go(start[0], start[1], 0, Walk(), set())


def cost(
    walk: Walk, spec: ServiceSpec, counted: Callable[[SupplierView], Decimal] = lambda view: Decimal(1)
) -> tuple[Decimal, int]:
    """Price and delay; `counted`: by which factor a supplier's prices count."""
    total, delay, k = Decimal(0), 0, 0
    for stage in walk.stages:
        factor = counted(stage.view)
        for *_, p, _k in stage.ways:
            total, delay = total + factor * p.price.over(spec.term_hours), delay + p.delay_us
        for place in stage.places:
            f = next(f for f in stage.view.note.functions if f.place == place and f.type == spec.functions[k].type)
            price = f.flavours[0].price.over(spec.term_hours)
            total, delay, k = total + factor * price, delay + f.delay_us, k + 1
    return total, delay


def key(walk: Walk) -> tuple[object, ...]:
    """What makes two plans the same: where they go and what they place."""
    return tuple((s.view.alias, s.entry, s.exit, tuple(s.places)) for s in walk.stages)


def feasible(walk: Walk, spec: ServiceSpec) -> bool:
    need = _lans_per_stretch(spec)
    bps = spec.bandwidth_bps
    sap_use: Counter[tuple[str, str]] = Counter()
    way_use: Counter[tuple[str, str, int]] = Counter()
    label_use: Counter[str] = Counter()
    units: dict[tuple[str, str], list[int]] = {}
    k, stretch_at = 0, []
    for stage in walk.stages:
        v = stage.view
        for s in (stage.entry, stage.exit):
            offer = v.note.sap(s)
            assert offer is not None
            if offer.mtu < spec.min_mtu:
                return False
            sap_use[v.alias, s] += bps
        for name, number, p, at in stage.ways:
            if p.mtu < spec.min_mtu or (need[at] and not p.lan):
                return False
            way_use[v.alias, name, number] += bps
            if way_use[v.alias, name, number] > p.bandwidth_bps:
                return False
        for place in stage.places:
            capacity = next(c for c in v.note.capacities if c.place == place)
            if f"f{k}" in _members(spec) and not capacity.lan:
                return False
            f = next(f for f in v.note.functions if f.place == place and f.type == spec.functions[k].type)
            units.setdefault((v.alias, place), []).append(f.flavours[0].units)
            if sum(units[v.alias, place]) > capacity.bins[0].size:  # one bin each in these notes
                return False
            k += 1
        stretch_at.append(k)
    for id, k in zip(walk.crossings, stretch_at, strict=False):
        label_use[id] += 1 + need[k]
    sizes = {s.interconnect: s.labels for st in walk.stages for s in st.view.note.saps if s.interconnect}
    if any(n > len(sizes[id]) for id, n in label_use.items()):
        return False
    for stage in walk.stages:
        for side in stage.view.note.saps:
            if sap_use[stage.view.alias, side.id] > side.bandwidth_bps:
                return False
    return _labels_continue(walk, stretch_at, need) and _where_asked(walk, spec)


def _labels_continue(walk: Walk, stretch_at: list[int], need: list[int]) -> bool:
    """Along segments that do not swap, the sets of all SAPs have enough in common."""
    first = walk.stages[0]
    common: LabelSet | None = _free(first, first.entry)
    for i, stage in enumerate(walk.stages):
        if stage.places or all(p.swaps_labels for *_, p, _k in stage.ways):
            common = None
        here = _free(stage, stage.exit)
        common = here if common is None else common & here
        if len(common) < 1 + need[stretch_at[i]]:
            return False
    return True


def _free(stage: Stage, id: str) -> LabelSet:
    offer = stage.view.note.sap(id)
    assert offer is not None
    return offer.labels


def _members(spec: ServiceSpec) -> set[str]:
    return {p.partition(":")[0] for link in spec.links if link.kind is LinkKind.LAN for p in link.points}


def _lans_per_stretch(spec: ServiceSpec) -> list[int]:
    """LANs here join functions only: each runs between its first and last member."""
    need = [0] * (len(spec.functions) + 1)
    for link in spec.links:
        if link.kind is LinkKind.LAN:
            at = sorted(int(p.partition(":")[0][1:]) for p in link.points)
            for a, b in pairwise(at):
                for stretch in range(a + 1, b + 1):
                    need[stretch] += 1
    return need


def _where_asked(walk: Walk, spec: ServiceSpec) -> bool:
    """Groups by place and supplier, countries, isolation and distances, of what the walk has placed so far."""
    known = {(s.view.alias, p.id): p for s in walk.stages for p in s.view.note.places}
    at = [(s.view.alias, place) for s in walk.stages for place in s.places]
    index = {f.id: k for k, f in enumerate(spec.functions)}
    for group in spec.groups:
        spots = [
            at[index[f]][0 if group.scope is GroupScope.SUPPLIER else 1] for f in group.functions if index[f] < len(at)
        ]
        if len(set(spots)) != (min(1, len(spots)) if group.kind is GroupKind.AFFINITY else len(spots)):
            return False
    for k, spot in enumerate(at):
        if not all(c.admit(known[spot].country) for c in (spec.countries, spec.functions[k].countries)):
            return False
    for stage in walk.stages:
        for id in (stage.entry, stage.exit):
            offer = stage.view.note.sap(id)
            assert offer is not None
            if not spec.countries.admit(known[stage.view.alias, offer.place].country):
                return False
        if any(not set(spec.isolation) <= set(p.isolation) for *_, p, _ in stage.ways):
            return False
    return all(_near_enough(walk, spec, d, at, index, known) for d in spec.distances)


def _near_enough(
    walk: Walk,
    spec: ServiceSpec,
    d: Distance,
    at: list[tuple[str, str]],
    index: dict[str, int],
    known: dict[tuple[str, str], Place],
) -> bool:
    position = {spec.ends[0].id: -1, **index, spec.ends[1].id: len(index)}
    first, last = sorted((position[d.function], position[d.to]))
    if d.max_km is not None and max(first, position[d.function]) < len(at):
        spots = []
        for p in (first, last):
            if 0 <= p < len(index):
                spots += [known[at[p]]] if p < len(at) else []
            else:
                alias, id = spec.ends[0 if p < 0 else 1].sap.split(".")
                stage = next((s for s in walk.stages if s.view.alias == alias), None)
                if stage is not None:
                    offer = stage.view.note.sap(id)
                    assert offer is not None
                    spots += [known[alias, offer.place]]
        if len(spots) == 2 and _km(*spots) > d.max_km:
            return False
    if d.max_delay_us is None:
        return True
    passed, k = 0, 0
    for stage in walk.stages:
        for _, _, way, before in stage.ways:
            passed += way.delay_us if first < before <= last else 0
        for place in stage.places:
            f = next(f for f in stage.view.note.functions if f.place == place and f.type == spec.functions[k].type)
            passed += f.delay_us if first < k < last else 0
            k += 1
    return passed <= d.max_delay_us


def _km(x: Place, y: Place) -> float:
    """By the angle between the two directions from the centre of the earth."""

    def direction(p: Place) -> tuple[float, float, float]:
        north, east = radians(p.latitude), radians(p.longitude)
        return cos(north) * cos(east), cos(north) * sin(east), sin(north)

    return 6371.0 * acos(max(-1.0, min(1.0, sum(a * b for a, b in zip(direction(x), direction(y), strict=True)))))
