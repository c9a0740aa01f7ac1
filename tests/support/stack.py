"""Brokers stacked in one process: real stores, simulated domains (`sites`), a clock that stands still.

Between a broker and each of its suppliers lies a FaultySupplier: `stack.line(broker, alias)`.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Self

from broker.bootstrap.planning import FEW_WAYS, Planning
from broker.bootstrap.restored_node import RestoredNode
from broker.decompose.derive import derive
from broker.decompose.lexicon import lexicon
from broker.orders.broker import AccountView, Broker
from broker.orders.catalogue import Catalogue, Listing
from broker.orders.engine import WATCHER_BEHIND
from broker.orders.offers import FEATURES
from broker.orders.records import QUOTED, Terms
from broker.orders.schedules import Workflows
from broker.orders.tasks import STUCK_AFTER
from broker.settings.process import Database
from broker.storage.books import SqlHoldBook, SqlOrderBook, epoch_of
from broker.storage.engine import Engine
from broker.storage.migrations import migrate
from broker.storage.quote_book import SqlQuoteBook
from broker.storage.restored import SqlRestored
from capability_registry.abstraction import abstracted
from capability_registry.note import CapabilityNote
from lower_sp_clients.quotes import STANDING
from lower_sp_clients.service_manager import ServiceManager
from lower_sp_clients.supplier import OutcomeUnknown, Supplier
from lower_sp_clients.vim.accounting import TAKES
from lower_sp_clients.vim.domain import Domain
from lower_sp_clients.vim.driver import Driver, SapPort
from lower_sp_clients.vim.holds import AllocationState
from lower_sp_clients.vim.local_vim import LocalVim
from lower_sp_clients.vim.simulated import SimulatedDriver
from service_model.outcomes import ServiceState
from tests.support.clock import SimulatedClock
from tests.support.empty_store import put_empty_store
from tests.support.faults import FaultySupplier
from tests.support.postgres import Where
from tests.support.sites import Sp, children, domains, sps

VALIDITY = timedelta(days=365)
SECRET = b"s" * 32
MARGIN = Decimal("1.1")


class Node:
    """One broker with its own domains, open on its file. `terms` may be changed by a test."""

    def __init__(
        self,
        sp: Sp,
        domains: list[Domain],
        where: Path | Database,
        clock: SimulatedClock,
        hopes: int,
        ids: random.Random,
    ) -> None:
        self.sp, self.where, self.clock, self.hopes, self.ids = sp, where, clock, hopes, ids
        self.few = FEW_WAYS
        """Up to so many ways it plans at once, and more in a process of its own, whose time no simulated clock tells."""
        self.stuck_after = STUCK_AFTER
        self.watcher_behind = WATCHER_BEHIND
        self.terms = Terms(margin=MARGIN)
        self.domains = {d.name: d for d in domains}
        self.drivers = {
            d.name: SimulatedDriver([SapPort(id=s.id, encapsulation=s.encapsulation.short, mtu=s.mtu) for s in d.saps])
            for d in domains
        }
        self.instead: dict[str, Driver] = {}
        """Drivers that a test puts in the place of simulated ones, by domain, before it opens the stack."""
        self.lines: dict[str, FaultySupplier] = {}
        self.down = asyncio.Event()
        self.down.set()
        self.vims: dict[str, LocalVim] = {}
        self.store: Callable[[Engine], Engine] = lambda engine: engine
        self.building: Callable[[str, Driver], Driver] = lambda name, driver: driver
        """What a test puts before the store, and before the driver of a domain."""
        self.managers: dict[str, ServiceManager] = {}
        """Whom services may name, by the name of the document, as `terms` allows."""
        self.workflows = Workflows()
        self.dearer: list[str] = []
        """Suppliers that held for more than they had announced, or otherwise than they were asked."""

    @property
    def path(self) -> Path:
        """The file of a store that is one."""
        assert isinstance(self.where, Path), "a store that is no file"
        return self.where

    async def open(self) -> None:
        if isinstance(self.where, Path) and not self.where.exists():
            await put_empty_store(self.where)
        self.plain = Engine.open(self.where, migrate=migrate)
        self.engine = self.store(self.plain)
        epoch = await epoch_of(self.engine, self._drawn())
        kept = SqlRestored(self.engine, epoch)
        self.catalogue = Catalogue(self.sp.name, remembers=self.hopes > 0)
        self.broker = Broker(
            epoch=epoch,
            book=SqlOrderBook(self.engine, epoch),
            clock=self.clock,
            catalogue=self.catalogue,
            planner=Planning(self.few),
            quotes=SqlQuoteBook(self.engine, "", QUOTED),
            terms=lambda account: self.terms,
            new_id=lambda: str(self._drawn()),
            secret=SECRET,
            fell_short=self.dearer.append,
            hopes=self.hopes,
            stuck_after=self.stuck_after,
            watcher_behind=self.watcher_behind,
            workflows=self.workflows,
            managers=self.managers.get,
        )
        self.vims = {
            name: LocalVim(
                domain,
                self.building(name, self.instead.get(name, self.drivers[name])),
                SqlHoldBook(self.engine, epoch, name),
                SqlQuoteBook(self.engine, name, STANDING),
                self.clock,
                validity=VALIDITY,
            )
            for name, domain in self.domains.items()
        }
        self.restored = RestoredNode(
            restored=await kept.load(),
            book=kept,
            broker=self.broker,
            vims=self.vims.values,
            suppliers=lambda: {name: line for name, line in self.lines.items() if name not in self.vims},
            clock=self.clock,
            gone_on=lambda: None,
        )
        for vim in self.vims.values():
            await vim.open(read_only=bool(self.restored.read_only), restored=self.restored.at)

    def _drawn(self) -> uuid.UUID:
        return uuid.UUID(int=self.ids.getrandbits(128), version=4)

    async def close(self) -> None:
        self.down.set()
        await self.broker.close()
        for vim in self.vims.values():
            await vim.close()
        await self.engine.close()

    def note(self, audience: str) -> CapabilityNote:
        now, disclosure = self.clock.now(), self.terms.disclosure
        words = lexicon(self.catalogue.snapshot, SECRET, audience, disclosure).words
        made = derive(
            self.catalogue.snapshot,
            self.sp.name,
            1,
            audience,
            now,
            VALIDITY,
            MARGIN,
            "EUR",
            uuid.uuid5(uuid.NAMESPACE_OID, self.sp.name).hex,
            300,
            tuple(sorted(FEATURES)),
            share_secret=self.sp.name.encode(),
        )
        return abstracted(made, disclosure, words or {})


class Stack:
    """All brokers of one federation; `async with` opens and closes them. `hopes`: how often each of them may order what is
    not announced any more. `draw`: what their ids are drawn from, and with them the labels that are taken by hash; of the
    same draw a test sees the same."""

    def __init__(
        self,
        top: Sp,
        where: Path | Where,
        clock: SimulatedClock | None = None,
        beside: tuple[Sp, ...] = (),
        hopes: int = 0,
        line: Sequence[str] = (),
        draw: str = "",
    ) -> None:
        """`where`: the folder of the SPs' databases, or where the database of each is. `beside`: other SPs that buy from SPs of
        the same federation, and have no sites. `line`: the sites in the order in which they are joined, where that is not
        the order of the tree: so an SP may come by twice."""
        self.clock = clock or SimulatedClock()
        self.top = top
        made = domains(top, line)

        def node(sp: Sp) -> Node:
            ids = random.Random(f"{draw}/{sp.name}")
            store = where / f"{sp.name}.db" if isinstance(where, Path) else where(sp.name)
            return Node(sp, made.get(sp.name, []), store, self.clock, hopes, ids)

        self.nodes: dict[str, Node] = {}
        """Buyers before those they buy of."""
        for sp in (*beside, *sps(top)):
            self.nodes.pop(sp.name, None)
            self.nodes[sp.name] = node(sp)

    async def __aenter__(self) -> Self:
        for node in reversed(self.nodes.values()):  # suppliers first
            await self._open(node)
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes.values():
            if not node.down.is_set():
                await node.close()

    async def _open(self, node: Node) -> None:
        await node.open()
        listings = [Listing(alias=name, sp_id=node.sp.name, local=True) for name in node.domains]
        for name in node.domains:
            node.lines.setdefault(name, self._line(lambda: node, lambda n, name=name: n.vims[name]))  # type: ignore[misc]
        for child in children(node.sp):
            known = Listing(alias=child.alias, sp_id=child.name, local=False, sold_besides=child.sold_besides)
            listings.append(known)
            other = self.nodes[child.name]
            node.lines.setdefault(
                child.alias,
                self._line(lambda other=other: other, lambda n: n.broker.seen_by(node.sp.name)),  # type: ignore[misc]
            )
        node.catalogue.list(tuple(listings))
        self.announce(node.sp.name)
        await node.broker.open(node.sp.pools, node.restored.read_only)
        node.broker.untracked_since = node.restored.untracked_since
        node.down = asyncio.Event()  # from now on it answers
        node.broker.use(node.lines)

    @staticmethod
    def _line(node: Callable[[], Node], pick: Callable[[Node], Supplier]) -> FaultySupplier:
        def supplier() -> Supplier:
            if node().down.is_set():
                raise OutcomeUnknown("nobody answers")
            return pick(node())

        return FaultySupplier(supplier, lambda: node().down)

    def announce(self, name: str) -> None:
        """Put the present notes of its domains and suppliers before one broker."""
        node = self.nodes[name]
        for vim in node.vims.values():
            node.catalogue.put(vim.domain.name, vim.note().note)
        for child in children(node.sp):
            if not self.nodes[child.name].down.is_set():
                node.catalogue.put(child.alias, self.nodes[child.name].note(name))

    def announce_all(self) -> None:
        for name in reversed(self.nodes):
            self.announce(name)

    def customer(self, account: str = "alice", of: str = "") -> AccountView:
        """Of the top, or of another SP."""
        return self.nodes[of or self.top.name].broker.seen_by(account)

    def line(self, broker: str, alias: str) -> FaultySupplier:
        return self.nodes[broker].lines[alias]

    def broker(self, name: str) -> Broker:
        return self.nodes[name].broker

    def vims(self) -> Iterator[LocalVim]:
        for node in self.nodes.values():
            yield from node.vims.values()

    def vim(self, name: str) -> LocalVim:
        return next(v for v in self.vims() if v.domain.name == name)

    async def stop(self, name: str) -> None:
        await self.nodes[name].close()

    async def start(self, name: str) -> None:
        await self._open(self.nodes[name])

    async def restart(self, name: str) -> None:
        await self.stop(name)
        await self.start(name)

    # time

    async def turn(self) -> None:
        """Let everybody do what can be done at this moment: behind what waits at each store's writer."""
        for node in self.nodes.values():
            if not node.down.is_set():
                await node.plain.tx(lambda connection: None)
        for _ in range(5):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool], step: float = 0.0, turns: int = 600) -> None:
        """Until `condition` holds; time passes by `step` seconds a turn."""
        for _ in range(turns):
            if condition():
                return
            await self.turn()
            if step:
                self.clock.advance(step)
        raise AssertionError(f"did not come true: {self.states()}")

    async def pass_time(self, seconds: float, step: float = 5.0) -> None:
        """Time passes, and everybody's housekeeping with it."""
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step
            await self.tick()
            await self.turn()
            await self.turn()

    async def tick(self) -> None:
        for node in self.nodes.values():
            if not node.down.is_set():
                for vim in node.vims.values():
                    await vim.tick()
                await node.broker.tick()

    # what is there

    def state(self, ref: str = "r", account: str = "alice") -> ServiceState:
        return self.broker(self.top.name).status(account, ref).state

    def states(self) -> dict[str, list[str]]:
        return {
            name: [f"{o.state.short} {[(s.key, s.state.short) for s in o.segments]}" for o in node.broker.orders()]
            + [f"{h.state.short}@{v.domain.name}" for v in node.vims.values() for h in v.holds()]
            for name, node in self.nodes.items()
        }

    async def busy(self) -> list[str]:
        """What anybody still holds, has built or is waiting to do; empty when nothing is left."""
        found = []
        for name, node in self.nodes.items():
            for vim in node.vims.values():
                found += [f"{vim.domain.name}: {h.state.short}" for h in vim.holds() if h.state in TAKES]
                found += [f"{vim.domain.name}: {item}" for item in await vim.inventory()]
            found += [f"{name}: {a.value}" for a in node.broker.allocations() if a.state is not AllocationState.RESTING]
            found += [f"{name}: path {a.value}" for a in node.broker.path_ids.allocations()]
            found += [f"{name}: {work}" for work in node.broker.unfinished()]
        return found

    async def ends_empty(self, step: float = 0.5) -> None:
        """Sooner or later nothing is left anywhere."""
        for _ in range(400):
            if not (busy := await self.busy()):
                return
            await self.turn()
            self.clock.advance(step)
        raise AssertionError(f"left: {busy} {self.states()}")
