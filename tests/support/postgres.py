"""A throw-away PostgreSQL server, and databases on it.

Rules kept here
- Its files are in memory where the machine has a place for that, and go with it; nothing listens but a socket in its folder.
- It dies with the process that started it, also where that is killed.
- Where it cannot be had the test is skipped with what is missing; under CI, or with SPBROKER_REQUIRE_POSTGRES=1, it fails.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from broker.settings.process import Database

Where = Callable[[str], Path | Database]
"""Where the store of that name is, or is to be."""
READY_S = 60.0
SETTINGS = {"listen_addresses": "", "shared_buffers": "64MB", "max_connections": "200"}


class Server:
    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder, self.process = folder, process
        self._count = itertools.count(1)

    def url(self, database: str) -> str:
        return f"postgresql://spbroker@localhost/{database}?host={self.folder}"

    def new(self) -> Database:
        """An empty database."""
        name = f"b{next(self._count)}"
        self.run(f"CREATE DATABASE {name}")
        return Database(self.url(name))

    def run(self, statement: str, database: str = "postgres") -> list[Any]:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as line:
            cursor = line.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@contextmanager
def throwaway(*, durable: bool = False) -> Iterator[Server]:
    """Skips or fails where there is none. What survives the broker's death does so by the server's; to survive the machine
    nothing here has to, but where it is measured with what that takes: `durable`."""
    if importlib.util.find_spec("psycopg") is None:
        _missing("the Python package psycopg")
    binaries = _binaries()
    if binaries is None:
        _missing("PostgreSQL's server (Debian: apt-get install postgresql)")
    memory = Path("/dev/shm")
    in_memory = memory.is_dir() and not durable
    folder = Path(tempfile.mkdtemp(prefix="spbroker-pg-", dir=memory if in_memory else None))
    try:
        drop = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        if drop:
            shutil.chown(folder, "nobody", "nogroup")
        data = folder / "data"
        made: list[str | Path] = [*drop, binaries / "initdb", "-D", data, "-U", "spbroker", "--auth=trust", "--no-sync"]
        subprocess.run([*made, "--locale=C", "--encoding=UTF8"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        chosen = SETTINGS | {"fsync": "on" if durable else "off"}
        settings = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [
            "setpriv",
            *drop[1:],
            "--pdeathsig",
            "QUIT",
            binaries / "postgres",
            "-D",
            data,
            "-k",
            folder,
        ]
        with (folder / "log").open("wb") as output:
            process = subprocess.Popen([*command, *settings], stdout=output, stderr=output, cwd=folder)
        server = Server(folder, process)
        try:
            _wait(server)
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # at once, whoever is connected
            process.wait(READY_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: Server) -> None:
    import psycopg

    until = time.monotonic() + READY_S
    while True:
        try:
            server.run("SELECT 1")
        except psycopg.OperationalError:
            if server.process.poll() is not None or time.monotonic() > until:
                raise AssertionError((server.folder / "log").read_text()) from None
            time.sleep(0.05)
        else:
            return


def _binaries() -> Path | None:
    """Where initdb and postgres are: what is on the path, else the newest of Debian's."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    found = shutil.which("initdb")
    candidates = [*debian, *([Path(found).parent] if found else [])]
    return next((path for path in candidates if (path / "postgres").exists() and (path / "initdb").exists()), None)


def _missing(what: str) -> NoReturn:
    message = f"PostgreSQL is not tested: {what} is missing"
    if os.environ.get("CI") or os.environ.get("SPBROKER_REQUIRE_POSTGRES") == "1":
        pytest.fail(message)
    pytest.skip(message)
