"""What a domain chooses for a segment within its constraint, and what it says when it cannot."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from lower_sp_clients.vim.choosing import Choice, Impossible, choose
from lower_sp_clients.vim.domain import Domain, Usage
from service_model.constraints import Countries, Distance
from service_model.outcomes import ReasonCode
from service_model.spec import Blocks, FunctionRequest, ServiceSpec
from tests.support.stack import Site, Sp, Stack, chain, function_type

SITE = Site("s1", ("firewall",), uni=LabelSet(((10, 19),)), hosts=(2,))
SPEC = replace(chain("uni", "uni", "firewall"), blocks=Blocks(allowed=(ip_network("10.0.0.0/24"),)))


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return Stack(Sp("a", (SITE,)), tmp_path).nodes["a"].domains["s1"]


def ends(spec: ServiceSpec, **more: object) -> ServiceSpec:
    return replace(spec, ends=tuple(replace(e, **more) for e in spec.ends[:1]) + spec.ends[1:])  # type: ignore[arg-type]


def chosen(domain: Domain, spec: ServiceSpec, usage: Usage | None = None) -> Choice:
    return choose(domain, usage or Usage(), spec, "k")


def refusal(domain: Domain, spec: ServiceSpec, usage: Usage | None = None) -> ReasonCode:
    with pytest.raises(Impossible) as refused:
        chosen(domain, spec, usage)
    return refused.value.reasons[0].code


def test_the_suggested_label_is_taken_if_it_is_free_and_else_another_of_the_set(domain: Domain) -> None:
    spec = ends(SPEC, labels=LabelSet.of([12, 13]), suggested_label=13)
    assert chosen(domain, spec).addressing.labels["a"] == 13
    assert chosen(domain, spec, Usage(labels={"uni": {13: "other"}})).addressing.labels["a"] == 12


def test_a_label_set_without_a_free_one_is_refused_with_what_would_do(domain: Domain) -> None:
    spec = ends(SPEC, labels=LabelSet.of([12]))
    with pytest.raises(Impossible) as refused:
        chosen(domain, spec, Usage(labels={"uni": {12: "other"}}))
    reason = refused.value.reasons[0]
    assert (reason.code, reason.subject) == (ReasonCode.LABEL_TAKEN, "a")
    assert reason.nogood is not None
    assert reason.nogood.acceptable_labels == LabelSet.parse("10-11,13-19")
    taken = Usage(labels={"uni": dict.fromkeys(range(10, 20), "other")})
    assert refusal(domain, spec, taken) is ReasonCode.LABELS_EXHAUSTED


def test_a_way_that_is_passed_twice_must_have_room_for_both(domain: Domain) -> None:
    whole = 10**9
    assert chosen(domain, replace(SPEC, bandwidth_bps=whole // 2)).hosts == {"f0": ("S1", 0)}
    assert refusal(domain, replace(SPEC, bandwidth_bps=whole // 2 + 1)) is ReasonCode.BANDWIDTH


def test_the_cheapest_ways_that_keep_the_delay_are_taken(domain: Domain) -> None:
    assert chosen(domain, SPEC).delay_us == 4000
    assert chosen(domain, replace(SPEC, max_delay_us=3000)).delay_us == 3000
    assert refusal(domain, replace(SPEC, max_delay_us=1999)) is ReasonCode.DELAY


def test_what_is_wrong_is_named_in_the_specs_own_words(domain: Domain) -> None:
    assert refusal(domain, ends(SPEC, sap="nowhere")) is ReasonCode.UNKNOWN_SAP
    other = (FunctionRequest(id="f0", type=function_type("oven")),)
    assert refusal(domain, replace(SPEC, functions=other)) is ReasonCode.UNKNOWN_FUNCTION_TYPE
    assert refusal(domain, SPEC, Usage(units={("S1", 0): 2})) is ReasonCode.CAPACITY
    assert refusal(domain, replace(SPEC, min_mtu=9000)) is ReasonCode.MTU
    assert refusal(domain, replace(SPEC, blocks=Blocks())) is ReasonCode.NOT_ADDRESSABLE
    small = Blocks(allowed=(ip_network("10.0.0.0/31"),))
    assert refusal(domain, replace(SPEC, blocks=small)) is ReasonCode.PREFIX_TOO_SMALL


def test_prefixes_lie_within_what_is_allowed_and_outside_what_is_excluded(domain: Domain) -> None:
    blocks = Blocks(allowed=(ip_network("10.0.0.0/29"),), excluded=(ip_network("10.0.0.0/30"),))
    links = chosen(domain, replace(SPEC, blocks=blocks)).addressing.links
    assert {str(link.prefix) for link in links} == {"10.0.0.4/31", "10.0.0.6/31"}


@pytest.mark.parametrize(
    "asked",
    [
        {"countries": Countries(allowed=("DE",))},
        {"isolation": ("macsec",)},
        {"distances": (Distance(id="d", function="firewall", to="a", max_km=1),)},
    ],
)
def test_a_domain_refuses_what_it_does_not_judge(domain: Domain, asked: dict[str, object]) -> None:
    assert chosen(domain, SPEC)
    assert refusal(domain, replace(SPEC, **asked)) is ReasonCode.FEATURE_NOT_OFFERED  # type: ignore[arg-type]
