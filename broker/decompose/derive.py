"""Our own capability note, made from the notes of our suppliers and domains.

Rules kept here (sound: whatever the note promises alone can be delivered)
- Exported are the SAPs that `SupplierView.saps` names: UNI SAPs and dangling NNI SAPs. Names, ids and interconnects of
  lower levels do not appear; the peer of a dangling interconnect does, since it knows us.
- Where several suppliers have something at one place, each is a part of the site (`site_parts`). The one with most capacity,
  by powers of two, bears the site's id; ways to the others are guarded.
- Between two exported points the ways that `capability_registry.front` chooses. Each has the figures of one route: prices
  and delays add, bandwidth and MTU are minima, availability multiplies, countries are those of all its parts.
- What several ways draw on together becomes a shared limit: interconnects, suppliers' entries, their own limits.
  So do the labels of an inner interconnect where they are few, and those of an exported SAP that a way takes
  (`capability_registry.label_pools`): a class of tied interconnects uses one of each.
- Of free labels at most RANGES ranges are announced, the longest: single allocations fragment a set without end. Which of
  them a way takes, and what is said so that every reader understands it, is in `end_labels`.
- Prices are times `margin`, rounded up: what is charged for several parts together is never more than their sum.
- The note is our word, for as long as ours holds. What a supplier's note that lapses contributed is left out at once; were
  ours bounded by theirs, the notes of providers in a ring would all end together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from itertools import count

from address_planner.labels import LabelSet
from broker.decompose.end_labels import narrowed, plain, taken, told_by
from broker.decompose.graph import Crossing, Graph, PlaceVertex, Way, graph_of, price_of
from broker.decompose.origins import Origins
from broker.decompose.plan import Snapshot, SupplierView
from broker.decompose.reach import Known, Reach, Reached
from capability_registry.front import Draws, shortened
from capability_registry.label_pools import LabelPools
from capability_registry.note import (
    COUNTRY_UNTOLD,
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    Flavour,
    FunctionOffer,
    Outage,
    Place,
    PlaceCapacity,
    PlaceNaming,
    PointKind,
    SharedLimit,
)
from capability_registry.packing import total
from service_model.constraints import PLACEMENT
from service_model.flows import PATHS
from service_model.money import Price
from service_model.qos import QOS
from service_model.spec import LAN_SITES

COMPARED_HOURS = 720
"""The term over which prices are compared where the buyer's is not known: a month, a spec's default."""
HOLD_GUARD_S = 10
HANDED_DOWN = frozenset({LAN_SITES, PATHS, PLACEMENT, QOS})
"""Features that whoever delivers a part must have, too."""
RANGES = 128


@dataclass(frozen=True, slots=True)
class _Point:
    """An exported point: its announced id, the vertex to leave it from and the one to arrive at."""

    id: str
    leave: int
    arrive: int


@dataclass(frozen=True, slots=True)
class _Part:
    """What one supplier has at a site. `id` is the site's where it bears it."""

    id: str
    site: str
    at: PlaceVertex

    @property
    def beside(self) -> bool:
        """Whether another part bears the site's id."""
        return self.id != self.site


@dataclass(frozen=True, slots=True)
class _Told:
    """A way as it is announced: `number` in keys of shared limits, with the labels that it tells at its ends."""

    kind: PointKind
    way: Reached
    number: str
    labels: tuple[LabelSet, LabelSet]
    guarded: bool


