"""What holds between the moves of one route: groups that are together or apart, distances between functions, delays
between positions, and the price where another cost is counted.

Rules kept here
- A rule sees the moves of a route in order and keeps what it must remember; a move that breaks it is not made.
- A host is of one domain, and who offers a place in a note has it of one: functions that share a host are at one place of one
  note, and those that must not are there, where its supplier keeps them apart, or at places that are certainly apart, or
  have other hosts: two suppliers may sell the same place.
- That is so where all that a supplier delivers is one segment, at every level (`segments`). Where a LAN is in the service, or
  the feature `paths` is missing, what is bought may be made of several segments below, wherever the flow goes on from one place
  to another. Then only what is in turn at one place, or in a domain of our own, is certainly in one (`whole`).
- What no note makes certain of two places (`whereabouts`) is neither together nor apart.
- Like a resource, a rule is only followed where a route that was found breaks it (see `labelling`).
- Two parts of one site of one note that offer the same may be one thing that two sell: a service takes one of them.
- What several suppliers sell of one pool is judged by what they say of it (`one_seller`).
- A label may stand for another when what it remembers allows all that the other's does (`covers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Protocol

from broker.decompose.availability import available
from broker.decompose.layered import Layers, Move, figures
from broker.decompose.mesh_rules import ByHost, soon
from broker.decompose.meshed import MeshLayers
from broker.decompose.one_seller import OneSeller
from broker.decompose.piece import Flags, Numbers
from broker.decompose.whereabouts import UNCERTAIN, apart, hosts_apart, location
from service_model.constraints import Distance, Group, GroupKind, GroupScope
from service_model.flows import PATHS
from service_model.outcomes import ReasonCode


class Rule(Protocol):
    """`subject` is the id that the spec gives it."""

    @property
    def subject(self) -> str: ...

    @property
    def start(self) -> Any: ...

    def after(self, memory: Any, move: Move) -> Any | None:
        """What it remembers after the move; None where the move breaks it."""

    def covers(self, x: Any, y: Any) -> bool: ...


@dataclass(frozen=True, slots=True)
class Together:
    """Of the functions `members`, all are where the first of them is. It remembers the location. Nothing is where something
    uncertain is."""

    subject: str
    members: frozenset[int]
    location: Callable[[int], int]
    start: int = -1

    def after(self, memory: int, move: Move) -> int | None:
        if move.place < 0 or move.layer not in self.members:
            return memory
        here = self.location(move.place)
        return here if memory == -1 or (memory == here and here != UNCERTAIN) else None

    def covers(self, x: int, y: int) -> bool:
        return x == y


@dataclass(frozen=True, slots=True)
class Apart:
    """Any two of the functions `members` are at places that are `apart`. It remembers those in use."""

    subject: str
    members: frozenset[int]
    apart: Callable[[int, int], bool]
    start: frozenset[int] = frozenset()

    def after(self, memory: frozenset[int], move: Move) -> frozenset[int] | None:
        if move.place < 0 or move.layer not in self.members:
            return memory
        return memory | {move.place} if all(self.apart(p, move.place) for p in memory) else None

    def covers(self, x: frozenset[int], y: frozenset[int]) -> bool:
        return x <= y


@dataclass(frozen=True, slots=True)
class OneSegment:
    """The functions `members` are in one segment at one place. It remembers how many are placed, and where."""

    subject: str
    members: frozenset[int]
    whole: Callable[[int], bool]
    start: tuple[int, int] = (0, -1)

    def after(self, memory: tuple[int, int], move: Move) -> tuple[int, int] | None:
        count, place = memory
        if (move.entry >= 0 or (move.way >= 0 and not self.whole(move.place))) and 0 < count < len(self.members):
            return None
        if move.place < 0 or move.layer not in self.members:
            return memory
        return (count + 1, move.place) if place in (-1, move.place) else None

    def covers(self, x: tuple[int, int], y: tuple[int, int]) -> bool:
        return x == y


@dataclass(frozen=True, slots=True)
class ApartByHost:
    """Any two of the functions `members` are at places that are `apart`, or at one place in one segment. (There its
    supplier keeps them apart.) It remembers the places in use by segments that are left, and by the present one."""

    subject: str
    members: frozenset[int]
    apart: Callable[[int, int], bool]
    whole: Callable[[int], bool]
    start: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())

    def after(
        self, memory: tuple[frozenset[int], frozenset[int]], move: Move
    ) -> tuple[frozenset[int], frozenset[int]] | None:
        left, here = memory
        if move.entry >= 0 or (move.way >= 0 and not self.whole(move.place)):
            left, here = left | here, frozenset()
        if move.place < 0 or move.layer not in self.members:
            return left, here
        new = move.place
        certain = all(self.apart(p, new) for p in left) and all(p == new or self.apart(p, new) for p in here)
        return (left, here | {new}) if certain else None

    def covers(self, x: tuple[frozenset[int], frozenset[int]], y: tuple[frozenset[int], frozenset[int]]) -> bool:
        return x[0] <= y[0] and x[1] <= y[1]


@dataclass(frozen=True, slots=True)
class Labelled:
    """It breaks nothing: it remembers by which ways that narrow labels, and over which interconnects, a route came. Routes whose
    labels clash (`Continuity.apart`) are told apart by that."""

    subject: str
    narrows: Flags = field(compare=False)
    """The ways that tell labels, or tie them."""
    start: tuple[tuple[int, int], ...] = ()

    def after(self, memory: tuple[tuple[int, int], ...], move: Move) -> tuple[tuple[int, int], ...]:
        way = move.way if move.way >= 0 and self.narrows[move.way] else -1
        return memory if way < 0 and move.entry < 0 else (*memory, (way, move.entry))

    def covers(self, x: tuple[tuple[int, int], ...], y: tuple[tuple[int, int], ...]) -> bool:
        return x == y


def labelled(layers: Layers) -> Labelled:
    return Labelled("labels", layers.graph.way_told | ~layers.graph.way_swaps)


@dataclass(frozen=True, slots=True)
class OnePart:
    """Of the parts of a site that may be one thing, told of twice in one note, one is used. It remembers which of such are."""

    subject: str
    alike: Numbers = field(compare=False)
    """As `Graph.place_alike`."""
    start: frozenset[int] = frozenset()

    def after(self, memory: frozenset[int], move: Move) -> frozenset[int] | None:
        if move.place < 0 or self.alike[move.place] < 0 or move.place in memory:
            return memory
        first = move.place - self.alike[move.place]
        return None if any(p - self.alike[p] == first for p in memory) else memory | {move.place}

    def covers(self, x: frozenset[int], y: frozenset[int]) -> bool:
        return x <= y


@dataclass(frozen=True, slots=True)
class Near:
    """Two functions are within kilometres of each other. It remembers the place of the first."""

    subject: str
    members: frozenset[int]
    within: Callable[[int, int], bool]
    start: int = -1

    def after(self, memory: int, move: Move) -> int | None:
        if move.place < 0 or move.layer not in self.members:
            return memory
        return move.place if memory == -1 or self.within(memory, move.place) else None

    def covers(self, x: int, y: int) -> bool:
        return x == y


@dataclass(frozen=True, slots=True)
class Soon:
    """From position `first` (-1: end A) to position `last` it takes at most `limit` microseconds. It remembers the sum."""

    subject: str
    first: int
    last: int
    limit: float
    own: Callable[[int, int], float]
    """The delay of a function at a place, which does not count where it is the last."""
    start: float = 0.0
    path: ClassVar[int] = 0
    """The number of its path: a chain has one."""

    @property
    def lines(self) -> range:
        return range(self.first + 1, self.last + 1)

    @property
    def inner(self) -> range:
        """The layers that place the functions between the two positions."""
        return range(self.first + 1, self.last)

    def after(self, memory: float, move: Move) -> float | None:
        sum = memory + (self.part(move) or 0.0)
        return sum if sum <= self.limit else None

    def part(self, move: Move) -> float | None:
        """What the move adds; None where it is not between the two positions."""
        if not self.first < move.layer <= self.last:
            return None
        ends = move.place >= 0 and move.layer == self.last
        return move.delay - (self.own(move.layer, move.place) if ends else 0.0)

    def covers(self, x: float, y: float) -> bool:
        return x <= y


@dataclass(frozen=True, slots=True)
class Affordable:
    """The price is at most `limit` (1e-9 currency units), whatever is counted. It remembers the sum."""

    subject: str
    limit: int
    price: Callable[[Move], int]
    start: int = 0

    def after(self, memory: int, move: Move) -> int | None:
        sum = memory + self.price(move)
        return sum if sum <= self.limit else None

    def covers(self, x: int, y: int) -> bool:
        return x <= y


def rules_of(layers: Layers) -> tuple[Rule, ...]:
    """Those of the spec that lie between moves. (What concerns one move alone is admission.)"""
    spec, index = layers.spec, {request.id: layer for layer, request in layers.requests.items()}
    out: list[Rule] = []
    if (layers.graph.place_alike >= 0).any() and layers.holds(ReasonCode.CAPACITY):
        out.append(OnePart("parts", layers.graph.place_alike))
    if layers.graph.sold_twice and layers.holds(ReasonCode.CAPACITY):
        out.append(OneSeller.of(layers))
    if layers.holds(ReasonCode.AFFINITY):
        out += [_grouped(layers, group, index) for group in spec.groups]
    if layers.holds(ReasonCode.DISTANCE):
        out += [rule for distance in spec.distances for rule in _distant(layers, distance, index)]
    if layers.holds(ReasonCode.AVAILABILITY) and (bound := available(layers)) is not None:
        out.append(bound)
    if layers.price_limit is not None and layers.cost_limit is None:
        out.append(Affordable("max_price", layers.price_limit, partial(_price, layers)))
    return tuple(out)


def _price(layers: Layers, move: Move) -> int:
    once, hour, _ = figures(layers, move)
    return once + hour * layers.hours


def _grouped(layers: Layers, group: Group, index: dict[str, int]) -> Rule:
    graph, members = layers.graph, frozenset(index[f] for f in group.functions)
    together = group.kind is GroupKind.AFFINITY

    def whole(place: int) -> bool:
        return place < 0 or graph.suppliers[int(graph.place_supplier[place])].local

    if group.scope is GroupScope.HOST and _seen_whole(layers):  # that they fit there is the capacity's
        if together:
            return Together(group.id, members, lambda place: place)
        return Apart(group.id, members, lambda x, y: x == y or hosts_apart(graph, x, y))
    if group.scope is GroupScope.HOST and isinstance(layers, MeshLayers):
        return ByHost(group.id, members, together, partial(hosts_apart, graph), whole, layers)
    if group.scope is GroupScope.HOST:
        if together:
            return OneSegment(group.id, members, whole)
        return ApartByHost(group.id, members, partial(hosts_apart, graph), whole)
    if group.scope is GroupScope.SUPPLIER:
        seller = graph.place_supplier
        if together:
            return Together(group.id, members, lambda place: int(seller[place]))
        return Apart(group.id, members, lambda x, y: bool(seller[x] != seller[y]))
    if together:
        return Together(group.id, members, partial(location, graph))
    return Apart(group.id, members, partial(apart, graph))


def _seen_whole(layers: Layers) -> bool:
    """Whether each supplier is asked for all that it delivers at once."""
    return not layers.mesh.lans and all(PATHS in view.note.api_features for view in layers.graph.suppliers)


def _distant(layers: Layers, distance: Distance, index: dict[str, int]) -> Iterable[Rule]:
    graph, km, late = layers.graph, distance.max_km, distance.max_delay_us
    members = frozenset(index[id] for id in (distance.function, distance.to) if id in index)
    if km is not None and len(members) > 1:
        yield Near(distance.id, members, lambda p, q: graph.km_between(p, q) <= km)
    if late is not None and isinstance(layers, MeshLayers):
        yield from soon(layers, distance, float(late))
    elif late is not None:
        a, b = layers.mesh.ends
        at = index | {a.id: -1, b.id: len(index)}
        first, last = sorted((at[distance.function], at[distance.to]))
        own = lambda function, place: float(layers.function_delay[function][place])  # noqa: E731
        yield Soon(distance.id, first, last, float(late), own)


def broken(rules: Iterable[Rule], moves: Iterable[Move]) -> list[Rule]:
    """The rules that a route breaks."""
    route, out = tuple(moves), []
    for rule in rules:
        memory = rule.start
        for move in route:
            memory = rule.after(memory, move)
            if memory is None:
                out.append(rule)
                break
    return out
