"""Statements that are run at every step of an order: built by SQLAlchemy once, then run as the text that it made.

To build and interpret a statement of SQLAlchemy Core costs several times what SQLite takes to run it, so what is always
the same of it (the text, the order of its parameters, how their types are bound) is kept. Errors are the driver's own.
PostgreSQL's form of `INSERT … ON CONFLICT` is written for SQLite too, whose form it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Dialect, Table, delete, insert
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.expression import ClauseElement, and_, bindparam

Row = Mapping[str, Any]
_Bind = Callable[[Any], Any]


class Prepared:
    """One statement whose parameters are the columns of a table by their names."""

    def __init__(self, statement: ClauseElement, columns: Sequence[Column[Any]]) -> None:
        self._statement, self._columns = statement, tuple(columns)
        self._dialect: Dialect | None = None
        self._text = ""
        self._binds: tuple[tuple[str, _Bind | None], ...] = ()
        self._made: dict[str, tuple[str, tuple[tuple[str, _Bind | None], ...]]] = {}
        """By the driver: what is made for one database does for each of its kind."""

    def run(self, connection: Connection, *rows: Row) -> Any:
        """Once for each row; of a statement with RETURNING, which runs once, the value that it returned."""
        return self._run(connection, rows)[0]

    def count(self, connection: Connection, *rows: Row) -> int:
        """Once for each row; how many rows of the table that wrote."""
        return self._run(connection, rows)[1]

    def _run(self, connection: Connection, rows: Sequence[Row]) -> tuple[Any, int]:
        if not rows:
            return None, 0
        if self._dialect is not connection.dialect:
            self._prepare(connection.dialect)
        values = [tuple(_bound(row[name], bind) for name, bind in self._binds) for row in rows]
        cursor = connection.connection.cursor()
        try:
            if len(values) > 1:
                cursor.executemany(self._text, values)
                return None, cursor.rowcount
            cursor.execute(self._text, values[0])
            returned = cursor.fetchone() if cursor.description else None
            return (returned[0] if returned else None), cursor.rowcount
        finally:
            cursor.close()

    def _prepare(self, dialect: Dialect) -> None:
        if dialect.driver not in self._made:
            compiled: Any = self._statement.compile(dialect=dialect, column_keys=[c.name for c in self._columns])
            binds = {c.name: c.type.bind_processor(dialect) for c in self._columns}
            self._made[dialect.driver] = compiled.string, tuple((name, binds[name]) for name in compiled.positiontup)
        self._text, self._binds = self._made[dialect.driver]
        self._dialect = dialect


def _bound(value: Any, bind: _Bind | None) -> Any:
    return value if bind is None or value is None else bind(value)


def replacing(table: Table, of_same: str = "") -> Prepared:
    """Insert a row, or replace the one with its key: only one that has the same in the column `of_same`, if that is given."""
    key = [c.name for c in table.primary_key]
    statement = upsert(table)
    rest = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in key}
    same = table.c[of_same] == statement.excluded[of_same] if of_same else None
    return Prepared(statement.on_conflict_do_update(index_elements=key, set_=rest, where=same), tuple(table.columns))


def adding(table: Table, returning: str = "") -> Prepared:
    """Insert rows; a number that the store counts by itself is `returning`, or not told."""
    columns = [c for c in table.columns if c is not table.autoincrement_column]
    statement = insert(table)
    return Prepared(statement.returning(table.c[returning]) if returning else statement, columns)


def removing(table: Table, *names: str) -> Prepared:
    """Delete the rows with these values in the columns `names`."""
    columns = [table.c[name] for name in names]
    return Prepared(delete(table).where(and_(*(c == bindparam(c.name, type_=c.type) for c in columns))), columns)
