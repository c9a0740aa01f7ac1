"""What is lost below a provider is healed by whoever is nearest to it and can; those above do nothing, or do it instead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from broker.orders.records import Terms
from capability_registry.abstraction import Abstraction, Disclosure
from service_model.healing import HealPolicy
from service_model.outcomes import ServiceState
from tests.support.healings import (
    DEAD_S,
    GRACE_S,
    addresses,
    at,
    calls,
    ends,
    fails,
    healed,
    healing,
    more,
    order,
    status,
)
from tests.support.orders import CTX, active
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import MARGIN, Stack

INNER = Sp(
    "b", (Site("s2"), Either((Sp("c", (Site("s3", ("meter",)),)), Sp("d", (Site("s4", ("meter",)),)))), Site("s5"))
)
OTHER = Sp("e", (Site("e2"), Site("e3", ("meter",), cost=2), Site("e5")))
TREE = Sp("a", (Site("s1", ("firewall",)), Either((INNER, OTHER)), Site("s6", ("shaper",))), (POOL,))
NESTED = chain("s1.uni", "s6.uni", "firewall", "meter", "shaper", lan=True)


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(TREE, tmp_path, draw="tree") as made:
        made.nodes["a"].terms = Terms(margin=MARGIN, heal_loss=Decimal(1))
        made.nodes["b"].terms = BLACK
        made.announce_all()
        yield made


BLACK = Terms(margin=MARGIN, disclosure=Disclosure(abstraction=Abstraction.BLACK))
"""Of b, whose customers do not know at which of its places a function is: it may be moved."""


def within(stack: Stack) -> list[str]:
    return at(stack, "b")


async def test_the_lowest_level_that_can_heals_and_those_above_do_nothing(tree: Stack) -> None:
    await active(tree, NESTED)
    assert (at(tree), within(tree)) == (["s1", "b", "s6"], ["s2", "c", "s5"])
    before = calls(tree, "a", ("s1", "b", "s6"))
    await fails(tree, "b", "c")
    await tree.pass_time(GRACE_S * 3)
    assert tree.state() is ServiceState.ACTIVE
    assert within(tree) == ["s2", "d", "s5"]
    assert more(tree, before) == {}
    await ends(tree)


async def test_where_the_lower_level_cannot_the_upper_one_does(tree: Stack) -> None:
    first = await active(tree, NESTED)
    tree.nodes["b"].catalogue.put("d", None)
    await fails(tree, "b", "c")
    await tree.pass_time(20, step=1)
    await healed(tree)
    assert at(tree) == ["s1", "e", "s6"]
    assert addresses(status(tree).choice) == addresses(first.choice)
    assert [h.state for h in tree.vim("s2").holds()] == [ServiceState.TERMINATED]
    await ends(tree)


@pytest.mark.parametrize("policy", [HealPolicy.ASK, HealPolicy.NONE])
async def test_a_yes_goes_down_to_whoever_is_nearest_to_what_is_broken(tree: Stack, policy: HealPolicy) -> None:
    await active(tree, replace(NESTED, healing=policy))
    await fails(tree, "b", "c")
    await tree.pass_time(600, step=30)
    assert healing(tree).broken == ("b.1",)
    assert tree.line("a", "b").count("heal") == 0
    await tree.customer().heal("r", CTX)
    await healed(tree)
    assert (at(tree), within(tree)) == (["s1", "b", "s6"], ["s2", "d", "s5"])
    assert tree.line("a", "b").count("heal") == 1
    await ends(tree)


async def test_a_middle_provider_that_is_dead_is_replaced_as_a_whole(tree: Stack) -> None:
    first = await active(tree, NESTED)
    await tree.stop("b")
    await tree.pass_time(DEAD_S + 20)
    await tree.until(lambda: tree.state() is ServiceState.ACTIVE, step=0.2)
    assert at(tree) == ["s1", "e", "s6"]
    assert addresses(status(tree).choice) == addresses(first.choice)
    await tree.start("b")
    tree.announce_all()
    await tree.until(lambda: order(tree).past is None, step=1)
    await ends(tree)
