"""Clients that order, commit and end without a pause, in a process that is made to be killed.

`python -m tests.support.busy_orders SEED A B` opens the federation below over the databases A of a and B of b, files or URLs,
says "busy" when some orders are through, and goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from itertools import count
from pathlib import Path

import structlog

from address_planner.labels import LabelSet
from broker.settings.process import Database, store_of
from service_model.outcomes import Reserved
from tests.support.orders import CONFIRM, CTX
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

CLIENTS = 4
LABELS, MANY = LabelSet(((500, 539),)), LabelSet(((1, 99),))
TOP = Sp(
    "a",
    (
        Site("s1", ("firewall",), labels=LABELS, uni=MANY, hosts=(500,)),
        Sp("b", (Site("s2", ("meter",), labels=LABELS, uni=MANY, hosts=(500,)),)),
    ),
    (POOL,),
)
ORDER = chain("s1.uni", "b.s2.uni", "firewall", "meter", bandwidth_bps=0)


async def client(stack: Stack, name: str, rng: random.Random, through: asyncio.Semaphore) -> None:
    own = stack.customer()
    for number in count():
        ref = f"{name}-{number}"
        answer = await own.reserve(ref, 1, ORDER, CTX)
        what = rng.random()
        if isinstance(answer, Reserved) and what < 0.7:
            await own.commit(ref, 1, CONFIRM, CTX)
            if what < 0.5:
                await own.terminate(ref, CTX)
        elif what < 0.9:
            await own.release(ref, 1, CTX)
        through.release()


async def time(stack: Stack) -> None:
    """Ten times as fast as elsewhere: all clients may be waiting for a label."""
    while True:
        await asyncio.sleep(0.01)
        stack.clock.advance(0.1)


def named(store: Path | Database) -> str:
    """As `main` is told it."""
    return store.url if isinstance(store, Database) else str(store)


async def main(seed: str, stores: dict[str, Path | Database]) -> None:
    rng, through = random.Random(seed), asyncio.Semaphore(0)
    async with Stack(TOP, stores.__getitem__, draw=seed) as stack, asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(stack, f"{seed}-{number}", random.Random(f"{seed}/{number}"), through))
        group.create_task(time(stack))
        for _ in range(rng.randint(2, 12)):
            await through.acquire()
        print("busy", flush=True)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(main(sys.argv[1], dict(zip("ab", map(store_of, sys.argv[2:]), strict=True))))
