"""In which order the search of a mesh goes (see `guide`).

Rules kept here
- A function is nowhere from where a path could not keep its bound on delay, whatever else is chosen.
- Where the search is hard, what binds has a price (`mesh_prices`), and the bounds count it.
- Where nothing binds, a microsecond of any path counts the same: of two meshes of one price the faster is better.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from broker.decompose.guide import Guide
from broker.decompose.mesh import MeshPath
from broker.decompose.mesh_bounds import Ahead, Distances, Steps, weighed
from broker.decompose.mesh_pairs import apart
from broker.decompose.mesh_prices import Prices
from broker.decompose.mesh_rules import InTime
from broker.decompose.meshed import MeshLayers
from broker.decompose.piece import Figures, Flags
from broker.decompose.rules import Rule

ROUNDS = 12
_TIME = (0.0, 1.0)


class MeshGuiding:
    """Gives the search of one question its guide, and the rules that only a guide can judge."""

    def __init__(self, layers: MeshLayers, rules: tuple[Rule, ...]) -> None:
        self.layers, self._judged = layers, rules
        limits = ((path, layers.delay_limit(path)) for path in range(len(layers.mesh.paths)))
        self.limits = {path: limit for path, limit in limits if limit is not None}
        self._possible = layers.open and all(len(places) for places in layers.candidates)
        self._late: dict[int, Ahead] = {}
        if self._possible:
            self._bound()

    def _bound(self) -> None:
        layers = self.layers
        self._steps = Steps(layers)
        self._distances = Distances(self._steps)
        if self.limits:
            self._distances.measure([_TIME] * len(layers.mesh.lines))
            layers.keep_to(self._timely())
            self._steps.narrowed()
        self._possible = all(len(places) for places in layers.candidates)
        if not self._possible:
            return
        self._apart = apart(layers, self._judged)
        self._cost = Ahead(self._distances, weighed(1.0, layers.untolled({})), self._apart)
        self._possible = self._cost.least != np.inf
        if self._possible:
            self._late = {path: self._ahead_of(path) for path in self.limits}
            self._possible = all(self._late[path].least <= limit for path, limit in self.limits.items())

    def _ahead_of(self, path: int) -> Ahead:
        """The delay of a path that is still ahead."""
        return Ahead(self._distances, weighed(0.0, self.layers.untolled({path: 1.0})), self._apart)

    def _timely(self) -> list[Flags]:
        """Per function, from which of its candidates its paths can keep their bounds."""
        kept = [np.ones(len(places), dtype=np.bool_) for places in self.layers.candidates]
        for number, limit in self.limits.items():
            path = self.layers.mesh.paths[number]
            if path.functions:
                for function, through in zip(path.functions, self._through(path), strict=True):
                    kept[function] &= through <= limit
        return kept

    def _through(self, path: MeshPath) -> list[Figures]:
        """Per function of a path, the least delay of the path with each of its candidates."""
        layers = self.layers
        own = [layers.function_delay[layers.layer_of[f]][layers.candidates[f]] for f in path.functions]
        starts = [layers.graph.sap_count + layers.candidates[f] for f in path.functions]
        tables = [self._distances.to_head(k, _TIME) for k in path.lines]
        before = [tables[0][:, layers.tails[path.lines[0]]] + own[0]]
        for n in range(1, len(own)):
            before.append((tables[n][:, starts[n - 1]] + before[-1]).min(axis=1) + own[n])
        after = [tables[-1][0, starts[-1]]]
        for n in range(len(own) - 1, 0, -1):
            after.append((tables[n][:, starts[n - 1]] + (after[-1] + own[n])[:, None]).min(axis=0))
        return [x + y for x, y in zip(before, reversed(after), strict=True)]

    def rules(self) -> tuple[Rule, ...]:
        names = {path: self.layers.mesh.paths[path].path.id for path in self._late}
        return tuple(
            InTime(names[path], path, float(self.limits[path]), self.layers, late) for path, late in self._late.items()
        )

    @property
    def late(self) -> bool:
        """Whether the cheapest mesh is, whatever else binds."""
        delays = self.layers.delays(self._cost.best()) if self.limits else []
        return any(delays[path] > limit for path, limit in self.limits.items())

    @cached_property
    def _prices(self) -> Prices:
        return Prices(self.layers, self._steps, self._apart, self.limits, self._cost.least)

    def guide(self) -> Guide | None:
        """None where there is no way at all, or none that keeps the bounds on delay."""
        layers = self.layers
        if not self._possible:
            return None
        fastest = layers.q.fastest
        if fastest is not None:
            layers.charge(layers.untolled({fastest: 1.0}))
            return Guide(layers, self._cost, self._ahead_of(fastest))
        layers.charge(layers.untolled(dict.fromkeys(range(len(layers.mesh.paths)), 1.0)))
        return Guide(layers, self._cost)

    def priced(self, rounds: int) -> Guide:
        """By bounds that count what binds, after so many rounds more."""
        _, tolls, relaxed, worth = self._prices.better(rounds)
        self.layers.charge(tolls)
        return Guide(self.layers, self._cost, None, (1.0, relaxed, worth))

    def keep_below(self, cost: float) -> None:
        """A function is nowhere from where any mesh costs more."""
        layers, best = self.layers, self._prices.best
        assert best is not None
        layers.keep_to([through - best.worth <= cost for through in best.ahead.margins()])
        self._prices.begin_with(Steps(layers), apart(layers, self._judged))
