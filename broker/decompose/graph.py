"""A snapshot as a graph: what can be walked, in arrays, from the pieces of its notes.

Rules kept here
- A SAP is two vertices: *inward* (the service came from outside) and *outward* (it is about to leave). So a service can
  neither turn round inside a SAP nor pass through a UNI: outward leads on only over an interconnect.
- A way leads from an inward SAP or a place to an outward SAP or a place; each announced border point is one, in both
  directions.
- An interconnect joins two SAPs when both notes name it, each names the other's SP as peer, exactly one side decides
  labels, and the encapsulations are equal; it carries what both sides have free labels for. Named by one note only, and
  with a peer that is no supplier of ours, it is *dangling*. Suppliers of different currencies are not joined.
- What two suppliers both sell stands in the notes of both. Of more than two that name an interconnect the two count that
  name each other. Where none does, each dangles as if it were alone, and the other side of what one says is with us.
- A piece is built once per note. A snapshot in which one note changed costs that piece and the joining of arrays.
- What is for reading (`saps`, `places`, `ways`) is made when it is looked at; the search needs the arrays alone.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import networkx
import numpy as np

from address_planner.labels import LabelSet
from broker.decompose.arcs import Arcs
from broker.decompose.piece import (
    Between,
    Figures,
    Flags,
    Here,
    Numbers,
    Offering,
    Piece,
    default_flavour,
    nano,
    price_of,
)
from broker.decompose.plan import Snapshot, SupplierView
from broker.decompose.site_parts import part_of
from capability_registry.distance import kilometres
from capability_registry.note import (
    BorderPoint,
    Flavour,
    FunctionOffer,
    Lifecycle,
    Place,
    PlaceCapacity,
    SapOffer,
    SapRole,
    SharedLimit,
)
from service_model.constraints import Countries
from service_model.spec import FunctionType

__all__ = [
    "Crossing",
    "Graph",
    "PlaceVertex",
    "Sap",
    "Unjoined",
    "Way",
    "default_flavour",
    "graph_of",
    "nano",
    "price_of",
]


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
    """One border point in one direction; `number` is the same in both. `limits`: (shared limit, coefficient). `labels`: what
    may be used where it begins and where it ends (None: whatever is free there)."""

    number: int
    source: int
    target: int
    point: BorderPoint
    once: int
    hour: int
    limits: tuple[tuple[int, float], ...]
    labels: tuple[LabelSet | None, LabelSet | None] = (None, None)


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
    """Vertices are numbers: SAP s inward is s, outward is `sap_count + s`, places follow."""

    def __init__(self, snapshot: Snapshot, before: Graph | None = None) -> None:
        self.snapshot = snapshot
        self.suppliers: tuple[SupplierView, ...] = tuple(
            s for s in snapshot.suppliers if s.usable and s.note.lifecycle is not Lifecycle.WITHDRAWING
        )
        known = before.piece_of if before else {}
        self.piece_of: dict[str, Piece] = {}
        for view in self.suppliers:
            piece = known.get(view.alias)
            self.piece_of[view.alias] = piece if piece is not None and piece.note is view.note else Piece(view.note)
        self.pieces = tuple(self.piece_of[view.alias] for view in self.suppliers)
        self.sap_first = _firsts(len(p.saps) for p in self.pieces)
        self.place_first = _firsts(len(p.places) for p in self.pieces)
        self.way_first = _firsts(len(p.ways) for p in self.pieces)
        self.shared_first = _firsts(len(p.note.shared) for p in self.pieces)
        self.sap_count, self.place_count = int(self.sap_first[-1]), int(self.place_first[-1])
        self.size = 2 * self.sap_count + self.place_count
        self.sap_supplier = np.repeat(np.arange(len(self.pieces)), np.diff(self.sap_first))
        self.place_supplier = np.repeat(np.arange(len(self.pieces)), np.diff(self.place_first))
        self._leading: dict[int, list[tuple[int, int, int, float, float, float]]] = {}
        self._offerings: dict[tuple[FunctionType, str | None], Offering | None] = {}
        self.crossing: list[Crossing | None] = [None] * self.sap_count
        self.unjoined: list[Unjoined] = []
        self.dangling: frozenset[int] = frozenset()
        self._join({} if before is None else before.labels_of)

    # --- arrays --------------------------------------------------------------------------------------------------------

    def figures(self, name: str) -> Figures:
        """The pieces' arrays of this name, one after another."""
        parts = [getattr(p, name) for p in self.pieces]
        out: Figures = np.concatenate(parts) if parts else np.zeros(0)
        return out

    @cached_property
    def once(self) -> Figures:
        return self.figures("once")

    @cached_property
    def hour(self) -> Figures:
        return self.figures("hour")

    @cached_property
    def delay(self) -> Figures:
        return self.figures("delay")

    @cached_property
    def way_most_bps(self) -> Figures:
        return self.figures("way_most_bps")

    @cached_property
    def way_mtu(self) -> Figures:
        return self.figures("way_mtu")

    @cached_property
    def way_lan(self) -> Flags:
        return self.figures("way_lan").astype(np.bool_)

    @cached_property
    def way_swaps(self) -> Flags:
        return self.figures("way_swaps").astype(np.bool_)

    @cached_property
    def sap_mtu(self) -> Figures:
        return self.figures("sap_mtu")

    @cached_property
    def sap_bps(self) -> Figures:
        return self.figures("sap_bps")

    @cached_property
    def largest_bin(self) -> Figures:
        return self.figures("largest_bin")

    @cached_property
    def place_lan(self) -> Flags:
        return self.figures("place_lan").astype(np.bool_)

    @cached_property
    def peer(self) -> Numbers:
        """Per SAP the one at the other side of its interconnect, -1 where there is none."""
        return np.array([-1 if c is None else c.target for c in self.crossing], dtype=np.int64)

    @cached_property
    def label_count(self) -> Figures:
        """Per SAP how many labels are free on its interconnect."""
        return np.array([0 if c is None else len(c.labels) for c in self.crossing], dtype=np.float64)

    @cached_property
    def beside(self) -> tuple[Numbers, Numbers]:
        """Pairs of ways that the same entry of a note announces: the slower ones, and the faster beside each."""
        same = (np.diff(self._ends("way_a")) == 0) & (np.diff(self._ends("way_b")) == 0)
        first = np.flatnonzero(same)
        slower = np.where(self.delay[first] > self.delay[first + 1], first, first + 1)
        return slower, 2 * first + 1 - slower

    @cached_property
    def arcs(self) -> Arcs:
        a, b = self._ends("way_a"), self._ends("way_b")
        return Arcs(self.sap_count, self.place_count, a, b, self.peer)

    def _ends(self, name: str) -> Numbers:
        local = self.figures(name).astype(np.int64)
        counts = np.diff(self.way_first)
        saps = np.repeat(np.diff(self.sap_first), counts)
        to_sap = np.repeat(self.sap_first[:-1], counts)
        to_place = np.repeat(self.sap_count + self.place_first[:-1], counts) - saps
        return local + np.where(local < saps, to_sap, to_place)

    def leading_from(self, node: int) -> list[tuple[int, int, int, float, float, float]]:
        """The arcs of a node: (way, target, SAP behind the interconnect or -1, price once, per hour, delay)."""
        known = self._leading.get(node)
        if known is None:
            arcs = self.arcs
            here = slice(int(arcs.first[node]), int(arcs.first[node + 1]))
            ways = arcs.way[here]
            figures = (ways, arcs.target[here], arcs.onto[here], self.once[ways], self.hour[ways], self.delay[ways])
            known = self._leading[node] = list(zip(*(f.tolist() for f in figures), strict=True))
        return known

    def offering(self, type: FunctionType, flavour: str | None) -> Offering | None:
        """Where the type is offered in this flavour, in numbers of places; None where nobody offers it."""
        key = (type, flavour)
        if key not in self._offerings:
            found = [(i, o) for i, p in enumerate(self.pieces) if (o := p.offering(type, flavour)) is not None]
            self._offerings[key] = _joined(found, self.place_first) if found else None
        return self._offerings[key]

    # --- one by one ----------------------------------------------------------------------------------------------------

    def outward(self, sap: int) -> int:
        return self.sap_count + sap

    def sap_offer(self, sap: int) -> SapOffer:
        supplier = int(self.sap_supplier[sap])
        return self.pieces[supplier].saps[sap - int(self.sap_first[supplier])]

    def here(self, place: int) -> Here:
        """A place by its number (places are counted from 0)."""
        supplier = int(self.place_supplier[place])
        return self.pieces[supplier].places[place - int(self.place_first[supplier])]

    def between(self, way: int) -> Between:
        supplier = self.way_supplier(way)
        return self.pieces[supplier].ways[way - int(self.way_first[supplier])]

    def way_supplier(self, way: int) -> int:
        return bisect_right(self._way_first, way) - 1

    @cached_property
    def _way_first(self) -> list[int]:
        out: list[int] = self.way_first.tolist()
        return out

    def node_supplier(self, node: int) -> int:
        """Of a node as in `Arcs`."""
        saps = self.sap_count
        return int(self.sap_supplier[node] if node < saps else self.place_supplier[node - saps])

    def along(self, way: int, node: int) -> tuple[int, int]:
        """The border points of a way in the supplier's own numbers, the one at `node` first."""
        supplier, between = self.way_supplier(way), self.between(way)
        saps = len(self.pieces[supplier].saps)
        first = (
            self.sap_first[supplier] if node < self.sap_count else self.place_first[supplier] - saps + self.sap_count
        )
        return (between.a, between.b) if node - int(first) == between.a else (between.b, between.a)

    def limits(self, way: int) -> tuple[tuple[int, float], ...]:
        """The shared limits on a way, by their numbers in `shared`, with the coefficients."""
        supplier = self.way_supplier(way)
        first = int(self.shared_first[supplier])
        return tuple((first + i, c) for i, c in self.pieces[supplier].ways[way - int(self.way_first[supplier])].limits)

    def limit(self, shared: int) -> SharedLimit:
        supplier = int(np.searchsorted(self.shared_first, shared, side="right")) - 1
        return self.pieces[supplier].note.shared[shared - int(self.shared_first[supplier])]

    @cached_property
    def sap_at(self) -> dict[tuple[str, str], int]:
        """(alias, SAP id) → index."""
        return {
            (view.alias, sap.id): first + number
            for view, piece, first in zip(self.suppliers, self.pieces, self.sap_first.tolist(), strict=False)
            for number, sap in enumerate(piece.saps)
        }

    @cached_property
    def announced(self) -> dict[str, int]:
        """SAP names that a customer may use → SAP index: UNI and dangling NNI SAPs. The first supplier's counts."""
        names: dict[str, int] = {}
        for i, view in enumerate(self.suppliers):
            piece, first = self.pieces[i], int(self.sap_first[i])
            for name, own in view.saps.items():
                number = piece.sap_number.get(own)
                if number is None or name in names:
                    continue
                if piece.saps[number].role is SapRole.UNI or first + number in self.dangling:
                    names[name] = first + number
        return names

    @cached_property
    def supplier_number(self) -> dict[str, int]:
        return {view.alias: i for i, view in enumerate(self.suppliers)}

    @cached_property
    def told(self) -> dict[int, Between]:
        """The ways that tell labels of their own, by number."""
        parts = zip(self.pieces, self._way_first, strict=False)
        return {first + number: way for piece, first in parts for number, way in piece.told.items()}

    def told_along(self, way: int, node: int) -> tuple[LabelSet | None, LabelSet | None]:
        """The labels that may be used on a way at `node` (as in `Arcs`), where it begins, and where it ends."""
        between = self.told.get(way)
        return (None, None) if between is None else between.from_(self.along(way, node)[0])

    @cached_property
    def sites(self) -> dict[str, list[int]]:
        """Site → the numbers of the places that suppliers have there."""
        named: dict[str, list[int]] = {}
        for piece, first in zip(self.pieces, self.place_first.tolist(), strict=False):
            for number, here in enumerate(piece.places):
                named.setdefault(here.site, []).append(first + number)
        return named

    @cached_property
    def _parts(self) -> dict[str, int]:
        """What we call each place where its site has several → its number."""
        return {self.part_name(place): place for places in self.sites.values() for place in places}

    def part_name(self, place: int) -> str:
        """What we call a place to tell it from others at its site."""
        here = self.here(place)
        return part_of(here.site, self.suppliers[int(self.place_supplier[place])].alias, here.place)

    def named(self, id: str) -> list[int]:
        """The numbers of the places that an id names: all of a site, or one part of it."""
        found = self.sites.get(id)
        if found is None:
            part = self._parts.get(id)
            found = [] if part is None else [part]
        return found

    def site(self, place: int) -> int:
        """The same number for places of one site, whoever offers them."""
        return self.sites[self.here(place).site][0]

    @cached_property
    def maybe_one(self) -> dict[int, int]:
        """The places that may be the same as others at the site that the same note tells of: it may have them of two who sell
        one thing. Such have the same number. What they offer would be alike in all that no seller changes."""
        found: dict[tuple[int, frozenset[object]], list[int]] = {}
        for places in self.sites.values():
            for place in places if len(places) > 1 else ():
                offers = self.here(place).offers.values()
                alike = frozenset(
                    (o.type, o.ports, o.delay_us, tuple((f.name, f.units, f.runtime) for f in o.flavours))
                    for o in offers
                )
                found.setdefault((int(self.place_supplier[place]), alike), []).append(place)
        return {place: places[0] for places in found.values() if len(places) > 1 for place in places}

    @cached_property
    def place_country(self) -> list[str | None]:
        return [h.known.told_country if h.known else None for piece in self.pieces for h in piece.places]

    @cached_property
    def sap_country(self) -> list[str | None]:
        return [
            known[s.place].told_country if s.place in known else None
            for piece in self.pieces
            for known in [{p.id: p for p in piece.note.places}]
            for s in piece.saps
        ]

    def isolated(self, mechanisms: Iterable[str]) -> Flags:
        """The ways that offer all of these."""
        wanted = set(mechanisms)
        offered = [wanted.issubset(w.point.isolation) for piece in self.pieces for w in piece.ways]
        return np.array(offered, dtype=np.bool_)

    def staying(self, countries: Countries) -> Flags:
        """The ways that pass these countries alone. One that does not tell passes anything."""
        stays = [
            bool(w.point.countries) and all(countries.admit(c) for c in w.point.countries)
            for piece in self.pieces
            for w in piece.ways
        ]
        return np.array(stays, dtype=np.bool_)

    def place_known(self, place: int) -> Place | None:
        return self.here(place).known

    def sap_known(self, sap: int) -> Place | None:
        """What is known of the place that a SAP is at."""
        at, piece = self.sap_offer(sap).place, self.pieces[int(self.sap_supplier[sap])]
        return next((p for p in piece.note.places if p.id == at), None)

    def km_between(self, x: int, y: int) -> float:
        """Between two places; infinite where one does not tell where it lies."""
        return kilometres(self.place_known(x), self.place_known(y))

    def chosen(self, place: int, type: FunctionType, flavour: str | None) -> tuple[FunctionOffer, Flavour]:
        """What would be at a place where it is offered."""
        offer = self.here(place).offers[type]
        chosen = default_flavour(offer, flavour)
        assert chosen is not None, "only where it is offered"
        return offer, chosen

    # --- for reading ---------------------------------------------------------------------------------------------------

    @cached_property
    def saps(self) -> list[Sap]:
        return [
            Sap(index=first + number, supplier=i, offer=offer)
            for i, (piece, first) in enumerate(zip(self.pieces, self.sap_first.tolist(), strict=False))
            for number, offer in enumerate(piece.saps)
        ]

    @cached_property
    def places(self) -> list[PlaceVertex]:
        vertices = iter(range(2 * self.sap_count, self.size))
        return [
            PlaceVertex(vertex=next(vertices), supplier=i, place=h.place, capacity=h.capacity, offers=h.offers)
            for i, piece in enumerate(self.pieces)
            for h in piece.places
        ]

    @cached_property
    def shared(self) -> list[tuple[int, SharedLimit]]:
        return [(i, limit) for i, piece in enumerate(self.pieces) for limit in piece.note.shared]

    @cached_property
    def way_bandwidth(self) -> list[int]:
        return [w.point.bandwidth_bps for piece in self.pieces for w in piece.ways]

    @cached_property
    def ways(self) -> list[list[Way]]:
        """Per vertex the ways that lead from it."""
        out: list[list[Way]] = [[] for _ in range(self.size)]
        number = 0
        for i, piece in enumerate(self.pieces):
            leave, arrive = self._vertices(i)
            for w in piece.ways:
                held = tuple((int(self.shared_first[i]) + k, c) for k, c in w.limits)
                for x, y in ((w.a, w.b), (w.b, w.a)):
                    way = Way(number, leave(x), arrive(y), w.point, w.once, w.hour, held, w.from_(x))
                    out[leave(x)].append(way)
                number += 1
        return out

    def _vertices(self, supplier: int) -> tuple[Callable[[int], int], Callable[[int], int]]:
        """How border points of a piece become vertices to leave from, and to arrive at."""
        count = len(self.pieces[supplier].saps)
        sap, place = int(self.sap_first[supplier]), 2 * self.sap_count + int(self.place_first[supplier]) - count
        outward = self.outward(sap)
        return (
            lambda x: x + (sap if x < count else place),
            lambda x: x + (outward if x < count else place),
        )

    def place(self, vertex: int) -> PlaceVertex | None:
        """The place at a vertex, None where the vertex is a SAP's."""
        i = vertex - 2 * self.sap_count
        return self.places[i] if i >= 0 else None

    def sap(self, vertex: int) -> Sap:
        """The SAP of a vertex that is no place's."""
        return self.saps[vertex % self.sap_count]

    def supplier(self, vertex: int) -> int:
        place = self.place(vertex)
        return place.supplier if place else self.sap(vertex).supplier

    # --- interconnects -------------------------------------------------------------------------------------------------

    def _join(self, known: dict[str, tuple[SapOffer, SapOffer, LabelSet]]) -> None:
        """`known`: labels of the interconnects of a former graph, which hold where both SAPs are what they were."""
        number = {id(view): i for i, view in enumerate(self.suppliers)}
        sp_ids = {view.sp_id for view in self.snapshot.suppliers} | {self.snapshot.own_sp_id}
        self.labels_of: dict[str, tuple[SapOffer, SapOffer, LabelSet]] = {}
        self.joined: dict[str, tuple[int, int]] = {}
        dangling: set[int] = set()
        for id_, sides in _named(self.snapshot.suppliers).items():
            indices = [self._index(number.get(id(view)), sap) for view, sap in sides]
            if len(sides) == 1:
                if indices[0] is not None and sides[0][1].peer and sides[0][1].peer not in sp_ids:
                    dangling.add(indices[0])
                continue
            mutual = _mutual(sides)
            if not mutual and (open_ := self._open(sides, sp_ids)):
                dangling.update(index for n in open_ if (index := indices[n]) is not None)
                continue
            if len(mutual) == 2:
                sides, indices = [sides[n] for n in mutual], [indices[n] for n in mutual]
            if None in indices:
                continue
            why = _mismatch(sides)
            if why:
                self.unjoined.append(Unjoined(id=id_, why=why))
                continue
            x, y = (i for i in indices if i is not None)
            p, q = sides[0][1], sides[1][1]
            former = known.get(id_)
            same = former is not None and former[0] is p and former[1] is q
            labels = former[2] if former is not None and same else p.free & q.free
            self.labels_of[id_] = (p, q, labels)
            self.joined[id_] = (x, y)
            self.crossing[x] = Crossing(id_, x, y, labels)
            self.crossing[y] = Crossing(id_, y, x, labels)
        self.dangling = frozenset(dangling)

    def _open(self, sides: list[tuple[SupplierView, SapOffer]], sp_ids: set[str]) -> list[int]:
        """Of sides of an interconnect that do not name each other, those that dangle: with a peer that is none of ours, or of
        which another says that it is with us. Of several with the same peer, who sell one thing, the first."""
        own = self.snapshot.own_sp_id
        if any(view.sp_id == own for view, _ in sides):
            return []
        with_us = any(sap.peer == own for _, sap in sides)
        peers: dict[str, int] = {}
        for n, (_, sap) in enumerate(sides):
            if sap.peer and sap.peer != own and (with_us or sap.peer not in sp_ids):
                peers.setdefault(sap.peer, n)
        return sorted(peers.values())

    def _index(self, supplier: int | None, sap: SapOffer) -> int | None:
        return None if supplier is None else int(self.sap_first[supplier]) + self.pieces[supplier].sap_number[sap.id]


