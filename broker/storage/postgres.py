"""One PostgreSQL database (psycopg 3): how connections are made, who writes, and what became of a commit that was not answered.

Rules kept here
- There is one writer at a time, whichever process it is in: a transaction that writes first takes the database's one
  advisory lock. So numbers that the store counts are seen in the order in which they were given, what a function reads
  stays true until it is committed, as with SQLite, and no two can wait for each other.
- A process that stands still in a transaction does not stop the others: the server ends its session.
- A commit whose answer was lost is asked for by its number (`pg_xact_status`) until the server tells what became of it.
- A password is in no message and no log: what is named is host and database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import sqlalchemy
from sqlalchemy.pool import NullPool

from broker.settings.process import Database
from broker.storage.errors import StoreError

OLDEST = 13
"""The oldest release that has `pg_current_xact_id` and `pg_xact_status` (https://www.postgresql.org/docs/13/functions-info.html)."""
WRITER_LOCK = 0x5B_B20C_E201
"""The advisory lock of whoever writes. One database belongs to one broker, so one number does."""
STANDSTILL_S = 5
"""How long a session may do nothing within a transaction."""
ASK_AGAIN_S = 0.2
_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
"""What is answered is on disk, whatever the server does otherwise. What is stricter stays."""
_FAULTS = ("08", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that are the server's or the line's fault
(https://www.postgresql.org/docs/15/errcodes-appendix.html)."""


def driver_module() -> ModuleType:
    """psycopg. Raises StoreError where it is not installed, or lacks pipelines."""
    try:
        import psycopg
    except ImportError as error:
        message = (
            f"PostgreSQL needs the Python package psycopg, which cannot be loaded ({error}): install spbroker[postgres]"
        )
        raise StoreError(message) from None
    if not psycopg.Pipeline.is_supported():
        raise StoreError(
            "PostgreSQL needs libpq 14 or newer below psycopg: install spbroker[postgres], which brings it along"
        )
    return psycopg


class Postgres:
    """Backend of one open database."""

    def __init__(self, database: Database) -> None:
        self._psycopg: Any = driver_module()
        self._database = database
        self._closing = threading.Event()
        self._transaction = 0
        self.session = 0
        """The server's number of the session that writes."""

    @property
    def name(self) -> str:
        return str(self._database)

    def connections(self, *, writes: bool) -> sqlalchemy.Engine:
        """A SQLAlchemy engine whose every connection is new; a transaction of one that writes begins with the lock, one that
        reads sees one snapshot. What is read past SQLAlchemy, by one prepared statement, needs no transaction and has none."""
        try:
            url = sqlalchemy.make_url(self._database.url).set(drivername="postgresql+psycopg")
        except sqlalchemy.exc.ArgumentError:
            raise StoreError(f"{self.name}: this is no URL of a PostgreSQL database") from None
        arguments = _arguments(url.query) | {"autocommit": True}  # psycopg's own BEGIN would be a way of its own
        engine = sqlalchemy.create_engine(url, paramstyle="format", poolclass=NullPool, connect_args=arguments)

        @sqlalchemy.event.listens_for(engine, "connect")
        def _connected(driver: Any, _record: object) -> None:
            driver.adapters.register_dumper(str, _without_nul(self._psycopg))
            if writes:
                self.session = driver.info.backend_pid
                driver.execute(_DURABLE)
            else:
                driver.execute("SET default_transaction_read_only = on")

        @sqlalchemy.event.listens_for(engine, "begin")
        def _begin(connection: sqlalchemy.Connection) -> None:
            driver: Any = connection.connection.dbapi_connection
            if not writes:
                driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                return
            lock = f"SELECT pg_advisory_xact_lock({WRITER_LOCK}), pg_current_xact_id()::text"
            begun = driver.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED; {lock}")  # both sent as one
            begun.nextset()
            self._transaction = int(begun.fetchone()[1])

        return engine

    def wrong(self, connection: sqlalchemy.Connection) -> str | None:
        """What stands against using this database, or None."""
        query = (
            "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'), "
            "pg_is_in_recovery()"
        )
        release, encoding, standby = connection.exec_driver_sql(query).one()
        if release < OLDEST:
            return f"PostgreSQL {release} is too old: {OLDEST} or newer is needed"
        if encoding != "UTF8":
            return f"its encoding is {encoding}: UTF8 is needed"
        if standby:
            return "it is a standby, which cannot be written"
        return None

    # Backend

    def in_transaction(self, driver: Any) -> bool:
        status, of = driver.info.transaction_status, self._psycopg.pq.TransactionStatus
        return status not in (of.IDLE, of.UNKNOWN)

    def is_fault(self, error: BaseException) -> bool:
        original = _original(error)
        if isinstance(original, (self._psycopg.OperationalError, self._psycopg.InterfaceError)):
            return True
        return isinstance(original, self._psycopg.Error) and (original.sqlstate or "").startswith(_FAULTS)

    def is_refused_write(self, error: BaseException) -> bool:
        return isinstance(_original(error), self._psycopg.errors.ReadOnlySqlTransaction)

    def cause(self, error: BaseException) -> str:
        original = _original(error)
        text = str(original).strip().partition("\n")[0] or type(original).__name__
        return self._database.without_password(text)

    def committed(self, error: BaseException) -> bool:
        if not self.is_fault(error):
            return False
        while True:
            try:
                with line(self._database) as connection:
                    row = connection.execute(
                        "SELECT pg_xact_status(%s::text::xid8)", [str(self._transaction)]
                    ).fetchone()
                if row[0] in ("committed", "aborted"):
                    return bool(row[0] == "committed")
            except self._psycopg.OperationalError:
                pass  # the server is not back yet
            if self._closing.is_set():
                raise StoreError(f"{self.name}: what became of the last commit is not known: {self.cause(error)}")
            time.sleep(ASK_AGAIN_S)

    def recover(self, connection: sqlalchemy.Connection) -> bool:
        driver: Any = None if connection.invalidated else connection.connection.dbapi_connection
        broken = driver is None or driver.closed
        if broken and not connection.invalidated:
            connection.invalidate()
        connection.rollback()
        if not broken and self.in_transaction(driver):
            driver.rollback()
        return broken

    def give_up(self) -> None:
        self._closing.set()

    def release(self) -> None:
        """The server lets go of what a session had when it ends."""


def _without_nul(psycopg: Any) -> Any:
    """How text is written: NUL, which PostgreSQL cannot store, as the character that stands for what cannot be shown."""

    class Text(psycopg.types.string.StrDumper):  # type: ignore[misc]
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))

    return Text


def line(database: Database) -> Any:
    """A connection of psycopg's own, without transactions."""
    url = sqlalchemy.make_url(database.url).set(drivername="postgresql")
    plain = url.render_as_string(hide_password=False)
    return driver_module().connect(plain, **_arguments(url.query), autocommit=True)


def _arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """For each connection, unless the URL says otherwise: a line that is dead is found out, and nobody stands still."""
    arguments: dict[str, Any] = {
        "connect_timeout": 5,
        "application_name": "spbroker",
        "client_encoding": "utf8",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "options": f"-c idle_in_transaction_session_timeout={STANDSTILL_S}s",
    }
    return {name: value for name, value in arguments.items() if name not in given}


def _original(error: BaseException) -> BaseException | None:
    return error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
