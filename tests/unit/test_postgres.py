"""What PostgreSQL adds to the store's promises: several processes, lines that break, answers that are lost."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.bootstrap.founding import NotFounded
from broker.settings.process import Database
from broker.storage.engine import Engine
from broker.storage.errors import StoreError
from broker.storage.hints import Hints
from broker.storage.migrations import migrate
from broker.storage.postgres import STANDSTILL_S
from broker.storage.statements import Prepared, Script, adding
from tests.support.lost_answer import lost_answer
from tests.support.nodes import found_at
from tests.support.postgres import Server

metadata = sa.MetaData()
rows = sa.Table("rows", metadata, sa.Column("seq", sa.Integer, primary_key=True), sa.Column("text", sa.String))


def create(connection: sa.Connection) -> None:
    metadata.create_all(connection)


def insert(text: str) -> Callable[[sa.Connection], int]:
    return lambda connection: int(connection.execute(rows.insert().returning(rows.c.seq), {"text": text}).scalar_one())


def texts(connection: sa.Connection) -> list[str]:
    return list(connection.scalars(sa.select(rows.c.text).order_by(rows.c.seq)))


@pytest.fixture
def database(postgres: Server) -> Database:
    return postgres.new()


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[Engine]:
    async with Engine.open(database, migrate=create) as opened:
        yield opened


async def test_what_one_process_counts_is_never_seen_after_a_later_number_of_another(
    engine: Engine, database: Database
) -> None:
    """A number that was given and not committed yet would be missed by whoever reads on behind the highest."""
    inside, go = threading.Event(), threading.Event()

    def slow(connection: sa.Connection) -> int:
        number = insert("first")(connection)
        inside.set()
        go.wait(20)
        return number

    async with Engine.open(database, migrate=create) as other:
        first = asyncio.ensure_future(engine.tx(slow))
        await asyncio.to_thread(inside.wait, 20)
        second = asyncio.ensure_future(other.tx(insert("second")))
        seen = await other.read(texts)
        go.set()
        assert (seen, await first, await second) == ([], 1, 2)
        assert await engine.read(texts) == ["first", "second"]


async def test_functions_of_two_processes_that_touch_the_same_rows_never_wait_for_each_other(
    engine: Engine, database: Database
) -> None:
    """Batches with row locks taken in two orders would be a deadlock, which the server ends by failing one."""
    async with Engine.open(database) as other:
        for number in range(2):
            await engine.tx(insert(str(number)))

        def touch(seq: int) -> Callable[[sa.Connection], None]:
            change = rows.update().where(rows.c.seq == seq).values(text=rows.c.text + "x")
            return lambda connection: connection.execute(change).close()

        works = [
            (e, touch(seq)) for _ in range(50) for e, order in ((engine, (1, 2)), (other, (2, 1))) for seq in order
        ]
        await asyncio.gather(*(e.tx(work) for e, work in works))
    assert await engine.read(texts) == ["0" + "x" * 100, "1" + "x" * 100]


async def test_lines_that_the_server_ended_are_made_anew(engine: Engine, postgres: Server, database: Database) -> None:
    await engine.tx(insert("before"))
    name = str(database).rpartition("/")[2]
    postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert await engine.read(texts) == ["before"]
    await engine.tx(insert("after"))
    assert await engine.read(texts) == ["before", "after"]


async def test_a_line_that_ends_within_a_transaction_fails_its_callers_and_applies_nothing(
    engine: Engine, postgres: Server
) -> None:
    def ended(connection: sa.Connection) -> None:
        insert("lost")(connection)
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        postgres.run(f"SELECT pg_terminate_backend({pid})")
        insert("never")(connection)

    with pytest.raises(StoreError, match=r"was not applied"):
        await engine.tx(ended)
    assert await engine.read(texts) == []
    await engine.tx(insert("after"))


async def test_a_commit_whose_answer_was_lost_counts_as_what_it_was(postgres: Server, database: Database) -> None:
    with tempfile.TemporaryDirectory() as folder, lost_answer(Path(folder), postgres.folder) as line:
        through = Database(database.url.replace(str(postgres.folder), folder))
        async with Engine.open(through, migrate=create) as engine:
            line.armed.set()
            assert await engine.tx(insert("kept")) == 1
            assert line.lost == 1
            assert await engine.read(texts) == ["kept"]
            assert await engine.tx(insert("next")) == 2


@pytest.mark.parametrize(("kept", "is_"), [("off", "on"), ("remote_apply", "remote_apply")])
async def test_a_commit_is_on_disk_when_it_is_answered_whatever_the_server_does_for_others(
    postgres: Server, database: Database, kept: str, is_: str
) -> None:
    name = str(database).rpartition("/")[2]
    postgres.run(f"ALTER DATABASE {name} SET synchronous_commit = {kept}")

    def setting(connection: sa.Connection) -> str:
        return str(connection.exec_driver_sql("SHOW synchronous_commit").scalar_one())

    async with Engine.open(database, migrate=create) as engine:
        assert await engine.tx(setting) == is_
        postgres.run(f"SELECT pg_terminate_backend({engine.session})")
        assert await engine.tx(setting) == is_  # on a new line, too


ADD = adding(rows, rows.c.seq)
FIND = Prepared(sa.select(rows.c.text).where(rows.c.seq == sa.bindparam("seq")), [rows.c.seq])


def script(*texts: str) -> Script:
    whole = Script()
    for text in texts:
        whole.add(ADD, {"text": text})
    return whole


async def test_a_script_takes_three_ways_to_the_server_and_back_and_one_prepared_read_takes_one(
    postgres: Server, database: Database
) -> None:
    """The lock, all of the script, the commit. A way costs more than what is done at its end."""
    with tempfile.TemporaryDirectory() as folder, lost_answer(Path(folder), postgres.folder) as line:
        through = Database(database.url.replace(str(postgres.folder), folder))
        async with Engine.open(through, migrate=create) as engine:
            await engine.tx(script(*"abcdefgh"))
            before = line.ways
            await engine.tx(script(*"abcdefgh"))
            assert line.ways - before == 3
            before = line.ways
            assert await engine.read(lambda connection: FIND.all(connection, {"seq": 3})) == [("c",)]
            assert line.ways - before == 1


async def test_scripts_that_wait_together_take_as_many_ways_as_one(postgres: Server, database: Database) -> None:
    with tempfile.TemporaryDirectory() as folder, lost_answer(Path(folder), postgres.folder) as line:
        through = Database(database.url.replace(str(postgres.folder), folder))
        async with Engine.open(through, migrate=create) as engine:
            inside, go = threading.Event(), threading.Event()

            def occupy(connection: sa.Connection) -> None:
                inside.set()
                go.wait(20)

            occupied = asyncio.ensure_future(engine.tx(occupy))
            await asyncio.to_thread(inside.wait, 20)
            before = line.ways
            waiting = asyncio.gather(*(engine.tx(script(text, text)) for text in "abcdefgh"))
            await asyncio.sleep(0)
            go.set()
            await asyncio.gather(occupied, waiting)
            assert line.ways - before == 1 + 3


async def test_a_prepared_statement_cannot_write_where_it_is_read(engine: Engine) -> None:
    with pytest.raises(Exception, match="read-only transaction"):
        await engine.read(lambda connection: ADD.run(connection, {"text": "never"}))
    assert await engine.read(texts) == []


async def test_a_process_is_told_what_others_changed_and_not_what_it_did_itself(database: Database) -> None:
    def change(connection: sa.Connection) -> None:
        now = "2026-01-01T00:00:00.000000+00:00"
        connection.exec_driver_sql(
            f"INSERT INTO changes (at, by, kind, key) VALUES ('{now}', 'a', 'order', 'o')"
        ).close()

    heard = threading.Semaphore(0)
    async with Engine.open(database, migrate=migrate) as mine, Engine.open(database) as other:
        hints = Hints(mine, heard.release)
        try:
            assert await asyncio.to_thread(heard.acquire, timeout=20)  # it listens
            await mine.tx(change)
            await other.tx(change)
            assert await asyncio.to_thread(heard.acquire, timeout=20)
        finally:
            await asyncio.to_thread(hints.close)
    assert not heard.acquire(blocking=False)


async def test_who_stands_still_in_a_transaction_loses_it_and_stops_nobody(database: Database) -> None:
    impatient = Database(f"{database.url}&options=-c idle_in_transaction_session_timeout=200ms")
    inside, go = threading.Event(), threading.Event()

    def stands(connection: sa.Connection) -> None:
        insert("stands")(connection)
        inside.set()
        go.wait(20)
        insert("goes on")(connection)

    assert STANDSTILL_S > 0  # what holds where the URL does not say otherwise
    async with Engine.open(impatient, migrate=create) as standing, Engine.open(database) as other:
        still = asyncio.ensure_future(standing.tx(stands))
        await asyncio.to_thread(inside.wait, 20)
        await asyncio.wait_for(other.tx(insert("passes")), 20)
        go.set()
        with pytest.raises(StoreError):
            await still
        assert await other.read(texts) == ["passes"]


async def test_of_many_that_start_at_once_one_migrates(database: Database) -> None:
    engines = await asyncio.gather(*(asyncio.to_thread(Engine.open, database, migrate=create) for _ in range(4)))
    assert [await e.tx(insert("x")) for e in engines] == [1, 2, 3, 4]
    for each in engines:
        await each.close()


WRITER = """
import asyncio, sys
from broker.settings.process import Database
from broker.storage.engine import Engine

