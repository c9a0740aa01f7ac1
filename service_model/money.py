"""Money: decimal amounts with an ISO 4217 currency, rounded in one place.

Rules kept here
- Amounts are `Decimal`; a float never becomes money.
- Sums of different currencies are an error: nothing converts silently.
- `Money.rounded` is the only rounding: half-even, to the currency's minor unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated

from pydantic import Field

_MINOR_UNITS = {"JPY": 0, "KRW": 0, "BHD": 3, "KWD": 3, "TND": 3}

Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
Amount = Annotated[Decimal, Field(ge=Decimal("-1e12"), le=Decimal("1e12"), max_digits=24, decimal_places=9)]


class CurrencyMismatch(ValueError):
    """Two amounts of different currencies met in one sum."""


@dataclass(frozen=True, slots=True)
class Money:
    amount: Amount
    currency: Currency

    def __add__(self, other: Money) -> Money:
        if self.currency != other.currency:
            raise CurrencyMismatch(f"cannot add {other.currency} to {self.currency}")
        return Money(self.amount + other.amount, self.currency)

    def __mul__(self, factor: Decimal | int) -> Money:
        return Money(self.amount * factor, self.currency)

    def rounded(self) -> Money:
        """To the minor unit of the currency (ISO 4217), half-even."""
        unit = Decimal(1).scaleb(-_MINOR_UNITS.get(self.currency, 2))
        return Money(self.amount.quantize(unit, ROUND_HALF_EVEN), self.currency)

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What is charged once at commit and then for each hour of service, in one currency."""

    currency: Currency = "EUR"
    once: Amount = Decimal(0)
    per_hour: Amount = Decimal(0)

    def __add__(self, other: Price) -> Price:
        if not (self.once or self.per_hour):  # nothing costs the same in every currency
            return other
        if not (other.once or other.per_hour):
            return self
        if self.currency != other.currency:
            raise CurrencyMismatch(f"cannot add {other.currency} to {self.currency}")
        return Price(currency=self.currency, once=self.once + other.once, per_hour=self.per_hour + other.per_hour)

    def scaled(self, factor: Decimal) -> Price:
        """Times `factor` (a margin of 10 % is 1.1), rounded to the minor unit and never below it for rounding."""
        return Price(
            currency=self.currency,
            once=Money(self.once * factor, self.currency).rounded().amount,
            per_hour=(self.per_hour * factor).quantize(Decimal("0.0001"), ROUND_HALF_EVEN),
        )

    def over(self, hours: Decimal | int) -> Decimal:
        """The whole cost over a term of `hours`: the scalar that plans are compared by."""
        return self.once + self.per_hour * hours

    def __str__(self) -> str:
        return f"{self.once} + {self.per_hour}/h {self.currency}"


FREE = Price()
