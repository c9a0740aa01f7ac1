"""Plans of another process: the same as at once, after every change, and after the process ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker.bootstrap.planning import Planning
from broker.decompose.plan import Avoid
from broker.decompose.search import plan
from tests.support.planning import NOW, chain_spec, random_snapshot

SPEC = chain_spec("s0.uni", "s2.uni", ["x"], term_hours=1)


@pytest.fixture
async def elsewhere() -> AsyncIterator[Planning]:
    planning = Planning(few=0)
    yield planning
    await planning.close()


async def test_plans_are_the_same_after_every_change(elsewhere: Planning) -> None:
    rng, former = random.Random(1), random_snapshot(0, 4, joints=1)
    answers = set()
    for number in range(1, 25):
        views = {v.alias: v for v in former.suppliers}
        for view in random_snapshot(rng.randrange(30), 4, joints=1).suppliers:
            match rng.randrange(4):
                case 0:
                    views[view.alias] = view
                case 1 if view.alias in views:
                    views[view.alias] = replace(views[view.alias], usable=rng.random() < 0.8, kept=rng.random())
                case 2 if view.alias not in ("s0", "s2"):
                    views.pop(view.alias, None)
        snap = replace(former, number=number, suppliers=tuple(v for _, v in sorted(views.items())), caution=0.5)
        answer = await elsewhere(SPEC, snap, NOW, Avoid(), 3)
        assert answer == plan(SPEC, snap, NOW, Avoid(), 3)
        answers.add(repr(answer))
        former = snap
    assert len(answers) > 5


async def test_what_is_hoped_for_is_planned_beside_what_is_announced(elsewhere: Planning) -> None:
    for number in range(1, 6):
        snap = replace(random_snapshot(number, 4, joints=1), number=number)
        hoped = replace(random_snapshot(number + 20, 4, joints=1), number=number, hoped=True)
        for asked in (snap, hoped, snap):
            assert await elsewhere(SPEC, asked, NOW, Avoid(), why=False) == plan(
                SPEC, asked, NOW, Avoid(), 1, why=False
            )


async def test_a_process_that_ended_is_begun_again_and_told_everything(elsewhere: Planning) -> None:
    snap = random_snapshot(3, 4, joints=1)
    first = await elsewhere(SPEC, snap, NOW, Avoid())
    assert elsewhere.process is not None
    former = elsewhere.process
    former.kill()
    await former.wait()
    assert await elsewhere(SPEC, snap, NOW, Avoid()) == first
    assert elsewhere.process is not former


async def test_the_answer_to_who_went_away_is_not_taken_for_the_next(elsewhere: Planning) -> None:
    snap, other = random_snapshot(3, 4, joints=1), chain_spec("s0.uni", "s2.uni", [])
    expected = plan(SPEC, snap, NOW, Avoid(), 1)
    assert plan(other, snap, NOW, Avoid(), 1) != expected
    for steps in range(8):
        gone = asyncio.ensure_future(elsewhere(other, snap, NOW, Avoid()))
        for _ in range(steps):
            await asyncio.sleep(0)
        gone.cancel()
        assert await elsewhere(SPEC, snap, NOW, Avoid()) == expected
        assert gone.cancelled()


async def test_what_is_small_needs_no_process() -> None:
    planning, snap = Planning(), random_snapshot(3, 4, joints=1)
    assert await planning(SPEC, snap, NOW, Avoid()) == plan(SPEC, snap, NOW, Avoid(), 1)
    assert planning.process is None


async def test_a_fault_of_the_planner_is_told_to_who_asked(elsewhere: Planning) -> None:
    snap = random_snapshot(3, 4, joints=1)
    with pytest.raises(TypeError):
        await elsewhere(replace(SPEC, functions=None), snap, NOW, Avoid())  # type: ignore[arg-type]
    assert await elsewhere(SPEC, snap, NOW, Avoid()) == plan(SPEC, snap, NOW, Avoid(), 1)
