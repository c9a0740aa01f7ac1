"""Services whose manager is asked before they are healed: what it may decide, what it cannot, and what is recorded of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from broker.orders.records import Order
from lower_sp_clients.service_manager import NoDecision
from service_model.healing import HealPhase, HealPolicy
from service_model.managing import (
    Answer,
    ByDefault,
    DecisionOutcome,
    FunctionPlace,
    HealQuestion,
    ManagerRefusal,
    ManagerTask,
    Question,
    Remedy,
)
from service_model.outcomes import Healing, Reserved, ServiceState
from tests.federation.test_stacked_managers import Managed
from tests.support.crashing import CrashingStore, Mishap, Points
from tests.support.orders import CONFIRM, CTX
from tests.support.scripted_manager import AskedAtPoints
from tests.support.sites import POOL, Either, Site, Sp, chain

TOP = Sp(
    "top",
    (
        Site("west"),
        Either(tuple(Site(name, ("firewall",), cost=n + 1) for n, name in enumerate(("cheap", "dear", "dearest")))),
        Site("east"),
    ),
    pools=(POOL,),
)
SPEC = chain("west.uni", "east.uni", "firewall", managers=("mine",))
NOT_AT_DEAR = Remedy(avoid=(FunctionPlace(function="f0", place="DEAR"),))
LATER = Remedy(wait_s=90)
NO = ManagerRefusal(message="it is looked into")


def says(*answers: Answer) -> Callable[[Question], Answer]:
    """One after the other."""
    left = iter(answers)
    return lambda question: next(left)


class Healed(Managed):
    """A firewall at the cheapest of three places, and a manager that decides HEAL alone."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, TOP)
        self.node.terms = replace(self.node.terms, heal_loss=Decimal(5))
        self.allow(ManagerTask.HEAL)

    async def live(self, policy: HealPolicy = HealPolicy.UNSPECIFIED) -> None:
        assert isinstance(await self.reserve(replace(SPEC, healing=policy)), Reserved)
        await self.customer().commit("r", 1, CONFIRM, CTX)
        await self.until(lambda: self.state() is ServiceState.ACTIVE)

    def order(self) -> Order:
        (order,) = self.broker("top").orders()
        return order

    async def loses(self, alias: str = "cheap") -> None:
        lost = next(s for s in self.order().segments if s.wanted and s.alias == alias)
        await self.line("top", alias).fails(lost.ref)
        await self.until(lambda: self.state() is ServiceState.DEGRADED)

    async def recovers(self) -> None:
        lost = next(s for s in self.order().segments if s.wanted and s.alias == "cheap")
        await self.line("top", "cheap").fails(lost.ref, state=ServiceState.ACTIVE)
        await self.until(lambda: self.state() is ServiceState.ACTIVE, step=0.1)

    async def healed_at(self, place: str) -> None:
        await self.until(lambda: self.where() == {place} and self.state() is ServiceState.ACTIVE, step=0.1)

    def told(self) -> Healing:  # type: ignore[override]
        told = self.broker("top").status("alice", "r").healing
        assert told is not None
        return told

    async def asked(self, times: int = 1) -> None:
        await self.until(lambda: len(self.manager.healings) == times, step=0.1)

    async def ended(self) -> None:
        await self.customer().terminate("r", CTX)
        await self.ends_empty()


@pytest.fixture
async def top(tmp_path: Path) -> AsyncIterator[Healed]:
    async with Healed(tmp_path) as stack:
        yield stack


async def test_a_manager_is_told_what_is_lost_and_where_it_may_be_had_before_anything_is_bought(top: Healed) -> None:
    await top.live()
    assert top.manager.asked == []
    since = top.clock.now()
    await top.loses()
    await top.healed_at("DEAR")
    (question,) = top.manager.healings
    assert (question.lost, question.tries) == (("f0",), 0)
    assert question.since >= since
    assert [(p.function, p.place, p.supplier) for p in question.placement] == [("f0", "CHEAP", "cheap")]
    assert [o.place for o in question.offers] == ["CHEAP", "DEAR", "DEAREST"]
    assert question.reasons == ("segment cheap.1 failed: no reason was given",)
    about = top.manager.asked[0][0]
    assert (about.ref, about.version, about.number, about.manager) == ("r", 1, 0, "mine")
    assert top.decisions() == [(ManagerTask.HEAL, DecisionOutcome.DEFAULT, "as by default")]
    assert await top.journal() == [
        ("ask heal", "mine/1/0", "intent"),
        ("ask heal", "mine/1/0", "DEFAULT: as by default"),
    ]
    await top.ended()


