"""Disks that are full, read-only or broken, databases that are locked or overwritten: each is named, and nothing is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.storage.engine import Engine
from broker.storage.errors import StoreError
from tests.support.disks import made_disk, on_disk, on_small_disk, require_disks

PRELUDE = """
import asyncio, os, subprocess, sys
from pathlib import Path
from broker.storage.engine import Engine
from broker.storage.errors import StoreError

disk = Path(sys.argv[1])
path = disk / "broker.db"

def create(connection):
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, b)").close()

def put(number, size=3000):
    return lambda c: c.exec_driver_sql("INSERT INTO rows VALUES (?, ?)", (number, os.urandom(size))).close()

async def kept(engine):
    return await engine.read(lambda c: list(c.exec_driver_sql("SELECT id FROM rows ORDER BY id").scalars()))

def refusal(tried=lambda: Engine.open(path, migrate=create)):
    try:
        tried()
    except StoreError as error:
        return str(error)
    raise AssertionError("it was opened")

def shell(*line):
    subprocess.run(line, check=True)

async def fill(engine, number):
    \"\"\"Write rows until one is refused: (the first that was not written, why).\"\"\"
    while True:
        try:
            await engine.tx(put(number))
        except StoreError as error:
            return number, str(error)
        number += 1
"""

FULL = """
async def main():
    engine = Engine.open(path, migrate=create)
    await engine.tx(put(0))
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast.write_bytes(b"x" * (free - 100_000))
    first, why = await fill(engine, 1)
    assert why.startswith(f"{path}: the transaction was not applied: the disk is full: "), why
    assert first > 3, first
    for _ in range(3):  # as often as it is asked
        _, why = await fill(engine, first)
        assert "the disk is full" in why, why
    assert await kept(engine) == list(range(first)), "what was answered, and nothing else; reading goes on"
    ballast.unlink()
    await engine.tx(put(first))
    assert await kept(engine) == list(range(first + 1)), "there is room again: it goes on"
    await engine.close()
    again = Engine.open(path, migrate=create)
    assert await kept(again) == list(range(first + 1))
    await again.close()

asyncio.run(main())
"""

FULL_AT_START = """
async def main():
    ballast = disk / "ballast"
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(file, b"x" * 4096)
    except OSError:
        os.close(file)
    why = refusal()
    assert why.startswith(f"{path}: ") and "the disk is full" in why, why
    ballast.unlink()
    engine = Engine.open(path, migrate=create)
    await engine.tx(put(0))
    await engine.close()
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast.write_bytes(b"x" * free)
    why = refusal()
    assert why.startswith(f"{path}: cannot open the database: the disk is full"), why
    ballast.unlink()
    engine = Engine.open(path, migrate=create)
    assert await kept(engine) == [0]
    await engine.close()

asyncio.run(main())
"""

READ_ONLY_AT_START = """
async def main():
    shell("mount", "-o", "remount,ro", str(disk))
    why = refusal()
    assert why.startswith(f"{path}: cannot open the database: the disk is read-only"), why
    shell("mount", "-o", "remount,rw", str(disk))
    engine = Engine.open(path, migrate=create)
    await engine.tx(put(0))
    await engine.close()
    shell("mount", "-o", "remount,ro", str(disk))
    why = refusal()
    assert why.startswith(f"{path}: cannot open the database: the disk is read-only"), why
    shell("mount", "-o", "remount,rw", str(disk))
    engine = Engine.open(path, migrate=create)
    assert await kept(engine) == [0]
    await engine.close()

asyncio.run(main())
"""

READ_ONLY_WHILE_RUNNING = """
async def main():
    engine = Engine.open(path, migrate=create)
    for number in range(20):
        await engine.tx(put(number))
    shell("mount", "-o", "remount,abort", str(disk))  # the disk met an error: from here on it takes nothing
    first, why = await fill(engine, 20)
    assert why.startswith(f"{path}: the transaction was not applied: "), why
    assert "the disk is read-only" in why or "the disk fails" in why, why
    assert await kept(engine) == list(range(first)), "reading goes on"
    print(first, flush=True)
    os._exit(0)  # as a machine ends whose disk is gone

asyncio.run(main())
"""
AFTERWARDS = """
async def main():
    engine = Engine.open(path, migrate=create)
    print(*await kept(engine))
    await engine.close()

