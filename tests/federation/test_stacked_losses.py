"""An own domain loses what it has built: it is noticed, told as a supplier tells it, built again or bought elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from broker.orders.records import Order, Terms
from broker.storage.books import SqlHoldBook
from broker.storage.quote_book import SqlQuoteBook
from lower_sp_clients.quotes import STANDING
from lower_sp_clients.vim.driver import Blueprint, DriverError, Loss, SapPort
from lower_sp_clients.vim.local_vim import LocalVim
from lower_sp_clients.vim.simulated import SimulatedDriver
from service_model.healing import HealPolicy
from service_model.outcomes import Committed, Event, ReasonCode, Refused, Reserved, ServiceState, ServiceStatus
from tests.federation.test_stacked_restore import accepted, put_back, saved
from tests.support.orders import CONFIRM, CTX, active, reserved
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import MARGIN, Stack

MIDDLE = Either((Site("s2", ("meter",)), Site("s3", ("meter",), cost=2)))
UNI = LabelSet(((1, 99),))
TOP = Sp("a", (Site("s1", ("firewall",), uni=UNI), MIDDLE, Site("s4", ("shaper",), uni=UNI)), (POOL,))
"""a has all of it; the meter is cheaper at s2 and can be had at s3."""
SPEC = chain("s1.uni", "s4.uni", "firewall", "meter", "shaper")
LOOK_S, DEAD_S, HEAL_S = 10, 60, 60
"""What a domain's document has where it says nothing."""


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    made = Stack(TOP, tmp_path, draw="lost")
    made.nodes["a"].terms = Terms(margin=MARGIN, heal_loss=Decimal(1))
    async with made:
        yield made


def order(stack: Stack) -> Order:
    (found,) = stack.broker("a").orders()
    return found


def at(stack: Stack) -> list[str]:
    return [s.alias for s in order(stack).segments if s.wanted]


def ref(stack: Stack, alias: str, of: str = "r") -> str:
    (mine,) = (o for o in stack.broker("a").orders() if o.ref == of)
    (found,) = (s.ref for s in mine.segments if s.wanted and s.alias == alias)
    return found


def driver(stack: Stack, site: str = "s2") -> SimulatedDriver:
    return stack.nodes["a"].drivers[site]


async def status(stack: Stack, site: str = "s2") -> ServiceStatus:
    return await stack.vim(site).status(ref(stack, site), CTX)


@asynccontextmanager
async def watched(stack: Stack, vim: LocalVim | None = None) -> AsyncIterator[list[Event]]:
    """What the domain of the middle tells meanwhile, as any supplier."""
    heard: list[Event] = []

    async def listen() -> None:
        async for event in (vim or stack.vim("s2")).watch(""):
            heard.append(event)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    yield heard
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


def states(events: list[Event]) -> list[str]:
    return [event.status.state.short for event in events if event.status is not None]


async def test_a_function_that_goes_by_itself_degrades_the_service_and_is_built_again_where_it_was(
    stack: Stack,
) -> None:
    first = await active(stack, SPEC)
    before = ref(stack, "s2")
    whole = driver(stack).blueprint(before)
    driver(stack).lose(before, "f1")
    for _ in range(6):
        driver(stack).fail_next("apply", DriverError("no host just now"))
    await stack.pass_time(LOOK_S + 1, step=1)
    assert stack.state() is ServiceState.DEGRADED
    (told,) = (await status(stack)).reasons
    assert (told.code, told.subject, told.message) == (
        ReasonCode.INFRASTRUCTURE,
        "f1",
        "lost: function 'f1' is gone",
    )
    (reason,) = stack.broker("a").status("alice", "r").reasons
    assert reason.subject == "f1"
    async with watched(stack) as events:
        await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=0.1)
    assert states(events) == ["ACTIVE"]
    assert driver(stack).blueprint(before) == whole
    assert ref(stack, "s2") == before, "it was not bought anew"
    assert order(stack).heals == 0
    assert stack.broker("a").status("alice", "r").choice == first.choice


async def test_what_is_whole_is_left_alone_however_often_it_is_looked_at(stack: Stack) -> None:
    await active(stack, SPEC)
    async with watched(stack) as events:
        await stack.pass_time(20 * LOOK_S)
    assert states(events) == []


async def test_what_comes_back_by_itself_is_told(stack: Stack) -> None:
    await active(stack, SPEC)
    whole = driver(stack).blueprint(ref(stack, "s2"))
    driver(stack).lose(whole.segment)
    driver(stack).away = True  # it cannot be built again
    stack.vim("s2").reconfigure(replace(stack.vim("s2").domain, dead_after_s=LOOK_S + 5))
    await stack.pass_time(2 * LOOK_S + 5, step=1)
    assert (await status(stack)).state is ServiceState.DEGRADED
    driver(stack).away = False
    await driver(stack).apply(whole)
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=0.5)
    assert (at(stack), order(stack).heals) == (["s1", "s2", "s4"], 0)


