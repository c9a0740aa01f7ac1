"""In which order the search goes: the key of a label, from the bounds of what is still ahead of it.

Rules kept here
- The key is never above what any route through the label costs, and never falls along a route: the first at the goal is
  the best. Equal ones are taken by delay (by price where the fastest is asked for).
- What cannot keep the bound on delay or price any more gets no key.
- Where delay does not bind, price alone is bounded: a bound on delay tells nothing then, and is not computed.
- The relaxed key counts, for each microsecond that a route is below its bound, what that microsecond could be sold for:
  price + m * (delay - bound). Any multiplier m gives a bound; a whole number keeps sums exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

import numpy as np

from broker.decompose.bounds import Bounds, States, Weighting
from broker.decompose.layered import ChainLayers, Layers, Move

_PRICE: Weighting = (1.0, 0.0)
_TIME: Weighting = (0.0, 1.0)
ROUNDS = 2
"""How many more multipliers are tried where better bounds are worth it. All of them count: the best for delay alone is not
the best where more than delay binds."""


class _Least(NamedTuple):
    """A route's price and delay, by what is counted."""

    cost: float
    delay: float


Ranked = tuple[float, float, Move]


def _order(ranked: Ranked) -> tuple[float, float]:
    return ranked[0], ranked[1]


class Bound(Protocol):
    """By state, the least that is still ahead."""

    def __getitem__(self, state: int, /) -> float: ...


Relaxed = tuple[float, Bound, float]
"""A multiplier, bounds of price + multiplier * delay, and what the bounds on delay are worth by it."""


class Guide:
    """`limit`: of the sum of the moves' delays. `relaxed`: None where delay does not bind. `besides`: others, which count for
    the key where they are higher."""

    def __init__(
        self,
        layers: Layers,
        cost: Bound,
        delay: Bound | None = None,
        relaxed: Relaxed | None = None,
        limit: float | None = None,
        besides: Iterable[Relaxed] = (),
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
        self.besides = tuple(besides)
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
            for multiplier, ahead, offset in self.besides:
                price = max(price, cost + multiplier * delay - offset + ahead[state])
        return cost + self.settle * (price - cost), delay


class ChainGuiding:
    """Gives the search of one question its guide."""

    def __init__(self, layers: ChainLayers) -> None:
        self.layers = layers
        self._bounds = Bounds(layers)
        self._exact: dict[Weighting, States] = {}
        self._known: dict[bool, Guide | None] = {}

    def guide(self, thorough: bool) -> Guide | None:
        """None where there is no way at all, or none that keeps the bound on delay. `thorough` looks for better bounds, which
        takes several times as long."""
        if thorough not in self._known:
            self._known[thorough] = self._guide(thorough)
        return self._known[thorough]

    def _guide(self, thorough: bool) -> Guide | None:
        layers, origin = self.layers, self.layers.origin
        if not layers.open:
            return None
        limit, cost = layers.delay_limit(0), self._least(_PRICE)
        if cost[origin] == np.inf:
            return None
        if layers.q.fastest is not None:
            return Guide(layers, cost, self._least(_TIME), None, limit) if self._timely(limit) else None
        if limit is None:
            return Guide(layers, cost)
        cheapest = self._follow(_PRICE)
        if cheapest.delay <= limit and not thorough:
            return Guide(layers, cost, None, None, limit)
        asked = asked_per_microsecond(layers)
        found = self._follow((1.0, asked))
        if found.delay <= limit and not thorough:
            return Guide(layers, cost, None, self._relaxed(asked, limit), limit)
        if not self._timely(limit):
            return None
        tried = self._tried(asked, limit, cheapest, found) if thorough else [asked]
        best, *others = sorted((self._relaxed(m, limit) for m in tried), key=lambda r: r[2] - r[1][origin])
        return Guide(layers, cost, self._least(_TIME), best, limit, others)

    def _tried(self, multiplier: float, limit: int, late: _Least, found: _Least) -> list[float]:
        """Multipliers on the way to the one with the best bound: between the routes `late` and the fastest."""
        timely, tried = self._follow(_TIME), [multiplier]
        while len(tried) <= ROUNDS:
            late, timely = (found, timely) if found.delay > limit else (late, found)
            if late.delay <= timely.delay or timely.cost <= late.cost:
                break
            multiplier = (timely.cost - late.cost) / (late.delay - timely.delay) // 1
            if multiplier in tried:
                break
            tried.append(multiplier)
            found = self._follow((1.0, multiplier))
        return tried

    def _timely(self, limit: int | None) -> bool:
        return limit is None or self._least(_TIME)[self.layers.origin] <= limit

    def _relaxed(self, multiplier: float, limit: int) -> Relaxed:
        return multiplier, self._least((1.0, multiplier)), multiplier * limit

    def _least(self, weighting: Weighting) -> States:
        if weighting not in self._exact:
            self._exact[weighting] = self._bounds.exact(weighting)
        return self._exact[weighting]

    def _follow(self, weighting: Weighting) -> _Least:
        """A route that is the least by this weighting."""
        layers, to_go, (price, time) = self.layers, self._least(weighting), weighting
        heap: list[tuple[float, float, float, int]] = [(to_go[layers.origin], 0.0, 0.0, layers.origin)]
        seen: set[int] = set()
        while True:
            _, delay, cost, state = heappop(heap)
            if state == layers.target:
                return _Least(cost, delay)
            if state in seen:
                continue
            seen.add(state)
            for move in layers.moves(state):
                ahead = to_go[move.target]
                if ahead != np.inf and move.target not in seen:
                    further, later = cost + move.cost, delay + move.delay
                    heappush(heap, (price * further + time * later + ahead, later, further, move.target))


def asked_per_microsecond(layers: Layers) -> float:
    """Half of what suppliers ask for a microsecond less between the same two points (the median; 0 where none does):
    what is not used of a delay bound costs nothing, so its worth is below the price."""
    slower, faster = layers.graph.beside
    saved = layers.graph.delay[slower] - layers.graph.delay[faster]
    asked = (layers.way_cost[faster] - layers.way_cost[slower])[saved > 0] / saved[saved > 0]
    asked = asked[asked > 0]
    return float(np.median(asked)) // 2 if len(asked) else 0.0
