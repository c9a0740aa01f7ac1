"""A snapshot as a graph: what can be walked, in arrays, built once per snapshot.

Rules kept here
- A SAP is two vertices: *inward* (the service came from outside) and *outward* (it is about to leave). So a service can
  neither turn round inside a SAP nor pass through a UNI: outward leads on only over an interconnect.
- A way leads from an inward SAP or a place to an outward SAP or a place; each announced border point is one, in both
  directions. A way from a SAP to itself does not exist.
- An interconnect joins two SAPs when both notes name it, each names the other's SP as peer, exactly one side decides
  labels, and the encapsulations are equal; it carries what both sides have free labels for. Named by one note only, and
  with a peer that is no supplier of ours, it is *dangling*.
- Prices are kept as whole numbers of 1e-9 currency units, so sums are exact. A price in another currency than its
  note's is not used; suppliers of different currencies are not joined.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cached_property

import networkx

from address_planner.labels import LabelSet
from broker.decompose.plan import Snapshot, SupplierView
from capability_registry.note import (
    BorderPoint,
    Flavour,
    FunctionOffer,
    Lifecycle,
    PlaceCapacity,
    SapOffer,
    SapRole,
    SharedLimit,
)
from service_model.money import Price
from service_model.spec import FunctionType

_NANO = Decimal(10) ** 9


def nano(amount: Decimal) -> int:
    """An amount in 1e-9 units; finer amounts round up, so that a plan is never announced too cheap."""
    return int((amount * _NANO).to_integral_value(ROUND_CEILING))


def price_of(currency: str, once: int, hour: int) -> Price:
    """The Price of these nano-amounts."""
    return Price(currency=currency, once=Decimal(once) / _NANO, per_hour=Decimal(hour) / _NANO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sap:
    """A SAP: vertex `index` inward, `Graph.outward(index)` outward."""

    index: int
    supplier: int
    offer: SapOffer


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceVertex:
    """A place of one supplier with what is offered there."""

    vertex: int
    supplier: int
    place: str
    capacity: PlaceCapacity
    offers: dict[FunctionType, FunctionOffer]


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One border point in one direction; `number` is the same in both. `limits`: (shared limit, coefficient)."""

    number: int
    source: int
    target: int
    point: BorderPoint
    once: int
    hour: int
    limits: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """An interconnect from SAP `source` to SAP `target` (indices), with the labels free at both (perhaps none)."""

    id: str
    source: int
    target: int
    labels: LabelSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjoined:
    """An interconnect that both notes name and that cannot be used: `why` for the operator and for reasons."""

    id: str
    why: str


