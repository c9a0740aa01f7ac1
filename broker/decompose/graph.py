"""A snapshot as a graph: what can be walked, in arrays, from the pieces of its notes.

Rules kept here
- A SAP is two vertices: *inward* (the service came from outside) and *outward* (it is about to leave). So a service can
  neither turn round inside a SAP nor pass through a UNI: outward leads on only over an interconnect.
- A way leads from an inward SAP or a place to an outward SAP or a place; each announced border point is one, in both
  directions.
- What interconnects join is in `interconnects`, what is numbered how in `numbering`, figures are in `arrays`, what is for
  reading is in `reading`.
- A graph after another is what it would be from scratch, to the last number. Of the former it takes what did not change,
  and changes nothing that the former has: a plan over it may be under way. Arrays cannot be written to.
- So a change of one note costs its piece, the interconnects that it names, and copies of arrays that are other than they
  were; where its ways begin and end elsewhere, or other SAPs are joined, also the arcs.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, compress, count
from operator import attrgetter
from typing import Any
from weakref import proxy

import numpy as np
from numpy.typing import NDArray

from address_planner.labels import LabelSet
from broker.decompose.arcs import Arcs
from broker.decompose.arrays import ENDS, Arrays
from broker.decompose.difference import NEW, Difference, difference
from broker.decompose.interconnects import Interconnects, Unjoined
from broker.decompose.numbering import NO_COUNTS, Numbering, Renumbering
from broker.decompose.piece import (
    Figures,
    Numbers,
    Offering,
    Piece,
    default_flavour,
    nano,
    price_of,
)
from broker.decompose.plan import Snapshot, SupplierView
from broker.decompose.reading import PlaceVertex, Sap, Way
from broker.decompose.sellers import Sellers
from broker.decompose.site_parts import part_of
from broker.decompose.words import Words
from capability_registry.note import SapOffer, SapRole
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

Leading = tuple[int, int, int, float, float, float]

_ALIAS = attrgetter("alias")
_OFFERINGS = 64
"""How many of the types and flavours that were asked for last are taken over from one graph to the next."""


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """An interconnect from SAP `source` to SAP `target` (indices), with the labels free at both (perhaps none)."""

    id: str
    source: int
    target: int
    labels: LabelSet


class Crossings(dict[int, Crossing | None]):
    """By SAP the interconnect from it, None where it joins nothing; made when it is looked at. It is part of its graph and
    does not keep it: a graph that nobody uses any more is freed at once, and its memory serves the next one."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = proxy(graph)

    def __missing__(self, sap: int) -> Crossing | None:
        graph = self._graph
        target = int(graph.peer[sap])
        found = None
        if target >= 0:
            id_ = graph.sap_offer(sap).interconnect
            found = Crossing(id_, sap, target, graph.labels_of[id_][2])
        self[sap] = found
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """What a graph leaves to the one after it; what is as by default, to one from scratch."""

    suppliers: tuple[SupplierView, ...] = ()
    numbering: Numbering = field(default_factory=lambda: Numbering((), NO_COUNTS))
    supplier_number: Mapping[str, int] = field(default_factory=dict)
    interconnects: Interconnects | None = None
    names: Words = field(default_factory=Words)
    places: Words = field(default_factory=Words)
    tokens: Words = field(default_factory=Words)
    peer: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    label_count: Figures = field(default_factory=lambda: np.zeros(0))
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    offerings: Mapping[tuple[FunctionType, str | None], Offering | None] = field(default_factory=dict)
    leading: Mapping[int, list[Leading]] = field(default_factory=dict)
    arcs: Arcs | None = None


