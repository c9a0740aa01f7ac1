"""How much of the time a service works: the availability of everything that it takes, multiplied.

Rules kept here
- Availabilities are added as losses, minus their logarithms: so the bound is a budget, and is split over segments as delay
  is, each getting what is planned there and its share of the slack.
- What is equal to nine digits is equal: the same product is formed in another order at each level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from broker.decompose.layered import Layers, Move
from broker.decompose.plan import Plan
from service_model.spec import ServiceSpec

NINE_DIGITS = 1e-9


@dataclass(frozen=True, slots=True)
class Available:
    """The losses of all ways are at most `limit` together. It remembers their sum."""

    subject: str
    limit: float
    loss: Callable[[Move], float]
    start: float = 0.0

    def after(self, memory: float, move: Move) -> float | None:
        sum = memory + self.loss(move)
        return sum if sum <= self.limit + NINE_DIGITS else None

    def covers(self, x: float, y: float) -> bool:
        return x <= y


def available(layers: Layers) -> Available | None:
    """The bound of the service that is asked for; None where it has none."""
    least = layers.spec.min_availability
    return Available("min_availability", _loss(least), lambda move: loss(layers, move)) if least else None


def loss(layers: Layers, move: Move) -> float:
    return _loss(layers.graph.between(move.way).point.availability) if move.way >= 0 else 0.0


def handed_down(layers: Layers, parts: Sequence[Iterable[Move]]) -> list[float | None]:
    """What each part of a plan, by its moves, is to keep of the service's bound."""
    bound = available(layers)
    if bound is None:
        return [None] * len(parts)
    planned = [sum(loss(layers, move) for move in moves) for moves in parts]
    total, slack = sum(planned), max(0.0, bound.limit - sum(planned))
    shares = [slack * own / total if total else slack / len(parts) for own in planned]
    return [math.exp(-(own + share)) for own, share in zip(planned, shares, strict=True)]


def keeps(plan: Plan, spec: ServiceSpec) -> bool:
    """Whether what a plan hands down keeps the spec's bounds on delay and availability: it may have been made for others."""
    for path in spec.paths:
        budget = sum(us for segment in plan.segments for us in segment.budgets.get(path.id, ()))
        if (limit := spec.delay_limit(path)) is not None and budget > limit:
            return False
    works = math.prod(segment.availability or 0.0 for segment in plan.segments)
    return not spec.min_availability or works >= spec.min_availability * (1 - NINE_DIGITS)


def _loss(availability: float) -> float:
    return -math.log(availability) if availability > 0 else math.inf