async def test_what_cannot_be_built_again_is_bought_elsewhere_after_its_time(stack: Stack) -> None:
    await active(stack, SPEC)
    lost = ref(stack, "s2")
    driver(stack).lose(lost, "f1")
    for _ in range(100):
        driver(stack).fail_next("apply", DriverError("the host is gone"))
    await stack.pass_time(LOOK_S + HEAL_S - 15, step=1)
    assert (stack.state(), at(stack)) == (ServiceState.DEGRADED, ["s1", "s2", "s4"])
    await stack.pass_time(20, step=1)
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=0.1)
    assert at(stack) == ["s1", "s3", "s4"]
    await stack.pass_time(60)
    assert await driver(stack).inventory() == (), f"{lost} is given back"


async def test_who_wants_to_be_asked_is_asked_before_it_is_bought_elsewhere_but_not_before_it_is_built_again(
    stack: Stack,
) -> None:
    """What the domain owes it builds without a word of anybody's: nothing is chosen, moved or paid anew."""
    await active(stack, replace(SPEC, healing=HealPolicy.NONE))
    lost = ref(stack, "s2")
    for _ in range(60):
        driver(stack).fail_next("apply", DriverError("the host is gone"))
    driver(stack).lose(lost, "f1")
    await stack.pass_time(LOOK_S + 4 * HEAL_S)
    assert (stack.state(), at(stack)) == (ServiceState.DEGRADED, ["s1", "s2", "s4"])
    await stack.pass_time(3000)
    assert (stack.state(), ref(stack, "s2")) == (ServiceState.ACTIVE, lost)


async def test_a_domain_that_is_away_for_a_while_has_lost_nothing(stack: Stack) -> None:
    await active(stack, SPEC)
    async with watched(stack) as events:
        for _ in range(3):
            driver(stack).away = True
            await stack.pass_time(DEAD_S - LOOK_S)
            driver(stack).away = False
            await stack.pass_time(2 * LOOK_S)
    assert states(events) == []


async def test_all_of_a_domain_that_is_away_for_long_is_lost_and_bought_elsewhere_and_nothing_new_is_taken(
    stack: Stack,
) -> None:
    await active(stack, SPEC)
    (asked,) = (s.spec for s in order(stack).segments if s.alias == "s2")
    driver(stack).away = True
    await stack.pass_time(DEAD_S + 2 * LOOK_S)
    (told,) = (await status(stack)).reasons
    assert (told.code, told.subject) == (ReasonCode.NOT_IN_SERVICE, "")
    assert stack.state() is ServiceState.DEGRADED
    refused = await stack.vim("s2").reserve("other", 1, asked, CTX)
    assert isinstance(refused, Refused)
    assert refused.reasons[0].code is ReasonCode.NOT_IN_SERVICE
    await stack.pass_time(HEAL_S + LOOK_S)
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=0.1)
    assert at(stack) == ["s1", "s3", "s4"]
    assert (await reserved(stack, SPEC, "second")).ref == "second", "it is planned around it"
    driver(stack).away = False
    await stack.pass_time(60, step=1)
    assert await driver(stack).inventory() == (), "what was given back goes when it is there again"
    assert isinstance(await stack.vim("s2").reserve("other", 2, asked, CTX), Reserved)


class SlowDriver(SimulatedDriver):
    """It tells what is lost when it is let, and then what was so when it was asked."""

    def __init__(self, saps: Sequence[SapPort]) -> None:
        super().__init__(saps)
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0

    async def losses(self, blueprints: Sequence[Blueprint]) -> Mapping[str, tuple[Loss, ...]]:
        self.asked += 1
        found = await super().losses(blueprints)
        await self.answers.wait()
        return found


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[tuple[Stack, SlowDriver]]:
    made = Stack(TOP, tmp_path, draw="slow")
    saps = made.nodes["a"].domains["s2"].saps
    driver = SlowDriver([SapPort(id=s.id, encapsulation=s.encapsulation.short, mtu=s.mtu) for s in saps])
    made.nodes["a"].drivers["s2"] = driver
    async with made:
        yield made, driver


