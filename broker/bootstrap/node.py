"""A node: one broker with its store, domains, suppliers, notes and API, wired from what is administered.

Rules kept here
- What is administered is the whole difference between a top, a middle and a leaf; applying documents rewires the running
  node, and what stays the same stays connected.
- A change that would take away what something live stands on is refused before it is stored.
- Opening takes up everything that a former process left; closing leaves everything as it is recorded.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from broker.accounts.administration import Administration
from broker.accounts.founding import Keys
from broker.accounts.secrets import Passwords
from broker.bootstrap import mapping, running
from broker.bootstrap.admin import NodeAdmin
from broker.bootstrap.deriving import Deriving
from broker.bootstrap.domains import domain_value, not_offered, sap_ports
from broker.bootstrap.feeds import Feeds
from broker.bootstrap.planning import FEW_WAYS, Planning
from broker.bootstrap.promises import Record
from broker.bootstrap.publication import Edition, Publication, Standing
from broker.bootstrap.replication import Parts as Followed
from broker.bootstrap.replication import Replication
from broker.bootstrap.restored_node import RestoredNode
from broker.orders.broker import AccountView, Broker
from broker.orders.catalogue import Catalogue
from broker.orders.claims import ALONE, Claims
from broker.orders.engine import WATCHER_BEHIND
from broker.orders.records import QUOTED, Terms
from broker.orders.schedules import CannotSchedule, Workflows
from broker.orders.tasks import STUCK_AFTER
from broker.settings.administered import DomainDoc, ManagerDoc, SupplierDoc
from broker.settings.present import Administered
from broker.settings.problems import Problem
from broker.settings.process import Database
from broker.storage.allocations import all_allocations
from broker.storage.books import SqlEditions, SqlHoldBook, SqlOrderBook, epoch_of
from broker.storage.document_book import SqlDocumentBook
from broker.storage.engine import Engine
from broker.storage.errors import StoreError
from broker.storage.hints import Hints
from broker.storage.migrations import migrate
from broker.storage.quote_book import SqlQuoteBook
from broker.storage.replicas import LeaseLost, Replica
from broker.storage.restored import SqlRestored
from broker.storage.supplier_books import SqlAcceptedEditions, SqlPromiseBook
from capability_registry import origin, signing
from capability_registry.feed import Acceptance
from capability_registry.hysteresis import Pacing
from capability_registry.keys import PublicKey, SigningKey
from capability_registry.note import CapabilityNote, Lifecycle
from lower_sp_clients import wire
from lower_sp_clients.quotes import STANDING
from lower_sp_clients.remote_manager import RemoteManager
from lower_sp_clients.remote_sp import ClientTls, RemoteSp
from lower_sp_clients.service_manager import ServiceManager
from lower_sp_clients.supplier import NotRecorded, SignedNote, Supplier
from lower_sp_clients.vim.driver import Driver, DriverError, SapPort
from lower_sp_clients.vim.factory import make_driver
from lower_sp_clients.vim.local_vim import LocalVim
from service_model.clock import Clock
from service_model.outcomes import Reason, ReasonCode

log = structlog.get_logger()

TICK_S = 0.5

Connect = Callable[[SupplierDoc, Callable[[str], CapabilityNote]], Supplier]
"""Makes the client of a lower SP from its document and the judge of its notes."""
ConnectManager = Callable[[ManagerDoc], ServiceManager]
"""Makes the client of a manager from its document, which has an end point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a node is made of besides its store; tests give others."""

    clock: Clock
    connect: Connect
    passwords: Passwords
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    random: Callable[[int], bytes] = os.urandom
    pacing: Pacing = Pacing()
    caution: float = 0.0
    hopes: int = 0
    stuck_after: timedelta = STUCK_AFTER
    lease: timedelta = timedelta(seconds=10)
    """After how long others take over what this process works on, when nothing is heard of it."""
    watcher_behind: int = WATCHER_BEHIND
    few_ways: int = FEW_WAYS
    """Up to how many ways of notes plans are made in the event loop."""
    open_store: Callable[[Path | Database], Engine] = partial(Engine.open, migrate=migrate)
    make_driver: Callable[[str, str, Sequence[SapPort]], Driver] = make_driver
    workflows: Workflows = field(default_factory=Workflows)
    manage: ConnectManager | None = None
    """None: over gRPC."""


def over_grpc(keys: Keys, clock: Clock) -> Connect:
    """Lower SPs over mutual TLS, with our client certificate."""

    def connect(doc: SupplierDoc, verify: Callable[[str], CapabilityNote]) -> Supplier:
        tls = ClientTls(roots=doc.anchor.ca.encode(), certificate=keys.client.certificate, key=keys.client.key)
        return RemoteSp(doc.endpoint, doc.account, tls=lambda: tls, verify=verify, clock=clock)

    return connect


def managers_over_grpc(keys: Keys) -> ConnectManager:
    """Managers over mutual TLS, with our client certificate."""

    def connect(doc: ManagerDoc) -> ServiceManager:
        assert doc.endpoint is not None, "a manager with an end point"
        assert doc.ca is not None, "whose authority is known"
        tls = ClientTls(
            roots=doc.ca.encode(),
            certificate=keys.client.certificate,
            key=keys.client.key,
            server_name=doc.server_name,
        )
        return RemoteManager(doc.endpoint, tls)

    return connect


class Node:
    """`open`, then `supplier_for` and `notes_for` serve callers until `close`."""

    def __init__(
        self,
        sp_id: str,
        store: Path | Database,
        keys: Keys,
        parts: Parts,
        note_key: Callable[[], SigningKey] | None = None,
    ) -> None:
        """`note_key` gives the key that notes are signed with at this moment; not given: that of `keys`, for ever."""
        self.sp_id = sp_id
        self._store = store
        self._keys = keys
        self._note_key = note_key or (lambda: keys.note_key)
        self._parts = parts
        self._vims: dict[str, tuple[DomainDoc, LocalVim]] = {}
        self._remotes: dict[str, tuple[SupplierDoc, Supplier]] = {}
        self._manage = parts.manage or managers_over_grpc(keys)
        self._managers: dict[str, tuple[ManagerDoc, ServiceManager]] = {}
        self._turn: datetime | None = None
        """When the next maintenance window begins or ends; none while documents are being applied."""
        self._ticker: asyncio.Task[None] | None = None
        self._claims: Claims = ALONE
        self._replica: Replica | None = None
        self._replication: Replication | None = None
        self.ended = asyncio.Event()
        """Set where the node cannot go on: others took it for dead long ago."""

    async def open(self) -> None:
        """Raises StoreError for the store, DriverError for a domain that cannot be built on this machine, CannotSchedule for
        a service or a manager that needs a plugin which is not loaded."""
        clock = self._parts.clock
        self.engine = await asyncio.to_thread(self._parts.open_store, self._store)
        self._epoch = await epoch_of(self.engine, uuid.UUID(self._parts.new_id()))
        if isinstance(self._store, Database):
            self._replica = Replica(self.engine, str(uuid.uuid4()), self._parts.lease)
        book = SqlOrderBook(self.engine, self._epoch, self._replica)
        if self._replica is not None:
            self._replication = Replication(self._replica, book, clock, self._lost)
            self._claims = self._replication
            await self._replication.join()
        self.catalogue = Catalogue(self.sp_id, self._parts.caution, remembers=self._parts.hopes > 0)
        self.planning = Planning(self._parts.few_ways)
        self.deriving = Deriving()
        self.feeds = Feeds(self.catalogue, clock, SqlAcceptedEditions(self.engine))
        await self.feeds.open()
        self.promises = Record(SqlPromiseBook(self.engine), self.catalogue)
        await self.promises.open()
        kept = SqlRestored(self.engine, self._epoch)
        self.broker = Broker(
            epoch=self._epoch,
            book=book,
            clock=clock,
            catalogue=self.catalogue,
            planner=self.planning,
            quotes=SqlQuoteBook(self.engine, "", QUOTED, self._replica),
            terms=self.terms,
            new_id=self._parts.new_id,
            secret=self._keys.origin_secret,
            fell_short=self.promises.fell_short,
            hopes=self._parts.hopes,
            stuck_after=self._parts.stuck_after,
            claims=self._claims,
            watcher_behind=self._parts.watcher_behind,
            workflows=self._parts.workflows,
            managers=self._manager,
        )
        self.publication = Publication(
            sp_id=self.sp_id,
            catalogue=self.catalogue,
            editions=SqlEditions(self.engine),
            key=self._note_key,
            origin_secret=self._keys.origin_secret,
            terms=self._announced_terms,
            clock=clock,
            random=self._parts.random,
            pacing=self._parts.pacing,
            standing=self._standing,
            sp_of=lambda account: mapping.sp_of(self.administration.present, account),
            deriving=self.deriving,
        )
        self.administration = Administration(
            sp_id=self.sp_id,
            book=SqlDocumentBook(self.engine, self._replica),
            clock=clock,
            passwords=self._parts.passwords,
            check=self._obstacles,
            drained=self._drained,
            changed=self._rewire,
        )
        self.restored = RestoredNode(
            restored=await kept.load(),
            book=kept,
            broker=self.broker,
            vims=self.vims,
            suppliers=lambda: {name: remote for name, (_, remote) in self._remotes.items()},
            clock=clock,
            gone_on=self.publication.look_again,
        )
        self.admin = NodeAdmin(
            self.administration,
            self.broker,
            self.catalogue,
            self.vims,
            self.feeds,
            self.promises,
            self.planning,
            self.terms,
            clock,
            partial(all_allocations, self.engine),
            self.restored,
        )
        present = await self.administration.open()
        for problem in running.managers_in_the_way(present, self.broker.workflows):
            raise CannotSchedule(f"manager {problem.name!r}: {problem.reason}")
        await self._open_domains(present)
        await self.broker.open(mapping.pools(present, clock.now()), self.restored.read_only)
        self.broker.untracked_since = self.restored.untracked_since
        if self.restored.read_only:
            log.warning("read-only: restored from a backup, and not accepted (spbroker inventory, spbroker accept)")
        await self._rewire(present)
        if self._replication is not None:
            await self._replication.follow(self._followed(), partial(Hints, self.engine))
        self._ticker = asyncio.create_task(self._tick_for_ever(), name="ticker")

    async def close(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticker
        await self.feeds.close()
        if self._replication is not None:
            await self._replication.close()
        await self.broker.close()
        await self.planning.close()
        await self.deriving.close()
        for _, vim in self._vims.values():
            await vim.close()
        for _, remote in self._remotes.values():
            await _close(remote)
        for _, manager in self._managers.values():
            await _close(manager)
        if self._replication is not None:
            with suppress(StoreError):  # then they find out when the lease is over
                await self._replication.leave()
        await self.engine.close()

    # what callers get

    def supplier_for(self, account: str) -> Supplier:
        return AccountView(self.broker, account, partial(self._notes_read, account))

    def begun(self, account: str, ref: str, version: int) -> bool:
        """Whether the account has an order with this ref, of this version or a later one."""
        order = self.broker.order_of(account, ref)
        return order is not None and order.version >= version

    def notes_for(self, account: str) -> AsyncIterator[Edition]:
        return self.publication.notes(account)

    async def _notes_read(self, account: str) -> AsyncIterator[SignedNote]:
        async for edition in self.notes_for(account):
            yield SignedNote(jws=edition.jws, note=edition.note)

    def terms(self, account: str) -> Terms | Reason:
        return mapping.terms(self.administration.present, account)

    def _announced_terms(self, account: str) -> Terms | Reason:
        """Those that a note is made by: nothing is offered while nothing may be ordered."""
        if why := self.restored.read_only:
            return Reason(code=ReasonCode.NOT_IN_SERVICE, message=why)
        return self.terms(account)

    def _standing(self, account: str) -> Standing:
        standing = mapping.standing(self.administration.present, account)
        if why := self.restored.read_only:
            return replace(standing, lifecycle=Lifecycle.WITHDRAWING, notice=why)
        return standing

    def vims(self) -> tuple[LocalVim, ...]:
        return tuple(vim for _, vim in self._vims.values())

    # other processes on the same store

    def _followed(self) -> Followed:
        return Followed(
            broker=self.broker,
            reads=self._read_domains,
            leads=self._lead,
            holds=self._follow_holds,
            quotes=self._follow_quotes,
            documents=self.administration.read,
        )

    async def _read_domains(self) -> None:
        for vim in self.vims():
            await vim.read()

    async def _lead(self, ours: bool) -> None:
        for vim in self.vims():
            if ours:
                vim.lead()
            else:
                await vim.close()

    async def _follow_holds(self, changed: list[tuple[str, str]]) -> None:
        for vim in self.vims():
            if refs := [ref for domain, ref in changed if domain == vim.domain.name]:
                await vim.follow(refs)

    async def _follow_quotes(self, of: list[str]) -> None:
        if "" in of:
            await self.broker.read_quotes()
        for vim in self.vims():
            if vim.domain.name in of:
                await vim.read_quotes()

    def _lost(self, error: LeaseLost) -> None:
        log.error("this replica ends", error=str(error))
        self.ended.set()

    # time

    async def tick(self) -> None:
        """Everything that time does: holds expire, labels rest, feeds lapse, notes are renewed, windows open and close."""
        if self._replication is not None:
            await self._replication.tick()
        if self._turn is not None and self._turn <= self._parts.clock.now():
            self._follow_windows(self.administration.present)
        try:
            for vim in self.vims():
                await vim.tick()
            await self.broker.tick()
            await self.promises.tick()
        finally:  # whatever the store says: what lapsed is planned with no more
            self.feeds.tick()
            self.publication.tick()

    def _follow_windows(self, present: Administered) -> None:
        """What takes new orders now, by documents and windows; to be asked again at the next turn of a window."""
        now = self._parts.clock.now()
        self._turn = mapping.next_turn(present, now)
        for doc, vim in self._vims.values():
            self._configure(doc, vim, present)
        self.broker.use_pools(mapping.pools(present, now))
        self.catalogue.list(mapping.listings(present, self.sp_id, now))

    async def _tick_for_ever(self) -> None:
        while True:
            await self._parts.clock.sleep(TICK_S)
            try:
                await self.tick()
            except NotRecorded as error:  # here and below: the next tick tries again
                log.error("tick not recorded", error=str(error))
            except Exception:
                log.exception("tick failed")

    # wiring

    async def _open_domains(self, present: Administered) -> None:
        for doc in present.domains:
            known = self._vims.get(doc.name)
            if known is None:
                self._vims[doc.name] = (doc, await self._new_vim(doc, present))
                continue
            vim = known[1]
            if sap_ports(known[0]) != sap_ports(doc) or known[0].driver != doc.driver:
                vim.driver = self._driver(doc)
            self._configure(doc, vim, present)
            vim.rests(timedelta(seconds=doc.label_quarantine_s))
            self._vims[doc.name] = (doc, vim)
        wanted = {doc.name for doc in present.domains}
        for name in [n for n in self._vims if n not in wanted]:
            await self._vims.pop(name)[1].close()

    def _configure(self, doc: DomainDoc, vim: LocalVim, present: Administered) -> None:
        value = domain_value(doc, present, vim.driver.offer, self.sp_id, self._parts.clock.now())
        if value != vim.domain:
            vim.reconfigure(value)

    async def _new_vim(self, doc: DomainDoc, present: Administered) -> LocalVim:
        driver = self._driver(doc)
        value = domain_value(doc, present, driver.offer, self.sp_id, self._parts.clock.now())
        book = SqlHoldBook(self.engine, self._epoch, doc.name, self._replica)
        quotes = SqlQuoteBook(self.engine, doc.name, STANDING, self._replica)
        rest = timedelta(seconds=doc.label_quarantine_s)
        vim = LocalVim(value, driver, book, quotes, self._parts.clock, quarantine=rest, leads=self._claims.leads)
        await vim.open(read_only=bool(self.restored.read_only), restored=self.restored.at)
        return vim

    def _driver(self, doc: DomainDoc) -> Driver:
        driver = self._parts.make_driver(doc.driver, f"{self.sp_id}-{doc.name}", sap_ports(doc))
        for missing in driver.offer.missing:
            log.warning("the driver does not offer everything here", domain=doc.name, missing=missing)
        for sap, kind, why in not_offered(doc, driver.offer):
            log.warning(
                "a SAP is not announced", domain=doc.name, sap=sap, encapsulation=kind, why=why or "not made here"
            )
        return driver

    def _obstacles(self, whole: Administered) -> Sequence[Problem]:
        """What is running that does not allow `whole` to become the present."""
        vims = {name: vim for name, (_, vim) in self._vims.items()}
        problems = [
            *running.pools_in_the_way(self.broker.pools, mapping.pools(whole, self._parts.clock.now())),
            *running.domains_in_the_way(whole, vims),
            *running.suppliers_in_the_way(whole, self._remotes, self.broker.orders()),
            *running.managers_in_the_way(whole, self.broker.workflows),
        ]
        for doc in whole.domains:
            known = self._vims.get(doc.name)
            if known is None or sap_ports(known[0]) != sap_ports(doc):
                try:
                    self._driver(doc)
                except (DriverError, ValueError) as error:
                    problems.append(Problem(kind="domain", name=doc.name, field="driver", reason=str(error)))
        return problems

    def _drained(self, whole: Administered) -> Sequence[Problem]:
        return tuple(running.drained(whole, {n: vim for n, (_, vim) in self._vims.items()}, self.broker.pools))

    async def _rewire(self, present: Administered) -> None:
        self._turn = None
        await self._open_domains(present)
        dropped = []
        for doc in present.suppliers:
            known = self._remotes.get(doc.name)
            if known is not None and known[0].anchor.note_keys != doc.anchor.note_keys:
                former, trusted = (set(d.anchor.note_keys.keys) for d in (known[0], doc))
                await self.feeds.reconsider(doc.name, self._acceptance(doc), afresh=not former & trusted)
            if known is not None and _same_peer(known[0], doc):
                self._remotes[doc.name] = (doc, known[1])
                continue
            if known is not None:
                dropped.append(known[1])
            self._remotes[doc.name] = (doc, self._parts.connect(doc, partial(self._judge, doc.name)))
        wanted = {doc.name for doc in present.suppliers}
        dropped += [self._remotes.pop(name)[1] for name in list(self._remotes) if name not in wanted]
        dropped_managers = self._connect_managers(present)
        self._follow_windows(present)
        suppliers: dict[str, Supplier] = {name: vim for name, (_, vim) in self._vims.items()}
        listened = {name: self.promises.listening(name, remote) for name, (_, remote) in self._remotes.items()}
        self.broker.use(suppliers | listened)
        self.feeds.follow(suppliers | {name: remote for name, (_, remote) in self._remotes.items()})
        for remote in dropped:
            await _close(remote)
        for manager in dropped_managers:
            await _close(manager)

    def _connect_managers(self, present: Administered) -> list[ServiceManager]:
        """Connect those that are new or changed; returns the clients of those that are not used any more."""
        wanted = {doc.name: doc for doc in present.managers if doc.endpoint is not None}
        gone = [name for name, (doc, _) in self._managers.items() if wanted.get(name) != doc]
        dropped = [self._managers.pop(name)[1] for name in gone]
        for name in wanted.keys() - self._managers.keys():
            self._managers[name] = (wanted[name], self._manage(wanted[name]))
        return dropped

    def _manager(self, document: str) -> ServiceManager | None:
        known = self._managers.get(document)
        return known[1] if known is not None else None

    def _judge(self, alias: str, jws: str) -> CapabilityNote:
        """By the supplier's document as it is now: its keys may be others than when it was connected."""
        return self.feeds.judge(alias, self._acceptance(self._remotes[alias][0]), jws)

    def _acceptance(self, doc: SupplierDoc) -> Acceptance[PublicKey]:
        return Acceptance(
            sp_id=doc.sp_id,
            audience=doc.account,
            keys=doc.anchor.keys(),
            verify=signing.verify,
            is_ours=partial(origin.is_ours, self._keys.origin_secret),
            tolerant=wire.parse_note,
        )


def _same_peer(a: SupplierDoc, b: SupplierDoc) -> bool:
    """Whether the connection stays. The keys of notes are no matter of the connection."""
    return (a.sp_id, a.endpoint, a.anchor.ca, a.account) == (b.sp_id, b.endpoint, b.anchor.ca, b.account)


async def _close(client: Supplier | ServiceManager) -> None:
    if isinstance(client, RemoteSp | RemoteManager):
        await client.close()
