"""Where functions may be: the planner beside the plain enumerator, what is refused, and what is wrong in itself."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.decompose.plan import Infeasible, Plan, Snapshot, SupplierView
from broker.decompose.search import plan, rejected
from broker.orders.offers import FEATURES
from capability_registry.hosting import fits
from capability_registry.note import Bin, PlaceCapacity
from service_model.check import check
from service_model.constraints import PLACEMENT, Countries, Distance, Group, GroupKind, GroupScope
from service_model.flows import PATHS
from service_model.outcomes import ReasonCode
from service_model.spec import End, ServiceSpec
from service_model.spec_yaml import dump_spec, load_spec
from tests.support.enumerator import cost, key, walks
from tests.support.planning import NOW, chain_spec, entry, lan, offer, point, random_snapshot, sap, snapshot, view

TOGETHER, APART = GroupKind.AFFINITY, GroupKind.ANTI_AFFINITY


def scattered(seed: int) -> Snapshot:
    """A random federation whose places are in several countries, some kilometres apart, and whose ways are isolated."""
    rng = random.Random(f"where/{seed}")
    views = []
    for v in random_snapshot(seed, 3, joints=1).suppliers:
        places = tuple(
            replace(p, country=rng.choice(("DE", "NL")), latitude=rng.uniform(45, 55), longitude=rng.uniform(0, 15))
            for p in v.note.places
        )
        matrix = tuple(
            replace(
                e, points=tuple(replace(p, isolation=rng.choice(((), ("vlan",), ("vlan", "macsec")))) for p in e.points)
            )
            for e in v.note.matrix
        )
        views.append(replace(v, note=replace(v.note, places=places, matrix=matrix)))
    return snapshot(*views)


def random_order(seed: int) -> ServiceSpec:
    rng = random.Random(f"order/{seed}")
    types = [rng.choice("xy") for _ in range(2)]
    names = [f"f{i}" for i in range(len(types))]
    more: dict[str, Any] = {}
    chosen = rng.choice(("group", "group", "countries", "country", "isolation", "km", "km to an end", "delay"))
    pair = tuple(rng.sample(names, 2))
    if chosen == "group":
        scope = rng.choice((GroupScope.PLACE, GroupScope.SUPPLIER))
        more["groups"] = (Group(id="g", kind=rng.choice((TOGETHER, APART)), scope=scope, functions=pair),)
    elif chosen == "countries":
        more["countries"] = rng.choice((Countries(allowed=("DE",)), Countries(denied=("NL",))))
    elif chosen == "isolation":
        more["isolation"] = ("vlan",)
    elif chosen == "km":
        more["distances"] = (Distance(id="d", function=pair[0], to=pair[1], max_km=rng.choice((0, 300, 700))),)
    elif chosen == "km to an end":
        more["distances"] = (Distance(id="d", function=pair[0], to=rng.choice("ab"), max_km=rng.choice((0, 300, 700))),)
    elif chosen == "delay":
        to = rng.choice(("a", "b", pair[1]))
        more["distances"] = (Distance(id="d", function=pair[0], to=to, max_delay_us=rng.randint(2, 20)),)
    spec = chain_spec("s0.uni", rng.choice(["s1.uni", "s2.uni"]), types, term_hours=1, bandwidth_bps=1, **more)
    if chosen == "country":
        first = replace(spec.functions[0], countries=Countries(allowed=("NL",)))
        spec = replace(spec, functions=(first, *spec.functions[1:]))
    return spec


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 100_000))
def test_the_best_plan_keeps_what_is_asked_and_none_better_does(seed: int) -> None:
    spec, snap = random_order(seed), scattered(seed)
    best: dict[tuple[object, ...], tuple[Decimal, int]] = {}
    for walk in walks(spec, snap):
        best[key(walk)] = min(cost(walk, spec), best.get(key(walk), cost(walk, spec)))
    answer = plan(spec, snap, NOW)
    if isinstance(answer, Infeasible):
        assert not best, answer
    else:
        assert [(p.cost, p.delay_us) for p in answer] == sorted(best.values())[:3]


def test_the_random_orders_meet_every_kind_of_answer() -> None:
    answers = [plan(random_order(seed), scattered(seed), NOW) for seed in range(150)]
    codes = {r.code for a in answers if isinstance(a, Infeasible) for r in a.reasons}
    assert {ReasonCode.AFFINITY, ReasonCode.COUNTRY, ReasonCode.ISOLATION, ReasonCode.DISTANCE} <= codes
    assert sum(not isinstance(a, Infeasible) for a in answers) > 30


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.sampled_from((TOGETHER, APART)),
    st.data(),
)
def test_what_is_hosted_can_be_hosted(sizes: list[int], units: list[int], kind: GroupKind, data: st.DataObject) -> None:
    needs = {f"f{i}": u for i, u in enumerate(units)}
    members = tuple(data.draw(st.permutations(sorted(needs)))[:2])
    group = Group(id="g", kind=kind, scope=GroupScope.HOST, functions=members)
    accepted = fits([Bin(size=s, count=1) for s in sizes], needs, (group,))

    def holds(hosts: tuple[int, ...]) -> bool:
        at = dict(zip(sorted(needs), hosts, strict=True))
        if (at[members[0]] == at[members[1]]) is not (kind is TOGETHER):
            return False
        return all(sum(needs[f] for f, h in at.items() if h == i) <= size for i, size in enumerate(sizes))

    possible = any(holds(hosts) for hosts in product(range(len(sizes)), repeat=len(needs)))
    assert possible or not accepted
    if len(needs) == 2:
        assert accepted == possible


# --- by hand: two suppliers, each with both functions, the right one dearer ------------------------------------------


def two(**right: object) -> Snapshot:
    def one(name: str, place: str, price: int, decides: bool) -> tuple[object, ...]:
        other = "right" if name == "left" else "left"
        saps = [sap("uni", place), sap("n", place, to="ix", peer=f"sp-{other}", decides_labels=decides)]
        ways = [entry(x, y, point(1, 10)) for x, y in combinations(("uni", "n", place), 2)]
        return name, saps, ways, [offer("x", place, cost=price), offer("y", place, cost=price)]

    return snapshot(view(*one("left", "BER", 1, True)), view(*one("right", "MUC", 5, False), **right))  # type: ignore[arg-type]


def places(answer: tuple[Plan, ...] | Infeasible) -> dict[str, str]:
    assert not isinstance(answer, Infeasible), answer
    return {f: p for segment in answer[0].segments for f, p in segment.places.items()}


def grouped(kind: GroupKind, scope: GroupScope) -> ServiceSpec:
    group = Group(id="g", kind=kind, scope=scope, functions=("f0", "f1"))
    return chain_spec("left.uni", "right.uni", ["x", "y"], term_hours=1, groups=(group,))


def test_functions_apart_are_planned_at_two_suppliers_though_one_is_cheaper() -> None:
    assert places(plan(grouped(TOGETHER, GroupScope.SUPPLIER), two(), NOW)) == {"f0": "BER", "f1": "BER"}
    assert places(plan(grouped(APART, GroupScope.SUPPLIER), two(), NOW)) == {"f0": "BER", "f1": "MUC"}
    assert places(plan(grouped(APART, GroupScope.PLACE), two(), NOW)) == {"f0": "BER", "f1": "MUC"}


def test_what_lost_is_told_with_the_constraint_that_it_breaks() -> None:
    (lost,) = rejected(grouped(APART, GroupScope.PLACE), two(), NOW)
    assert lost.code is ReasonCode.AFFINITY
    assert lost.plan.segments[0].places == {"f0": "BER", "f1": "BER"}


def test_a_group_that_cannot_be_kept_is_named_with_the_nearest_plan() -> None:
    spec = grouped(APART, GroupScope.PLACE)
    spec = replace(spec, functions=tuple(replace(f, places=("BER",)) for f in spec.functions))
    answer = plan(spec, two(), NOW)
    assert isinstance(answer, Infeasible)
    assert (answer.reasons[0].code, answer.reasons[0].subject) == (ReasonCode.AFFINITY, "g")
    assert answer.reasons[0].message == "group 'g': f0, f1 cannot be apart by PLACE"
    assert [n.code for n in answer.nearest] == [ReasonCode.AFFINITY]


def test_a_country_that_nobody_offers_is_named() -> None:
    spec = chain_spec("left.uni", "right.uni", ["x"])
    spec = replace(spec, functions=(replace(spec.functions[0], countries=Countries(denied=("DE",))),))
    answer = plan(spec, two(), NOW)
    assert isinstance(answer, Infeasible)
    assert (answer.reasons[0].code, answer.reasons[0].subject) == (ReasonCode.COUNTRY, "f0")
    assert answer.reasons[0].message == "countries (not DE): function 'f0' could be at 'BER' in DE"


ASKED: list[dict[str, object]] = [
    {"groups": (Group(id="g", kind=APART, scope=GroupScope.HOST, functions=("f0", "f1")),)},
    {"countries": Countries(allowed=("DE",))},
    {"isolation": ("vlan",)},
    {"distances": (Distance(id="d", function="f0", to="a", max_delay_us=99),)},
]


@pytest.mark.parametrize("asked", ASKED)
def test_who_would_not_see_a_constraint_is_not_planned_with(asked: dict[str, object]) -> None:
    spec = replace(chain_spec("left.uni", "right.uni", ["x", "y"]), **asked)  # type: ignore[arg-type]
    isolated = snapshot(*(_isolated(v) for v in two().suppliers))
    former = snapshot(*(_isolated(v) for v in two(api_features=("chains",)).suppliers))
    assert not isinstance(plan(spec, isolated, NOW), Infeasible)
    refused = plan(spec, former, NOW)
    assert isinstance(refused, Infeasible)
    assert [(r.code, r.subject) for r in refused.reasons] == [(ReasonCode.FEATURE_NOT_OFFERED, PLACEMENT)]
    assert "right" in refused.reasons[0].message
    plain = chain_spec("left.uni", "right.uni", ["x", "y"])
    assert not isinstance(plan(plain, former, NOW), Infeasible), "who keeps no constraint keeps what has none"


def _isolated(v: SupplierView) -> SupplierView:
    matrix = tuple(replace(e, points=tuple(replace(p, isolation=("vlan",)) for p in e.points)) for e in v.note.matrix)
    return replace(v, note=replace(v.note, matrix=matrix))


def by_host(
    kind: GroupKind,
    first: str,
    last: str,
    hosts: int = 1,
    features: tuple[str, ...] = tuple(sorted(FEATURES)),
    managed: bool = False,
) -> tuple[Plan, ...] | Infeasible:
    """An x and a y of one group at two places, with a z between them that only `right` has; beside a LAN where `managed`."""
    group = Group(id="g", kind=kind, scope=GroupScope.HOST, functions=("f0", "f2"))
    lans = [lan("m", "f0:mgmt", "f2:mgmt")] if managed else []
    spec = chain_spec("left.uni", "left.out", ["x", "z", "y"], lans, groups=(group,))
    at = ((first,), (), (last,))
    functions = tuple(replace(f, places=places) for f, places in zip(spec.functions, at, strict=True))
    snap = there_and_back(hosts)
    views = (replace(v, note=replace(v.note, api_features=features)) for v in snap.suppliers)
    return plan(replace(spec, functions=functions), replace(snap, suppliers=tuple(views)), NOW)


def there_and_back(hosts: int = 1) -> Snapshot:
    """`left` has x and y, at BER and HAM with so many hosts each; the z between them is at `right`, so that the path visits
    `left` twice."""
    saps = [sap("uni", "BER"), sap("out", "HAM"), sap("n", "BER", to="ix", peer="sp-right", decides_labels=True)]
    ways = [entry(x, y, point(1, 10)) for x, y in combinations(("uni", "out", "n", "BER", "HAM"), 2)]
    rooms = tuple(PlaceCapacity(place=p, bins=(Bin(size=8, count=hosts),), lan=True) for p in ("BER", "HAM"))
    left = view("left", saps, ways, [offer(t, p) for t in "xy" for p in ("BER", "HAM")], capacities=rooms)
    far = [entry("n", "MUC", point(1, 10))]
    return snapshot(left, view("right", [sap("n", "MUC", to="ix", peer="sp-left")], far, [offer("z", "MUC")]))


def test_hosts_at_one_place_are_kept_over_two_visits_where_these_are_one_segment() -> None:
    assert places(by_host(APART, "BER", "HAM")) == {"f0": "BER", "f1": "MUC", "f2": "HAM"}
    assert places(by_host(TOGETHER, "BER", "BER")) == {"f0": "BER", "f1": "MUC", "f2": "BER"}
    assert places(by_host(APART, "BER", "BER", hosts=2)) == {"f0": "BER", "f1": "MUC", "f2": "BER"}
    alone = by_host(APART, "BER", "BER")
    assert isinstance(alone, Infeasible)
    assert {r.code for r in alone.reasons} == {ReasonCode.CAPACITY, ReasonCode.AFFINITY}


@pytest.mark.parametrize("features", [(PLACEMENT,), tuple(sorted(FEATURES))], ids=["no paths", "beside a LAN"])
def test_two_segments_at_one_place_keep_no_hosts_apart_and_none_together(features: tuple[str, ...]) -> None:
    managed = PATHS in features
    assert places(by_host(APART, "BER", "HAM", 2, features, managed)) == {"f0": "BER", "f1": "MUC", "f2": "HAM"}
    for kind in (APART, TOGETHER):
        refused = by_host(kind, "BER", "BER", 2, features, managed)
        assert isinstance(refused, Infeasible)
        assert [(r.code, r.subject) for r in refused.reasons] == [(ReasonCode.AFFINITY, "g")]


def test_functions_that_share_a_host_are_in_one_segment() -> None:
    assert places(plan(grouped(TOGETHER, GroupScope.HOST), two(), NOW)) == {"f0": "BER", "f1": "BER"}


# --- wrong in itself -------------------------------------------------------------------------------------------------

LAN = chain_spec("left.uni", "right.uni", ["x", "y"], [lan("lan", "f0:mgmt", "l")], [End(id="l", sap="left.uni")])
LAN_END, LAN_LINK = LAN.ends, LAN.links
WRONG: list[tuple[dict[str, object], tuple[object, ...], str]] = [
    (
        {"groups": (Group(id="g", kind=APART, scope=GroupScope.PLACE, functions=("f0", "f9")),)},
        ("groups", 0, "functions", 1), "'f9' is not a function of the service",
    ),
    (
        {"groups": (Group(id="g", kind=APART, scope=GroupScope.PLACE, functions=("f0", "f0")),)},
        ("groups", 0, "functions", 1), "'f0' is already in the group 'g'",
    ),
    (
        {"distances": (Distance(id="d", function="a", to="f0", max_km=1),)},
        ("distances", 0, "function"), "'a' is not a function of the service",
    ),
    (
        {"distances": (Distance(id="d", function="f0", to="f0", max_km=1),)},
        ("distances", 0, "to"), "'f0' is at no distance from itself",
    ),
    (
        {"distances": (Distance(id="d", function="f0", to="a"),)},
        ("distances", 0), "the distance 'd' says neither max_km nor max_delay_us",
    ),
    (
        {"distances": (Distance(id="d", function="f0", to="l", max_km=1),), "ends": LAN_END, "links": LAN_LINK},
        ("distances", 0, "to"), "'l' is an end that no path goes to",
    ),
    (
        {"countries": Countries(allowed=("DE", "NL"), denied=("NL",))},
        ("countries", "denied", 0), "NL is allowed and denied",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "field", "reason"), WRONG)
def test_a_constraint_that_is_wrong_is_named(change: dict[str, object], field: tuple[object, ...], reason: str) -> None:
    spec = replace(chain_spec("left.uni", "right.uni", ["x", "y"]), **change)  # type: ignore[arg-type]
    assert [(p.field, p.reason) for p in check(spec)] == [(field, reason)]


def test_what_is_asked_is_read_and_written_as_yaml() -> None:
    spec = replace(
        grouped(APART, GroupScope.HOST),
        distances=(Distance(id="d", function="f0", to="a", max_km=12.5),),
        countries=Countries(allowed=("DE", "NL")),
        isolation=("macsec",),
    )
    text = dump_spec(spec)
    assert "kind: ANTI_AFFINITY" in text
    assert load_spec(text, "order.yml") == spec