class Graph:
    """Vertices are numbers: SAP s inward is s, outward is `len(saps) + s`, places follow."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.suppliers: tuple[SupplierView, ...] = tuple(
            s for s in snapshot.suppliers if s.usable and s.note.lifecycle is not Lifecycle.WITHDRAWING
        )
        self.saps: list[Sap] = []
        self.places: list[PlaceVertex] = []
        self.shared: list[tuple[int, SharedLimit]] = []
        self.sap_at: dict[tuple[str, str], int] = {}
        self.place_at: dict[tuple[str, str], int] = {}
        self._vertices()
        self.size = 2 * len(self.saps) + len(self.places)
        self.ways: list[list[Way]] = [[] for _ in range(self.size)]
        self.way_bandwidth: list[int] = []
        self._ways()
        self.crossing: list[Crossing | None] = [None] * len(self.saps)
        self.unjoined: list[Unjoined] = []
        self.dangling: frozenset[int] = frozenset()
        self._join()

    def outward(self, sap: int) -> int:
        return len(self.saps) + sap

    def place(self, vertex: int) -> PlaceVertex | None:
        """The place at a vertex, None where the vertex is a SAP's."""
        i = vertex - 2 * len(self.saps)
        return self.places[i] if i >= 0 else None

    def sap(self, vertex: int) -> Sap:
        """The SAP of a vertex that is no place's."""
        return self.saps[vertex % len(self.saps)]

    def supplier(self, vertex: int) -> int:
        place = self.place(vertex)
        return place.supplier if place else self.sap(vertex).supplier

    @cached_property
    def announced(self) -> dict[str, int]:
        """SAP names that a customer may use → SAP index: UNI and dangling NNI SAPs. The first supplier's counts."""
        names: dict[str, int] = {}
        for i, view in enumerate(self.suppliers):
            for name, own in view.saps.items():
                index = self.sap_at.get((view.alias, own))
                if index is None or name in names or self.saps[index].supplier != i:
                    continue
                if self.saps[index].offer.role is SapRole.UNI or index in self.dangling:
                    names[name] = index
        return names

    def _vertices(self) -> None:
        for i, view in enumerate(self.suppliers):
            for sap in view.note.saps:
                if (view.alias, sap.id) not in self.sap_at:
                    self.sap_at[view.alias, sap.id] = len(self.saps)
                    self.saps.append(Sap(index=len(self.saps), supplier=i, offer=sap))
        base = 2 * len(self.saps)
        for i, view in enumerate(self.suppliers):
            capacities = {c.place: c for c in view.note.capacities}
            offers: dict[str, dict[FunctionType, FunctionOffer]] = {}
            for offer in view.note.functions:
                flavours = tuple(f for f in offer.flavours if _payable(f.price, view))
                if flavours == offer.flavours:
                    offers.setdefault(offer.place, {}).setdefault(offer.type, offer)
            for place, here in offers.items():
                self.place_at[view.alias, place] = base + len(self.places)
                capacity = capacities.get(place, PlaceCapacity(place=place, bins=()))
                vertex = base + len(self.places)
                self.places.append(PlaceVertex(vertex=vertex, supplier=i, place=place, capacity=capacity, offers=here))
            self.shared.extend((i, limit) for limit in view.note.shared)

    def _ends(self, alias: str, point: str) -> tuple[int | None, int | None]:
        """The vertices of a border id: (leaving from it, arriving at it)."""
        sap = self.sap_at.get((alias, point))
        if sap is not None:
            return sap, self.outward(sap)
        place = self.place_at.get((alias, point))
        return place, place

    def _ways(self) -> None:
        number = 0
        limits: dict[tuple[int, str], list[tuple[int, float]]] = {}
        for index, (supplier, limit) in enumerate(self.shared):
            for key, coefficient in limit.coefficients.items():
                limits.setdefault((supplier, key), []).append((index, coefficient))
        for i, view in enumerate(self.suppliers):
            for entry in view.note.matrix:
                if entry.a == entry.b:
                    continue
                out_a, in_a = self._ends(view.alias, entry.a)
                out_b, in_b = self._ends(view.alias, entry.b)
                if out_a is None or in_a is None or out_b is None or in_b is None:
                    continue
                held = limits.get((i, f"{entry.a}|{entry.b}"), []) + limits.get((i, f"{entry.b}|{entry.a}"), [])
                for point in _worthwhile(entry.points):
                    if not _payable(point.price, view):
                        continue
                    once, hour = nano(point.price.once), nano(point.price.per_hour)
                    self.ways[out_a].append(Way(number, out_a, in_b, point, once, hour, tuple(held)))
                    self.ways[out_b].append(Way(number, out_b, in_a, point, once, hour, tuple(held)))
                    self.way_bandwidth.append(point.bandwidth_bps)
                    number += 1

    def _join(self) -> None:
        named: dict[str, list[tuple[SupplierView, SapOffer]]] = {}
        for view in self.snapshot.suppliers:
            for sap in view.note.saps:
                if sap.role is SapRole.NNI and sap.interconnect:
                    named.setdefault(sap.interconnect, []).append((view, sap))
        known = {view.sp_id for view in self.snapshot.suppliers} | {self.snapshot.own_sp_id}
        dangling: set[int] = set()
        for id, sides in named.items():
            indices = [self.sap_at.get((view.alias, sap.id)) for view, sap in sides]
            if len(sides) == 1:
                if indices[0] is not None and sides[0][1].peer and sides[0][1].peer not in known:
                    dangling.add(indices[0])
                continue
            if None in indices:
                continue
            why = _mismatch(sides)
            if why:
                self.unjoined.append(Unjoined(id=id, why=why))
                continue
            x, y = (i for i in indices if i is not None)
            labels = sides[0][1].labels & sides[1][1].labels
            self.crossing[x] = Crossing(id, x, y, labels)
            self.crossing[y] = Crossing(id, y, x, labels)
        self.dangling = frozenset(dangling)


