"""What a refusal teaches: of what it names and no more, so that all the rest is still planned with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.decompose.plan import Avoid
from broker.decompose.search import best
from broker.orders import learning
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import ServiceSpec
from tests.support.planning import NOW, chain_spec, entry, offer, point, sap, snapshot, view

SPEC = chain_spec("m.u", "m.w", ["x"])
SEGMENT = replace(
    SPEC,
    ends=tuple(replace(e, sap=e.sap.removeprefix("m.")) for e in SPEC.ends),
    functions=tuple(replace(f, places=("P",)) for f in SPEC.functions),
)
TWO_PLACES = snapshot(
    view(
        "m",
        [sap("u", "P"), sap("w", "P")],
        [entry(end, place, point(cost, 1)) for end in ("u", "w") for place, cost in (("P", 1), ("Q", 5))],
        [offer("x", "P"), offer("x", "Q")],
    )
)


def taught(subject: str, spec: ServiceSpec = SEGMENT) -> Avoid:
    return learning.refused("m", spec, [Reason(code=ReasonCode.BANDWIDTH, message="no", subject=subject)])


def where(avoid: Avoid) -> str | None:
    plan = best(SPEC, TWO_PLACES, NOW, avoid)
    return None if plan is None else plan.segments[0].places["f0"]


def test_a_function_is_not_planned_at_its_place_again_but_at_another_of_the_same_supplier() -> None:
    assert where(Avoid()) == "P"
    assert taught("f0") == Avoid(placings=frozenset({("m", "f0", "P")}))
    assert where(taught("f0")) == "Q"


@pytest.mark.parametrize("link", [link.id for link in SPEC.links])
def test_the_ways_of_a_line_are_not_planned_again_in_either_direction(link: str) -> None:
    assert len(taught(link).ways) == 1
    assert where(taught(link)) == "Q"
    turned = Avoid(ways=frozenset((alias, b, a) for alias, a, b in taught(link).ways))
    assert where(turned) == "Q"


def test_a_sap_is_not_planned_again() -> None:
    assert taught("a") == Avoid(saps=frozenset({("m", "u")}))
    assert where(taught("a")) is None


def test_what_names_nothing_teaches_of_all_that_the_segment_has() -> None:
    assert taught("a word of theirs") == Avoid(placings=frozenset({("m", "f0", "P")}))
    anywhere = replace(SEGMENT, functions=tuple(replace(f, places=()) for f in SEGMENT.functions))
    assert taught("", anywhere) == Avoid(functions=frozenset({("m", "f0")}))
    transit = chain_spec("u", "w", [])
    assert taught("", transit) == Avoid(ways=frozenset({("m", "u", "w")}))
    inside = replace(SEGMENT, ends=tuple(replace(e, sap="u") for e in SEGMENT.ends))
    assert taught("a", inside).saps == {("m", "u")}


def test_who_broke_a_constraint_is_left_for_all_that_the_segment_has() -> None:
    broken = [Reason(code=ReasonCode.CONSTRAINT_VIOLATED, message="no", subject="a")]
    assert learning.refused("m", SEGMENT, broken) == Avoid(functions=frozenset({("m", "f0")}))
