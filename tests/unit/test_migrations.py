"""Migrations: written from metadata, applied in one transaction, compared with the metadata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.storage.engine import Engine
from broker.storage.errors import StoreError
from broker.storage.migrations import NEWEST, VERSIONS, migrate
from broker.storage.migrations.upgrading import revisions, write_revision
from tests.support.postgres import Where
from tests.support.schema import differences

BROKEN = """
revision = "broken"
down_revision = None

import sqlalchemy as sa
from alembic import op

def upgrade():
    op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO nowhere VALUES (1)")
"""


def tables(*columns: sa.Column[object]) -> sa.MetaData:
    metadata = sa.MetaData()
    sa.Table("owners", metadata, sa.Column("id", sa.Integer, primary_key=True), *columns)
    sa.Table(
        "things",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("owner", sa.ForeignKey("owners.id", ondelete="CASCADE"), nullable=False),
    )
    return metadata


def with_versions(versions: Path) -> Callable[[sa.Connection], None]:
    return lambda connection: migrate(connection, versions)


async def release(path: Path, metadata: sa.MetaData, versions: Path) -> None:
    """What a developer does: write the revision that leads to `metadata`, against an up-to-date database."""
    async with Engine.open(path, migrate=with_versions(versions)) as engine:
        await engine.tx(lambda connection: write_revision(connection, metadata, "next", versions))


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    directory = tmp_path / "versions 100%"
    directory.mkdir()
    return directory


async def test_a_revision_written_from_metadata_migrates_to_exactly_that_metadata(
    tmp_path: Path, versions: Path
) -> None:
    metadata = tables()
    await release(tmp_path / "developer.db", metadata, versions)
    async with Engine.open(tmp_path / "broker.db", migrate=with_versions(versions)) as engine:
        assert await engine.read(lambda connection: differences(connection, metadata)) == []
        assert (
            await engine.read(lambda connection: differences(connection, tables(sa.Column("extra", sa.String)))) != []
        )


async def test_rebuilding_a_table_keeps_the_rows_that_refer_to_it(tmp_path: Path, versions: Path) -> None:
    old, new = tables(sa.Column("name", sa.String)), tables(sa.Column("name", sa.String, nullable=False))
    await release(tmp_path / "developer.db", old, versions)
    async with Engine.open(tmp_path / "broker.db", migrate=with_versions(versions)) as engine:

        def fill(connection: sa.Connection) -> None:
            connection.execute(old.tables["owners"].insert(), {"id": 1, "name": "a"})
            connection.execute(old.tables["things"].insert(), {"id": 2, "owner": 1})

        await engine.tx(fill)
    await release(tmp_path / "developer.db", new, versions)
    async with Engine.open(tmp_path / "broker.db", migrate=with_versions(versions)) as engine:
        assert await engine.read(lambda connection: differences(connection, new)) == []
        assert await engine.read(lambda c: [tuple(row) for row in c.execute(new.tables["things"].select())]) == [(2, 1)]


async def test_an_up_to_date_database_is_left_alone(tmp_path: Path, versions: Path) -> None:
    metadata = tables()
    await release(tmp_path / "developer.db", metadata, versions)
    for _ in range(2):
        async with Engine.open(tmp_path / "broker.db", migrate=with_versions(versions)) as engine:
            assert await engine.read(lambda connection: differences(connection, metadata)) == []


def test_the_newest_revision_is_known_without_reading_any() -> None:
    assert revisions()[-1] == NEWEST


async def test_a_revision_that_fails_half_way_leaves_nothing(tmp_path: Path, versions: Path) -> None:
    (versions / "broken.py").write_text(BROKEN)
    with pytest.raises(StoreError, match=r"broker\.db: the migration failed and was undone: no such table: nowhere"):
        Engine.open(tmp_path / "broker.db", migrate=with_versions(versions))
    async with Engine.open(tmp_path / "broker.db") as engine:
        assert await engine.read(lambda connection: sa.inspect(connection).get_table_names()) == []


async def test_a_database_of_a_newer_release_is_refused(tmp_path: Path, versions: Path) -> None:
    await release(tmp_path / "developer.db", tables(), versions)
    await Engine.open(tmp_path / "broker.db", migrate=with_versions(versions)).close()
    older = tmp_path / "older"
    older.mkdir()
    with pytest.raises(StoreError, match=r"broker\.db: the database is of a newer release \(its revision \w+ "):
        Engine.open(tmp_path / "broker.db", migrate=with_versions(older))


async def test_the_released_revisions_apply_to_an_empty_database(where: Where) -> None:
    async with Engine.open(where("broker"), migrate=migrate) as engine:
        found = await engine.read(lambda connection: sa.inspect(connection).get_table_names())
    assert VERSIONS.is_dir()
    assert "alembic_version" in found