def derive(
    snapshot: Snapshot,
    own_sp_id: str,
    edition: int,
    audience: str,
    now: datetime,
    validity: timedelta,
    margin: Decimal,
    currency: str,
    origin_token: str,
    max_hold_s: int,
    api_features: tuple[str, ...],
) -> CapabilityNote:
    """The note for one audience. `margin` is a factor (1.1 adds 10 %); suppliers of another currency are left out."""
    served = tuple(
        replace(v, usable=v.usable and v.note.currency == currency and v.note.not_before <= now < v.note.expires)
        for v in snapshot.suppliers
    )
    graph = graph_of(replace(snapshot, suppliers=served))
    views = graph.suppliers
    names = {index: name for name, index in reversed(graph.announced.items())}
    parts = _parts(graph)
    points = [_Point(name, index, graph.outward(index)) for index, name in sorted(names.items())]
    points += [_Point(p.id, p.at.vertex, p.at.vertex) for p in parts]
    free = {name: graph.sap_offer(i).free.longest(RANGES) for i, name in names.items()}
    ways, labels = _ways(graph, points, free, {p.id for p in parts if p.beside}, now)
    origins = Origins(graph, origin_token)
    sites = _sites(views)
    at = {i: sites.get((graph.saps[i].supplier, graph.saps[i].offer.place), graph.saps[i].offer.place) for i in names}
    return CapabilityNote(
        sp_id=own_sp_id,
        edition=edition,
        audience=audience,
        not_before=now,
        expires=now + validity,
        api_features=tuple(
            f for f in api_features if f not in HANDED_DOWN or all(f in v.note.api_features for v in views)
        ),
        currency=currency,
        places=_places(views, parts, set(at.values())),
        functions=tuple(
            replace(_reprice(o, margin), place=p.id, origins=origins.of(p.at.supplier, o.origins))
            for p in parts
            for _, o in sorted(p.at.offers.items())
        ),
        capacities=tuple(PlaceCapacity(place=p.id, bins=p.at.capacity.bins, lan=p.at.capacity.lan) for p in parts),
        saps=tuple(
            replace(
                graph.saps[i].offer,
                id=name,
                place=at[i],
                labels=labels[name],
                more_labels=free[name] - labels[name],
                origins=origins.of(graph.saps[i].supplier, graph.saps[i].offer.origins),
            )
            for i, name in sorted(names.items())
        ),
        matrix=_entries(ways, False, margin, currency, origins),
        shared=_limits(graph, ways),
        outages=_outages(graph, names, parts),
        max_hold_s=max(1, min([max_hold_s] + [v.note.max_hold_s - (0 if v.local else HOLD_GUARD_S) for v in views])),
        remaining_depth=min(64, max((1 + v.note.remaining_depth for v in views if not v.local), default=0)),
        origin_tokens=origins.tokens,
        max_functions=min((v.note.max_functions for v in views), default=0),
        guarded=_entries(ways, True, margin, currency, origins),
    )


def _parts(graph: Graph) -> list[_Part]:
    """What each supplier has at each site. The one with most free capacity bears the site's id: local before bought, then by
    alias."""

    def rank(place: PlaceVertex) -> tuple[int, bool, str, str]:
        view = graph.suppliers[place.supplier]
        return -total(place.capacity.bins).bit_length(), not view.local, view.alias, place.place

    out = []
    for site, numbers in sorted(graph.sites.items()):
        first, *others = sorted((graph.places[n] for n in numbers), key=rank)
        out.append(_Part(site, site, first))
        out += [_Part(graph.part_name(p.vertex - 2 * graph.sap_count), site, p) for p in others]
    return out


def _sites(views: tuple[SupplierView, ...]) -> dict[tuple[int, str], str]:
    """(supplier, its id of a place) -> the site."""
    return {(i, place.id): place.location for i, view in enumerate(views) for place in view.note.places}


def _places(views: tuple[SupplierView, ...], parts: list[_Part], met: set[str]) -> tuple[Place, ...]:
    """The sites of parts and SAPs (`met`), and the parts that have words of their own."""
    known: dict[str, Place] = {}
    for view in views:
        for place in view.note.places:
            known.setdefault(place.location, replace(_relayed(place), id=place.location, site=""))
    told = {site: known[site] for site in met | {p.site for p in parts} if site in known}
    for p in parts:
        if p.beside:
            told[p.id] = replace(known.get(p.site, Place(id=p.site, country=COUNTRY_UNTOLD)), id=p.id, site=p.site)
    return tuple(told[id] for id in sorted(told))


def _relayed(place: Place) -> Place:
    """We cannot tell what a supplier named itself from places of others."""
    return replace(place, naming=PlaceNaming.RELAYED) if place.naming is PlaceNaming.OWN else place


def _scaled(price: Price, margin: Decimal) -> Price:
    """Times the margin and rounded up to what prices are rounded to: so a sum of announced prices is never below the price of
    the whole, which is rounded once."""
    scaled = price.scaled(margin)
    return replace(
        scaled,
        once=(price.once * margin).quantize(scaled.once, ROUND_CEILING),
        per_hour=(price.per_hour * margin).quantize(scaled.per_hour, ROUND_CEILING),
    )


def _reprice(offer: FunctionOffer, margin: Decimal) -> FunctionOffer:
    flavours: tuple[Flavour, ...] = tuple(replace(f, price=_scaled(f.price, margin)) for f in offer.flavours)
    return replace(offer, flavours=flavours)


_Ways = dict[tuple[str, str], list[_Told]]


