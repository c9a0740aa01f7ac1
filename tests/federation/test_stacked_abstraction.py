"""Orders of customers who have their own words for our places: understood at every level, and answered in these words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from capability_registry.abstraction import Abstraction, Disclosure
from lower_sp_clients.supplier import Context
from service_model.outcomes import ReasonCode, Refused, Reserved, SegmentStatus
from service_model.spec import ServiceSpec
from tests.support.orders import CTX, active
from tests.support.stack import POOL, Site, Sp, Stack, chain

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
