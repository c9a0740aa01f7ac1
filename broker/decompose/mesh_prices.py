"""Prices for what a mesh uses together, so that its bounds see what binds: delays of paths, flows of ways and SAPs.

Rules kept here
- Any prices give a bound: cost + sum of price * (use - limit). A line counts the prices of all its paths.
- Prices follow the subgradient (Held and Karp, The traveling-salesman problem and minimum spanning trees II, 1971): up where
  the best mesh by them uses too much, down where it leaves room, for some rounds. The best bound is taken, and where it is
  looked for again, it begins there.
- What the best mesh of a round uses too much of gets a price from then on, whether the search came to it or not.
- Prices are whole numbers: so sums are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from broker.decompose.elimination import Factor
from broker.decompose.layered import Move
from broker.decompose.mesh_bounds import Ahead, Distances, Steps, weighed
from broker.decompose.meshed import MeshLayers, Tolls
from broker.decompose.resources import Resource, at_ends, most, uses

PACE, SLOWER = 0.15, 0.9
"""How far above the best bound a round aims, in parts of it; and by how much less after a round that did not better it."""
MOMENTUM = 0.5
"""How much of the direction of the round before counts (Camerini, Fratta, Maffioli, On improving relaxation methods, 1975)."""
FLOW = 1 / 16
"""How much the square of a flow counts beside that of the whole bound of a path."""


class Priced(NamedTuple):
    """`worth`: of all limits together, by these prices. The bound of the whole mesh is `ahead.least - worth`."""

    bound: float
    tolls: Tolls
    ahead: Ahead
    worth: float


class Prices:
    """`limits` on the delays of paths, by their numbers. `floor`: what any mesh costs at least."""

    def __init__(
        self, layers: MeshLayers, steps: Steps, apart: Sequence[Factor], limits: Mapping[int, int], floor: float
    ) -> None:
        self.layers, self.steps, self.apart, self.limits, self.floor = layers, steps, apart, limits, floor
        self.prices: dict[Resource, float] = {}
        self.pace = PACE
        self.room: dict[Resource, float] = {}
        self.best: Priced | None = None
        self.ends = dict[Resource, float]()
        for resource, amount in at_ends(layers):
            self.ends[resource] = self.ends.get(resource, 0.0) + amount

    def better(self, rounds: int) -> Priced:
        """The best bound, after so many rounds more."""
        prices, before = dict(self.prices), dict[Resource, float]()
        for _ in range(rounds):
            tolls, worth = self._tolls(prices)
            ahead = Ahead(Distances(self.steps, tolls), weighed(1.0, tolls), self.apart)
            bound = ahead.least - worth
            if self.best is None or bound > self.best.bound:
                self.best, self.prices = Priced(bound, tolls, ahead, worth), dict(prices)
            else:
                self.pace *= SLOWER
            moves = ahead.best()
            over = self._over(moves, prices) if moves else {}
            before = {n: over.get(n, 0.0) + MOMENTUM * before.get(n, 0.0) for n in {*over, *before}}
            square = sum(amount * amount * _measure(name) for name, amount in before.items())
            if not square:
                break
            step = (max(self.best.bound, self.floor) * (1 + self.pace) - bound) / square
            for name, amount in before.items():
                prices[name] = max(0.0, prices.get(name, 0.0) + step * amount * _measure(name))
        assert self.best is not None
        return self.best

    def begin_with(self, steps: Steps, apart: Sequence[Factor]) -> None:
        """Fewer places, by the same prices."""
        self.steps, self.apart = steps, apart

    def _tolls(self, prices: Mapping[Resource, float]) -> tuple[Tolls, float]:
        """The price of a path is for all of its bound."""
        each = {name: price // (self.room[name] if name[0] == "path" else 1) for name, price in prices.items()}
        tolls = self.layers.untolled({int(key): price for (kind, key), price in each.items() if kind == "path"})
        peer = self.layers.graph.peer
        for (kind, key), price in each.items():
            if kind == "way":
                tolls.ways[int(key)] += price
            elif kind == "sap":  # an interconnect is entered at either side
                tolls.entries[int(key)] += price
                if peer[int(key)] >= 0:
                    tolls.entries[peer[int(key)]] += price
        return tolls, sum(price * self.room[name] for name, price in each.items())

    def _over(self, moves: tuple[Move, ...], prices: Mapping[Resource, float]) -> dict[Resource, float]:
        """How much is used too much, or left of what has a price: of a path's bound in parts of it, of ways and SAPs in
        flows."""
        late = self.layers.delays(moves)
        flows: dict[Resource, int] = {}
        for move in moves:
            for resource, _ in uses(self.layers, move):
                flows[resource] = flows.get(resource, 0) + 1
        over: dict[Resource, float] = {}
        for path, limit in self.limits.items():
            over["path", path] = late[path] / max(limit, 1) - 1
            self.room.setdefault(("path", path), float(max(limit, 1)))
        for name in {*flows, *(name for name in prices if name[0] != "path")}:
            if name[0] in ("way", "sap"):
                over[name] = flows.get(name, 0) - self._flows(name)
        return {name: amount for name, amount in over.items() if amount > 0 or (amount and prices.get(name))}

    def _flows(self, name: Resource) -> float:
        """How many flows a way or SAP has room for, besides those of the ends."""
        known = self.room.get(name)
        if known is None:
            bps = self.layers.q.bandwidth_bps
            free = most(self.layers, name) - self.ends.get(name, 0.0)
            known = self.room[name] = free // bps if bps else float("inf")
        return known


def _measure(name: Resource) -> float:
    return 1.0 if name[0] == "path" else FLOW
