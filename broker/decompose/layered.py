"""The layered graph of one question: a layer per line of its mesh, and which moves within and between them are admitted.

A *node* is where a line can be with a choice before it: an inward SAP s (number s), or a place p (number
`sap_count + p`) where a function was just placed. In a chain, state = layer x nodes + node; the goal is one more state.

Rules kept here
- Lines are walked one after another; the layer is the line's number, and a function's the layer that places it.
- A place is entered only to place the next function there; a function's successor may stand at the same place.
- Bandwidth and MTU hold at every way and SAP; where LANs run along a stretch, its ways must carry LANs and its
  interconnects need a common free label for the path and one for each LAN.
- A place is admitted for a function by type, flavour, ports, the request's places, and capacity for it alone.
- Admission is judged in arrays over the whole graph; a state's moves are made when the search comes to it.
- Costs are *counted*: the price, dearer by the caution towards a supplier that breaks its promises. What is announced,
  asked and bounded is the price (`figures`).
- `Question.ignore` switches off one class of rules by its reason code: so is the binding one found.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import numpy as np

from broker.decompose.graph import Graph
from broker.decompose.lapses import lapses
from broker.decompose.mesh import Mesh
from broker.decompose.piece import Figures, Flags, nano
from broker.decompose.plan import Avoid
from broker.decompose.surcharge import Surcharges
from capability_registry.distance import kilometres
from capability_registry.note import FunctionOffer, FunctionPort, PortRole
from service_model.features import needed_everywhere
from service_model.flavours import Flavour
from service_model.outcomes import ReasonCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One search. `saps`: where the ends of the mesh are (indices). `fastest`: order by the delay of this path (its number)
    instead of by price. `kept`: of a resource (`resources`), what is left to others."""

    mesh: Mesh
    graph: Graph
    saps: tuple[int, ...]
    now: datetime
    avoid: Avoid = field(default_factory=Avoid)
    ignore: frozenset[ReasonCode] = frozenset()
    fastest: int | None = None
    bandwidth_bps: int = 0
    min_mtu: int = 0
    kept: Mapping[tuple[str, int | str], float] = field(default_factory=dict)


class Move(NamedTuple):
    """To state `target`, over `way` (-1: the line's next function is at the same place). Then over the interconnect to SAP
    `entry`; or at the line's head, which is placed at place `place` or, where that is -1 too, is there already. `layer` is
    the line's number. `cost` as counted, in 1e-9 currency units over the term; `delay` in microseconds."""

    target: int
    cost: float
    delay: float
    way: int
    entry: int
    place: int
    layer: int


