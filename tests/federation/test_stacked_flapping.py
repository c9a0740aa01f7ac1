"""What is lost again and again, and comes back each time, is bought elsewhere where it can be had there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from broker.orders.ailing import TRIES
from broker.orders.flapping import Flapping
from broker.orders.records import Terms
from service_model.healing import HealPhase, HealPolicy
from service_model.outcomes import ReasonCode, ServiceState
from tests.federation import test_stacked_healing_levels as levels
from tests.federation import test_stacked_losses as losses
from tests.federation.test_stacked_remedies import NO, Healed
from tests.support.faults import refuses, takes
from tests.support.healings import (
    FASTER,
    SPEC,
    TOP,
    addresses,
    at,
    bought,
    calls,
    ends,
    fails,
    healed,
    healing,
    more,
    order,
    status,
)
from tests.support.orders import CTX, active, reserved
from tests.support.sites import POOL, Either, Site, Sp
from tests.support.stack import MARGIN, Stack

MOST = Flapping().losses
HOUR_S = Flapping().within.total_seconds()
OFTEN = "segment c.1 failed 4 times within an hour"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(TOP, tmp_path, draw="flap") as made:
        yield made


async def flaps(stack: Stack, times: int, every_s: float = 60.0, alias: str = "c", name: str = "a") -> None:
    """It is degraded for five seconds and well again, so many times."""
    for _ in range(times):
        ref = bought(stack, alias, name).ref
        await fails(stack, name, alias, state=ServiceState.DEGRADED)
        await stack.pass_time(5)
        await stack.line(name, alias).fails(ref, recovers=True)
        await stack.until(lambda: order(stack, name).state is ServiceState.ACTIVE)
        await stack.pass_time(every_s - 5, step=min(60.0, every_s))


async def test_what_is_lost_seldom_stays_where_it_is_for_ever(stack: Stack) -> None:
    await active(stack, SPEC)
    before = calls(stack)
    await flaps(stack, MOST - 1)
    assert status(stack).healing is None
    await stack.pass_time(HOUR_S, step=60)
    await flaps(stack, 3 * MOST, every_s=HOUR_S / (MOST - 1))
    assert more(stack, before) == {}
    assert (stack.state(), order(stack).heals, status(stack).reasons) == (ServiceState.ACTIVE, 0, ())
    await ends(stack)


async def test_what_is_lost_too_often_is_bought_elsewhere_once_and_neighbours_are_asked_as_for_any_healing(
    stack: Stack,
) -> None:
    first = await active(stack, SPEC)
    before = calls(stack)
    await flaps(stack, MOST)
    await healed(stack)
    assert at(stack) == ["s1", "d", "s4", "s5"]
    assert more(stack, before) == {
        "s1": ["reserve", "commit"],
        "c": ["terminate"],
        "d": ["reserve", "commit"],
        "s4": ["reserve", "commit"],
    }
    now = status(stack)
    assert addresses(now.choice) == addresses(first.choice)
    assert (now.price, now.version, now.healing, now.reasons) == (first.price, 1, None, ())
    assert await stack.vim("s2").inventory() == ()
    await flaps(stack, MOST - 1, alias="d")
    await stack.pass_time(2 * HOUR_S, step=60)
    assert (order(stack).heals, at(stack)[1]) == (1, "d"), "what took its place begins with no losses"
    await ends(stack)


async def test_it_counts_as_lost_while_it_works_and_serves_until_the_other_one_is_there(stack: Stack) -> None:
    await active(stack, SPEC)
    await flaps(stack, MOST - 1)
    stack.line("a", "d").next("reserve", takes(stack.clock, 2))
    stack.line("a", "d").next("commit", takes(stack.clock, 30))
    ref = await fails(stack, "a", "c", state=ServiceState.DEGRADED)
    await stack.line("a", "c").fails(ref, recovers=True)
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=0.1)
    told = status(stack)
    assert told.state is ServiceState.ACTIVE
    assert [(r.code, r.segment, r.message) for r in told.reasons] == [(ReasonCode.SEGMENT_FAILED, "c.1", OFTEN)]
    assert told.healing is not None
    assert (told.healing.phase, told.healing.broken) == (HealPhase.UNDER_WAY, ("c.1",))
    assert await stack.vim("s2").inventory() != ()
    await healed(stack)
    assert (at(stack)[1], status(stack).healing, status(stack).reasons) == ("d", None, ())
    await ends(stack)


async def test_where_nothing_else_can_be_had_it_stays_as_it_is_is_told_and_tried_ever_more_rarely(stack: Stack) -> None:
    await active(stack, SPEC)
    stack.line("a", "d").always["reserve"] = refuses(ReasonCode.CAPACITY)
    ref = bought(stack, "c").ref
    before = calls(stack)
    await flaps(stack, MOST, every_s=30)
    await stack.pass_time(15, step=1)
    assert stack.state() is ServiceState.ACTIVE
    told = healing(stack)
    assert (told.phase, told.broken) == (HealPhase.PENDING, ("c.1",))
    assert told.reasons != ()
    assert [r.message for r in status(stack).reasons] == [OFTEN]
    await flaps(stack, 100, every_s=150)
    assert (stack.state(), healing(stack).phase) == (ServiceState.ACTIVE, HealPhase.GIVEN_UP)
    assert order(stack).heals == TRIES
    assert stack.line("a", "d").count("reserve") <= 2 * TRIES, "of a try, one call and what it is asked again"
    assert set(more(stack, before)) <= {"s1", "s4", "d"}
    assert (bought(stack, "c").ref, len(bought(stack, "c").losses)) == (ref, 32)
    await stack.pass_time(HOUR_S, step=60)
    assert (stack.state(), status(stack).healing, status(stack).reasons) == (ServiceState.ACTIVE, None, ())
    await ends(stack)


async def test_what_was_tried_because_of_what_came_back_is_not_counted_against_what_does_not(stack: Stack) -> None:
    await active(stack, SPEC)
    stack.line("a", "d").always["reserve"] = refuses(ReasonCode.CAPACITY)
    await flaps(stack, 40)
    assert healing(stack).phase is HealPhase.GIVEN_UP
    stack.line("a", "d").always.pop("reserve")
    await fails(stack, "a", "c")
    await healed(stack)
    assert at(stack)[1] == "d"
    await ends(stack)


async def test_a_restart_in_between_forgets_nothing(stack: Stack) -> None:
    await active(stack, SPEC)
    await flaps(stack, 2)
    await stack.restart("a")
    stack.announce_all()
    await stack.turn()
    await flaps(stack, 1)
    assert at(stack)[1] == "c"
    await flaps(stack, 1)
    await healed(stack)
    assert at(stack)[1] == "d"
    await ends(stack)


async def test_a_restart_while_it_waits_finds_when_it_has_held_for_long_enough(stack: Stack) -> None:
    await active(stack, replace(SPEC, healing=HealPolicy.NONE))
    await flaps(stack, MOST)
    await stack.restart("a")
    assert healing(stack).phase is HealPhase.LEFT
    stack.clock.advance(HOUR_S)
    await stack.until(lambda: status(stack).healing is None)
    assert status(stack).reasons == ()


@pytest.mark.parametrize(("policy", "phase"), [(HealPolicy.ASK, HealPhase.WAITING), (HealPolicy.NONE, HealPhase.LEFT)])
async def test_who_wants_to_be_asked_is_told_and_may_say_yes_while_it_works(
    stack: Stack, policy: HealPolicy, phase: HealPhase
) -> None:
    await active(stack, replace(SPEC, healing=policy))
    before = calls(stack)
    await flaps(stack, MOST + 2)
    assert (stack.state(), healing(stack).phase, healing(stack).broken) == (ServiceState.ACTIVE, phase, ("c.1",))
    assert [r.message for r in status(stack).reasons] == ["segment c.1 failed 6 times within an hour"]
    assert more(stack, before) == {}
    await stack.customer().heal("r", CTX)
    await healed(stack)
    assert (at(stack)[1], order(stack).heals, order(stack).care.agreed) == ("d", 1, False)
    await flaps(stack, MOST, alias="d")
    assert (at(stack)[1], healing(stack).phase) == ("d", phase), "a yes is for what was lost then"
    await ends(stack)


async def test_a_limit_of_nought_switches_it_off(stack: Stack) -> None:
    catalogue = stack.nodes["a"].catalogue
    catalogue.list(tuple(replace(item, flapping=Flapping(losses=0)) for item in catalogue.listings()))
    await active(stack, SPEC)
    before = calls(stack)
    await flaps(stack, 3 * MOST)
    assert more(stack, before) == {}
    assert (status(stack).healing, status(stack).reasons) == (None, ())
    await ends(stack)


async def test_a_newer_version_that_is_held_goes_first(stack: Stack) -> None:
    await active(stack, SPEC)
    await reserved(stack, FASTER, version=2)
    await flaps(stack, MOST, every_s=10)
    assert (order(stack).heals, stack.state()) == (0, ServiceState.ACTIVE)
    await stack.pass_time(400)
    await healed(stack)
    assert at(stack)[1] == "d"
    await ends(stack)


async def test_a_part_with_the_customers_own_sap_stays_where_its_label_is_and_that_is_told(stack: Stack) -> None:
    """The function that flaps might be had elsewhere; the SAP, with the label that the customer was told, might not."""
    first = await active(stack, SPEC)
    here = {s.alias: s.ref for s in order(stack).segments}
    await flaps(stack, 20, alias="s1")
    assert (stack.state(), healing(stack).broken) == (ServiceState.ACTIVE, ("s1.1",))
    assert healing(stack).reasons != ()
    assert order(stack).heals <= TRIES
    await stack.pass_time(2 * HOUR_S, step=60)
    assert {s.alias: s.ref for s in order(stack).segments} == here
    assert addresses(status(stack).choice) == addresses(first.choice)
    assert (stack.state(), status(stack).healing) == (ServiceState.ACTIVE, None)
    await ends(stack)


# managers


async def test_a_manager_is_asked_with_how_often_it_failed_and_may_keep_it(tmp_path: Path) -> None:
    async with Healed(tmp_path) as top:
        await top.live()
        top.manager.answers = lambda question: NO
        lost = next(s for s in top.order().segments if s.wanted and s.alias == "cheap").ref
        for _ in range(MOST):
            await top.line("top", "cheap").fails(lost, state=ServiceState.DEGRADED)
            await top.until(lambda: top.state() is ServiceState.DEGRADED)
            await top.line("top", "cheap").fails(lost, recovers=True)
            await top.until(lambda: top.state() is ServiceState.ACTIVE)
        await top.asked()
        await top.until(lambda: top.told().phase is HealPhase.LEFT, step=0.1)
        (question,) = top.manager.healings
        assert "segment cheap.1 failed 4 times within an hour" in question.reasons
        assert question.lost == ("f0",)
        await top.pass_time(HOUR_S, step=60)
        assert (top.where(), top.broker("top").status("alice", "r").healing) == ({"CHEAP"}, None)
        await top.ended()


# own domains


async def test_what_an_own_domain_loses_and_builds_again_for_ever_is_bought_elsewhere(tmp_path: Path) -> None:
    stack = Stack(losses.TOP, tmp_path, draw="lost")
    stack.nodes["a"].terms = Terms(margin=MARGIN, heal_loss=Decimal(1))
    async with stack:
        await active(stack, losses.SPEC)
        lost = losses.ref(stack, "s2")
        for n in range(MOST):
            assert losses.at(stack) == ["s1", "s2", "s4"], n
            losses.driver(stack).lose(lost, "f1")
            await stack.pass_time(2 * losses.LOOK_S, step=1)
        await stack.until(lambda: losses.at(stack) == ["s1", "s3", "s4"], step=0.1)
        await stack.pass_time(60)
        assert (stack.state(), losses.order(stack).heals) == (ServiceState.ACTIVE, 1)
        assert await losses.driver(stack).inventory() == ()


# levels


@pytest.fixture
async def tree(tmp_path: Path) -> AsyncIterator[Stack]:
    async with grown(levels.TREE, tmp_path) as made:
        yield made


def grown(top: Sp, directory: Path) -> Stack:
    made = Stack(top, directory, draw="tree")
    made.nodes["a"].terms = Terms(margin=MARGIN, heal_loss=Decimal(2))
    made.nodes["b"].terms = levels.BLACK
    return made


DEEPER = Sp(
    "a",
    (
        Site("s1", ("firewall",)),
        Either((Sp("m", (Site("m1"), levels.INNER, Site("m2"))), levels.OTHER)),
        Site("s6", ("shaper",)),
    ),
    (POOL,),
)


@pytest.mark.parametrize("top", [levels.TREE, DEEPER], ids=["two", "three"])
async def test_whoever_is_nearest_buys_it_elsewhere_and_those_above_do_nothing(top: Sp, tmp_path: Path) -> None:
    async with grown(top, tmp_path) as tree:
        await active(tree, levels.NESTED)
        bought_of = at(tree)
        before = calls(tree, "a", tuple(bought_of))
        await flaps(tree, MOST, name="b")
        await tree.pass_time(HOUR_S, step=30)
        assert (tree.state(), at(tree), levels.within(tree)) == (ServiceState.ACTIVE, bought_of, ["s2", "d", "s5"])
        assert more(tree, before) == {}
        assert status(tree).healing is None


async def test_where_the_lower_level_cannot_the_upper_one_buys_it_elsewhere(tree: Stack) -> None:
    first = await active(tree, levels.NESTED)
    tree.nodes["b"].catalogue.put("d", None)
    await flaps(tree, MOST, name="b", every_s=10)
    await healed(tree)
    assert at(tree) == ["s1", "e", "s6"]
    assert addresses(status(tree).choice) == addresses(first.choice)
    await ends(tree)


async def test_a_lower_level_that_does_not_count_is_not_waited_for(tree: Stack) -> None:
    await active(tree, levels.NESTED)
    below = tree.nodes["b"].catalogue
    below.list(tuple(replace(item, flapping=Flapping(losses=0)) for item in below.listings()))
    tree.announce_all()
    await flaps(tree, MOST, name="b", every_s=10)
    await healed(tree)
    assert at(tree) == ["s1", "e", "s6"]
    await ends(tree)


async def test_a_yes_goes_down_to_whoever_is_nearest_also_while_it_works(tree: Stack) -> None:
    await active(tree, replace(levels.NESTED, healing=HealPolicy.ASK))
    await flaps(tree, MOST, name="b", every_s=200)
    assert (tree.state(), healing(tree).phase, healing(tree).broken) == (
        ServiceState.ACTIVE,
        HealPhase.WAITING,
        ("b.1",),
    )
    await tree.customer().heal("r", CTX)
    await healed(tree)
    await tree.pass_time(120)
    assert (at(tree), levels.within(tree)) == (["s1", "b", "s6"], ["s2", "d", "s5"])
    assert (tree.line("a", "b").count("heal"), order(tree).heals, status(tree).healing) == (1, 0, None)
    await ends(tree)
