"""Our own capability note, made from the notes of our suppliers and domains.

Rules kept here (sound: whatever the note promises alone can be delivered)
- Exported are the SAPs that `SupplierView.saps` names: UNI SAPs and dangling NNI SAPs. Names, ids and interconnects of
  lower levels do not appear; the peer of a dangling interconnect does, since it knows us.
- A place belongs to one supplier, the one with most capacity there: two suppliers' capacities at one place cannot be
  used together, and what reaches one of them does not reach the other.
- Between two exported points the ways that `capability_registry.front` chooses. Each has the figures of one route: prices
  and delays add, bandwidth and MTU are minima, availability multiplies, countries are those of all its parts.
- What several ways draw on together becomes a shared limit: interconnects, suppliers' entries, their own limits.
  So do the labels of an inner interconnect where they are few: a class of tied interconnects uses one of each, and what any
  class that passes there can use is all that is counted on.
- Of free labels at most RANGES ranges are announced, the longest: single allocations fragment a set without end. Where ways
  are tied to an exported SAP, its labels are narrowed to those that the ways can use (`end_labels`).
- Prices are times `margin`, rounded up: what is charged for several parts together is never more than their sum.
- The note is our word, for as long as ours holds. What a supplier's note that lapses contributed is left out at once; were
  ours bounded by theirs, the notes of providers in a ring would all end together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from operator import is_

from address_planner.labels import LabelSet
from broker.decompose.end_labels import narrowed, usable
from broker.decompose.graph import Graph, PlaceVertex, graph_of, price_of
from broker.decompose.origins import Origins
from broker.decompose.plan import Snapshot, SupplierView
from broker.decompose.reach import Known, Reach, Reached
from capability_registry.front import Draws
from capability_registry.note import (
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

COMPARED_HOURS = 720
"""The term over which prices are compared where the buyer's is not known: a month, a spec's default."""
HOLD_GUARD_S = 10
HANDED_DOWN = frozenset({PATHS, PLACEMENT, QOS})
"""Features that whoever delivers a part must have, too."""
RANGES = 128


@dataclass(frozen=True, slots=True)
class _Point:
    """An exported point: its announced id, the vertex to leave it from and the one to arrive at."""

    id: str
    leave: int
    arrive: int


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
    findings: Findings | None = None,
) -> CapabilityNote:
    """The note for one audience. `margin` is a factor (1.1 adds 10 %); suppliers of another currency are left out. `findings`: of
    a note before, to save work."""
    served = tuple(
        replace(v, usable=v.usable and v.note.currency == currency and v.note.not_before <= now < v.note.expires)
        for v in snapshot.suppliers
    )
    graph = graph_of(replace(snapshot, suppliers=served))
    views = graph.suppliers
    names = {index: name for name, index in reversed(graph.announced.items())}
    places = _owned(graph)
    points = [_Point(name, index, graph.outward(index)) for index, name in sorted(names.items())]
    points += [_Point(p.place, p.vertex, p.vertex) for p in places]
    ways, labels, shared = (findings or Findings()).of(graph, points, _closed(graph, now))
    origins = Origins(graph, origin_token)
    shown = {graph.saps[i].offer.place for i in names} | {p.place for p in places}
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
        places=_places(views, shown),
        functions=tuple(
            replace(_reprice(o, margin), origins=origins.of(p.supplier, o.origins))
            for p in places
            for _, o in sorted(p.offers.items())
        ),
        capacities=tuple(PlaceCapacity(place=p.place, bins=p.capacity.bins, lan=p.capacity.lan) for p in places),
        saps=tuple(
            replace(
                replace(graph.saps[i].offer, id=name, labels=labels[name]),
                origins=origins.of(graph.saps[i].supplier, graph.saps[i].offer.origins),
            )
            for i, name in sorted(names.items())
        ),
        matrix=tuple(
            BorderEntry(
                a=a,
                b=b,
                points=tuple(_point(kind, w, margin, currency) for kind, w in found),
                origins=origins.along(w for _, w in found),
            )
            for (a, b), found in ways.items()
        ),
        shared=shared,
        outages=_outages(graph, names, places),
        max_hold_s=max(1, min([max_hold_s] + [v.note.max_hold_s - (0 if v.local else HOLD_GUARD_S) for v in views])),
        remaining_depth=min(64, max((1 + v.note.remaining_depth for v in views if not v.local), default=0)),
        origin_tokens=origins.tokens,
        max_functions=min((v.note.max_functions for v in views), default=0),
    )


def _owned(graph: Graph) -> list[PlaceVertex]:
    """One supplier's place for each place id: the one with most free capacity, local before bought, then by alias."""
    best: dict[str, tuple[tuple[int, bool, str], PlaceVertex]] = {}
    for place in graph.places:
        view = graph.suppliers[place.supplier]
        rank = (-total(place.capacity.bins), not view.local, view.alias)
        if place.place not in best or rank < best[place.place][0]:
            best[place.place] = (rank, place)
    return [place for _, (_, place) in sorted(best.items())]


