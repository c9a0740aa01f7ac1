"""The records of a domain in memory and in its book: which hold there is of each ref, and what is in use.

Rules kept here
- A change is in memory at once, so that a concurrent reservation sees it, and undone if the book does not take it.
- What a hold takes and frees goes with it in one transaction; what was live rests before it is free.
- Where another process works on the domain, what that one recorded is read anew (`follow`). A write here, which the book does not
  take then, does not undo what was read meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from lower_sp_clients.vim import accounting
from lower_sp_clients.vim.calendar import Calendar
from lower_sp_clients.vim.domain import Usage
from lower_sp_clients.vim.holds import Allocation, AllocationState, Hold, HoldBook
from service_model.replacing import replace
from service_model.window import ALWAYS, Window


class HoldLedger:
    """`holds` by ref, `resting` labels and the `calendar` that follows from both. `load` before use. `ending`: the refs of the
    holds of which a version ends by itself."""

    def __init__(self, domain: str, book: HoldBook, quarantine: timedelta) -> None:
        self._domain = domain
        self._book = book
        self.quarantine = quarantine
        self.holds: dict[str, Hold] = {}
        self.ending: set[str] = set()
        self.resting: list[Allocation] = []
        self.calendar = Calendar()

    def usage(self, window: Window = ALWAYS) -> Usage:
        """What is not to be had within the window."""
        return self.calendar.usage(window)

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

    async def save(self, hold: Hold, now: datetime) -> None:
        """Store `hold`, with the labels that it takes and frees by what it was before."""
        before = self.holds.get(hold.ref)
        had, has = accounting.labels(self._domain, before), accounting.labels(self._domain, hold)
        put, drop = [a for key, a in has.items() if had.get(key) != a], []
        for allocation in (a for key, a in had.items() if key not in has and self._has(a)):
            live = allocation.state is AllocationState.LIVE
            if live and self.quarantine and accounting.rests(allocation):
                put.append(replace(allocation, state=AllocationState.RESTING, until=now + self.quarantine))
            else:
                drop.append(allocation)
        resting = [p for p in put if p.state is AllocationState.RESTING]
        self._swap(before, hold, resting)
        try:
            await self._book.save(hold, put, drop, now)
        except BaseException:
            for allocation in resting:
                if allocation in self.resting:
                    self._wake(allocation)
            if self.holds.get(hold.ref) is hold:
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

    def keep_off(self, allocations: Iterable[Allocation]) -> None:
        """These labels rest until they are told otherwise, instead of those that did before; they are recorded already."""
        for allocation in [a for a in self.resting if a.until is None]:
            self._wake(allocation)
        self._swap(None, None, list(allocations))

    def _has(self, allocation: Allocation) -> bool:
        """Whether a label is its owner's: not where it is kept off, for who has it besides."""
        return (
            self.calendar.labels.get(allocation.pool.partition("/")[2], {}).get(int(allocation.value))
            == allocation.owner
        )

    def _swap(self, before: Hold | None, after: Hold | None, resting: list[Allocation]) -> None:
        accounting.count(self.calendar, before, -1)
        accounting.count(self.calendar, after, 1)
        for allocation in resting:
            self.resting.append(allocation)
            accounting.rest(self.calendar, allocation, 1)
        if after is not None:
            self.holds[after.ref] = after
            (self.ending.add if _ends(after) else self.ending.discard)(after.ref)
        elif before is not None:
            del self.holds[before.ref]
            self.ending.discard(before.ref)

    def _wake(self, allocation: Allocation) -> None:
        self.resting.remove(allocation)
        accounting.rest(self.calendar, allocation, -1)


def _ends(hold: Hold) -> bool:
    return any(v.spec is not None and v.spec.end_time is not None for v in hold.versions())
