"""A part of a live service is lost: it is bought elsewhere, what need not change stays, and its owner keeps what he has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from broker.bootstrap.stuck_list import stuck_segments
from broker.orders.ailing import TRIES
from broker.orders.records import Order, Segment, Terms
from broker.storage import tables
from lower_sp_clients.supplier import ServiceNotFound
from service_model.families import ANY_FAMILY
from service_model.healing import HealPhase, HealPolicy
from service_model.outcomes import (
    AddressingChoice,
    Committed,
    Healing,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
)
from tests.support.faults import Answer, hangs, lost_before, refuses
from tests.support.orders import CONFIRM, CTX, active
from tests.support.sites import POOL, POOL6, Either, Site, Sp, chain
from tests.support.stack import MARGIN, Stack

C = Sp("c", (Site("s2", ("meter",)),))
D = Sp("d", (Site("s3", ("meter",)),))
LAST = Site("s5", ("firewall",))
TOP = Sp("a", (Site("s1", ("firewall",)), Either((C, D)), Site("s4", ("shaper",)), LAST), (POOL,))
"""a has three sites and buys what lies between the first two of c, or of d."""
SPEC = chain("s1.uni", "s5.uni", "firewall", "meter", "shaper", "firewall", lan=True)
FASTER = replace(SPEC, bandwidth_bps=10**7)
LINES = ("s1", "c", "d", "s4", "s5")
DEAD_S = 300.0
GRACE_S = 60.0


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(TOP, tmp_path, draw="heal") as made:
        yield made


def order(stack: Stack, name: str = "a") -> Order:
    (found,) = (o for o in stack.broker(name).orders() if o.state is not ServiceState.TERMINATED)
    return found


def bought(stack: Stack, alias: str, name: str = "a") -> Segment:
    (found,) = (s for s in order(stack, name).segments if s.wanted and s.alias == alias)
    return found


def at(stack: Stack, name: str = "a") -> list[str]:
    """Of whom its segments are bought."""
    return [s.alias for s in order(stack, name).segments if s.wanted]


def status(stack: Stack, name: str = "a", account: str = "alice") -> ServiceStatus:
    found = stack.broker(name).status(account, "r" if account == "alice" else order(stack, name).ref)
    return found


def healing(stack: Stack) -> Healing:
    told = status(stack).healing
    assert told is not None
    return told


def calls(stack: Stack, name: str = "a", lines: tuple[str, ...] = LINES) -> dict[str, list[str]]:
    return {alias: [call for call, _, _ in stack.line(name, alias).calls if call != "status"] for alias in lines}


def more(stack: Stack, before: dict[str, list[str]], name: str = "a") -> dict[str, list[str]]:
    """What was called since."""
    now = calls(stack, name, tuple(before))
    return {alias: now[alias][len(was) :] for alias, was in before.items() if now[alias] != was}


async def fails(
    stack: Stack, name: str, alias: str, *reasons: Reason, state: ServiceState = ServiceState.FAILED
) -> str:
    ref = bought(stack, alias, name).ref
    await stack.line(name, alias).fails(ref, *reasons, state=state)
    await stack.until(lambda: order(stack, name).state is ServiceState.DEGRADED)
    return ref


async def healed(stack: Stack, version: int = 1) -> None:
    """Until it is whole again and nothing is under way."""

    def done() -> bool:
        mine = order(stack)
        quiet = mine.healing is None and mine.past is None
        return mine.state is ServiceState.ACTIVE and mine.version == version and quiet

    await stack.until(done, step=0.1)


async def ends(stack: Stack) -> None:
    ending = asyncio.create_task(stack.customer().terminate("r", CTX))
    await stack.until(ending.done, step=0.2)
    await stack.ends_empty()
    assert stack.state() is ServiceState.TERMINATED


def addresses(choice: AddressingChoice | None) -> dict[str, object]:
    """Every prefix and address, and the customer's labels."""
    assert choice is not None
    links = {
        link.link: (link.prefixes, [dict(sorted(s.addresses.items())) for s in link.stacks]) for link in choice.links
    }
    return {"labels": choice.labels, "reach": choice.reach, **links}


