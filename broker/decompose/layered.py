"""The layered graph of one question: states (node, functions placed), and which moves between them are admitted.

A *node* is where a service can be with a choice before it: an inward SAP s (number s), or a place p (number
`sap_count + p`) where a function was just placed. State = layer x nodes + node; the goal is one more state.

Rules kept here
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

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import numpy as np

from broker.decompose.chain import Chain
from broker.decompose.graph import Graph
from broker.decompose.piece import Figures, Flags, nano
from broker.decompose.plan import Avoid
from broker.decompose.surcharge import Surcharges
from capability_registry.distance import kilometres
from capability_registry.note import Flavour, FunctionOffer, FunctionPort, PortRole
from service_model.constraints import PLACEMENT
from service_model.outcomes import ReasonCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One search: from SAP `start` to SAP `goal` (indices). `fastest` orders by delay instead of price."""

    chain: Chain
    graph: Graph
    start: int
    goal: int
    now: datetime
    avoid: Avoid = field(default_factory=Avoid)
    ignore: frozenset[ReasonCode] = frozenset()
    fastest: bool = False
    bandwidth_bps: int = 0
    min_mtu: int = 0


class Move(NamedTuple):
    """To state `target`, over `way` (-1: the next function at the same place). Then over the interconnect to SAP `entry`,
    or placing the next function at place `place`, or, where both are -1, at the goal. `layer` functions were placed
    before. `cost` as counted, in 1e-9 currency units over the term; `delay` in microseconds."""

    target: int
    cost: float
    delay: float
    way: int
    entry: int
    place: int
    layer: int


