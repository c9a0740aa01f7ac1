"""A changed copy is the one that `dataclasses.replace` makes, whatever the class does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from broker.orders.records import Order
from service_model.outcomes import ServiceState
from service_model.replacing import replace

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Plain:
    a: int
    b: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Below(Plain):
    c: str = "c"


@dataclass(frozen=True, slots=True)
class Judged:
    a: int
    b: int = 0

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError("a is less than nothing")


@dataclass(frozen=True)
class Slotless:
    a: int
    b: int = 1


@dataclass(frozen=True, slots=True)
class Counting:
    a: int
    made: int = field(init=False, default=7)


ORDER = Order(id="i", account="a", ref="r", version=1, state=ServiceState.RESERVED, created=NOW, updated=NOW)


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        (Plain(1), {"b": (2,)}),
        (Below(1), {"a": 3, "c": "d"}),
        (Judged(1), {"b": 2}),
        (Slotless(1), {"a": 2}),
        (Counting(1), {"a": 2}),
        (ORDER, {"version": 2, "segments": ()}),
        (ORDER, {}),
    ],
)
def test_it_is_what_dataclasses_make_and_leaves_the_former_as_it_was(value: Any, changes: dict[str, Any]) -> None:
    before = repr(value)
    assert replace(value, **changes) == dataclasses.replace(value, **changes)
    assert type(replace(value, **changes)) is type(value)
    assert repr(value) == before


def test_what_a_class_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match="less than nothing"):
        replace(Judged(1), a=-1)


def test_a_field_that_is_not_there_is_refused_by_name() -> None:
    changes: dict[str, Any] = {"colour": "red"}
    with pytest.raises(TypeError, match="'colour'"):
        replace(ORDER, **changes)
