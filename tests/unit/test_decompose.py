"""The planner against a plain enumerator, and each reason why there is no plan."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from address_planner.labels import LabelSet
from broker.decompose.drawing import to_networkx
from broker.decompose.labelling import Effort
from broker.decompose.mesh import LanEnd, Mesh, read_mesh
from broker.decompose.plan import Avoid, Dearer, Infeasible, Joint, Plan, Snapshot, Stretch, SupplierView
from broker.decompose.search import plan
from capability_registry.note import Bin, Lifecycle, Outage, PlaceCapacity, SharedLimit
from capability_registry.packing import packs
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import End, FunctionRequest, ServiceFunctionPath, ServiceSpec
from tests.support.enumerator import Walk, cost, key, walks
from tests.support.planning import (
    GBIT,
    NOW,
    chain_spec,
    entry,
    kind,
    lan,
    offer,
    point,
    random_snapshot,
    sap,
    sides,
    snapshot,
    view,
)


def plans(spec: ServiceSpec, snap: Snapshot, **more: object) -> tuple[Plan, ...]:
    answer = plan(spec, snap, NOW, **more)  # type: ignore[arg-type]
    assert not isinstance(answer, Infeasible), answer
    return answer


def reason(spec: ServiceSpec, snap: Snapshot, **more: object) -> Reason:
    answer = plan(spec, snap, NOW, **more)  # type: ignore[arg-type]
    assert isinstance(answer, Infeasible), answer
    return answer.reasons[0]


# --- against the oracle ----------------------------------------------------------------------------------------------


def random_question(seed: int) -> tuple[ServiceSpec, Snapshot, list[tuple[Decimal, int]]]:
    """A spec, a snapshot, and the figures of all distinct plans in order, by enumeration."""
    rng = random.Random(seed)
    snap = random_snapshot(seed, 3, joints=1)
    types = [rng.choice("xy") for _ in range(rng.randint(0, 2))]
    joined = [lan("m", "f0:mgmt", "f1:mgmt")] if len(types) == 2 and rng.random() < 0.5 else []
    spec = chain_spec(
        "s0.uni", rng.choice(["s1.uni", "s2.uni"]), types, joined, bandwidth_bps=rng.choice([0, 1, 2]),
        min_mtu=rng.choice([1280, 1500, 9000]), term_hours=1,
    )  # fmt: skip
    found = [(cost(w, spec), key(w)) for w in walks(spec, snap)]
    if found and rng.random() < 0.6:
        bound = max(0, rng.choice([delay for (_, delay), _ in found]) + rng.randint(-1, 1))
        spec = replace(spec, max_delay_us=bound)
        found = [f for f in found if f[0][1] <= bound]
    best: dict[tuple[object, ...], tuple[Decimal, int]] = {}
    for figures, walk in found:
        best[walk] = min(figures, best.get(walk, figures))
    return spec, snap, sorted(best.values())


@pytest.mark.parametrize("block", range(10))
def test_the_first_plan_is_the_optimum_and_the_others_follow_in_order(block: int) -> None:
    planned = refused = 0
    for seed in range(block * 20, block * 20 + 20):
        spec, snap, expected = random_question(seed)
        answer = plan(spec, snap, NOW)
        if isinstance(answer, Infeasible):
            assert not expected, (seed, answer)
            refused += 1
            continue
        planned += 1
        figures = [(p.cost, p.delay_us) for p in answer]
        assert figures == expected[:3], seed
        routes = {(*sides(p), *(tuple(s.places.items()) for s in p.segments)) for p in answer}
        assert len(routes) == len(answer), seed
        assert plan(spec, replace(snap, number=2), NOW) == answer
        for p in answer:
            assert sum(s.price.over(1) for s in p.segments) == p.cost == p.price.over(1)
            if spec.max_delay_us is not None:
                assert sum(sum(s.budgets["p"]) for s in p.segments) <= spec.max_delay_us
    assert planned >= 3
    assert refused >= 3


def test_a_search_that_gets_better_bounds_on_its_way_finds_the_same_in_the_same_order() -> None:
    planned = 0
    for seed in range(200, 300):
        spec, snap, expected = random_question(seed)
        answer = plan(spec, snap, NOW, effort=Effort(easy=1 + seed % 4))
        if isinstance(answer, Infeasible):
            assert not expected, (seed, answer)
            continue
        assert [(p.cost, p.delay_us) for p in answer] == expected[:3], seed
        planned += 1
    assert planned > 30


def test_with_prices_that_were_learnt_the_plan_is_the_optimum_of_those() -> None:
    changed = 0
    for seed in range(400, 460):
        spec, snap, expected = random_question(seed)
        if not expected:
            continue
        rng = random.Random(seed)
        learnt = tuple(
            Dearer(
                alias=v.alias,
                function=rng.choice(["", *(f.id for f in spec.functions)]),
                way=tuple(rng.sample([s.id for s in v.note.saps], 2)),  # type: ignore[arg-type]
                once=Decimal(rng.randint(0, 5)),
                per_hour=Decimal(rng.randint(0, 5)),
            )
            for v in rng.choices(snap.suppliers, k=3)
        )
        options: dict[tuple[object, ...], tuple[Decimal, int]] = {}
        for walk in walks(spec, snap):
            price, delay = cost(walk, spec)
            total = price + sum(beyond(one, walk, spec) for one in learnt), delay
            if spec.max_delay_us is None or delay <= spec.max_delay_us:
                options[key(walk)] = min(total, options.get(key(walk), total))
        found = plans(spec, snap, avoid=Avoid(dearer=learnt))
        assert [(p.cost, p.delay_us) for p in found] == sorted(options.values())[: len(found)], seed
        assert all(sum(s.price.over(1) for s in p.segments) == p.cost for p in found)
        changed += found[0].cost > expected[0][0]
    assert changed >= 10


def beyond(one: Dearer, walk: Walk, spec: ServiceSpec) -> Decimal:
    """What a walk costs more by what was learnt."""
    times = placed = 0
    for stage in walk.stages:
        ids = [f.id for f in spec.functions[placed : placed + len(stage.places)]]
        placed += len(ids)
        if stage.view.alias == one.alias:
            ways = [set(entry.split("|")) for entry, *_ in stage.ways]
            times += ids.count(one.function) if one.function else ways.count(set(one.way))
    return times * (one.once + one.per_hour)


def test_who_breaks_promises_counts_dearer_and_the_price_stays_the_price() -> None:
    bounded = 0
    for seed in range(300, 330):
        spec, snap, expected = random_question(seed)
        rng = random.Random(seed)
        trusted = {v.alias: rng.choice([1.0, 0.5, 0.0]) for v in snap.suppliers}
        weighed = replace(snap, caution=1.0, suppliers=tuple(replace(v, kept=trusted[v.alias]) for v in snap.suppliers))
        if expected and rng.random() < 0.5:
            spec, bounded = replace(spec, max_price=rng.choice(expected)[0]), bounded + 1
        options = []
        for walk in walks(spec, weighed):
            price, delay = cost(walk, spec)
            late = spec.max_delay_us is not None and delay > spec.max_delay_us
            if not late and (spec.max_price is None or price <= spec.max_price):
                counted, _ = cost(walk, spec, lambda view: 2 - Decimal(view.kept))
                options.append((counted, delay, price))
        answer = plan(spec, weighed, NOW)
        if isinstance(answer, Infeasible):
            assert not options, (seed, answer)
            continue
        best = min(options)
        assert (answer[0].delay_us, answer[0].cost) in {(d, p) for c, d, p in options if (c, d) == best[:2]}, seed
    assert bounded >= 3


# --- a federation to look at: host - left - right, two joints between left and right ---------------------------------


def federation(**right: object) -> Snapshot:
    """`left.uni` → left → (cheap or fast joint) → right → `right.uni`; function x at left, y and z at right."""
    return snapshot(
        view(
            "left",
            [
                sap("uni", "BER"),
                sap("n1", "BER", to="cheap", peer="sp-right", decides_labels=True),
                sap("n2", "BER", to="fast", peer="sp-right", decides_labels=True),
            ],
            [
                entry("uni", "n1", point(1, 100)), entry("uni", "n2", point(9, 10)), entry("uni", "BER", point(0, 1)),
                entry("BER", "n1", point(1, 100)), entry("BER", "n2", point(9, 10)),
            ],
            [offer("x", "BER", cost=5, units=4)],
        ),
        view(
            "right",
            [
                sap("uni", "MUC"),
                sap("n1", "MUC", to="cheap", peer="sp-left"),
                sap("n2", "MUC", to="fast", peer="sp-left"),
            ],
            [
                entry("n1", "uni", point(1, 100)), entry("n2", "uni", point(1, 100)),
                entry("n1", "MUC", point(1, 50)), entry("n2", "MUC", point(1, 50)), entry("uni", "MUC", point(1, 50)),
            ],
            [offer("y", "MUC", cost=5, units=4), offer("z", "MUC", cost=2, units=5)],
            **right,  # type: ignore[arg-type]
        ),
    )  # fmt: skip


def edited(snap: Snapshot, alias: str, **note: object) -> Snapshot:
    def edit(v: SupplierView) -> SupplierView:
        return replace(v, note=replace(v.note, **note)) if v.alias == alias else v  # type: ignore[arg-type]

    return replace(snap, suppliers=tuple(edit(v) for v in snap.suppliers))


ACROSS = ("left.uni", "right.uni")


def test_a_cheaper_supplier_that_breaks_its_promises_is_passed_by() -> None:
    spec = chain_spec(*ACROSS, ["x", "y"], max_price=Decimal(14))
    offers = (offer("x", "BER", cost=5, units=4), offer("y", "BER", cost="6.5", units=4))
    snap = edited(federation(), "left", functions=offers)
    doubted = replace(snap, suppliers=tuple(replace(v, kept=float(v.alias == "left")) for v in snap.suppliers))
    for caution, at, price in ((0.0, "MUC", "13"), (0.5, "BER", "13.5")):
        best = plans(spec, replace(doubted, caution=caution))[0]
        assert {f: p for s in best.segments for f, p in s.places.items()}["f1"] == at
        assert best.price.once == Decimal(price)


def test_a_chain_is_split_where_its_functions_are() -> None:
    best, *others = plans(chain_spec(*ACROSS, ["x", "y"], max_delay_us=1000), federation())
    assert sides(best) == [("left", "uni", "n1"), ("right", "n1", "uni")]
    assert [dict(s.places) for s in best.segments] == [{"f0": "BER"}, {"f1": "MUC"}]
    assert best.lines == {
        "l0": (Stretch(segment=0, entry="uni", exit=None),),
        "l1": (
            Stretch(segment=0, entry=None, exit="n1"),
            Stretch(segment=1, entry="n1", exit=None, interconnect="cheap"),
        ),
        "l2": (Stretch(segment=1, entry=None, exit="uni"),),
    }
    assert best.interconnects == ("cheap",)
    assert (best.cost, best.delay_us) == (Decimal(13), 201)
    assert [s.budgets for s in best.segments] == [{"p": (101 + 799 * 101 // 201,)}, {"p": (100 + 799 * 100 // 201,)}]
    assert others[0].interconnects == ("fast",)


def test_a_delay_bound_buys_the_faster_joint() -> None:
    (best, *_) = plans(chain_spec(*ACROSS, ["x", "y"], max_delay_us=150), federation())
    assert best.interconnects == ("fast",)


def test_a_hairpin_goes_out_to_a_supplier_and_back() -> None:
    spec = chain_spec("left.uni", "left.uni", ["x", "y", "x"])
    best = plans(spec, federation())[0]
    assert [(s.alias, s.functions) for s in best.segments] == [("left", ("f0", "f2")), ("right", ("f1",))]
    assert [[s.segment for s in line] for line in best.lines.values()] == [[0], [0, 1], [1, 0], [0]]
    assert best.interconnects == ("cheap", "cheap")


def test_a_supplier_without_the_feature_paths_delivers_each_visit_as_a_segment() -> None:
    spec, snap = chain_spec("left.uni", "left.uni", ["x", "y", "x"]), edited(federation(), "left", api_features=())
    best = plans(spec, snap)[0]
    assert [(s.alias, s.functions) for s in best.segments] == [("left", ("f0",)), ("right", ("f1",)), ("left", ("f2",))]


def test_a_hairpin_over_one_label_needs_a_second_joint() -> None:
    snap = federation()
    one = tuple(replace(s, labels=LabelSet.of([100])) if s.interconnect else s for s in snap.suppliers[0].note.saps)
    best = plans(chain_spec("left.uni", "left.uni", ["x", "y", "x"]), edited(snap, "left", saps=one))[0]
    assert sorted(best.interconnects) == ["cheap", "fast"]


def test_a_service_that_only_turns_round_is_refused() -> None:
    assert reason(chain_spec("left.uni", "left.uni"), federation()).code is ReasonCode.NO_PATH


def test_a_transit_that_does_not_swap_says_so_and_one_with_a_function_swaps() -> None:
    snap = edited(federation(), "right", matrix=(
        entry("n1", "uni", point(1, 1, swaps_labels=False)), entry("n1", "MUC", point(1, 1, swaps_labels=False)),
        entry("uni", "MUC", point(1, 1, swaps_labels=False)),
    ))  # fmt: skip
    assert [s.swaps_labels for s in plans(chain_spec(*ACROSS), snap)[0].lines["l0"]] == [True, False]
    lines = plans(chain_spec(*ACROSS, ["y"]), snap)[0].lines
    assert [s.swaps_labels for line in lines.values() for s in line] == [True, True, True]


def test_what_crank_back_learnt_is_avoided() -> None:
    spec, snap = chain_spec(*ACROSS, ["x", "y"]), federation()
    fast = plans(spec, snap, avoid=Avoid(interconnects=frozenset({"cheap"})))
    assert [p.interconnects for p in fast] == [("fast",)]
    transit = plans(chain_spec(*ACROSS), snap, avoid=Avoid(ways=frozenset({("right", "n1", "uni")})))
    assert all(a == "n2" for p in transit for alias, a, b in sides(p) if alias == "right" and b == "uni")
    refused = reason(spec, snap, avoid=Avoid(functions=frozenset({("right", "f1")})))
    assert (refused.code, refused.message) == (
        ReasonCode.NO_PATH,
        "every way from 'left.uni' to 'right.uni' through f0, f1 uses what suppliers refused for this order",
    )


def test_a_lan_is_carried_between_its_members_and_out_at_an_end() -> None:
    snap = federation()
    inside = plans(chain_spec(*ACROSS, ["x", "y"], [lan("m", "f0:mgmt", "f1:mgmt")]), snap)[0]
    assert inside.lans == {"m": (Joint(line="l1", after=0),)}
    end = End(id="a.mgmt", sap="left.uni")
    out = plans(chain_spec(*ACROSS, ["y"], [lan("m", "a.mgmt", "f0:mgmt")], [end]), snap)[0]
    assert out.lans == {"m": (Joint(line="l0", after=0),)}


def test_a_transit_may_carry_a_lan_from_end_to_end() -> None:
    ends = [End(id="a.mgmt", sap="left.uni"), End(id="b.mgmt", sap="right.uni")]
    best = plans(chain_spec(*ACROSS, (), [lan("m", "a.mgmt", "b.mgmt")], ends), federation())[0]
    assert best.lans == {"m": tuple(Joint(line="l0", after=n) for n in range(len(best.segments) - 1))}
    assert best.lans["m"]


def test_where_both_ends_share_a_sap_the_name_of_a_lans_end_tells_its_side() -> None:
    end = End(id="b.mgmt", sap="left.uni")
    spec = chain_spec("left.uni", "left.uni", ["x"], [lan("m", "f0:mgmt", "b.mgmt")], [end])
    read = read_mesh(spec)
    assert isinstance(read, Mesh)
    assert read.lans[0].outer == (LanEnd(end=end, beside=spec.end("b")),)


def test_a_lan_takes_a_second_label_on_each_joint() -> None:
    snap = federation()
    few = tuple(replace(s, labels=LabelSet.of([100])) if s.id == "n1" else s for s in snap.suppliers[0].note.saps)
    snap = edited(snap, "left", saps=few)
    joined = [lan("m", "f0:mgmt", "f1:mgmt")]
    assert plans(chain_spec(*ACROSS, ["x", "y"]), snap)[0].interconnects == ("cheap",)
    assert plans(chain_spec(*ACROSS, ["x", "y"], joined), snap)[0].interconnects == ("fast",)
    only = plan(chain_spec(*ACROSS, ["x", "y"], joined), snap, NOW, Avoid(interconnects=frozenset({"fast"})))
    assert isinstance(only, Infeasible)
    assert only.reasons[0].code is ReasonCode.LABELS_EXHAUSTED
    assert only.reasons[0].message == "interconnect 'cheap' has 1 common free labels, 2 needed"


def test_functions_that_do_not_fit_together_are_planned_apart_or_refused() -> None:
    snap = federation(bins=8)  # y (4) and z (5) do not share eight units on one host
    refused = reason(chain_spec(*ACROSS, ["y", "z"]), snap)
    assert (refused.code, refused.subject) == (ReasonCode.CAPACITY, "f0")
    assert refused.message == "no places that can be reached have capacity for all of f0, f1"
    assert plans(chain_spec(*ACROSS, ["y", "z"]), federation(bins=9))


def test_packing_opens_no_host_that_it_does_not_need() -> None:
    bins = (Bin(size=4, count=1), Bin(size=8, count=1))
    assert packs(bins, [8, 4])
    assert packs(bins, [4, 4, 4])
    assert not packs(bins, [5, 5])
    assert packs((), [0])
    assert not packs((), [1])


def test_a_shared_limit_counts_every_use_in_one_service() -> None:
    spec = chain_spec("left.uni", "left.uni", ["x", "y", "x"], bandwidth_bps=6)
    limit = SharedLimit(id="trunk", limit_bps=10, coefficients={"n1|MUC": 1.0})
    snap = edited(federation(), "right", shared=(limit,))
    assert sorted(plans(spec, snap)[0].interconnects) == ["cheap", "fast"]
    tight = SharedLimit(id="trunk", limit_bps=10, coefficients={"MUC|n1": 1.0, "n2|MUC": 1.0})
    refused = reason(spec, edited(federation(), "right", shared=(tight,)))
    assert (refused.code, refused.message) == (ReasonCode.BANDWIDTH, "bandwidth: at least 5 bit/s are free, not 6")


def test_a_uni_is_no_way_through() -> None:
    hub = view("hub", [sap("a", "BER"), sap("u", "BER"), sap("b", "BER")], [
        entry("a", "u", point(1, 1)), entry("u", "b", point(1, 1)),
    ])  # fmt: skip
    assert reason(chain_spec("hub.a", "hub.b"), snapshot(hub)).code is ReasonCode.NO_PATH


@pytest.mark.parametrize(
    "change",
    [
        {"expires": NOW},
        {"not_before": NOW + timedelta(seconds=1)},
        {"lifecycle": Lifecycle.WITHDRAWING},
        {"outages": (Outage(subject="MUC", start=NOW, end=NOW + timedelta(hours=1)),)},
        {"currency": "USD"},
    ],
)
def test_a_supplier_that_is_not_to_be_used_is_not_planned_with(change: dict[str, object]) -> None:
    answer = plan(chain_spec(*ACROSS, ["y"]), edited(federation(), "right", **change), NOW)
    assert isinstance(answer, Infeasible)


def test_an_outage_in_another_hour_does_not_matter() -> None:
    later = Outage(subject="MUC", start=NOW + timedelta(hours=1), end=NOW + timedelta(hours=2))
    snap = edited(federation(), "right", outages=(later,))
    assert plans(chain_spec(*ACROSS, ["y"]), snap)
    assert isinstance(plan(chain_spec(*ACROSS, ["y"], start_time=later.start), snap, NOW), Infeasible)


@pytest.mark.parametrize(
    "change",
    [{"peer": "sp-other"}, {"decides_labels": True}, {"interconnect": "elsewhere"}],
)
def test_a_joint_that_the_notes_do_not_agree_on_is_not_crossed(change: dict[str, object]) -> None:
    right = federation().suppliers[1].note.saps
    saps = tuple(replace(s, **change) if s.interconnect else s for s in right)  # type: ignore[arg-type]
    assert reason(chain_spec(*ACROSS), edited(federation(), "right", saps=saps)).code is ReasonCode.NO_PATH


# --- reasons ---------------------------------------------------------------------------------------------------------


def request(**more: object) -> tuple[FunctionRequest, ...]:
    return (FunctionRequest(id="f0", type=kind("x"), **more),)  # type: ignore[arg-type]


REASONS: list[tuple[ServiceSpec, ReasonCode, str, str]] = [
    (
        chain_spec("left.un", "right.uni"), ReasonCode.UNKNOWN_SAP, "a",
        "unknown SAP 'left.un'; known: left.uni, right.uni",
    ),
    (
        chain_spec(*ACROSS, ["xx"]), ReasonCode.UNKNOWN_FUNCTION_TYPE, "f0",
        "function 'f0': nobody offers type acme/xx/1; did you mean acme/x/1, acme/z/1, acme/y/1?",
    ),
    (
        chain_spec(*ACROSS, ["x"], functions=request(flavour="huge")), ReasonCode.INVALID_PARAMETER, "f0",
        "function 'f0': acme/x/1 has no flavour 'huge'; offered: default",
    ),
    (
        chain_spec(*ACROSS, ["x"], functions=request(places=("OSL",))), ReasonCode.UNKNOWN_PLACE, "f0",
        "function 'f0': acme/x/1 is not offered at OSL; at: BER",
    ),
    (
        chain_spec(*ACROSS, ["x", "y"], [lan("m", "f0:oam", "f1:mgmt")]), ReasonCode.UNKNOWN_PORT, "f0",
        "function 'f0': acme/x/1 has no MANAGEMENT port 'oam', a LAN needs a MANAGEMENT port; "
        "known: in (DATA), in2 (DATA), mgmt (MANAGEMENT), out (DATA), out2 (DATA), out3 (DATA)",
    ),
    (chain_spec(*ACROSS, min_mtu=9100), ReasonCode.MTU, "p", "MTU: best 9000 < 9100 bytes"),
    (
        chain_spec(*ACROSS, bandwidth_bps=11 * GBIT), ReasonCode.BANDWIDTH, "p",
        "bandwidth: at least 10000000000 bit/s are free, not 11000000000",
    ),
    (
        chain_spec(*ACROSS, ["x", "y"], max_delay_us=100), ReasonCode.DELAY, "p",
        "delay: best 0.111 ms > 0.1 ms over interconnect 'fast'",
    ),
    (
        chain_spec(*ACROSS, ["x", "y"], max_price=Decimal("12.99")), ReasonCode.PRICE, "svc",
        "price over 720 h: best 13 > 12.99 EUR over interconnect 'cheap'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "code", "subject", "message"), REASONS, ids=[r[1].short for r in REASONS])
def test_the_binding_constraint_is_named(spec: ServiceSpec, code: ReasonCode, subject: str, message: str) -> None:
    found = reason(spec, federation())
    assert (found.code, found.subject, found.message) == (code, subject, message)


def test_a_place_without_lans_is_named() -> None:
    found = reason(chain_spec(*ACROSS, ["x", "y"], [lan("m", "f0:mgmt", "f1:mgmt")]), federation(lan=False))
    assert (found.code, found.subject) == (ReasonCode.LAN_NOT_OFFERED, "m")
    assert found.message == "LAN 'm': right offers no LAN at 'MUC'"


def test_a_function_that_is_too_big_is_named() -> None:
    full = (PlaceCapacity(place="MUC", bins=(Bin(size=3, count=9),), lan=True),)
    found = reason(chain_spec(*ACROSS, ["x", "y"]), federation(capacities=full))
    assert (found.code, found.subject) == (ReasonCode.CAPACITY, "f1")
    assert found.message == "function 'f1' needs 4 capacity units; nobody has them free at MUC"


def test_an_end_without_a_free_label_is_named_with_what_would_do() -> None:
    snap = federation()
    spec = chain_spec(*ACROSS)
    taken = replace(spec, ends=(replace(spec.ends[0], labels=LabelSet.of([7])), spec.ends[1]))
    found = reason(taken, snap)
    assert (found.code, found.subject) == (ReasonCode.LABELS_EXHAUSTED, "a")
    assert found.nogood is not None
    assert found.nogood.acceptable_labels == LabelSet.parse("100-199")
    single = LabelSet.of([100])
    pair = chain_spec("left.uni", "left.uni", ["x"])
    both = replace(pair, ends=tuple(replace(e, labels=single) for e in pair.ends))
    assert reason(both, snap).subject == "b"


def test_two_constraints_that_bind_together_are_both_named() -> None:
    answer = plan(chain_spec(*ACROSS, ["x", "y"], max_delay_us=100, max_price=Decimal(1)), federation(), NOW)
    assert isinstance(answer, Infeasible)
    assert [r.code for r in answer.reasons] == [ReasonCode.DELAY, ReasonCode.PRICE]


def test_reasons_tell_aliases_and_never_a_lower_sp() -> None:
    for seed in range(60):
        answer = plan(chain_spec("s0.uni", "s1.uni", ["x"], bandwidth_bps=2, min_mtu=9000), random_snapshot(seed), NOW)
        if isinstance(answer, Infeasible):
            assert answer.reasons
            assert not any("sp-" in r.message for r in answer.reasons)


# --- shapes ----------------------------------------------------------------------------------------------------------


def odd_shapes() -> list[tuple[str, ServiceSpec]]:
    spec = chain_spec(*ACROSS, ["x"])
    return [
        ("svc", replace(spec, paths=())),
        ("f0:out", chain_spec(*ACROSS, ["x"], [lan("m", "f0:out")])),
        ("l1", replace(spec, links=(*spec.links[:1], replace(spec.links[1], points=("f0:out", "b", "a"))))),
        ("f0:out", replace(spec, links=spec.links[:1])),
        ("f9", replace(spec, functions=(*spec.functions, FunctionRequest(id="f9", type=kind("x"))))),
        ("f0:in", replace(spec, paths=(ServiceFunctionPath(id="p", hops=("a", "f0:in", "f0:in", "b")),))),
        ("lonely", replace(spec, ends=(*spec.ends, End(id="lonely", sap="left.uni")))),
        ("f0", replace(spec, functions=spec.functions * 2)),
        ("f0:mgmt", chain_spec(*ACROSS, ["x"], [lan("m", "f0:mgmt"), lan("n", "f0:mgmt")])),
    ]


@pytest.mark.parametrize(("culprit", "spec"), odd_shapes())
def test_a_shape_that_is_no_mesh_is_refused_and_the_culprit_named(culprit: str, spec: ServiceSpec) -> None:
    found = reason(spec, federation())
    assert (found.code, found.subject) == (ReasonCode.SHAPE_NOT_OFFERED, culprit)


def test_the_graph_can_be_read_as_networkx() -> None:
    graph = to_networkx(federation())
    assert graph.nodes["left", "BER"]["functions"] == ["acme/x/1"]
    joints = sorted(d["id"] for _, _, d in graph.edges(data=True) if d["kind"] == "interconnect")
    assert joints == ["cheap", "fast"]