def _firsts(counts: Iterable[int]) -> Numbers:
    """Where each piece's part begins, and where the last ends."""
    return np.concatenate(([0], np.cumsum(np.fromiter(counts, dtype=np.int64)))).astype(np.int64)


def _joined(found: list[tuple[int, Offering]], place_first: Numbers) -> Offering:
    return Offering(
        at=np.concatenate([o.at + place_first[i] for i, o in found]),
        once=np.concatenate([o.once for _, o in found]),
        hour=np.concatenate([o.hour for _, o in found]),
        delay=np.concatenate([o.delay for _, o in found]),
        units=np.concatenate([o.units for _, o in found]),
        most_bps=np.concatenate([o.most_bps for _, o in found]),
        ports=tuple(ports for _, o in found for ports in o.ports),
    )


def _named(suppliers: tuple[SupplierView, ...]) -> dict[str, list[tuple[SupplierView, SapOffer]]]:
    named: dict[str, list[tuple[SupplierView, SapOffer]]] = {}
    for view in suppliers:
        for sap in view.note.saps:
            if sap.role is SapRole.NNI and sap.interconnect:
                named.setdefault(sap.interconnect, []).append((view, sap))
    return named


def _mutual(sides: list[tuple[SupplierView, SapOffer]]) -> list[int]:
    """Those that name another that names them."""
    named = {(view.sp_id, sap.peer) for view, sap in sides}
    return [n for n, (view, sap) in enumerate(sides) if (sap.peer, view.sp_id) in named]


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


