"""The store's engine: `await engine.tx(fn)` writes, `await engine.read(fn)` reads.

Rules kept here
- What `tx` has answered is on disk: it survives a crash of the process and of the machine.
- A reader sees one committed snapshot, never blocks the writer and cannot write.
- A `read` that begins after a `tx` has answered sees what it wrote.
- A database that cannot be used is refused when it is opened, with its path and the cause: missing or read-only
  directory, not a database, corrupted, owned by another broker, unsafe SQLite library, failed migration; of PostgreSQL,
  also no server, no access, too old a server.
- A migration is one transaction: it happens wholly or not at all.

Results are values (rows, numbers, domain types), not open cursors: they leave the thread that made them.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import sqlalchemy

from broker.settings.process import Database
from broker.storage.backend import Backend
from broker.storage.errors import NewerSchema, StoreBusy, StoreClosed, StoreError
from broker.storage.postgres import Postgres
from broker.storage.sqlite import (
    READER_PRAGMAS,
    RESTORING,
    WRITER_PRAGMAS,
    Driver,
    FileLock,
    Sqlite,
    broken_references,
    cause,
    check_file,
    choose_driver,
    connections,
    create_private,
    file_trouble,
    installed_drivers,
)
from broker.storage.writer import Job, Writer

T = TypeVar("T")
Migrate = Callable[[sqlalchemy.Connection], None]


class Engine:
    """One database, open. Made by `Engine.open`; belongs to no event loop in particular."""

    def __init__(
        self,
        where: Path | Database,
        backend: Backend,
        connection: sqlalchemy.Connection,
        readers: list[sqlalchemy.Connection],
        max_waiting: int,
    ) -> None:
        self.where = where
        self._backend = backend
        self._writer = Writer(connection, backend, max_waiting)
        self._connection = connection
        self._idle: queue.SimpleQueue[sqlalchemy.Connection] = queue.SimpleQueue()
        for reader in readers:
            self._idle.put(reader)
        self._readers = readers
        self._threads = ThreadPoolExecutor(max_workers=len(readers), thread_name_prefix="store-reader")
        self._max_waiting = max_waiting
        self._reading = 0
        self._counting = threading.Lock()
        self._closed = False
        self._shutting = threading.Lock()
        self._released = False
        self._writer.start()

    @classmethod
    def open(
        cls,
        where: Path | str | Database,
        *,
        migrate: Migrate | None = None,
        readers: int = 2,
        max_waiting: int = 10_000,
        drivers: tuple[Driver, ...] | None = None,
    ) -> Self:
        """Check and migrate the database, and start its threads: a file of SQLite, which is locked, and created if it does
        not exist, or a database of PostgreSQL.

        Blocks while it does. `readers` is the number of reading threads, `max_waiting` how many transactions (and how
        many reads) may wait. Raises `StoreError`.
        """
        if isinstance(where, Database):
            return cls._open_server(where, migrate, readers, max_waiting)
        driver = choose_driver(installed_drivers() if drivers is None else drivers)
        path = Path(where).absolute()
        try:
            path = path.resolve()
            if not path.parent.is_dir():
                raise StoreError(f"{path}: cannot open the database: the directory {path.parent} does not exist")
            lock = FileLock.take(path)
        except OSError as error:
            raise StoreError(f"{path}: cannot open the database: {file_trouble(error)}") from error
        if path.with_name(path.name + RESTORING).exists():
            lock.release()
            raise StoreError(f"{path}: a restore of this database was broken off: repeat it (spbroker restore)")
        opened: list[sqlalchemy.Connection] = []
        try:
            create_private(path)
            connection = connections(path, driver, begin="BEGIN IMMEDIATE", pragmas=WRITER_PRAGMAS).connect()
            opened.append(connection)
            prepare(path, connection, migrate)
            reading = connections(path, driver, begin="BEGIN", pragmas=READER_PRAGMAS)
            opened.extend(reading.connect() for _ in range(readers))
            for reader in opened[1:]:
                reader.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar_one()
                reader.rollback()
        except BaseException as error:
            for each in reversed(opened):
                each.close()
            lock.release()
            if isinstance(error, OSError):
                raise StoreError(f"{path}: cannot open the database: {file_trouble(error)}") from error
            if isinstance(error, sqlalchemy.exc.SQLAlchemyError) or hasattr(error, "sqlite_errorcode"):
                raise StoreError(f"{path}: cannot open the database: {cause(error, path)}") from error
            raise
        return cls(path, Sqlite(path, lock), connection, opened[1:], max_waiting)

    @classmethod
    def _open_server(cls, database: Database, migrate: Migrate | None, readers: int, max_waiting: int) -> Self:
        backend = Postgres(database)
        opened: list[sqlalchemy.Connection] = []
        try:
            connection = backend.connections(writes=True).connect()
            opened.append(connection)
            prepare_server(backend, connection, migrate)
            reading = backend.connections(writes=False)
            opened.extend(reading.connect() for _ in range(readers))
        except BaseException as error:
            for each in reversed(opened):
                each.close()
            if backend.is_fault(error):
                raise StoreError(f"{database}: cannot open the database: {backend.cause(error)}") from None
            raise
        return cls(database, backend, connection, opened[1:], max_waiting)

    @property
    def path(self) -> Path:
        """The file of SQLite. Raises StoreError where it is another store."""
        if isinstance(self.where, Database):
            raise StoreError(f"{self.name}: this store is no file")
        return self.where

    @property
    def name(self) -> str:
        """What errors call it: the file's path, or the server and the database."""
        return self._backend.name

    @property
    def session(self) -> int:
        """The server's number of the session that writes, as it was last; 0 where there is no server."""
        return self._backend.session

    @property
    def commits(self) -> int:
        """How often something was made durable; one commit may carry many transactions."""
        return self._writer.commits

    @property
    def transactions(self) -> int:
        """How many transaction functions were applied."""
        return self._writer.transactions

    async def tx(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once that is durable.

        Raises what `work` raises (nothing of it is applied then), `StoreError` when the store fails, `StoreBusy`,
        `StoreClosed`. If the awaiting task is cancelled the outcome is unknown: `work` may or may not be applied.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._writer.submit(Job(work, future, loop))
        return await future

    async def read(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        """Run `work` on a snapshot and return its result.

        Raises what `work` raises (a write in it does), `StoreError` when the disk fails, `StoreBusy`, `StoreClosed`.
        """
        with self._counting:
            if self._closed:
                raise StoreClosed(f"{self.name}: the store is closed")
            if self._reading >= self._max_waiting:
                raise StoreBusy(f"{self.name}: {self._reading} reads are waiting")
            self._reading += 1
            pending = self._threads.submit(self._read, work)
        pending.add_done_callback(self._read_ended)
        return await asyncio.wrap_future(pending)

    def _read_ended(self, _pending: object) -> None:
        with self._counting:
            self._reading -= 1

    def _read(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        connection = self._idle.get()
        try:
            try:
                return self._read_on(connection, work)
            except StoreError:
                if not self._backend.recover(connection):
                    raise
                return self._read_on(connection, work)  # on a new line
        finally:
            try:
                self._backend.recover(connection)
            finally:
                self._idle.put(connection)

    def _read_on(self, connection: sqlalchemy.Connection, work: Callable[[sqlalchemy.Connection], T]) -> T:
        try:
            value = work(connection)
            if isinstance(value, sqlalchemy.Result):
                value.close()
                raise TypeError("a read function returned an open result; return its rows")
            return value
        except Exception as error:
            if self._backend.is_fault(error) and not self._backend.is_refused_write(error):
                raise StoreError(f"{self.name}: cannot read: {self._backend.cause(error)}") from error
            raise

    async def close(self) -> None:
        """Accept nothing more, finish what waits, close the file, give up the lock. May be called again."""
        await asyncio.shield(asyncio.to_thread(self._shut))

    def _shut(self) -> None:
        with self._shutting:
            with self._counting:
                self._closed = True
            self._backend.give_up()
            self._writer.drain()
            self._threads.shutdown(wait=True)
            if self._released:
                return
            self._released = True
            for reader in self._readers:
                reader.close()
            self._connection.close()  # the last connection: SQLite moves the log into the database and deletes it
            self._backend.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def prepare(path: Path, connection: sqlalchemy.Connection, migrate: Migrate | None) -> None:
    """Check the file, bring the schema up to date in one transaction, then turn foreign keys on."""
    driver: Any = connection.connection.dbapi_connection
    wrong = check_file(connection)
    connection.rollback()
    if wrong is None and migrate is not None:
        try:
            with connection.begin():
                migrate(connection)
                wrong = broken_references(connection)
                if wrong is not None:
                    raise StoreError(f"{path}: the migration was undone: {wrong}")
        except StoreError:
            raise
        except NewerSchema as error:
            raise StoreError(f"{path}: {error}") from None
        except Exception as error:
            raise StoreError(f"{path}: the migration failed and was undone: {cause(error, path)}") from error
    if wrong is not None:
        raise StoreError(f"{path}: cannot open the database: {wrong}")
    driver.execute("PRAGMA foreign_keys=ON")


def prepare_server(backend: Postgres, connection: sqlalchemy.Connection, migrate: Migrate | None) -> None:
    """Check the server and bring the schema up to date in one transaction. Of several processes that start, one after
    the other does."""
    wrong = backend.wrong(connection)
    connection.rollback()
    if wrong is not None:
        raise StoreError(f"{backend.name}: cannot open the database: {wrong}")
    if migrate is None:
        return
    try:
        with connection.begin():
            migrate(connection)
    except NewerSchema as error:
        raise StoreError(f"{backend.name}: {error.plain}") from None
    except Exception as error:
        raise StoreError(f"{backend.name}: the migration failed and was undone: {backend.cause(error)}") from error
