"""Notes that are out of date: what could be had lately is asked for where nothing that is announced will do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from broker.orders.hoping import MOST
from lower_sp_clients.supplier import Context
from service_model.outcomes import Alternative, Nogood, Reason, ReasonCode, Refused, Reserved, ServiceState
from service_model.spec import ServiceSpec
from tests.support.faults import hangs, lost_after, refuses, waits_for
from tests.support.orders import CTX, active, reserved
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import Stack

TAGGED = LabelSet(((10, 99),))
METERED = chain("west.uni", "end.uni", "meter")


def metro(number: int) -> Sp:
    """With one host, so that one order fills it; dearer than those of lower numbers."""
    return Sp(f"m{number}", (Site(f"s{number}", ("meter",), hosts=(1,), cost=number),))


def over(*numbers: int) -> Sp:
    return Sp(
        "a", (Site("west", uni=TAGGED), Either(tuple(metro(n) for n in numbers)), Site("end", uni=TAGGED)), (POOL,)
    )


BELOW = Sp("b", (Sp("c", (Site("deep", ("meter",), hosts=(1,)),)),))
THREE = Sp("a", (Site("west", uni=TAGGED), BELOW, Site("end", uni=TAGGED)), (POOL,))
"""Three brokers above each other over one host."""


async def fill(stack: Stack, *refs: str, spec: ServiceSpec = METERED) -> None:
    """All that there is, and everybody knows."""
    for ref in refs:
        await reserved(stack, spec, ref)
        stack.announce_all()


async def ask(stack: Stack, ref: str = "late", ctx: Context = CTX, spec: ServiceSpec = METERED) -> Reserved | Refused:
    return await stack.customer().reserve(ref, 1, spec, ctx)


def asked(stack: Stack, *numbers: int) -> list[int]:
    """How many reservations came to each metro."""
    return [stack.line("a", f"m{n}").count("reserve") for n in numbers]


def codes(reasons: tuple[Reason, ...]) -> set[ReasonCode]:
    return {reason.code for reason in reasons}


async def test_what_became_free_since_the_note_is_held_all_the_same(tmp_path: Path) -> None:
    async with Stack(over(1), tmp_path, hopes=2) as stack:
        await fill(stack, "first")
        await stack.customer().release("first", 1, CTX)
        whole = await active(stack, METERED, "late")
        assert len(whole.segments) == 3
        await stack.customer().terminate("late", CTX)
        await stack.ends_empty()


async def test_what_became_free_is_found_through_three_brokers_with_old_notes(tmp_path: Path) -> None:
    async with Stack(THREE, tmp_path, hopes=2) as stack:
        await fill(stack, "first")
        await stack.customer().release("first", 1, CTX)
        assert isinstance(await ask(stack), Reserved)


async def test_an_order_is_not_in_its_own_way_when_it_is_planned_again_over_notes_that_count_its_hold(
    tmp_path: Path,
) -> None:
    """The port at its end has one label, which the order holds itself by the time that it is planned again."""
    middle = Either((metro(1), metro(2)))
    async with Stack(Sp("a", (Site("west"), middle, Site("end")), (POOL,)), tmp_path, hopes=2) as stack:
        gate = asyncio.Event()
        stack.line("m1", "s1").next("reserve", waits_for(gate))
        stack.line("m1", "s1").always["reserve"] = refuses(ReasonCode.CAPACITY, subject="f0")
        stack.vim("s1").reconfigure(replace(stack.vim("s1").domain, hosts={"S1": ()}))
        asking = asyncio.ensure_future(ask(stack))
        await stack.until(lambda: stack.line("m1", "s1").count("reserve") == 1 and bool(stack.vim("west").holds()))
        stack.announce_all()
        gate.set()
        await stack.until(asking.done)
        assert isinstance(asking.result(), Reserved)


async def test_without_hope_the_same_order_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    async with Stack(over(1), tmp_path, hopes=0) as stack:
        await fill(stack, "first")
        await stack.customer().release("first", 1, CTX)
        before = asked(stack, 1)
        answer = await ask(stack)
        assert isinstance(answer, Refused)
        assert ReasonCode.CAPACITY in codes(answer.reasons)
        assert asked(stack, 1) == before
        await stack.ends_empty()


async def test_what_is_announced_is_preferred_to_what_is_hoped_for_whatever_it_costs(tmp_path: Path) -> None:
    async with Stack(over(1, 5), tmp_path, hopes=2) as stack:
        await fill(stack, "first")
        await stack.customer().release("first", 1, CTX)
        before = asked(stack, 1)
        assert isinstance(await ask(stack), Reserved)
        assert asked(stack, 1) == before
        assert len(stack.vim("s5").holds()) == 1


@pytest.mark.parametrize("hopes", [1, 2, 3])
async def test_hopes_are_counted_and_a_refusal_leaves_nothing(tmp_path: Path, hopes: int) -> None:
    async with Stack(over(1, 2, 3, 4), tmp_path, hopes=hopes) as stack:
        await fill(stack, "r1", "r2", "r3", "r4")
        before = sum(asked(stack, 1, 2, 3, 4))
        held = {vim.domain.name: [h.ref for h in vim.holds()] for vim in stack.vims()}
        answer = await ask(stack)
        assert isinstance(answer, Refused)
        assert sum(asked(stack, 1, 2, 3, 4)) - before == hopes
        await stack.pass_time(5)
        kept = {v.domain.name: [h.ref for h in v.holds() if h.state is ServiceState.RESERVED] for v in stack.vims()}
        assert kept == held
        for ref in ("r1", "r2", "r3", "r4"):
            await stack.customer().release(ref, 1, CTX)
        await stack.ends_empty()


async def test_a_refusal_after_hope_tells_what_it_would_have_told_and_what_was_tried(tmp_path: Path) -> None:
    told = []
    for hopes in (0, 2):
        (tmp_path / str(hopes)).mkdir()
        async with Stack(over(1), tmp_path / str(hopes), hopes=hopes) as stack:
            await fill(stack, "first")
            answer = await ask(stack)
            assert isinstance(answer, Refused)
            told.append(answer.reasons)
    without, after = told
    assert after[: len(without)] == without
    assert isinstance(without[0].nogood, Nogood)
    assert isinstance(without[0].nogood.alternative, Alternative)
    assert codes(after[len(without) :]) == {ReasonCode.SEGMENT_REFUSED}
    assert [r.segment for r in after[len(without) :]] == ["m1.1"]


async def test_nothing_is_hoped_for_that_no_note_ever_told(tmp_path: Path) -> None:
    async with Stack(over(1), tmp_path, hopes=2) as stack:
        await fill(stack, "first")
        await stack.customer().release("first", 1, CTX)
        before = asked(stack, 1)
        never = [
            replace(METERED, functions=(replace(METERED.functions[0], flavour="xl"),)),
            replace(METERED, min_mtu=9000),
            replace(METERED, bandwidth_bps=10**12),
            replace(METERED, isolation=("macsec",)),
            replace(METERED, max_delay_us=1),
            chain("west.uni", "end.uni", "meter", "meter"),
        ]
        for number, spec in enumerate(never):
            assert isinstance(await ask(stack, f"never{number}", spec=spec), Refused)
        assert asked(stack, 1) == before


async def test_what_the_supplier_announces_no_more_at_all_is_not_hoped_for(tmp_path: Path) -> None:
    """It took the function out of its catalogue: that does not come and go."""
    async with Stack(over(1), tmp_path, hopes=2) as stack:
        await fill(stack, "first")
        vim = stack.vim("s1")
        vim.reconfigure(replace(vim.domain, functions=()))
        stack.announce_all()
        before = asked(stack, 1)
        answer = await ask(stack)
        assert isinstance(answer, Refused)
        assert asked(stack, 1) == before


@pytest.mark.parametrize("freed", [True, False])
async def test_a_broker_that_restarts_in_the_middle_of_a_hope_finishes_it(tmp_path: Path, freed: bool) -> None:
    async with Stack(over(1, 2), tmp_path, hopes=2) as stack:
        await fill(stack, "r1", "r2")
        if freed:
            await stack.customer().release("r1", 1, CTX)
        line = stack.line("a", "m1")
        before, line.always["reserve"] = line.count("reserve"), lost_after() if freed else hangs()
        asking = asyncio.ensure_future(ask(stack))
        await stack.until(lambda: line.count("reserve") > before)
        await stack.restart("a")
        line.always.clear()
        await asyncio.wait([asking])
        asking.exception()
        await stack.until(lambda: stack.state("late") is not ServiceState.RESERVING, step=0.2)
        assert stack.state("late") is (ServiceState.RESERVED if freed else ServiceState.REFUSED)
        for ref in ("r1", "r2", "late"):
            await stack.customer().release(ref, 1, CTX)
        await stack.ends_empty()


async def test_suppliers_are_not_asked_for_a_promise_where_none_was_made(tmp_path: Path) -> None:
    async with Stack(over(1), tmp_path, hopes=2) as stack:
        await fill(stack, "first")
        assert isinstance(await ask(stack), Refused)
        assert [ctx.hoped for ctx in stack.line("a", "m1").contexts] == [False, True]
        assert not any(ctx.hoped for ctx in stack.line("a", "end").contexts), "of it nothing is hoped for"


@pytest.mark.parametrize("budget", [1000, 200, 40, 12])
@pytest.mark.parametrize("hopes", [1, 2, MOST])
async def test_hopes_at_three_levels_spend_no_more_than_half_of_the_calls(
    tmp_path: Path, budget: int, hopes: int
) -> None:
    async with Stack(THREE, tmp_path, hopes=hopes) as stack:
        await fill(stack, "first")
        lines = [line for node in stack.nodes.values() for line in node.lines.values()]
        before = sum(line.count("reserve") for line in lines)
        answer = await ask(stack, ctx=Context(call_budget=budget))
        assert isinstance(answer, Refused)
        spent = sum(line.count("reserve") for line in lines) - before
        assert spent <= budget // 2
        assert (spent > 0) is (budget // (2 * hopes) >= 6), "three parts, and a call for each below"
        share = [ctx.call_budget for ctx in stack.line("a", "b").contexts if ctx.hoped]
        assert all(0 < calls <= budget // (2 * hopes) // 3 for calls in share)
