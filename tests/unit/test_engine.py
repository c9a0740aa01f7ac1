"""The store keeps its promises: group commit, isolation of failures, durability, one owner, clear refusals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from broker.storage.engine import Engine
from broker.storage.errors import StoreBusy, StoreClosed, StoreError
from broker.storage.sqlite import choose_driver, has_safe_wal
from broker.storage.statements import Done, Prepared, Script
from tests.support.postgres import Where

metadata = sa.MetaData()
parents = sa.Table("parents", metadata, sa.Column("id", sa.Integer, primary_key=True))
rows = sa.Table("rows", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.String))
deferred = sa.Table(
    "deferred",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent", sa.ForeignKey("parents.id", deferrable=True, initially="DEFERRED")),
)


def insert(number: int) -> Callable[[sa.Connection], int]:
    def work(connection: sa.Connection) -> int:
        connection.execute(rows.insert(), {"id": number, "text": str(number)})
        return number

    return work


def ids(connection: sa.Connection) -> list[int]:
    return list(connection.scalars(sa.select(rows.c.id).order_by(rows.c.id)))


def create(connection: sa.Connection) -> None:
    metadata.create_all(connection)


@pytest.fixture
async def engine(where: Where) -> AsyncIterator[Engine]:
    """Of each kind of store."""
    async with Engine.open(where("broker"), migrate=create) as opened:
        yield opened


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine.open(tmp_path / "broker.db", migrate=create) as opened:
        yield opened


class Gate:
    """A transaction that occupies the writer until it is let go, so that what follows queues up behind it."""

    def __init__(self, engine: Engine) -> None:
        self._entered, self._go = threading.Event(), threading.Event()
        self.task = asyncio.ensure_future(engine.tx(self._work))

    def _work(self, _connection: sa.Connection) -> None:
        self._entered.set()
        self._go.wait(20)

    async def entered(self) -> None:
        await asyncio.to_thread(self._entered.wait, 20)

    def open(self) -> None:
        self._go.set()


async def behind_a_gate(engine: Engine, works: Sequence[Callable[[sa.Connection], Any]]) -> list[Any]:
    """Run `works` as one batch; their results or exceptions."""
    gate = Gate(engine)
    await gate.entered()
    tasks = [asyncio.ensure_future(engine.tx(work)) for work in works]
    await asyncio.sleep(0)  # each task has queued its function now
    gate.open()
    await gate.task
    return list(await asyncio.gather(*tasks, return_exceptions=True))


async def test_what_was_written_is_read_back(engine: Engine) -> None:
    assert await engine.tx(insert(7)) == 7
    assert await engine.read(ids) == [7]


async def test_transactions_that_wait_share_one_commit(engine: Engine) -> None:
    assert await behind_a_gate(engine, [insert(n) for n in range(100)]) == list(range(100))
    assert (engine.commits, engine.transactions) == (2, 101)
    assert await engine.read(ids) == list(range(100))


async def test_a_function_that_raises_undoes_only_its_own_work(engine: Engine) -> None:
    def fails(connection: sa.Connection) -> None:
        insert(2)(connection)
        raise LookupError("mine")

    results = await behind_a_gate(engine, [insert(1), fails, insert(3)])
    assert results[0] == 1
    assert results[2] == 3
    assert isinstance(results[1], LookupError)
    assert await engine.read(ids) == [1, 3]


async def test_a_statement_that_fails_reaches_its_own_caller_only(engine: Engine) -> None:
    results = await behind_a_gate(engine, [insert(1), insert(1), insert(2)])
    assert isinstance(results[1], sa.exc.IntegrityError)
    assert await engine.read(ids) == [1, 2]


PUT = Prepared(rows.insert(), [rows.c.id, rows.c.text])


def put(*numbers: int, check: Callable[[Done], None] | None = None) -> Script:
    script = Script()
    for number in numbers:
        script.add(PUT, {"id": number, "text": str(number)}, check=check)
    return script


async def test_scripts_that_wait_share_one_commit(engine: Engine) -> None:
    assert await behind_a_gate(engine, [put(n, n + 100) for n in range(100)]) == [None] * 100
    assert (engine.commits, engine.transactions) == (2, 101)
    assert await engine.read(ids) == list(range(200))


async def test_scripts_that_wait_together_are_spared_each_others_errors(engine: Engine) -> None:
    """What the database refuses, and what was not as it has to be. They come to what they would have come to alone."""
    came_to: list[int] = []

    def refuse(done: Done) -> None:
        raise LookupError(done.count)

    works = [put(1, check=lambda done: came_to.append(done.count)), put(2, 1), put(3, 4, check=refuse), put(5)]
    results = await behind_a_gate(engine, works)
    assert [type(result).__name__ for result in results] in (
        ["NoneType", "IntegrityError", "LookupError", "NoneType"],
        ["NoneType", "UniqueViolation", "LookupError", "NoneType"],
    )
    assert results[2].args == (1,)
    assert set(came_to) == {1}
    assert await engine.read(ids) == [1, 5]
    assert (engine.commits, engine.transactions) == (2, 3)


async def test_a_script_among_functions_is_one_of_them(engine: Engine) -> None:
    results = await behind_a_gate(engine, [put(1), insert(2), put(2), insert(3)])
    assert (results[0], results[1], results[3]) == (None, 2, 3)
    assert isinstance(results[2], Exception)
    assert await engine.read(ids) == [1, 2, 3]


async def test_a_failed_lonely_transaction_commits_nothing(engine: Engine) -> None:
    await engine.tx(insert(1))
    with pytest.raises(sa.exc.IntegrityError):
        await engine.tx(insert(1))
    assert (engine.commits, engine.transactions) == (1, 1)


async def test_when_the_commit_fails_everyone_in_the_batch_is_told_and_nothing_is_applied(engine: Engine) -> None:
    def dangling(connection: sa.Connection) -> None:  # a deferred constraint: only COMMIT finds it out
        connection.execute(deferred.insert(), {"id": 1, "parent": 99})

    gate = Gate(engine)
    await gate.entered()
    tasks = [asyncio.ensure_future(engine.tx(work)) for work in (insert(1), dangling, insert(2))]
    await asyncio.sleep(0)
    gate.open()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [StoreError] * 3
    assert engine.name in str(results[0])
    assert "foreign key constraint" in str(results[0]).lower()
    assert await engine.read(ids) == []
    assert await engine.tx(insert(5)) == 5  # the engine goes on


@pytest.mark.parametrize("end", ["commit", "rollback", "begin_nested"])
async def test_a_function_that_ends_the_shared_transaction_fails_the_batch_and_applies_nothing(
    engine: Engine, end: str
) -> None:
    def meddles(connection: sa.Connection) -> None:
        insert(2)(connection)
        getattr(connection, end)()

    results = await behind_a_gate(engine, [insert(1), meddles, insert(3)])
    assert [type(result) for result in results] == [StoreError] * 3
    assert await engine.read(ids) == []
    assert await engine.tx(insert(5)) == 5


async def test_a_nested_transaction_inside_a_function_works(engine: Engine) -> None:
    def work(connection: sa.Connection) -> None:
        insert(1)(connection)
        with contextlib.suppress(LookupError), connection.begin_nested():
            insert(2)(connection)
            raise LookupError

    await engine.tx(work)
    assert await engine.read(ids) == [1]


async def test_a_caller_that_gives_up_does_not_disturb_the_others(engine: Engine) -> None:
    gate = Gate(engine)
    await gate.entered()
    first, second, third = (asyncio.ensure_future(engine.tx(insert(n))) for n in (1, 2, 3))
    await asyncio.sleep(0)
    second.cancel()
    gate.task.cancel()  # its function is running
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.open()
    assert [await first, await third] == [1, 3]
    assert await engine.read(ids) == [1, 3]


async def test_a_caller_that_gives_up_in_the_middle_of_a_batch_does_not_keep_the_rest_from_their_answers(
    engine: Engine,
) -> None:
    before = Gate(engine)
    await before.entered()
    inside = Gate(engine)  # the first of the next batch
    second = asyncio.ensure_future(engine.tx(insert(2)))
    await asyncio.sleep(0)
    before.open()
    await inside.entered()
    inside.task.cancel()
    await asyncio.wait([inside.task])
    inside.open()
    assert await asyncio.wait_for(second, 20) == 2


async def test_a_full_queue_refuses_instead_of_growing(where: Where) -> None:
    async with Engine.open(where("broker"), migrate=create, max_waiting=2) as engine:
        gate = Gate(engine)
        await gate.entered()
        accepted = [asyncio.ensure_future(engine.tx(insert(n))) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(StoreBusy):
            await engine.tx(insert(3))
        gate.open()
        assert [await task for task in accepted] == [1, 2]
        assert await engine.tx(insert(3)) == 3


async def test_closing_finishes_what_waits_and_refuses_the_rest(where: Where) -> None:
    engine = Engine.open(where("broker"), migrate=create)
    gate = Gate(engine)
    await gate.entered()
    waiting = asyncio.ensure_future(engine.tx(insert(1)))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(engine.close())
    gate.open()
    await closing
    assert await waiting == 1
    with pytest.raises(StoreClosed):
        await engine.tx(insert(2))
    with pytest.raises(StoreClosed):
        await engine.read(ids)
    await engine.close()
    async with Engine.open(where("broker")) as again:
        assert await again.read(ids) == [1]


async def test_a_reader_cannot_write(engine: Engine) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=r"readonly|read-only"):
        await engine.read(insert(1))
    assert await engine.read(ids) == []


async def test_a_reader_sees_one_snapshot_while_others_write(engine: Engine) -> None:
    seen, written = threading.Event(), threading.Event()

    def twice(connection: sa.Connection) -> tuple[list[int], list[int]]:
        before = ids(connection)
        seen.set()
        written.wait(20)
        return before, ids(connection)

    reading = asyncio.ensure_future(engine.read(twice))
    await asyncio.to_thread(seen.wait, 20)
    await engine.tx(insert(1))
    written.set()
    assert await reading == ([], [])
    assert await engine.read(ids) == [1]


async def test_an_open_result_does_not_leave_its_thread(engine: Engine) -> None:
    with pytest.raises(TypeError, match="open result"):
        await engine.tx(lambda connection: connection.execute(rows.select()))
    with pytest.raises(TypeError, match="open result"):
        await engine.read(lambda connection: connection.execute(rows.select()))


async def test_an_exception_that_a_future_cannot_carry_still_reaches_its_caller(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await engine.tx(lambda _connection: next(iter(())))


async def test_a_commit_waits_for_the_disk(sqlite: Engine) -> None:
    """Only a power cut would show it: WAL with synchronous=FULL (2) flushes the log at each commit."""
    pragmas = ("journal_mode", "synchronous")
    found = await sqlite.tx(lambda c: [c.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() for pragma in pragmas])
    assert found == ["wal", 2]


async def test_foreign_keys_are_enforced(engine: Engine) -> None:
    with pytest.raises((sa.exc.IntegrityError, StoreError), match=r"(?i)foreign key constraint"):
        await engine.tx(lambda connection: connection.execute(deferred.insert(), {"id": 1, "parent": 99}).close())


WRITER = """
import asyncio, sys
from pathlib import Path
from broker.storage.engine import Engine

