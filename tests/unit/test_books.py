"""The books: the migrated schema is the declared one, and what was recorded comes back as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.orders.records import ORDER, Change, ChargeKind, Order
from broker.storage import tables
from broker.storage.engine import Engine
from broker.storage.migrations import migrate
from lower_sp_clients.supplier import Context, OutcomeUnknown
from service_model.outcomes import AddressingChoice, Committed, Refused, Reserved, ServiceState
from tests.support.busy_orders import ORDER as PLAIN
from tests.support.busy_orders import TOP
from tests.support.ledger import table_and_journal
from tests.support.postgres import Where
from tests.support.schema import differences
from tests.support.sites import AURORA, AURORA_CHAIN
from tests.support.stack import Stack

CTX = Context()


async def test_the_migrated_schema_is_the_declared_one(where: Where) -> None:
    async with Engine.open(where("b"), migrate=migrate) as engine:
        assert await engine.tx(lambda c: differences(c, tables.metadata)) == []


async def test_orders_and_allocations_are_loaded_as_they_were_recorded(where: Where) -> None:
    async with Stack(AURORA, where) as stack:
        customer = stack.customer()
        assert isinstance(await customer.reserve("held", 1, AURORA_CHAIN, CTX), Reserved)
        impossible = replace(AURORA_CHAIN, bandwidth_bps=10**12)
        assert isinstance(await customer.reserve("held", 2, impossible, CTX), Refused)
        assert isinstance(await customer.reserve("refused", 1, impossible, CTX), Refused)
        assert isinstance(await customer.commit("held", 1, AddressingChoice(), CTX), Committed)
        await customer.terminate("tombstone", CTX)
        await stack.until(lambda: stack.state("held") is ServiceState.ACTIVE)
        for name, node in stack.nodes.items():
            before = {o.id: o for o in node.broker.orders()}
            orders, allocations = await node.broker.book.load()
            assert {o.id: o for o in orders} == before, name
            assert set(allocations) == {*node.broker.allocations(), *node.broker.path_ids.allocations()}


async def test_each_allocation_and_its_entry_in_the_journal_are_recorded_together(where: Where) -> None:
    async with Stack(TOP, where) as stack:
        customer = stack.customer()
        for ref in ("live", "held", "gone"):
            assert isinstance(await customer.reserve(ref, 1, PLAIN, CTX), Reserved)
        await customer.release("gone", 1, CTX)
        assert isinstance(await customer.commit("live", 1, AddressingChoice(), CTX), Committed)
        await stack.until(lambda: stack.state("live") is ServiceState.ACTIVE)
        seen = set()
        for turn in range(2):
            for node in stack.nodes.values():
                table, replayed = await table_and_journal(node.engine)
                assert table == replayed
                seen |= {state for _, state in table.values()}
            if turn == 0:
                await customer.terminate("live", CTX)
                await stack.until(lambda: stack.state("live") is ServiceState.TERMINATED)
        assert seen == {"HELD", "LIVE", "RESTING"}
        await customer.terminate("held", CTX)
        await stack.ends_empty()
        for node in stack.nodes.values():
            table, replayed = await table_and_journal(node.engine)
            assert table == replayed


async def test_any_text_of_a_customer_is_stored(where: Where) -> None:
    async with Stack(TOP, where) as stack:
        spec = replace(PLAIN, reference="a\0b \N{SNOWMAN}")
        assert isinstance(await stack.customer().reserve("r", 1, spec, CTX), Reserved)
        orders, _ = await stack.broker("a").book.load()
        assert [o.spec for o in orders] == [spec]
        await stack.customer().release("r", 1, CTX)
        await stack.ends_empty()


def test_an_order_is_read_without_a_plan_of_the_release_before() -> None:
    former = {"segments": [{"alias": "n", "entry": "u", "exit": "x"}], "interconnects": [], "cost": "1", "delay_us": 1}
    at = "2026-01-01T00:00:00Z"
    stored = {"id": "o", "account": "a", "ref": "r", "version": 1, "state": "RESERVING", "created": at, "updated": at}
    order = ORDER.validate_python({**stored, "plan": former, "addressed": True})
    assert (order.state, order.plan) == (ServiceState.RESERVING, None)


async def test_charges_begin_and_end_once_on_both_sides(where: Where) -> None:
    async with Stack(AURORA, where) as stack:
        customer = stack.customer()
        await customer.reserve("r", 1, AURORA_CHAIN, CTX)
        for _ in range(2):
            await customer.commit("r", 1, AddressingChoice(), CTX)
        await stack.until(lambda: stack.state() is ServiceState.ACTIVE)
        for _ in range(2):
            await customer.terminate("r", CTX)
        await stack.ends_empty()
        rows = await stack.nodes["aurora"].engine.read(lambda c: [tuple(r) for r in c.execute(tables.charges.select())])
        kinds = sorted((row[2], row[5], row[6]) for row in rows)
        both = (ChargeKind.START.short, ChargeKind.STOP.short)
        sides = (("BUY", "boreas.1"), ("BUY", "notos.1"), ("SELL", ""))
        assert kinds == sorted((side, segment, kind) for side, segment in sides for kind in both)


class FailingBook:
    """Passes everything on to a book, and fails the next saves that it is told to."""

    def __init__(self, book: object) -> None:
        self._book = book
        self.failures = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._book, name)

    async def save(self, change: Change) -> int:
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is full")
        return await self._book.save(change)  # type: ignore[attr-defined, no-any-return]


async def test_what_could_not_be_recorded_did_not_happen_and_is_told_so(where: Where) -> None:
    async with Stack(AURORA, where) as stack:
        broker, customer = stack.broker("aurora"), stack.customer()
        book = FailingBook(broker.book)
        broker.book = book  # type: ignore[assignment]
        for _ in range(2):
            book.failures = 1
            with pytest.raises(OutcomeUnknown, match="not recorded"):
                await customer.reserve("r", 1, AURORA_CHAIN, CTX)
        assert (broker.allocations(), broker.path_ids.allocations()) == ((), ())
        assert stack.line("aurora", "notos").calls == []
        assert isinstance(await customer.reserve("r", 1, AURORA_CHAIN, CTX), Reserved)
        book.failures = 1
        with pytest.raises(OutcomeUnknown, match="not recorded"):
            await customer.release("r", 1, CTX)
        await customer.release("r", 1, CTX)
        book.failures = 2
        await stack.ends_empty()
        assert (broker.allocations(), broker.path_ids.allocations()) == ((), ())
        orders: tuple[Order, ...] = broker.orders()
        assert [o.state for o in orders] == [ServiceState.EXPIRED]