class Graph(Arrays):
    def __init__(self, snapshot: Snapshot, before: Graph | None = None) -> None:
        self.snapshot = snapshot
        former = Former() if before is None else before.left()
        self._interconnects = Interconnects(snapshot, former.interconnects)
        self.labels_of = self._interconnects.labels_of
        planned = compress(snapshot.suppliers, self._interconnects.planned.tolist())
        self.suppliers: tuple[SupplierView, ...] = tuple(planned)
        views = difference(former.suppliers, self.suppliers)
        pieces = _pieces(self.suppliers, former, views)
        was = former.numbering
        changed = difference(was.pieces, pieces)
        every = np.arange(len(was.pieces) + 1)
        super().__init__(pieces, changed.array(was.counts, every, lambda i: pieces[i].counts))
        moved = Renumbering(was, self, changed)
        self._name(former, views)
        self.peer, self.label_count = self._joined(former, moved)
        """Per SAP the one at the other side of its interconnect, -1 where there is none; and how many labels are free."""
        self.crossing = Crossings(self)
        self._arrays = self.moved(former.arrays, moved)
        self._offerings = self._offered(former, moved)
        self._leading: dict[int, list[Leading]] = {}
        ends_stay = all(self._arrays.get(name) is former.arrays.get(name) for name in ENDS)
        if former.arcs is not None and moved.none and ends_stay and self.peer is former.peer:
            self.arcs = former.arcs
            self._leading = self._led(former, changed.fresh)

    def left(self) -> Former:
        return Former(
            suppliers=self.suppliers,
            numbering=self,
            supplier_number=self.supplier_number,
            interconnects=self._interconnects,
            names=self._names,
            places=self._places,
            tokens=self._tokens,
            peer=self.peer,
            label_count=self.label_count,
            arrays=self._arrays.copy(),
            offerings=self._offerings.copy(),
            leading=self._leading.copy(),
            arcs=self.__dict__.get("arcs"),
        )

    # --- what is taken over --------------------------------------------------------------------------------------------

    def _name(self, former: Former, views: Difference) -> None:
        """What suppliers are called, and what they call their SAPs and places."""
        was, gone = former.suppliers, former.numbering.pieces
        self._names = former.names.after(
            [(was[i].alias, was[i].saps) for i in views.gone],
            [(self.suppliers[i].alias, self.suppliers[i].saps) for i in views.fresh],
        )
        self._places = former.places.after(
            [(was[i].alias, gone[i].sites) for i in views.gone],
            [(self.suppliers[i].alias, self.pieces[i].sites) for i in views.fresh],
        )
        self._tokens = former.tokens.after(
            [(was[i].alias, gone[i].tokens) for i in views.gone if gone[i].tokens],
            [(self.suppliers[i].alias, self.pieces[i].tokens) for i in views.fresh if self.pieces[i].tokens],
        )
        same = views.in_place and all(was[i].alias == self.suppliers[i].alias for i in views.fresh)
        self.supplier_number: Mapping[str, int] = (
            former.supplier_number if same else dict(zip(map(_ALIAS, self.suppliers), count(), strict=False))
        )

    def _joined(self, former: Former, moved: Renumbering) -> tuple[Numbers, Figures]:
        peer = moved.nodes_at(former.peer, "sap", lambda i: np.full(len(self.pieces[i].saps), NEW)).copy()
        free = moved.array(former.label_count, "sap", lambda i: np.zeros(len(self.pieces[i].saps))).copy()
        for id_ in self._interconnects.touched:
            for side in self._interconnects.named.get(id_, ()):
                if (sap := self._number(*side)) is not None:
                    peer[sap], free[sap] = NEW, 0
            if ends := self.joined_by(id_):
                peer[[*ends]] = ends[::-1]
                free[[*ends]] = len(self.labels_of[id_][2])
        for array in (peer, free):
            array.setflags(write=False)
        return former.peer if moved.none and np.array_equal(peer, former.peer) else peer, free

    def _number(self, view: SupplierView, sap: SapOffer) -> int | None:
        supplier = self.supplier_number.get(view.alias)
        return None if supplier is None else int(self.sap_first[supplier]) + self.pieces[supplier].sap_number[sap.id]

    def _offered(self, former: Former, moved: Renumbering) -> dict[tuple[FunctionType, str | None], Offering | None]:
        fresh = [(int(self.place_first[i]), self.pieces[i]) for i in moved.changed.fresh]
        out: dict[tuple[FunctionType, str | None], Offering | None] = {}
        for key in list(former.offerings)[-_OFFERINGS:]:
            known = former.offerings[key]
            new = [
                offering.at_places(first) for first, piece in fresh if (offering := piece.offering(*key)) is not None
            ]
            if known is not None:
                at = moved.places[known.at]
                known = known if moved.none and (at >= 0).all() else known.kept(at)
            out[key] = Offering.joined([o for o in (known, *new) if o is not None and len(o.at)])
        return out

    def _led(self, former: Former, fresh: Iterable[int]) -> dict[int, list[Leading]]:
        out = dict(former.leading)
        for i in fresh:
            saps, places = self.sap_first[i : i + 2].tolist(), (self.sap_count + self.place_first[i : i + 2]).tolist()
            for node in chain(range(*saps), range(*places)):
                out.pop(node, None)
        return out

    # --- the search --------------------------------------------------------------------------------------------------------

    @cached_property
    def arcs(self) -> Arcs:
        return Arcs(self.sap_count, self.place_count, self.figures("way_a"), self.figures("way_b"), self.peer)

    def leading_from(self, node: int) -> list[Leading]:
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
            rows = zip(self.place_first.tolist(), self.pieces, strict=False)
            found = [o.at_places(first) for first, piece in rows if (o := piece.offering(type, flavour)) is not None]
            self._offerings[key] = Offering.joined(found)
        return self._offerings[key]

    # --- by name -------------------------------------------------------------------------------------------------------

    def sap_at(self, alias: str, id: str) -> int | None:
        """A supplier's SAP by its own name."""
        supplier = self.supplier_number.get(alias)
        number = None if supplier is None else self.pieces[supplier].sap_number.get(id)
        return None if supplier is None or number is None else int(self.sap_first[supplier]) + number

    def sap_named(self, name: str) -> int | None:
        """The SAP that a customer means by this name: a UNI or dangling NNI SAP. The first supplier's counts."""
        for supplier in sorted(self.supplier_number[alias] for alias in self._names.of(name)):
            found = self._announced(supplier, self.suppliers[supplier].saps[name])
            if found is not None:
                return found
        return None

    def _announced(self, supplier: int, own: str) -> int | None:
        number = self.pieces[supplier].sap_number.get(own)
        sap = None if number is None else self.pieces[supplier].saps[number]
        if number is None or sap is None:
            return None
        known = self._interconnects
        if not (sap.role is SapRole.UNI or known.dangles(sap) or known.hands_over(self.suppliers[supplier], sap)):
            return None
        return int(self.sap_first[supplier]) + number

    @cached_property
    def announced(self) -> dict[str, int]:
        """All SAP names that a customer may use → SAP, as `sap_named` has them: to go through, supplier by supplier."""
        names: dict[str, int] = {}
        for supplier, view in enumerate(self.suppliers):
            for name, own in view.saps.items():
                found = None if name in names else self._announced(supplier, own)
                if found is not None:
                    names[name] = found
        return names

    def hands_over(self, sap: int) -> str:
        """To whom: the token of the SAP at the other side of its interconnect, where others sell that too; else empty."""
        return self._interconnects.hands_over(self.suppliers[int(self.sap_supplier[sap])], self.sap_offer(sap))

    def joined_by(self, interconnect: str) -> tuple[int, ...]:
        """The two SAPs that an interconnect joins; none where it joins nothing."""
        ends = (self._number(*side) for side in self._interconnects.pair(interconnect) or ())
        return tuple(sap for sap in ends if sap is not None)

    @cached_property
    def joined(self) -> dict[str, tuple[int, ...]]:
        """All of them by interconnect, in the order of ids: to go through."""
        return {interconnect: self.joined_by(interconnect) for interconnect in sorted(self.labels_of)}

    @property
    def unjoined(self) -> list[Unjoined]:
        return self._interconnects.unjoined

    def places_named(self, id: str) -> list[int]:
        """The numbers of the places that this id names, ascending: all of a site, or one part of it (`site_parts`)."""
        found = self._sites.get(id)
        if found is None:
            suppliers = sorted(self.supplier_number[alias] for alias in self._places.of(id))
            found = [int(self.place_first[i]) + n for i in suppliers for n in self.pieces[i].sites[id]]
            if not found:
                return [self._parts[id]] if id in self._parts else []
            self._sites[id] = found
        return found

    @cached_property
    def sites(self) -> dict[str, list[int]]:
        """All sites with the numbers of their places: to go through."""
        out: dict[str, list[int]] = {}
        for piece, first in zip(self.pieces, self.place_first.tolist(), strict=False):
            for site, numbers in piece.sites.items():
                out.setdefault(site, []).extend(first + n for n in numbers)
        return out

    @cached_property
    def _parts(self) -> dict[str, int]:
        """What we call each place to tell it from others at its site → its number."""
        return {self.part_name(place): place for places in self.sites.values() for place in places}

    def part_name(self, place: int) -> str:
        here = self.here(place)
        return part_of(here.site, self.suppliers[int(self.place_supplier[place])].alias, here.place)

    def told_along(self, way: int, node: int) -> tuple[LabelSet | None, LabelSet | None]:
        """The labels that may be used on a way at `node` (as in `Arcs`), where it begins, and where it ends."""
        return self.between(way).from_(self.along(way, node)[0])

    @cached_property
    def sold_twice(self) -> frozenset[str]:
        """The tokens of pools that several sell of, to us or to one of our suppliers."""
        return self._tokens.of_several.union(*(piece.tokens_twice for piece in self.pieces if piece.tokens_twice))

    @cached_property
    def sellers(self) -> Sellers:
        return Sellers(self, self.sold_twice)

    @cached_property
    def _sites(self) -> dict[str, list[int]]:
        return {}

    def site(self, place: int) -> int:
        """The same number for places of one site, whoever offers them."""
        return self.places_named(self.here(place).site)[0]


