"""Statements that are run at every step of an order: built by SQLAlchemy once, then run as the text that it made.

To build and interpret a statement of SQLAlchemy Core costs several times what SQLite takes to run it, so what is always
the same of it (the text, the order of its parameters, how their types are bound) is kept. Errors are the driver's own.
PostgreSQL's form of `INSERT … ON CONFLICT` is written for SQLite too, whose form it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from sqlalchemy import Column, ColumnElement, Connection, Dialect, Insert, Table, delete, insert
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.expression import ClauseElement, and_, bindparam

Row = Mapping[str, Any]
_Bind = Callable[[Any], Any]
_Made = tuple[str, tuple[tuple[str, _Bind | None], ...]]
"""The text of a statement; of each of its parameters the name, and how it is bound."""


class Prepared:
    """One statement whose parameters are columns of a table by their names."""

    def __init__(self, statement: ClauseElement, columns: Sequence[Column[Any]]) -> None:
        self._statement, self._columns = statement, tuple(columns)
        self._made: dict[str, _Made] = {}
        """By the driver: what is made for one database does for each of its kind."""

    def run(self, connection: Connection, *rows: Row) -> Any:
        """Once for each row; of a statement that returns something, which runs once, the first value."""
        return self._alone(connection, rows).value

    def count(self, connection: Connection, *rows: Row) -> int:
        """Once for each row; how many rows of the table that wrote."""
        return self._alone(connection, rows).count

    def all(self, connection: Connection, row: Row) -> list[tuple[Any, ...]]:
        """All that it returns."""
        return self._alone(connection, (row,)).returned

    def _alone(self, connection: Connection, rows: Sequence[Row]) -> Done:
        done = Done()
        if rows:
            done.run(connection, *self.bound(connection.dialect, rows))
        return done

    def bound(self, dialect: Dialect, rows: Sequence[Row]) -> tuple[str, list[tuple[Any, ...]]]:
        """Its text, and the parameters of each row."""
        text, binds = self._made.get(dialect.driver) or self._make(dialect)
        return text, [tuple([_bound(row[name], bind) if bind else row[name] for name, bind in binds]) for row in rows]

    def _make(self, dialect: Dialect) -> _Made:
        inserted = [c.name for c in self._columns] if isinstance(self._statement, Insert) else None
        compiled: Any = self._statement.compile(dialect=dialect, column_keys=inserted)
        binds = {c.name: c.type.bind_processor(dialect) for c in self._columns}
        made = compiled.string, tuple((name, binds[name]) for name in compiled.positiontup or ())
        self._made[dialect.driver] = made
        return made


class Done:
    """What a statement came to, once it was run."""

    count: int
    """How many rows of the table it wrote."""
    returned: list[tuple[Any, ...]]
    """Of one that runs once."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.count, self.returned = 0, []

    @property
    def value(self) -> Any:
        """The first that it returned; None where it returned nothing."""
        return self.returned[0][0] if self.returned else None

    def run(self, connection: Connection, text: str, rows: Sequence[tuple[Any, ...]]) -> None:
        cursor: Any = connection.connection.cursor()
        try:
            if len(rows) > 1:
                cursor.executemany(text, rows)
                self.count = cursor.rowcount
            else:
                cursor.execute(text, rows[0])
                self.take(cursor)
        finally:
            cursor.close()

    def take(self, cursor: Any) -> None:
        if cursor.description:
            self.returned += cursor.fetchall()
        self.count += cursor.rowcount


@dataclass(frozen=True, slots=True)
class _Step:
    statement: Prepared
    rows: Sequence[Row]
    check: Callable[[Done], None] | None
    refused: Callable[[Exception], Exception] | None
    done: Done

    def judge(self) -> None:
        if self.check is not None:
            self.check(self.done)

    def fail(self, error: Exception) -> NoReturn:
        if self.refused is None or (told := self.refused(error)) is error:
            raise error
        raise told from error


class Script:
    """Statements that follow each other in one transaction, and what each has to have come to.

    A server is sent all of them at once: one way there and back, where each would be one. What they came to is judged in
    their order, and the first that is wrong is what is told, as if nothing had been sent behind it. Whoever runs a script
    undoes all of it then, as the writer does.
    """

    def __init__(self, by: str = "") -> None:
        """`by`: who writes, for whoever looks at writes from outside."""
        self.by = by
        self._steps: list[_Step] = []

    def add(
        self,
        statement: Prepared,
        *rows: Row,
        check: Callable[[Done], None] | None = None,
        refused: Callable[[Exception], Exception] | None = None,
    ) -> Done:
        """Once for each row. `check` raises where it did not come to what it has to; `refused` gives what to raise in the
        place of the driver's error."""
        done = Done()
        if rows:
            self._steps.append(_Step(statement, rows, check, refused, done))
        return done

    def then(self, other: Script) -> None:
        """All of another one, behind what is there."""
        self._steps += other._steps

    @classmethod
    def of(cls, works: Sequence[object]) -> Self | None:
        """One script of several, if they are all scripts."""
        whole = cls()
        for each in works:
            if not isinstance(each, Script):
                return None
            whole.then(each)
        return whole

    def __call__(self, connection: Connection) -> None:
        """Raises what a check does, and the driver's own errors. May be called again where that was undone."""
        for step in self._steps:
            step.done.clear()
        driver: Any = connection.connection.dbapi_connection
        if hasattr(driver, "pipeline"):
            self._at_once(driver, connection.dialect)
            return
        for step in self._steps:
            try:
                step.done.run(connection, *step.statement.bound(connection.dialect, step.rows))
            except Exception as error:
                step.fail(error)
            step.judge()

    def _at_once(self, driver: Any, dialect: Dialect) -> None:
        """With psycopg, which has what they came to when its pipeline ends, up to the first that was refused."""
        bound = [step.statement.bound(dialect, step.rows) for step in self._steps]
        cursors = [[driver.cursor() for _ in rows] for _, rows in bound]
        refused: Exception | None = None
        try:
            with driver.pipeline():
                for (text, rows), mine in zip(bound, cursors, strict=True):
                    for cursor, row in zip(mine, rows, strict=True):
                        cursor.execute(text, row)
        except Exception as error:
            refused = error
        for step, mine in zip(self._steps, cursors, strict=True):
            if refused is not None and any(cursor.pgresult is None for cursor in mine):
                step.fail(refused)
            for cursor in mine:
                step.done.take(cursor)
            step.judge()
        if refused is not None:
            raise refused


def _bound(value: Any, bind: _Bind) -> Any:
    return bind(value) if value is not None else None


def replacing(table: Table, of_same: str = "") -> Prepared:
    """Insert a row, or replace the one with its key: only one that has the same in the column `of_same`, if that is given."""
    key = [c.name for c in table.primary_key]
    statement = upsert(table)
    rest = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in key}
    same = table.c[of_same] == statement.excluded[of_same] if of_same else None
    return Prepared(statement.on_conflict_do_update(index_elements=key, set_=rest, where=same), tuple(table.columns))


def adding(table: Table, *returning: ColumnElement[Any]) -> Prepared:
    """Insert rows; what the store counts by itself is told where it is among `returning`."""
    columns = [c for c in table.columns if c is not table.autoincrement_column]
    statement = insert(table)
    return Prepared(statement.returning(*returning) if returning else statement, columns)


def removing(table: Table, *names: str) -> Prepared:
    """Delete the rows with these values in the columns `names`."""
    columns = [table.c[name] for name in names]
    return Prepared(delete(table).where(and_(*(c == bindparam(c.name, type_=c.type) for c in columns))), columns)