class Layers(ABC):
    """What a question admits, by layer.

    `requests[k]`: the function that layer k places, where it places one; `function_ok[k]`, `function_cost[k]`,
    `function_delay[k]`: of that function at each place. `tails[k]`, `heads[k]`: the SAP where line k begins and ends, -1
    where a function is. `way_ok[n]`, `entry_ok[n]`: ways, and SAPs entered over their interconnect, where n LANs run along.
    """

    origin: int
    target: int

    def __init__(self, question: Question) -> None:
        self.q = question
        self.graph = question.graph
        self.mesh = mesh = question.mesh
        self.spec = mesh.spec
        self.hours = self.spec.term_hours
        self.limited = bool(self.graph.shared_first[-1])
        """Whether any note has shared limits."""
        self.need = [len(mesh.lans_beside(k)) for k in range(len(mesh.lines))]
        self.begin = max(self.spec.start_time or question.now, question.now)
        self.nodes = self.graph.sap_count + self.graph.place_count
        self.sap_of = {end.id: sap for end, sap in zip(mesh.ends, question.saps, strict=True)}
        self.tails = [self.sap_of[line.a] if line.tail is None else -1 for line in mesh.lines]
        self.heads = [self.sap_of[line.b] if line.head is None else -1 for line in mesh.lines]
        first = {line.head: k for k, line in reversed([*enumerate(mesh.lines)]) if line.head is not None}
        self.layer_of = [first[f] for f in range(len(mesh.functions))]
        """Per function of the mesh, the layer that places it."""
        self.requests = {first[f]: request for f, request in enumerate(mesh.functions)}
        self.factor = self._factors()
        self.extra = Surcharges(question.avoid.dearer, self.graph, {r.id: k for k, r in self.requests.items()})
        self.way_cost: Figures = self.graph.once + self.graph.hour * self.hours
        for way, (once, hour) in self.extra.ways.items():
            self.way_cost[way] += once + hour * self.hours
        if self.factor is not None:
            self.way_cost = self.way_cost * np.repeat(self.factor, np.diff(self.graph.way_first))
        self.supplier_ok, self.sap_ok, self.place_ok = self._in_service()
        self.open = bool(self.sap_ok[list(question.saps)].all())
        self.way_ok = {need: self.ways_admitted(need) for need in set(self.need)}
        self.entry_ok = {need: self.entries_admitted(need) for need in set(self.need)}
        self.function_ok: dict[int, Flags] = {}
        self.function_cost: dict[int, Figures] = {}
        self.function_delay: dict[int, Figures] = {}
        for function, layer in enumerate(self.layer_of):
            self._admit(function, layer)
        self._admitted = {n: (self.way_ok[n].tobytes(), self.entry_ok[n].tobytes()) for n in set(self.need)}
        self._moves: dict[int, list[Move]] = {}
        self.known_figures: dict[Move, tuple[int, int, int]] = {}

    @abstractmethod
    def node(self, state: int) -> int:
        """Where a state is."""

    @abstractmethod
    def _made(self, state: int) -> Iterable[Move]:
        """Its moves, in the order of the notes."""

    def holds(self, code: ReasonCode) -> bool:
        """Whether the rules of this class count."""
        return code not in self.q.ignore

    def delay_limit(self, path: int) -> int | None:
        return self.mesh.delay_limit(path) if self.holds(ReasonCode.DELAY) else None

    @property
    def price_limit(self) -> int | None:
        price = self.spec.max_price
        return int(price.scaleb(9)) if price is not None and self.holds(ReasonCode.PRICE) else None

    @property
    def cost_limit(self) -> int | None:
        """The price limit where it bounds what is counted; else a rule of its own keeps it (`rules.Affordable`)."""
        return self.price_limit if self.factor is None else None

    def _factors(self) -> Figures | None:
        """By which each supplier's prices count more than they are; None where all count as they are."""
        kept = np.array([view.kept for view in self.graph.suppliers])
        caution = self.graph.snapshot.caution
        return 1 + caution * (1 - kept) if caution and (kept < 1).any() else None

    def counted(self, node: int) -> float:
        """By which the price of what sets out from a node counts."""
        return 1.0 if self.factor is None else float(self.factor[self.graph.node_supplier(node)])

    # --- admission -----------------------------------------------------------------------------------------------------

    def _in_service(self) -> tuple[Flags, Flags, Flags]:
        """Suppliers in the validity of their notes, that keep what is handed down; SAPs and places of those, without a
        planned outage."""
        graph, known = self.graph, lapses(self.graph)
        suppliers = known.valid(self.q.now)
        for feature in needed_everywhere(self.spec) if self.holds(ReasonCode.FEATURE_NOT_OFFERED) else ():
            suppliers &= graph.offering_feature(feature)
        saps, places = suppliers[graph.sap_supplier], suppliers[graph.place_supplier]
        for i, outage in known.outages:
            if outage.start <= self.begin < outage.end:
                piece = graph.pieces[i]
                if (sap := piece.sap_number.get(outage.subject)) is not None:
                    saps[graph.sap_first[i] + sap] = False
                if (place := piece.place_number.get(outage.subject)) is not None:
                    places[graph.place_first[i] + place] = False
        for alias, sap_id in self.q.avoid.saps:
            if (at := graph.sap_at(alias, sap_id)) is not None:
                saps[at] = False
        if self.holds(ReasonCode.MTU):
            saps &= graph.sap_mtu >= self.q.min_mtu
        if self.holds(ReasonCode.BANDWIDTH):
            saps &= graph.sap_bps >= self.q.bandwidth_bps
        countries = self.spec.countries
        if countries and self.holds(ReasonCode.COUNTRY):
            saps &= np.array([countries.admit(c) for c in graph.sap_country], dtype=np.bool_)
            places &= np.array([countries.admit(c) for c in graph.place_country], dtype=np.bool_)
        return suppliers, saps, places

    def ways_admitted(self, need: int) -> Flags:
        """The ways on which `need` LANs may run, each for itself."""
        graph = self.graph
        ok: Flags = np.ones(len(graph.delay), dtype=np.bool_)
        if need and self.holds(ReasonCode.LAN_NOT_OFFERED):
            ok &= graph.way_lan
        if self.holds(ReasonCode.MTU):
            ok &= graph.way_mtu >= self.q.min_mtu
        if self.holds(ReasonCode.BANDWIDTH):
            ok &= graph.way_most_bps >= self.q.bandwidth_bps
        if self.spec.isolation and self.holds(ReasonCode.ISOLATION):
            ok &= graph.isolated(self.spec.isolation)
        if self.spec.countries and self.holds(ReasonCode.COUNTRY):
            ok &= graph.staying(self.spec.countries)
        ok[self._avoided()] = False
        return ok

    def entries_admitted(self, need: int) -> Flags:
        """The SAPs that may be entered over their interconnect, with `need` labels beside the first."""
        graph = self.graph
        ok: Flags = (graph.peer >= 0) & self.sap_ok & self.sap_ok[graph.peer]
        if self.holds(ReasonCode.LABELS_EXHAUSTED):
            ok &= graph.label_count >= 1 + need
        for id in self.q.avoid.interconnects:
            ok[list(graph.joined_by(id))] = False
        return ok

    def _admit(self, function: int, layer: int) -> None:
        request, graph = self.requests[layer], self.graph
        offering = graph.offering(request.type, request.flavour)
        admitted, cost, delay = np.zeros(graph.place_count, np.bool_), *np.zeros((2, graph.place_count))
        self.function_ok[layer], self.function_cost[layer], self.function_delay[layer] = admitted, cost, delay
        if offering is None:
            return
        ok = self.place_ok[offering.at] & self._fitting(function, offering.ports)
        if request.places:
            named = [p for id in request.places for p in graph.places_named(id)]
            ok &= np.isin(offering.at, named)
        for alias, id in self.q.avoid.functions:
            if id == request.id and (supplier := graph.supplier_number.get(alias)) is not None:
                ok &= graph.place_supplier[offering.at] != supplier
        for alias, id, place in self.q.avoid.placings:
            if id == request.id and (node := self._point(alias, place)) is not None:
                ok &= offering.at != node - graph.sap_count
        if any(function == member for lan in self.mesh.lans for member, _ in lan.members) and self.holds(
            ReasonCode.LAN_NOT_OFFERED
        ):
            ok &= graph.place_lan[offering.at]
        for feature in self.mesh.features_at(function) if self.holds(ReasonCode.FEATURE_NOT_OFFERED) else ():
            ok &= graph.offering_feature(feature)[graph.place_supplier[offering.at]]
        if (wanted := self.spec.versions_at(request.id)) and self.holds(ReasonCode.ADDRESS_FAMILY):
            ok &= offering.forwarding(wanted)
        if self.holds(ReasonCode.BANDWIDTH):
            ok &= offering.most_bps >= self.q.bandwidth_bps
        if request.countries and self.holds(ReasonCode.COUNTRY):
            ok &= np.array([request.countries.admit(graph.place_country[p]) for p in offering.at.tolist()], np.bool_)
        for sap, km in self._near(request.id):
            centre = graph.sap_known(sap)
            ok &= np.array([kilometres(graph.place_known(p), centre) <= km for p in offering.at.tolist()], np.bool_)
        if self.holds(ReasonCode.CAPACITY):
            ok &= offering.units <= graph.largest_bin[offering.at]
        at = offering.at
        admitted[at], delay[at] = ok, offering.delay
        cost[at] = offering.once + offering.hour * self.hours
        for (dear, supplier), (once, hour) in self.extra.functions.items():
            if dear == layer:
                cost[graph.place_supplier == supplier] += once + hour * self.hours
        if self.factor is not None:
            cost[at] *= self.factor[graph.place_supplier[at]]

    def _near(self, function: str) -> list[tuple[int, float]]:
        """The ends that a function must be near: (SAP, kilometres)."""
        ends = self.sap_of
        return [
            (ends[d.to], d.max_km)
            for d in self.spec.distances
            if self.holds(ReasonCode.DISTANCE) and d.function == function and d.to in ends and d.max_km is not None
        ]

    def _fitting(self, function: int, ports: tuple[tuple[FunctionPort, ...], ...]) -> Flags:
        """Where the offer has the ports that the function needs. Offers of a type mostly share their ports."""
        judged = {number: ports_fit(self.mesh, function, these) for number, these in {id(p): p for p in ports}.items()}
        if len(set(judged.values())) == 1:
            return np.full(len(ports), next(iter(judged.values())))
        return np.array([judged[id(these)] for these in ports], dtype=np.bool_)

    def chosen(self, layer: int, place: int) -> tuple[FunctionOffer, Flavour]:
        """What the function of a layer would be at this place, where it is admitted."""
        request = self.requests[layer]
        return self.graph.chosen(place, request.type, request.flavour)

    def surcharge(self, move: Move) -> tuple[int, int]:
        """What a move costs beyond what is announced, as it was learnt: once and per hour."""
        once, hour = self.extra.ways.get(move.way, (0, 0))
        if move.place >= 0 and self.extra.functions:
            key = move.layer, int(self.graph.place_supplier[move.place])
            more_once, more_hour = self.extra.functions.get(key, (0, 0))
            return once + more_once, hour + more_hour
        return once, hour

    def late(self, move: Move) -> tuple[float, float]:
        """Microseconds that a move adds to its line, and those of the function that it places."""
        way = float(self.graph.delay[move.way]) if move.way >= 0 else 0.0
        return way, float(self.function_delay[move.layer][move.place]) if move.place >= 0 else 0.0

    def delays(self, moves: Sequence[Move]) -> list[float]:
        """Of each path, in microseconds."""
        parts = [(move.layer, *self.late(move)) for move in moves]
        out = []
        for path in self.mesh.paths:
            own = {self.layer_of[f] for f in path.functions}
            out.append(sum(way * (k in path.lines) + more * (k in own) for k, way, more in parts))
        return out

    def _avoided(self) -> list[int]:
        """The ways between points that crank-back learnt to avoid, whichever is named first."""
        pairs = ((self._point(alias, a), self._point(alias, b)) for alias, a, b in self.q.avoid.ways)
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        ends = (ends for a, b in known for ends in ((a, b), (b, a)))
        return [way for a, b in ends for way, target, *_ in self.graph.leading_from(a) if target == b]

    def _point(self, alias: str, id: str) -> int | None:
        """The node of a supplier's SAP or place."""
        graph, supplier = self.graph, self.graph.supplier_number.get(alias)
        if supplier is None:
            return None
        if (sap := graph.pieces[supplier].sap_number.get(id)) is not None:
            return int(graph.sap_first[supplier]) + sap
        place = graph.pieces[supplier].place_number.get(id)
        return None if place is None else graph.sap_count + int(graph.place_first[supplier]) + place

    # --- moves ---------------------------------------------------------------------------------------------------------

    def moves(self, state: int) -> list[Move]:
        """From a state that is not the goal."""
        known = self._moves.get(state)
        if known is None:
            known = self._moves[state] = list(self._made(state))
        return known

    def _placed(self, layer: int, place: int) -> tuple[float, float]:
        return float(self.function_cost[layer][place]), float(self.function_delay[layer][place])


