"""What a supplier answers before anything is held: whether it can, and for what price it will.

Rules kept here
- A qualification keeps nothing: it is true of the moment, its price is indicative. Where it is no, the reasons name what
  binds, and what would do instead (`Nogood.alternative`).
- A quote is firm: whoever orders the same in time pays exactly this, even if it has become dearer meanwhile. It is no
  hold: what it is for may be gone.
- How long a quote stands is told in seconds that remain, like holds, so that clocks need not agree.
- The parts of a quote, where they are told, add up to its price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from service_model.money import FREE, Price
from service_model.outcomes import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Qualification:
    """Yes, with an indicative price and the delay (microseconds one way) as planned; or no, with the reasons."""

    feasible: bool
    price: Price | None = None
    delay_us: int = 0
    reasons: tuple[Reason, ...] = ()


def unqualified(*reasons: Reason) -> Qualification:
    return Qualification(feasible=False, reasons=reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedSegment:
    """One part of a quote under its local alias: its share of the price, and its delay."""

    alias: str
    price: Price = FREE
    delay_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A firm price for `remaining_s` more seconds from the sending of its request. `agreement` and its version: the terms
    that it was made under. `delay_us`: of the slowest path; `path_delays_us`: of each, by id, where that is told."""

    id: str
    price: Price = FREE
    delay_us: int = 0
    remaining_s: float = 0.0
    segments: tuple[QuotedSegment, ...] = ()
    agreement: str = ""
    agreement_version: int = 0
    path_delays_us: Mapping[str, int] = field(default_factory=dict)


QUALIFICATION: TypeAdapter[Qualification] = TypeAdapter(Qualification)
QUOTE: TypeAdapter[Quote] = TypeAdapter(Quote)
