"""PostgreSQL's NOTIFY as a hint that another process changed something: heard soon, perhaps twice, perhaps not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import structlog

from broker.settings.process import Database
from broker.storage.engine import Engine
from broker.storage.postgres import driver_module, line

CHANNEL = "spbroker"
LOOK_UP_S = 0.5
"""How long closing may take, and a new line where the old one broke."""

log = structlog.get_logger()


class Hints:
    """Calls `heard`, in a thread of its own, whenever the store tells that something was changed elsewhere, until `close`."""

    def __init__(self, engine: Engine, heard: Callable[[], None]) -> None:
        """`engine` is of PostgreSQL."""
        assert isinstance(engine.where, Database)
        self._engine, self._database, self._heard = engine, engine.where, heard
        self._psycopg: Any = driver_module()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="store-hints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Blocks until nobody is called any more."""
        self._closing.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                with line(self._database) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._heard()  # of what was changed before
                    while not self._closing.is_set():
                        for hint in connection.notifies(timeout=LOOK_UP_S, stop_after=1):
                            if hint.pid != self._engine.session:
                                self._heard()
            except self._psycopg.OperationalError as error:
                log.info("no hints of changes", store=str(self._database), error=type(error).__name__)
                self._closing.wait(LOOK_UP_S)
