"""A node in a process of its own (`nursery`) that dies where it is told.

Rules kept here
- It is wired as `spbroker serve` wires a node. What differs comes from outside, as parts of the node: a store, drivers and
  clients of suppliers that go through points (`crashing`), and a clock that the harness moves.
- Death is SIGKILL to itself, at the point: nothing is flushed, closed or told.
- What a domain has built outlives the process, in a file, as bridges and namespaces do.

It is asked by lines of JSON on its stdin and answers each with one on its stdout (`Answers`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
import structlog
from sqlalchemy import func, select

from broker.accounts.founding import read_keys
from broker.bootstrap.node import Connect, ConnectManager, Parts, managers_over_grpc
from broker.settings.administered import SupplierDoc
from broker.settings.process import Database
from broker.storage import tables
from broker.storage.engine import Engine
from broker.storage.migrations import migrate
from capability_registry.note import CapabilityNote
from lower_sp_clients.supplier import Supplier
from lower_sp_clients.vim.accounting import TAKES
from lower_sp_clients.vim.driver import Blueprint, Driver, DriverError, SapPort
from lower_sp_clients.vim.simulated import SimulatedDriver
from lower_sp_clients.vim.simulated_domain import Domain
from service_model.outcomes import ServiceState
from tests.support.crashing import METHODS, CrashingDriver, Mishap, Points, calls, written
from tests.support.faults import FaultySupplier
from tests.support.nodes import MovedClock, RealNode
from tests.support.scripted_manager import AskedAtPoints

T = TypeVar("T")
LEASE = timedelta(seconds=2)
"""After which one process takes over what another had, which has died."""


class Armed(Points):
    """A mishap at the `nth` (from 0) of the effects that are `what`: in which order other effects come does not matter."""

    def __init__(self, what: str = "", nth: int = 0, mishap: Mishap = Mishap.DIES_BEFORE) -> None:
        super().__init__(mishap=mishap)
        self.what, self.nth, self.came = what, nth, False
        self.counts = True

    def meets(self, what: str) -> Mishap | None:
        if what != self.what or self.seen.count(what) != self.nth:
            return None
        self.came = True
        return self.mishap

    async def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class MortalStore(Engine):
    """The engine that it is, with its thread and its group commit; its writes are points."""

    points: Callable[[], Points]

    async def tx(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        return await self.points().through(written(work), partial(super().tx, work))


class LastingDriver(SimulatedDriver):
    """A domain whose infrastructure is in `file`, as whichever process had it last left it."""

    def __init__(self, saps: Sequence[SapPort], file: Path) -> None:
        self._file, self._read = file, 0
        self._known, self._gone = Domain(), set[str]()
        super().__init__(saps)

    @property
    def _domain(self) -> Domain:
        self._look()
        return self._known

    @_domain.setter
    def _domain(self, domain: Domain) -> None:
        self._known = domain

    @property
    def _ruined(self) -> set[str]:
        """Segments that cannot be built any more."""
        self._look()
        return self._gone

    def _look(self) -> None:
        if not self._file.exists() or self._read == (written := self._file.stat().st_mtime_ns):
            return
        built, self._gone = pickle.loads(self._file.read_bytes())
        self._known, self._read = Domain(), written
        for blueprint in built:
            self._known.replace(blueprint)

    async def remove(self, segment: str) -> None:
        await super().remove(segment)
        self._keep()

    async def apply(self, blueprint: Blueprint) -> None:
        if blueprint.segment in self._ruined:
            raise DriverError("what it was on is gone")
        await super().apply(blueprint)
        self._keep()

    def lose(self, segment: str, function: str = "") -> None:
        super().lose(segment, function)
        self._keep()

    def ruin(self, segment: str) -> None:
        """It is lost for good."""
        self._ruined.add(segment)
        if segment in self.segments:
            super().lose(segment)
        self._keep()

    def _keep(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_bytes(pickle.dumps((list(self._known.built.values()), self._gone)))
        fresh.replace(self._file)
        self._read = self._file.stat().st_mtime_ns


class Answers:
    """What a node in its process is asked by the harness."""

    def __init__(self, directory: Path, people: int, partners: int, ahead: float) -> None:
        self.points: Points = Armed()
        self.clock = MovedClock()
        self.clock.move(ahead)
        self._ahead = ahead
        self._drivers: list[LastingDriver] = []
        self.node = RealNode(directory, self.clock, people, partners, made_of=self._made_of)

    def _made_of(self, parts: Parts) -> Parts:
        return replace(
            parts,
            open_store=self._store,
            make_driver=self._driver,
            connect=self._through(parts.connect),
            lease=LEASE,
            manage=self._asked(managers_over_grpc(read_keys(self.node.layout))),
        )

    def _store(self, where: Path | Database) -> Engine:
        store = MortalStore.open(where, migrate=migrate)
        store.points = lambda: self.points
        return store

    def _driver(self, kind: str, domain: str, saps: Sequence[SapPort]) -> Driver:
        file = self.node.directory / f"{domain}.built"
        self._drivers.append(LastingDriver(saps, file))
        return CrashingDriver(self._drivers[-1], domain, lambda: self.points)

    def _through(self, connect: Connect) -> Connect:
        def connected(doc: SupplierDoc, verify: Callable[[str], CapabilityNote]) -> Supplier:
            supplier = connect(doc, verify)
            line = FaultySupplier(lambda: supplier, asyncio.Event)
            line.always = {m: calls(doc.name, m, lambda: self.points) for m in METHODS}
            return line

        return connected

    def _asked(self, connect: ConnectManager) -> ConnectManager:
        return lambda doc: AskedAtPoints(connect(doc), lambda: self.points)

    async def arm(self, what: str = "", nth: int = 0, mishap: str = Mishap.DIES_BEFORE) -> None:
        """From now on effects are counted; and this happens."""
        self.points = Armed(what, nth, Mishap(mishap))
        self.points.later = lambda: self.clock.sleep(45)

    async def seen(self) -> list[str]:
        """The effects since it was armed."""
        return self.points.seen

    async def came(self) -> bool:
        """Whether it happened."""
        return isinstance(self.points, Armed) and self.points.came

    async def ahead(self, seconds: float) -> None:
        """So far before the system's time it is here."""
        self.clock.move(seconds - self._ahead)
        self._ahead = seconds

    async def leads(self) -> bool:
        """Whether it is the replica that works on its own domains."""
        return self.node.node.broker.claims.leads()

    async def left(self) -> list[str]:
        """What it still has or is about to do, in words; and what is wrong with its books."""
        node = self.node.node
        inventory = await node.admin.inventory()
        found = [f"{a.pool} {a.value} {a.state.short}" for a in inventory.allocations]
        found += [f"hold {h.account}/{h.ref}" for h in inventory.holds]
        found += [f"{i.kind} {i.name} of {i.segment}" for i in inventory.items]
        found += [d.message for d in inventory.discrepancies]
        return found + [str(work) for work in node.broker.unfinished()]

    async def doubled(self) -> list[str]:
        """What is charged more than once at the same price: a newer version may have another."""
        c = tables.charges.c
        what = (c.side, c.service, c.segment, c.kind, c.per_hour)
        query = select(*what).group_by(*what).having(func.count() > 1)
        return [str(tuple(row)) for row in await self.node.node.engine.read(lambda db: db.execute(query).all())]

    async def lapsed(self) -> list[str]:
        """Holds of our domains that ended by themselves."""
        holds = [hold for vim in self.node.node.vims() for hold in vim.holds()]
        return [h.ref for h in holds if h.state is ServiceState.EXPIRED and h.released_upto < h.version]

    async def charged(self, account: str, ref: str) -> int:
        """How many charges there are of one service."""
        (id,) = (o.id for o in self.node.node.broker.orders() if (o.account, o.ref) == (account, ref))
        query = select(func.count()).where(tables.charges.c.service == id)
        return int(await self.node.node.engine.read(lambda db: db.execute(query).scalar_one()))

    async def order(self, account: str, ref: str) -> dict[str, Any]:
        """An order of ours, and what our own domains have of it."""
        node = self.node.node
        (order,) = (o for o in node.broker.orders() if (o.account, o.ref) == (account, ref))
        vims = {vim.domain.name: vim for vim in node.vims()}
        parts = []
        for segment in order.segments:
            part: dict[str, Any] = {"alias": segment.alias, "ref": segment.ref, "own": segment.alias in vims}
            if vim := vims.get(segment.alias):
                part["states"] = [hold.state.short for hold in vim.holds() if hold.ref == segment.ref]
                part["bandwidth"] = [h.spec.bandwidth_bps for h in vim.holds() if h.ref == segment.ref and h.spec]
                part["built"] = any(item.segment == segment.ref for item in await vim.inventory())
            parts.append(part)
        return {"state": order.state.short, "parts": parts}

    async def functions(self, segment: str) -> list[str]:
        """Those that are built of a part of ours."""
        return [f.id for d in self._drivers if segment in d.segments for f in d.blueprint(segment).functions]

    async def whole(self, segment: str, functions: list[str]) -> bool:
        """Whether a part of ours has these, and is known as active."""
        active = any(
            h.ref == segment and h.state is ServiceState.ACTIVE for v in self.node.node.vims() for h in v.holds()
        )
        return active and await self.functions(segment) == functions

    async def sizes(self, segment: str) -> list[tuple[str | None, int]]:
        """Of the functions of a part of ours: the flavour that was asked for, and the units that are taken."""
        holds = [h for vim in self.node.node.vims() for h in vim.holds() if h.ref == segment and h.state in TAKES]
        return [(f.flavour, h.units[f.id]) for h in holds if h.spec for f in h.spec.functions]

    async def lose(self, segment: str, function: str) -> None:
        """A function goes by itself; nothing where it is gone."""
        for driver in self._drivers:
            if segment in driver.segments and function in await self.functions(segment):
                driver.lose(segment, function)

    async def ruin(self, segment: str) -> None:
        """A part of ours is lost for good."""
        for driver in self._drivers:
            driver.ruin(segment)

    async def stop(self) -> None:
        await self.node.close()


async def serve(answers: Answers) -> None:
    await answers.node.open()
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print(json.dumps("serving"), flush=True)
    while line := await commands.readline():
        name, given = json.loads(line)
        await answers.node.node.broker.claims.catch_up()
        print(json.dumps(await getattr(answers, name)(**given)), flush=True)
        if name == "stop":
            return


def main(directory: str, people: str, partners: str, ahead: str) -> None:
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    asyncio.run(serve(Answers(Path(directory), int(people), int(partners), float(ahead))))
