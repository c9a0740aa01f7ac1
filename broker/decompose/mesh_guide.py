"""In which order the search of a mesh goes (see `guide`).

Rules kept here
- Each path whose bound on delay binds has a price per microsecond of its own; a line counts those of all its paths. Any
  prices give a bound: price + sum over paths of m * (delay - bound). For some rounds those are raised whose paths are
  late in the mesh that is best by this measure, and lowered where they are early; the best bound is taken.
- Where none binds, a microsecond of any line counts the same: of two meshes of one price the faster is better.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from broker.decompose.guide import Guide, Guiding, asked_per_microsecond
from broker.decompose.layered import Move
from broker.decompose.mesh_bounds import Ahead, Distances, of_path, weighed
from broker.decompose.mesh_rules import InTime
from broker.decompose.meshed import MeshLayers
from broker.decompose.rules import Rule

ROUNDS, THOROUGH = 2, 8


class MeshGuiding(Guiding):
    def __init__(self, layers: MeshLayers) -> None:
        self.layers: MeshLayers = layers
        limits = ((path, layers.delay_limit(path)) for path in range(len(layers.mesh.paths)))
        self.limits = {path: limit for path, limit in limits if limit is not None}
        self._known: dict[tuple[bool, frozenset[int]], Guide | None] = {}

    @cached_property
    def _distances(self) -> Distances:
        return Distances(self.layers)

    @cached_property
    def _cost(self) -> Ahead:
        return Ahead(self._distances, weighed(self.layers, 1.0, {}))

    @cached_property
    def _late(self) -> dict[int, Ahead]:
        """Of each path with a bound, the delay that is still ahead."""
        return {path: Ahead(self._distances, weighed(self.layers, 0.0, {path: 1.0})) for path in self.limits}

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

    def guide(self, thorough: bool, rules: tuple[Rule, ...]) -> Guide | None:
        binding = frozenset(rule.path for rule in rules if isinstance(rule, InTime))
        if (thorough, binding) not in self._known:
            self._known[thorough, binding] = self._guide(thorough, binding)
        return self._known[thorough, binding]

    def _guide(self, thorough: bool, binding: frozenset[int]) -> Guide | None:
        layers = self.layers
        if not self._possible or any(self._late[p][layers.origin] > limit for p, limit in self.limits.items()):
            return None
        fastest = layers.q.fastest
        if fastest is not None:
            layers.weigh(*of_path(layers, {fastest: 1.0}))
            return Guide(layers, self._cost, Ahead(self._distances, weighed(layers, 0.0, {fastest: 1.0})))
        if not binding:
            layers.weigh([1.0] * len(layers.mesh.lines), [1.0] * len(layers.mesh.functions))
            return Guide(layers, self._cost)
        prices, relaxed = self._priced(binding, THOROUGH if thorough else ROUNDS)
        layers.weigh(*of_path(layers, prices))
        worth = sum(price * self.limits[path] for path, price in prices.items())
        return Guide(layers, self._cost, None, (1.0, relaxed, worth))

    def _priced(self, binding: frozenset[int], rounds: int) -> tuple[dict[int, float], Ahead]:
        """What a microsecond of each path counts, and the bound with that."""
        layers, limits = self.layers, self.limits
        first = max(asked_per_microsecond(layers), 1.0)
        prices = dict.fromkeys(sorted(binding), first)
        low, high = dict.fromkeys(prices, 0.0), dict.fromkeys(prices, np.inf)
        tried: list[tuple[float, dict[int, float], Ahead]] = []
        for _ in range(rounds):
            ahead = Ahead(self._distances, weighed(layers, 1.0, prices))
            worth = sum(price * limits[path] for path, price in prices.items())
            tried.append((ahead[layers.origin] - worth, dict(prices), ahead))
            layers.weigh(*of_path(layers, prices))
            late = layers.delays(_follow(layers, ahead))
            for path, price in prices.items():
                side = low if late[path] > limits[path] else high
                side[path] = price
                prices[path] = price * 2 if high[path] == np.inf else (low[path] + high[path]) // 2
        _, best, ahead = max(tried, key=lambda found: found[0])
        return best, ahead


def _follow(layers: MeshLayers, ahead: Ahead) -> tuple[Move, ...]:
    """The moves of a mesh that is the least by this bound."""
    moves: list[Move] = []
    state = layers.origin
    while state != layers.target:
        best = min(layers.moves(state), key=lambda move: move.cost + move.delay + ahead[move.target])
        moves.append(best)
        state = best.target
    return tuple(moves)
