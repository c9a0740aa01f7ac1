"""Prepared statements do what SQLAlchemy Core does with the same table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, select

from broker.storage import tables as t
from broker.storage.postgres import Postgres
from broker.storage.statements import adding, removing, replacing

NOW = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[Connection]:
    if request.param == "sqlite":
        engine = sqlalchemy.create_engine("sqlite://")
    else:
        engine = Postgres(request.getfixturevalue("postgres").new()).connections(writes=True)
    with engine.connect() as connection:
        t.metadata.create_all(connection)
        yield connection
    engine.dispose()


def allocation(value: str, **other: Any) -> dict[str, Any]:
    row = {"pool": "p", "value": value, "owner": "o", "epoch": "e", "state": "HELD", "until": None}
    return {**row, **other}


def rows(store: Connection, table: sqlalchemy.Table) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in store.execute(select(table).order_by(*table.primary_key))]


def test_a_row_is_put_and_replaced_by_its_key(store: Connection) -> None:
    put = replacing(t.allocations)
    put.run(store, allocation("1"))
    put.run(store, allocation("2", until=NOW))
    put.run(store, allocation("1", state="LIVE", owner="other", until=NOW + timedelta(hours=1)))
    assert rows(store, t.allocations) == [
        allocation("1", state="LIVE", owner="other", until=NOW + timedelta(hours=1)),
        allocation("2", until=NOW),
    ]


def test_a_row_is_replaced_only_by_one_of_the_same_owner(store: Connection) -> None:
    put = replacing(t.allocations, of_same="owner")
    assert put.count(store, allocation("1"), allocation("2")) == 2
    assert put.count(store, allocation("1", state="LIVE"), allocation("2", owner="other"), allocation("3")) == 2
    assert put.count(store, allocation("3", owner="other")) == 0
    assert rows(store, t.allocations) == [allocation("1", state="LIVE"), allocation("2"), allocation("3")]


def test_only_the_row_with_all_its_values_is_removed(store: Connection) -> None:
    put, remove = replacing(t.allocations), removing(t.allocations, "pool", "value", "owner")
    put.run(store, allocation("1"))
    remove.run(store, {"pool": "p", "value": "1", "owner": "somebody else"})
    assert len(rows(store, t.allocations)) == 1
    remove.run(store, {"pool": "p", "value": "1", "owner": "o"})
    assert rows(store, t.allocations) == []


def test_rows_are_added_in_order_and_numbered_by_the_store(store: Connection) -> None:
    add = adding(t.journal)
    entry = {"at": NOW, "service": "s", "segment": "", "what": "reserve", "key": "k", "detail": "intent"}
    add.run(store)
    add.run(store, entry)
    add.run(store, {**entry, "what": "commit"}, {**entry, "what": "release"})
    assert rows(store, t.journal) == [
        {**entry, "seq": 1},
        {**entry, "what": "commit", "seq": 2},
        {**entry, "what": "release", "seq": 3},
    ]


def test_the_number_that_the_store_gave_is_returned(store: Connection) -> None:
    add = adding(t.events, returning="seq")
    event = {"at": NOW, "account": "a", "service": "s", "document": b"{}"}
    assert [add.run(store, event), add.run(store, event)] == [1, 2]


def test_what_the_database_refuses_is_raised(store: Connection) -> None:
    driver: Any = store.dialect.import_dbapi()
    with pytest.raises(driver.IntegrityError):
        adding(t.journal).run(store, {"at": NOW, "service": None, "segment": "", "what": "", "key": "", "detail": ""})
