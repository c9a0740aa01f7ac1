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
from broker.storage.statements import Done, Script, adding, removing, replacing

NOW = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[Connection]:
    if request.param == "sqlite":
        engine = sqlalchemy.create_engine("sqlite://")
    else:
        engine = Postgres(request.getfixturevalue("postgres").new()).connections(writes=True)
    with engine.connect() as connection:
        t.metadata.create_all(connection)
        connection.commit()
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
    add = adding(t.events, t.events.c.seq)
    event = {"at": NOW, "account": "a", "service": "s", "document": b"{}"}
    assert [add.run(store, event), add.run(store, event)] == [1, 2]


def test_what_the_database_refuses_is_raised(store: Connection) -> None:
    driver: Any = store.dialect.import_dbapi()
    with pytest.raises(driver.IntegrityError):
        adding(t.journal).run(store, {"at": NOW, "service": None, "segment": "", "what": "", "key": "", "detail": ""})


EVENT = {"at": NOW, "account": "a", "service": "s", "document": b"{}"}


def test_a_script_runs_its_statements_in_order_and_tells_what_each_came_to(store: Connection) -> None:
    script = Script()
    put = script.add(replacing(t.allocations, of_same="owner"), allocation("1"), allocation("2"), allocation("3"))
    removed = script.add(removing(t.allocations, "pool", "value", "owner"), *(allocation(n) for n in "124"))
    nothing = script.add(adding(t.events))
    event = script.add(adding(t.events, t.events.c.seq, t.events.c.account), EVENT)
    script(store)
    assert (put.count, removed.count, nothing.count, event.count) == (3, 2, 0, 1)
    assert (event.value, event.returned, put.value) == (1, [(1, "a")], None)
    assert rows(store, t.allocations) == [allocation("3")]


def test_a_script_may_be_the_beginning_of_another(store: Connection) -> None:
    first, second = Script(), Script()
    first.add(replacing(t.allocations), allocation("1"))
    second.add(replacing(t.allocations), allocation("1", owner="other"))
    first.then(second)
    first(store)
    assert rows(store, t.allocations) == [allocation("1", owner="other")]


class Wrong(Exception):
    pass


def wrong(done: Done) -> None:
    raise Wrong(f"{done.count} written")


BAD = {"at": NOW, "service": None, "segment": "", "what": "", "key": "", "detail": ""}


def test_of_all_that_is_wrong_in_a_script_the_first_is_told(store: Connection) -> None:
    """Also where the database has refused what comes behind it."""
    driver: Any = store.dialect.import_dbapi()
    put = replacing(t.allocations)
    script = Script()
    script.add(put, allocation("1"), allocation("2"))
    script.add(put, allocation("3"), check=wrong)
    script.add(adding(t.journal), BAD)
    script.add(put, allocation("4"), check=lambda done: pytest.fail("it did not run"))
    with pytest.raises(Wrong, match="1 written"), store.begin():
        script(store)
    script = Script()
    script.add(put, allocation("1"), check=lambda done: None)
    script.add(adding(t.journal), BAD, check=wrong)
    script.add(put, allocation("2"), check=wrong)
    with pytest.raises(driver.IntegrityError), store.begin():
        script(store)
    assert rows(store, t.allocations) == []


def test_what_the_database_refuses_in_a_script_may_be_told_in_other_words(store: Connection) -> None:
    driver: Any = store.dialect.import_dbapi()
    script = Script()
    script.add(adding(t.journal), BAD, refused=lambda error: Wrong(type(error).__name__))
    with pytest.raises(Wrong, match=r"NotNullViolation|IntegrityError") as told:
        script(store)
    assert isinstance(told.value.__cause__, driver.IntegrityError)
