"""What a manager answers is within what was offered, or is one clear decision that names what is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import pytest

from broker.cli.rendering import decisions_table
from broker.orders.decisions import Asked, Decision, ManagerTerms
from broker.orders.judging import MAX_PARAMETERS_BYTES, addressed, configured, failed, judged, placed, scaled
from broker.orders.records import ORDER, Order, Terms
from lower_sp_clients.service_manager import NoDecision
from service_model.flavours import Flavour
from service_model.managing import (
    MAX_DETAIL,
    TASK_OF,
    Addresses,
    AddressQuestion,
    Answer,
    ByDefault,
    Configuration,
    ConfigureQuestion,
    DecisionOutcome,
    FlavourOffer,
    FunctionFlavour,
    FunctionParameters,
    FunctionPlace,
    HealQuestion,
    LinkAddresses,
    ManagerRefusal,
    ManagerTask,
    OpenLink,
    Placement,
    PlacementOffer,
    PlacementOption,
    PlaceQuestion,
    Question,
    Remedy,
    ScaleQuestion,
    Scaling,
)
from service_model.outcomes import ServiceState, ServiceStatus
from tests.support.sites import chain

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = chain("a.uni", "b.uni", "firewall", "meter", managers=("mine",))
ORDER_ = Order(
    id="i",
    account="alice",
    ref="r",
    version=1,
    state=ServiceState.RESERVING,
    created=NOW,
    updated=NOW,
    spec=SPEC,
    terms=Terms(managers={"mine": ManagerTerms(document="doc", decides=tuple(ManagerTask))}),
)
HERE = FunctionPlace(function="f0", place="ATH", supplier="south")
PLACES = PlaceQuestion(
    options=(PlacementOption(id="1", places=(HERE, replace(HERE, function="f1"))),),
    offers=(
        PlacementOffer(function="f0", place="ATH", supplier="south", country="GR"),
        PlacementOffer(function="f0", place="AMS", supplier="north", country="NL"),
        PlacementOffer(function="f1", place="ATH", supplier="south", country="GR"),
    ),
)
ADDRESSES = AddressQuestion(
    links=(
        OpenLink(link="l0", ports=("f0:in",), addresses=2),
        OpenLink(link="l1", ports=("f0:out", "f1:in"), addresses=2),
        OpenLink(link="l2", ports=("f1:out",), addresses=2),
    ),
    allowed=(ip_network("10.64.0.0/24"),),
    excluded=(ip_network("10.64.0.128/26"),),
)
CONFIGURES = ConfigureQuestion(placement=(HERE,))
SIZES = ScaleQuestion(
    offers=(
        FlavourOffer(function="f0", flavour=Flavour(name="small"), by_default=True, place="ATH"),
        FlavourOffer(function="f0", flavour=Flavour(name="large", units=4), place="AMS"),
        FlavourOffer(function="f1", flavour=Flavour(name="small"), by_default=True, place="ATH"),
    )
)
HEALS = HealQuestion(lost=("f0",), reasons=(), since=NOW, offers=PLACES.offers[:2])


def asked(question: Question) -> Asked:
    return Asked(at=NOW, version=1, manager="mine", task=TASK_OF[type(question)], number=0, question=question)


def decided(question: Question, answer: Answer | NoDecision, order: Order = ORDER_) -> Decision:
    return judged(order, asked(question), answer, NOW)


def at(*places: tuple[str, str, str]) -> Placement:
    return Placement(places=tuple(FunctionPlace(function=f, place=p, supplier=s) for f, p, s in places))


def link(id: str, *prefixes: str, **addresses: str) -> LinkAddresses:
    return LinkAddresses(
        link=id,
        prefixes=tuple(map(ip_network, prefixes)),
        addresses={point.replace("_", ":"): ip_address(address) for point, address in addresses.items()},
    )


def sizes(**flavours: str) -> Scaling:
    return Scaling(flavours=tuple(FunctionFlavour(function=f, flavour=name) for f, name in flavours.items()))


def told(function: str, **parameters: object) -> FunctionParameters:
    return FunctionParameters(function=function, parameters=parameters)


GOOD: list[tuple[Question, Answer]] = [
    (PLACES, at(("f0", "AMS", ""))),
    (PLACES, at(("f0", "AMS", "north"), ("f1", "ATH", "south"))),
    (ADDRESSES, Addresses(links=(link("l1", "10.64.0.8/31", f0_out="10.64.0.8", f1_in="10.64.0.9"),))),
    (ADDRESSES, Addresses(links=(link("l0", "10.64.0.0/30"), link("l2", "10.64.0.4/30", f1_out="10.64.0.5")))),
    (SIZES, sizes(f0="large")),
    (SIZES, sizes(f0="small", f1="small")),
    (HEALS, Remedy(wait_s=60)),
    (HEALS, Remedy(avoid=(HERE, FunctionPlace(function="f0", place="AMS")))),
    (CONFIGURES, Configuration(functions=(told("f0", policy="drop"), told("f1")))),
]


@pytest.mark.parametrize(("question", "answer"), GOOD)
def test_what_is_within_the_question_is_chosen_as_it_is(question: Question, answer: Answer) -> None:
    decision = decided(question, answer)
    assert (decision.outcome, decision.choice) == (DecisionOutcome.CHOSEN, answer)


def test_an_option_is_recorded_by_its_places() -> None:
    decision = decided(PLACES, Placement(option="1"))
    assert decision.choice == Placement(places=PLACES.options[0].places)
    assert decision.detail == "f0 at ATH of south, f1 at ATH of south"


ATTACKS: dict[str, tuple[Question, Answer, str]] = {
    "option of nobody": (PLACES, Placement(option="2"), "option '2' was not offered"),
    "place of nobody": (PLACES, at(("f0", "XXX", "")), "function 'f0': 'XXX' was not offered"),
    "place of another function": (PLACES, at(("f1", "AMS", "")), "function 'f1': 'AMS' was not offered"),
    "supplier of another place": (
        PLACES,
        at(("f0", "ATH", "north")),
        "function 'f0': 'ATH' of 'north' was not offered",
    ),
    "function of nobody": (PLACES, at(("f7", "ATH", "")), "there is no function 'f7' to be placed"),
    "function twice": (PLACES, at(("f0", "ATH", ""), ("f0", "AMS", "")), "function 'f0' is placed twice"),
    "outside of the block": (ADDRESSES, Addresses(links=(link("l0", "10.65.0.0/30"),)), "10.65.0.0/30 is outside"),
    "more than the block": (ADDRESSES, Addresses(links=(link("l0", "10.64.0.0/16"),)), "10.64.0.0/16 is outside"),
    "everything": (ADDRESSES, Addresses(links=(link("l0", "0.0.0.0/0"),)), "0.0.0.0/0 is outside"),
    "excluded": (ADDRESSES, Addresses(links=(link("l0", "10.64.0.128/30"),)), "overlaps 10.64.0.128/26"),
    "another link's": (
        ADDRESSES,
        Addresses(links=(link("l0", "10.64.0.0/28"), link("l1", "10.64.0.8/31"))),
        "10.64.0.8/31 overlaps 10.64.0.0/28",
    ),
    "too small": (ADDRESSES, Addresses(links=(link("l1", "10.64.0.0/32"),)), "has less than 2 addresses"),
    "link of nobody": (
        ADDRESSES,
        Addresses(links=(link("mgmt", "10.64.0.0/30"),)),
        "link 'mgmt': it was not asked for",
    ),
    "link twice": (
        ADDRESSES,
        Addresses(links=(link("l0", "10.64.0.0/30"), link("l0", "10.64.0.4/30"))),
        "link 'l0': it was not asked for, or is addressed twice",
    ),
    "two families": (
        ADDRESSES,
        Addresses(links=(link("l0", "10.64.0.0/30", "fd00::/127"),)),
        "link 'l0' needs a prefix of one of either family",
    ),
    "another family": (
        replace(ADDRESSES, links=(replace(ADDRESSES.links[0], versions=(4, 6)),)),
        Addresses(links=(link("l0", "10.64.0.0/30"),)),
        "link 'l0' needs a prefix of IPv4 and IPv6",
    ),
    "port of another link": (
        ADDRESSES,
        Addresses(links=(link("l0", "10.64.0.0/30", f1_out="10.64.0.1"),)),
        "'f1:out' is no function's port on it",
    ),
    "the customer's own end": (
        ADDRESSES,
        Addresses(links=(link("l0", "10.64.0.0/30", a="10.64.0.1"),)),
        "'a' is no function's port on it",
    ),
    "address outside": (
        ADDRESSES,
        Addresses(links=(link("l0", "10.64.0.0/30", f0_in="10.64.0.9"),)),
        "10.64.0.9 is outside the prefix 10.64.0.0/30",
    ),
    "network address": (
        ADDRESSES,
        Addresses(links=(link("l0", "10.64.0.0/30", f0_in="10.64.0.0"),)),
        "10.64.0.0 is the network or broadcast address",
    ),
    "one address for two": (
        ADDRESSES,
        Addresses(links=(link("l1", "10.64.0.0/30", f0_out="10.64.0.1", f1_in="10.64.0.1"),)),
        "10.64.0.1 is already reserved",
    ),
    "parameters of nobody": (CONFIGURES, Configuration(functions=(told("f9"),)), "there is no function 'f9'"),
    "parameters twice": (CONFIGURES, Configuration(functions=(told("f0"), told("f0"))), "configured twice"),
    "a book": (CONFIGURES, Configuration(functions=(told("f0", x="y" * MAX_PARAMETERS_BYTES),)), "parameters of"),
    "a phone book": (
        CONFIGURES,
        Configuration(functions=(told("f0", **{f"k{i}": 1 for i in range(65)}),)),
        "65 parameters of",
    ),
    "avoids a place of nobody": (
        HEALS,
        Remedy(avoid=(FunctionPlace(function="f0", place="XXX"),)),
        "f0 at XXX was not offered",
    ),
    "avoids a place of what is not lost": (
        HEALS,
        Remedy(avoid=(FunctionPlace(function="f1", place="ATH"),)),
        "f1 at ATH was not offered",
    ),
    "flavour of nobody": (SIZES, sizes(f0="huge"), "function 'f0': flavour 'huge' was not offered"),
    "flavour of another function": (SIZES, sizes(f1="large"), "function 'f1': flavour 'large' was not offered"),
    "size of nobody": (SIZES, sizes(f7="small"), "function 'f7': its flavour was not asked for, or is chosen twice"),
    "size twice": (
        SIZES,
        Scaling(flavours=(*sizes(f0="small").flavours, *sizes(f0="large").flavours)),
        "function 'f0': its flavour was not asked for, or is chosen twice",
    ),
    "another answer": (PLACES, GOOD[-1][1], "it answered Configuration, which was not asked"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_manager_widens_nothing(attack: str) -> None:
    question, answer, why = ATTACKS[attack]
    decision = decided(question, answer)
    assert (decision.outcome, decision.choice) == (DecisionOutcome.FALLBACK, None)
    assert why in decision.detail


def test_a_remedy_is_told_in_words() -> None:
    told_as = {
        "now": Remedy(),
        "now, not f0 at ATH of south, f0 at AMS": Remedy(avoid=(HERE, FunctionPlace(function="f0", place="AMS"))),
        "not before 60 s": Remedy(wait_s=60),
    }
    assert {decided(HEALS, answer).detail: answer for answer in told_as.values()} == told_as


def test_a_choice_of_sizes_is_told_in_words() -> None:
    assert decided(SIZES, sizes(f0="large", f1="small")).detail == "f0: large, f1: small"


def test_what_is_not_decided_is_refused_where_the_terms_say_so() -> None:
    strict = {"mine": replace(ORDER_.terms.managers["mine"], refuses=True)}
    order = replace(ORDER_, terms=replace(ORDER_.terms, managers=strict))
    assert decided(PLACES, NoDecision("late"), order).outcome is DecisionOutcome.REFUSED
    assert decided(PLACES, NoDecision("late")).outcome is DecisionOutcome.FALLBACK
    unknown = replace(ORDER_, terms=Terms())
    assert failed(unknown, asked(PLACES), "late", NOW).outcome is DecisionOutcome.REFUSED, "nobody said to go on"


def test_a_manager_may_leave_it_or_refuse() -> None:
    assert decided(PLACES, ByDefault()).outcome is DecisionOutcome.DEFAULT
    refused = decided(PLACES, ManagerRefusal(message="no"))
    assert (refused.outcome, refused.detail) == (DecisionOutcome.REFUSED, "no")
    assert decided(PLACES, ManagerRefusal(message="")).detail == "no reason was given"


def test_what_is_recorded_of_an_answer_is_bounded() -> None:
    assert len(decided(PLACES, NoDecision("x" * 10_000)).detail) == MAX_DETAIL


@pytest.mark.parametrize(("question", "answer"), GOOD)
def test_a_question_and_a_decision_come_back_from_the_record_as_they_were(question: Question, answer: Answer) -> None:
    order = replace(ORDER_, asked=asked(question), decisions=(decided(question, answer),))
    assert ORDER.validate_json(ORDER.dump_json(order)) == order


def test_a_choice_narrows_the_spec_in_what_it_names_and_leaves_the_rest() -> None:
    narrow = placed(SPEC, at(("f1", "ATH", "")))
    assert [f.places for f in narrow.functions] == [(), ("ATH",)]
    narrow = addressed(SPEC, Addresses(links=(link("l1", "10.64.0.8/31", f1_in="10.64.0.9"),)))
    assert [x.addressing.prefix for x in narrow.links] == [None, ip_network("10.64.0.8/31"), None]
    assert [(r.point, r.address) for r in narrow.links[1].addressing.reserved] == [("f1:in", ip_address("10.64.0.9"))]
    narrow = scaled(SPEC, sizes(f1="large"))
    assert [f.flavour for f in narrow.functions] == [None, "large"]
    named = replace(SPEC, functions=(SPEC.functions[0], replace(SPEC.functions[1], flavour="small")))
    assert scaled(named, sizes(f1="large")) == named, "its customer's"
    had = replace(SPEC, functions=(replace(SPEC.functions[0], parameters={"a": 1, "b": 2}), SPEC.functions[1]))
    narrow = configured(had, Configuration(functions=(told("f0", b=3, c=4),)))
    assert [f.parameters for f in narrow.functions] == [{"a": 1, "b": 3, "c": 4}, {}]


def test_a_customer_reads_who_decided_what() -> None:
    status = ServiceStatus(
        ref="r", version=1, state=ServiceState.RESERVED, decisions=(decided(PLACES, Placement(option="1")).told(),)
    )
    (row,) = zip(*(list(column.cells) for column in decisions_table(status).columns), strict=True)
    assert [str(cell) for cell in row][:4] == ["mine", "PLACE", "CHOSEN", "f0 at ATH of south, f1 at ATH of south"]
