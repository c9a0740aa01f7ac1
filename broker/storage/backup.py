"""Copies of the database: made while it is used, checked, and put back.

Rules kept here
- A backup is one committed state (`VACUUM INTO`): it disturbs neither the writer nor readers. It has its name only when it is
  whole, checked and on disk; it is readable by its owner alone, and nothing is overwritten.
- What is put back is checked and migrated first, in a copy. The database that was there stays beside it, under another name.
- A restored database is another incarnation: it has a new epoch, its editions begin above all that were given out, and it is
  marked as not accepted, in one transaction with the audit row that says who restored it.
- From the moment that a restore takes the place of the database until it is whole, the database cannot be opened
  (`RESTORING` beside it): neither the one before nor the one after is there alone.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy

from broker.orders.records import AuditRow
from broker.storage import tables as t
from broker.storage.errors import NewerSchema, StoreError
from broker.storage.migrations import migrate
from broker.storage.migrations.upgrading import revisions
from broker.storage.restored import EDITION_FLOOR, MARK, Restored
from broker.storage.sqlite import (
    BUSY_SECONDS,
    RESTORING,
    FileLock,
    broken_references,
    cause,
    choose_driver,
    connections,
    file_trouble,
    installed_drivers,
)
from broker.storage.statements import adding, replacing

SIDE_FILES = ("-wal", "-shm")
PREPARED = ".restore-part"

_META, _AUDIT = replacing(t.meta), adding(t.audit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was looked through: its size in bytes, the revision of its schema, and how many services are in it."""

    path: Path
    size: int
    revision: str
    services: int


def back_up(store: Path, to: Path) -> Backup:
    """Copy the database at `store`, which may be in use, to the new file `to`. Raises StoreError."""
    if not store.is_file():
        raise StoreError(f"{store}: there is no database")
    if to.exists():
        raise StoreError(f"{to}: is there already, and a backup overwrites nothing")
    with _told(to):
        handle, name = tempfile.mkstemp(
            prefix=f".{to.name}.", suffix=".part", dir=to.parent
        )  # readable by its owner only
        os.close(handle)
        part = Path(name)
        try:
            with _opened(store) as source:
                source.execute("VACUUM INTO ?", (str(part),))
            made = examine(part)
            _flush(part)
            os.link(part, to)  # unlike a rename it overwrites nothing
            _flush(to.parent)
        except FileExistsError:
            raise StoreError(f"{to}: is there already, and a backup overwrites nothing") from None
        finally:
            part.unlink(missing_ok=True)
    return Backup(path=to, size=made.size, revision=made.revision, services=made.services)


def examine(path: Path) -> Backup:
    """Look through all of a backup. Raises StoreError, which says what is wrong with it."""
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file")
    with _told(path), _opened(path) as connection:
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreError(f"{path}: the backup is corrupted: {verdict}")
        known = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not {"alembic_version", t.meta.name, t.services.name} <= known:
            raise StoreError(f"{path}: is no database of a broker")
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if revision not in revisions():
            raise StoreError(f"{path}: {NewerSchema(revision)}")
        (services,) = connection.execute("SELECT count(*) FROM services").fetchone()
    return Backup(path=path, size=path.stat().st_size, revision=revision, services=services)


def restore(store: Path, backup: Path, *, at: datetime, epoch: uuid.UUID, actor: str, reason: str) -> Path | None:
    """Put the backup in the place of the database at `store`, which nobody may use, as a new incarnation `epoch`. Returns where
    the database that was there is now (None: there was none). Raises StoreError."""
    with _told(store):
        lock = FileLock.take(store)
    try:
        with _told(backup):
            examine(backup)
        with _told(store):
            part, marker = store.with_name(store.name + PREPARED), store.with_name(store.name + RESTORING)
            for left in (part, *_sides(part)):
                left.unlink(missing_ok=True)
            with (
                backup.open("rb") as source,
                open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as to,
            ):
                shutil.copyfileobj(source, to)
            _begin_anew(part, at, epoch, actor, reason)
            _flush(part)
            os.replace(part, marker)
            _flush(store.parent)
            aside = _put_aside(store, at)
            for side in _sides(store):
                side.unlink(missing_ok=True)
            _flush(store.parent)
            os.replace(marker, store)
            _flush(store.parent)
            return aside
    finally:
        lock.release()


def _begin_anew(path: Path, at: datetime, epoch: uuid.UUID, actor: str, reason: str) -> None:
    """Migrate the copy, and make it the incarnation that it is from now on."""
    driver = choose_driver(installed_drivers())
    pragmas = ("journal_mode=DELETE", "synchronous=FULL", "foreign_keys=OFF")
    with (
        connections(path, driver, begin="BEGIN IMMEDIATE", pragmas=pragmas).connect() as connection,
        connection.begin(),
    ):
        migrate(connection)
        if (wrong := broken_references(connection)) is not None:
            raise StoreError(f"{path}: {wrong}")
        known = {row.key: row.value for row in connection.execute(sqlalchemy.select(t.meta))}
        highest = connection.execute(sqlalchemy.select(sqlalchemy.func.max(t.note_editions.c.edition))).scalar() or 0
        floor = max(int(known.get(EDITION_FLOOR, 0)), highest, int(at.timestamp()))
        connection.execute(sqlalchemy.delete(t.note_editions))
        mark = Restored(at=at, former_epoch=known.get("epoch", ""))
        for key, value in (("epoch", str(epoch)), (EDITION_FLOOR, str(floor)), (MARK, mark.text())):
            _META.run(connection, {"key": key, "value": value})
        row = AuditRow(
            at=at,
            actor=actor,
            on_behalf_of="",
            action="restore",
            subject="store",
            before=mark.former_epoch,
            after=str(epoch),
            reason=reason,
            trace="",
        )
        _AUDIT.run(connection, {f: getattr(row, f) for f in row.__slots__})


def _put_aside(store: Path, at: datetime) -> Path | None:
    """The database that is there, with its log of writes, under another name too; its own names stay for now."""
    if not store.exists():
        return None
    stem = f"{store.name}.before-{at:%Y%m%dT%H%M%SZ}"
    names = (store.with_name(stem if not n else f"{stem}-{n}") for n in range(1000))
    aside = next(name for name in names if not any(file.exists() for file in (name, *_sides(name))))
    wal = store.with_name(f"{store.name}-wal")
    if wal.exists():
        os.link(wal, aside.with_name(f"{aside.name}-wal"))
    os.link(store, aside)
    _flush(store.parent)
    return aside


def _sides(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + suffix) for suffix in SIDE_FILES)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A connection of its own to a database that is there; it is not created."""
    driver: Any = choose_driver(installed_drivers())
    address = f"{path.absolute().as_uri()}?mode=rw"
    with closing(driver.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        yield connection


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong in here, as a StoreError about `path`."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: {file_trouble(error)}") from error
    except (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise StoreError(f"{path}: {cause(error, path)}") from error
    except Exception as error:
        if hasattr(error, "sqlite_errorcode"):  # of another driver than the interpreter's
            raise StoreError(f"{path}: {cause(error, path)}") from error
        raise
