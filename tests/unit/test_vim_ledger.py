"""What a domain remembers of its holds while they are written here and read from what another process recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from lower_sp_clients.vim.holds import Allocation, AllocationState, Hold
from lower_sp_clients.vim.ledger import HoldLedger
from service_model.outcomes import AddressingChoice, ServiceState
from tests.support.sites import chain

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = chain("uni", "uni", "firewall")


class Book:
    """What is recorded, by whomever; a write from here is refused when it `may` end."""

    def __init__(self, *holds: Hold) -> None:
        self.holds: Sequence[Hold] = holds
        self.resting: Sequence[Allocation] = ()
        self.may = asyncio.Event()

    async def load(self) -> tuple[Sequence[Hold], Sequence[Allocation]]:
        return self.holds, self.resting

    async def find(self, refs: Sequence[str]) -> tuple[Sequence[Hold], Sequence[Allocation]]:
        return [hold for hold in self.holds if hold.ref in refs], self.resting

    async def save(
        self, hold: Hold | None, put: Sequence[Allocation], drop: Sequence[Allocation], at: datetime
    ) -> None:
        await self.may.wait()
        raise PermissionError("another process works on this domain")


def hold(state: ServiceState, label: int = 7) -> Hold:
    choice = AddressingChoice(labels={SPEC.ends[0].id: label})
    return Hold(ref="r", version=1, state=state, created=NOW, updated=NOW, spec=SPEC, choice=choice)


async def refused(ledger: HoldLedger, book: Book, wanted: Hold, *read: Hold) -> None:
    """A write that the book does not take; meanwhile `read` is recorded by another process, and read here."""
    writing = asyncio.ensure_future(ledger.save(wanted, NOW))
    await asyncio.sleep(0)
    assert ledger.holds["r"] is wanted
    if read:
        book.holds = read
        await ledger.follow(["r"])
    book.may.set()
    with pytest.raises(PermissionError):
        await writing


async def test_a_write_that_is_refused_leaves_what_was_before() -> None:
    before = hold(ServiceState.RESERVED)
    book = Book(before)
    ledger = HoldLedger("d", book, timedelta(0))
    await ledger.load()
    await refused(ledger, book, hold(ServiceState.ACTIVATING))
    assert ledger.holds == {"r": before}
    assert ledger.calendar.labels == {"uni": {7: "r"}}


async def test_a_write_that_is_refused_does_not_undo_what_another_process_recorded_and_was_read_meanwhile() -> None:
    book = Book(hold(ServiceState.RESERVED))
    ledger = HoldLedger("d", book, timedelta(0))
    await ledger.load()
    theirs = hold(ServiceState.ACTIVE, label=9)
    await refused(ledger, book, hold(ServiceState.ACTIVATING), theirs)
    assert ledger.holds == {"r": theirs}
    assert ledger.calendar.labels == {"uni": {9: "r"}}


async def test_labels_that_a_refused_write_would_have_let_rest_are_as_they_were_read_meanwhile() -> None:
    book = Book(hold(ServiceState.ACTIVE))
    ledger = HoldLedger("d", book, timedelta(minutes=1))
    await ledger.load()
    book.resting = (Allocation(pool="d/uni", value="7", owner="r", state=AllocationState.RESTING, until=NOW),)
    await refused(ledger, book, hold(ServiceState.TERMINATED), hold(ServiceState.TERMINATED))
    assert ledger.resting == [*book.resting]