async def write(engine, lane):
    number = lane
    while True:
        await engine.tx(lambda c, n=number: c.exec_driver_sql("INSERT INTO rows VALUES (?)", (n,)).close())
        sys.stdout.write(f"{number}\\n"); sys.stdout.flush()
        number += 8

async def main():
    engine = Engine.open(Path(sys.argv[1]),
                         migrate=lambda c: c.exec_driver_sql("CREATE TABLE rows (id INTEGER PRIMARY KEY)").close())
    await asyncio.gather(*(write(engine, lane) for lane in range(8)))

asyncio.run(main())
"""


def write_until_killed(path: Path) -> list[int]:
    """The rows that a writing process had acknowledged when it was killed."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(200)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()
    return acknowledged


async def test_every_acknowledged_row_survives_kill_9(tmp_path: Path) -> None:
    acknowledged = await asyncio.to_thread(write_until_killed, tmp_path / "broker.db")
    async with Engine.open(tmp_path / "broker.db") as engine:  # the dead process's lock is gone, too
        kept = await engine.read(ids_of_any_table)
    assert len(acknowledged) >= 200
    assert set(acknowledged) <= set(kept)


def ids_of_any_table(connection: sa.Connection) -> list[int]:
    return list(connection.exec_driver_sql("SELECT id FROM rows").scalars())


