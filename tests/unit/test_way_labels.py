"""Labels by the way: which a way takes at its ends is kept in plans, and told to who delivers."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from address_planner.classes import LabelClass, suggest
from address_planner.labels import LabelSet
from broker.decompose.mesh import Mesh, read_mesh
from broker.decompose.plan import Infeasible, Plan, Snapshot
from broker.decompose.search import plan
from broker.orders.split import split
from capability_registry.glossary import Glossary
from capability_registry.loops import without_ours
from capability_registry.note import BorderPoint, CapabilityNote, SharedLimit
from capability_registry.remembered import most
from service_model.outcomes import ReasonCode
from service_model.spec import End, ServiceFunctionPath, ServiceSpec, VirtualLink
from tests.support.planning import NOW, chain_spec, entry, kind, offer, point, sap, snapshot, view


def pair(left: BorderPoint, right: BorderPoint, joint: str = "100-119") -> Snapshot:
    """A way at each of two suppliers, from its `uni` (100-199) to the joint between them."""
    free = {"labels": LabelSet.parse(joint)}
    return snapshot(
        view(
            "left", [sap("uni", "BER"), sap("n", "BER", to="j", peer="sp-right", decides_labels=True, **free)],
            [entry("uni", "n", left)],
        ),
        view(
            "right", [sap("n", "MUC", to="j", peer="sp-left", **free), sap("uni", "MUC")], [entry("n", "uni", right)],
        ),
    )  # fmt: skip


def way(a: str = "", b: str = "", swaps: bool = True, cost: int = 1) -> BorderPoint:
    return point(cost, 10, labels_a=LabelSet.parse(a), labels_b=LabelSet.parse(b), swaps_labels=swaps)


def asked(first: str = "", last: str = "") -> ServiceSpec:
    ends = tuple(
        End(id=id, sap=f"{alias}.uni", labels=LabelSet.parse(labels) if labels else None)
        for id, alias, labels in (("a", "left", first), ("b", "right", last))
    )
    return replace(chain_spec("left.uni", "right.uni", []), ends=ends)


def planned(snap: Snapshot, spec: ServiceSpec) -> Plan | None:
    found = plan(spec, snap, NOW)
    return None if isinstance(found, Infeasible) else found[0]


CASES = [
    (way(), way(), asked(), True),
    (way(a="150"), way(), asked("150"), True),
    (way(a="150"), way(), asked("151"), False),
    (way(b="100-104"), way(a="104-109"), asked(), True),
    (way(b="100-104"), way(a="105-109"), asked(), False),
    (way(), way(b="150"), asked(last="151"), False),
    (way(a="100-104", b="100-104", swaps=False), way(a="104"), asked("104"), True),
    (way(a="100-104", b="100-104", swaps=False), way(a="104"), asked("103"), False),
    (way(swaps=False), way(a="104", b="104", swaps=False), asked("104", "104"), True),
    (way(swaps=False), way(a="104", b="104", swaps=False), asked("104", "105"), False),
    (way(b="300"), way(), asked(), False),
]


@pytest.mark.parametrize(("left", "right", "spec", "fits"), CASES)
def test_a_way_is_taken_only_with_labels_that_it_tells(
    left: BorderPoint, right: BorderPoint, spec: ServiceSpec, fits: bool
) -> None:
    assert (planned(pair(left, right), spec) is not None) is fits
    there, here = (replace(p, labels_a=p.labels_b, labels_b=p.labels_a) for p in (left, right))
    turned = pair(here, there)
    back = replace(
        spec, ends=tuple(replace(e, labels=f.labels) for e, f in zip(spec.ends, spec.ends[::-1], strict=True))
    )
    assert (planned(turned, back) is not None) is fits, "and in the other direction"


@pytest.mark.parametrize(("left", "right", "spec", "fits"), CASES)
def test_a_way_is_taken_only_with_labels_that_it_tells_where_another_path_goes_beside(
    left: BorderPoint, right: BorderPoint, spec: ServiceSpec, fits: bool
) -> None:
    """The same in a mesh: a second path between other SAPs, over an interconnect of its own."""
    snap = pair(left, right)
    beside = snapshot(
        view("near", [sap("uni", "BER"), sap("n", "BER", to="k", peer="sp-far", decides_labels=True)],
             [entry("uni", "n", way())]),
        view("far", [sap("n", "MUC", to="k", peer="sp-near"), sap("uni", "MUC")], [entry("n", "uni", way())]),
    )  # fmt: skip
    both = replace(
        spec,
        ends=(*spec.ends, End(id="c", sap="near.uni"), End(id="d", sap="far.uni")),
        links=(*spec.links, VirtualLink(id="beside", points=("c", "d"))),
        paths=(*spec.paths, ServiceFunctionPath(id="beside", hops=("c", "d"))),
    )
    whole = snapshot(*snap.suppliers, *beside.suppliers)
    assert planned(beside, chain_spec("near.uni", "far.uni", [])) is not None
    assert (planned(whole, both) is not None) is fits


@pytest.mark.parametrize(("there", "fits"), [("", True), ("104-105", True), ("104", False), ("104,300", False)])
@pytest.mark.parametrize("beside", [False, True], ids=["chain", "mesh"])
def test_what_leaves_where_it_came_in_has_a_label_each_way(there: str, fits: bool, beside: bool) -> None:
    """A function at the far side of an interconnect, by a way that tells labels."""
    left, right = pair(way(), way()).suppliers
    left = replace(left, note=replace(left.note, matrix=(entry("uni", "n", way()), entry("uni", "BER", way()))))
    note = view("right", right.note.saps, [entry("n", "MUC", way(a=there))], [offer("y", "MUC")]).note
    spec = chain_spec("left.uni", "left.uni", ["y"])
    if beside:
        ends = (*spec.ends, End(id="c", sap="left.uni"), End(id="d", sap="left.uni"))
        links = (VirtualLink(id="in", points=("c", "g:in")), VirtualLink(id="out", points=("g:out", "d")))
        path = ServiceFunctionPath(id="beside", hops=("c", "g:in", "g:out", "d"))
        here = replace(spec.functions[0], id="g", type=kind("x"))
        spec = replace(
            spec, ends=ends, links=(*spec.links, *links), functions=(*spec.functions, here), paths=(*spec.paths, path)
        )
        left = replace(left, note=view("left", left.note.saps, left.note.matrix, [offer("x", "BER")]).note)
    found = plan(spec, snapshot(left, replace(right, note=note)), NOW)
    assert isinstance(found, Infeasible) is not fits
    if isinstance(found, Infeasible):
        assert found.reasons[0].code is ReasonCode.LABELS_EXHAUSTED


def test_ends_at_one_sap_are_told_apart_by_the_ways_that_lead_there() -> None:
    """Both ends of the service at one SAP, the first by a way that takes one label: the other gets another."""
    at = [sap("uni", "BER", labels=LabelSet.parse("100-101"))]
    known = snapshot(view("left", at, [entry("uni", "BER", way(a="100"))], [offer("y", "BER")]))
    assert planned(known, chain_spec("left.uni", "left.uni", ["y"])) is None
    both = [entry("uni", "BER", way(a="100"), way(a="101", cost=2))]
    found = planned(snapshot(view("left", at, both, [offer("y", "BER")])), chain_spec("left.uni", "left.uni", ["y"]))
    assert found is not None
    assert found.price.once == 4


def test_that_labels_bind_is_the_reason_that_is_told() -> None:
    found = plan(asked("151"), pair(way(a="150"), way()), NOW)
    assert isinstance(found, Infeasible)
    assert found.reasons[0].code is ReasonCode.LABELS_EXHAUSTED


def test_a_dearer_way_is_planned_where_the_cheaper_does_not_take_the_label() -> None:
    snap = pair(way(a="150"), way())
    left, right = snap.suppliers
    both = replace(left.note, matrix=(entry("uni", "n", way(a="150"), way(cost=5)),))
    snap = snapshot(replace(left, note=both), right)
    costs = [found.cost for label in ("150", "151") if (found := planned(snap, asked(label)))]
    assert costs == [2, 6]


def test_the_suppliers_are_offered_only_labels_that_the_planned_ways_take() -> None:
    snap, spec = pair(way(b="100-104"), way(a="103-109")), asked()
    found, mesh = planned(snap, spec), read_mesh(spec)
    assert found is not None
    assert isinstance(mesh, Mesh)
    parts = split(mesh, found, snap, (ip_network("10.0.0.0/24"),), "k")
    at_joint = [str(end.labels) for part in parts.segments for end in part.spec.ends if end.id == "x1"]
    assert at_joint == ["103-104", "103-104"]


def test_a_label_that_was_suggested_above_is_suggested_below() -> None:
    classes = [
        LabelClass(id=id, members=(), interconnects=("j",), labels=LabelSet.parse("100-101"), suggested=label)
        for id, label in (("there", 101), ("back", 100))
    ]
    for key in "abcdefgh":
        assert [c.suggested for c in suggest(classes, key)] == [101, 100]
    spec = asked()
    first, last = spec.ends
    tied = replace(spec, ends=(replace(first, labels=LabelSet.parse("100-119"), suggested_label=107), last))
    snap = pair(way(swaps=False), way())
    found, mesh = planned(snap, tied), read_mesh(tied)
    assert found is not None
    assert isinstance(mesh, Mesh)
    [joint] = split(mesh, found, snap, (ip_network("10.0.0.0/24"),), "k").classes
    assert joint.suggested == 107


def guarded() -> CapabilityNote:
    note = pair(way(), way()).suppliers[0].note
    [ways] = note.matrix
    held = replace(ways, origins=(1,), points=tuple(replace(p, isolation=("vrf",)) for p in ways.points))
    return replace(
        note, origin_tokens=("mine", "theirs"), matrix=(replace(ways, origins=(0,)),), guarded=(held,),
        functions=(replace(offer("x", "BER"), origins=(0,)),), saps=tuple(replace(s, origins=(0,)) for s in note.saps),
    )  # fmt: skip


def test_a_guarded_way_that_rests_on_us_is_left_out_and_its_words_are_ours() -> None:
    left = without_ours(guarded(), lambda token: token == "theirs")
    assert (len(left.matrix), left.guarded, left.origin_tokens) == (1, (), ("mine",))
    [ours] = Glossary(isolation={"vrf": "routed"}).ours(guarded()).guarded
    assert ours.points[0].isolation == ("routed",)


def test_a_guarded_way_is_planned_with_and_shares_limits_under_its_own_key() -> None:
    snap = pair(way(), way())
    left, right = snap.suppliers
    hidden = replace(left.note, guarded=left.note.matrix, matrix=())
    assert planned(snapshot(replace(left, note=hidden), right), asked()) is not None
    for key, fits in (("uni|n#g0", False), ("uni|n#0", True), ("uni|n", False)):
        limit = SharedLimit(id="l", limit_bps=1, coefficients={key: 1.0})
        bound = snapshot(replace(left, note=replace(hidden, shared=(limit,))), right)
        assert (planned(bound, replace(asked(), bandwidth_bps=2)) is not None) is fits


def test_a_guarded_way_that_was_announced_before_is_remembered() -> None:
    note = guarded()
    lost = replace(note, guarded=(), saps=tuple(replace(s, labels=LabelSet.parse("1")) for s in note.saps))
    hoped = most(lost, note)
    assert [(e.a, e.b, e.points) for e in hoped.guarded] == [(e.a, e.b, e.points) for e in note.guarded]
    assert all(was.free <= now.free for was, now in zip(note.saps, hoped.saps, strict=True))
