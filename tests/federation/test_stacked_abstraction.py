"""Orders of customers who have their own words for our places: understood at every level, and answered in these words."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from capability_registry.abstraction import Abstraction, Disclosure
from lower_sp_clients.supplier import Context
from service_model.outcomes import ReasonCode, Refused, Reserved, SegmentStatus
from service_model.spec import ServiceSpec
from tests.support.faults import refuses, waits_for
from tests.support.orders import CTX, active
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import Stack

GREY, BLACK = Disclosure(abstraction=Abstraction.GREY), Disclosure(abstraction=Abstraction.BLACK)
TOP = Sp("a", (Site("west", ("firewall",)), Sp("b", (Site("east", ("meter",)),))), (POOL,))
NAMES = ("WEST", "EAST", "ic-")
"""What no customer is to read."""


def disclose(stack: Stack, disclosure: Disclosure) -> None:
    for node in stack.nodes.values():
        node.terms = replace(node.terms, disclosure=disclosure)
    stack.announce_all()


def where(stack: Stack) -> dict[str, str]:
    """In alice's words: where which function is to be had."""
    return {f.type.name: f.place for f in stack.nodes["a"].note("alice").functions}


def placed(stack: Stack) -> ServiceSpec:
    words, spec = where(stack), chain("west.uni", "b.east.uni", "firewall", "meter")
    return replace(spec, functions=tuple(replace(f, places=(words[f.type.name],)) for f in spec.functions))


def places(parts: tuple[SegmentStatus, ...]) -> list[str]:
    return [place for part in parts for place in (part.place, *places(part.segments))]


@pytest.mark.parametrize("disclosure", [GREY, BLACK])
async def test_places_are_understood_two_levels_down_and_told_in_the_words_of_who_asked(
    tmp_path: Path, disclosure: Disclosure
) -> None:
    async with Stack(TOP, tmp_path) as stack:
        disclose(stack, disclosure)
        spec, words = placed(stack), where(stack)
        whole = await active(stack, spec)
        assert places(whole.segments) == [words["firewall"], words["meter"], words["meter"]]
        assert not [name for name in NAMES if name in repr(whole)]
        between = {f.place for f in stack.nodes["b"].note("a").functions}
        assert not between & set(words.values()), "each level has its own"
        assert [hold.hosts["f1"][0] for hold in stack.vim("east").holds()] == ["EAST"]


async def test_an_order_keeps_the_words_that_it_came_with(tmp_path: Path) -> None:
    """Its agreement changes while it is held, and the node restarts."""
    async with Stack(TOP, tmp_path) as stack:
        disclose(stack, GREY)
        spec, words = placed(stack), where(stack)
        assert isinstance(await stack.customer().reserve("r", 1, spec, CTX), Reserved)
        disclose(stack, Disclosure())
        await stack.restart("a")
        told = await stack.customer().status("r", CTX)
        assert places(told.segments)[:2] == [words["firewall"], words["meter"]]
        again = await stack.customer().reserve("r", 1, spec, CTX)
        assert isinstance(again, Reserved)
        later = await stack.customer().reserve("r2", 1, spec, CTX)
        assert isinstance(later, Refused), "a new order speaks as the agreement is now"
        assert later.reasons[0].code is ReasonCode.UNKNOWN_PLACE