async def write(engine, lane):
    number = lane
    while True:
        await engine.tx(lambda c, n=number: c.exec_driver_sql(f"INSERT INTO rows VALUES ({n}, '')").close())
        sys.stdout.write(f"{number}\\n"); sys.stdout.flush()
        number += 8

async def main():
    engine = Engine.open(Database(sys.argv[1]))
    await asyncio.gather(*(write(engine, lane) for lane in range(1, 9)))

asyncio.run(main())
"""


def write_until_killed(url: str) -> list[int]:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(200)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
    writer.wait()
    writer.stdout.close()
    return acknowledged


async def test_every_acknowledged_row_survives_kill_9(engine: Engine, database: Database) -> None:
    acknowledged = await asyncio.to_thread(write_until_killed, database.url)
    kept = await engine.read(lambda c: set(c.scalars(sa.select(rows.c.seq))))
    assert len(acknowledged) >= 200
    assert set(acknowledged) <= kept
    await engine.tx(lambda c: c.execute(rows.insert(), {"seq": 0, "text": "nobody is in the way"}).close())


def refusal(database: Database) -> str:
    with pytest.raises(StoreError) as caught:
        Engine.open(database)
    return str(caught.value)


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    message = refusal(Database("postgresql://us:s%65cret@127.0.0.1:1/orders"))
    assert message.startswith("postgresql://127.0.0.1:1/orders: cannot open the database: ")
    assert "cret" not in message
    assert "cret" not in repr(Database("postgresql://us:s%65cret@h/d"))


def test_a_database_that_does_not_exist_is_named(postgres: Server) -> None:
    assert 'database "nowhere" does not exist' in refusal(Database(postgres.url("nowhere")))


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: Server) -> None:
    postgres.run("CREATE DATABASE narrow TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    assert "its encoding is SQL_ASCII: UTF8 is needed" in refusal(Database(postgres.url("narrow")))


def test_a_migration_that_fails_is_undone_and_named(database: Database) -> None:
    def half(connection: sa.Connection) -> None:
        create(connection)
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(StoreError, match=r'the migration failed and was undone: relation "nowhere" does not exist'):
        Engine.open(database, migrate=half)
    asyncio.run(Engine.open(database, migrate=create).close())


@pytest.mark.parametrize(
    ("driver", "missing"),
    [
        ("import sys; sys.modules['psycopg'] = None", "the Python package psycopg"),
        ("import psycopg; psycopg.Pipeline.is_supported = lambda: False", "libpq 14 or newer"),
    ],
)
def test_without_a_driver_that_does_it_is_told_what_to_install(driver: str, missing: str) -> None:
    script = (
        f"{driver}\n"
        "from broker.settings.process import Database\n"
        "from broker.storage.engine import Engine\n"
        "Engine.open(Database('postgresql://h/d'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"StoreError: PostgreSQL needs {missing}" in done.stderr
    assert "install spbroker[postgres]" in done.stderr


async def test_a_database_that_has_a_node_is_not_given_to_another(tmp_path: Path, database: Database) -> None:
    await found_at(tmp_path / "first", "first", database)
    with pytest.raises(NotFounded, match="there is a node in this database already"):
        await found_at(tmp_path / "second", "second", database)
    assert not (tmp_path / "second").exists()


async def test_a_database_of_a_newer_release_is_refused_and_nothing_is_advised_that_is_for_files(
    database: Database,
) -> None:
    async with Engine.open(database, migrate=migrate) as engine:
        newer = sa.text("UPDATE alembic_version SET version_num = 'fffffffffff1'")
        await engine.tx(lambda connection: connection.execute(newer).close())
    with pytest.raises(
        StoreError, match=r"newer release \(its revision fffffffffff1 is not known here\): run that release$"
    ):
        Engine.open(database, migrate=migrate)