async def test_a_domain_that_hangs_is_as_one_that_is_away(slow: tuple[Stack, SlowDriver]) -> None:
    stack, driver = slow
    await active(stack, SPEC)
    await stack.pass_time(2 * LOOK_S)
    driver.answers.clear()
    await stack.pass_time(DEAD_S - 5)
    assert (await status(stack)).state is ServiceState.ACTIVE
    async with watched(stack) as events:
        await stack.pass_time(2 * LOOK_S)
    assert "DEGRADED" in states(events)
    driver.answers.set()
    await stack.pass_time(2 * LOOK_S)
    assert stack.state() is ServiceState.ACTIVE


async def test_a_look_that_takes_long_is_rarer(slow: tuple[Stack, SlowDriver]) -> None:
    """Of the time no more than a tenth is spent with looking."""
    stack, driver = slow
    await stack.pass_time(3 * LOOK_S)
    before = driver.asked
    driver.answers.clear()
    await stack.pass_time(2 * LOOK_S)
    assert driver.asked == before + 1
    driver.answers.set()
    await stack.pass_time(100)
    assert driver.asked == before + 1
    await stack.pass_time(100)
    assert driver.asked > before + 1


async def test_what_was_changed_while_it_was_looked_at_is_not_told(slow: tuple[Stack, SlowDriver]) -> None:
    """The look saw the live version with a loss; by the time that it answers, that is over."""
    stack, driver = slow
    await active(stack, SPEC)
    lost = ref(stack, "s2")
    driver.lose(lost, "f1")
    driver.answers.clear()
    await stack.pass_time(LOOK_S + 1, step=1)
    held = await stack.customer().reserve("r", 2, replace(SPEC, bandwidth_bps=2 * 10**6), CTX)
    assert isinstance(held, Reserved), held
    assert await stack.customer().commit("r", 2, CONFIRM, CTX) == Committed(ref="r", version=2)
    await stack.until(lambda: order(stack).version == 2 and stack.state() is ServiceState.ACTIVE, step=0.1)
    async with watched(stack) as events:
        driver.answers.set()
        await stack.pass_time(LOOK_S - 5, step=1)
    assert states(events) == []


async def test_what_went_while_the_node_was_down_is_found_by_the_first_look(stack: Stack) -> None:
    await active(stack, SPEC)
    await stack.stop("a")
    for site in ("s1", "s2", "s4"):
        for segment in {item.segment for item in await driver(stack, site).inventory()}:
            driver(stack, site).lose(segment)
    await stack.start("a")
    await stack.tick()
    await stack.until(lambda: all(driver_has(stack, site) for site in ("s1", "s2", "s4")), step=0.1)
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=0.1)
    assert order(stack).heals == 0


def driver_has(stack: Stack, site: str) -> bool:
    return any(segment == ref(stack, site) for segment in stack.nodes["a"].drivers[site].segments)


async def test_the_replica_that_works_on_the_domain_looks_and_the_others_hear_of_it(stack: Stack) -> None:
    await active(stack, SPEC)
    node, lost = stack.nodes["a"], ref(stack, "s2")
    epoch = stack.broker("a").epoch
    other = LocalVim(
        stack.vim("s2").domain,
        driver(stack),
        SqlHoldBook(node.engine, epoch, "s2"),
        SqlQuoteBook(node.engine, "s2", STANDING),
        stack.clock,
        leads=lambda: False,
    )
    await other.open()
    driver(stack).lose(lost, "f1")
    for _ in range(30):
        driver(stack).fail_next("apply", DriverError("no host just now"))
    stack.clock.advance(LOOK_S)
    for _ in range(5):
        await other.tick()
        await stack.turn()
    assert (await other.status(lost, CTX)).state is ServiceState.ACTIVE, "it does not look"
    async with watched(stack, other) as events:
        await stack.tick()
        await stack.until(lambda: stack.state() is ServiceState.DEGRADED)
        await other.follow([lost])
        await stack.turn()
    assert states(events) == ["DEGRADED"]
    await other.close()


async def test_what_was_ended_since_the_backup_is_not_built_again_after_a_restore(stack: Stack, tmp_path: Path) -> None:
    await active(stack, SPEC)
    await active(stack, SPEC, "other")
    stays = ref(stack, "s2", "other")
    await saved(stack, "a", tmp_path / "backup")
    ending = asyncio.create_task(stack.customer().terminate("r", CTX))
    await stack.until(lambda: ending.done() and driver(stack).segments == {stays}, step=0.5)
    await put_back(stack, "a", tmp_path / "backup")
    await accepted(stack, "a")
    await stack.pass_time(3 * LOOK_S)
    assert driver(stack).segments == {stays}
    driver(stack).lose(stays, "f1")
    await stack.pass_time(LOOK_S + 5, step=1)
    assert [f.id for f in driver(stack).blueprint(stays).functions] == ["f1"], "what was seen since is built again"