DISK_FULL = """
import asyncio, os, resource, sys
from pathlib import Path
from broker.storage.engine import Engine
from broker.storage.errors import StoreError

def put(number, size):
    return lambda c: c.exec_driver_sql("INSERT INTO rows VALUES (?, ?)", (number, os.urandom(size))).close()

async def main():
    path = Path(sys.argv[1])
    engine = Engine.open(path,
                         migrate=lambda c: c.exec_driver_sql("CREATE TABLE rows (id INTEGER PRIMARY KEY, b)").close())
    await engine.tx(put(1, 10))
    limit = os.path.getsize(str(path) + "-wal") + 20_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    results = await asyncio.gather(*(engine.tx(put(n, 8_000)) for n in range(2, 12)), return_exceptions=True)
    failed = [n for n, result in zip(range(2, 12), results) if result is not None]
    assert failed and all(type(result) is StoreError for result in results if result is not None), results
    assert all("disk I/O error" in str(r) or "full" in str(r) for r in results if r is not None), results
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await engine.tx(put(99, 10))
    kept = set(await engine.read(lambda c: list(c.exec_driver_sql("SELECT id FROM rows").scalars())))
    assert kept == {1, 99} | (set(range(2, 12)) - set(failed)), kept
    await engine.close()
    print("kept the promise")

asyncio.run(main())
"""


