"""Real nodes in one process: founded directories, SQLite, TLS on 127.0.0.1, RemoteSp between them.

Rules kept here
- A node is founded as `spbroker init` founds it, and served by the wiring that `spbroker serve` uses.
- It is administered through its AdminPort with documents, as an operator would hand them in.
- Ports are outside the range that outgoing connections take, so that a node that was closed gets its own again.
- Time is the system's, moved on by a test where something has to expire.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from broker.accounts.admin_port import Applied, Inventory
from broker.accounts.founding import Layout, read_keys
from broker.accounts.rotation import KeyFile
from broker.accounts.secrets import Cost, Passwords
from broker.bootstrap.founding import found_node
from broker.bootstrap.node import Node, Parts, over_grpc
from broker.bootstrap.publication import Edition
from broker.bootstrap.serving import CannotServe, listen
from broker.northbound.server import NorthboundServer
from broker.orders.schedules import Workflows
from broker.settings.process import NODE_FILE, Database, Process, load_process
from capability_registry.note import CapabilityNote
from lower_sp_clients.vim.driver import Driver, SapPort
from tests.support.clock import Sleeper
from tests.support.postgres import Where

OPERATOR, OPERATOR_PASSWORD = "operator", "an operator's own"
CHEAP = Cost(passes=1, memory_kib=64, lanes=1)
MakeDriver = Callable[[str, str, Sequence[SapPort]], Driver]
HOST = "127.0.0.1"
PORTS = range(15_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8, 32_000, 8)
"""Workers have ports of their own: a node that is started again finds its one free."""
SETTLED_S = 30.0
"""How long anything may take that has to happen by itself."""

_chance = random.Random()
_given: deque[int] = deque(maxlen=200)


class MovedClock(Sleeper):
    """The system's time and what a test has added to it. `move` wakes whoever slept until then."""

    def __init__(self) -> None:
        self._ahead = timedelta()
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    async def sleep(self, seconds: float) -> None:
        until = self.now() + timedelta(seconds=seconds)
        while (left := (until - self.now()).total_seconds()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._moved.wait()

    def move(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)
        self._moved.set()
        self._moved = asyncio.Event()


def free_port() -> int:
    """A port that nobody listens at, and that was not given lately: who was given one may have closed it for a while."""
    while True:
        port = _chance.choice(PORTS)
        with socket.socket() as sock, suppress(OSError):
            if port not in _given:
                sock.bind((HOST, port))
                _given.append(port)
                return port


async def found_at(directory: Path, sp_id: str, store: Path | Database = Path("broker.db")) -> None:
    """A node's directory with a store, keys and an operator."""
    await found_node(
        directory,
        sp_id=sp_id,
        now=datetime.now(UTC),
        names=(),
        operator=OPERATOR,
        password=OPERATOR_PASSWORD,
        listen=f"{HOST}:0",
        listen_partners=f"{HOST}:0",
        store=store,
        cost=CHEAP,
    )


@dataclass
class RealNode:
    """One SP. `open` and `close` as often as wanted: the directory and the ports stay."""

    directory: Path
    clock: MovedClock
    people: int = field(default_factory=free_port)
    partners: int = field(default_factory=free_port)
    workflows: Workflows = field(default_factory=Workflows)
    running: Node | None = None
    server: NorthboundServer | None = None
    made_of: Callable[[Parts], Parts] = lambda parts: parts
    """What a test puts in the place of a node's parts."""
    built: dict[tuple[str, str], Driver] = field(default_factory=dict)
    """Simulated infrastructure, by its domain and what its SAPs are: as bridges and namespaces do, it outlives the process."""

    @property
    def settings(self) -> Process:
        return load_process(
            self.directory / NODE_FILE,
            {
                "SPBROKER_LISTEN": f"{HOST}:{self.people}",
                "SPBROKER_LISTEN_PARTNERS": f"{HOST}:{self.partners}",
            },
        )

    @property
    def node(self) -> Node:
        assert self.running is not None, "the node is closed"
        return self.running

    @property
    def layout(self) -> Layout:
        return Layout(self.directory)

    @property
    def anchor(self) -> dict[str, Any]:
        """What partners are given."""
        anchor: dict[str, Any] = json.loads(self.layout.anchor.read_text())
        return anchor

    @property
    def endpoint(self) -> str:
        """Where partners connect."""
        return f"{HOST}:{self.partners}"

    async def open(self) -> RealNode:
        settings, keys, passwords = self.settings, read_keys(self.layout), Passwords(CHEAP)
        parts = Parts(
            clock=self.clock,
            connect=over_grpc(keys, self.clock),
            passwords=passwords,
            workflows=self.workflows,
        )
        parts = self.made_of(parts)
        parts = replace(parts, make_driver=self._lasting(parts.make_driver))
        node = Node(settings.sp_id, settings.store, keys, parts, KeyFile(self.layout.note_key).current)
        await node.open()
        try:
            self.server = await listen(node, settings, keys, passwords, self.clock)
        except CannotServe:
            await node.close()
            raise
        await self.server.set_health(True)
        self.running = node
        return self

    def _lasting(self, make: MakeDriver) -> MakeDriver:
        def made(kind: str, domain: str, saps: Sequence[SapPort]) -> Driver:
            if kind != "simulated":
                return make(kind, domain, saps)
            key = domain, repr(saps)
            if key not in self.built:
                self.built[key] = make(kind, domain, saps)
            return self.built[key]

        return made

    async def close(self) -> None:
        """As SIGTERM would; nothing if it is closed."""
        server, node = self.server, self.running
        self.server = self.running = None
        if server is not None:
            await server.stop(0.5)
        if node is not None:
            await node.close()

    async def restart(self) -> None:
        await self.close()
        await self.open()

    async def apply(self, *documents: Mapping[str, Any], prune: bool = False) -> Applied:
        return await self.node.admin.apply(documents, dry_run=False, prune=prune, reason="a test", actor=OPERATOR)

    async def administer(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Apply what has to be right."""
        applied = await self.apply(*documents)
        assert applied.applied, [(c.kind, c.name, c.problems) for c in applied.changes if c.problems]

    async def inventory(self) -> Inventory:
        return await self.node.admin.inventory()

    async def announced(self, account: str, a: str, b: str) -> CapabilityNote:
        """Our note for `account` as soon as it has a way between these two SAPs."""
        async with asyncio.timeout(SETTLED_S):
            async for signed in self.node.notes_for(account):
                if any({entry.a, entry.b} == {a, b} for entry in signed.note.matrix):
                    return signed.note
        raise AssertionError("the notes ended")

    async def note_after(self, account: str, edition: int) -> Edition:
        """Our first note for `account` that is newer than `edition`."""
        async with asyncio.timeout(SETTLED_S):
            async for signed in self.node.notes_for(account):
                if signed.edition > edition:
                    return signed
        raise AssertionError("the notes ended")

    def stored(self) -> bytes:
        """Every byte of the database's files."""
        return b"".join(file.read_bytes() for file in sorted(self.directory.glob("broker.db*")))


@dataclass
class Nodes:
    """Nodes below one folder that share a clock. `founded` has directories made before, by sp_id: they are copied. Not so
    where the stores are databases elsewhere, which `where` tells."""

    folder: Path
    founded: Path | None = None
    where: Where | None = None
    clock: MovedClock = field(default_factory=MovedClock)
    by_id: dict[str, RealNode] = field(default_factory=dict)
    twins: list[RealNode] = field(default_factory=list)

    async def add(self, sp_id: str) -> RealNode:
        directory = self.folder / sp_id / "data"
        ready = self.founded / sp_id if self.founded is not None else None
        if self.where is not None:
            await found_at(directory, sp_id, self.where(sp_id))
        elif ready is not None and ready.is_dir():
            shutil.copytree(ready, directory)
        else:
            await found_at(directory, sp_id)
        return await self.open(RealNode(directory, self.clock))

    async def twin(self, sp_id: str) -> RealNode:
        """Another process's worth of the same node: its directory and database, with ports of its own."""
        twin = RealNode(self[sp_id].directory, self.clock, built=self[sp_id].built)
        self.twins.append(twin)
        return await twin.open()

    async def open(self, node: RealNode) -> RealNode:
        """Open a new node, on other ports if its own were taken meanwhile."""
        for last in (False, False, True):
            try:
                await node.open()
                break
            except CannotServe:
                if last:
                    raise
                node.people, node.partners = free_port(), free_port()
        self.by_id[node.settings.sp_id] = node
        return node

    async def close(self) -> None:
        """All at once: each gives its last callers a moment."""
        await asyncio.gather(*(node.close() for node in (*self.twins, *self.by_id.values())))

    def __getitem__(self, sp_id: str) -> RealNode:
        return self.by_id[sp_id]
