"""In which order the search of a mesh goes (see `guide`).

Rules kept here
- What binds has a price: a microsecond of each path whose bound on delay does; where the search is hard, a flow on each way
  or SAP that does. A line counts the prices of all its paths. Any prices give a bound: cost + sum of price * (use - limit).
- Prices follow the subgradient (Held and Karp, The traveling-salesman problem and minimum spanning trees II, 1971): up where
  the best mesh by them uses too much, down where it leaves room, for some rounds. The best bound is taken.
- Where nothing binds, a microsecond of any path counts the same: of two meshes of one price the faster is better.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from broker.decompose.guide import Guide, Guiding, asked_per_microsecond
from broker.decompose.layered import Move
from broker.decompose.mesh_bounds import Ahead, Distances, weighed
from broker.decompose.mesh_rules import InTime
from broker.decompose.meshed import MeshLayers, Tolls
from broker.decompose.resources import Resource, at_ends, most, uses
from broker.decompose.rules import Rule

ROUNDS, THOROUGH = 3, 40


class MeshGuiding(Guiding):
    def __init__(self, layers: MeshLayers) -> None:
        self.layers: MeshLayers = layers
        limits = ((path, layers.delay_limit(path)) for path in range(len(layers.mesh.paths)))
        self.limits = {path: limit for path, limit in limits if limit is not None}
        self._prices: dict[Resource, float] = {}
        self._known: dict[tuple[bool, frozenset[Resource]], Guide | None] = {}

    @cached_property
    def _distances(self) -> Distances:
        return Distances(self.layers)

    @cached_property
    def _cost(self) -> Ahead:
        return Ahead(self._distances, weighed(1.0, self.layers.untolled({})))

    def _ahead_of(self, path: int) -> Ahead:
        """The delay of a path that is still ahead."""
        return Ahead(self._distances, weighed(0.0, self.layers.untolled({path: 1.0})))

    @cached_property
    def _late(self) -> dict[int, Ahead]:
        return {path: self._ahead_of(path) for path in self.limits}

    def rules(self) -> tuple[Rule, ...]:
        if not self._possible:
            return ()
        names = {path: self.layers.mesh.paths[path].path.id for path in self.limits}
        return tuple(
            InTime(names[path], path, float(limit), self.layers, self._late[path])
            for path, limit in self.limits.items()
        )

    @cached_property
    def _possible(self) -> bool:
        layers = self.layers
        everywhere = layers.open and all(len(places) for places in self._distances.candidates)
        return everywhere and self._cost[layers.origin] != np.inf

    def guide(self, thorough: bool, rules: tuple[Rule, ...], tracked: tuple[Resource, ...]) -> Guide | None:
        binding: list[Resource] = [("path", rule.path) for rule in rules if isinstance(rule, InTime)]
        if thorough:
            binding += [resource for resource in tracked if resource[0] in ("way", "sap")]
        key = (thorough, frozenset(binding))
        if key not in self._known:
            self._known[key] = self._guide(thorough, binding)
        return self._known[key]

    def _guide(self, thorough: bool, binding: list[Resource]) -> Guide | None:
        layers = self.layers
        if not self._possible or any(self._late[p][layers.origin] > limit for p, limit in self.limits.items()):
            return None
        fastest = layers.q.fastest
        if fastest is not None:
            layers.charge(layers.untolled({fastest: 1.0}))
            return Guide(layers, self._cost, self._ahead_of(fastest))
        if not binding:
            layers.charge(layers.untolled(dict.fromkeys(range(len(layers.mesh.paths)), 1.0)))
            return Guide(layers, self._cost)
        tolls, relaxed, worth = self._priced(binding, THOROUGH if thorough else ROUNDS)
        layers.charge(tolls)
        return Guide(layers, self._cost, None, (1.0, relaxed, worth))

    def _priced(self, binding: list[Resource], rounds: int) -> tuple[Tolls, Ahead, float]:
        """The tolls, the bound with them, and what all limits together are worth."""
        layers = self.layers
        room = {name: self._room(name) for name in binding}
        first = 0.0 if self._prices else asked_per_microsecond(layers)
        prices = {n: self._prices.get(n, first * room[n] if n[0] == "path" else 0.0) for n in binding}
        best: tuple[float, Tolls, Ahead, float, dict[Resource, float]] | None = None
        pace = 0.2
        for _ in range(rounds):
            tolls, worth = self._tolls(prices, room)
            ahead = Ahead(Distances(layers, tolls), weighed(1.0, tolls))
            bound = ahead[layers.origin] - worth
            if best is None or bound > best[0]:
                best = (bound, tolls, ahead, worth, prices)
            else:
                pace *= 0.85
            layers.charge(tolls)
            over = self._over(_follow(layers, ahead), room)
            square = sum(amount * amount for amount in over.values())
            if not square:
                break
            step = (max(best[0], self._cost[layers.origin]) * (1 + pace) - bound) / square
            prices = {name: max(0.0, price + step * over[name]) for name, price in prices.items()}
        assert best is not None
        _, tolls, ahead, worth, self._prices = best
        return tolls, ahead, worth

    def _room(self, name: Resource) -> float:
        """Microseconds of a path, flows of a way or SAP besides those of the ends."""
        kind, key = name
        if kind == "path":
            return float(max(self.limits[int(key)], 1))
        taken = sum(amount for resource, amount in at_ends(self.layers) if resource == name)
        return (most(self.layers, name) - taken) // self.layers.q.bandwidth_bps

    def _tolls(self, prices: dict[Resource, float], room: dict[Resource, float]) -> tuple[Tolls, float]:
        """Whole numbers: so sums are exact. The price of a path is for all of its bound."""
        each = {name: price // (room[name] if name[0] == "path" else 1) for name, price in prices.items()}
        tolls = self.layers.untolled({int(key): price for (kind, key), price in each.items() if kind == "path"})
        peer = self.layers.graph.peer
        for (kind, key), price in each.items():
            if kind == "way":
                tolls.ways[int(key)] += price
            elif kind == "sap":  # an interconnect is entered at either side
                tolls.entries[int(key)] += price
                if peer[int(key)] >= 0:
                    tolls.entries[peer[int(key)]] += price
        return tolls, sum(price * room[name] for name, price in each.items())

    def _over(self, moves: tuple[Move, ...], room: dict[Resource, float]) -> dict[Resource, float]:
        """How much is used too much: of a path's bound in parts of it, of ways and SAPs in flows."""
        late = self.layers.delays(moves)
        flows: dict[Resource, int] = {}
        for move in moves:
            for resource, _ in uses(self.layers, move):
                flows[resource] = flows.get(resource, 0) + 1
        return {
            name: late[int(name[1])] / limit - 1 if name[0] == "path" else flows.get(name, 0) - limit
            for name, limit in room.items()
        }


def _follow(layers: MeshLayers, ahead: Ahead) -> tuple[Move, ...]:
    """The moves of a mesh that is the least by this bound."""
    moves: list[Move] = []
    state = layers.origin
    while state != layers.target:
        best = min(layers.moves(state), key=lambda move: move.cost + move.delay + ahead[move.target])
        moves.append(best)
        state = best.target
    return tuple(moves)
