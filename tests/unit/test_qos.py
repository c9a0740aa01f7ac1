"""Classes of service and availability: the numbers bind, at every level, and a class says whose treatment it is."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from broker.decompose.derive import derive
from broker.decompose.mesh import Mesh, read_mesh
from broker.decompose.plan import Infeasible, Plan, Snapshot, SupplierView
from broker.decompose.search import plan
from broker.orders.split import split
from capability_registry.glossary import Glossary
from service_model.outcomes import ReasonCode
from service_model.qos import QOS, QosClass, bound
from service_model.spec import ServiceSpec
from tests.support.planning import (
    NOW,
    chain_spec,
    entry,
    mesh_spec,
    offer,
    point,
    random_snapshot,
    sap,
    snapshot,
    view,
)

GOLD = QosClass(name="gold", max_delay_us=100, min_availability=0.9)
FAST = QosClass(name="fast", max_delay_us=40)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"qos": "gold"}, (100, 0.9)),
        ({"qos": "gold", "max_delay_us": 30, "min_availability": 0.5}, (30, 0.9)),
        ({"qos": "gold", "max_delay_us": 300, "min_availability": 0.95}, (100, 0.95)),
        ({"qos": "fast"}, (40, None)),
        ({"max_delay_us": 7}, (7, None)),
    ],
)
def test_of_a_class_and_its_own_bounds_an_order_has_the_tighter(
    own: dict[str, Any], expected: tuple[object, ...]
) -> None:
    asked = bound(chain_spec("a", "b", **own), (GOLD, FAST))
    assert (asked.max_delay_us, asked.min_availability, asked.qos) == (*expected, own.get("qos"))


def line(**right: Any) -> Snapshot:
    """`left` and `right` joined, each with a cheap way that often fails and a dear one that seldom does."""
    views = []
    for name, other in (("left", "right"), ("right", "left")):
        saps = [sap("uni", "BER"), sap("n", "BER", to="j", peer=f"sp-{other}", decides_labels=name == "left")]
        ways = entry("uni", "n", point(1, 10, availability=0.9), point(5, 10, availability=0.99))
        more = right if name == "right" else {}
        views.append(view(name, saps, [ways], **more))
    return snapshot(*views)


def asked(least: float | None, **more: Any) -> ServiceSpec:
    return chain_spec("left.uni", "right.uni", min_availability=least, **more)


def planned(spec: ServiceSpec, snap: Snapshot) -> Plan:
    found = plan(spec, snap, NOW)
    assert not isinstance(found, Infeasible), found
    return found[0]


@pytest.mark.parametrize(("least", "cost"), [(None, 2), (0.81, 2), (0.82, 6), (0.891, 6), (0.9, 10), (0.9801, 10)])
def test_the_cheapest_that_works_as_much_as_asked_is_planned(least: float | None, cost: int) -> None:
    best = planned(asked(least), line())
    assert best.cost == cost
    parts = [segment.availability for segment in best.segments]
    if least is None:
        assert parts == [None, None]
    else:
        assert math.prod(p for p in parts if p is not None) >= least * (1 - 1e-9)


def test_what_nobody_can_keep_is_refused_with_what_there_is() -> None:
    answer = plan(asked(0.99), line(), NOW)
    assert isinstance(answer, Infeasible)
    assert [(r.code, r.subject) for r in answer.reasons] == [(ReasonCode.AVAILABILITY, "p")]
    assert answer.reasons[0].message == "availability: no way has 0.99; the best without has 0.81"


def test_who_does_not_know_of_availability_is_planned_with_only_where_none_is_asked() -> None:
    former = line(api_features=())
    answer = plan(asked(0.5), former, NOW)
    assert isinstance(answer, Infeasible)
    assert [(r.code, r.subject) for r in answer.reasons] == [(ReasonCode.FEATURE_NOT_OFFERED, QOS)]
    planned(bound(asked(None, qos="fast"), (FAST,)), former)


@pytest.mark.parametrize("block", range(4))
def test_whatever_a_note_promises_of_availability_is_planned_below(block: int) -> None:
    promised = 0
    for seed, fraction in product(range(block * 12, block * 12 + 12), (0.2, 0.6)):
        rng = random.Random(seed)
        snap = snapshot(*(_failing(v, rng) for v in random_snapshot(seed, 3, labels=40).suppliers))
        note = derive(snap, "middle", 1, "above", NOW, timedelta(minutes=9), Decimal(1), "EUR", "mine", 120, (QOS,))
        above = snapshot(
            SupplierView(alias="m", sp_id="middle", note=note, local=False, saps={s.id: s.id for s in note.saps})
        )
        spec = chain_spec("s0.uni", "s2.uni", [rng.choice("xy")], term_hours=1, min_availability=fraction)
        upper = plan(spec, above, NOW, alternatives=1)
        if isinstance(upper, Infeasible):
            continue
        (segment,) = upper[0].segments
        pinned = tuple(replace(f, places=(segment.places[f.id],)) for f in spec.functions)
        told = replace(spec, functions=pinned, min_availability=segment.availability, max_price=upper[0].cost)
        assert not isinstance(plan(told, snap, NOW), Infeasible), seed
        promised += 1
    assert promised > 3


def _failing(v: SupplierView, rng: random.Random) -> SupplierView:
    matrix = tuple(
        replace(e, points=tuple(replace(p, availability=rng.choice((0.8, 0.9, 0.99, 1.0))) for p in e.points))
        for e in v.note.matrix
    )
    return replace(v, note=replace(v.note, matrix=matrix, api_features=(QOS,)))


# --- a supplier's class ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "theirs", "segment", "named"),
    [
        ({}, QosClass(name="gold", max_delay_us=80, min_availability=0.9), (50, 0.95), "gold"),
        ({"premium": "gold"}, QosClass(name="premium", max_delay_us=80, min_availability=0.9), (50, 0.95), "premium"),
        ({"premium": "gold"}, QosClass(name="gold", max_delay_us=80, min_availability=0.9), (50, 0.95), None),
        ({"gold": "fast"}, QosClass(name="gold", max_delay_us=80, min_availability=0.9), (50, 0.95), None),
        ({}, QosClass(name="silver", max_delay_us=80, min_availability=0.9), (50, 0.95), None),
        ({}, QosClass(name="gold", max_delay_us=120, min_availability=0.9), (50, 0.95), None),  # promises less than ours
        ({}, QosClass(name="gold", min_availability=0.9), (50, 0.95), None),
        ({}, QosClass(name="gold", max_delay_us=80, min_availability=0.8), (50, 0.95), None),
        ({}, QosClass(name="gold", max_delay_us=40, min_availability=0.9), (50, 0.95), None),  # would ask more of it
        ({}, QosClass(name="gold", max_delay_us=80, min_availability=0.96), (50, 0.95), None),
    ],
)  # fmt: skip
def test_a_supplier_s_class_is_named_where_it_is_ours_and_asks_no_more(
    words: dict[str, str], theirs: QosClass, segment: tuple[int, float], named: str | None
) -> None:
    found = Glossary(qos=words).treatment(GOLD, (theirs,), *segment)
    assert (found.name if found else None) == named


def test_each_segment_gets_its_part_of_the_bounds_and_the_class_of_who_has_one() -> None:
    theirs = QosClass(name="premium", max_delay_us=90, min_availability=0.92)
    snap = line(qos_classes=(theirs,), api_features=(QOS,))
    left, right = snap.suppliers
    snap = snapshot(left, replace(right, glossary=Glossary(qos={"premium": "gold"})))
    spec = bound(asked(None, qos="gold"), (GOLD,))
    mesh = read_mesh(spec)
    assert isinstance(mesh, Mesh)
    parts = split(mesh, planned(spec, snap), snap, (), "k", (GOLD,)).segments
    assert [(p.spec.qos, p.spec.max_delay_us) for p in parts] == [(None, 50), ("premium", 50)]
    assert all(QOS in p.spec.required_features for p in parts)
    assert math.prod(p.spec.min_availability or 0 for p in parts) == pytest.approx(0.9)


def test_of_a_service_that_branches_all_that_it_takes_counts() -> None:
    """One end at `left`, a function there, and two ends behind it: each way is taken once, whatever paths go along it."""
    saps = [sap(id, "BER") for id in ("x", "y", "z")]
    points = (point(1, 10, availability=0.9), point(5, 10, availability=0.99))
    ways = [entry(id, "BER", *points) for id in ("x", "y", "z")]
    snap = snapshot(view("left", saps, ways, [offer("x", "BER", cost=0)]))
    ends = {"a": "left.x", "b": "left.y", "c": "left.z"}
    costs = []
    for least in (0.729, 0.8, 0.88, 0.97):
        spec = mesh_spec(ends, {"f": "x"}, "a f b", "a f c", min_availability=least)
        best = planned(spec, snap)
        (segment,) = best.segments
        assert segment.availability == pytest.approx(least)
        costs.append(best.cost)
    assert costs == [3, 7, 11, 15]
    assert isinstance(plan(replace(spec, min_availability=0.98), snap, NOW), Infeasible)
