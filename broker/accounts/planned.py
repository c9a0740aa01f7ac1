"""What an operator is shown of a service before it is ordered: the plans, at our cost and at the customer's price, and what
lost against them. Values only.
"""

from __future__ import annotations

from dataclasses import dataclass

from service_model.money import FREE, Price
from service_model.outcomes import Reason, ReasonCode


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedFunction:
    function: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPart:
    """What one supplier would deliver: between which of its SAPs, at what it announces; `delay_us` is the budget that it
    would be given, microseconds one way; 0 where the plan keeps no bound."""

    alias: str
    supplier: str
    saps: tuple[str, ...] = ()
    functions: tuple[PlacedFunction, ...] = ()
    cost: Price = FREE
    delay_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedService:
    parts: tuple[PlannedPart, ...]
    interconnects: tuple[str, ...] = ()
    price: Price = FREE
    cost: Price = FREE
    delay_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedService:
    """A plan that would do but for these classes of constraints."""

    breaks: tuple[ReasonCode, ...]
    plan: PlannedService


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The best plans, in order; or why there is none and the nearest there are. `rejected`: what would be better, and why it
    is not taken."""

    plans: tuple[PlannedService, ...] = ()
    rejected: tuple[RejectedService, ...] = ()
    reasons: tuple[Reason, ...] = ()
    nearest: tuple[RejectedService, ...] = ()