async def test_what_its_manager_keeps_it_off_is_not_bought(top: Healed) -> None:
    top.manager.answers = lambda question: NOT_AT_DEAR
    await top.live()
    await top.loses()
    await top.healed_at("DEAREST")
    assert top.decisions() == [(ManagerTask.HEAL, DecisionOutcome.CHOSEN, "now, not f0 at DEAR")]
    await top.ended()


async def test_each_healing_is_asked_for_anew_and_what_was_avoided_counts_for_that_one_alone(top: Healed) -> None:
    top.manager.answers = says(NOT_AT_DEAR, Remedy())
    await top.live()
    await top.loses()
    await top.healed_at("DEAREST")
    await top.loses("dearest")
    await top.healed_at("CHEAP")
    assert [(about.number, about.version) for about, _ in top.manager.asked] == [(0, 1), (1, 1)]
    assert [detail for _, _, detail in top.decisions()] == ["now, not f0 at DEAR", "now"]
    await top.ended()


async def test_a_manager_may_put_it_off_and_is_asked_again_then(top: Healed) -> None:
    top.manager.answers = says(LATER, LATER, ByDefault())
    await top.live()
    await top.loses()
    first = top.clock.now()
    await top.asked()
    await top.until(lambda: len(top.decisions()) == 1)
    assert top.told().phase is HealPhase.PENDING
    until = top.told().next_time
    assert until is not None
    assert timedelta(seconds=90) <= until - first < timedelta(seconds=92)
    await top.pass_time(80)
    assert (len(top.manager.healings), top.where()) == (1, {"CHEAP"})
    await top.restart("top")
    await top.asked(2)
    await top.pass_time(80)
    await top.asked(3)
    await top.healed_at("DEAR")
    assert [about.number for about, _ in top.manager.asked] == [0, 1, 2]
    assert len({question.since for question in top.manager.healings}) == 1
    assert len(top.decisions()) <= 2, "of those about healings the latest stay"
    await top.ended()


async def test_what_its_manager_leaves_is_left_until_its_owner_asks_and_then_nobody_is_asked(top: Healed) -> None:
    top.manager.answers = lambda question: NO
    await top.live()
    await top.loses()
    await top.asked()
    await top.pass_time(7200, step=60)
    assert (top.state(), top.where(), len(top.manager.healings)) == (ServiceState.DEGRADED, {"CHEAP"}, 1)
    assert top.told().phase is HealPhase.LEFT
    assert top.decisions() == [(ManagerTask.HEAL, DecisionOutcome.REFUSED, "it is looked into")]
    await top.customer().heal("r", CTX)
    await top.healed_at("DEAR")
    assert len(top.manager.healings) == 1
    await top.ended()


async def test_a_recovery_ends_what_was_decided_and_the_next_loss_is_asked_for_anew(top: Healed) -> None:
    top.manager.answers = says(NO, ByDefault())
    await top.live()
    await top.loses()
    await top.until(lambda: len(top.decisions()) == 1, step=0.1)
    await top.recovers()
    await top.loses()
    await top.healed_at("DEAR")
    assert [about.number for about, _ in top.manager.asked] == [0, 1]
    await top.ended()


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("wrong", ["silent", "rubbish", "not offered"])
async def test_who_does_not_decide_as_it_may_is_overruled_or_the_service_left(
    top: Healed, wrong: str, refuses: bool
) -> None:
    top.allow(ManagerTask.HEAL, refuses=refuses)
    wrongly: dict[str, Answer | NoDecision] = {
        "rubbish": NoDecision("its answer cannot be read"),
        "not offered": Remedy(avoid=(FunctionPlace(function="f0", place="MOON"),)),
    }
    top.manager.silent = wrong == "silent"
    top.manager.answers = lambda question: wrongly[wrong]
    await top.live()
    await top.loses()
    await top.until(lambda: len(top.decisions()) == 1, step=0.1)
    ((_, outcome, detail),) = top.decisions()
    assert {
        "silent": "no answer within 2 s",
        "rubbish": "its answer cannot be read",
        "not offered": "f0 at MOON was not offered, so it cannot be avoided",
    }[wrong] == detail
    if refuses:
        await top.pass_time(600)
        assert (outcome, top.where()) == (DecisionOutcome.REFUSED, {"CHEAP"})
    else:
        await top.healed_at("DEAR")
        assert outcome is DecisionOutcome.FALLBACK
    await top.ended()


