"""Notes that are made one after another, of snapshots that change, here and in another process: those that `derive` makes from
nothing."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.bootstrap.deriving import Deriving
from broker.decompose.deriving import Deriver, Wish
from broker.decompose.plan import Snapshot, SupplierView
from capability_registry.abstraction import OPEN, Abstraction, Disclosure
from capability_registry.hysteresis import Change
from capability_registry.note import NOTE, CapabilityNote, Lifecycle
from tests.support.changing import changed, rich_snapshot
from tests.support.planning import NOW

SECRET = b"s" * 32


def wish(audience: str, now: datetime = NOW, **more: object) -> Wish:
    asked: dict[str, object] = {
        "audience": audience, "sp_id": "", "now": now, "validity": timedelta(hours=1), "margin": Decimal("1.1"),
        "currency": "EUR", "disclosure": OPEN, "classes": (), "max_hold_s": 300, "lifecycle": Lifecycle.ACTIVE, "notice": "",
        "features": ("lan",), "token": "mine", "secret": SECRET, "share": 0.1,
    }  # fmt: skip
    return Wish(**(asked | more))  # type: ignore[arg-type]


def audiences(now: datetime) -> tuple[Wish, ...]:
    """Who sees all, at other prices and under other words; a supplier; who pays in another currency."""
    grey = Disclosure(abstraction=Abstraction.GREY)
    return (
        wish("all", now),
        wish("grey", now, margin=Decimal(2), disclosure=grey, token="another"),
        wish("supplier", now, sp_id="sp-s1"),
        wish("abroad", now, currency="CHF"),
    )


def text(deriver: Deriver, asked: Wish, snapshot: Snapshot) -> bytes:
    deriver.make(asked, snapshot)
    found = deriver.issue(asked.audience, 1, SECRET)
    assert found is not None
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), suppliers=st.integers(2, 6), steps=st.integers(1, 8))
def test_after_any_changes_each_audience_gets_the_note_that_is_made_from_nothing(
    seed: int, suppliers: int, steps: int
) -> None:
    rng, snapshot, now = random.Random(seed), rich_snapshot(seed, suppliers), NOW
    away: list[SupplierView] = []
    kept = Deriver()
    for _ in range(steps):
        for asked in audiences(now):
            if rng.random() < 0.7:
                assert text(kept, asked, snapshot) == text(Deriver(), asked, snapshot)
        for _ in range(rng.choice((1, 1, 2, 4))):
            snapshot = changed(snapshot, rng, away)
        now += timedelta(minutes=rng.choice((0, 0, 1, 3)))


def test_audiences_that_see_the_same_suppliers_share_what_was_found() -> None:
    snapshot, deriver = rich_snapshot(1, 5), Deriver()
    everybody, other, supplier, _ = audiences(NOW)
    deriver.make(everybody, snapshot)
    walks = deriver.walks
    assert walks > 0
    deriver.make(other, snapshot)
    assert deriver.walks == walks
    deriver.make(supplier, snapshot)
    assert deriver.walks > walks


def test_no_more_walks_are_kept_than_may_be_and_the_notes_stay_the_same() -> None:
    snapshot, rng, away = rich_snapshot(1, 5), random.Random(1), list[SupplierView]()
    everybody, _, supplier, _ = audiences(NOW)
    ample = Deriver()
    for asked in (everybody, supplier):
        ample.make(asked, snapshot)
    most = ample.walks - 1
    tight, none = Deriver(most), Deriver(0)
    for _ in range(10):
        for asked in (everybody, supplier):
            expected = text(ample, asked, snapshot)
            assert text(tight, asked, snapshot) == text(none, asked, snapshot) == expected
            assert tight.walks <= most
            assert none.walks == 0
        snapshot = changed(snapshot, rng, away)


def test_a_change_is_told_beside_the_note_that_was_issued() -> None:
    snapshot, deriver, asked = rich_snapshot(1, 5), Deriver(), wish("all")
    assert deriver.make(asked, snapshot).change is None
    assert deriver.make(asked, snapshot).change is None  # it was made, and not issued
    assert deriver.issue("all", 1, SECRET) is not None
    assert deriver.issue("all", 2, SECRET) is None  # it was made once
    assert deriver.make(asked, snapshot).change is Change.SAME
    assert deriver.make(asked, replace(snapshot, number=2, suppliers=snapshot.suppliers[1:])).change is Change.LESS
    assert deriver.make(asked, snapshot).change is Change.SAME
    assert deriver.make(asked, snapshot, first=True).change is None


@pytest.fixture
async def elsewhere() -> AsyncIterator[Deriving]:
    deriving = Deriving(few=0)
    yield deriving
    await deriving.close()


async def told(deriving: Deriving, asked: Wish, snapshot: Snapshot) -> CapabilityNote:
    await deriving.make(asked, snapshot)
    payload = await deriving.issue(asked.audience, 7, SECRET)
    assert payload is not None
    return NOTE.validate_json(payload)


async def test_the_process_makes_the_same_notes_after_every_change(elsewhere: Deriving) -> None:
    snapshot, rng, away = rich_snapshot(3, 5), random.Random(3), list[SupplierView]()
    texts = set()
    for step in range(12):
        for asked in audiences(NOW + timedelta(minutes=step)):
            note = await told(elsewhere, asked, snapshot)
            assert note == await told(Deriving(few=10**9), asked, snapshot)
            texts.add(repr(replace(note, expires=NOW, not_before=NOW)))
        snapshot = changed(snapshot, rng, away)
    assert elsewhere.process is not None
    assert len(texts) > 20


async def test_what_is_small_is_made_without_a_process() -> None:
    deriving = Deriving()
    snapshot = rich_snapshot(3, 2)
    assert (await told(deriving, wish("all"), snapshot)).edition == 7
    assert deriving.process is None


async def test_after_its_process_ended_a_note_is_made_as_the_first(elsewhere: Deriving) -> None:
    snapshot, asked = rich_snapshot(3, 5), wish("all")
    first = await told(elsewhere, asked, snapshot)
    assert (await elsewhere.make(asked, snapshot)).change is Change.SAME
    assert elsewhere.process is not None
    elsewhere.process.kill()
    await elsewhere.process.wait()
    assert await elsewhere.issue("all", 8, SECRET) is None
    assert (await elsewhere.make(asked, snapshot)).change is None
    assert await told(elsewhere, asked, snapshot) == first


async def test_what_was_said_here_before_it_was_made_elsewhere_does_not_count_later(elsewhere: Deriving) -> None:
    snapshot, asked = rich_snapshot(3, 5), wish("all")
    nobody = replace(snapshot, suppliers=())
    await told(elsewhere, asked, snapshot)
    await told(elsewhere, asked, nobody)  # few ways: here
    assert (await elsewhere.make(asked, snapshot)).change is None
