"""What a supplier makes of what it announced: counted once, kept over restarts, told to the planner."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from broker.bootstrap.promises import Record
from broker.orders.catalogue import Catalogue, Listing
from broker.storage.engine import Engine
from broker.storage.migrations import migrate
from broker.storage.supplier_books import SqlPromiseBook
from capability_registry.promises import GRACE, LONG, Promises
from lower_sp_clients.supplier import Context
from service_model.outcomes import AddressingChoice, Reason, ReasonCode, Refused, Reserved
from service_model.spec import End, ServiceSpec, VirtualLink
from tests.support.clock import SimulatedClock
from tests.support.fake_supplier import FakeSupplier
from tests.support.planning import view
from tests.support.postgres import Where

SPEC = ServiceSpec(
    name="web", ends=(End(id="a", sap="u1"), End(id="b", sap="u2")), links=(VirtualLink(id="l", points=("a", "b")),)
)


class Memory:
    """A PromiseBook that counts how often it is written."""

    def __init__(self) -> None:
        self.counts: dict[str, Promises] = {}
        self.writes = 0

    async def load(self) -> Mapping[str, Promises]:
        return self.counts

    async def save(self, changed: Mapping[str, Promises]) -> None:
        self.counts.update(changed)
        self.writes += 1


def held(ref: str, version: int = 1) -> Reserved:
    return Reserved(ref=ref, version=version, choice=AddressingChoice(), remaining_s=1.0)


def refused(ref: str, code: ReasonCode, version: int = 1) -> Refused:
    return Refused(ref=ref, version=version, reasons=(Reason(code=code, message="no"),))


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        (ReasonCode.CAPACITY, True), (ReasonCode.PRICE, True), (ReasonCode.LABELS_EXHAUSTED, True),
        (ReasonCode.LABEL_TAKEN, False), (ReasonCode.LABEL_CONTENDED, False), (ReasonCode.QUOTA, False),
        (ReasonCode.HOP_BUDGET, False), (ReasonCode.INVALID_SPEC, False),
    ],
)  # fmt: skip
def test_only_what_a_true_note_would_have_told_is_broken(code: ReasonCode, counts: bool) -> None:
    assert Promises().refused([code]) == Promises(broken=int(counts))


def test_the_rate_follows_what_happened_last() -> None:
    liar = Promises()
    assert liar.rate == 1.0
    assert Promises(broken=1).rate == GRACE / (GRACE + 1)
    for _ in range(LONG):
        liar = liar.refused([ReasonCode.CAPACITY])
    assert liar.rate < 0.02
    for _ in range(2 * LONG):
        liar = liar.held()
    assert liar.rate > 0.8
    assert liar.kept + liar.broken <= LONG


async def test_an_answer_that_is_given_again_counts_once() -> None:
    record = Record(Memory(), Catalogue("us"))
    for answer in (held("r"), held("r"), held("r", 2), refused("r", ReasonCode.CAPACITY, 1), held("s")):
        record.heard("metro", answer)
    assert record.of("metro") == Promises(kept=3)


async def test_what_was_held_for_more_than_was_announced_is_broken_and_not_kept() -> None:
    record = Record(Memory(), Catalogue("us"))
    await record.listening("metro", FakeSupplier(SimulatedClock())).reserve("r", 1, SPEC, Context())
    record.fell_short("metro")
    record.fell_short("an-own-domain")
    assert record.of("metro") == Promises(kept=0, broken=1)
    assert record.of("an-own-domain") == Promises()


async def test_what_was_asked_for_in_hope_was_never_promised() -> None:
    supplier, record = FakeSupplier(SimulatedClock()), Record(Memory(), Catalogue("us"))
    listened = record.listening("metro", supplier)
    await listened.reserve("r", 1, SPEC, Context(hoped=True))
    assert record.of("metro") == Promises()
    await listened.reserve("r", 2, SPEC, Context())
    assert record.of("metro") == Promises(kept=1)


async def test_a_supplier_is_counted_as_it_answers_and_its_answers_pass_unchanged() -> None:
    supplier, record = FakeSupplier(SimulatedClock()), Record(Memory(), Catalogue("us"))
    listened = record.listening("metro", supplier)
    answer = await listened.reserve("r", 1, SPEC, Context())
    assert answer == await supplier.reserve("r", 1, SPEC, Context())
    assert record.of("metro") == Promises(kept=1)
    assert record.listening("metro", supplier) is listened
    assert record.listening("metro", FakeSupplier(SimulatedClock())) is not listened


async def test_counts_are_written_at_a_tick_where_they_changed_and_the_planner_is_told() -> None:
    catalogue, book = Catalogue("us"), Memory()
    catalogue.list((Listing(alias="metro", sp_id="sp-metro", local=False),))
    catalogue.put("metro", view("metro", [], []).note)
    record = Record(book, catalogue)
    record.heard("metro", refused("r", ReasonCode.CAPACITY))
    record.heard("metro", refused("s", ReasonCode.QUOTA))
    assert book.writes == 0
    await record.tick()
    await record.tick()
    assert (book.writes, book.counts) == (1, {"metro": Promises(broken=1)})
    assert catalogue.snapshot.suppliers[0].kept == Promises(broken=1).rate


async def test_counts_outlive_a_restart(where: Where) -> None:
    async with Engine.open(where("b"), migrate=migrate) as engine:
        record = Record(SqlPromiseBook(engine), Catalogue("us"))
        await record.open()
        record.heard("metro", held("r"))
        await record.tick()
        record.heard("metro", refused("s", ReasonCode.CAPACITY))
        await record.tick()
    async with Engine.open(where("b"), migrate=migrate) as engine:
        record = Record(SqlPromiseBook(engine), Catalogue("us"))
        await record.open()
        assert record.of("metro") == Promises(kept=1, broken=1)
