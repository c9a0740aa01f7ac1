"""Who may begin, counted on a clock that stands still: limits follow lateness, queues are short, accounts share alike."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from broker.northbound.admission import (
    FEWEST,
    HINT_MAX_S,
    HINT_MIN_S,
    ROUND,
    SHORT_WAIT_S,
    STANDING_S,
    WAIT_S,
    WINDOW_S,
    Admission,
    Bounds,
    Limit,
    Slot,
)
from lower_sp_clients.supplier import Overloaded
from tests.support.clock import SimulatedClock

LATE_S = Bounds().late_s


def admission(clock: SimulatedClock | None = None, random: float = 0.5, **bounds: int) -> Admission:
    return Admission(Bounds(**bounds), clock or SimulatedClock(), lambda: random)


async def asks(gate: Admission, account: str) -> asyncio.Task[Slot]:
    task = asyncio.create_task(gate.begin(account))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def settles() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def rounds(limit: Limit, late_s: float, count: int) -> None:
    for _ in range(count * ROUND):
        limit.seen(late_s)


def test_late_work_lets_fewer_begin_and_work_in_time_more_up_to_the_bound() -> None:
    limit = Limit(64, LATE_S)
    assert limit.value == 64, "until it is known better"
    rounds(limit, LATE_S * 2, 1)
    assert limit.value == 48
    rounds(limit, LATE_S * 2, 50)
    assert limit.value == FEWEST, "something always goes on"
    rounds(limit, 0.0, 5)
    assert limit.value == FEWEST + 5
    rounds(limit, 0.0, 200)
    assert limit.value == 64


def test_where_lateness_is_not_looked_at_the_bound_is_the_limit() -> None:
    limit = Limit(64, 0)
    rounds(limit, 10.0, 3)
    assert limit.value == 64


def test_one_slow_moment_in_a_round_changes_nothing() -> None:
    limit = Limit(64, LATE_S)
    before = limit.value
    for n in range(ROUND):
        limit.seen(10.0 if n == 3 else 0.0)
    assert limit.value == before


async def test_no_more_begin_than_may_and_the_next_begins_when_one_has_ended() -> None:
    gate = admission(beginning=2)
    first, second, third = [await asks(gate, "ann") for _ in range(3)]
    assert first.done()
    assert second.done()
    assert not third.done()
    assert (gate.running, gate.waiting) == (2, 1)
    first.result().leave()
    await settles()
    assert third.done()
    assert (gate.running, gate.waiting) == (2, 0)


async def test_who_waits_too_long_is_told_when_to_come_back() -> None:
    clock = SimulatedClock()
    gate = admission(clock, beginning=1)
    await asks(gate, "ann")
    late = await asks(gate, "ben")
    clock.advance(WAIT_S - 0.01)
    await settles()
    assert not late.done()
    clock.advance(0.02)
    with pytest.raises(Overloaded) as told:
        await late
    assert HINT_MIN_S <= told.value.retry_after_s <= HINT_MAX_S
    assert (gate.running, gate.waiting) == (1, 0)


async def test_a_queue_that_stands_is_waited_in_for_less() -> None:
    clock = SimulatedClock()
    gate = admission(clock, beginning=1)
    await asks(gate, "ann")
    overlapping = []
    for _ in range(int(STANDING_S / (WAIT_S / 2)) + 1):
        overlapping.append(await asks(gate, "ben"))
        clock.advance(WAIT_S / 2)
        await settles()
    late = await asks(gate, "cat")
    clock.advance(SHORT_WAIT_S)
    with pytest.raises(Overloaded):
        await late
    await asyncio.gather(*overlapping, return_exceptions=True)


async def test_the_hint_is_how_long_those_take_who_were_turned_away_lately() -> None:
    clock = SimulatedClock()
    gate = admission(clock, beginning=1, waiting=0)
    for _ in range(10):  # ten are served in a window
        (await asks(gate, "ann")).result().leave()
    await asks(gate, "ann")
    hints = []
    for _ in range(40):
        with pytest.raises(Overloaded) as told:
            await gate.begin("ben")
        hints.append(told.value.retry_after_s)
    assert hints[-1] == pytest.approx(WINDOW_S * 40 / 10)
    assert hints == sorted(hints)


async def test_who_is_turned_away_does_not_come_back_with_all_the_others() -> None:
    told = set()
    for chance in (0.0, 0.3, 0.9):
        gate = admission(random=chance, beginning=1, waiting=0)
        await asks(gate, "ann")
        with pytest.raises(Overloaded) as error:
            await gate.begin("ben")
        told.add(error.value.retry_after_s)
    assert len(told) == 3


async def test_accounts_share_alike_however_often_one_asks() -> None:
    clock = SimulatedClock()
    gate = admission(clock, beginning=4, waiting=100)
    served: Counter[str] = Counter()
    running: list[tuple[str, Slot]] = []
    waiting: list[tuple[str, asyncio.Task[Slot]]] = []
    for _ in range(200):
        for account, calls in (("greedy", 9), ("ann", 1), ("ben", 1)):
            waiting += [(account, await asks(gate, account)) for _ in range(calls)]
        clock.advance(0.05)
        await settles()
        for account, task in [w for w in waiting if w[1].done()]:
            waiting.remove((account, task))
            if task.exception() is None:
                running.append((account, task.result()))
        if running:  # one call is done in each step: a twelfth of what is asked for
            account, slot = running.pop(0)
            served[account] += 1
            slot.leave()
        await settles()
    assert sum(served.values()) > 150
    assert min(served.values()) > 0.8 * max(served.values()), served


async def test_where_too_many_wait_the_last_of_who_has_most_goes() -> None:
    gate = admission(beginning=1, waiting=3)
    await asks(gate, "greedy")
    greedy = [await asks(gate, "greedy") for _ in range(3)]
    ann = await asks(gate, "ann")
    assert [t.done() for t in greedy] == [False, False, True]
    assert isinstance(greedy[2].exception(), Overloaded)
    assert not ann.done()
    again = await asks(gate, "greedy")
    assert isinstance(again.exception(), Overloaded), "who has most waiting pushes nobody out"
    assert gate.waiting == 3


async def test_a_caller_that_goes_away_leaves_its_place() -> None:
    gate = admission(beginning=1, waiting=5)
    first = await asks(gate, "ann")
    gone = await asks(gate, "ann")
    third = await asks(gate, "ben")
    gone.cancel()
    await settles()
    assert gate.waiting == 1
    first.result().leave()
    third.cancel()  # in the same moment in which it was its turn
    await settles()
    assert (gate.running, gate.waiting) == (0, 0)
    assert (await asks(gate, "cat")).done()


async def test_what_finishes_something_is_turned_away_only_where_very_much_of_it_runs() -> None:
    gate = admission(beginning=1, waiting=0, finishing=2)
    await asks(gate, "ann")
    with pytest.raises(Overloaded):
        await gate.begin("ann")
    one = gate.finish()
    gate.finish()
    with pytest.raises(Overloaded):
        gate.finish()
    one.leave()
    gate.finish()


async def test_an_account_has_so_many_streams_and_others_have_theirs() -> None:
    gate = admission(streams=1)
    mine = gate.stream("ann")
    with pytest.raises(Overloaded):
        gate.stream("ann")
    gate.stream("ben")
    mine.leave()
    gate.stream("ann")
