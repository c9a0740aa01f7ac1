"""Copies of the database: one committed state, checked, private, never over anything; put back, nothing is lost half way."""

# ruff: noqa: ASYNC240  the disk is what is tested here
from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.storage import tables as t
from broker.storage.backup import back_up, examine, restore
from broker.storage.books import SqlEditions, epoch_of
from broker.storage.engine import Engine
from broker.storage.errors import StoreError
from broker.storage.migrations import migrate
from broker.storage.migrations.upgrading import revisions
from broker.storage.restored import SqlRestored

NOW = datetime(2030, 5, 4, 12, tzinfo=UTC)
OLD, NEW = uuid.UUID(int=1), uuid.UUID(int=2)


def audit(number: int) -> dict[str, object]:
    words = dict.fromkeys(("actor", "on_behalf_of", "action", "before", "after", "reason", "trace"), "x")
    return {"at": NOW, "subject": str(number), **words}


async def put(engine: Engine, number: int) -> None:
    await engine.tx(lambda c: c.execute(t.audit.insert(), audit(number)).close())


async def numbers(engine: Engine) -> list[int]:
    query = sa.select(t.audit.c.subject).where(t.audit.c.subject != "store").order_by(t.audit.c.seq)
    return [int(subject) for subject in await engine.read(lambda c: list(c.scalars(query)))]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine.open(tmp_path / "broker.db", migrate=migrate) as opened:
        await epoch_of(opened, OLD)
        yield opened


def put_back(store: Path, file: Path, at: datetime = NOW) -> Path | None:
    return restore(store, file, at=at, epoch=NEW, actor="os:me", reason="a test")


async def test_a_backup_under_load_has_everything_that_was_answered_before_it_and_disturbs_nobody(
    engine: Engine, tmp_path: Path
) -> None:
    written: list[int] = []
    stop = asyncio.Event()

    async def write(lane: int) -> None:
        number = lane
        while not stop.is_set():
            await put(engine, number)
            written.append(number)
            number += 4

    writers = [asyncio.create_task(write(lane)) for lane in range(4)]
    for round in range(3):
        before = set(written)
        made = await asyncio.to_thread(back_up, engine.path, tmp_path / f"backup-{round}")
        assert made.revision == revisions()[-1]
        async with Engine.open(made.path, migrate=migrate) as copy:
            kept = await numbers(copy)
        assert before <= set(kept)
        for lane in range(4):
            mine = [n for n in kept if n % 4 == lane]
            assert mine == list(range(lane, lane + 4 * len(mine), 4)), "one committed state, without a hole"
    stop.set()
    await asyncio.gather(*writers)
    assert sorted(await numbers(engine)) == sorted(written)


async def test_a_backup_is_for_its_owner_only_and_leaves_nothing_beside_it(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    before = os.umask(0)
    try:
        back_up(engine.path, folder / "one")
    finally:
        os.umask(before)
    assert (folder / "one").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in folder.iterdir()] == ["one"]


async def test_a_backup_overwrites_nothing(engine: Engine, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("precious")
    with pytest.raises(StoreError, match="there: is there already, and a backup overwrites nothing"):
        back_up(engine.path, there)
    assert there.read_text() == "precious"
    assert not list(tmp_path.glob(".there*"))


async def test_what_cannot_be_backed_up_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no\.db: there is no database"):
        back_up(tmp_path / "no.db", tmp_path / "backup")
    with pytest.raises(StoreError, match="No such file or directory"):
        back_up(engine.path, tmp_path / "nowhere" / "backup")


async def test_a_restored_store_is_a_new_incarnation_with_the_rows_of_the_backup(
    engine: Engine, tmp_path: Path
) -> None:
    await put(engine, 1)
    back_up(engine.path, tmp_path / "backup")
    await put(engine, 2)
    await engine.close()
    aside = put_back(engine.path, tmp_path / "backup")
    async with Engine.open(engine.path, migrate=migrate) as again:
        assert await numbers(again) == [1]
        assert await epoch_of(again, uuid.uuid4()) == str(NEW)
        mark = await SqlRestored(again, str(NEW)).load()
        assert mark is not None
        assert (mark.at, mark.former_epoch, mark.accepted) == (NOW, str(OLD), None)
        row = await again.read(lambda c: c.execute(sa.select(t.audit).where(t.audit.c.subject == "store")).one())
        assert (row.actor, row.action, row.before, row.after, row.reason) == (
            "os:me", "restore", str(OLD), str(NEW), "a test"
        )  # fmt: skip
    assert aside is not None
    async with Engine.open(aside) as former:
        assert await numbers(former) == [1, 2], "what was there is there"
    assert engine.path.stat().st_mode & 0o777 == 0o600


async def test_what_was_in_the_log_of_writes_is_put_aside_too(engine: Engine, tmp_path: Path) -> None:
    back_up(engine.path, tmp_path / "backup")
    for number in range(50):
        await put(engine, number)
    copy = tmp_path / "killed" / "broker.db"
    copy.parent.mkdir()
    for suffix in ("", "-wal"):
        Path(f"{copy}{suffix}").write_bytes(Path(f"{engine.path}{suffix}").read_bytes())  # as kill -9 leaves it
    aside = put_back(copy, tmp_path / "backup")
    assert aside is not None
    async with Engine.open(aside) as former, Engine.open(copy) as now:
        assert await numbers(former) == list(range(50))
        assert await numbers(now) == []


async def test_notes_of_a_restored_store_are_above_all_that_were_given_out(engine: Engine, tmp_path: Path) -> None:
    for n in range(5):
        await SqlEditions(engine).next("ann", str(n))
    back_up(engine.path, tmp_path / "backup")
    lost = {name: await SqlEditions(engine).next(name, "later") for name in ("ann", "ben")}
    await engine.close()
    put_back(engine.path, tmp_path / "backup")
    async with Engine.open(engine.path, migrate=migrate) as again:
        first = {name: await SqlEditions(again).next(name, "4") for name in ("ann", "ben")}
        assert all(first[name] > lost[name] for name in lost)
        assert await SqlEditions(again).next("ann", "4") == first["ann"]
        last = await SqlEditions(again).next("ann", "5")
        assert last == first["ann"] + 1
    put_back(engine.path, tmp_path / "backup", at=NOW.replace(minute=1))  # the same one again
    async with Engine.open(engine.path, migrate=migrate) as again:
        assert await SqlEditions(again).next("ann", "4") > last


async def test_a_database_in_use_is_not_replaced(engine: Engine, tmp_path: Path) -> None:
    back_up(engine.path, tmp_path / "backup")
    with pytest.raises(StoreError, match=rf"another broker uses this database \(process {os.getpid()}\)"):
        put_back(engine.path, tmp_path / "backup")
    await put(engine, 1)
    assert await numbers(engine) == [1]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda content: b"Dear diary\n" * 1000, "file is no database"),
        (lambda content: content[: len(content) // 2], "corrupted"),
        (lambda content: content[:4096] + b"\xa5" * (len(content) - 4096), "corrupted"),
    ],
    ids=["no database", "cut off", "overwritten"],
)
async def test_what_is_no_whole_backup_is_refused_and_nothing_is_touched(
    spoil: Callable[[bytes], bytes], says: str, engine: Engine, tmp_path: Path
) -> None:
    await put(engine, 1)
    file = back_up(engine.path, tmp_path / "backup").path
    file.write_bytes(spoil(file.read_bytes()))
    await engine.close()
    with pytest.raises(StoreError, match=rf"backup: .*{says}"):
        put_back(engine.path, file)
    async with Engine.open(engine.path, migrate=migrate) as again:
        assert await numbers(again) == [1]
        assert await SqlRestored(again, "").load() is None


