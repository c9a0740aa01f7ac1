"""Our own note from our suppliers' notes: sound, and silent about who they are."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from address_planner.labels import LabelSet
from broker.decompose.derive import HOLD_GUARD_S, derive
from broker.decompose.plan import Infeasible, Snapshot, SupplierView
from broker.decompose.search import best, fits, plan
from broker.decompose.site_parts import part_of
from capability_registry.label_pools import LabelPools
from capability_registry.note import NOTE, Bin, BorderEntry, CapabilityNote, PlaceCapacity, PointKind
from service_model.constraints import PLACEMENT
from service_model.flows import PATHS
from service_model.money import Price
from service_model.spec import End, FunctionRequest
from tests.support.planning import (
    GBIT,
    NOW,
    chain_spec,
    entry,
    kind,
    offer,
    point,
    random_snapshot,
    sap,
    snapshot,
    view,
)


def note_of(snap: Snapshot, margin: str = "1", **more: object) -> CapabilityNote:
    arguments: dict[str, object] = {
        "own_sp_id": "middle", "edition": 3, "audience": "above", "now": NOW, "validity": timedelta(minutes=30),
        "margin": Decimal(margin), "currency": "EUR", "origin_token": "mine", "max_hold_s": 120,
        "api_features": ("lan",),
    }  # fmt: skip
    return derive(snap, **(arguments | more))  # type: ignore[arg-type]


def above(note: CapabilityNote) -> Snapshot:
    seen = SupplierView(alias="m", sp_id="middle", note=note, local=False, saps={s.id: s.id for s in note.saps})
    return Snapshot(own_sp_id="above", number=1, suppliers=(seen,))


@pytest.mark.parametrize("block", range(8))
def test_whatever_the_note_promises_is_planned_below_at_least_as_well(block: int) -> None:
    promised = 0
    for seed in range(block * 25, block * 25 + 25):
        rng = random.Random(seed)
        snap = random_snapshot(seed, rng.choice([3, 4]), labels=40)
        note = note_of(snap)
        types = [rng.choice("xy") for _ in range(rng.randint(0, 2))]
        for a, b in (("s0.uni", "s1.uni"), ("s0.uni", "s2.uni"), ("s1.uni", "s2.uni")):
            bandwidth, mtu = rng.choice([0, 1, 2]), rng.choice([1500, 9000])
            spec = chain_spec(a, b, types, bandwidth_bps=bandwidth, min_mtu=mtu, term_hours=1)
            upper = plan(spec, above(note), NOW)
            if isinstance(upper, Infeasible):
                continue
            for promise in upper:
                places = promise.segments[0].places
                pinned = tuple(FunctionRequest(id=f.id, type=f.type, places=(places[f.id],)) for f in spec.functions)
                asked = chain_spec(
                    a, b, types, functions=pinned, bandwidth_bps=bandwidth, min_mtu=mtu, term_hours=1,
                    max_delay_us=promise.delay_us, max_price=promise.cost,
                )  # fmt: skip
                lower = plan(asked, snap, NOW)
                assert not isinstance(lower, Infeasible), (seed, a, b, lower)
                promised += 1
    assert promised > 20


def two_suppliers() -> Snapshot:
    return snapshot(
        view(
            "left",
            [sap("uni", "BER"), sap("n", "BER", to="hidden-joint", peer="sp-right", decides_labels=True)],
            [
                entry("uni", "n", point(2, 10, availability=0.9), point(5, 3, availability=0.9)),
                entry("uni", "BER", point(0, 0)),
            ],
            [offer("x", "BER", cost=7)],
            remaining_depth=2,
            origin_tokens=("theirs",),
            max_hold_s=60,
        ),
        view(
            "right",
            [
                sap("out", "MUC", to="joint-to-peer", peer="sp-elsewhere"),
                sap("n", "MUC", to="hidden-joint", peer="sp-left", bandwidth_bps=GBIT),
            ],
            [entry("n", "out", point(4, 20, availability=0.8, bandwidth_bps=2 * GBIT, mtu=1500))],
        ),
    )  # fmt: skip


def test_a_way_through_two_suppliers_adds_delays_and_prices_and_takes_minima() -> None:
    note = note_of(two_suppliers(), margin="1.1")
    ways = next(e for e in note.matrix if {e.a, e.b} == {"left.uni", "right.out"})
    cheapest, fastest = ways.points
    assert (cheapest.kind, cheapest.price.once, cheapest.delay_us) == (PointKind.CHEAPEST, Decimal("6.6"), 30)
    assert (fastest.kind, fastest.price.once, fastest.delay_us) == (PointKind.FASTEST, Decimal("9.9"), 23)
    assert (cheapest.bandwidth_bps, cheapest.mtu) == (GBIT, 1500)
    assert cheapest.availability == pytest.approx(0.72)
    assert cheapest.lan


def test_functions_are_repriced_and_the_frame_is_that_of_the_suppliers() -> None:
    note = note_of(two_suppliers(), margin="1.1")
    assert note.functions[0].flavours[0].price == Price(once=Decimal("7.70"), per_hour=Decimal(0))
    assert note.remaining_depth == 3
    assert note.max_hold_s == 60 - HOLD_GUARD_S
    assert note.origin_tokens == ("mine", "theirs")
    assert note.expires == NOW + timedelta(minutes=30)
    assert note_of(two_suppliers(), validity=timedelta(days=1)).expires == NOW + timedelta(days=1)


def test_a_feature_that_one_supplier_lacks_is_not_announced() -> None:
    snap = two_suppliers()
    features = ("chains", PATHS, PLACEMENT)
    assert note_of(snap, api_features=features).api_features == features
    first, *others = snap.suppliers
    older = replace(first, note=replace(first.note, api_features=(PLACEMENT,)))
    snap = replace(snap, number=2, suppliers=(older, *others))
    assert note_of(snap, api_features=features).api_features == ("chains", PLACEMENT)


def test_only_uni_and_dangling_saps_are_exported_and_the_peer_stays() -> None:
    note = note_of(two_suppliers())
    assert [(s.id, s.peer, s.interconnect) for s in note.saps] == [
        ("left.uni", "", ""),
        ("right.out", "sp-elsewhere", "joint-to-peer"),
    ]


def test_an_unusable_supplier_does_not_make_its_neighbours_joint_dangling() -> None:
    left, _ = two_suppliers().suppliers
    gone = view("right", [sap("n", "MUC", to="hidden-joint", peer="sp-left")], [], usable=False)
    assert [s.id for s in note_of(snapshot(left, gone)).saps] == ["left.uni"]


def test_a_sap_without_an_announced_name_is_not_exported() -> None:
    left, right = two_suppliers().suppliers
    silent = SupplierView(alias="left", sp_id=left.sp_id, note=left.note, local=False, saps={})
    assert [s.id for s in note_of(snapshot(silent, right)).saps] == ["right.out"]


@pytest.mark.parametrize("seed", range(30))
def test_no_identity_of_a_lower_sp_is_in_the_note(seed: int) -> None:
    snap = random_snapshot(seed)
    text = NOTE.dump_json(note_of(snap)).decode()
    assert "middle" in text
    for supplier in snap.suppliers:
        assert supplier.sp_id not in text
        assert not any(s.interconnect and s.interconnect in text for s in supplier.note.saps)


def at_hub(alias: str, size: int, cost: int, type: str = "x") -> SupplierView:
    capacity = (PlaceCapacity(place="HUB", bins=(Bin(size=size, count=2),)),)
    return view(
        alias, [sap("uni", "HUB")], [entry("uni", "HUB", point(1, 1))], [offer(type, "HUB", cost)], capacities=capacity
    )


def test_of_two_suppliers_at_one_place_each_is_announced_and_the_larger_bears_its_id() -> None:
    note = note_of(snapshot(at_hub("small", 2, 1), at_hub("large", 9, 5)))
    other = part_of("HUB", "small", "HUB")
    assert [(p.id, p.site) for p in note.places] == [("HUB", ""), (other, "HUB")]
    assert note.capacities == (
        PlaceCapacity(place="HUB", bins=(Bin(size=9, count=2),)),
        PlaceCapacity(place=other, bins=(Bin(size=2, count=2),)),
    )
    assert [(f.place, int(f.flavours[0].price.once)) for f in note.functions] == [("HUB", 5), (other, 1)]
    assert [(e.a, e.b) for e in note.matrix] == [("large.uni", "HUB")]
    assert [(e.a, e.b) for e in note.guarded] == [("small.uni", other)]


def test_a_part_is_had_by_its_own_word_and_any_of_them_by_the_sites() -> None:
    snap = snapshot(at_hub("small", 2, 1), at_hub("large", 9, 5))

    def suppliers(sap: str, place: str) -> list[str]:
        pinned = (FunctionRequest(id="f0", type=kind("x"), places=(place,)),)
        found = plan(chain_spec(sap, sap, ["x"], functions=pinned), snap, NOW)
        return [] if isinstance(found, Infeasible) else [s.alias for s in found[0].segments]

    small = part_of("HUB", "small", "HUB")
    assert suppliers("small.uni", "HUB") == suppliers("small.uni", small) == ["small"]
    assert suppliers("large.uni", "HUB") == ["large"]
    assert suppliers("large.uni", small) == suppliers("large.uni", "elsewhere") == []


def test_parts_of_a_part_are_parts_of_the_same_site() -> None:
    middle = note_of(snapshot(at_hub("small", 2, 1), at_hub("large", 9, 5)))
    seen = SupplierView(alias="m", sp_id="middle", note=middle, local=False, saps={s.id: s.id for s in middle.saps})
    note = note_of(snapshot(seen, at_hub("third", 3, 2)), own_sp_id="top")
    below = part_of("HUB", "small", "HUB")
    assert {p.id: p.site for p in note.places} == {
        "HUB": "", part_of("HUB", "m", below): "HUB", part_of("HUB", "third", "HUB"): "HUB",
    }  # fmt: skip


def test_of_two_parts_that_offer_the_same_a_service_takes_one_for_they_may_be_one_thing_that_two_sell() -> None:
    joined = {"labels": LabelSet.parse("1-9")}

    def half(alias: str, peer: str, type: str, decides: bool) -> SupplierView:
        capacity = (PlaceCapacity(place="HUB", bins=(Bin(size=1, count=1),)),)
        return view(
            alias,
            [sap("uni", "HUB"), sap("n", "HUB", to="j", peer=f"sp-{peer}", decides_labels=decides, **joined)],
            [entry("uni", "HUB", point(1, 1)), entry("n", "HUB", point(1, 1)), entry("uni", "n", point(1, 1))],
            [offer(type, "HUB")],
            capacities=capacity,
        )  # fmt: skip

    def fit(left: str, right: str, *types: str) -> bool:
        snap = snapshot(half("left", "right", left, True), half("right", "left", right, False))
        return fits(note_of(snap), chain_spec("left.uni", "right.uni", types), NOW)

    assert fit("x", "x", "x")
    assert not fit("x", "x", "x", "x")
    assert fit("x", "y", "x", "y"), "what offers something else is another thing"


def test_what_two_entries_draw_on_together_is_a_shared_limit() -> None:
    left = view(
        "left",
        [sap("u1", "BER"), sap("u2", "BER"), sap("n", "BER", to="j", peer="sp-right", decides_labels=True)],
        [entry("u1", "n", point(1, 1)), entry("u2", "n", point(1, 1))],
    )
    right = view(
        "right",
        [sap("far", "MUC"), sap("n", "MUC", to="j", peer="sp-left", bandwidth_bps=GBIT)],
        [entry("n", "far", point(1, 1))],
    )
    (limit,) = note_of(snapshot(left, right)).shared
    assert limit.limit_bps == GBIT
    assert limit.coefficients == {"left.u1|right.far": 1.0, "left.u2|right.far": 1.0}


def test_a_leaf_derives_from_its_domains_alone() -> None:
    domain = view(
        "dom", [sap("uni", "BER")], [entry("uni", "BER", point(1, 1))], [offer("x", "BER")], local=True, sp_id="middle"
    )
    note = note_of(snapshot(domain))
    assert (note.remaining_depth, note.max_hold_s, note.origin_tokens) == (0, 120, ("mine",))
    assert [str(f.type) for f in note.functions] == [str(kind("x"))]


def test_labels_that_an_inner_joint_lacks_are_not_promised_at_an_end_that_does_not_swap() -> None:
    def pair(joint: str) -> Snapshot:
        free = {"labels": LabelSet.parse(joint)}
        return snapshot(
            view(
                "left", [sap("uni", "BER"), sap("n", "BER", to="j", peer="sp-right", decides_labels=True, **free)],
                [entry("uni", "n", point(1, 1, swaps_labels=False))],
            ),
            view(
                "right", [sap("uni", "MUC"), sap("n", "MUC", to="j", peer="sp-left", **free)],
                [entry("n", "uni", point(1, 1))],
            ),
        )  # fmt: skip

    def told(joint: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
        note = note_of(pair(joint))
        return [(e.a, e.b) for e in note.matrix], {s.id: str(s.labels) for s in note.saps}

    both = [("left.uni", "right.uni")]
    assert told("50-250") == (both, {"left.uni": "100-199", "right.uni": "100-199"})
    assert told("150-250") == (both, {"left.uni": "150-199", "right.uni": "100-199"})
    assert told("200-250") == ([], {"left.uni": "100-199", "right.uni": "100-199"})
    [uni, _] = note_of(pair("150-250")).saps
    assert uni.free == LabelSet.parse("100-199")


def by_the_way(*joints: tuple[str, str]) -> Snapshot:
    """A left domain that does not swap, and one function behind each of these joints (name, labels)."""
    free = {id: {"labels": LabelSet.parse(labels)} for id, labels in joints}
    left = view(
        "left",
        [sap("uni", "BER"), *(
            sap(id, "BER", to=f"j-{id}", peer=f"sp-{id}", decides_labels=True, **free[id]) for id in free
        )],
        [entry("uni", id, point(1, 1, swaps_labels=False)) for id in free],
    )  # fmt: skip
    behind = [
        view(
            id, [sap("n", id.upper(), to=f"j-{id}", peer="sp-left", **free[id])],
            [entry("n", id.upper(), point(1, 1))], [offer(id, id.upper())],
        )
        for id in free
    ]  # fmt: skip
    return snapshot(left, *behind)


def test_ways_that_take_different_labels_at_one_sap_are_all_announced_each_with_its_own() -> None:
    snap = by_the_way(("x", "100-139"), ("y", "150-189"))
    note = note_of(snap)
    ways = {
        e.b: (p, guarded)
        for guarded in (False, True)
        for e in (note.guarded if guarded else note.matrix)
        for p in e.points
    }
    assert {b: (str(p.labels_a), str(p.labels_b)) for b, (p, _) in ways.items()} == {
        "X": ("100-139", ""),
        "Y": ("150-189", ""),
    }
    assert sorted(guarded for _, guarded in ways.values()) == [False, True], "one of them is for readers of today alone"
    [uni] = note.saps
    assert str(uni.free) == "100-199"

    def wanted(type: str, label: int, back: str = "1-4094") -> bool:
        sets = (LabelSet.of([label]), LabelSet.parse(back))
        ends = tuple(End(id=id, sap="left.uni", labels=labels) for id, labels in zip("ab", sets, strict=True))
        return fits(note, replace(chain_spec("left.uni", "left.uni", [type]), ends=ends), NOW)

    apart = by_the_way_to(note)
    assert apart("x", 120)
    assert apart("y", 160)
    assert not apart("x", 160)
    assert not apart("y", 195)
    assert wanted("x", 120), "two ends at one SAP: each has one of its own"
    assert not wanted("x", 160)
    assert not wanted("x", 120, "120,160")


def by_the_way_to(note: CapabilityNote) -> Callable[[str, int], bool]:
    """Whether a service from `left.uni` with this label fits that goes on to a SAP beside the function."""

    def asked(type: str, label: int) -> bool:
        out = sap("out", type.upper())
        way = BorderEntry(a="out", b=type.upper(), points=(point(0, 0),))
        beside = replace(note, saps=(*note.saps, out), matrix=(*note.matrix, way))
        spec = chain_spec("left.uni", "out", [type])
        first, last = spec.ends
        return fits(beside, replace(spec, ends=(replace(first, labels=LabelSet.of([label])), last)), NOW)

    return asked


def test_a_reader_of_the_first_release_may_use_each_label_that_it_sees_with_each_way_that_it_sees() -> None:
    note = note_of(by_the_way(("x", "100-139"), ("y", "150-189"), ("z", "90-200")))
    [uni] = note.saps
    seen = [p for e in note.matrix for p in e.points]
    assert seen
    assert all(uni.labels <= (p.labels_a or uni.free) for p in seen)
    assert len(note.guarded) == 1


def test_uses_of_a_joint_that_take_different_labels_do_not_share_what_the_poorest_has() -> None:
    pools = LabelPools()
    one, three = LabelSet.parse("5"), LabelSet.parse("4-6")
    pools.takes("a|b#0", "j", one)
    pools.takes("a|c#0", "j", three)
    assert [(p.labels, dict(p.coefficients)) for p in pools.limits()] == [
        (1, {"a|b#0": 1.0}),
        (3, {"a|b#0": 1.0, "a|c#0": 1.0}),
    ]
    pools.takes("a|d#0", "j", LabelSet.parse("7"))
    assert (2, {"a|b#0": 1.0, "a|d#0": 1.0}) in [(p.labels, dict(p.coefficients)) for p in pools.limits()]


def test_a_use_that_may_be_left_fewer_labels_counts_in_each_pool_that_has_one_of_them() -> None:
    pools = LabelPools()
    pools.takes("a|b#0", "j", LabelSet.parse("4-7"), tied=True)
    pools.takes("a|c#0", "j", LabelSet.parse("4-5"))
    pools.takes("a|d#0", "j", LabelSet.parse("8"))
    assert [(p.labels, "".join(key[2] for key in p.coefficients)) for p in pools.limits()] == [
        (2, "bc"),
        (3, "bcd"),
        (1, "d"),
    ]


def test_labels_of_a_joint_are_promised_for_any_label_that_an_end_that_is_tied_to_it_may_be_left() -> None:
    """The joint is passed three times, once for the outer end and twice with 100 or 101."""
    narrow = LabelSet.parse("100-101")
    saps = [
        sap("x", "BER", to="outer", peer="sp-other", labels=LabelSet.parse("100-105")),
        sap("n", "BER", to="j", peer="sp-right", labels=LabelSet.parse("100-105"), decides_labels=True),
    ]
    ways = [entry("x", "n", point(1, 1, swaps_labels=False)), entry("n", "BER", point(1, 1, labels_a=narrow))]
    snap = snapshot(
        view("left", saps, ways, [offer("y", "BER")]),
        view(
            "right",
            [sap("n", "MUC", to="j", peer="sp-left", labels=LabelSet.parse("100-105")), sap("uni", "MUC")],
            [entry("n", "MUC", point(1, 1)), entry("n", "uni", point(1, 1)), entry("MUC", "uni", point(1, 1))],
            [offer("x", "MUC")],
        ),
    )
    spec = chain_spec("left.x", "right.uni", ["x", "y"])
    asked = replace(spec, ends=(replace(spec.ends[0], labels=narrow), spec.ends[1]))
    assert best(asked, snap, NOW) is None
    assert not fits(note_of(snap), asked, NOW)
    without = chain_spec("left.x", "right.uni", ["x"])
    assert fits(note_of(snap), replace(without, ends=asked.ends), NOW)


def test_of_many_sets_of_labels_what_any_has_is_all_that_is_counted_on() -> None:
    pools = LabelPools()
    for n in range(6):
        pools.takes(f"a|{n}#0", "j", LabelSet.parse(f"{n},{n + 20}"))
    [pool] = pools.limits()
    assert (pool.labels, len(pool.coefficients)) == (2, 6)


def test_each_part_names_the_tokens_that_it_rests_on_and_none_where_it_rests_on_all() -> None:
    left, right = two_suppliers().suppliers
    note = note_of(snapshot(left, SupplierView(
        alias="right", sp_id=right.sp_id, note=replace(right.note, origin_tokens=("r1", "r2")), local=False,
        saps=right.saps,
    )))  # fmt: skip
    assert note.origin_tokens == ("mine", "theirs", "r1", "r2")
    assert {s.id: s.origins for s in note.saps} == {"left.uni": (0, 1), "right.out": (0, 2, 3)}
    assert {(e.a, e.b): e.origins for e in note.matrix}["left.uni", "right.out"] == ()
    assert {(e.a, e.b): e.origins for e in note.matrix}["left.uni", "BER"] == (0, 1)
    assert [f.origins for f in note.functions] == [(0, 1)]


def test_the_last_labels_of_an_inner_joint_are_promised_to_one_service_once() -> None:
    def note(labels: str) -> CapabilityNote:
        free = {"labels": LabelSet.parse(labels)}
        left = view(
            "left",
            [sap("uni", "BER"), sap("n", "BER", to="j", peer="sp-right", decides_labels=True, **free)],
            [entry("uni", "n", point(1, 1))],
        )
        right = view(
            "right",
            [sap("n", "MUC", to="j", peer="sp-left", **free)],
            [entry("n", "MUC", point(1, 1))],
            [offer("x", "MUC")],
        )
        return note_of(snapshot(left, right))

    there_and_back = chain_spec("left.uni", "left.uni", ["x"])
    assert [(limit.labels, dict(limit.coefficients)) for limit in note("7").shared if limit.labels] == [
        (1, {"left.uni|MUC": 1.0})
    ]
    assert not fits(note("7"), there_and_back, NOW)
    assert fits(note("7-8"), there_and_back, NOW)
    assert not [limit for limit in note("1-100").shared if limit.labels]
