"""Where every call takes 5 ms, a hold takes 5 ms for each level and nothing for each segment, and so does a commit: counted on a
clock that stands still until everybody waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service_model.outcomes import Committed, Reserved
from service_model.spec import End, LinkKind, ServiceFunctionPath, ServiceSpec, VirtualLink
from tests.support.faults import Answer, takes
from tests.support.lines import first_and_last, last_sap, line
from tests.support.orders import CONFIRM, CTX
from tests.support.sites import Sp
from tests.support.stack import Stack

CALL = timedelta(milliseconds=5)
LENGTHS = tuple(range(2, 13))
DEPTHS = (1, 2, 3, 4)
QUIET = 6
"""So many turns in which nobody calls anybody: everybody waits for time to pass."""


def tree(top: Sp, length: int) -> ServiceSpec:
    """A second path parts from the first at its first function, and ends where it began."""
    spec = first_and_last(top, length)
    return replace(
        spec,
        ends=(*spec.ends, End(id="c", sap="s0.uni")),
        links=(*spec.links, VirtualLink(id="branch", points=("f0:side", "c"))),
        paths=(*spec.paths, ServiceFunctionPath(id="q", hops=("a", "f0:in", "f0:side", "c"))),
    )


def offices(top: Sp, length: int) -> ServiceSpec:
    """No path at all: a LAN of sites at both ends of the line."""
    ends = (End(id="a", sap="s0.uni"), End(id="b", sap=last_sap(top)))
    return ServiceSpec(
        name="offices",
        ends=ends,
        links=(VirtualLink(id="lan", kind=LinkKind.LAN, points=("a", "b")),),
        bandwidth_bps=10**6,
    )


SHAPES = {
    "chain": first_and_last,
    "chain with a LAN": lambda top, length: first_and_last(top, length, lan=True),
    "tree": tree,
    "LAN": offices,
}


class Timed:
    """A stack in which each call to a supplier takes CALL, and time passes only when nobody can do anything before."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.lines = [line for node in stack.nodes.values() for line in node.lines.values()]
        for wire in self.lines:
            wire.always |= dict.fromkeys(("reserve", "commit"), takes(stack.clock, CALL.total_seconds()))

    def made(self) -> int:
        return sum(len(wire.calls) for wire in self.lines)

    async def answer(self, asking: Coroutine[Any, Any, Any]) -> tuple[Any, timedelta]:
        """What is answered, and after how long."""
        task, begun = asyncio.ensure_future(asking), self.stack.clock.now()
        while True:
            quiet, before = 0, self.made()
            while quiet < QUIET and not task.done():
                await self.stack.turn()
                quiet, before = (quiet + 1, before) if self.made() == before else (0, self.made())
            if task.done():
                return task.result(), self.stack.clock.now() - begun
            self.stack.clock.advance(CALL.total_seconds())

    def asked(self) -> Counter[str]:
        """How often each broker asked each of its suppliers for a hold: calls by broker and alias, per segment the most."""
        out: Counter[str] = Counter()
        for name, node in self.stack.nodes.items():
            for alias, wire in node.lines.items():
                refs = Counter(ref for method, ref, _ in wire.calls if method == "reserve")
                out[f"{name}/{alias}"] = max(refs.values(), default=0)
        return out


def planning_at_once(top: Sp, directory: Path) -> Stack:
    stack = Stack(top, directory)
    for node in stack.nodes.values():
        node.few = 10**9
    return stack


async def held_and_committed(top: Sp, spec: ServiceSpec, directory: Path) -> tuple[timedelta, timedelta]:
    """How long the hold took and how long the commit; each supplier was asked once."""
    async with planning_at_once(top, directory) as stack:
        timed = Timed(stack)
        answer, hold = await timed.answer(stack.customer().reserve("r", 1, spec, CTX))
        assert isinstance(answer, Reserved), answer
        assert set(timed.asked().values()) == {1}, "every supplier is asked, and once for each segment"
        done, commit = await timed.answer(stack.customer().commit("r", 1, CONFIRM, CTX))
        assert isinstance(done, Committed), done
        return hold, commit


@pytest.mark.parametrize("depth", DEPTHS)
async def test_a_hold_and_a_commit_take_one_call_for_each_level_whatever_the_length(depth: int, tmp_path: Path) -> None:
    taken = {}
    for length in LENGTHS:
        top, folder = line(length, depth), tmp_path / str(length)
        folder.mkdir()
        taken[length] = await held_and_committed(top, first_and_last(top, length), folder)
    assert taken == dict.fromkeys(LENGTHS, (depth * CALL, depth * CALL))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", sorted(SHAPES))
async def test_a_hold_and_a_commit_take_one_call_for_each_level_whatever_the_shape(
    shape: str, depth: int, tmp_path: Path
) -> None:
    top = line(6, depth)
    assert await held_and_committed(top, SHAPES[shape](top, 6), tmp_path) == (depth * CALL, depth * CALL)


@pytest.mark.parametrize("depth", DEPTHS)
async def test_a_label_that_is_carried_through_all_takes_no_round_more(depth: int, tmp_path: Path) -> None:
    top = line(8, depth, swaps=False)
    assert await held_and_committed(top, first_and_last(top, 8), tmp_path) == (depth * CALL, depth * CALL)


async def test_a_label_that_one_side_takes_otherwise_costs_one_round_more_at_that_level(tmp_path: Path) -> None:
    """So the count can be wrong: the side that decides takes another label than the one suggested, and the other is asked again,
    down to the domain."""
    top = line(6, 2)
    async with planning_at_once(top, tmp_path) as stack:
        timed, slow = Timed(stack), takes(stack.clock, CALL.total_seconds())

        async def takes_another(call: Answer, ref: str, version: int) -> Reserved:
            answer: Reserved = await slow(call, ref, version)
            return replace(answer, choice=replace(answer.choice, labels={**answer.choice.labels, "x3": 1777}))

        stack.line("a", "s2").next("reserve", takes_another)
        answer, hold = await timed.answer(stack.customer().reserve("r", 1, first_and_last(top, 6), CTX))
        assert isinstance(answer, Reserved)
        assert hold == 4 * CALL
        assert timed.asked() == {"a/s0": 1, "a/s1": 1, "a/s2": 1, "a/b1": 2, "b1/s3": 2, "b1/s4": 1, "b1/s5": 1}
