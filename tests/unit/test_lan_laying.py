"""Which ways of a domain the LANs of a segment take, what they cost, and why there are none."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from itertools import combinations

import pytest

from address_planner.labels import LabelSet
from capability_registry.note import Encapsulation, Place, SapRole
from lower_sp_clients.vim.choosing import Choice, choose
from lower_sp_clients.vim.domain import Domain, Sap, Usage, Way
from lower_sp_clients.vim.placing import Impossible
from service_model.constraints import Countries
from service_model.money import FREE, Price
from service_model.outcomes import ReasonCode
from service_model.spec import End, LinkKind, ServiceFunctionPath, ServiceSpec, VirtualLink

MEGA = 10**6


def way(a: str, b: str, cost: int, **more: object) -> Way:
    figures: dict[str, object] = {"bandwidth_bps": 10 * MEGA, "delay_us": 1} | more
    return Way(id=f"{a}-{b}", a=a, b=b, price=Price(once=Decimal(cost)), **figures)  # type: ignore[arg-type]


def domain(*ways: Way, saps: str = "uvw") -> Domain:
    """SAPs u, v, w and a place P."""
    return Domain(
        name="d", sp_id="sp", places=(Place(id="P", country="NL"), Place(id="Q", country="FR")), hosts={"P": (1,)},
        lan=frozenset(["P"]), ways=ways, functions=(),
        saps=tuple(
            Sap(id=id, role=SapRole.UNI, place="P", encapsulation=Encapsulation.VXLAN, mtu=1500,
                labels=LabelSet(((1, 9),)), bandwidth_bps=10 * MEGA)
            for id in saps
        ),
    )  # fmt: skip


def elan(saps: str, **more: object) -> ServiceSpec:
    """One LAN that joins ends at these SAPs, a letter each."""
    ends = tuple(End(id=f"e{n}", sap=sap) for n, sap in enumerate(saps))
    link = VirtualLink(id="m", kind=LinkKind.LAN, points=tuple(e.id for e in ends))
    return ServiceSpec(name="s", ends=ends, links=(link,), **more)  # type: ignore[arg-type]


def chosen(at: Domain, spec: ServiceSpec, usage: Usage | None = None) -> Choice:
    return choose(at, usage or Usage(), spec, "k")


def refusal(at: Domain, spec: ServiceSpec, usage: Usage | None = None) -> tuple[ReasonCode, str]:
    with pytest.raises(Impossible) as refused:
        chosen(at, spec, usage)
    return refused.value.reasons[0].code, refused.value.reasons[0].subject


STAR = domain(way("u", "P", 2), way("v", "P", 2), way("w", "P", 2), way("u", "v", 3), way("v", "w", 5))


def test_a_lan_takes_the_cheapest_tree_and_pays_each_way_once() -> None:
    three = chosen(STAR, elan("uvw"))
    assert sorted(w.id for w in three.ways) == ["u-P", "v-P", "w-P"]
    assert three.price.once == 6
    assert [w.id for w in chosen(STAR, elan("uv")).ways] == ["u-v"]


def test_two_ends_at_one_sap_have_labels_of_their_own_and_no_way() -> None:
    both = chosen(STAR, elan("uu"))
    assert (both.ways, both.price) == ((), FREE)
    assert len(set(both.addressing.labels.values())) == 2


def test_ways_that_are_full_are_gone_round() -> None:
    assert [w.id for w in chosen(STAR, elan("uv", bandwidth_bps=MEGA), Usage(bandwidth={"u-v": 10 * MEGA})).ways] == [
        "u-P",
        "v-P",
    ]
    full = Usage(bandwidth={"u-v": 10 * MEGA, "u-P": 10 * MEGA})
    assert refusal(STAR, elan("uv", bandwidth_bps=MEGA), full) == (ReasonCode.BANDWIDTH, "m")
    assert chosen(STAR, elan("uv"), full), "nothing is needed of it"


def test_each_lan_of_a_service_needs_its_bandwidth() -> None:
    one = elan("uv", bandwidth_bps=6 * MEGA)
    two = replace(
        one,
        ends=(*one.ends, End(id="x", sap="v"), End(id="y", sap="w")),
        links=(*one.links, VirtualLink(id="n", kind=LinkKind.LAN, points=("x", "y"))),
    )
    assert refusal(STAR, two) == (ReasonCode.BANDWIDTH, "e1"), "v has room for one"
    assert chosen(STAR, replace(two, bandwidth_bps=5 * MEGA)).price.once == 3 + 4


def test_what_a_line_takes_costs_a_lan_beside_it_nothing() -> None:
    ends = tuple(End(id=id, sap=sap) for id, sap in (("a", "u"), ("b", "v"), ("a.m", "u"), ("b.m", "v"), ("noc", "w")))
    line = VirtualLink(id="l", points=("a", "b"))
    spec = ServiceSpec(
        name="s", ends=ends, bandwidth_bps=10 * MEGA,
        links=(line, VirtualLink(id="m", kind=LinkKind.LAN, points=("a.m", "b.m", "noc"))),
        paths=(ServiceFunctionPath(id="p", hops=("a", "b")),),
    )  # fmt: skip
    made = chosen(STAR, spec)
    assert made.price.once == 3 + 4, "the line, and what leads on to w"
    assert [w.id for w in made.ways] == ["u-v"], "of which bandwidth is taken"


def test_what_fails_least_is_taken_where_the_service_must_work() -> None:
    frail = domain(way("u", "v", 1, availability=0.9), way("u", "P", 2), way("v", "P", 2))
    assert [w.id for w in chosen(frail, elan("uv", min_availability=0.9)).ways] == ["u-v"]
    assert len(chosen(frail, elan("uv", min_availability=0.99)).ways) == 2
    only = replace(frail, ways=frail.ways[:1])
    assert refusal(only, elan("uv", min_availability=0.99)) == (ReasonCode.AVAILABILITY, "min_availability")


def test_why_no_way_is_had_is_named() -> None:
    assert refusal(domain(way("u", "P", 1)), elan("uv")) == (ReasonCode.NO_PATH, "m")
    over = domain(way("u", "Q", 1), way("Q", "v", 1))
    assert refusal(over, elan("uv", countries=Countries(denied=("FR",)))) == (ReasonCode.COUNTRY, "countries")
    assert refusal(STAR, elan("uv", isolation=("vrf",))) == (ReasonCode.ISOLATION, "isolation")
    assert refusal(replace(STAR, lan=frozenset()), elan("uv")) == (ReasonCode.LAN_NOT_OFFERED, "m")


def test_a_lan_costs_no_more_than_any_set_of_ways_that_joins_it() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        points = ["u", "v", "w", "P", "Q"]
        ways = [way(a, b, rng.randint(1, 9)) for a, b in combinations(points, 2) if rng.random() < 0.8]
        here, least = domain(*ways), None
        for number in range(len(ways) + 1):
            for some in combinations(ways, number):
                part = {p: p for p in points}
                for w in some:
                    part = {p: part[w.a] if q == part[w.b] else q for p, q in part.items()}
                cost = sum(w.price.once for w in some)
                if len({part[p] for p in "uvw"}) == 1 and (least is None or cost < least):
                    least = cost
        if least is None:
            assert refusal(here, elan("uvw"))[0] is ReasonCode.NO_PATH
        else:
            assert chosen(here, elan("uvw")).price.once == least
