"""Where the stores of a run are: files of SQLite, or databases of a PostgreSQL server that is there for the run alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.settings.process import Database
from tests.support.postgres import throwaway

Store = Path | Database
Stores = Callable[[Path], Store]
"""A new store: the file, or what stands for it."""
SQLITE, POSTGRESQL = "sqlite", "postgresql"


def files(file: Path) -> Store:
    return file


@contextmanager
def stores(kind: str) -> Iterator[Stores]:
    """Of SQLITE or POSTGRESQL. Both make each commit durable on the disk."""
    if kind == SQLITE:
        yield files
        return
    try:
        with throwaway(durable=True) as server:
            yield lambda file: server.new()
    except pytest.skip.Exception as missing:
        raise SystemExit(str(missing)) from None


def rows(store: Store, query: str) -> list[Any]:
    """What the query finds, while others write."""
    if isinstance(store, Database):
        import psycopg

        with psycopg.connect(store.url, autocommit=True) as line:
            return line.execute(query.encode()).fetchall()
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as file:
        return file.execute(query).fetchall()
