"""In which order the search goes: the key of a label, from the bounds of what is still ahead of it.

Rules kept here
- The key is never above what any route through the label costs, and never falls along a route: the first at the goal is
  the best. Equal ones are taken by delay (by price where the fastest is asked for).
- What cannot keep the bound on delay or price any more gets no key.
- The relaxed key counts, for each microsecond that a route is below its bound, what that microsecond could be sold for:
  price + m * (delay - bound). Any multiplier m gives a bound; a whole number keeps sums exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from heapq import heappop, heappush
from typing import Protocol

import numpy as np

from broker.decompose.bounds import Weighting, backward
from broker.decompose.layered import ChainLayers, Layers, Move
from broker.decompose.resources import Resource
from broker.decompose.rules import Rule

_PRICE: Weighting = (1.0, 0.0)
_TIME: Weighting = (0.0, 1.0)
_FACTORS = (0.5, 1.0, 2.0)
"""Of the multiplier between the cheapest and the fastest route: those that are compared. Any is a bound."""


Ranked = tuple[float, float, Move]


def _order(ranked: Ranked) -> tuple[float, float]:
    return ranked[0], ranked[1]


class Bound(Protocol):
    """By state, the least that is still ahead."""

    def __getitem__(self, state: int, /) -> float: ...


class Guide:
    """`limit`: of the sum of the moves' delays. `relaxed`: multiplier, bounds of price + multiplier * delay, and what the
    bounds on delay are worth by it; None where delay does not bind."""

    def __init__(
        self,
        layers: Layers,
        cost: Bound,
        delay: Bound | None = None,
        relaxed: tuple[float, Bound, float] | None = None,
        limit: float | None = None,
    ) -> None:
        self.layers = layers
        self.cost, self.delay = cost, delay
        self.multiplier = relaxed[0] if relaxed else 0.0
        self.relaxed = relaxed[1] if relaxed else None
        self.fastest = layers.q.fastest is not None
        self.delay_limit = limit
        self.cost_limit = layers.cost_limit
        self.ahead, self.time_weight = cost, 0.0
        if self.fastest and delay is not None:
            self.ahead = delay
        elif self.relaxed is not None:
            self.ahead, self.time_weight = self.relaxed, self.multiplier
        self.offset = relaxed[2] if relaxed else 0.0
        self.settle = 1.0
        self._ranked: dict[int, list[Ranked]] = {}

    def settling(self, settle: float) -> Guide:
        """The same for routes that may be so many times as dear as the best: what is ahead counts so much more."""
        other = copy(self)
        other.settle, other._ranked = settle, {}
        return other

    def ranked(self, state: int) -> list[Ranked]:
        """The moves from a state that lead towards the goal: what `rank` adds for each, ascending."""
        known = self._ranked.get(state)
        if known is None:
            ahead, weight, fastest = self.ahead, self.time_weight, self.fastest
            known = []
            for move in self.layers.moves(state):
                rest = ahead[move.target]
                if rest != np.inf:
                    cost, delay = move.cost, move.delay
                    first = delay + rest if fastest else cost + self.settle * (weight * delay + rest)
                    known.append((first, cost if fastest else delay, move))
            known.sort(key=_order)
            self._ranked[state] = known
        return known

    def rank(self, cost: float, delay: float) -> tuple[float, float]:
        """To be added to what `ranked` says of a move: in which order the moves of all labels are looked at."""
        return (delay, cost) if self.fastest else (cost + self.settle * (self.time_weight * delay - self.offset), delay)

    def key(self, state: int, cost: float, delay: float) -> tuple[float, float] | None:
        """What a label with these sums is ordered by; None where it is over a bound."""
        price = cost + self.cost[state]
        if self.cost_limit is not None and price > self.cost_limit:
            return None
        time = delay if self.delay is None else delay + self.delay[state]
        if self.delay_limit is not None and time > self.delay_limit:
            return None
        if self.fastest:
            return time, cost
        if self.relaxed is not None:
            price = max(price, cost + self.multiplier * delay - self.offset + self.relaxed[state])
        return cost + self.settle * (price - cost), delay


class Guiding(ABC):
    """Gives the search of one question its guide, and the rules that only a guide can judge."""

    layers: Layers

    def rules(self) -> tuple[Rule, ...]:
        return ()

    @abstractmethod
    def guide(self, thorough: bool, rules: tuple[Rule, ...], tracked: tuple[Resource, ...]) -> Guide | None:
        """None where there is no way at all, or none that keeps the bound on delay. `rules` and `tracked` are those that bind.

        `thorough` looks for better bounds, which takes as long again.
        """


class ChainGuiding(Guiding):
    def __init__(self, layers: ChainLayers) -> None:
        self.layers: ChainLayers = layers
        self._known: dict[bool, Guide | None] = {}

    def guide(self, thorough: bool, rules: tuple[Rule, ...], tracked: tuple[Resource, ...]) -> Guide | None:
        if thorough not in self._known:
            self._known[thorough] = _chain_guide(self.layers, thorough)
        return self._known[thorough]


def _chain_guide(layers: ChainLayers, thorough: bool) -> Guide | None:
    """The multiplier is what the notes ask for a microsecond; `thorough` compares it with others."""
    if not layers.open:
        return None
    limit, fastest = layers.delay_limit(0), layers.q.fastest is not None
    if limit is None or fastest:
        cost, *more = backward(layers, (_PRICE, _TIME) if fastest else (_PRICE,))
        delay = more[0] if more else None
        timely = delay is None or limit is None or delay[layers.origin] <= limit
        return Guide(layers, cost, delay, None, limit) if cost[layers.origin] != np.inf and timely else None
    asked = asked_per_microsecond(layers)
    cost, delay, relaxed = backward(layers, (_PRICE, _TIME, (1.0, asked)))
    if delay[layers.origin] > limit:
        return None
    tried = [(asked, relaxed)]
    if thorough:
        slow, fast = _follow(layers, cost, _PRICE), _follow(layers, delay, _TIME)
    if thorough and slow[1] > fast[1] and fast[0] > slow[0]:
        between = (fast[0] - slow[0]) / (slow[1] - fast[1])
        others = [between * factor // 1 for factor in _FACTORS]
        tried += zip(others, backward(layers, [(1.0, other) for other in others]), strict=True)
    best = max(tried, key=lambda found: found[1][layers.origin] - found[0] * limit)
    return Guide(layers, cost, delay, (*best, best[0] * limit), limit)


def asked_per_microsecond(layers: Layers) -> float:
    """Half of what suppliers ask for a microsecond less between the same two points (the median; 0 where none does):
    what is not used of a delay bound costs nothing, so its worth is below the price."""
    slower, faster = layers.graph.beside
    saved = layers.graph.delay[slower] - layers.graph.delay[faster]
    asked = (layers.way_cost[faster] - layers.way_cost[slower])[saved > 0] / saved[saved > 0]
    asked = asked[asked > 0]
    return float(np.median(asked)) // 2 if len(asked) else 0.0


def _follow(layers: Layers, to_go: list[float], weighting: Weighting) -> tuple[float, float]:
    """Cost and delay of a route that is the least by this weighting, whose bounds are `to_go`."""
    price, time = weighting
    heap: list[tuple[float, float, float, int]] = [(to_go[layers.origin], 0.0, 0.0, layers.origin)]
    seen: set[int] = set()
    while True:
        _, delay, cost, state = heappop(heap)
        if state == layers.target:
            return cost, delay
        if state in seen:
            continue
        seen.add(state)
        for move in layers.moves(state):
            ahead = to_go[move.target]
            if ahead != np.inf and move.target not in seen:
                further, later = cost + move.cost, delay + move.delay
                heappush(heap, (price * further + time * later + ahead, later, further, move.target))
