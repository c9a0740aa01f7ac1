"""A part of a live service is lost: it is bought elsewhere, what need not change stays, and its owner keeps what he has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.orders.ailing import TRIES
from broker.orders.records import Terms
from broker.storage import tables
from service_model.families import ANY_FAMILY
from service_model.healing import HealPhase, HealPolicy
from service_model.outcomes import (
    Reason,
    ReasonCode,
    ServiceState,
)
from tests.support.faults import hangs, refuses
from tests.support.healings import (
    GRACE_S,
    SPEC,
    TOP,
    C,
    D,
    addresses,
    at,
    bought,
    calls,
    ends,
    fails,
    healed,
    healing,
    joints,
    more,
    order,
    status,
)
from tests.support.orders import CTX, active
from tests.support.sites import POOL, POOL6, Either, Site, Sp, chain
from tests.support.stack import MARGIN, Stack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(TOP, tmp_path, draw="heal") as made:
        yield made


async def test_what_failed_is_bought_elsewhere_and_only_its_neighbours_are_asked_anew(stack: Stack) -> None:
    first = await active(stack, SPEC)
    before = calls(stack)
    binding = status(stack).binding
    await fails(stack, "a", "c")
    assert status(stack).reasons[0].segment == "c.1"
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
    assert addresses(now.binding) == addresses(binding)
    assert (now.price, now.version, now.healing, now.reasons) == (first.price, 1, None, ())
    assert await stack.vim("s2").inventory() == ()
    await ends(stack)


async def test_what_the_service_has_itself_does_not_stand_in_the_way_of_its_first_healing(stack: Stack) -> None:
    """Notes of now tell that its own labels, at SAPs with one, are taken."""
    await active(stack, SPEC)
    stack.announce_all()
    await fails(stack, "a", "c")
    await healed(stack)
    assert (at(stack), order(stack).heals) == (["s1", "d", "s4", "s5"], 1)
    await ends(stack)


async def test_it_is_healed_there_and_back_without_using_a_ref_again(stack: Stack) -> None:
    await active(stack, SPEC)
    refs = set()
    for n in range(3):
        refs.add(await fails(stack, "a", ("c", "d")[n % 2]))
        await healed(stack)
        await stack.pass_time(3700, step=60)
    assert len(refs) == 3
    assert order(stack).heals == 3
    await ends(stack)


async def test_what_is_only_degraded_is_given_time_and_a_recovery_ends_the_matter(stack: Stack) -> None:
    await active(stack, SPEC)
    before = calls(stack)
    ref = await fails(stack, "a", "c", state=ServiceState.DEGRADED)
    await stack.pass_time(GRACE_S - 10)
    assert stack.state() is ServiceState.DEGRADED
    assert healing(stack).phase is HealPhase.PENDING
    await stack.line("a", "c").fails(ref, recovers=True)
    await stack.pass_time(GRACE_S)
    assert stack.state() is ServiceState.ACTIVE
    assert more(stack, before) == {}
    await fails(stack, "a", "c", state=ServiceState.DEGRADED)
    await stack.pass_time(GRACE_S + 10)
    await healed(stack)
    assert at(stack)[1] == "d"
    await ends(stack)


ASK = replace(SPEC, healing=HealPolicy.ASK)


@pytest.mark.parametrize("policy", [HealPolicy.ASK, HealPolicy.NONE])
async def test_who_wants_to_be_asked_is_told_what_is_broken_and_says_when(stack: Stack, policy: HealPolicy) -> None:
    await active(stack, replace(SPEC, healing=policy))
    before = calls(stack)
    await fails(stack, "a", "c")
    await stack.pass_time(4000, step=60)
    assert stack.state() is ServiceState.DEGRADED
    assert more(stack, before) == {}
    told = healing(stack)
    phase = HealPhase.WAITING if policy is HealPolicy.ASK else HealPhase.LEFT
    assert (told.phase, told.broken, told.tries) == (phase, ("c.1",), 0)
    await stack.customer().heal("r", CTX)
    await stack.customer().heal("r", CTX)
    await healed(stack)
    assert order(stack).heals == 1, "a wish that comes twice is one"
    assert at(stack)[1] == "d"
    await stack.customer().heal("r", CTX)
    assert order(stack).heals == 1, "what is whole stays as it is"
    await fails(stack, "a", "d")
    await stack.pass_time(4000, step=60)
    assert stack.state() is ServiceState.DEGRADED, "a yes is for what was broken then"
    await ends(stack)


async def test_a_policy_is_handed_down_to_what_is_bought(stack: Stack) -> None:
    await active(stack, ASK)
    (spec,) = (h.spec for h in stack.vim("s2").holds())
    assert spec is not None
    assert spec.healing is HealPolicy.ASK


async def test_what_cannot_be_had_is_told_tried_ever_more_rarely_and_given_up(stack: Stack) -> None:
    await active(stack, SPEC)
    stack.line("a", "d").always["reserve"] = refuses(ReasonCode.CAPACITY)
    await fails(stack, "a", "c")
    await stack.until(lambda: stack.state() is ServiceState.DEGRADED and healing(stack).tries == 1, step=0.1)
    await stack.pass_time(5, step=1)
    told = healing(stack)
    assert told.phase is HealPhase.PENDING
    assert told.next_time is not None
    assert {r.code for r in told.reasons} & {ReasonCode.SEGMENT_REFUSED, ReasonCode.NO_PATH, ReasonCode.CAPACITY}
    await stack.pass_time(8 * 3600, step=60)
    assert healing(stack).phase is HealPhase.GIVEN_UP
    assert order(stack).heals == TRIES
    asked = stack.line("a", "d").count("reserve")
    await stack.pass_time(8 * 3600, step=60)
    assert stack.line("a", "d").count("reserve") == asked
    stack.line("a", "d").always.pop("reserve")
    await stack.customer().heal("r", CTX)
    await healed(stack)
    await ends(stack)


DEARER = Sp(
    "a", (Site("s1", ("firewall",)), Either((C, Sp("d", (Site("s3", ("meter",), cost=3),)))), *TOP.parts[2:]), (POOL,)
)


async def charged(stack: Stack) -> list[tuple[str, str, str, str]]:
    c = tables.charges.c
    query = select(c.side, c.segment, c.kind, c.per_hour).order_by(c.seq)
    rows = await stack.nodes["a"].engine.read(lambda connection: connection.execute(query).all())
    return [tuple(row) for row in rows]


async def test_what_is_dearer_than_the_owner_pays_is_not_bought_unless_the_agreement_bears_it(tmp_path: Path) -> None:
    async with Stack(DEARER, tmp_path) as stack:
        first = await active(stack, SPEC)
        await fails(stack, "a", "c")
        await stack.until(lambda: stack.state() is ServiceState.DEGRADED and healing(stack).reasons != (), step=0.1)
        assert healing(stack).reasons[0].code is ReasonCode.PRICE
        assert stack.line("a", "d").count("reserve") == 0
        await ends(stack)
    (tmp_path / "bears").mkdir()
    async with Stack(DEARER, tmp_path / "bears") as stack:
        stack.nodes["a"].terms = Terms(margin=MARGIN, heal_loss=Decimal(1))
        first = await active(stack, SPEC)
        begun = len(await charged(stack))
        await fails(stack, "a", "c")
        await healed(stack)
        assert status(stack).price == first.price
        since = (await charged(stack))[begun:]
        assert {(side, segment, kind) for side, segment, kind, _ in since} == {
            ("BUY", "c.1", "STOP"),
            ("BUY", "d.1", "START"),
        }
        await ends(stack)
        every = await charged(stack)
        assert sum(kind == "START" for _, _, kind, _ in every) == sum(kind == "STOP" for _, _, kind, _ in every)


async def test_what_stays_costs_what_it_did_whatever_is_announced_for_it_now(stack: Stack) -> None:
    await active(stack, SPEC)
    vim = stack.vim("s5")
    ways = tuple(replace(way, price=way.price.scaled(Decimal(20))) for way in vim.domain.ways)
    vim.reconfigure(replace(vim.domain, ways=ways))
    stack.announce_all()
    await fails(stack, "a", "c")
    await healed(stack)
    assert at(stack)[1] == "d"
    await ends(stack)


THREE = Sp("a", (TOP.parts[0], Either((C, D, Sp("e", (Site("s6", ("meter",)),)))), *TOP.parts[2:]), (POOL,))


async def test_who_does_not_answer_a_healing_is_left_out_of_the_next_and_nobody_waits_for_it(tmp_path: Path) -> None:
    async with Stack(THREE, tmp_path) as stack:
        await active(stack, SPEC)
        mute = "d" if at(stack)[1] == "c" else "c"
        for method in ("reserve", "release", "terminate", "status"):
            for alias in {"c", "d", "e"} - {at(stack)[1], "e"}:
                stack.line("a", alias).always[method] = hangs()
        await fails(stack, "a", at(stack)[1])
        await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=0.5)
        assert at(stack)[1] == "e"
        past = order(stack).past
        assert past is None or {s.alias for s in past.segments} <= {"c", "d"}
        for method in ("reserve", "release", "terminate", "status"):
            stack.line("a", mute).always.pop(method, None)
        await ends(stack)


PLACES = Sp("c", (Site("s2", ("meter",)), Site("s3", ("meter",))))
ONE = Sp("a", (Site("s1", ("firewall",)), PLACES, Site("s4", ("shaper",))), (POOL,))


async def test_over_the_same_interconnect_the_labels_are_others(tmp_path: Path) -> None:
    """The same supplier has another place behind the first: it is bought there, under another ref."""
    spec = chain("s1.uni", "s4.uni", "firewall", "meter", "shaper")
    async with Stack(ONE, tmp_path) as stack:
        await active(stack, spec)
        before, labels = bought(stack, "c"), joints(stack, "s1", "s4")
        (place,) = before.spec.functions[0].places
        asked = calls(stack, "a", ("s1", "c", "s4"))
        await fails(stack, "a", "c", Reason(code=ReasonCode.INFRASTRUCTURE, message="fire", subject="f1"))
        await healed(stack)
        after = bought(stack, "c")
        assert after.ref != before.ref
        assert after.spec.functions[0].places != (place,)
        now = joints(stack, "s1", "s4")
        assert all(now[alias][end] != label for alias, ends in labels.items() for end, label in ends.items())
        once = {alias: called.count("reserve") for alias, called in more(stack, asked).items()}
        assert once == {"s1": 1, "c": 1, "s4": 1}, "nobody had to be asked again for the labels"
        await ends(stack)


# what else may be


async def test_of_two_that_are_broken_the_one_that_may_recover_is_left_alone(stack: Stack) -> None:
    await active(stack, SPEC)
    ref = await fails(stack, "a", "s4", state=ServiceState.DEGRADED)
    await fails(stack, "a", "c")
    await stack.until(lambda: at(stack)[1] == "d", step=0.2)
    assert stack.state() is ServiceState.DEGRADED
    assert bought(stack, "s4").ref == ref
    await stack.line("a", "s4").fails(ref, recovers=True)
    await healed(stack)
    await ends(stack)


async def test_bounds_and_both_families_are_kept_and_what_is_not_concerned_is_not_called(tmp_path: Path) -> None:
    spec = replace(SPEC, families=ANY_FAMILY, max_delay_us=60_000, min_availability=0.5)
    async with Stack(replace(TOP, pools=(POOL, POOL6)), tmp_path) as stack:
        first = await active(stack, spec)
        before = calls(stack)
        await fails(stack, "a", "c")
        await healed(stack)
        assert addresses(status(stack).choice) == addresses(first.choice)
        assert more(stack, before).keys() == {"s1", "c", "d", "s4"}
        await ends(stack)