def test_when_the_disk_is_full_callers_are_told_nothing_is_half_applied_and_work_resumes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(tmp_path / "broker.db")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "kept the promise\n", "")


async def test_a_second_opener_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    first = Engine.open(path)
    with pytest.raises(StoreError, match=rf"broker\.db: another broker uses this database \(process {os.getpid()}\)"):
        Engine.open(path)
    other = tmp_path / "link"
    other.symlink_to(path)
    with pytest.raises(StoreError, match="another broker"):  # by whatever name
        Engine.open(other)
    await first.close()
    await Engine.open(path).close()


async def test_the_database_is_readable_by_its_owner_only(sqlite: Engine) -> None:
    await sqlite.tx(insert(1))
    for suffix in ("", "-wal", "-shm", ".lock"):
        assert os.stat(sqlite.name + suffix).st_mode & 0o077 == 0, suffix


def refusal(path: Path, **arguments: Any) -> str:
    with pytest.raises(StoreError) as caught:
        Engine.open(path, **arguments)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere" / "broker.db")
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_in_the_place_of_the_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broker.db").mkdir()
    assert "Is a directory" in refusal(tmp_path / "broker.db")


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As root, permissions bind nobody: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


def test_a_read_only_directory_is_refused(public_directory: Path) -> None:
    public_directory.chmod(0o555)
    with unprivileged():
        assert "Permission denied" in refusal(public_directory / "broker.db")


def test_a_read_only_database_is_refused(public_directory: Path) -> None:
    path = public_directory / "broker.db"
    asyncio.run(Engine.open(path).close())
    path.chmod(0o444)
    path.with_name("broker.db.lock").chmod(0o666)
    public_directory.chmod(0o777)
    with unprivileged():
        assert "Permission denied" in refusal(path)


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    path.write_text("Dear diary\n" * 1000)
    assert "file is not a database" in refusal(path)
    assert path.read_text() == "Dear diary\n" * 1000


async def test_a_corrupted_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    async with Engine.open(path, migrate=create) as engine:
        await engine.tx(
            lambda connection: connection.execute(
                rows.insert(), [{"id": n, "text": "x" * 500} for n in range(200)]
            ).close()
        )
    content = bytearray(path.read_bytes())
    for page in range(4, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    path.write_bytes(content)
    message = refusal(path)
    assert "corrupted" in message or "malformed" in message


def test_a_refused_database_is_not_left_locked(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    path.write_text("not a database, for sure" * 100)
    refusal(path)
    assert "file is not a database" in refusal(path)


async def test_a_failed_migration_is_undone_and_named(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"

    def half(connection: sa.Connection) -> None:
        create(connection)
        connection.exec_driver_sql("CREATE TABLE rows (id INTEGER)")

    assert "the migration failed and was undone: table rows already exists" in refusal(path, migrate=half)
    async with Engine.open(path) as engine:
        assert await engine.read(lambda connection: sa.inspect(connection).get_table_names()) == []


async def test_a_migration_that_breaks_a_reference_is_undone(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"

    def orphan(connection: sa.Connection) -> None:
        create(connection)
        connection.execute(deferred.insert(), {"id": 1, "parent": 99})

    assert "row 1 of table deferred refers to a missing row of parents" in refusal(path, migrate=orphan)
    async with Engine.open(path, migrate=create) as engine:
        assert await engine.read(lambda connection: list(connection.scalars(sa.select(deferred.c.id)))) == []


@dataclass(frozen=True)
class Library:
    sqlite_version_info: tuple[int, ...]


@pytest.mark.parametrize("version", [(3, 51, 3), (3, 51, 10), (3, 52, 0), (3, 50, 7), (3, 44, 6), (4, 0, 0)])
def test_a_sqlite_library_that_keeps_commits_is_accepted(version: tuple[int, ...]) -> None:
    assert has_safe_wal(version)


@pytest.mark.parametrize(
    "version", [(3, 51, 2), (3, 51, 0), (3, 50, 6), (3, 49, 9), (3, 45, 0), (3, 44, 5), (3, 40, 1)]
)
def test_a_sqlite_library_that_can_lose_commits_is_refused(tmp_path: Path, version: tuple[int, ...]) -> None:
    with pytest.raises(StoreError, match=rf"found: {'[.]'.join(map(str, version))}.*can lose commits"):
        Engine.open(tmp_path / "broker.db", drivers=(Library(version),))


def test_the_interpreters_library_is_used_when_it_is_new_enough() -> None:
    old, new = Library((3, 40, 1)), Library((3, 53, 0))
    assert choose_driver([old, new]) is new
    assert choose_driver([new, old]) is new