def _ways(
    graph: Graph, points: list[_Point], free: Mapping[str, LabelSet], beside: set[str], now: datetime
) -> tuple[_Ways, Mapping[str, LabelSet]]:
    """The ways between exported points, and the labels at the exported SAPs that do for all but guarded ones."""
    closed = frozenset(
        s.index
        for s in graph.saps
        for o in graph.suppliers[s.supplier].note.outages
        if o.subject == s.offer.id and o.start <= now < o.end
    )
    reach = Reach(graph, COMPARED_HOURS, closed)
    found: dict[tuple[str, str], list[Known]] = {}
    for i, a in enumerate(points[:-1]):
        there = reach.from_(a.leave)
        for b in points[i + 1 :]:
            pair = a.id, b.id
            if usable := [known for known in there.get(b.arrive, ()) if taken(known, pair, free)]:
                found[pair] = usable
    labels = narrowed(free, found)
    ways: _Ways = {}
    for pair, known in found.items():
        apart = not beside.isdisjoint(pair)
        chosen = [(kind, way, not apart and plain(way, pair, labels)) for kind, way in reach.announced(known)]
        if not apart and not any(simple for _, _, simple in chosen):
            others = reach.announced([k for k in known if plain(k, pair, labels)], most=2)
            chosen += [(kind, way, True) for kind, way in others]
        counts = {True: count(), False: count()}
        ways[pair] = [
            _Told(kind, way, f"{'' if simple else 'g'}{next(counts[simple])}", told_by(way, pair, free), not simple)
            for kind, way, simple in chosen
        ]
    return ways, labels


def _entries(ways: _Ways, guarded: bool, margin: Decimal, currency: str, origins: Origins) -> tuple[BorderEntry, ...]:
    return tuple(
        BorderEntry(
            a=a,
            b=b,
            points=tuple(_point(t, margin, currency) for t in these),
            origins=origins.along(t.way for t in these),
        )
        for (a, b), found in ways.items()
        if (these := [t for t in found if t.guarded == guarded])
    )


def _point(told: _Told, margin: Decimal, currency: str) -> BorderPoint:
    way = told.way
    return BorderPoint(
        kind=told.kind,
        price=_scaled(price_of(currency, way.once, way.hour), margin),
        delay_us=way.delay_us,
        bandwidth_bps=way.bandwidth_bps,
        availability=way.availability,
        mtu=way.mtu,
        swaps_labels=way.swaps_labels,
        lan=way.lan,
        lan_alone=way.lan_alone,
        isolation=way.isolation,
        countries=way.countries,
        labels_a=told.labels[0],
        labels_b=told.labels[1],
    )


def _limits(graph: Graph, ways: _Ways) -> tuple[SharedLimit, ...]:
    """Of each inner resource that ways could overdraw together."""
    draws, has, pools = Draws(), dict[str, int](), LabelPools()
    each = {pair: {t.way.steps: t for t in reversed(found)} for pair, found in ways.items()}
    for (a, b), unlike in each.items():
        for told in unlike.values():
            way, key = told.way, f"{a}|{b}#{told.number}"
            drawn = _drawn(way)
            draws.add(key, way.bandwidth_bps, {f"{kind} {n}": times for (kind, n), times in drawn.items()})
            has.update((f"{kind} {n}", _limit(graph, (kind, n))) for kind, n in drawn if f"{kind} {n}" not in has)
            for joint, labels in way.classes:
                pools.takes(key, joint, labels)
            for sap, labels in zip((a, b), told.labels, strict=True):
                if labels:
                    pools.takes(key, f"at {sap}", labels)
            for step in way.steps:
                for index, times in step.limits if isinstance(step, Way) else ():
                    if left := graph.limit(index).labels:
                        pools.draws(key, f"limit {index}", times, left)
    entries = {f"{a}|{b}": {f"{a}|{b}#{t.number}" for t in unlike.values()} for (a, b), unlike in each.items()}
    return shortened(draws.limits(has) + pools.limits(), entries)


def _drawn(way: Reached) -> dict[tuple[str, int], float]:
    sums: dict[tuple[str, int], float] = {}
    for step in way.steps:
        if isinstance(step, Crossing):
            parts: tuple[tuple[str, int, float], ...] = (("crossing", min(step.source, step.target), 1.0),)
        else:
            parts = (("way", step.number, 1.0), *(("shared", index, c) for index, c in step.limits))
        for kind, number, times in parts:
            sums[kind, number] = sums.get((kind, number), 0.0) + times
    return sums


def _limit(graph: Graph, resource: tuple[str, int]) -> int:
    kind, index = resource
    if kind == "way":
        return graph.way_bandwidth[index]
    if kind == "shared":
        return graph.limit(index).limit_bps
    crossing = graph.crossing[index]
    assert crossing is not None
    return min(graph.sap_offer(i).bandwidth_bps for i in (crossing.source, crossing.target))


def _outages(graph: Graph, names: Mapping[int, str], parts: list[_Part]) -> tuple[Outage, ...]:
    out: list[Outage] = []
    for index, name in sorted(names.items()):
        sap = graph.saps[index]
        outages = graph.suppliers[sap.supplier].note.outages
        out.extend(replace(o, subject=name) for o in outages if o.subject == sap.offer.id)
    for part in parts:
        outages = graph.suppliers[part.at.supplier].note.outages
        out.extend(replace(o, subject=part.id) for o in outages if o.subject == part.at.place)
    return tuple(out)