def joints(stack: Stack, *aliases: str) -> dict[str, dict[str, int]]:
    """The labels at the interconnects of these segments."""
    found = (bought(stack, alias) for alias in aliases)
    return {
        s.alias: {e: v for e, v in s.choice.labels.items() if e in s.crossings} for s in found if s.choice is not None
    }


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


async def test_the_owner_is_answered_as_before_and_has_his_next_version(stack: Stack) -> None:
    first = await active(stack, SPEC)
    await fails(stack, "a", "c")
    await healed(stack)
    again = await stack.customer().reserve("r", 1, SPEC, CTX)
    assert isinstance(again, Reserved)
    assert addresses(again.choice) == addresses(first.choice)
    assert again.price == first.price
    assert await stack.customer().commit("r", 1, CONFIRM, CTX) == Committed(ref="r", version=1)
    other = await stack.customer().reserve("r", 1, FASTER, CTX)
    assert isinstance(other, Refused)
    assert other.reasons[0].code is ReasonCode.KEY_REUSED
    answer = await stack.customer().reserve("r", 2, FASTER, CTX)
    assert isinstance(answer, Reserved), answer
    assert answer.choice.labels == first.choice.labels
    assert await stack.customer().commit("r", 2, CONFIRM, CTX) == Committed(ref="r", version=2)
    await healed(stack, version=2)
    await ends(stack)


async def test_a_refused_version_of_the_owners_stays_as_he_was_told_over_a_healing(stack: Stack) -> None:
    await active(stack, SPEC)
    stack.line("a", "c").always["reserve"] = refuses(ReasonCode.CAPACITY)
    stack.line("a", "d").always["reserve"] = refuses(ReasonCode.CAPACITY)
    refused = await stack.customer().reserve("r", 2, FASTER, CTX)
    assert isinstance(refused, Refused)
    stack.line("a", "d").always.pop("reserve")
    await fails(stack, "a", "c")
    await healed_beside(stack)
    assert await stack.customer().reserve("r", 2, FASTER, CTX) == refused
    reused = await stack.customer().reserve("r", 2, SPEC, CTX)
    assert isinstance(reused, Refused)
    assert reused.reasons[0].code is ReasonCode.KEY_REUSED
    answer = await stack.customer().reserve("r", 3, FASTER, CTX)
    assert isinstance(answer, Reserved), answer
    assert await stack.customer().commit("r", 3, CONFIRM, CTX) == Committed(ref="r", version=3)
    await healed(stack, version=3)
    await ends(stack)


async def healed_beside(stack: Stack) -> None:
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE and order(stack).healed == 1, step=0.1)


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


async def test_a_supplier_that_is_not_heard_of_is_dead_after_its_time_and_nobody_waits_for_it(stack: Stack) -> None:
    first = await active(stack, SPEC)
    await stack.stop("c")
    await stack.pass_time(DEAD_S - 20)
    assert stack.state() is ServiceState.ACTIVE
    await stack.pass_time(40)
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE and at(stack)[1] == "d", step=0.1)
    assert addresses(status(stack).choice) == addresses(first.choice)
    past = order(stack).past
    assert past is not None, "what the dead one has is not known to be gone"
    assert [s.alias for s in past.segments] == ["c"]
    await stack.pass_time(4 * 3600 + 60, step=60)
    (stuck,) = stuck_segments(stack.broker("a").orders(), stack.nodes["a"].catalogue.listing)
    assert (stuck.alias, stuck.ref, stuck.own) == ("c", "r", False)
    assert stack.state() is ServiceState.ACTIVE
    await stack.start("c")
    stack.announce_all()
    await stack.until(lambda: order(stack).past is None, step=1)
    assert await stack.vim("s2").inventory() == ()
    await ends(stack)


async def test_what_a_dead_supplier_has_can_be_given_up_while_the_service_lives(stack: Stack) -> None:
    await active(stack, SPEC)
    await stack.stop("c")
    await stack.pass_time(DEAD_S + 20)
    await stack.until(lambda: at(stack)[1] == "d", step=0.1)
    await stack.pass_time(4 * 3600 + 60, step=60)
    _, given = await stack.broker("a").abandon(order(stack), "", "c is bankrupt", "olga")
    assert len(given) == 1
    await stack.until(lambda: order(stack).past is None or order(stack).past.state is ServiceState.TERMINATED)  # type: ignore[union-attr]
    assert stuck_segments(stack.broker("a").orders(), stack.nodes["a"].catalogue.listing) == ()
    assert stack.state() is ServiceState.ACTIVE
    await stack.start("c")
    stack.announce_all()
    await stack.until(lambda: len(stack.broker("a").returned()) == 1, step=1)
    ending = asyncio.create_task(stack.customer().terminate("r", CTX))
    await stack.until(ending.done, step=0.2)
    await stack.until(lambda: stack.state() is ServiceState.TERMINATED, step=0.2)


