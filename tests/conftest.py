"""For every test: logs are plain lines, so that a traceback costs nothing; and commands that are started heed interrupts, as in
somebody's terminal, also where who started the tests ignores them (what is ignored is inherited). Examples that hypothesis draws
may take as long as they take: the machine may be busy.

`where` runs a test on each kind of store."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from broker.settings.process import Database
from tests.support.postgres import Server, Where, throwaway

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("busy", settings.default, deadline=None)
settings.load_profile("busy")
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server for all tests of this process; skips where there is none."""
    with throwaway() as server:
        yield server


@pytest.fixture
def databases(postgres: Server) -> Where:
    """An empty PostgreSQL database for each name, the same one for the same name."""
    made = cache(lambda name: postgres.new())

    def where(name: str) -> Database:
        return made(name)

    return where


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    """Where the store of a name is, on each kind of store in turn."""
    if request.param == "sqlite":
        return lambda name: tmp_path / f"{name}.db"
    databases: Where = request.getfixturevalue("databases")
    return databases
