"""What a domain chooses for a segment within its constraint, and what it says when it cannot."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_network
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from address_planner.labels import LabelSet
from capability_registry.note import Encapsulation, FunctionPort
from lower_sp_clients.vim.announcing import note
from lower_sp_clients.vim.choosing import Choice, choose
from lower_sp_clients.vim.domain import Domain, Usage
from lower_sp_clients.vim.placing import Impossible
from service_model.constraints import PLACEMENT, Countries, Distance, Group, GroupKind, GroupScope
from service_model.families import DUAL_STACK, FIXED_PORTS
from service_model.flows import PATHS
from service_model.money import FREE
from service_model.outcomes import ReasonCode
from service_model.qos import QOS
from service_model.spec import LAN_SITES, MACS, Blocks, FunctionRequest, ServiceSpec
from tests.support.sites import Site, Sp, chain, function_type
from tests.support.stack import Stack

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


def test_a_flavour_that_forwards_less_than_is_asked_for_is_refused_by_its_function(domain: Domain) -> None:
    (function,) = domain.functions
    slow = replace(function.flavours[0], max_bandwidth_bps=10**6)
    domain = replace(
        domain, functions=(replace(function, flavours=(slow, replace(slow, name="any", max_bandwidth_bps=0))),)
    )
    assert SPEC.bandwidth_bps == 10**6
    assert chosen(domain, SPEC)
    faster = replace(SPEC, bandwidth_bps=10**6 + 1)
    with pytest.raises(Impossible) as refused:
        chosen(domain, faster)
    (reason,) = refused.value.reasons
    assert (reason.code, reason.subject) == (ReasonCode.BANDWIDTH, "f0")
    assert reason.message.endswith("of flavour 's' forwards 1000000 bit/s")
    assert chosen(domain, replace(faster, functions=(replace(SPEC.functions[0], flavour="any"),)))


def test_the_suggested_label_is_taken_if_it_is_free_and_else_another_of_the_set(domain: Domain) -> None:
    spec = ends(SPEC, labels=LabelSet.of([12, 13]), suggested_label=13)
    assert chosen(domain, spec).addressing.labels["a"] == 13
    assert chosen(domain, spec, Usage(labels={"uni": {13: "other"}})).addressing.labels["a"] == 12


def test_ends_at_one_sap_choose_so_that_all_have_a_label(domain: Domain) -> None:
    sets = [LabelSet.of([12, 13, 14]), LabelSet.of([12, 13]), LabelSet.of([12])]
    base = chain("uni", "uni", "firewall")
    for first, last in permutations(sets, 2):
        a, b = (
            replace(e, labels=labels, suggested_label=12) for e, labels in zip(base.ends, (first, last), strict=True)
        )
        labels = chosen(domain, replace(base, ends=(a, b), blocks=SPEC.blocks)).addressing.labels
        assert labels["a"] != labels["b"]
        assert labels["a"] in first
        assert labels["b"] in last
    one = replace(base, ends=tuple(replace(e, labels=sets[2]) for e in base.ends), blocks=SPEC.blocks)
    assert refusal(domain, one) is ReasonCode.LABEL_TAKEN


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


NNIS = LabelSet(((1000, 1999),))
THROUGH = replace(chain("to-s1", "to-s3"), blocks=Blocks())


def middle(tmp_path: Path, **more: Any) -> Domain:
    """A domain between two interconnects."""
    line = (Site("s1"), Site("s2", **more), Site("s3"))
    return Stack(Sp("a", line), tmp_path).nodes["a"].domains["s2"]


def through(*asked: tuple[str, int | None]) -> ServiceSpec:
    """Its ends with these label sets and suggestions."""
    ends = (
        replace(end, labels=LabelSet.parse(labels), suggested_label=suggested)
        for end, (labels, suggested) in zip(THROUGH.ends, asked, strict=True)
    )
    return replace(THROUGH, ends=tuple(ends))


def test_what_goes_straight_through_a_domain_that_does_not_swap_has_one_label(tmp_path: Path) -> None:
    domain = middle(tmp_path, swaps=False)
    any_ = through(("1000-1999", None), ("1000-1999", None))
    first = chosen(domain, any_).addressing.labels
    assert first["a"] == first["b"]
    suggested = through(("1000-1999", None), ("1000-1999", 1234))
    assert chosen(domain, suggested).addressing.labels == {"a": 1234, "b": 1234}
    taken = Usage(labels={"to-s1": {1234: "other"}})
    other = chosen(domain, suggested, taken).addressing.labels
    assert other["a"] == other["b"] != 1234
    narrow = through(("1000-1004", 1001), ("1003-1009", 1009))
    apart = Usage(labels={"to-s1": {1003: "other"}})
    assert chosen(domain, narrow, apart).addressing.labels == {"a": 1004, "b": 1004}


def test_where_no_label_is_free_at_both_sides_that_is_told_with_what_would_do(tmp_path: Path) -> None:
    domain, narrow = middle(tmp_path, swaps=False), through(("1000-1001", None), ("1000-1001", None))
    with pytest.raises(Impossible) as refused:
        chosen(domain, narrow, Usage(labels={"to-s1": {1000: "x"}, "to-s3": {1001: "y"}}))
    [reason] = refused.value.reasons
    assert reason.code is ReasonCode.LABEL_TAKEN
    assert reason.nogood is not None
    assert reason.nogood.acceptable_labels == NNIS - LabelSet.of([1000, 1001])
    assert refusal(domain, through(("1000-1001", None), ("1002-1003", None))) is ReasonCode.LABEL_TAKEN
    one_sap = replace(THROUGH, ends=tuple(replace(e, sap="to-s1") for e in THROUGH.ends))
    assert refusal(domain, one_sap) is ReasonCode.LABELS_EXHAUSTED


def test_a_domain_that_swaps_or_converts_has_a_label_at_each_side_by_itself(tmp_path: Path) -> None:
    apart = through(("1000-1000", None), ("1001-1001", None))
    assert chosen(middle(tmp_path), apart).addressing.labels == {"a": 1000, "b": 1001}
    unlike = middle(tmp_path, swaps=False, left=Encapsulation.VLAN)
    assert chosen(unlike, apart).addressing.labels == {"a": 1000, "b": 1001}


def test_a_way_that_is_passed_twice_must_have_room_for_both(domain: Domain) -> None:
    whole = 10**9
    assert chosen(domain, replace(SPEC, bandwidth_bps=whole // 2)).hosts == {"f0": ("S1", 0)}
    assert refusal(domain, replace(SPEC, bandwidth_bps=whole // 2 + 1)) is ReasonCode.BANDWIDTH


def test_functions_that_the_note_says_fit_are_packed_as_it_says(domain: Domain) -> None:
    from_note = replace(domain, hosts={"S1": (4, 2)}, functions=tuple(
        replace(f, flavours=(replace(f.flavours[0], units=2),)) for f in domain.functions
    ))  # fmt: skip
    three = replace(chain("uni", "uni", "firewall", "firewall", "firewall"), blocks=SPEC.blocks)
    assert sorted(chosen(from_note, three).hosts.values()) == [("S1", 0), ("S1", 0), ("S1", 1)]


def test_a_way_between_the_cheapest_and_the_fastest_is_taken_where_it_keeps_the_delay(domain: Domain) -> None:
    slow = next(w for w in domain.ways if w.delay_us == max(w.delay_us for w in domain.ways))
    middle = replace(slow, id=f"{slow.id}m", delay_us=slow.delay_us - 300, price=slow.price.scaled(Decimal("1.01")))
    more = replace(domain, ways=(*domain.ways, middle))
    assert chosen(more, replace(SPEC, max_delay_us=2 * slow.delay_us - 300)).delay_us == 2 * slow.delay_us - 300


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


# --- where functions may be ------------------------------------------------------------------------------------------

TOGETHER, APART = GroupKind.AFFINITY, GroupKind.ANTI_AFFINITY
PAIR = replace(chain("uni", "uni", "firewall", "firewall"), blocks=SPEC.blocks)


def reason(domain: Domain, spec: ServiceSpec) -> tuple[ReasonCode, str]:
    with pytest.raises(Impossible) as refused:
        chosen(domain, spec)
    return refused.value.reasons[0].code, refused.value.reasons[0].subject


def with_hosts(domain: Domain, *sizes: int) -> Domain:
    return replace(domain, hosts={"S1": sizes})


def grouped(kind: GroupKind, scope: GroupScope = GroupScope.HOST) -> ServiceSpec:
    return replace(PAIR, groups=(Group(id="g", kind=kind, scope=scope, functions=("f0", "f1")),))


def test_a_domain_in_another_country_is_refused_and_the_culprit_named(domain: Domain) -> None:
    assert chosen(domain, replace(SPEC, countries=Countries(allowed=("NL",))))
    assert reason(domain, replace(SPEC, countries=Countries(denied=("NL",)))) == (ReasonCode.COUNTRY, "countries")
    (function,) = SPEC.functions
    elsewhere = replace(SPEC, functions=(replace(function, countries=Countries(allowed=("DE",))),))
    assert reason(domain, elsewhere) == (ReasonCode.COUNTRY, "f0")


def test_no_way_leads_through_a_country_that_is_denied(domain: Domain) -> None:
    (there,) = domain.places
    over = replace(there, id="OVER", country="DE")
    uni = [way for way in domain.ways if way.a == "uni"]
    short = [replace(way, id=f"{way.id}1", b="OVER", price=FREE, delay_us=1) for way in uni]
    short += [replace(way, id=f"{way.id}2", a="OVER", price=FREE, delay_us=1) for way in uni]
    both = replace(domain, places=(there, over), ways=(*domain.ways, *short))
    assert chosen(both, SPEC).delay_us == 4
    assert chosen(both, replace(SPEC, countries=Countries(denied=("DE",)))).delay_us == 4000
    only = replace(both, ways=tuple(short))
    assert reason(only, replace(SPEC, countries=Countries(denied=("DE",)))) == (ReasonCode.COUNTRY, "countries")


def test_every_way_is_isolated_as_asked(domain: Domain) -> None:
    asked = replace(SPEC, isolation=("macsec",))
    assert reason(domain, asked) == (ReasonCode.ISOLATION, "isolation")
    dearer = tuple(replace(w, isolation=("macsec", "vlan")) if w.id.endswith("-f") else w for w in domain.ways)
    assert {way.id for way in chosen(replace(domain, ways=dearer), asked).ways} == {"uni-f"}


def test_what_is_isolated_is_announced_though_another_way_is_cheaper_and_faster(domain: Domain) -> None:
    slow = tuple(replace(w, id=f"{w.id}-i", isolation=("macsec",), delay_us=9000, price=w.price.scaled(Decimal(5)))
                 for w in domain.ways)  # fmt: skip
    told = note(
        replace(domain, ways=domain.ways + slow), Usage(), 1, datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1)
    )
    assert all([p.isolation for p in e.points] == [(), (), ("macsec",)] for e in told.matrix)
    assert told.api_features == (DUAL_STACK, FIXED_PORTS, LAN_SITES, MACS, PATHS, PLACEMENT, QOS)


def test_functions_are_kept_on_one_host_or_apart(domain: Domain) -> None:
    assert len(set(chosen(with_hosts(domain, 8, 8), grouped(APART)).hosts.values())) == 2
    assert len(set(chosen(with_hosts(domain, 1, 2), grouped(TOGETHER)).hosts.values())) == 1
    assert reason(with_hosts(domain, 8), grouped(APART)) == (ReasonCode.AFFINITY, "g")
    assert reason(with_hosts(domain, 1, 1), grouped(TOGETHER)) == (ReasonCode.AFFINITY, "g")
    assert reason(with_hosts(domain, 1), grouped(APART)) == (ReasonCode.CAPACITY, "f0")


def test_a_domain_is_one_supplier_and_a_function_is_at_one_place(domain: Domain) -> None:
    for scope in (GroupScope.PLACE, GroupScope.SUPPLIER):
        assert chosen(with_hosts(domain, 8), grouped(TOGETHER, scope))
        assert reason(with_hosts(domain, 8), grouped(APART, scope)) == (ReasonCode.AFFINITY, "g")


def test_ways_that_work_as_much_as_asked_are_taken_and_a_class_is_not_known_here(domain: Domain) -> None:
    ways = tuple(replace(w, availability=0.99 if w.id.endswith("-f") else 0.9) for w in domain.ways)
    failing = replace(domain, ways=ways)
    taken = {
        least: [w.id[-1] for w in chosen(failing, replace(SPEC, min_availability=least)).ways] for least in (0.8, 0.95)
    }
    assert set(taken[0.8]) == {"c"}
    assert set(taken[0.95]) == {"f"}
    assert reason(failing, replace(SPEC, min_availability=0.999)) == (ReasonCode.AVAILABILITY, "min_availability")
    assert reason(domain, replace(SPEC, qos="gold")) == (ReasonCode.QOS, "qos")


def test_distances_are_kept_in_kilometres_and_in_delay(domain: Domain) -> None:
    def within(**bound: int) -> ServiceSpec:
        return replace(SPEC, distances=(Distance(id="d", function="f0", to="a", **bound),))

    there = replace(domain.places[0], longitude=10)
    (uni,) = domain.saps
    away = replace(domain, places=(there, replace(there, id="AWAY", latitude=1)), saps=(replace(uni, place="AWAY"),))
    assert chosen(away, within(max_km=112))
    assert reason(away, within(max_km=111)) == (ReasonCode.DISTANCE, "d")
    untold = replace(away, places=(replace(there, longitude=0), away.places[1]))
    assert reason(untold, within(max_km=20_000)) == (ReasonCode.DISTANCE, "d")
    assert chosen(domain, within(max_km=0)), "at the place itself, wherever that is"
    assert chosen(domain, within(max_delay_us=2000)).delay_us == 4000
    assert "uni-f" in [way.id for way in chosen(domain, within(max_delay_us=1000)).ways[:1]]
    assert reason(domain, within(max_delay_us=999)) == (ReasonCode.DISTANCE, "d")


def mesh(most: int | None = None, **more: object) -> ServiceSpec:
    """A tree over one LINE to a firewall, and from there to two sinks at the same SAP."""
    spec = replace(SPEC, ends=(*SPEC.ends, replace(SPEC.ends[1], id="c")))
    first, last = spec.links
    links = (first, last, replace(last, id="l2", points=("f0:else", "c")))
    one = spec.paths[0]
    other = replace(one, id="q", hops=(*one.hops[:2], "f0:else", "c"), max_delay_us=most)
    return replace(spec, links=links, paths=(one, other), **more)  # type: ignore[arg-type]


def with_port(domain: Domain) -> Domain:
    (firewall,) = domain.functions
    return replace(domain, functions=(replace(firewall, ports=(*firewall.ports, FunctionPort(name="else"))),))


def test_a_line_that_two_paths_share_is_laid_and_paid_once(domain: Domain) -> None:
    domain = with_port(domain)
    chain_, tree = chosen(domain, SPEC), chosen(domain, mesh())
    assert len(tree.ways) == 3
    assert tree.price.per_hour == chain_.price.per_hour + Decimal("0.01")
    assert tree.delay_us == chain_.delay_us, "that of the slowest path, not their sum"
    third = 10**9 // 3
    assert chosen(domain, mesh(bandwidth_bps=third))
    assert refusal(domain, mesh(bandwidth_bps=third + 1)) is ReasonCode.BANDWIDTH


def test_each_path_keeps_the_bound_of_its_own_and_is_named_where_it_cannot(domain: Domain) -> None:
    domain = with_port(domain)
    assert [w.id for w in chosen(domain, mesh(4000)).ways] == ["uni-c"] * 3
    assert sorted(w.id for w in chosen(domain, mesh(3000)).ways) == ["uni-c", "uni-c", "uni-f"]
    with pytest.raises(Impossible) as refused:
        chosen(domain, mesh(1999))
    (reason,) = refused.value.reasons
    assert (reason.code, reason.subject) == (ReasonCode.DELAY, "q")
    assert reason.message == "delay of path 'q': best 2 ms > 1.999 ms"
