"""Figures as people read them: `4.2 ms`, `50 Mbit/s`, `12.00 EUR + 0.35/h`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich import box
from rich.table import Table

from broker.cli.rendering.text import Text
from service_model.money import Price

NONE = Text("–", style="dim")


def price_text(price: Price | None) -> str:
    """Once, per hour, and the currency; `free` where neither is charged."""
    if price is None:
        return "–"
    parts = [_amount(price.once)] if price.once else []
    parts += [f"{_amount(price.per_hour)}/h"] if price.per_hour else []
    return f"{' + '.join(parts)} {price.currency}" if parts else "free"


def _amount(amount: Decimal) -> str:
    """At least two decimals, no needless zeros behind them."""
    text = f"{amount:f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def delay_text(microseconds: int) -> str:
    if microseconds < 1000:
        return f"{microseconds} µs"
    return f"{microseconds / 1000:.3g} ms" if microseconds < 1_000_000 else f"{microseconds / 1e6:.3g} s"


def bandwidth_text(bits_per_second: int) -> str:
    for size, unit in ((10**12, "Tbit/s"), (10**9, "Gbit/s"), (10**6, "Mbit/s"), (10**3, "kbit/s")):
        if bits_per_second >= size:
            return f"{bits_per_second / size:.4g} {unit}"
    return f"{bits_per_second} bit/s"


def duration_text(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def time_text(instant: datetime) -> str:
    """In the reader's own zone; `–` for an instant that was not set."""
    return f"{instant.astimezone():%Y-%m-%d %H:%M:%S}" if instant.timestamp() > 0 else "–"


def table(title: str, *columns: str, right: Iterable[str] = ()) -> Table:
    """The one form of table: no frame, a thin line below the heads. Columns of `right` are figures."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, header_style="dim",
        border_style="dim", show_edge=False, pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if column in right else "left", overflow="fold", no_wrap=i == 0)
    return made


def facts(rows: Iterable[tuple[str, Any]]) -> Table:
    """Names and values below each other; rows without a value are left out."""
    made = Table.grid(padding=(0, 3, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value:
            made.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    return made
