"""Steps one by one: in each round of the event loop one order goes on, in the order in which they came."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from broker.orders.steps import Steps


async def test_a_step_that_nobody_else_wants_is_made_at_once() -> None:
    steps = Steps()
    task = asyncio.create_task(steps.turn())
    await asyncio.sleep(0)
    assert task.done()


async def test_in_each_round_one_goes_on_and_whoever_calls_is_heard_between() -> None:
    steps, story = Steps(), list[str]()

    async def order(name: str) -> None:
        await steps.turn()
        story.append(name)

    async def caller() -> None:
        for _ in range(8):
            story.append("call")
            await asyncio.sleep(0)

    await asyncio.gather(*(order(f"order {n}") for n in range(4)), caller())
    orders = [word for word in story if word != "call"]
    assert orders == [f"order {n}" for n in range(4)]
    assert not any(a != "call" and b != "call" for a, b in pairwise(story)), story


async def test_who_goes_away_holds_nobody_up() -> None:
    steps = Steps()
    first, gone, last = (asyncio.create_task(steps.turn()) for _ in range(3))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait_for(asyncio.gather(first, last), 5)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    again = asyncio.create_task(steps.turn())
    await asyncio.sleep(0)
    assert again.done(), "nobody waits any more: it is at once"