def _payable(price: Price, view: SupplierView) -> bool:
    return price.currency == view.note.currency or not (price.once or price.per_hour)


def _worthwhile(points: tuple[BorderPoint, ...]) -> list[BorderPoint]:
    """Without those that another point matches or beats in everything."""

    def beats(p: BorderPoint, q: BorderPoint) -> bool:
        return (
            p.price.once <= q.price.once
            and p.price.per_hour <= q.price.per_hour
            and p.delay_us <= q.delay_us
            and p.bandwidth_bps >= q.bandwidth_bps
            and p.availability >= q.availability
            and p.mtu >= q.mtu
            and p.swaps_labels >= q.swaps_labels
            and p.lan >= q.lan
        )

    kept: list[BorderPoint] = []
    for point in points:
        if not any(beats(k, point) for k in kept):
            kept = [k for k in kept if not beats(point, k)] + [point]
    return kept


def _mismatch(sides: list[tuple[SupplierView, SapOffer]]) -> str:
    if len(sides) != 2:
        return f"{len(sides)} SAPs name it"
    (x, p), (y, q) = sides
    if p.peer != y.sp_id or q.peer != x.sp_id:
        return f"{x.alias} and {y.alias} do not name each other as its peers"
    if p.decides_labels == q.decides_labels:
        return f"not exactly one of {x.alias} and {y.alias} decides its labels"
    if p.encapsulation != q.encapsulation:
        return f"{x.alias} and {y.alias} encapsulate differently"
    if x.note.currency != y.note.currency:
        return f"{x.alias} and {y.alias} charge in different currencies"
    return ""


_CACHED = 4
_graphs: OrderedDict[int, Graph] = OrderedDict()
_lock = threading.Lock()


def graph_of(snapshot: Snapshot) -> Graph:
    """The graph of this very snapshot object, from a small cache."""
    with _lock:
        graph = _graphs.get(id(snapshot))
        if graph is not None and graph.snapshot is snapshot:
            _graphs.move_to_end(id(snapshot))
            return graph
    graph = Graph(snapshot)
    with _lock:
        _graphs[id(snapshot)] = graph
        while len(_graphs) > _CACHED:
            _graphs.popitem(last=False)
    return graph


def default_flavour(offer: FunctionOffer, wanted: str | None) -> Flavour | None:
    """The flavour `wanted`, or the default (the first) where None; None where it is not offered."""
    if wanted is None:
        return offer.flavours[0]
    return next((f for f in offer.flavours if f.name == wanted), None)


def to_networkx(snapshot: Snapshot) -> networkx.MultiGraph:
    """For reading and drawing: nodes (alias, id) with `kind`, edges `way` and `interconnect` with their figures."""
    graph, out = graph_of(snapshot), networkx.MultiGraph()
    for sap in graph.saps:
        alias = graph.suppliers[sap.supplier].alias
        out.add_node((alias, sap.offer.id), kind="sap", role=sap.offer.role.short, place=sap.offer.place)
    for place in graph.places:
        types = sorted(str(t) for t in place.offers)
        out.add_node((graph.suppliers[place.supplier].alias, place.place), kind="place", functions=types)

    def name(vertex: int) -> tuple[str, str]:
        here = graph.place(vertex)
        return (graph.suppliers[graph.supplier(vertex)].alias, here.place if here else graph.sap(vertex).offer.id)

    seen: set[int] = set()
    for way in (w for ways in graph.ways for w in ways):
        if way.number not in seen:
            seen.add(way.number)
            p = way.point
            out.add_edge(name(way.source), name(way.target), kind="way", price=str(p.price), delay_us=p.delay_us)
    for c in graph.crossing:
        if c is not None and c.source < c.target:
            out.add_edge(name(c.source), name(c.target), kind="interconnect", id=c.id, labels=str(c.labels))
    return out
