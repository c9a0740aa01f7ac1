"""What the operator is shown of a service before it is ordered."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from broker.bootstrap.planning import Planning
from broker.bootstrap.preview import preview
from broker.orders.records import Terms
from service_model.outcomes import ReasonCode
from tests.support.planning import NOW, chain_spec, entry, offer, point, sap, snapshot, view

TERMS = Terms(margin=Decimal("1.5"))
SNAPSHOT = snapshot(
    view(
        "west",
        [sap("uni", "W"), sap("ic", "W", "ic1", "sp-east", decides_labels=True)],
        [entry("uni", "ic", point(1, 10))],
    ),
    view(
        "east",
        [sap("uni", "P"), sap("ic", "P", "ic1", "sp-west")],
        [
            entry("ic", "P", point(2, 10), point(5, 1)),
            entry("P", "uni", point(2, 10), point(5, 1)),
        ],
        functions=[offer("x", "P", 3)],
    ),
)
SPEC = chain_spec("west.uni", "east.uni", ["x"], term_hours=1)


async def test_a_plan_is_shown_by_its_parts_at_cost_and_at_the_customers_price() -> None:
    shown = await preview(Planning(), SPEC, SNAPSHOT, NOW, TERMS, 2, explain=False)
    first = shown.plans[0]
    assert [(p.alias, p.supplier, p.saps) for p in first.parts] == [
        ("west", "sp-west", ("uni", "ic")),
        ("east", "sp-east", ("ic", "uni")),
    ]
    assert [(f.function, f.place) for f in first.parts[1].functions] == [("f0", "P")]
    assert sum(part.cost.over(1) for part in first.parts) == first.cost.over(1)
    assert first.price.over(1) == first.cost.over(1) * Decimal("1.5")
    assert first.interconnects == ("ic1",)
    assert (shown.rejected, shown.reasons) == ((), ())


async def test_what_would_be_better_is_shown_with_what_it_breaks() -> None:
    free = (await preview(Planning(), SPEC, SNAPSHOT, NOW, TERMS, 1, explain=True)).plans[0]
    tight = replace(SPEC, max_delay_us=free.delay_us - 1)
    shown = await preview(Planning(), tight, SNAPSHOT, NOW, TERMS, 1, explain=True)
    assert [lost.breaks for lost in shown.rejected] == [(ReasonCode.DELAY,)]
    assert shown.rejected[0].plan.cost == free.cost
    assert (await preview(Planning(), tight, SNAPSHOT, NOW, TERMS, 1, explain=False)).rejected == ()


async def test_where_nothing_can_be_planned_what_binds_and_the_nearest_are_shown() -> None:
    shown = await preview(Planning(), replace(SPEC, max_delay_us=1), SNAPSHOT, NOW, TERMS, 1, explain=True)
    assert shown.plans == ()
    assert [reason.code for reason in shown.reasons] == [ReasonCode.DELAY]
    assert [near.breaks for near in shown.nearest] == [(ReasonCode.DELAY,)]
    wrong = await preview(Planning(), replace(SPEC, links=()), SNAPSHOT, NOW, TERMS, 1, explain=True)
    assert {reason.code for reason in wrong.reasons} == {ReasonCode.INVALID_SPEC}
