"""Bringing a database's schema up to date.

Rules kept here
- `migrate` works on a connection that is inside a transaction and leaves the commit to its owner: the whole upgrade
  happens or none of it.
- A database that is up to date, as at nearly every start, is opened without Alembic, whose import takes a fifth of a start.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy

VERSIONS = Path(__file__).parent / "versions"
NEWEST = "e4b7d90c2f16"
"""The newest revision in VERSIONS."""
_APPLIED = sqlalchemy.table("alembic_version", sqlalchemy.column("version_num"))


def migrate(connection: sqlalchemy.Connection, versions: Path = VERSIONS, to: str = "head") -> None:
    """Upgrade to the newest revision in `versions`, or only as far as `to`. Raises NewerSchema, and Alembic's or SQLAlchemy's
    errors."""
    if (versions, to) == (VERSIONS, "head") and _applied(connection) == [NEWEST]:
        return
    from broker.storage.migrations.upgrading import upgrade

    upgrade(connection, versions, to)


def _applied(connection: sqlalchemy.Connection) -> list[str]:
    if not sqlalchemy.inspect(connection).has_table(_APPLIED.name):
        return []
    return list(connection.execute(sqlalchemy.select(_APPLIED.c.version_num)).scalars())
