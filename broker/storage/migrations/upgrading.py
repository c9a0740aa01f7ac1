"""What Alembic does: a database's schema is brought up to date, and the next revision is written.

Rules kept here
- No ini file, no environment variable, no logging set-up: everything comes in as an argument.
- A released revision is never edited. A database of a newer release is refused with NewerSchema: its revision is unknown here.
- Foreign keys are off while it runs (SQLite rebuilds tables); the engine checks them before it commits.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from broker.storage.errors import NewerSchema
from broker.storage.migrations import VERSIONS

HERE = Path(__file__).parent


def configuration(connection: sqlalchemy.Connection, metadata: sqlalchemy.MetaData | None, versions: Path) -> Config:
    """What Alembic needs, for `env.py` to read."""
    config = Config()
    for option, value in (
        ("script_location", str(HERE)),
        ("version_locations", str(versions)),
        ("path_separator", "newline"),
    ):
        config.set_main_option(option, value.replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["metadata"] = metadata
    return config


def upgrade(connection: sqlalchemy.Connection, versions: Path, to: str) -> None:
    """To the newest revision in `versions`, or only as far as `to`. Raises NewerSchema, and Alembic's or SQLAlchemy's errors."""
    known, heads = revisions(versions), MigrationContext.configure(connection).get_current_heads()
    for found in heads:
        if found not in known:
            raise NewerSchema(found)
    if to != "head" or heads != known[-1:]:
        command.upgrade(configuration(connection, None, versions), to)


def revisions(versions: Path = VERSIONS) -> tuple[str, ...]:
    """Every revision in `versions`, oldest first."""
    return _shipped() if versions == VERSIONS else _read(versions)


@cache
def _shipped() -> tuple[str, ...]:
    return _read(VERSIONS)


def _read(versions: Path) -> tuple[str, ...]:
    scripts = ScriptDirectory(str(HERE), version_locations=[str(versions)])
    return tuple(script.revision for script in scripts.walk_revisions())[::-1]


def write_revision(
    connection: sqlalchemy.Connection, metadata: sqlalchemy.MetaData, message: str, versions: Path = VERSIONS
) -> Path:
    """Write the revision that turns the schema of an up-to-date database into `metadata`; a person reviews it."""
    script = command.revision(configuration(connection, metadata, versions), message, autogenerate=True)
    if script is None or isinstance(script, list):
        raise RuntimeError("Alembic wrote no single revision")
    return Path(script.path)