_cached = 4
_graphs: OrderedDict[int, Graph] = OrderedDict()
_lock = threading.Lock()


def graph_of(snapshot: Snapshot) -> Graph:
    """The graph of this very snapshot object, from a small cache; a new one takes the pieces of the one used last."""
    with _lock:
        graph = _graphs.get(id(snapshot))
        if graph is not None and graph.snapshot is snapshot:
            _graphs.move_to_end(id(snapshot))
            return graph
        before = next(reversed(_graphs.values()), None)
    graph = Graph(snapshot, before)
    with _lock:
        _graphs[id(snapshot)] = graph
        while len(_graphs) > _cached:
            _graphs.popitem(last=False)
    return graph


def keep_graphs(count: int) -> None:
    """How many snapshots' graphs are kept from now on: more, where several brokers plan in one process in turn."""
    global _cached
    _cached = count


def to_networkx(snapshot: Snapshot) -> networkx.MultiGraph:
    """For reading and drawing: nodes (alias, id) with `kind`, edges `way` and `interconnect` with their figures."""
    graph, out = graph_of(snapshot), networkx.MultiGraph()
    for i, view in enumerate(graph.suppliers):
        piece = graph.pieces[i]
        for sap in piece.saps:
            out.add_node((view.alias, sap.id), kind="sap", role=sap.role.short, place=sap.place)
        for here in piece.places:
            out.add_node((view.alias, here.place), kind="place", functions=sorted(str(t) for t in here.offers))
        for way in piece.ways:
            a, b = (view.alias, piece.point(way.a)), (view.alias, piece.point(way.b))
            out.add_edge(a, b, kind="way", price=str(way.point.price), delay_us=way.point.delay_us)
    for c in _once(graph):
        ends = [
            (graph.suppliers[int(graph.sap_supplier[s])].alias, graph.sap_offer(s).id) for s in (c.source, c.target)
        ]
        out.add_edge(*ends, kind="interconnect", id=c.id, labels=str(c.labels))
    return out


def _once(graph: Graph) -> Iterator[Crossing]:
    return (c for c in graph.crossing if c is not None and c.source < c.target)