asyncio.run(main())
"""


def passes(line: list[str]) -> str:
    """What the program says, which has to end well."""
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def program(script: str, disk: Path) -> tuple[str, ...]:
    return sys.executable, "-c", PRELUDE + script, str(disk)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    made = tmp_path / "disk"
    made.mkdir()
    return made


@pytest.mark.parametrize("script", [FULL, FULL_AT_START], ids=["running", "start"])
def test_a_full_disk_is_named_loses_nothing_and_is_forgotten_when_there_is_room(script: str, disk: Path) -> None:
    require_disks()
    passes(on_small_disk(disk, "2m", *program(script, disk)))


def test_a_read_only_disk_is_named_at_start(disk: Path) -> None:
    require_disks()
    passes(on_small_disk(disk, "2m", *program(READ_ONLY_AT_START, disk)))


def test_a_disk_that_becomes_read_only_is_named_and_what_was_answered_is_there_when_it_is_repaired(
    tmp_path: Path, disk: Path
) -> None:
    require_disks("ext4")
    image = made_disk(tmp_path / "image")
    answered = int(passes(on_disk(image, disk, *program(READ_ONLY_WHILE_RUNNING, disk))))
    subprocess.run(["e2fsck", "-fy", str(image)], capture_output=True, check=False, env={"PATH": "/usr/sbin:/sbin"})
    found = [int(number) for number in passes(on_disk(image, disk, *program(AFTERWARDS, disk))).split()]
    assert set(range(answered)) <= set(found)
    assert answered >= 20


LOCKS = """
import sys
from broker.storage.sqlite import choose_driver, installed_drivers
connection = choose_driver(installed_drivers()).connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program, no broker, is in the middle of a transaction."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCKS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            other.stdin.close()


def create(connection: sa.Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, b)").close()


def put(*numbers: int) -> Callable[[sa.Connection], None]:
    values = [(number, "x" * 500) for number in numbers]
    return lambda c: c.exec_driver_sql("INSERT INTO rows VALUES (?, ?)", values).close()


async def ids(engine: Engine) -> list[int]:
    return await engine.read(lambda c: list(c.exec_driver_sql("SELECT id FROM rows ORDER BY id").scalars()))


async def test_a_database_that_another_program_has_locked_refuses_writes_until_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    async with Engine.open(path, migrate=create) as engine:
        await engine.tx(put(1))
        with locked(path):
            with pytest.raises(
                StoreError, match=r"broker\.db: .* not applied: another program has the database locked"
            ):
                await engine.tx(put(2))
            assert await ids(engine) == [1]
        await engine.tx(put(3))
        assert await ids(engine) == [1, 3]


async def test_a_database_that_another_program_has_locked_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    await Engine.open(path, migrate=create).close()
    with locked(path), pytest.raises(StoreError, match=r"broker\.db: .*another program has the database locked"):
        await asyncio.to_thread(Engine.open, path, migrate=create)
    await Engine.open(path, migrate=create).close()


async def filled(path: Path) -> None:
    async with Engine.open(path, migrate=create) as engine:
        await engine.tx(put(*range(20_000)))


def overwrite(path: Path, start: int) -> None:
    """Every page from number `start` on loses its beginning."""
    with path.open("r+b") as file:
        for at in range(start * 4096, path.stat().st_size, 4096):
            file.seek(at)
            file.write(b"\xa5" * 64)


async def test_a_database_that_is_overwritten_while_it_is_open_is_named(tmp_path: Path) -> None:
    """More than the caches of pages hold."""
    path = tmp_path / "broker.db"
    await filled(path)
    async with Engine.open(path, migrate=create) as engine:
        overwrite(path, 2)
        told = r"broker\.db: .*the database is corrupted: restore a backup \(spbroker restore\)"
        with pytest.raises(StoreError, match=told):
            await ids(engine)
        with pytest.raises(StoreError, match=told):
            await engine.tx(lambda connection: connection.exec_driver_sql("UPDATE rows SET b = ''").close())


@pytest.mark.parametrize("start", [0, 4])
async def test_an_overwritten_database_is_named_at_start(tmp_path: Path, start: int) -> None:
    path = tmp_path / "broker.db"
    await filled(path)
    overwrite(path, start)
    with pytest.raises(StoreError, match=r"broker\.db: cannot open the database: .*restore a backup|corrupted"):
        Engine.open(path, migrate=create)
