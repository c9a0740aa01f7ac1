"""A restored node until its operator has accepted what it found, and after.

Rules kept here
- While it is read-only everybody is asked, and nobody is told to do anything.
- It goes on when an operator says so, with a reason, after every supplier and domain was asked; one that cannot be is named, and
  left out only where the operator names it too. What is kept off and who accepted is recorded before anything goes on.
- It may be accepted again, when a supplier is back or what was unknown has ended: what is kept off is found out anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from broker.accounts.admin_port import CannotAccept, Discrepancy
from broker.bootstrap.restoring import Surveyed, Told, differences, kept_off, not_built, untracked
from broker.bootstrap.running import labels_in_use
from broker.orders.broker import Broker
from broker.orders.pools import OF_OTHERS, of_others
from broker.orders.records import AuditRow
from broker.storage.restored import Restored, SqlRestored
from lower_sp_clients.supplier import Context, Supplier
from lower_sp_clients.vim.driver import DriverError
from lower_sp_clients.vim.holds import Allocation
from lower_sp_clients.vim.local_vim import LocalVim
from service_model.clock import Clock

log = structlog.get_logger()

PATIENCE = timedelta(seconds=30)
"""How long a supplier may take to tell what it has."""


class RestoredNode:
    """`restored` is None where the store never was. `suppliers`: the lower SPs, by alias.
    `gone_on` is called once, when the node is not read-only any more."""

    def __init__(
        self,
        *,
        restored: Restored | None,
        book: SqlRestored,
        broker: Broker,
        vims: Callable[[], Iterable[LocalVim]],
        suppliers: Callable[[], Mapping[str, Supplier]],
        clock: Clock,
        gone_on: Callable[[], None],
    ) -> None:
        self._restored = restored
        self._book = book
        self._broker = broker
        self._vims = vims
        self._suppliers = suppliers
        self._clock = clock
        self._gone_on = gone_on
        self._accepting = asyncio.Lock()

    @property
    def read_only(self) -> str:
        """Why nothing is changed, for callers; empty where it is."""
        if self._restored is None or self._restored.accepted is not None:
            return ""
        return "this node was restored from a backup: it changes nothing until its operator has accepted what it found"

    @property
    def at(self) -> datetime | None:
        """When the store was restored, if it ever was."""
        return self._restored.at if self._restored is not None else None

    @property
    def untracked_since(self) -> datetime | None:
        """When it was restored, as long as others may have what the store does not know of."""
        return self._restored.at if self._restored is not None and self._restored.untracked else None

    async def discrepancies(self) -> tuple[Discrepancy, ...]:
        """Of a store that was ever restored, what others have otherwise."""
        if self._restored is None:
            return ()
        return self._differences(await self._told(), await self._surveyed())

    def _differences(self, told: Sequence[Told], surveyed: Sequence[Surveyed]) -> tuple[Discrepancy, ...]:
        return (*differences(self._broker.orders(), told), *not_built(surveyed))

    async def accept(self, without: Sequence[str], reason: str, actor: str) -> tuple[tuple[Discrepancy, ...], int]:
        """What differs, and how many values are kept off. Raises CannotAccept."""
        async with self._accepting:
            if self._restored is None:
                raise CannotAccept("", "this store was not restored from a backup")
            unknown = [alias for alias in without if alias not in self._suppliers()]
            if unknown:
                raise CannotAccept("without", f"there is no supplier {unknown[0]!r}")
            told = await self._told()
            for supplier in told:
                if supplier.failure and supplier.alias not in without:
                    message = f"supplier {supplier.alias!r} cannot be asked what it has: {supplier.failure}"
                    raise CannotAccept("without", f"{message}; name it (--without) to go on without its word")
            surveyed = await self._surveyed()
            found = self._differences(told, surveyed)
            rows = self._allocated()
            mine, before = [a for a in rows if not of_others(a)], [a for a in rows if of_others(a)]
            keep = [*kept_off(self._broker.pools.all(), mine, self._broker.orders(), told, surveyed)]
            mute = tuple(f"{OF_OTHERS}{s.alias}/" for s in told if s.failure)
            named = {(a.pool, a.value) for a in keep}
            keep += [a for a in before if a.owner.startswith(mute) and (a.pool, a.value) not in named] if mute else []
            self._broker.keep_off(keep)  # in memory at once: what is given out meanwhile is none of it
            for vim in self._vims():
                vim.keep_off(keep)
            now = self._clock.now()
            row = AuditRow(
                at=now,
                actor=actor,
                on_behalf_of="",
                action="accept",
                subject="store",
                before=f"restored {self._restored.at.isoformat()}",
                after=f"{len(found)} discrepancies, {len(keep)} kept off" + "".join(f", without {a}" for a in without),
                reason=reason,
                trace="",
            )
            unclear = any(s.failure for s in told) or untracked(self._broker.orders(), told, surveyed)
            drop = [a for a in before if a not in keep]
            self._restored = await self._book.accept(self._restored, unclear, keep, drop, row)
            self._broker.untracked_since = self.untracked_since
            log.warning("accepted", actor=actor, reason=reason, discrepancies=len(found), kept_off=len(keep))
            if self._broker.read_only:
                self._broker.go_on()
                for vim in self._vims():
                    vim.go_on()
                self._gone_on()
            return found, len(keep)

    def _allocated(self) -> list[Allocation]:
        labels = (a for vim in self._vims() for a in labels_in_use(vim))
        return [*self._broker.allocations(), *self._broker.path_ids.allocations(), *labels]

    async def _told(self) -> tuple[Told, ...]:
        return tuple(await asyncio.gather(*(self._ask(alias, s) for alias, s in self._suppliers().items())))

    async def _ask(self, alias: str, supplier: Supplier) -> Told:
        context = Context(deadline=self._clock.now() + PATIENCE)
        try:
            return Told(alias=alias, services=[status async for status in supplier.services(context)])
        except Exception as error:  # whatever it is, it was not told
            return Told(alias=alias, failure=str(error) or type(error).__name__)

    async def _surveyed(self) -> tuple[Surveyed, ...]:
        found = []
        for vim in self._vims():
            try:
                items = await vim.inventory()
            except DriverError as error:
                raise CannotAccept("", f"domain {vim.domain.name!r} cannot be looked at: {error}") from None
            found.append(Surveyed(domain=vim.domain.name, holds=vim.holds(), items=items))
        return tuple(found)
