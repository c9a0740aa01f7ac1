"""Our own note from our suppliers' notes: sound, and silent about who they are."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from address_planner.labels import LabelSet
from broker.decompose.derive import HOLD_GUARD_S, derive
from broker.decompose.plan import Infeasible, Snapshot, SupplierView
from broker.decompose.search import fits, plan
from capability_registry.note import NOTE, Bin, CapabilityNote, PlaceCapacity, PointKind
from service_model.constraints import PLACEMENT
from service_model.flows import PATHS
from service_model.money import Price
from service_model.spec import FunctionRequest
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


def test_of_two_suppliers_at_one_place_the_larger_alone_is_announced() -> None:
    def at_hub(alias: str, size: int, cost: int) -> SupplierView:
        capacity = (PlaceCapacity(place="HUB", bins=(Bin(size=size, count=2),)),)
        return view(
            alias, [sap("uni", "HUB")], [entry("uni", "HUB", point(1, 1))], [offer("x", "HUB", cost)],
            capacities=capacity,
        )  # fmt: skip

    note = note_of(snapshot(at_hub("small", 2, 1), at_hub("large", 9, 5)))
    assert note.capacities == (PlaceCapacity(place="HUB", bins=(Bin(size=9, count=2),)),)
    assert [f.flavours[0].price.once for f in note.functions] == [5]
    assert [(e.a, e.b) for e in note.matrix] == [("large.uni", "HUB")]


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
    assert limit.coefficients == {"left.u1|right.far#0": 1.0, "left.u2|right.far#0": 1.0}


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
        (1, {"left.uni|MUC#0": 1.0})
    ]
    assert not fits(note("7"), there_and_back, NOW)
    assert fits(note("7-8"), there_and_back, NOW)
    assert not [limit for limit in note("1-100").shared if limit.labels]
