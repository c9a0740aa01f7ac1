"""The least that has to be done for an order: the same calls, sizes and durable commits, and nothing else.

    python benchmarks/peers/bare.py PLAN

PLAN is JSON (see `Plan`). A server of raw bytes over TLS: `Reserve` and `Commit` record what they are about to do, call the
level below beside what its own domain records, record the result, and answer. After a commit the rest of the records
follows, from below upwards, told by a stream. Each record is one durable transaction, with group commit.
Answers lines on stdin as `node.py` does.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

SERVICE = "bare.Tree"


@dataclass(frozen=True)
class Plan:
    """`below`: address and CA of each program below. `domains`: how many own domains record too. `settle`: how many records
    follow a commit. Sizes in bytes. `store`: a file of SQLite, or the URL of a PostgreSQL database."""

    listen: str
    below: list[tuple[str, str]]
    domains: int
    settle: int
    answer_bytes: int
    request_bytes: dict[str, int]
    document_bytes: int
    token_bytes: int
    store: str
    certificate: str
    key: str
    ca: str
    client_ca: str
    client: str
    client_key: str


Write = Callable[[list[str]], None]
"""Records these refs in one durable transaction."""


def sqlite(path: str, document: bytes) -> tuple[Write, Callable[[], None]]:
    """How it is written and closed. WAL, synchronous=FULL."""
    store = sqlite3.connect(path, isolation_level=None)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("PRAGMA synchronous=FULL")
    store.execute("CREATE TABLE orders (ref TEXT PRIMARY KEY, document BLOB)")
    store.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT)")

    def write(refs: list[str]) -> None:
        store.execute("BEGIN IMMEDIATE")
        for ref in refs:
            store.execute("INSERT OR REPLACE INTO orders VALUES (?, ?)", (ref, document))
            store.execute("INSERT INTO events (ref) VALUES (?)", (ref,))
        store.execute("COMMIT")

    return write, store.close


def postgresql(url: str, document: bytes) -> tuple[Write, Callable[[], None]]:
    """The same; all of a transaction goes to the server at once."""
    import psycopg

    line = psycopg.connect(url, autocommit=True)
    line.execute("CREATE TABLE orders (ref text PRIMARY KEY, document bytea)")
    line.execute("CREATE TABLE events (seq bigserial PRIMARY KEY, ref text)")
    order = (
        "INSERT INTO orders VALUES (%s, %s) ON CONFLICT (ref) DO UPDATE SET document = excluded.document"  # as REPLACE
    )

    def write(refs: list[str]) -> None:
        with line.pipeline(), line.transaction():
            for ref in refs:
                line.execute(order, (ref, document))
                line.execute("INSERT INTO events (ref) VALUES (%s)", (ref,))

    return write, line.close


class Store:
    """One writer thread, group commit."""

    def __init__(self, path: str, document_bytes: int) -> None:
        self.commits = self.transactions = 0
        self._path, self._document = path, b"x" * document_bytes
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    async def record(self, ref: str) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        with self._changed:
            self._waiting.append((ref, future))
            self._changed.notify()
        await future

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        opened = postgresql if self._path.startswith("postgresql://") else sqlite
        write, close = opened(self._path, self._document)
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    break
                batch, self._waiting = self._waiting, []
            write([ref for ref, _ in batch])
            self.commits += 1
            self.transactions += len(batch)
            self._loop.call_soon_threadsafe(_resolve, [future for _, future in batch])
        close()


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class Level:
    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan, self._store = plan, store
        self._readers: set[asyncio.Queue[str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: list[dict[str, Any]] = []
        self._told: dict[str, int] = {}
        self._metadata = (("authorization", "Bearer " + "x" * plan.token_bytes),)
        self.following = [asyncio.Event() for _ in plan.below]
        for (address, ca), following in zip(plan.below, self.following, strict=True):
            credentials = grpc.ssl_channel_credentials(*map(_bytes, (ca, plan.client_key, plan.client)))
            channel = grpc.aio.secure_channel(address, credentials)
            self._calls.append({m: channel.unary_unary(f"/{SERVICE}/{m}") for m in ("Reserve", "Commit")})
            self._spawn(self._follow(channel.unary_stream(f"/{SERVICE}/Watch"), following))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, watch: Any, following: asyncio.Event) -> None:
        async for message in watch(b"", metadata=self._metadata, wait_for_ready=True):
            if not message:
                following.set()
                continue
            ref = message[:36].decode()
            self._told[ref] = self._told.get(ref, 0) + 1
            if self._told[ref] == len(self._plan.below):
                del self._told[ref]
                self._spawn(self._settle(ref))

    async def _settle(self, ref: str) -> None:
        for _ in range(self._plan.settle):
            await self._store.record(ref)
        for reader in self._readers:
            reader.put_nowait(ref)

    def answer(self, method: str) -> Any:
        async def call(request: bytes, context: Any) -> bytes:
            ref = request[:36].decode()
            await self._store.record(ref)
            await asyncio.gather(*self._below(method, ref))
            await self._store.record(ref)
            if method == "Commit" and not self._plan.below:
                self._spawn(self._settle(ref))
            return b"y" * self._plan.answer_bytes

        return call

    def _below(self, method: str, ref: str) -> list[Any]:
        request = ref.encode().ljust(self._plan.request_bytes[method], b"z")
        calls: list[Any] = [calls[method](request, metadata=self._metadata) for calls in self._calls]
        return calls + [self._store.record(f"{ref}/{n}") for n in range(self._plan.domains)]

    async def watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._readers.add(queue)
        yield b""  # from here on nothing is missed
        while True:
            yield (await queue.get()).encode().ljust(self._plan.answer_bytes, b"e")


def _bytes(file: str) -> bytes:
    return Path(file).read_bytes()


async def main(plan: Plan) -> None:
    store = Store(plan.store, plan.document_bytes)
    level, stopping, loop = Level(plan, store), asyncio.Event(), asyncio.get_running_loop()
    server = grpc.aio.server()
    handlers = {m: grpc.unary_unary_rpc_method_handler(level.answer(m)) for m in ("Reserve", "Commit")}
    handlers["Watch"] = grpc.unary_stream_rpc_method_handler(level.watch)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    pair = [(_bytes(plan.key), _bytes(plan.certificate) + _bytes(plan.ca))]
    roots = _bytes(plan.client_ca) if plan.client_ca else None
    server.add_secure_port(plan.listen, grpc.ssl_server_credentials(pair, roots, roots is not None))
    await server.start()

    def told() -> None:
        if not sys.stdin.readline():
            loop.remove_reader(sys.stdin)
            stopping.set()
        else:
            print(json.dumps({"commits": store.commits, "transactions": store.transactions}), flush=True)

    await asyncio.gather(*(following.wait() for following in level.following))
    loop.add_reader(sys.stdin, told)
    await stopping.wait()
    await server.stop(0)
    store.close()


if __name__ == "__main__":
    asyncio.run(main(Plan(**json.loads(sys.argv[1]))))