async def test_who_comes_back_in_time_is_not_replaced(stack: Stack) -> None:
    await active(stack, SPEC)
    before = calls(stack)
    await stack.stop("c")
    await stack.pass_time(DEAD_S - 60)
    await stack.start("c")
    stack.announce_all()
    await stack.pass_time(DEAD_S)
    assert stack.state() is ServiceState.ACTIVE
    assert more(stack, before) == {}
    assert order(stack).heals == 0
    await ends(stack)


async def test_who_comes_back_after_it_was_in_vain_to_look_elsewhere_ends_the_matter(stack: Stack) -> None:
    await active(stack, SPEC)
    stack.nodes["a"].catalogue.put("d", None)
    await stack.stop("c")
    await stack.pass_time(DEAD_S + 30)
    assert stack.state() is ServiceState.DEGRADED
    assert healing(stack).tries > 0
    await stack.start("c")
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=1)
    assert at(stack)[1] == "c"
    assert status(stack).healing is None
    await ends(stack)


async def test_a_supplier_that_does_not_know_what_is_live_has_lost_it(stack: Stack) -> None:
    await active(stack, SPEC)
    ref = bought(stack, "c").ref
    stack.line("a", "c").always["status"] = not_found
    await stack.restart("c")
    await stack.until(lambda: at(stack)[1] == "d" and stack.state() is ServiceState.ACTIVE, step=0.2)
    stack.line("a", "c").always.pop("status")
    assert ("terminate", ref, 0) in stack.line("a", "c").calls
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


async def test_the_owner_may_not_change_it_while_it_is_healed_and_is_asked_to_come_again(stack: Stack) -> None:
    await active(stack, SPEC)
    stack.line("a", "d").next("reserve", hangs())
    await fails(stack, "a", "c")
    await stack.until(lambda: stack.line("a", "d").count("reserve") == 1)
    answer = await stack.customer().reserve("r", 2, FASTER, CTX)
    assert isinstance(answer, Refused)
    assert answer.reasons[0].code is ReasonCode.MODIFICATION_NOT_OFFERED
    assert answer.reasons[0].retryable
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=1)
    reserving = asyncio.create_task(stack.customer().reserve("r", 2, FASTER, CTX))
    await stack.until(reserving.done, step=0.2)
    assert isinstance(reserving.result(), Reserved), reserving.result()
    assert await stack.customer().commit("r", 2, CONFIRM, CTX) == Committed(ref="r", version=2)
    await healed(stack, version=2)
    await ends(stack)


async def test_a_newer_version_that_is_held_goes_first_and_a_healing_follows(stack: Stack) -> None:
    await active(stack, SPEC)
    answer = await stack.customer().reserve("r", 2, FASTER, CTX)
    assert isinstance(answer, Reserved), answer
    await fails(stack, "a", "c")
    await stack.until(lambda: stack.state() is ServiceState.DEGRADED)
    await stack.pass_time(30)
    assert order(stack).heals == 0
    await stack.pass_time(400)
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE and at(stack)[1] == "d", step=0.2)
    assert status(stack).version == 1
    await ends(stack)


async def test_a_modification_of_which_a_part_fails_at_its_commit_is_healed(stack: Stack) -> None:
    await active(stack, SPEC)
    answer = await stack.customer().reserve("r", 2, FASTER, CTX)
    assert isinstance(answer, Reserved), answer
    stack.line("a", "c").next("commit", refuses(ReasonCode.HOLD_EXPIRED))
    assert await stack.customer().commit("r", 2, CONFIRM, CTX) == Committed(ref="r", version=2)
    await healed(stack, version=2)
    assert at(stack)[1] == "c", "what its supplier still delivers is changed there once more"
    assert stack.line("a", "d").count("reserve") == 0
    assert {
        h.spec.bandwidth_bps for v in stack.vims() for h in v.holds() if h.spec and h.state is ServiceState.ACTIVE
    } == {10**7}
    await ends(stack)


