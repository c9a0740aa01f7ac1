"""A broker is killed while several clients order: after the restart nothing is allocated twice, nothing is lost, nothing leaks.

`SPBROKER_KILLS` says how often (`SPBROKER_KILLS=200 pytest tests/crash`). Each kill goes on with the databases of the one before.
On each kind of store.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_network
from itertools import combinations
from pathlib import Path

import pytest

from address_planner.prefixes import overlap
from broker.orders.records import Order
from broker.orders.states import IN_FLIGHT
from broker.settings.process import Database
from lower_sp_clients.vim.accounting import TAKES
from lower_sp_clients.vim.holds import AllocationState
from service_model.outcomes import ServiceState
from tests.support.busy_orders import TOP, named
from tests.support.chaos_report import Facts, tell
from tests.support.ledger import table_and_journal
from tests.support.orders import CTX
from tests.support.postgres import Where
from tests.support.stack import Stack

KILLS = int(os.environ.get("SPBROKER_KILLS", "8"))
ROOT = Path(__file__).resolve().parents[2]
MOVING = frozenset({ServiceState.RESERVING, ServiceState.COMMITTING, ServiceState.ACTIVATING, ServiceState.TERMINATING})


def killed(stores: dict[str, Path | Database], seed: str) -> None:
    """Let clients be busy in a process of their own, and kill it in the middle."""
    rng = random.Random(f"kill/{seed}")
    path = os.pathsep.join((str(ROOT), str(ROOT / "proto")))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.busy_orders", seed, *map(named, stores.values())],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = process.stdout
    assert said is not None
    try:
        assert said.readline() == "busy\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 0.15))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        said.close()


@pytest.mark.parametrize("round", range(max(1, KILLS // 4)))
async def test_after_a_kill_nothing_is_allocated_twice_lost_or_left(round: int, where: Where) -> None:
    stores = {name: where(name) for name in ("a", "b")}
    for number in range(min(4, KILLS)):
        await asyncio.to_thread(killed, stores, f"{round}.{number}")
        async with Stack(TOP, stores.__getitem__, draw=f"after/{round}.{number}") as stack:
            await settled(stack)
            whole(stack)
            for node in stack.nodes.values():
                table, replayed = await table_and_journal(node.engine)
                assert table == replayed, "an allocation without its entry in the journal, or an entry alone"
    async with Stack(TOP, stores.__getitem__, draw=f"last/{round}") as stack:
        await settled(stack)
        for order in stack.broker("a").orders():
            await stack.customer().terminate(order.ref, CTX)
        await stack.ends_empty()
    checked = {"after a kill every allocation has one owner, and its entry in the journal": min(4, KILLS)}
    tell(Facts("kills at any moment", kills=min(4, KILLS), checked=checked))


async def settled(stack: Stack) -> None:
    """Everything that was under way is at its end; a hold that nobody waits for any more stays until it expires."""
    await stack.until(lambda: not any(moves(o) for o in orders(stack)), step=0.2, turns=3000)
    for vim in stack.vims():
        await stack.until(lambda vim=vim: all(h.state not in MOVING for h in vim.holds()), step=0.2, turns=3000)  # type: ignore[misc]


def moves(order: Order) -> bool:
    """Also what was refused moves, until all that it had is given back."""
    return order.state in MOVING or any(s.state in IN_FLIGHT for s in order.all_segments())


def orders(stack: Stack) -> Iterator[Order]:
    for node in stack.nodes.values():
        yield from node.broker.orders()


def whole(stack: Stack) -> None:
    blocks = {a.owner: a.value for a in stack.broker("a").allocations() if a.state is not AllocationState.RESTING}
    resting = [a.value for a in stack.broker("a").allocations() if a.state is AllocationState.RESTING]
    having = {o.id: str(o.block) for o in stack.broker("a").orders() if o.block is not None}
    assert blocks == having, "a block without an order, or an order without its block"
    taken = [ip_network(value) for value in (*blocks.values(), *resting)]
    assert not any(overlap(a, b) for a, b in combinations(taken, 2))
    for node in stack.nodes.values():
        ids = [(a.owner, int(a.value)) for a in node.broker.path_ids.allocations()]
        named = {(o.id, id) for o in node.broker.orders() for id in o.path_ids.values()}
        assert set(ids) == named, "an identifier without an order, or an order without its identifier"
        assert len({id for _, id in ids}) == len(ids)
    held = {vim.domain.name: labels(stack, vim.domain.name) for vim in stack.vims()}
    for at in held.values():
        assert max(Counter(at.values()).values(), default=1) == 1, "one label for two segments"
    for order in stack.broker("a").orders():
        if order.state in (ServiceState.RESERVED, ServiceState.ACTIVE):
            here, there = order.segments
            below = next(o for o in stack.broker("b").orders() if o.ref == there.ref)
            assert held["s1"][here.ref] == held["s2"][below.segments[0].ref], "two sides, two labels"
    wanted = {
        s.ref for o in orders(stack) for s in o.segments if o.state in (ServiceState.RESERVED, ServiceState.ACTIVE)
    }
    assert set(held["s1"]) | set(held["s2"]) <= wanted, "a label that no order has"


def labels(stack: Stack, site: str) -> dict[str, int]:
    """By segment, the label that it has at the interconnect."""
    return {
        hold.ref: label
        for hold in stack.vim(site).holds()
        if hold.state in TAKES and hold.choice is not None
        for end, label in hold.choice.labels.items()
        if end not in "ab"
    }
