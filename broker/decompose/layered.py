"""The layered graph of one question: states (vertex, functions placed), and which steps between them are admitted.

Rules kept here
- A place is entered only to place the next function there; a function's successor may stand at the same place.
- Bandwidth and MTU hold at every way and SAP; where LANs run along a stretch, its ways must carry LANs and its
  interconnects need a common free label for the path and one for each LAN.
- A place is admitted for a function by type, flavour, ports, the request's places, and capacity for it alone.
- What several steps of one service draw on together (labels, bandwidth, shared limits, capacity) is a *resource*:
  `uses` says what a step draws, `within` whether a sum still fits.
- `Question.ignore` switches off one class of rules by its reason code: so is the binding one found.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from broker.decompose.chain import Chain
from broker.decompose.graph import Crossing, Graph, PlaceVertex, Way, default_flavour, nano
from broker.decompose.plan import Avoid
from capability_registry.note import Flavour, FunctionOffer, PortRole
from capability_registry.packing import packs
from service_model.outcomes import ReasonCode

Resource = tuple[str, int | str]
"""What is drawn on: `("labels", interconnect)`, `("sap", index)`, `("way", number)`, `("shared", index)`,
`("functions", supplier)`, or `("place", vertex)`, whose amount is a bit mask of functions."""

_RESOURCE_CLASS = {
    "labels": ReasonCode.LABELS_EXHAUSTED,
    "sap": ReasonCode.BANDWIDTH,
    "way": ReasonCode.BANDWIDTH,
    "shared": ReasonCode.BANDWIDTH,
    "functions": ReasonCode.CAPACITY,
    "place": ReasonCode.CAPACITY,
}


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


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """To state `target`; over a way, an interconnect or neither (next function at the same place); `function` is the
    index of the one placed, -1 for none. `cost` in 1e-9 currency units over the term, `delay` in microseconds."""

    target: int
    cost: int
    delay: int
    way: Way | None = None
    crossing: Crossing | None = None
    function: int = -1
    flavour: Flavour | None = None
    layer: int = 0


class Layers:
    """The admitted part of the layered graph that can be reached from the start, with lower bounds to the goal."""

    def __init__(self, question: Question) -> None:
        self.q = question
        self.graph = question.graph
        self.chain = question.chain
        self.hours = question.chain.spec.term_hours
        self.length = len(self.chain.functions)
        self.need = [self.chain.lans_at(k) for k in range(self.length + 1)]
        self.begin = max(question.chain.spec.start_time or question.now, question.now)
        self._supplier_ok = [self._serving(i) for i in range(len(self.graph.suppliers))]
        self._sap_ok = [self._sap_admitted(i) for i in range(len(self.graph.saps))]
        self._choices: dict[tuple[int, int], tuple[FunctionOffer, Flavour] | None] = {}
        self.origin = question.start
        self.target = self.length * self.graph.size + self.graph.outward(question.goal)
        self.steps: dict[int, list[Step]] = {}
        if self._sap_ok[question.start] and self._sap_ok[question.goal]:
            self._expand()
        self.cost_to_go = self._bounds(by_delay=False)
        bounded = self.delay_limit is not None or question.fastest
        self.delay_to_go = self._bounds(by_delay=True) if bounded else None

    @property
    def delay_limit(self) -> int | None:
        return None if ReasonCode.DELAY in self.q.ignore else self.chain.spec.max_delay_us

    @property
    def cost_limit(self) -> int | None:
        price = self.chain.spec.max_price
        return None if price is None or ReasonCode.PRICE in self.q.ignore else int(price.scaleb(9))

    # --- admission -------------------------------------------------------------------------------------------------

    def _serving(self, supplier: int) -> bool:
        note = self.graph.suppliers[supplier].note
        return note.not_before <= self.q.now < note.expires

    def _out(self, supplier: int, subject: str) -> bool:
        note = self.graph.suppliers[supplier].note
        return any(o.subject == subject and o.start <= self.begin < o.end for o in note.outages)

    def _sap_admitted(self, index: int) -> bool:
        sap = self.graph.saps[index]
        return (
            self._supplier_ok[sap.supplier]
            and not self._out(sap.supplier, sap.offer.id)
            and (ReasonCode.MTU in self.q.ignore or sap.offer.mtu >= self.q.min_mtu)
            and (ReasonCode.BANDWIDTH in self.q.ignore or sap.offer.bandwidth_bps >= self.q.bandwidth_bps)
        )

    def _way_admitted(self, way: Way, layer: int) -> bool:
        point, ignore = way.point, self.q.ignore
        if self.need[layer] and not point.lan and ReasonCode.LAN_NOT_OFFERED not in ignore:
            return False
        if point.mtu < self.q.min_mtu and ReasonCode.MTU not in ignore:
            return False
        if ReasonCode.BANDWIDTH not in ignore:
            bps = self.q.bandwidth_bps
            if point.bandwidth_bps < bps:
                return False
            if any(c * bps > self.graph.shared[i][1].limit_bps for i, c in way.limits):
                return False
        return True

    def _crossing_admitted(self, crossing: Crossing, layer: int) -> bool:
        if not (self._sap_ok[crossing.source] and self._sap_ok[crossing.target]):
            return False
        if crossing.id in self.q.avoid.interconnects:
            return False
        return ReasonCode.LABELS_EXHAUSTED in self.q.ignore or len(crossing.labels) >= 1 + self.need[layer]

    def choice(self, function: int, place: PlaceVertex) -> tuple[FunctionOffer, Flavour] | None:
        """What function (by index) would be at this place, None where it is not admitted there."""
        key = (function, place.vertex)
        if key not in self._choices:
            self._choices[key] = self._choose(function, place)
        return self._choices[key]

    def _choose(self, index: int, place: PlaceVertex) -> tuple[FunctionOffer, Flavour] | None:
        request, ignore = self.chain.functions[index], self.q.ignore
        offer = place.offers.get(request.type)
        flavour = default_flavour(offer, request.flavour) if offer else None
        view = self.graph.suppliers[place.supplier]
        if offer is None or flavour is None or not self._supplier_ok[place.supplier]:
            return None
        if self._out(place.supplier, place.place) or (view.alias, request.id) in self.q.avoid.functions:
            return None
        if request.places and place.place not in request.places:
            return None
        if not ports_fit(self.chain, index, offer):
            return None
        on_lan = any(index in lan.members for lan in self.chain.lans)
        if on_lan and not place.capacity.lan and ReasonCode.LAN_NOT_OFFERED not in ignore:
            return None
        most = flavour.max_bandwidth_bps or self.q.bandwidth_bps
        if most < self.q.bandwidth_bps and ReasonCode.BANDWIDTH not in ignore:
            return None
        if ReasonCode.CAPACITY not in ignore and not packs(place.capacity.bins, (flavour.units,)):
            return None
        return offer, flavour

    # --- the reachable part ----------------------------------------------------------------------------------------

    def _expand(self) -> None:
        todo = [self.origin]
        while todo:
            state = todo.pop()
            if state in self.steps:
                continue
            steps = self.steps[state] = list(self._steps(state))
            todo.extend(s.target for s in steps if s.target not in self.steps)

    def _steps(self, state: int) -> Iterator[Step]:
        graph, (layer, vertex) = self.graph, divmod(state, self.graph.size)
        saps = len(graph.saps)
        if saps <= vertex < 2 * saps:
            crossing = graph.crossing[vertex - saps]
            if state != self.target and crossing is not None and self._crossing_admitted(crossing, layer):
                yield Step(layer * graph.size + crossing.target, 0, 0, crossing=crossing, layer=layer)
            return
        here = graph.place(vertex)
        if here is not None:
            yield from self._placing(None, here, layer)
        for way in graph.ways[vertex]:
            there = graph.place(way.target)
            if there is not None:
                if layer < self.length and self._way_admitted(way, layer):
                    yield from self._placing(way, there, layer)
            elif self._way_admitted(way, layer) and self._sap_ok[way.target - saps]:
                if here is None and self._avoided(way):
                    continue
                cost = way.once + way.hour * self.hours
                yield Step(layer * graph.size + way.target, cost, way.point.delay_us, way=way, layer=layer)

    def _placing(self, way: Way | None, place: PlaceVertex, layer: int) -> Iterator[Step]:
        chosen = self.choice(layer, place) if layer < self.length else None
        if chosen is None:
            return
        offer, flavour = chosen
        cost = nano(flavour.price.once) + nano(flavour.price.per_hour) * self.hours
        delay = offer.delay_us
        if way is not None:
            cost += way.once + way.hour * self.hours
            delay += way.point.delay_us
        target = (layer + 1) * self.graph.size + place.vertex
        yield Step(target, cost, delay, way=way, function=layer, flavour=flavour, layer=layer)

    def _avoided(self, way: Way) -> bool:
        if not self.q.avoid.ways:
            return False
        source, target = self.graph.sap(way.source), self.graph.sap(way.target)
        alias = self.graph.suppliers[source.supplier].alias
        return (alias, source.offer.id, target.offer.id) in self.q.avoid.ways

    def _bounds(self, by_delay: bool) -> dict[int, int]:
        """From each state that reaches the goal, the least cost (or delay) of doing so: Dijkstra backwards."""
        back: dict[int, list[tuple[int, int]]] = {}
        for state, steps in self.steps.items():
            for step in steps:
                back.setdefault(step.target, []).append((state, step.delay if by_delay else step.cost))
        done: dict[int, int] = {}
        heap = [(0, self.target)] if self.target in self.steps else []
        while heap:
            value, state = heapq.heappop(heap)
            if state in done:
                continue
            done[state] = value
            for source, more in back.get(state, ()):
                if source not in done:
                    heapq.heappush(heap, (value + more, source))
        return done

    # --- resources -------------------------------------------------------------------------------------------------

    def uses(self, step: Step) -> Iterator[tuple[Resource, float]]:
        """What a step draws on. For a place the amount is the bit of the function."""
        bps = self.q.bandwidth_bps
        if step.crossing is not None:
            yield ("labels", step.crossing.id), 1 + self.need[step.layer]
            yield ("sap", step.crossing.source), bps
            yield ("sap", step.crossing.target), bps
        if step.way is not None:
            yield ("way", step.way.number), bps
            for index, coefficient in step.way.limits:
                yield ("shared", index), coefficient * bps
        if step.function >= 0:
            vertex = step.target % self.graph.size
            yield ("place", vertex), 1 << step.function
            yield ("functions", self.graph.supplier(vertex)), 1

    def at_ends(self) -> Iterator[tuple[Resource, float]]:
        """What the service draws on by its two ends alone."""
        yield ("sap", self.q.start), self.q.bandwidth_bps
        yield ("sap", self.q.goal), self.q.bandwidth_bps

    def within(self, resource: Resource, amount: float) -> bool:
        kind, key = resource
        if _RESOURCE_CLASS[kind] in self.q.ignore:
            return True
        graph = self.graph
        if kind == "labels":
            return amount <= next(len(c.labels) for c in graph.crossing if c is not None and c.id == key)
        index = int(key)
        if kind == "sap":
            return amount <= graph.saps[index].offer.bandwidth_bps
        if kind == "shared":
            return amount <= graph.shared[index][1].limit_bps
        if kind == "functions":
            return amount <= graph.suppliers[index].note.max_functions
        if kind == "way":
            return amount <= graph.way_bandwidth[index]
        place = graph.places[index - 2 * len(graph.saps)]
        units = []
        for function in range(self.length):
            if int(amount) >> function & 1:
                chosen = self.choice(function, place)
                units.append(chosen[1].units if chosen else 0)
        return packs(place.capacity.bins, units)


def ports_fit(chain: Chain, index: int, offer: FunctionOffer) -> bool:
    """The path takes DATA ports of the offer, each LAN a MANAGEMENT port."""
    roles = {p.name: p.role for p in offer.ports}
    if any(roles.get(port) is not PortRole.DATA for port in chain.ports[index]):
        return False
    for lan in chain.lans:
        for member, port in zip(lan.members, lan.ports, strict=True):
            if member == index and roles.get(port) is not PortRole.MANAGEMENT:
                return False
    return True
