"""Services whose spec names a manager: what it may decide, what it cannot, and what is recorded of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.orders.decisions import ManagerTerms
from broker.storage import tables
from capability_registry.abstraction import Abstraction, Disclosure
from lower_sp_clients.service_manager import NoDecision
from lower_sp_clients.supplier import Context
from service_model.managing import (
    Addresses,
    AddressQuestion,
    Answer,
    ByDefault,
    Configuration,
    ConfigureQuestion,
    DecisionOutcome,
    FunctionParameters,
    FunctionPlace,
    LinkAddresses,
    ManagerRefusal,
    ManagerTask,
    Placement,
    PlaceQuestion,
    Question,
)
from service_model.outcomes import ReasonCode, Refused, Reserved, ServiceState
from service_model.spec import ServiceSpec
from tests.support.crashing import CrashingStore, Mishap, Points
from tests.support.faults import refuses
from tests.support.orders import CONFIRM, CTX
from tests.support.scripted_manager import AskedAtPoints, ScriptedManager
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import Stack

TOP = Sp(
    "top",
    (
        Site("west"),
        Either((Site("cheap", ("firewall",)), Site("dear", ("firewall",), cost=3, country="DE"))),
        Site("east"),
    ),
    pools=(POOL,),
)
SPEC = chain("west.uni", "east.uni", "firewall", managers=("mine",))
EVERY = (ManagerTask.PLACE, ManagerTask.ADDRESS, ManagerTask.CONFIGURE)
AT_DEAR = Placement(places=(FunctionPlace(function="f0", place="DEAR"),))
DROPS = Configuration(functions=(FunctionParameters(function="f0", parameters={"policy": "drop"}),))


def terms(*decides: ManagerTask, refuses: bool = False) -> dict[str, ManagerTerms]:
    return {"mine": ManagerTerms(document="doc", decides=decides, refuses=refuses)}


class Managed(Stack):
    """`top` with two places for a firewall, and a manager that alice may name `mine`."""

    def __init__(self, directory: Path, top: Sp = TOP) -> None:
        super().__init__(top, directory)
        self.manager = ScriptedManager()
        self.node = self.nodes["top"]
        self.node.managers["doc"] = self.manager
        self.allow(*EVERY)

    def allow(self, *decides: ManagerTask, refuses: bool = False) -> None:
        self.node.terms = replace(self.node.terms, managers=terms(*decides, refuses=refuses))

    @asynccontextmanager
    async def reserved_despite(self, points: Points, spec: ServiceSpec) -> AsyncIterator[None]:
        """Open, with `spec` reserved whatever its `points` do to `top` meanwhile: one that dies is started and asked again."""
        at = points
        self.node.store = lambda engine: CrashingStore.over(engine, lambda: at)
        self.node.managers["doc"] = AskedAtPoints(self.manager, lambda: at)
        async with self:
            at.counts = True
            task = asyncio.ensure_future(self.customer().reserve("r", 1, spec, CTX))
            await self.until(lambda: task.done() or at.died.is_set(), step=0.05)
            if at.died.is_set():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await self.stop("top")
                at = Points()
                await self.start("top")
                task = asyncio.ensure_future(self.customer().reserve("r", 1, spec, CTX))
                await self.until(task.done, step=0.05)
            assert isinstance(task.result(), Reserved)
            points.counts = False
            yield

    async def reserve(self, spec: ServiceSpec = SPEC, ref: str = "r", ctx: Context = CTX) -> Reserved | Refused:
        task = asyncio.ensure_future(self.customer().reserve(ref, 1, spec, ctx))
        await self.until(task.done, step=0.1)
        return task.result()

    def where(self, ref: str = "r") -> set[str]:
        """The places of the parts with functions."""
        status = self.broker("top").status("alice", ref)
        return {part.place for part in status.segments if part.functions}

    def decisions(self, ref: str = "r") -> list[tuple[ManagerTask, DecisionOutcome, str]]:
        return [(d.task, d.outcome, d.detail) for d in self.broker("top").status("alice", ref).decisions]

    def told(self, domain: str) -> list[object]:
        """The parameters of the functions in a domain."""
        return [f.parameters for h in self.vim(domain).holds() if h.spec for f in h.spec.functions]

    async def journal(self) -> list[tuple[str, str, str]]:
        """What is recorded of questions."""
        table = tables.journal
        query = (
            select(table.c.what, table.c.key, table.c.detail).where(table.c.what.like("ask %")).order_by(table.c.seq)
        )
        rows = await self.node.plain.read(lambda connection: connection.execute(query).all())
        return [tuple(row) for row in rows]


@pytest.fixture
async def top(tmp_path: Path) -> AsyncIterator[Managed]:
    async with Managed(tmp_path) as stack:
        yield stack


# --- what it may


async def test_without_a_choice_of_its_manager_a_service_is_as_any_other(top: Managed) -> None:
    assert isinstance(await top.reserve(), Reserved)
    assert top.where() == {"CHEAP"}
    assert top.decisions() == [(task, DecisionOutcome.DEFAULT, "as by default") for task in EVERY]


async def test_a_manager_is_told_the_plan_and_every_offer_in_the_words_of_its_customer(top: Managed) -> None:
    await top.reserve()
    (question,) = top.manager.placings
    assert [[(p.function, p.place, p.supplier) for p in o.places] for o in question.options] == [
        [("f0", "CHEAP", "cheap")]
    ]
    assert {(o.place, o.supplier, o.country) for o in question.offers} == {
        ("CHEAP", "cheap", "NL"),
        ("DEAR", "dear", "DE"),
    }
    about = top.manager.asked[0][0]
    assert (about.ref, about.version, about.manager, about.spec) == ("r", 1, "mine", SPEC)


async def test_of_a_provider_that_hides_its_places_and_parts_a_manager_learns_words_alone(top: Managed) -> None:
    hidden = Disclosure(abstraction=Abstraction.GREY)
    top.node.terms = replace(top.node.terms, disclosure=hidden, show_segments=False)

    def in_germany(question: Question) -> Answer:
        if not isinstance(question, PlaceQuestion):
            return ByDefault()
        words = [offer.place for offer in question.offers if offer.country == "DE"]
        return Placement(places=tuple(FunctionPlace(function="f0", place=word) for word in words))

    top.manager.answers = in_germany
    assert isinstance(await top.reserve(), Reserved)
    (question,) = top.manager.placings
    assert all(o.place.startswith("p-") and not o.supplier for o in question.offers)
    (order,) = top.broker("top").orders()
    assert [s.alias for s in order.segments if s.spec.functions] == ["dear"]


@pytest.mark.parametrize(
    "choice",
    [AT_DEAR, Placement(places=(FunctionPlace(function="f0", place="DEAR", supplier="dear"),))],
    ids=["place", "supplier"],
)
async def test_a_function_is_where_the_manager_places_it(top: Managed, choice: Placement) -> None:
    top.manager.answers = lambda question: choice if isinstance(question, PlaceQuestion) else ByDefault()
    answer = await top.reserve()
    assert isinstance(answer, Reserved)
    assert top.where() == {"DEAR"}
    assert top.decisions()[0][:2] == (ManagerTask.PLACE, DecisionOutcome.CHOSEN)
    await top.customer().commit("r", 1, CONFIRM, CTX)
    await top.until(lambda: top.state() is ServiceState.ACTIVE)
    await top.customer().terminate("r", CTX)
    await top.ends_empty()


async def test_an_option_stands_for_its_places(top: Managed) -> None:
    top.manager.answers = lambda question: Placement(option="1") if isinstance(question, PlaceQuestion) else ByDefault()
    assert isinstance(await top.reserve(), Reserved)
    assert top.decisions()[0] == (ManagerTask.PLACE, DecisionOutcome.CHOSEN, "f0 at CHEAP of cheap")


def thirties(question: AddressQuestion) -> list[IPv4Network]:
    """The /30s of what is allowed."""
    block = question.allowed[0]
    assert isinstance(block, IPv4Network)
    return list(block.subnets(new_prefix=30))


def the_last(question: Question) -> Answer:
    """The last /30s of what is allowed, and the higher address of each for the function."""
    if not isinstance(question, AddressQuestion):
        return ByDefault()
    nets = thirties(question)[-len(question.links) :]
    return Addresses(
        links=tuple(
            LinkAddresses(link=link.link, prefixes=(net,), addresses={link.ports[0]: net[2]})
            for link, net in zip(question.links, nets, strict=True)
        )
    )


async def test_links_have_the_prefixes_and_ports_the_addresses_that_the_manager_chose(top: Managed) -> None:
    top.manager.answers = the_last
    answer = await top.reserve()
    assert isinstance(answer, Reserved)
    chosen = {
        link.link: (link.prefix, link.addresses[p]) for link in answer.choice.links for p in link.addresses if ":" in p
    }
    assert chosen == {
        "l0": (ip_network("10.64.0.248/30"), ip_address("10.64.0.250")),
        "l1": (ip_network("10.64.0.252/30"), ip_address("10.64.0.254")),
    }
    await top.customer().commit("r", 1, CONFIRM, CTX)
    await top.until(lambda: top.state() is ServiceState.ACTIVE)
    await top.customer().terminate("r", CTX)
    await top.ends_empty()


async def test_what_links_the_manager_leaves_out_are_addressed_by_the_broker_off_what_it_chose(top: Managed) -> None:
    def one(question: Question) -> Answer:
        if not isinstance(question, AddressQuestion):
            return ByDefault()
        low = thirties(question)[0]
        return Addresses(links=(LinkAddresses(link="l1", prefixes=(low,)),))

    top.manager.answers = one
    answer = await top.reserve()
    assert isinstance(answer, Reserved)
    prefixes = [link.prefix for link in answer.choice.links]
    assert ip_network("10.64.0.0/30") in prefixes
    assert isinstance(prefixes[0], IPv4Network)
    assert not prefixes[0].overlaps(prefixes[1])  # type: ignore[arg-type]


async def test_functions_are_told_the_parameters_that_the_manager_chose_at_the_place_it_chose(top: Managed) -> None:
    top.manager.answers = lambda question: (
        AT_DEAR
        if isinstance(question, PlaceQuestion)
        else DROPS
        if isinstance(question, ConfigureQuestion)
        else ByDefault()
    )
    assert isinstance(await top.reserve(), Reserved)
    (question,) = top.manager.configurings
    assert [p.place for p in question.placement] == ["DEAR"]
    assert top.told("dear") == [{"policy": "drop"}]
    specs = [hold.spec for vim in top.vims() for hold in vim.holds() if hold.spec]
    assert len(specs) == 3
    assert all(not spec.managers for spec in specs), "it is not handed down"


async def test_what_was_refused_is_placed_by_the_manager_again(top: Managed) -> None:
    top.line("top", "dear").always["reserve"] = refuses(ReasonCode.CAPACITY, subject="f0")
    top.manager.answers = lambda question: (
        (AT_DEAR if len(top.manager.placings) == 1 else Placement(option="1"))
        if isinstance(question, PlaceQuestion)
        else ByDefault()
    )
    assert isinstance(await top.reserve(), Reserved)
    assert top.where() == {"CHEAP"}
    assert [about.number for about, q in top.manager.asked if isinstance(q, PlaceQuestion)] == [0, 1]


async def test_a_prefix_that_a_supplier_cannot_use_is_asked_for_again_without_it(tmp_path: Path) -> None:
    stack = Managed(tmp_path)
    vim_domain = stack.node.domains["cheap"]
    stack.node.domains["cheap"] = replace(vim_domain, excluded=(ip_network("10.64.0.248/29"),))
    stack.manager.answers = the_last

    def other(question: Question) -> Answer:
        if isinstance(question, AddressQuestion) and question.excluded:
            nets = thirties(question)[4:6]
            return Addresses(
                links=tuple(
                    LinkAddresses(link=link.link, prefixes=(n,)) for link, n in zip(question.links, nets, strict=True)
                )
            )
        return the_last(question)

    stack.manager.answers = other
    async with stack as top:
        answer = await top.reserve()
        assert isinstance(answer, Reserved), answer
        assert {link.prefix for link in answer.choice.links} == {
            ip_network("10.64.0.16/30"),
            ip_network("10.64.0.20/30"),
        }
        assert len(top.manager.addressings) == 2


async def test_a_service_is_placed_as_it_was_quoted(top: Managed) -> None:
    top.manager.answers = lambda question: AT_DEAR if isinstance(question, PlaceQuestion) else ByDefault()
    quote = asyncio.ensure_future(top.customer().quote(SPEC, CTX))
    await top.until(quote.done, step=0.1)
    answer = await top.reserve(ctx=replace(CTX, quote=quote.result().id))  # type: ignore[union-attr]
    assert isinstance(answer, Reserved)
    assert top.where() == {"CHEAP"}
    assert not top.manager.placings


# --- what it may not


WRONG: dict[str, tuple[Answer | NoDecision, str]] = {
    "another place": (Placement(places=(FunctionPlace(function="f0", place="WEST"),)), "'WEST' was not offered"),
    "another supplier": (
        Placement(places=(FunctionPlace(function="f0", place="DEAR", supplier="cheap"),)),
        "'DEAR' of 'cheap' was not offered",
    ),
    "another function": (Placement(places=(FunctionPlace(function="f9", place="DEAR"),)), "no function 'f9'"),
    "another option": (Placement(option="7"), "option '7' was not offered"),
    "no answer": (NoDecision("it cannot be reached"), "it cannot be reached"),
    "something else": (DROPS, "it answered Configuration, which was not asked"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("refuses_", [False, True], ids=["default", "refuse"])
async def test_who_decides_wrongly_is_overruled_or_refused_by_name(top: Managed, wrong: str, refuses_: bool) -> None:
    answer, why = WRONG[wrong]
    top.allow(ManagerTask.PLACE, refuses=refuses_)
    top.manager.answers = lambda question: answer
    got = await top.reserve()
    if refuses_:
        assert isinstance(got, Refused)
        (reason,) = got.reasons
        assert (reason.code, reason.subject) == (ReasonCode.MANAGER_REFUSED, "mine")
        assert reason.message.startswith("manager 'mine' (PLACE): ")
        assert why in reason.message
        await top.ends_empty()
    else:
        assert isinstance(got, Reserved)
        assert top.where() == {"CHEAP"}
        ((task, outcome, detail),) = top.decisions()
        assert (task, outcome) == (ManagerTask.PLACE, DecisionOutcome.FALLBACK)
        assert why in detail


async def test_a_place_that_is_offered_and_cannot_be_had_as_asked_is_overruled(top: Managed) -> None:
    top.manager.answers = lambda question: AT_DEAR if isinstance(question, PlaceQuestion) else ByDefault()
    assert isinstance(await top.reserve(replace(SPEC, max_price=Decimal(200))), Reserved)
    assert top.where() == {"CHEAP"}
    assert top.decisions()[0] == (
        ManagerTask.PLACE,
        DecisionOutcome.FALLBACK,
        "the service cannot be delivered so: f0 at DEAR",
    )


async def test_a_refusal_of_the_manager_is_one_whatever_its_terms(top: Managed) -> None:
    top.manager.answers = lambda question: ManagerRefusal(message="not on a Friday")
    got = await top.reserve()
    assert isinstance(got, Refused)
    assert got.reasons[0].message == "manager 'mine' (PLACE): not on a Friday"
    assert top.decisions() == [(ManagerTask.PLACE, DecisionOutcome.REFUSED, "not on a Friday")]
    await top.ends_empty()


async def test_who_is_silent_is_waited_for_until_its_deadline_and_no_longer(top: Managed) -> None:
    top.allow(ManagerTask.PLACE)
    top.manager.silent = True
    before = top.clock.now()
    assert isinstance(await top.reserve(), Reserved)
    assert top.clock.now() - before < timedelta(seconds=4)
    assert top.decisions() == [(ManagerTask.PLACE, DecisionOutcome.FALLBACK, "no answer within 2 s")]


async def test_what_is_released_while_the_manager_is_asked_ends_and_nothing_is_left(top: Managed) -> None:
    top.manager.silent = True
    task = asyncio.ensure_future(top.customer().reserve("r", 1, SPEC, CTX))
    await top.until(lambda: bool(top.manager.asked))
    released = asyncio.ensure_future(top.customer().release("r", 1, CTX))
    await top.until(lambda: task.done() and released.done(), step=0.2)
    assert isinstance(task.result(), Refused)
    assert top.state() is ServiceState.EXPIRED
    await top.ends_empty()


async def test_parameters_that_the_supplier_does_not_understand_are_overruled(top: Managed) -> None:
    rubbish = Configuration(functions=(FunctionParameters(function="f0", parameters={"colour": "red"}),))
    top.manager.answers = lambda question: rubbish if isinstance(question, ConfigureQuestion) else ByDefault()
    assert isinstance(await top.reserve(), Reserved)
    assert top.where() == {"CHEAP"}
    task, outcome, detail = top.decisions()[-1]
    assert (task, outcome) == (ManagerTask.CONFIGURE, DecisionOutcome.FALLBACK)
    assert "colour" in detail
    assert top.told("cheap") == [{}]


async def test_parameters_below_another_provider_are_overruled_as_well(tmp_path: Path) -> None:
    below = Sp("top", (Sp("low", (Site("one", ("firewall",)), Site("two"))),), pools=(POOL,))
    stack = Stack(below, tmp_path)
    rubbish = Configuration(functions=(FunctionParameters(function="f0", parameters={"colour": "red"}),))
    stack.nodes["top"].managers["doc"] = ScriptedManager(lambda question: rubbish)
    stack.nodes["top"].terms = replace(stack.nodes["top"].terms, managers=terms(ManagerTask.CONFIGURE))
    async with stack:
        spec = replace(chain("low.one.uni", "low.two.uni", "firewall"), managers=("mine",))
        task = asyncio.ensure_future(stack.customer().reserve("r", 1, spec, CTX))
        await stack.until(task.done, step=0.1)
        assert isinstance(task.result(), Reserved), task.result()
        assert "colour" in stack.broker("top").status("alice", "r").decisions[0].detail


# --- who may name it


async def test_a_manager_that_the_account_may_not_name_is_refused_by_name(top: Managed) -> None:
    theirs = replace(SPEC, managers=("ssmdumb",))
    got = await top.customer().reserve("r", 1, theirs, CTX)
    asked = await top.customer().qualify(theirs, CTX)
    assert isinstance(got, Refused)
    assert got.reasons == asked.reasons
    assert [(r.code, r.subject) for r in got.reasons] == [(ReasonCode.MANAGER_NOT_ALLOWED, "ssmdumb")]
    assert not top.manager.asked


async def test_two_managers_that_decide_the_same_are_refused(top: Managed) -> None:
    both = {**terms(ManagerTask.PLACE), "other": ManagerTerms(document="doc", decides=(ManagerTask.PLACE,))}
    top.node.terms = replace(top.node.terms, managers=both)
    got = await top.customer().reserve("r", 1, replace(SPEC, managers=("mine", "other")), CTX)
    assert isinstance(got, Refused)
    assert got.reasons[0].message == "managers 'mine' and 'other' both decide PLACE"


async def test_a_manager_that_is_not_administered_any_more_decides_nothing(top: Managed) -> None:
    top.allow(ManagerTask.PLACE)
    del top.node.managers["doc"]
    assert isinstance(await top.reserve(), Reserved)
    assert top.decisions() == [(ManagerTask.PLACE, DecisionOutcome.FALLBACK, "it is not administered any more")]


# --- what is recorded


async def test_the_journal_has_each_question_before_and_after_it_was_asked(top: Managed) -> None:
    top.manager.answers = lambda question: AT_DEAR if isinstance(question, PlaceQuestion) else ByDefault()
    await top.reserve()
    assert await top.journal() == [
        ("ask place", "mine/1/0", "intent"),
        ("ask place", "mine/1/0", "CHOSEN: f0 at DEAR"),
        ("ask address", "mine/1/0", "intent"),
        ("ask address", "mine/1/0", "DEFAULT: as by default"),
        ("ask configure", "mine/1/0", "intent"),
        ("ask configure", "mine/1/0", "DEFAULT: as by default"),
    ]


async def test_a_question_is_recorded_before_it_is_asked_and_an_answer_before_it_has_effect(top: Managed) -> None:
    recorded: list[list[tuple[str, str, str]]] = []
    known: list[bool] = []

    def answers(question: Question) -> Answer:
        saved = top.broker("top").saved.get("".join(top.broker("top").by_ref.values()))
        known.append(saved is not None and saved.asked is not None and saved.asked.question == question)
        return AT_DEAR if isinstance(question, PlaceQuestion) else ByDefault()

    async def looks(call: Callable[[], Awaitable[object]], ref: str, version: int) -> object:
        recorded.append(await top.journal())
        return await call()

    top.manager.answers = answers
    for alias in ("west", "dear", "east"):
        top.line("top", alias).always["reserve"] = looks
    await top.reserve()
    assert known
    assert all(known), "asked before it was recorded"
    assert len(recorded) == 3
    assert all(("ask place", "mine/1/0", "CHOSEN: f0 at DEAR") in rows for rows in recorded)


@pytest.mark.parametrize("mishap", [Mishap.DIES_BEFORE, Mishap.DIES_AFTER])
async def test_a_broker_that_dies_at_any_write_or_question_asks_once_more_at_most_and_keeps_what_was_recorded(
    tmp_path: Path, mishap: Mishap
) -> None:
    async def life(name: str, points: Points) -> tuple[Managed, Points]:
        directory = tmp_path / name
        await asyncio.to_thread(directory.mkdir)
        top = Managed(directory)
        turns = iter(["DEAR", "CHEAP"])  # whoever is asked twice answers otherwise
        top.manager.answers = lambda question: (
            Placement(places=(FunctionPlace(function="f0", place=next(turns)),))
            if isinstance(question, PlaceQuestion)
            else ByDefault()
        )
        async with top.reserved_despite(points, SPEC):
            chosen = [d for d in top.broker("top").status("alice", "r").decisions if d.task is ManagerTask.PLACE]
            assert len(chosen) == 1
            assert top.where() == {chosen[0].detail.removeprefix("f0 at ")}
            questions = top.manager.placings
            assert len(questions) in (1, 2)
            assert questions[0] == questions[-1], "it is the recorded question that is asked again"
            wrote = [row for row in await top.journal() if row[0] == "ask place" and row[2] != "intent"]
            assert len(wrote) == 1, "an answer is recorded once"
            await top.customer().terminate("r", CTX)
            await top.ends_empty()
        return top, points

    _, plain = await life("plain", Points())
    assert len(plain.seen) >= 11
    assert [what for what in plain.seen if what.startswith("ask")] == [
        "ask PlaceQuestion",
        "ask AddressQuestion",
        "ask ConfigureQuestion",
    ]
    asked_twice: list[int] = []
    for number in range(len(plain.seen)):
        top, _ = await life(str(number), Points(number, mishap))
        if len(top.manager.placings) == 2:
            asked_twice.append(number)
    between = plain.seen.index("ask PlaceQuestion") + (mishap is Mishap.DIES_BEFORE)
    assert asked_twice == [between], "only who dies between the answer and its record asks twice"


async def test_a_healing_asks_no_manager_of_what_it_decided_before_and_that_stands(top: Managed) -> None:
    """The firewall's place is lost, where no manager placed it; what it is told and its addresses are as was decided."""
    top.allow(ManagerTask.ADDRESS, ManagerTask.CONFIGURE)
    top.node.terms = replace(top.node.terms, heal_loss=Decimal(3))
    prefix = ip_network("10.64.0.64/31")

    def decides(question: Question) -> Answer:
        if isinstance(question, ConfigureQuestion):
            return DROPS
        return Addresses(links=(LinkAddresses(link="l0", prefixes=(prefix,)),))

    top.manager.answers = decides
    assert isinstance(await top.reserve(), Reserved)
    await top.customer().commit("r", 1, CONFIRM, CTX)
    await top.until(lambda: top.state() is ServiceState.ACTIVE)
    before, asked = top.broker("top").status("alice", "r"), len(top.manager.asked)
    lost = next(s for s in top.broker("top").orders()[0].segments if s.wanted and s.alias == "cheap")
    await top.line("top", "cheap").fails(lost.ref)
    await top.until(lambda: top.where() == {"DEAR"} and top.state() is ServiceState.ACTIVE, step=0.2)
    after = top.broker("top").status("alice", "r")
    assert len(top.manager.asked) == asked
    assert before.choice is not None
    assert after.choice is not None
    assert [x.prefixes for x in after.choice.links] == [x.prefixes for x in before.choice.links]
    assert prefix in {p for x in after.choice.links for p in x.prefixes}
    assert top.told("dear") == [{"policy": "drop"}]
    assert after.decisions == before.decisions
