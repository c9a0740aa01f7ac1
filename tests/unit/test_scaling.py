"""When a manager is asked what size functions are, and what is planned with what it chose: the pure parts."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from broker.decompose.lexicon import OUR_NAMES, Lexicon
from broker.decompose.plan import Avoid, Dearer, Plan, Snapshot
from broker.decompose.search import plan
from broker.orders.consulting import place_by_manager
from broker.orders.decisions import Decision, ManagerTerms
from broker.orders.offered import MAX_OFFERS
from broker.orders.records import Order, Quoted, Terms
from broker.orders.scaling import scale_by_manager
from broker.orders.sizing import sized
from broker.orders.tasks import Env, advance
from capability_registry.abstraction import Disclosure, PlaceDetail
from service_model.flavours import Flavour, Runtime
from service_model.managing import DecisionOutcome, FlavourOffer, FunctionFlavour, ManagerTask, ScaleQuestion, Scaling
from service_model.money import Price
from service_model.outcomes import Reason, ReasonCode, ServiceState
from service_model.spec import ServiceSpec
from tests.support.planning import NOW, chain_spec, entry, offer, point, sap, snapshot, view

SMALL = Flavour(name="small", price=Price(once=Decimal(1)))
LARGE = Flavour(name="large", units=4, runtime=Runtime.VM, price=Price(once=Decimal(5)), max_bandwidth_bps=10**9)
SPEC = chain_spec("y.a", "y.b", ["fw", "fw"], managers=("mine",))
NO_COUNTRIES = Disclosure(place_detail=PlaceDetail.NONE)
CHOSEN = Decision(
    at=NOW,
    manager="mine",
    task=ManagerTask.SCALE,
    number=0,
    outcome=DecisionOutcome.CHOSEN,
    detail="f1: large",
    choice=Scaling(flavours=(FunctionFlavour(function="f1", flavour="large"),)),
)


def announced(*flavours: Flavour, bins: int = 8) -> Snapshot:
    """One supplier, that has both functions at one place."""
    offers = [replace(offer("fw", "Y"), flavours=flavours)] if flavours else []
    ways = [entry("a", "Y", point(1, 10)), entry("b", "Y", point(1, 10)), entry("a", "b", point(1, 10))]
    return snapshot(view("y", [sap("a", "Y"), sap("b", "Y")], ways, offers, bins))


def order(spec: ServiceSpec = SPEC, refuses: bool = False, **more: Any) -> Order:
    terms = Terms(
        margin=Decimal("1.1"),
        managers={"mine": ManagerTerms(document="doc", decides=(ManagerTask.SCALE,), refuses=refuses)},
    )
    made = Order(
        id="o", account="ann", ref="r", version=1, state=ServiceState.RESERVING, created=NOW, updated=NOW, digest="d",
        spec=spec, terms=terms, call_budget=100,
    )  # fmt: skip
    return replace(made, **more)


def run(given: Order, notes: Snapshot, hoped: Snapshot | None = None, words: Lexicon = OUR_NAMES) -> Order:
    """As far as it goes until it is placed."""

    def nothing(*_: object, **__: object) -> Reason:
        raise AssertionError("nothing is allocated here")

    env = Env(
        now=NOW,
        snapshot=notes,
        allocate=nothing,
        identify=nothing,
        lexicon=lambda account, terms: words,
        hoped=None if hoped is None else lambda: hoped,
        hopes=0 if hoped is None else 4,
    )
    tasks = [scale_by_manager, place_by_manager]
    while True:
        pause = advance(given, env, lambda order: tasks if order.state is ServiceState.RESERVING else [])
        if (asks := pause.asks) is None:
            return pause.order
        found = plan(asks.spec, env.over(asks), NOW, asks.avoid, asks.most, why=asks.why)
        env, given = replace(env, planned=(*env.planned, (asks, found))), pause.order


def question(of: Order) -> ScaleQuestion:
    assert of.asked is not None
    assert isinstance(of.asked.question, ScaleQuestion)
    return of.asked.question


def test_it_is_asked_before_anything_is_planned_with_all_that_comes_with_a_size() -> None:
    asked = run(order(), announced(SMALL, LARGE))
    assert asked.plan is None
    assert question(asked).offers[:2] == (
        FlavourOffer(
            function="f0", flavour=replace(SMALL, price=Price(once=Decimal("1.10"))), by_default=True, place="Y",
            supplier="y", country="DE",
        ),
        FlavourOffer(
            function="f0", flavour=replace(LARGE, price=Price(once=Decimal("5.50"))), place="Y", supplier="y",
            country="DE",
        ),
    )  # fmt: skip
    assert [o.function for o in question(asked).offers] == ["f0", "f0", "f1", "f1"]
    assert run(asked, announced(SMALL)) == asked, "the question that was recorded stays"


def test_of_places_that_look_the_same_the_cheapest_of_a_size_is_told() -> None:
    """A word may stand for several places, and how many these are is not told."""
    dear = replace(LARGE, units=9, price=Price(once=Decimal(7)))
    (one,) = announced(SMALL, LARGE).suppliers
    there = replace(offer("fw", "Z"), flavours=(dear, SMALL))
    notes = snapshot(replace(one, note=replace(one.note, functions=(there, *one.note.functions))))
    words = Lexicon({"Y": "p-1", "Z": "p-1"})
    hidden = replace(order(), terms=replace(order().terms, show_segments=False, disclosure=NO_COUNTRIES))
    asked = question(run(hidden, notes, words=words)).offers
    assert [(o.function, o.flavour.name, o.flavour.units, o.place, o.supplier, o.country) for o in asked] == [
        (f, name, units, "p-1", "", "") for f in ("f0", "f1") for name, units in (("large", 4), ("small", 1))
    ]


def test_a_function_is_offered_at_its_own_places_and_by_who_takes_orders() -> None:
    away = replace(SPEC, functions=tuple(replace(f, places=("ELSEWHERE",)) for f in SPEC.functions))
    assert run(order(away), announced(SMALL)).asked is None
    (closed,) = announced(SMALL).suppliers
    assert run(order(), snapshot(replace(closed, usable=False))).asked is None


def test_what_its_spec_names_is_not_asked_about_and_stays() -> None:
    first, second = SPEC.functions
    one = replace(SPEC, functions=(replace(first, flavour="small"), second))
    assert {o.function for o in question(run(order(one), announced(SMALL, LARGE))).offers} == {"f1"}
    both = replace(SPEC, functions=(replace(first, flavour="small"), replace(second, flavour="small")))
    placed = run(order(both), announced(SMALL, LARGE))
    assert placed.asked is None
    assert isinstance(placed.plan, Plan)
    assert sized(order(both, decisions=(CHOSEN,))) == both


def test_a_question_is_of_bounded_length() -> None:
    many = tuple(replace(SMALL, name=f"s{i}") for i in range(MAX_OFFERS))
    assert len(question(run(order(), announced(*many))).offers) == MAX_OFFERS


def test_what_was_quoted_is_not_asked_about() -> None:
    quoted = run(order(replace(SPEC, managers=())), announced(SMALL)).plan
    assert quoted is not None
    was = Quoted(
        id="q", account="ann", digest="d", price=Price(once=Decimal(9)), delay_us=0, until=NOW, plan=quoted,
        cost=quoted.price, parts={},
    )  # fmt: skip
    placed = run(order(quoted=was), announced(SMALL, LARGE))
    assert (placed.asked, placed.plan) == (None, quoted)


def test_what_was_chosen_is_planned_and_nothing_else_is_changed() -> None:
    chosen = run(order(decisions=(CHOSEN,)), announced(SMALL, LARGE))
    default = run(order(replace(SPEC, managers=())), announced(SMALL, LARGE))
    assert chosen.plan is not None
    assert default.plan is not None
    assert chosen.plan.price.once == default.plan.price.once + LARGE.price.once - SMALL.price.once
    assert chosen.spec == SPEC
    assert [f.flavour for f in sized(chosen).functions] == [None, "large"]


def test_what_its_manager_left_to_the_broker_is_as_by_default() -> None:
    for outcome in (DecisionOutcome.DEFAULT, DecisionOutcome.FALLBACK):
        left = order(decisions=(replace(CHOSEN, outcome=outcome, choice=None),))
        placed = run(left, announced(SMALL, LARGE))
        assert placed.plan is not None
        assert (placed.asked, sized(placed)) == (None, SPEC)


def test_what_its_manager_refused_is_refused() -> None:
    no = replace(CHOSEN, outcome=DecisionOutcome.REFUSED, choice=None, detail="too dear")
    refused = run(order(decisions=(no,)), announced(SMALL, LARGE))
    assert refused.state is ServiceState.REFUSED
    assert [(r.code, r.message) for r in refused.reasons] == [
        (ReasonCode.MANAGER_REFUSED, "manager 'mine' (SCALE): too dear")
    ]


def test_a_size_that_nobody_can_deliver_is_overruled_by_the_terms_of_its_manager() -> None:
    tight = announced(SMALL, LARGE, bins=4)  # both small ones, or a large one alone
    overruled = run(order(decisions=(CHOSEN,)), tight)
    assert overruled.plan is not None
    (decision,) = overruled.decisions
    assert (decision.outcome, decision.choice) == (DecisionOutcome.FALLBACK, None)
    assert decision.detail.endswith(": f1: large")
    refused = run(order(decisions=(CHOSEN,), refuses=True), tight)
    assert refused.state is ServiceState.REFUSED
    assert refused.reasons[0].code is ReasonCode.MANAGER_REFUSED
    assert decision.detail in refused.reasons[0].message


def test_where_the_default_cannot_be_had_either_its_owner_hears_why_that_is() -> None:
    refused = run(order(decisions=(CHOSEN,)), announced(SMALL, LARGE, bins=1))
    assert refused.state is ServiceState.REFUSED
    assert [r.code for r in refused.reasons] == [ReasonCode.CAPACITY]


def test_the_default_that_is_announced_goes_before_a_hope_for_the_size_that_was_chosen() -> None:
    placed = run(order(decisions=(CHOSEN,)), announced(SMALL), hoped=announced(SMALL, LARGE))
    assert placed.plan is not None
    assert (placed.hopes, sized(placed)) == (0, SPEC)


def test_what_was_learnt_of_functions_in_that_size_does_not_count_for_the_default() -> None:
    learnt = Avoid(
        functions=frozenset({("y", "f1"), ("z", "f0")}),
        placings=frozenset({("y", "f1", "Y"), ("z", "f0", "Z")}),
        saps=frozenset({("z", "a")}),
        dearer=(
            Dearer(alias="y", function="f1", once=Decimal(1), per_hour=Decimal(0)),
            Dearer(alias="z", function="f0", once=Decimal(1), per_hour=Decimal(0)),
        ),
    )
    placed = run(order(decisions=(CHOSEN,), avoid=learnt, crankbacks=1), announced(SMALL, LARGE))
    assert placed.plan is not None
    assert placed.decisions[0].outcome is DecisionOutcome.FALLBACK
    assert placed.avoid == Avoid(
        functions=frozenset({("z", "f0")}),
        placings=frozenset({("z", "f0", "Z")}),
        saps=frozenset({("z", "a")}),
        dearer=learnt.dearer[1:],
    )