async def test_a_healing_of_which_a_changed_part_fails_at_its_commit_is_healed_by_another(stack: Stack) -> None:
    """A neighbour's site refuses the second wave: it still delivers what it did, and is asked to change that once more."""
    first = await active(stack, SPEC)
    ref = bought(stack, "s4").ref
    stack.line("a", "s4").next("commit", refuses(ReasonCode.HOLD_EXPIRED))
    await fails(stack, "a", "c")
    await stack.until(lambda: order(stack).heals == 2, step=0.5)
    await healed(stack)
    assert (at(stack)[1], bought(stack, "s4").ref) == ("d", ref)
    assert addresses(status(stack).choice) == addresses(first.choice)
    await ends(stack)


async def test_a_new_part_that_cannot_be_built_leaves_the_live_version_as_it_was(stack: Stack) -> None:
    await active(stack, SPEC)
    stack.line("a", "d").next("commit", refuses(ReasonCode.HOLD_EXPIRED))
    before = calls(stack)
    await fails(stack, "a", "c")
    await stack.until(lambda: stack.state() is ServiceState.DEGRADED and healing(stack).reasons != (), step=0.1)
    assert "commit" not in more(stack, before).get("s1", [])
    await stack.pass_time(30, step=1)
    await healed(stack)
    await ends(stack)


@pytest.mark.parametrize("stage", ["reserving", "committing", "active"])
async def test_whoever_ends_the_service_meanwhile_wins(stack: Stack, stage: str) -> None:
    await active(stack, SPEC)
    if stage == "reserving":
        stack.line("a", "d").always["reserve"] = hangs()
    if stage == "committing":
        stack.line("a", "d").always["commit"] = lost_before()
    await fails(stack, "a", "c")
    if stage == "reserving":
        await stack.until(lambda: stack.line("a", "d").count("reserve") == 1)
    if stage == "committing":
        await stack.until(lambda: stack.line("a", "d").count("commit") > 0, step=0.1)
    if stage == "active":
        await stack.until(lambda: stack.state() is ServiceState.ACTIVE and order(stack).heals == 1, step=0.1)
    await ends(stack)


@pytest.mark.parametrize("name", ["a", "c", "d"])
@pytest.mark.parametrize("stage", ["reserve", "commit"])
async def test_a_restart_in_the_middle_goes_on_where_it_was(stack: Stack, name: str, stage: str) -> None:
    first = await active(stack, SPEC)
    stack.line("a", "d").next(stage, hangs())
    await fails(stack, "a", "c")
    await stack.until(lambda: stack.line("a", "d").count(stage) == 1, step=0.1)
    await stack.restart(name)
    stack.announce_all()
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE and order(stack).past is None, step=0.5)
    assert at(stack)[1] == "d"
    assert addresses(status(stack).choice) == addresses(first.choice)
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


async def not_found(call: Answer, ref: str, version: int) -> Any:
    raise ServiceNotFound(ref)


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


async def test_the_time_of_a_silent_supplier_begins_anew_with_a_restart(stack: Stack) -> None:
    await active(stack, SPEC)
    await stack.stop("c")
    await stack.pass_time(DEAD_S - 100)
    await stack.restart("a")
    await stack.pass_time(DEAD_S - 100)
    assert stack.state() is ServiceState.ACTIVE
    await stack.pass_time(150)
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE and at(stack)[1] == "d", step=0.2)
    await stack.start("c")
    stack.announce_all()
    await stack.until(lambda: order(stack).past is None, step=1)
    await ends(stack)


async def test_a_service_whose_time_is_over_ends_also_where_it_cannot_be_healed(stack: Stack) -> None:
    end = stack.clock.now() + timedelta(seconds=200)
    stack.line("a", "d").always["reserve"] = refuses(ReasonCode.CAPACITY)
    await active(stack, replace(SPEC, end_time=end))
    await fails(stack, "a", "c")
    await stack.pass_time(230)
    await stack.until(lambda: stack.state() is ServiceState.TERMINATED, step=0.5)
    await stack.ends_empty()
