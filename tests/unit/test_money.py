"""Money is decimal, of one currency at a time, and rounded in one place."""

from __future__ import annotations

from decimal import Decimal

import pytest

from service_model.money import FREE, CurrencyMismatch, Money, Price


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [("0.125", "EUR", "0.12"), ("0.135", "EUR", "0.14"), ("2.5", "JPY", "2"), ("1.0005", "KWD", "1.000")],
)
def test_rounding_is_half_even_to_the_minor_unit(amount: str, currency: str, rounded: str) -> None:
    assert Money(Decimal(amount), currency).rounded() == Money(Decimal(rounded), currency)


def test_different_currencies_are_never_added() -> None:
    with pytest.raises(CurrencyMismatch, match="USD to EUR"):
        Money(Decimal(1), "EUR") + Money(Decimal(1), "USD")
    with pytest.raises(CurrencyMismatch):
        Price(once=Decimal(1)) + Price(currency="USD", once=Decimal(1))


def test_nothing_costs_the_same_in_every_currency() -> None:
    dollars = Price(currency="USD", per_hour=Decimal(2))
    assert FREE + dollars == dollars + FREE == dollars


def test_a_price_over_its_term_is_what_once_and_every_hour_come_to() -> None:
    assert Price(once=Decimal(5), per_hour=Decimal("0.5")).over(720) == Decimal(365)
