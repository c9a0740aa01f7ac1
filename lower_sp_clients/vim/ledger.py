"""The records of a domain in memory and in its book: which hold there is of each ref, and what is in use.

Rules kept here
- A change is in memory at once, so that a concurrent reservation sees it, and undone if the book does not take it.
- What a hold takes and frees goes with it in one transaction; what was live rests before it is free.
- Where another process works on the domain, what that one recorded is read anew (`follow`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from lower_sp_clients.vim import accounting
from lower_sp_clients.vim.domain import Usage
from lower_sp_clients.vim.holds import Allocation, AllocationState, Hold, HoldBook
from service_model.outcomes import ServiceState


class HoldLedger:
    """`holds` by ref, `resting` labels and the `usage` that follows from both. `load` before use."""

    def __init__(self, domain: str, book: HoldBook, quarantine: timedelta) -> None:
        self._domain = domain
        self._book = book
        self.quarantine = quarantine
        self.holds: dict[str, Hold] = {}
        self.resting: list[Allocation] = []
        self.usage = Usage()

    async def load(self) -> None:
        """All of it, as it is recorded now."""
        self._know(*await self._book.load())

    async def follow(self, refs: Sequence[str]) -> None:
        """What another process recorded of these refs, and of what rests."""
        self._know(*await self._book.find(refs))

    def _know(self, holds: Sequence[Hold], allocations: Sequence[Allocation]) -> None:
        for hold in holds:
            self._swap(self.holds.get(hold.ref), hold, [])
        for former in tuple(self.resting):
            self._wake(former)
        self._swap(None, None, [a for a in allocations if a.state is AllocationState.RESTING])

    async def save(self, hold: Hold, now: datetime, was: Hold | None = None, takes: bool = False) -> None:
        """Store `hold`; `was` is the hold whose labels are freed by it; `takes`: its own are newly taken."""
        drop, put = [], []
        if was is not None and was.state in accounting.TAKES:
            live = was.state is not ServiceState.RESERVED
            for allocation in accounting.labels(self._domain, was):
                if live and self.quarantine and accounting.rests(allocation):
                    put.append(replace(allocation, state=AllocationState.RESTING, until=now + self.quarantine))
                else:
                    drop.append(allocation)
        if takes:
            put.extend(accounting.labels(self._domain, hold))
            drop = [d for d in drop if not any((d.pool, d.value) == (p.pool, p.value) for p in put)]
        elif hold.state is ServiceState.ACTIVATING:
            put.extend(accounting.labels(self._domain, hold))
        before, resting = self.holds.get(hold.ref), [p for p in put if p.state is AllocationState.RESTING]
        self._swap(before, hold, resting)
        try:
            await self._book.save(hold, put, drop, now)
        except BaseException:
            for allocation in resting:
                self._wake(allocation)
            self._swap(hold, before, [])
            raise

    async def free_rested(self, now: datetime) -> bool:
        """Free the labels that have rested long enough; whether there were any."""
        rested = [a for a in self.resting if a.until is not None and a.until <= now]
        if rested:
            await self._book.save(None, (), rested, now)
            for allocation in rested:
                self._wake(allocation)
        return bool(rested)

    def _swap(self, before: Hold | None, after: Hold | None, resting: list[Allocation]) -> None:
        accounting.count(self.usage, before, -1)
        accounting.count(self.usage, after, 1)
        for allocation in resting:
            self.resting.append(allocation)
            accounting.rest(self.usage, allocation, 1)
        if after is not None:
            self.holds[after.ref] = after
        elif before is not None:
            del self.holds[before.ref]

    def _wake(self, allocation: Allocation) -> None:
        self.resting.remove(allocation)
        accounting.rest(self.usage, allocation, -1)
