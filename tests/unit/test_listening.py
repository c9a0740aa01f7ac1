"""After an interruption a supplier is asked for everything that is open, many segments at once and each once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.orders.calling import Caller
from broker.orders.listening import LOOKS_AT_ONCE, Listener
from broker.orders.records import Order, Segment
from broker.orders.states import SegmentState
from lower_sp_clients.supplier import OutcomeUnknown, ServiceNotFound
from service_model.outcomes import ServiceState
from service_model.spec import ServiceSpec
from tests.support.clock import SimulatedClock
from tests.support.fake_supplier import FakeSupplier
from tests.support.faults import Answer, FaultySupplier

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERVICES = 5 * LOOKS_AT_ONCE + 3


def live(number: int) -> Order:
    segment = Segment(
        key="east.1",
        alias="east",
        ref=f"e{number}",
        spec=ServiceSpec(name="s", ends=(), links=()),
        version=1,
        state=SegmentState.ACTIVE,
    )
    return Order(
        id=f"o{number}",
        account="ann",
        ref=f"r{number}",
        version=1,
        state=ServiceState.ACTIVE,
        created=NOW,
        updated=NOW,
        segments=(segment,),
    )


async def test_as_many_segments_as_may_are_asked_for_at_once_and_each_once() -> None:
    clock, asked, open_now, most = SimulatedClock(), Counter[str](), 0, 0
    orders = {order.id: order for order in map(live, range(SERVICES))}

    async def slow(call: Answer, ref: str, version: int) -> Any:
        nonlocal open_now, most
        asked[ref] += 1
        open_now += 1
        most = max(most, open_now)
        await clock.sleep(1.0)
        open_now -= 1
        raise ServiceNotFound(ref)

    supplier, down = FakeSupplier(clock), asyncio.Event()
    line = FaultySupplier(lambda: supplier, lambda: down)
    line.always["status"] = slow
    listener = Listener(Caller(clock), clock, orders, lambda order: None)
    for order in orders.values():
        listener.index(order)
    listener.follow({"east": line})
    seconds = 0
    while sum(asked.values()) < SERVICES or open_now:
        for _ in range(50):
            await asyncio.sleep(0)
        clock.advance(1.0)
        seconds += 1
        assert seconds < SERVICES, "one after the other"
    await listener.close()
    assert most == LOOKS_AT_ONCE
    assert set(asked.values()) == {1}
    assert len(asked) == SERVICES


async def test_a_supplier_is_dead_when_it_was_not_heard_of_for_its_time_and_each_of_its_orders_hears_that_once() -> (
    None
):
    clock, died, limits = SimulatedClock(), Counter[str](), {"east": timedelta(seconds=60)}
    orders = {order.id: order for order in map(live, range(3))}
    there = FakeSupplier(clock)
    down, away = asyncio.Event(), True

    def supplier() -> FakeSupplier:
        if away:
            raise OutcomeUnknown("nobody answers")
        return there

    def heard_of(id: str) -> None:
        died[id] += 1

    async def pass_time(seconds: int) -> None:
        for _ in range(seconds):
            clock.advance(1.0)
            for _ in range(20):
                await asyncio.sleep(0)

    line = FaultySupplier(supplier, lambda: down)
    listener = Listener(Caller(clock), clock, orders, lambda order: None, limits.get, heard_of)
    for order in orders.values():
        listener.index(order)
    listener.follow({"east": line, "own": FaultySupplier(supplier, lambda: down)})
    await pass_time(59)
    assert (listener.silent("east"), listener.dead("east"), died) == (True, False, Counter())
    limits["east"] = timedelta(seconds=90)  # its document was changed meanwhile
    await pass_time(30)
    assert not listener.dead("east")
    await pass_time(2)
    assert (listener.dead("east"), died) == (True, Counter(dict.fromkeys(orders, 1)))
    assert (listener.silent("own"), listener.dead("own")) == (False, False), "of our own domains nobody says so"
    away = False
    await pass_time(15)
    assert (listener.silent("east"), listener.dead("east")) == (False, False)
    away = True
    down.set()
    await pass_time(2)
    assert (listener.silent("east"), listener.dead("east")) == (True, False), "its time begins anew"
    await pass_time(90)
    assert died == Counter(dict.fromkeys(orders, 2))
    await listener.close()