class ChainLayers(Layers):
    """Of a mesh with one path."""

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.start, self.goal = question.saps
        self.length = len(self.requests)
        self.origin = self.start
        self.target = (self.length + 1) * self.nodes

    def node(self, state: int) -> int:
        return state % self.nodes

    def _made(self, state: int) -> list[Move]:
        layer, node = divmod(state, self.nodes)
        saps, base, hours, goal = self.graph.sap_count, layer * self.nodes, self.hours, self.goal
        way_ok, entry_ok = self._admitted[self.need[layer]]
        placing = self.function_ok[layer] if layer < self.length else None
        out: list[Move] = []
        if placing is not None and node >= saps and placing[node - saps]:
            cost, delay = self._placed(layer, node - saps)
            out.append(Move(base + self.nodes + node, cost, delay, -1, -1, node - saps, layer))
        factor, dearer = self.counted(node), self.extra.ways
        for way, target, entry, once, hour, delay in self.graph.leading_from(node):
            ends = target == goal and layer == self.length
            if not way_ok[way] or not (ends or entry < 0 or entry_ok[entry]):
                continue
            cost = (once + hour * hours) * factor if way not in dearer else float(self.way_cost[way])
            if ends:
                out.append(Move(self.target, cost, delay, way, -1, -1, layer))
            elif entry >= 0:
                out.append(_move(Move, (base + entry, cost, delay, way, entry, -1, layer)))
            elif target < saps:
                continue
            elif placing is not None and placing[target - saps]:
                more, later = self._placed(layer, target - saps)
                to = base + self.nodes + target
                out.append(_move(Move, (to, cost + more, delay + later, way, -1, target - saps, layer)))
        return out