async def test_our_own_name_of_a_place_is_unknown_and_no_refusal_tells_one(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        disclose(stack, GREY)
        spec = placed(stack)
        guessed = replace(spec, functions=(replace(spec.functions[0], places=("WEST",)), spec.functions[1]))
        swapped = replace(
            spec,
            functions=tuple(
                replace(f, places=g.places) for f, g in zip(spec.functions, reversed(spec.functions), strict=True)
            ),
        )
        asked = (guessed, swapped, replace(spec, max_delay_us=1), replace(spec, isolation=("macsec",)))
        codes = []
        for number, one in enumerate(asked):
            answer = await stack.customer().reserve(f"r{number}", 1, one, Context())
            assert isinstance(answer, Refused)
            said = repr(answer) + repr(await stack.customer().status(f"r{number}", CTX))
            assert not [
                name
                for name in NAMES
                if name in said.replace("there is no place 'WEST'", "").replace("subject='WEST'", "")
            ]
            codes.append(answer.reasons[0].code)
        unknown = ReasonCode.UNKNOWN_PLACE
        assert codes == [unknown, unknown, ReasonCode.DELAY, ReasonCode.ISOLATION]
        await stack.ends_empty()


TAGGED = LabelSet(((10, 99),))
EAST, SOUTH = Site("east", ("meter",), uni=TAGGED), Site("south", ("meter",), cost=9)
WIDE = Sp(
    "a",
    (
        Site("west", ("firewall",), uni=TAGGED),
        Either((Sp("b", (EAST,)), Sp("c", (SOUTH,)))),
        Site("end", uni=TAGGED),
    ),
    (POOL,),
)
DEEP = Sp("a", (Site("west", ("firewall",), uni=TAGGED), Sp("b", (EAST,))), (POOL,))
LEVELS = tuple(Disclosure(abstraction=level) for level in Abstraction)
CHANGES = [(before, after) for before in LEVELS for after in LEVELS if before != after]


def words_for(stack: Stack, node: str, account: str) -> dict[str, set[str]]:
    """In an account's words: where each function is to be had."""
    out: dict[str, set[str]] = {}
    for offer in stack.nodes[node].note(account).functions:
        out.setdefault(offer.type.name, set()).add(offer.place)
    return out


@pytest.mark.parametrize(("before", "after"), CHANGES)
async def test_an_order_is_planned_again_in_the_words_that_it_came_with_whatever_its_agreement_says_by_then(
    tmp_path: Path, before: Disclosure, after: Disclosure
) -> None:
    """The customer sees more or less of us from one moment to the next, while a supplier is asked; and the supplier refuses."""
    async with Stack(WIDE, tmp_path) as stack:
        node, gate = stack.nodes["a"], asyncio.Event()
        node.terms = replace(node.terms, disclosure=before)
        words = words_for(stack, "a", "alice")
        spec = chain("west.uni", "end.uni", "firewall", "meter")
        asked = tuple(replace(f, places=tuple(sorted(words[f.type.name]))) for f in spec.functions)
        stack.line("a", "b").next("reserve", waits_for(gate))
        stack.line("b", "east").next("reserve", refuses(ReasonCode.CAPACITY, subject="f1"))
        asking = asyncio.ensure_future(stack.customer().reserve("r", 1, replace(spec, functions=asked), CTX))
        await stack.until(lambda: stack.line("a", "b").count("reserve") == 1)
        node.terms = replace(node.terms, disclosure=after)
        stack.announce_all()
        gate.set()
        await stack.until(asking.done)
        answer = asking.result()
        assert isinstance(answer, Reserved), answer
        assert [hold.hosts["f1"][0] for hold in stack.vim("south").holds()] == ["SOUTH"]
        assert {place for place in places(answer.segments) if place} <= words["firewall"] | words["meter"]
        assert before.abstraction is Abstraction.WHITE or not [name for name in NAMES if name in repr(answer.segments)]


@pytest.mark.parametrize(("before", "after"), CHANGES)
async def test_a_supplier_that_changes_its_words_for_us_under_way_is_asked_again_in_the_new_ones(
    tmp_path: Path, before: Disclosure, after: Disclosure
) -> None:
    async with Stack(DEEP, tmp_path) as stack:
        below, line, gate = stack.nodes["b"], stack.line("a", "b"), asyncio.Event()
        below.terms = replace(below.terms, disclosure=before)
        stack.announce_all()
        line.next("reserve", waits_for(gate))
        spec = chain("west.uni", "b.east.uni", "firewall", "meter")
        asking = asyncio.ensure_future(stack.customer().reserve("r", 1, spec, CTX))
        await stack.until(lambda: line.count("reserve") == 1)
        below.terms = replace(below.terms, disclosure=after)
        stack.announce_all()
        gate.set()
        await stack.until(asking.done)
        assert isinstance(asking.result(), Reserved), asking.result()
        assert [hold.hosts["f1"][0] for hold in stack.vim("east").holds()] == ["EAST"]
        assert line.count("reserve") == 2, "once in the words of before, and once in those of now"
        await stack.customer().release("r", 1, CTX)
        await stack.ends_empty()