async def test_where_nothing_else_would_do_it_is_in_vain_told_and_asked_again_with_the_next_try(top: Healed) -> None:
    everywhere = Remedy(avoid=tuple(FunctionPlace(function="f0", place=p) for p in ("CHEAP", "DEAR", "DEAREST")))
    top.manager.answers = says(everywhere, ByDefault())
    await top.live()
    await top.loses()
    await top.asked()
    await top.until(lambda: top.order().healing is not None and not top.order().being_healed, step=0.1)
    assert (top.where(), top.told().tries) == ({"CHEAP"}, 1)
    assert top.told().reasons
    await top.healed_at("DEAR")
    assert [question.tries for question in top.manager.healings] == [0, 1]
    await top.ended()


async def test_what_recovers_while_its_manager_is_asked_is_not_healed(top: Healed) -> None:
    top.manager.silent = True
    await top.live()
    await top.loses()
    await top.asked()
    await top.recovers()
    await top.pass_time(30)
    assert (top.state(), top.where(), top.order().asked) == (ServiceState.ACTIVE, {"CHEAP"}, None)
    await top.ended()


async def test_what_ends_while_its_manager_is_asked_leaves_nothing(top: Healed) -> None:
    top.manager.silent = True
    await top.live()
    await top.loses()
    await top.asked()
    ending = asyncio.ensure_future(top.customer().terminate("r", CTX))
    await top.until(ending.done, step=0.1)
    await top.ends_empty()


@pytest.mark.parametrize("policy", [HealPolicy.ASK, HealPolicy.NONE])
async def test_a_manager_is_not_asked_where_its_owner_is(top: Healed, policy: HealPolicy) -> None:
    await top.live(policy)
    await top.loses()
    await top.pass_time(600)
    assert (top.where(), top.manager.healings) == ({"CHEAP"}, [])
    await top.customer().heal("r", CTX)
    await top.healed_at("DEAR")
    assert top.manager.healings == []
    await top.ended()


async def test_an_order_that_names_no_manager_for_it_is_healed_as_ever(top: Healed) -> None:
    top.allow(ManagerTask.PLACE)
    await top.live()
    await top.loses()
    await top.healed_at("DEAR")
    assert top.manager.healings == []
    await top.ended()


@pytest.mark.parametrize("mishap", [Mishap.DIES_BEFORE, Mishap.DIES_AFTER])
async def test_a_broker_that_dies_at_any_write_or_question_of_a_healing_asks_once_more_at_most(
    tmp_path: Path, mishap: Mishap
) -> None:
    async def life(name: str, points: Points) -> tuple[list[HealQuestion], Points]:
        directory = tmp_path / name
        await asyncio.to_thread(directory.mkdir)
        top, at = Healed(directory), points
        top.manager.answers = says(NOT_AT_DEAR, ByDefault())  # whoever is asked twice answers otherwise
        top.node.store = lambda engine: CrashingStore.over(engine, lambda: at)
        top.node.managers["doc"] = AskedAtPoints(top.manager, lambda: at)
        async with top:
            await top.live()
            at.counts = True
            lost = next(s for s in top.order().segments if s.wanted and s.alias == "cheap")
            await top.line("top", "cheap").fails(lost.ref)

            def healed() -> bool:
                return top.state() is ServiceState.ACTIVE and top.where() in ({"DEAR"}, {"DEAREST"})

            await top.until(lambda: at.died.is_set() or healed(), step=0.05)
            if at.died.is_set():
                await top.stop("top")
                at = Points()
                await top.start("top")
                await top.until(healed, step=0.05)
            points.counts = False
            ((_, _, detail),) = top.decisions()
            assert top.where() == ({"DEAREST"} if "not f0 at DEAR" in detail else {"DEAR"}), "as was recorded"
            questions = top.manager.healings
            assert len(questions) in (1, 2)
            assert questions[0] == questions[-1], "it is the recorded question that is asked again"
            wrote = [row for row in await top.journal() if row[2] != "intent"]
            assert len(wrote) == 1, "an answer is recorded once"
            await top.ended()
        return questions, points

    _, plain = await life("plain", Points())
    assert plain.seen.count("ask HealQuestion") == 1
    asked_twice = []
    for number in range(len(plain.seen)):
        questions, _ = await life(str(number), Points(number, mishap))
        if len(questions) == 2:
            asked_twice.append(number)
    between = plain.seen.index("ask HealQuestion") + (mishap is Mishap.DIES_BEFORE)
    assert asked_twice == [between], "only who dies between the answer and its record asks twice"