_move = tuple.__new__
"""Makes a move several times as fast as its own constructor does."""


def figures(layers: Layers, move: Move) -> tuple[int, int, int]:
    """What a move costs once and per hour (1e-9 currency units), and its delay (microseconds)."""
    known = layers.known_figures.get(move)
    if known is not None:
        return known
    once = hour = delay = 0
    if move.way >= 0:
        way = layers.graph.between(move.way)
        once, hour, delay = way.once, way.hour, way.point.delay_us
    if move.place >= 0:
        offer, flavour = layers.chosen(move.layer, move.place)
        once, hour = once + nano(flavour.price.once), hour + nano(flavour.price.per_hour)
        delay += offer.delay_us
    more_once, more_hour = layers.surcharge(move)
    known = layers.known_figures[move] = once + more_once, hour + more_hour, delay
    return known


def ports_fit(mesh: Mesh, function: int, ports: tuple[FunctionPort, ...]) -> bool:
    """Lines take DATA ports of the offer, each LAN a MANAGEMENT port."""
    roles = {p.name: p.role for p in ports}
    if any(roles.get(port) is not PortRole.DATA for port in mesh.ports(function)):
        return False
    joined = [port for lan in mesh.lans for member, port in lan.members if member == function]
    return all(roles.get(port) is PortRole.MANAGEMENT for port in joined)
