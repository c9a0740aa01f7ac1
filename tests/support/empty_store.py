"""A store with nothing in it, of today's schema, for tests that make many: the schema is made once per process."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from broker.storage.engine import Engine
from broker.storage.migrations import migrate

_content: list[bytes] = []


async def put_empty_store(path: Path) -> None:
    """A file of SQLite where there is none yet, as if a node had opened it and closed it."""
    if not _content:
        with TemporaryDirectory() as folder:
            empty = Path(folder) / "empty.db"
            await Engine.open(empty, migrate=migrate).close()
            _content.append(empty.read_bytes())
    _put(path, _content[0])


def _put(path: Path, content: bytes) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)