async def test_a_backup_of_another_kind_or_of_a_newer_release_is_refused(engine: Engine, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    async with Engine.open(other, migrate=lambda c: c.exec_driver_sql("CREATE TABLE a (b)").close()):
        pass
    with pytest.raises(StoreError, match=r"other\.db: is no database of a broker"):
        examine(other)
    await engine.tx(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = 'fffff'").close())
    with pytest.raises(StoreError, match=r"of a newer release \(its revision fffff"):
        back_up(engine.path, tmp_path / "backup")


async def test_a_backup_of_an_earlier_schema_is_migrated_when_it_is_put_back(tmp_path: Path) -> None:
    old, store = tmp_path / "old.db", tmp_path / "broker.db"
    async with Engine.open(old, migrate=lambda c: migrate(c, to=revisions()[0])) as engine:
        await put(engine, 7)
    assert put_back(store, old) is None, "there was nothing"
    async with Engine.open(store) as again:
        assert await numbers(again) == [7]
    assert examine(store).revision == revisions()[-1]


STEPS = """
import os, sys, uuid
from datetime import UTC, datetime
from pathlib import Path
from broker.storage import backup

left = int(sys.argv[3])

def mortal(effect):
    def step(*arguments, **more):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        return effect(*arguments, **more)
    return step

for name in ("link", "replace", "unlink"):
    setattr(os, name, mortal(getattr(os, name)))
Path.unlink = mortal(Path.unlink)
backup.restore(Path(sys.argv[1]), Path(sys.argv[2]), at=datetime(2030, 5, 4, 12, tzinfo=UTC), epoch=uuid.UUID(int=2),
               actor="os:me", reason="a test")
"""


async def test_a_restore_that_is_killed_at_any_step_leaves_the_one_before_or_refuses_until_it_is_repeated(
    tmp_path: Path,
) -> None:
    for step in range(40):
        folder = tmp_path / str(step)
        folder.mkdir()
        store, file = folder / "broker.db", folder / "backup"
        async with Engine.open(store, migrate=migrate) as engine:
            await put(engine, 1)
            back_up(store, file)
            await put(engine, 2)
            for suffix in ("", "-wal"):
                Path(f"{folder / 'kept'}{suffix}").write_bytes(Path(f"{store}{suffix}").read_bytes())
        for suffix in ("", "-wal"):
            Path(f"{folder / 'kept'}{suffix}").replace(f"{store}{suffix}")
        line = (sys.executable, "-c", STEPS, str(store), str(file), str(step))
        died = await asyncio.create_subprocess_exec(*line)
        if await died.wait() == 0:
            break
        if (folder / "broker.db.restoring").exists():
            with pytest.raises(StoreError, match="a restore of this database was broken off: repeat it"):
                Engine.open(store, migrate=migrate)
        else:
            async with Engine.open(store, migrate=migrate) as engine:
                restored = await SqlRestored(engine, "").load() is not None
                assert await numbers(engine) == ([1] if restored else [1, 2])
        put_back(store, file)
        async with Engine.open(store, migrate=migrate) as engine:
            assert await numbers(engine) == [1]
    assert step > 5