def _places(views: tuple[SupplierView, ...], shown: set[str]) -> tuple[Place, ...]:
    known: dict[str, Place] = {}
    for view in views:
        for place in view.note.places:
            known.setdefault(place.id, _relayed(place))
    return tuple(known[id] for id in sorted(shown) if id in known)


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


@lru_cache(maxsize=1 << 16)
def _price(currency: str, once: int, hour: int, margin: Decimal) -> Price:
    return _scaled(price_of(currency, once, hour), margin)


def _reprice(offer: FunctionOffer, margin: Decimal) -> FunctionOffer:
    flavours: tuple[Flavour, ...] = tuple(replace(f, price=_scaled(f.price, margin)) for f in offer.flavours)
    return replace(offer, flavours=flavours)


_Ways = dict[tuple[str, str], list[tuple[PointKind, Reached]]]


class Findings:
    """What was found between exported points, for all who see the same suppliers; the next is found beside it."""

    def __init__(self) -> None:
        self._reach: Reach | None = None
        self._notes: tuple[CapabilityNote, ...] = ()
        self._frame: tuple[object, ...] = ()
        self._found: tuple[_Ways, Mapping[str, LabelSet], tuple[SharedLimit, ...]]

    @property
    def walks(self) -> int:
        """How many are kept."""
        return self._reach.size if self._reach is not None else 0

    def of(
        self, graph: Graph, points: list[_Point], closed: frozenset[int]
    ) -> tuple[_Ways, Mapping[str, LabelSet], tuple[SharedLimit, ...]]:
        """The ways, the labels that may be used at the SAPs, and what the ways share."""
        notes = tuple(view.note for view in graph.suppliers)
        frame = points, closed, graph.peer.tolist(), [view.alias for view in graph.suppliers]
        if self._reach is None:
            self._reach = Reach(graph, COMPARED_HOURS, closed)
        elif frame != self._frame or len(notes) != len(self._notes) or not all(map(is_, notes, self._notes)):
            self._reach.follow(graph, closed)
        else:
            return self._found
        ways, labels = _matrix(graph, points, self._reach)
        self._notes, self._frame, self._found = notes, frame, (ways, labels, _limits(self._reach, ways))
        return self._found


def _closed(graph: Graph, now: datetime) -> frozenset[int]:
    """SAPs that are not to be crossed at this moment."""
    return frozenset(
        s.index
        for s in graph.saps
        for o in graph.suppliers[s.supplier].note.outages
        if o.subject == s.offer.id and o.start <= now < o.end
    )


def _matrix(graph: Graph, points: list[_Point], reach: Reach) -> tuple[_Ways, Mapping[str, LabelSet]]:
    """The ways between exported points, and the labels that may be used at the exported SAPs."""
    found: dict[tuple[str, str], list[Known]] = {}
    for i, a in enumerate(points[:-1]):
        others = points[i + 1 :]
        there = reach.from_(a.leave, (b.arrive for b in others))
        found.update(((a.id, b.id), there[b.arrive]) for b in others if b.arrive in there)
    labels = narrowed({id: graph.sap_offer(i).labels.longest(RANGES) for id, i in graph.announced.items()}, found)
    ways = {pair: reach.announced(k for k in known if usable(k.way, pair, labels)) for pair, known in found.items()}
    return {pair: announced for pair, announced in ways.items() if announced}, labels


def _point(kind: PointKind, way: Reached, margin: Decimal, currency: str) -> BorderPoint:
    return BorderPoint(
        kind=kind,
        price=_price(currency, way.once, way.hour, margin),
        delay_us=way.delay_us,
        bandwidth_bps=way.bandwidth_bps,
        availability=way.availability,
        mtu=way.mtu,
        swaps_labels=way.swaps_labels,
        lan=way.lan,
        isolation=way.isolation,
        countries=way.countries,
    )


def _limits(reach: Reach, ways: _Ways) -> tuple[SharedLimit, ...]:
    """Of each inner resource that ways could overdraw together."""
    draws, pools, labels = Draws(), Draws(), dict(reach.labels)
    for (a, b), found in ways.items():
        for number, way in {w.passages: (n, w) for n, (_, w) in reversed([*enumerate(found)])}.values():
            draws.add(a, b, number, way.bandwidth_bps, way.draws)
            used = {name: times for name, times in way.draws.items() if name in labels} if labels else {}
            for joint, left in way.classes:
                used[joint] = used.get(joint, 0.0) + 1.0
                labels[joint] = min(labels.get(joint, left), left)
            pools.add(a, b, number, 0, used)
    return draws.limits(reach.has) + pools.pools(labels)


def _outages(graph: Graph, names: Mapping[int, str], places: list[PlaceVertex]) -> tuple[Outage, ...]:
    out: list[Outage] = []
    for index, name in sorted(names.items()):
        sap = graph.saps[index]
        outages = graph.suppliers[sap.supplier].note.outages
        out.extend(replace(o, subject=name) for o in outages if o.subject == sap.offer.id)
    for place in places:
        out.extend(o for o in graph.suppliers[place.supplier].note.outages if o.subject == place.place)
    return tuple(out)