class Layers:
    """What a question admits.

    `function_ok[k]`, `function_cost[k]`, `function_delay[k]`: of function k at each place. `way_ok[n]`, `entry_ok[n]`:
    ways, and SAPs entered over their interconnect, where n LANs run along.
    """

    def __init__(self, question: Question) -> None:
        self.q = question
        self.graph = question.graph
        self.chain = question.chain
        self.hours = question.chain.spec.term_hours
        self.length = len(self.chain.functions)
        self.need = [self.chain.lans_at(k) for k in range(self.length + 1)]
        self.begin = max(question.chain.spec.start_time or question.now, question.now)
        self.nodes = self.graph.sap_count + self.graph.place_count
        self.origin = question.start
        self.target = (self.length + 1) * self.nodes
        self.factor = self._factors()
        self.extra = Surcharges(question.avoid.dearer, self.graph, [f.id for f in self.chain.functions])
        self.way_cost: Figures = self.graph.once + self.graph.hour * self.hours
        for way, (once, hour) in self.extra.ways.items():
            self.way_cost[way] += once + hour * self.hours
        if self.factor is not None:
            self.way_cost = self.way_cost * np.repeat(self.factor, np.diff(self.graph.way_first))
        self.supplier_ok, self.sap_ok, self.place_ok = self._in_service()
        self.open = bool(self.sap_ok[question.start] and self.sap_ok[question.goal])
        self.way_ok = {need: self._ways_admitted(need) for need in set(self.need)}
        self.entry_ok = {need: self._entries_admitted(need) for need in set(self.need)}
        self.function_ok: list[Flags] = []
        self.function_cost: list[Figures] = []
        self.function_delay: list[Figures] = []
        for index in range(self.length):
            self._admit(index)
        self._admitted = {n: (self.way_ok[n].tobytes(), self.entry_ok[n].tobytes()) for n in set(self.need)}
        self._moves: dict[int, list[Move]] = {}

    def holds(self, code: ReasonCode) -> bool:
        """Whether the rules of this class count."""
        return code not in self.q.ignore

    @property
    def delay_limit(self) -> int | None:
        return self.chain.max_delay_us if self.holds(ReasonCode.DELAY) else None

    @property
    def price_limit(self) -> int | None:
        price = self.chain.spec.max_price
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

    # --- admission -----------------------------------------------------------------------------------------------------

    def _in_service(self) -> tuple[Flags, Flags, Flags]:
        """Suppliers in the validity of their notes, that keep what is handed down; SAPs and places of those, without a
        planned outage."""
        graph, now = self.graph, self.q.now
        notes = [view.note for view in graph.suppliers]
        suppliers = np.array([note.not_before <= now < note.expires for note in notes], dtype=np.bool_)
        if self.chain.spec.needs_placement() and self.holds(ReasonCode.FEATURE_NOT_OFFERED):
            suppliers &= np.array([PLACEMENT in note.api_features for note in notes], dtype=np.bool_)
        saps, places = suppliers[graph.sap_supplier], suppliers[graph.place_supplier]
        for i, note in enumerate(notes):
            for outage in note.outages:
                if outage.start <= self.begin < outage.end:
                    piece = graph.pieces[i]
                    if (sap := piece.sap_number.get(outage.subject)) is not None:
                        saps[graph.sap_first[i] + sap] = False
                    if (place := piece.place_number.get(outage.subject)) is not None:
                        places[graph.place_first[i] + place] = False
        if self.holds(ReasonCode.MTU):
            saps &= graph.sap_mtu >= self.q.min_mtu
        if self.holds(ReasonCode.BANDWIDTH):
            saps &= graph.sap_bps >= self.q.bandwidth_bps
        countries = self.chain.spec.countries
        if countries and self.holds(ReasonCode.COUNTRY):
            saps &= np.array([countries.admit(c) for c in graph.sap_country], dtype=np.bool_)
            places &= np.array([countries.admit(c) for c in graph.place_country], dtype=np.bool_)
        return suppliers, saps, places

    def _ways_admitted(self, need: int) -> Flags:
        graph = self.graph
        ok: Flags = np.ones(len(graph.delay), dtype=np.bool_)
        if need and self.holds(ReasonCode.LAN_NOT_OFFERED):
            ok &= graph.way_lan
        if self.holds(ReasonCode.MTU):
            ok &= graph.way_mtu >= self.q.min_mtu
        if self.holds(ReasonCode.BANDWIDTH):
            ok &= graph.way_most_bps >= self.q.bandwidth_bps
        if self.chain.spec.isolation and self.holds(ReasonCode.ISOLATION):
            ok &= graph.isolated(self.chain.spec.isolation)
        if self.chain.spec.countries and self.holds(ReasonCode.COUNTRY):
            ok &= graph.staying(self.chain.spec.countries)
        return ok

    def _entries_admitted(self, need: int) -> Flags:
        graph = self.graph
        ok: Flags = (graph.peer >= 0) & self.sap_ok & self.sap_ok[graph.peer]
        if self.holds(ReasonCode.LABELS_EXHAUSTED):
            ok &= graph.label_count >= 1 + need
        for id in self.q.avoid.interconnects:
            ok[list(graph.joined.get(id, ()))] = False
        return ok

    def _admit(self, index: int) -> None:
        request, graph = self.chain.functions[index], self.graph
        offering = graph.offering(request.type, request.flavour)
        admitted, cost, delay = np.zeros(graph.place_count, np.bool_), *np.zeros((2, graph.place_count))
        self.function_ok.append(admitted)
        self.function_cost.append(cost)
        self.function_delay.append(delay)
        if offering is None:
            return
        ok = self.place_ok[offering.at] & self._fitting(index, offering.ports)
        if request.places:
            named = [p for id in request.places for p in graph.places_named.get(id, ())]
            ok &= np.isin(offering.at, named)
        for alias, function in self.q.avoid.functions:
            if function == request.id and (supplier := graph.supplier_number.get(alias)) is not None:
                ok &= graph.place_supplier[offering.at] != supplier
        if any(index in lan.members for lan in self.chain.lans) and self.holds(ReasonCode.LAN_NOT_OFFERED):
            ok &= graph.place_lan[offering.at]
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
            if dear == index:
                cost[graph.place_supplier == supplier] += once + hour * self.hours
        if self.factor is not None:
            cost[at] *= self.factor[graph.place_supplier[at]]

    def _near(self, function: str) -> list[tuple[int, float]]:
        """The ends that a function must be near: (SAP, kilometres)."""
        ends = {self.chain.a.id: self.q.start, self.chain.b.id: self.q.goal}
        return [
            (ends[d.to], d.max_km)
            for d in self.chain.spec.distances
            if self.holds(ReasonCode.DISTANCE) and d.function == function and d.to in ends and d.max_km is not None
        ]

    def _fitting(self, index: int, ports: tuple[tuple[FunctionPort, ...], ...]) -> Flags:
        """Where the offer has the ports that the function needs. Offers of a type mostly share their ports."""
        judged: dict[int, bool] = {}
        out = []
        for these in ports:
            known = judged.get(id(these))
            if known is None:
                known = judged[id(these)] = ports_fit(self.chain, index, these)
            out.append(known)
        return np.array(out, dtype=np.bool_)

    def chosen(self, function: int, place: int) -> tuple[FunctionOffer, Flavour]:
        """What function (by index) would be at this place, where it is admitted."""
        request = self.chain.functions[function]
        return self.graph.chosen(place, request.type, request.flavour)

    def surcharge(self, move: Move) -> tuple[int, int]:
        """What a move costs beyond what is announced, as it was learnt: once and per hour."""
        once, hour = self.extra.ways.get(move.way, (0, 0))
        if move.place >= 0 and self.extra.functions:
            key = move.layer, int(self.graph.place_supplier[move.place])
            more_once, more_hour = self.extra.functions.get(key, (0, 0))
            return once + more_once, hour + more_hour
        return once, hour

    @cached_property
    def avoided(self) -> frozenset[tuple[int, int]]:
        """The ways from SAP to SAP that crank-back learnt to avoid."""
        at = self.graph.sap_at if self.q.avoid.ways else {}
        pairs = (((at.get((alias, x))), at.get((alias, y))) for alias, x, y in self.q.avoid.ways)
        return frozenset((x, y) for x, y in pairs if x is not None and y is not None)

    # --- moves ---------------------------------------------------------------------------------------------------------

    def moves(self, state: int) -> list[Move]:
        """From a state that is not the goal, in the order of the notes."""
        known = self._moves.get(state)
        if known is None:
            known = self._moves[state] = list(self._made(state))
        return known

    def _made(self, state: int) -> Iterator[Move]:
        layer, node = divmod(state, self.nodes)
        saps, base, hours, goal = self.graph.sap_count, layer * self.nodes, self.hours, self.q.goal
        way_ok, entry_ok = self._admitted[self.need[layer]]
        placing = self.function_ok[layer] if layer < self.length else None
        if placing is not None and node >= saps and placing[node - saps]:
            cost, delay = self._placed(layer, node - saps)
            yield Move(base + self.nodes + node, cost, delay, -1, -1, node - saps, layer)
        factor = 1.0 if self.factor is None else float(self.factor[self.graph.node_supplier(node)])
        for way, target, entry, once, hour, delay in self.graph.leading_from(node):
            if not way_ok[way] or (node, target) in self.avoided:
                continue
            cost = float(self.way_cost[way]) if way in self.extra.ways else (once + hour * hours) * factor
            if entry >= 0:
                if entry_ok[entry]:
                    yield Move(base + entry, cost, delay, way, entry, -1, layer)
            elif target < saps:
                if target == goal and layer == self.length:
                    yield Move(self.target, cost, delay, way, -1, -1, layer)
            elif placing is not None and placing[target - saps]:
                more, later = self._placed(layer, target - saps)
                yield Move(base + self.nodes + target, cost + more, delay + later, way, -1, target - saps, layer)

    def _placed(self, function: int, place: int) -> tuple[float, float]:
        return float(self.function_cost[function][place]), float(self.function_delay[function][place])


def figures(layers: Layers, move: Move) -> tuple[int, int, int]:
    """What a move costs once and per hour (1e-9 currency units), and its delay (microseconds)."""
    once = hour = delay = 0
    if move.way >= 0:
        way = layers.graph.between(move.way)
        once, hour, delay = way.once, way.hour, way.point.delay_us
    if move.place >= 0:
        offer, flavour = layers.chosen(move.layer, move.place)
        once, hour = once + nano(flavour.price.once), hour + nano(flavour.price.per_hour)
        delay += offer.delay_us
    more_once, more_hour = layers.surcharge(move)
    return once + more_once, hour + more_hour, delay


def ports_fit(chain: Chain, index: int, ports: tuple[FunctionPort, ...]) -> bool:
    """The path takes DATA ports of the offer, each LAN a MANAGEMENT port."""
    roles = {p.name: p.role for p in ports}
    if any(roles.get(port) is not PortRole.DATA for port in chain.ports[index]):
        return False
    for lan in chain.lans:
        for member, port in zip(lan.members, lan.ports, strict=True):
            if member == index and roles.get(port) is not PortRole.MANAGEMENT:
                return False
    return True