def _pieces(suppliers: tuple[SupplierView, ...], former: Former, views: Difference) -> tuple[Piece, ...]:
    """Those of the former graph, and new ones for new notes."""
    was = former.numbering.pieces
    known = {id(was[i].note): was[i] for i in views.gone}
    out: list[Piece] = []
    for step in views.steps:
        if step.before == NEW:
            note = suppliers[step.now].note
            out.append(known.get(id(note)) or Piece(note))
        else:
            out.extend(was[step.before : step.before + step.length])
    return tuple(out)


_cached = 4
_graphs: OrderedDict[int, Graph] = OrderedDict()
_lock = threading.Lock()


def graph_of(snapshot: Snapshot) -> Graph:
    """The graph of this very snapshot object, from a small cache; a new one is made after the one that is nearest to it."""
    with _lock:
        graph = _graphs.get(id(snapshot))
        if graph is not None and graph.snapshot is snapshot:
            _graphs.move_to_end(id(snapshot))
            return graph
        cached = [*reversed(_graphs.values())]
    graph = Graph(snapshot, _nearest(snapshot, cached))
    with _lock:
        _graphs[id(snapshot)] = graph
        while len(_graphs) > _cached:
            _graphs.popitem(last=False)
    return graph


def keep_graphs(count: int) -> None:
    """How many snapshots' graphs are kept from now on: more, where several brokers plan in one process in turn."""
    global _cached
    _cached = count


_NEAR = 64
"""One in so many suppliers is another, and no nearer graph is looked for."""


def _nearest(snapshot: Snapshot, graphs: list[Graph]) -> Graph | None:
    """The first that is near, or the one in which the fewest suppliers are others."""
    found: tuple[int, Graph] | None = None
    for graph in graphs:
        distance = len(difference(graph.snapshot.suppliers, snapshot.suppliers).fresh)
        if found is None or distance < found[0]:
            found = distance, graph
        if distance * _NEAR <= len(snapshot.suppliers):
            break
    return found[1] if found is not None else None
