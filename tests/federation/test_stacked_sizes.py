"""Services whose manager says what size their functions are: what follows from it at every level, and what cannot be had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from broker.orders.records import Order
from broker.orders.retrying import MAX_CRANKBACKS
from capability_registry.abstraction import Abstraction, Disclosure
from lower_sp_clients.service_manager import NoDecision
from lower_sp_clients.supplier import Context
from lower_sp_clients.vim.accounting import TAKES
from service_model.flavours import Flavour
from service_model.managing import (
    Answer,
    ByDefault,
    DecisionOutcome,
    FlavourOffer,
    FunctionFlavour,
    FunctionPlace,
    HealQuestion,
    ManagerRefusal,
    ManagerTask,
    Placement,
    PlaceQuestion,
    Question,
    ScaleQuestion,
    Scaling,
)
from service_model.money import Price
from service_model.outcomes import ReasonCode, Refused, Reserved, ServiceState
from service_model.spec import Blocks, ServiceSpec
from tests.federation.test_stacked_managers import Managed
from tests.support.crashing import Mishap, Points
from tests.support.orders import CONFIRM, CTX
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import MARGIN

SMALL = Flavour(name="small", price=Price(per_hour=Decimal("0.1")), max_bandwidth_bps=10**7)
LARGE = Flavour(name="large", units=4, price=Price(per_hour=Decimal("0.4")))
BOTH = (SMALL, LARGE)


def sp(*either: Sp | Site) -> Sp:
    return Sp("top", (Site("west", uni=UNI), Either(either), Site("east", uni=UNI)), pools=(POOL,))


UNI = LabelSet(((1, 9),))
CHEAP = Site("cheap", ("firewall",), flavours=(SMALL,))
DEEP = Site("deep", ("firewall",), cost=3, flavours=BOTH)
FULL = Sp("low", (replace(DEEP, hosts=(5,), uni=UNI),))
"""With room for one large one and one small one."""
LOW = Sp("low", (DEEP,))
TOP = sp(CHEAP, LOW)
"""The cheapest firewall is small, and only a provider below has a large one."""
SPEC = chain("west.uni", "east.uni", "firewall", managers=("mine",))
OF_ITS_CUSTOMER = replace(SPEC, managers=(), functions=(replace(SPEC.functions[0], flavour="large"),))
"""The same, but that its customer requires the size."""


def sizes(**flavours: str) -> Scaling:
    return Scaling(flavours=tuple(FunctionFlavour(function=f, flavour=name) for f, name in flavours.items()))


def says(*answers: Answer) -> Callable[[Question], Answer]:
    """One after the other."""
    left = iter(answers)
    return lambda question: next(left)


def smallest(question: Question, bps: int) -> Answer:
    """The smallest flavours that forward so much."""
    assert isinstance(question, ScaleQuestion)
    enough = [o for o in question.offers if not 0 < o.flavour.max_bandwidth_bps < bps]
    best = {o.function: o for o in sorted(enough, key=lambda o: o.flavour.units, reverse=True)}
    return sizes(**{f: o.flavour.name for f, o in best.items()})


class Sized(Managed):
    """A firewall in two sizes, and a manager that decides SCALE alone."""

    def __init__(self, directory: Path, top: Sp = TOP) -> None:
        super().__init__(directory, top)
        self.allow(ManagerTask.SCALE)
        self.manager.answers = lambda question: (
            sizes(f0="large") if isinstance(question, ScaleQuestion) else ByDefault()
        )

    async def reserved(
        self, spec: ServiceSpec = SPEC, version: int = 1, ref: str = "r", ctx: Context = CTX
    ) -> Reserved | Refused:
        task = asyncio.ensure_future(self.customer().reserve(ref, version, spec, ctx))
        await self.until(task.done, step=0.1)
        return task.result()

    async def live(self, spec: ServiceSpec = SPEC, version: int = 1) -> Reserved:
        answer = await self.reserved(spec, version)
        assert isinstance(answer, Reserved), answer
        committed = asyncio.ensure_future(self.customer().commit("r", version, CONFIRM, CTX))
        await self.until(lambda: committed.done() and self.is_live(version), step=0.1)
        return answer

    def is_live(self, version: int) -> bool:
        """Whether that version is, and nothing is left to be done of the one before."""
        order = self.order()
        quiet = order.beside is None and order.past is None
        return (order.state, order.version, quiet) == (ServiceState.ACTIVE, version, True)

    def order(self, ref: str = "r") -> Order:
        (order,) = (o for o in self.broker("top").orders() if o.ref == ref)
        return order

    def taken(self) -> dict[str, list[tuple[str | None, int]]]:
        """By domain, of each function that it holds or has built, the flavour that it was asked for and the units taken."""
        out: dict[str, list[tuple[str | None, int]]] = {}
        for vim in self.vims():
            for hold in vim.holds():
                for f in hold.spec.functions if hold.spec and hold.state in TAKES else ():
                    out.setdefault(vim.domain.name, []).append((f.flavour, hold.units[f.id]))
        return out

    async def ended(self) -> None:
        await self.customer().terminate("r", CTX)
        await self.ends_empty()


@pytest.fixture
async def top(tmp_path: Path) -> AsyncIterator[Sized]:
    async with Sized(tmp_path) as stack:
        yield stack


# --- what is asked


async def test_a_manager_is_told_every_size_and_where_at_the_price_that_its_customer_pays(top: Sized) -> None:
    top.manager.answers = lambda question: ByDefault()
    assert isinstance(await top.reserved(), Reserved)

    def offer(flavour: Flavour, price: Decimal, place: str, supplier: str, default: bool = False) -> FlavourOffer:
        sold = replace(flavour, price=Price(per_hour=price))
        return FlavourOffer(
            function="f0", flavour=sold, by_default=default, place=place, supplier=supplier, country="NL"
        )

    (question,) = top.manager.scalings
    dime = Decimal("0.1")
    assert set(question.offers) == {
        offer(SMALL, dime * MARGIN, "CHEAP", "cheap", default=True),
        offer(SMALL, dime * MARGIN**2, "DEEP", "low", default=True),
        offer(LARGE, 4 * dime * MARGIN**2, "DEEP", "low"),
    }
    about = top.manager.asked[0][0]
    assert (about.ref, about.version, about.number, about.manager, about.spec) == ("r", 1, 0, "mine", SPEC)
    assert top.decisions() == [(ManagerTask.SCALE, DecisionOutcome.DEFAULT, "as by default")]
    assert top.taken() == {"cheap": [(None, 1)]}
    assert await top.journal() == [
        ("ask scale", "mine/1/0", "intent"),
        ("ask scale", "mine/1/0", "DEFAULT: as by default"),
    ]


async def test_of_a_provider_that_hides_its_places_and_parts_a_manager_learns_words_alone(top: Sized) -> None:
    hidden = Disclosure(abstraction=Abstraction.GREY)
    top.node.terms = replace(top.node.terms, disclosure=hidden, show_segments=False)
    assert isinstance(await top.reserved(), Reserved)
    (question,) = top.manager.scalings
    assert all(o.place.startswith("p-") and not o.supplier for o in question.offers)
    assert top.taken() == {"deep": [("large", 4)]}


async def test_a_size_that_the_spec_names_is_its_customers_and_not_asked_about(top: Sized) -> None:
    named = replace(OF_ITS_CUSTOMER, managers=("mine",))
    assert isinstance(await top.reserved(named), Reserved)
    assert not top.manager.asked
    assert top.decisions() == []
    assert top.taken() == {"deep": [("large", 4)]}


async def test_of_several_functions_those_are_asked_about_of_which_the_spec_says_nothing(tmp_path: Path) -> None:
    two = Site("two", ("firewall", "meter"), flavours=BOTH)
    spec = chain("west.uni", "east.uni", "firewall", "meter", managers=("mine",))
    spec = replace(spec, functions=(replace(spec.functions[0], flavour="small"), spec.functions[1]))
    async with Sized(tmp_path, sp(two)) as top:
        top.manager.answers = lambda question: sizes(f1="large")
        assert isinstance(await top.reserved(spec), Reserved)
        assert {o.function for o in top.manager.scalings[0].offers} == {"f1"}
        assert top.taken() == {"two": [("small", 1), ("large", 4)]}


async def test_a_service_is_sized_as_it_was_quoted(top: Sized) -> None:
    quote = asyncio.ensure_future(top.customer().quote(SPEC, CTX))
    await top.until(quote.done, step=0.1)
    answer = await top.reserved(ctx=replace(CTX, quote=quote.result().id))  # type: ignore[union-attr]
    assert isinstance(answer, Reserved)
    assert not top.manager.asked
    assert top.taken() == {"cheap": [(None, 1)]}


# --- what follows from it


async def test_what_was_chosen_is_asked_for_and_paid_for_as_if_its_customer_required_it(top: Sized) -> None:
    theirs = await top.reserved(OF_ITS_CUSTOMER, ref="theirs")
    chosen = await top.live()
    assert isinstance(theirs, Reserved)
    assert (chosen.price, chosen.price.per_hour > Decimal("0.4")) == (theirs.price, True)
    assert top.decisions() == [(ManagerTask.SCALE, DecisionOutcome.CHOSEN, "f0: large")]
    (below,) = (o for o in top.broker("low").orders() if o.ref == top.order().segments[1].ref)
    assert below.spec is not None
    assert [f.flavour for f in below.spec.functions] == ["large"]
    assert (below.spec.managers, below.decisions) == ((), ()), "nobody below hears of a manager"
    assert top.taken() == {"deep": [("large", 4), ("large", 4)]}
    assert top.order().spec == SPEC, "what its customer asked for is as it came"
    await top.customer().release("theirs", 1, CTX)
    await top.ended()


async def test_its_places_are_those_that_have_the_size_that_was_chosen(top: Sized) -> None:
    top.allow(ManagerTask.PLACE, ManagerTask.SCALE)
    assert isinstance(await top.reserved(), Reserved)
    assert [type(question) for _, question in top.manager.asked] == [ScaleQuestion, PlaceQuestion]
    (question,) = top.manager.placings
    assert [[p.place for p in option.places] for option in question.options] == [["DEEP"]]
    assert [o.place for o in question.offers] == ["DEEP"]
    assert question.options[0].price == top.order().price
    assert top.taken() == {"deep": [("large", 4)]}


async def test_who_sizes_and_places_is_overruled_where_the_two_do_not_go_together(top: Sized) -> None:
    at_cheap = Placement(places=(FunctionPlace(function="f0", place="CHEAP"),))
    top.allow(ManagerTask.PLACE, ManagerTask.SCALE)
    top.manager.answers = lambda question: at_cheap if isinstance(question, PlaceQuestion) else sizes(f0="large")
    assert isinstance(await top.reserved(), Reserved)
    assert top.decisions() == [
        (ManagerTask.SCALE, DecisionOutcome.CHOSEN, "f0: large"),
        (ManagerTask.PLACE, DecisionOutcome.FALLBACK, "function 'f0': 'CHEAP' was not offered"),
    ]
    assert top.taken() == {"deep": [("large", 4)]}


async def test_what_is_reserved_ahead_has_its_size_in_its_time(top: Sized) -> None:
    start = top.clock.now() + timedelta(hours=1)
    ahead = replace(SPEC, start_time=start, end_time=start + timedelta(hours=1))
    assert isinstance(await top.reserved(ahead), Reserved)
    assert top.taken() == {"deep": [("large", 4)]}


async def test_what_was_refused_is_planned_again_in_the_size_that_was_chosen_and_not_asked_again(
    tmp_path: Path,
) -> None:
    """What low announced is of before another of its customers took most of it."""
    second = Sp("second", (Site("deeper", ("firewall",), cost=5, flavours=BOTH),))
    async with Sized(tmp_path, sp(CHEAP, FULL, second)) as top:
        await fill(top)
        assert isinstance(await top.reserved(), Reserved)
        assert top.order().crankbacks == 1
        assert top.taken()["deeper"] == [("large", 4)]
        assert top.decisions() == [(ManagerTask.SCALE, DecisionOutcome.CHOSEN, "f0: large")]
        assert len(top.manager.asked) == 1


async def fill(top: Sized, low: str = "low", deep: str = "deep") -> None:
    """Another customer of low's has a large firewall there."""
    spec = chain(f"{deep}.uni", f"{deep}.uni", "firewall", blocks=Blocks(allowed=(ip_network("10.9.0.0/24"),)))
    spec = replace(spec, functions=(replace(spec.functions[0], flavour="large"),))
    task = asyncio.ensure_future(top.customer("bob", low).reserve("theirs", 1, spec, CTX))
    await top.until(task.done, step=0.1)
    assert isinstance(task.result(), Reserved), task.result()


