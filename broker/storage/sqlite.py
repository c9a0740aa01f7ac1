"""One SQLite database file: which library may touch it, how it is locked, how connections are made.

Rules kept here
- A SQLite library that can lose commits in WAL mode is refused: 3.51.3, or its back-ports 3.50.7 and 3.44.6, or newer
  (https://sqlite.org/wal.html#walresetbug). The `pysqlite3` wheel is preferred to the interpreter's own library.
- One process owns a database. It holds an exclusive lock on `<database>.lock` from open to close; the kernel drops it
  when the process dies. The lock file stays: to delete it would let two owners lock two different files.
- The database holds secrets: it is created readable by its owner only, and SQLite gives its side files the same mode.
- The driver never begins a transaction by itself (`isolation_level=None`): SQLAlchemy's begin event does, with the
  statement that suits the connection. So DDL is transactional and a reader sees one snapshot.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, Self

import sqlalchemy
from sqlalchemy.pool import NullPool

from broker.storage.errors import StoreError

RESTORING = ".restoring"
"""Behind the name of a database: a backup that is about to take its place."""
CACHED_STATEMENTS = 512
WAL_KEPT_BYTES = 64 * 1024 * 1024
BUSY_SECONDS = 5.0


class Driver(Protocol):
    """A DBAPI module for SQLite, `sqlite3` or one built like it."""

    @property
    def sqlite_version_info(self) -> tuple[int, ...]: ...


def has_safe_wal(version: tuple[int, ...]) -> bool:
    """Whether this SQLite library keeps every commit in WAL mode."""
    if version[:2] == (3, 44):
        return version >= (3, 44, 6)
    if version[:2] == (3, 50):
        return version >= (3, 50, 7)
    return version >= (3, 51, 3)


def choose_driver(candidates: Iterable[Driver]) -> Driver:
    """The first candidate with a safe library. Raises `StoreError` naming the versions found when there is none."""
    refused = []
    for driver in candidates:
        if has_safe_wal(driver.sqlite_version_info):
            return driver
        refused.append(".".join(map(str, driver.sqlite_version_info)))
    raise StoreError(
        f"no usable SQLite library (found: {', '.join(refused) or 'none'}): versions before 3.51.3, 3.50.7 or 3.44.6 "
        "can lose commits in WAL mode; install the pysqlite3 wheel or a newer SQLite"
    )


def installed_drivers() -> Iterable[Driver]:
    """The drivers of this environment, the preferred one first."""
    for name in ("pysqlite3.dbapi2", "sqlite3.dbapi2"):
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        yield module


class FileLock:
    """Exclusive ownership of a database by one process, until `release`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, database: Path) -> Self:
        """Raises `StoreError` when another process (or engine) has it, and `OSError` when the file cannot be made."""
        path = database.with_name(database.name + ".lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StoreError(f"{database}: another broker uses this database (process {owner or 'unknown'})") from None
        except OSError:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        os.close(self._descriptor)


def create_private(path: Path) -> None:
    """Create an empty database file for its owner only; leave an existing one as it is."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def connections(path: Path, driver: Driver, *, begin: str, pragmas: Iterable[str]) -> sqlalchemy.Engine:
    """A SQLAlchemy engine whose every connection is new, runs `pragmas`, and begins a transaction with `begin`."""
    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite", database=str(path)),
        module=driver,
        poolclass=NullPool,
        connect_args={
            "isolation_level": None,
            "check_same_thread": False,
            "timeout": BUSY_SECONDS,
            "cached_statements": CACHED_STATEMENTS,
        },
    )
    statements = tuple(pragmas)

    @sqlalchemy.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        for statement in statements:
            connection.execute(f"PRAGMA {statement}").fetchall()

    @sqlalchemy.event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        driver.execute(begin)  # with no result and no parameters there is nothing for SQLAlchemy to do

    return engine


WRITER_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", f"journal_size_limit={WAL_KEPT_BYTES}", "foreign_keys=OFF")
"""Foreign keys are off until the migration is done: rebuilding a table would otherwise cascade into its children."""

READER_PRAGMAS = ("query_only=ON",)


def check_file(connection: sqlalchemy.Connection) -> str | None:
    """What is wrong with the database, or None. Reads the whole file: seconds per gigabyte."""
    mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    if mode != "wal":
        return f"write-ahead logging is not possible here (journal mode is {mode!r})"
    verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    return None if verdict == "ok" else f"the file is corrupted: {verdict}"


def broken_references(connection: sqlalchemy.Connection) -> str | None:
    """The first row whose foreign key points nowhere, in words, or None."""
    row = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    return None if row is None else f"row {row[1]} of table {row[0]} refers to a missing row of {row[2]}"


STORE_FAULTS = {
    5: "another program has the database locked",
    7: "there is no memory left",
    8: "the database is read-only",
    10: "the disk fails",
    11: "the database is corrupted: restore a backup (spbroker restore)",
    13: "the disk is full",
    14: "the database cannot be opened",
    15: "another program has the database locked",
    26: "the file is no database, or its beginning is overwritten: restore a backup (spbroker restore)",
}
"""Primary result codes that are not the statement's fault, each in plain words: BUSY, NOMEM, READONLY, IOERR, CORRUPT, FULL,
CANTOPEN, PROTOCOL, NOTADB (https://sqlite.org/rescode.html)."""
_OF_THE_DISK = frozenset({8, 10, 14})
"""Those that a full or a read-only disk gives too, depending on which file was to be written."""
FULL_BELOW_BYTES = 64 * 1024
"""Room that the smallest commit may need: pages of the log and of its index."""


def is_store_fault(error: BaseException) -> bool:
    return _code(error) in STORE_FAULTS


def cause(error: BaseException, path: Path) -> str:
    """One line for a person: the fault in plain words, and the driver's without SQL, parameters or links. `path`: of the
    database."""
    original = _original(error)
    name = getattr(original, "sqlite_errorname", None)
    text = str(original) or type(original).__name__
    text = f"{text} ({name})" if name else text
    code = _code(error)
    if code not in STORE_FAULTS:
        return text
    return f"{(disk_trouble(path) if code in _OF_THE_DISK else '') or STORE_FAULTS[code]}: {text}"


def disk_trouble(path: Path) -> str:
    """Whether the disk that `path` is on is read-only or full, in words; empty if it is neither, or cannot be asked."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return ""
    if disk.f_flag & os.ST_RDONLY:
        return "the disk is read-only"
    return STORE_FAULTS[13] if disk.f_bavail * disk.f_frsize < FULL_BELOW_BYTES else ""


def file_trouble(error: OSError) -> str:
    """Why a file beside the database cannot be made, in the words of `STORE_FAULTS` where it has some."""
    plain = {errno.ENOSPC: STORE_FAULTS[13], errno.EDQUOT: STORE_FAULTS[13], errno.EROFS: "the disk is read-only"}
    text = error.strerror or str(error)
    return f"{plain[error.errno]}: {text}" if error.errno in plain else text


def _original(error: BaseException) -> BaseException | None:
    return error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error


def _code(error: BaseException) -> int | None:
    """The primary result code of SQLite; None where the error is not one of it."""
    code = getattr(_original(error), "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


class Sqlite:
    """Backend of one open file, whose lock it has."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self._path, self._lock = path, lock
        self.session = 0

    @property
    def name(self) -> str:
        return str(self._path)

    def in_transaction(self, driver: Any) -> bool:
        return bool(driver.in_transaction)

    def is_fault(self, error: BaseException) -> bool:
        return is_store_fault(error)

    def is_refused_write(self, error: BaseException) -> bool:
        return isinstance(error, sqlalchemy.exc.DBAPIError) and (
            getattr(error.orig, "sqlite_errorname", "") == "SQLITE_READONLY"
        )

    def cause(self, error: BaseException) -> str:
        return cause(error, self._path)

    def committed(self, error: BaseException) -> bool:
        return False  # it is one process with its file: what COMMIT says is so

    def recover(self, connection: sqlalchemy.Connection) -> bool:
        driver: Any = connection.connection.dbapi_connection
        try:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
        finally:
            connection.rollback()
        return False

    def give_up(self) -> None:
        pass  # nothing is ever waited for

    def release(self) -> None:
        self._lock.release()
