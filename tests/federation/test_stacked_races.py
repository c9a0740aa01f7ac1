"""Two upper SPs that share both lower SPs, and race for the labels of the interconnect between them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from lower_sp_clients.vim.accounting import TAKES
from service_model.outcomes import ReasonCode, Refused, Reserved
from tests.support.faults import delayed
from tests.support.orders import CTX
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

LABELS = LabelSet(((500, 599),))
MANY = LabelSet(((1, 999),))
LEFT = Sp("l", (Site("s1", ("firewall",), labels=LABELS, uni=MANY, hosts=(500,)),))
RIGHT = Sp("r", (Site("s2", ("meter",), labels=LABELS, uni=MANY, hosts=(500,)),))
ORDER = chain("l.s1.uni", "r.s2.uni", "firewall", "meter", bandwidth_bps=0)
UPPER = {"a": POOL, "z": replace(POOL, prefix=ip_network("10.65.0.0/16"))}


def _delays(stack: Stack, rng: random.Random) -> None:
    for upper, near in (("a", "l"), ("z", "r")):
        for alias in "lr":
            most = 3 if alias == near else 30
            stack.line(upper, alias).always["reserve"] = delayed(lambda most=most: rng.randrange(most))  # type: ignore[misc]


def held(stack: Stack, site: str) -> list[int]:
    """The labels at one side of the interconnect."""
    return [
        label
        for hold in stack.vim(site).holds()
        if hold.state in TAKES and hold.choice is not None
        for end, label in hold.choice.labels.items()
        if end not in "ab"
    ]


@pytest.mark.parametrize("seed", range(3))
async def test_a_hundred_orders_at_once_get_a_hundred_labels_and_one_more_none(seed: int, tmp_path: Path) -> None:
    stack = Stack(Sp("a", (LEFT, RIGHT), (UPPER["a"],)), tmp_path, beside=(Sp("z", (LEFT, RIGHT), (UPPER["z"],)),))
    async with stack:
        _delays(stack, random.Random(seed))

        async def order(number: int) -> Reserved | Refused:
            upper = "az"[number % 2]
            return await stack.customer(of=upper).reserve(f"r{number}", 1, ORDER, CTX)

        asking = [asyncio.ensure_future(order(n)) for n in range(100)]
        await stack.until(lambda: all(task.done() for task in asking), step=0.05, turns=40000)
        answers = [task.result() for task in asking]
        refused = [a.reasons for a in answers if isinstance(a, Refused)]
        assert not refused, refused[0]
        assert sorted(held(stack, "s1")) == sorted(held(stack, "s2")) == list(LABELS)
        one_more = asyncio.ensure_future(order(100))
        await stack.until(one_more.done, step=0.05, turns=40000)
        answer = one_more.result()
        assert isinstance(answer, Refused)
        assert ReasonCode.LABELS_EXHAUSTED in {reason.code for reason in answer.reasons}
        assert len(held(stack, "s1")) == 100
        assert rounds(stack)[-1] <= 6


def rounds(stack: Stack) -> list[int]:
    """How often a segment was asked for, over all orders, from the fewest to the most."""
    asked = Counter(
        (upper, alias, ref)
        for upper in UPPER
        for alias in "lr"
        for method, ref, _ in stack.line(upper, alias).calls
        if method == "reserve"
    )
    return sorted(asked.values())