# --- what cannot be had


WRONG: dict[str, tuple[Answer | NoDecision, str]] = {
    "another size": (sizes(f0="huge"), "function 'f0': flavour 'huge' was not offered"),
    "another function": (sizes(f9="large"), "function 'f9': its flavour was not asked for"),
    "no answer": (NoDecision("it cannot be reached"), "it cannot be reached"),
    "something else": (Placement(option="1"), "it answered Placement, which was not asked"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("refuses", [False, True], ids=["default", "refuse"])
async def test_who_decides_wrongly_is_overruled_or_refused_by_name(top: Sized, wrong: str, refuses: bool) -> None:
    answer, why = WRONG[wrong]
    top.allow(ManagerTask.SCALE, refuses=refuses)
    top.manager.answers = lambda question: answer
    got = await top.reserved()
    ((task, outcome, detail),) = top.decisions()
    assert (task, outcome) == (
        ManagerTask.SCALE,
        DecisionOutcome.REFUSED if refuses else DecisionOutcome.FALLBACK,
    )
    assert why in detail
    if refuses:
        assert isinstance(got, Refused)
        (reason,) = got.reasons
        assert (reason.code, reason.subject) == (ReasonCode.MANAGER_REFUSED, "mine")
        assert reason.message.startswith("manager 'mine' (SCALE): ")
        await top.ends_empty()
    else:
        assert isinstance(got, Reserved)
        assert top.taken() == {"cheap": [(None, 1)]}


@pytest.mark.parametrize("refuses", [False, True], ids=["default", "refuse"])
async def test_a_size_that_is_offered_and_cannot_be_had_as_asked_is_overruled(top: Sized, refuses: bool) -> None:
    top.allow(ManagerTask.SCALE, refuses=refuses)
    got = await top.reserved(replace(SPEC, max_price=Decimal(200)))
    ((_, outcome, detail),) = top.decisions()
    assert detail.startswith("price over 720 h: best ")
    assert detail.endswith(": f0: large")
    if refuses:
        assert isinstance(got, Refused)
        assert (outcome, got.reasons[0].code) == (DecisionOutcome.REFUSED, ReasonCode.MANAGER_REFUSED)
        await top.ends_empty()
    else:
        assert isinstance(got, Reserved)
        assert outcome is DecisionOutcome.FALLBACK
        assert top.taken() == {"cheap": [(None, 1)]}


async def test_who_has_no_room_for_the_size_that_was_chosen_is_asked_for_the_default(tmp_path: Path) -> None:
    async with Sized(tmp_path, sp(FULL)) as top:
        await fill(top)
        assert isinstance(await top.reserved(), Reserved)
        assert top.order().crankbacks == 1
        ((_, outcome, detail),) = top.decisions()
        assert outcome is DecisionOutcome.FALLBACK
        assert detail.startswith("segment low.1 refused: ")
        assert detail.endswith(": f0: large")
        assert top.taken() == {"deep": [("large", 4), (None, 1)]}
        assert len(top.manager.asked) == 1


@pytest.mark.parametrize("refuses", [False, True], ids=["default", "refuse"])
async def test_after_as_many_refusals_of_the_size_as_an_order_is_planned_it_is_by_default(
    tmp_path: Path, refuses: bool
) -> None:
    """Nine have no room for a large one, of ten that announce it: the tenth is never asked. A small one is had."""
    many = tuple(
        Sp(f"low{n}", (replace(DEEP, name=f"deep{n}", hosts=(5,), cost=3 + n, uni=UNI),))
        for n in range(MAX_CRANKBACKS + 2)
    )
    async with Sized(tmp_path, sp(CHEAP, *many)) as top:
        for n in range(MAX_CRANKBACKS + 1):
            await fill(top, f"low{n}", f"deep{n}")
        before = top.taken()
        top.allow(ManagerTask.SCALE, refuses=refuses)
        got = await top.reserved()
        ((_, outcome, detail),) = top.decisions()
        assert detail.startswith(f"segment low{MAX_CRANKBACKS}.1 refused: ")
        assert detail.endswith(": f0: large")
        assert len(top.manager.asked) == 1
        if refuses:
            assert isinstance(got, Refused)
            assert (outcome, got.reasons[0].code) == (DecisionOutcome.REFUSED, ReasonCode.MANAGER_REFUSED)
            assert top.taken() == before
        else:
            assert isinstance(got, Reserved), got
            assert outcome is DecisionOutcome.FALLBACK
            assert top.taken() == before | {"cheap": [(None, 1)]}


async def test_a_refusal_of_the_manager_is_one_whatever_its_terms(top: Sized) -> None:
    top.manager.answers = lambda question: ManagerRefusal(message="all of them are too small")
    got = await top.reserved()
    assert isinstance(got, Refused)
    assert got.reasons[0].message == "manager 'mine' (SCALE): all of them are too small"
    await top.ends_empty()


async def test_without_a_size_that_will_do_by_default_a_manager_finds_one(top: Sized) -> None:
    """More bandwidth than a small one forwards: by default nothing would do."""
    fast = replace(SPEC, bandwidth_bps=10**8)
    refused = await top.reserved(replace(fast, managers=()), ref="plain")
    assert isinstance(refused, Refused)
    assert refused.reasons[0].code is ReasonCode.BANDWIDTH
    assert isinstance(await top.reserved(fast), Reserved)
    assert top.taken() == {"deep": [("large", 4)]}


# --- the same service again


async def test_a_modification_to_more_bandwidth_is_asked_again_and_grows_and_shrinks(tmp_path: Path) -> None:
    async with Sized(tmp_path, sp(LOW)) as top:
        wanted = [10**6, 10**8, 10**6]
        top.manager.answers = lambda question: smallest(question, wanted[len(top.manager.asked) - 1])
        first = await top.live()
        assert top.taken() == {"deep": [("small", 1)]}
        grown = await top.live(replace(SPEC, bandwidth_bps=10**8), version=2)
        await top.until(lambda: top.taken() == {"deep": [("large", 4)]}, step=0.1)
        assert grown.price.per_hour > first.price.per_hour
        assert top.order().decisions[0].detail == "f0: large"
        again = await top.live(version=3)
        await top.until(lambda: top.taken() == {"deep": [("small", 1)]}, step=0.1)
        assert again.price == first.price
        assert [(about.version, about.number) for about, _ in top.manager.asked] == [(1, 0), (2, 0), (3, 0)]
        await top.ended()


async def test_a_newer_version_without_an_answer_is_as_by_default_and_the_live_one_stays_until_then(
    top: Sized,
) -> None:
    await top.live()
    top.manager.answers = lambda question: NoDecision("it cannot be reached")
    assert isinstance(await top.reserved(replace(SPEC, tags=("x",)), version=2), Reserved)
    assert ("large", 4) in top.taken()["deep"]
    commit = asyncio.ensure_future(top.customer().commit("r", 2, CONFIRM, CTX))
    await top.until(lambda: commit.done() and top.taken() == {"cheap": [(None, 1)]}, step=0.2)
    assert top.decisions() == [(ManagerTask.SCALE, DecisionOutcome.FALLBACK, "it cannot be reached")]
    await top.ended()


async def test_a_newer_version_in_the_same_size_changes_nothing_below(top: Sized) -> None:
    await top.live()
    before = top.order().segments
    assert isinstance(await top.reserved(replace(SPEC, tags=("x",)), version=2), Reserved)
    beside = top.order().beside
    assert beside is not None
    assert all(s.kept for s in beside.segments)
    assert [s.ref for s in beside.segments] == [s.ref for s in before]


async def test_a_newer_version_that_its_manager_refuses_leaves_the_hold_in_its_size(top: Sized) -> None:
    top.manager.answers = says(sizes(f0="large"), ManagerRefusal(message="no"))
    first = await top.reserved()
    assert isinstance(await top.reserved(replace(SPEC, bandwidth_bps=10**7), version=2), Refused)
    await top.until(lambda: top.state() is ServiceState.RESERVED, step=0.1)
    assert top.taken() == {"deep": [("large", 4)]}
    assert isinstance(first, Reserved)
    assert (top.order().price, len(top.manager.asked)) == (first.price, 2)


async def test_a_healing_keeps_the_size_and_asks_nobody_of_it(tmp_path: Path) -> None:
    second = Sp("second", (Site("deeper", ("firewall",), cost=5, flavours=BOTH),))
    async with Sized(tmp_path, sp(CHEAP, LOW, second)) as top:
        top.node.terms = replace(top.node.terms, heal_loss=Decimal(5))
        top.allow(ManagerTask.SCALE, ManagerTask.HEAL)
        before = await top.live()
        lost = next(s for s in top.order().segments if s.wanted and s.alias == "low")
        await top.line("top", "low").fails(lost.ref)
        await top.until(lambda: top.where() == {"DEEPER"} and top.state() is ServiceState.ACTIVE, step=0.2)
        assert top.taken()["deeper"] == [("large", 4)]
        assert top.order().price == before.price
        assert [type(question) for _, question in top.manager.asked] == [ScaleQuestion, HealQuestion]
        assert [o.place for o in top.manager.healings[0].offers] == ["DEEP", "DEEPER"], "where there are large ones"
        assert top.order().healed == 1
        await top.ended()


async def test_what_is_dearer_than_announced_is_compared_with_others_of_the_size_that_was_chosen(
    tmp_path: Path,
) -> None:
    second = Site("second", ("firewall",), cost=5, flavours=BOTH)
    async with Sized(tmp_path, sp(CHEAP, Site("first", ("firewall",), cost=3, flavours=BOTH), second)) as top:
        vim = top.vim("first")
        dear = tuple(
            replace(f, flavours=(SMALL, replace(LARGE, price=Price(per_hour=Decimal(9))))) for f in vim.domain.functions
        )
        vim.domain = replace(vim.domain, functions=dear)
        assert isinstance(await top.reserved(replace(SPEC, bandwidth_bps=10**8)), Reserved), "no small one would do"
        assert top.taken() == {"second": [("large", 4)]}


# --- restarts


@pytest.mark.parametrize("version", [1, 2])
async def test_a_restart_between_question_and_answer_asks_again_as_it_was(tmp_path: Path, version: int) -> None:
    async with Sized(tmp_path) as top:
        if version == 2:
            top.manager.answers = lambda question: ByDefault()
            await top.live()
        top.manager.silent = True
        spec = replace(SPEC, bandwidth_bps=5 * 10**6)
        waits = asyncio.ensure_future(top.customer().reserve("r", version, spec, CTX))
        await top.until(lambda: len(top.manager.asked) == version)
        await top.restart("top")
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        top.manager.silent = False
        top.manager.answers = lambda question: sizes(f0="large")
        top.announce_all()
        assert isinstance(await top.reserved(spec, version), Reserved)
        *_, before, after = top.manager.asked
        assert before == after
        assert ("large", 4) in top.taken()["deep"]


@pytest.mark.parametrize("mishap", [Mishap.DIES_BEFORE, Mishap.DIES_AFTER])
async def test_a_broker_that_dies_at_any_write_or_question_asks_once_more_at_most_and_keeps_what_was_recorded(
    tmp_path: Path, mishap: Mishap
) -> None:
    async def life(name: str, points: Points) -> tuple[Sized, Points]:
        directory = tmp_path / name
        await asyncio.to_thread(directory.mkdir)
        top = Sized(directory, sp(LOW))
        turns = iter(["large", "small"])  # whoever is asked twice answers otherwise
        top.manager.answers = lambda question: sizes(f0=next(turns))
        async with top.reserved_despite(points, SPEC):
            ((_, outcome, detail),) = top.decisions()
            assert outcome is DecisionOutcome.CHOSEN
            assert top.taken() == {"deep": [{"f0: large": ("large", 4), "f0: small": ("small", 1)}[detail]]}
            assert top.manager.scalings[0] == top.manager.scalings[-1], (
                "it is the recorded question that is asked again"
            )
            wrote = [row for row in await top.journal() if row[2] != "intent"]
            assert len(wrote) == 1, "an answer is recorded once"
            await top.ended()
        return top, points

    _, plain = await life("plain", Points())
    assert [what for what in plain.seen if what.startswith("ask")] == ["ask ScaleQuestion"]
    asked_twice: list[int] = []
    for number in range(len(plain.seen)):
        top, _ = await life(str(number), Points(number, mishap))
        if len(top.manager.scalings) == 2:
            asked_twice.append(number)
    between = plain.seen.index("ask ScaleQuestion") + (mishap is Mishap.DIES_BEFORE)
    assert asked_twice == [between], "only who dies between the answer and its record asks twice"
