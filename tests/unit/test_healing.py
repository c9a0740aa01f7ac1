"""When a live service is healed, by whom, around what, and what of it serves on: the pure parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest

from address_planner.classes import LabelClass, Member
from address_planner.labels import LabelSet
from broker.decompose.plan import Avoid, Plan, PlannedSegment, Snapshot, SupplierView
from broker.orders.ailing import PAUSES, TRIES, may, told, why_degraded
from broker.orders.anchoring import anchored, had, serves
from broker.orders.healing import GIVES_UP, asked_for, consent, heal, lose
from broker.orders.records import Care, Heals, Order, Segment, Terms
from broker.orders.split import Had
from broker.orders.states import SegmentState
from broker.orders.succession import succeeded
from broker.orders.tasks import CallKind, Env, Pause
from lower_sp_clients.versions import Verdict, judge
from service_model.healing import HEALING, HealPhase, HealPolicy
from service_model.money import Price
from service_model.outcomes import AddressingChoice, LinkChoice, Reason, ReasonCode, ServiceState
from service_model.spec import LinkAddressing, ServiceSpec
from tests.support.planning import offer, sap, view
from tests.support.sites import chain

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
GRACE = timedelta(seconds=60)
SPEC = chain("x.uni", "y.uni", "firewall", "meter")
PLAN = Plan(
    segments=(
        PlannedSegment(alias="x", functions=("f0",), places={"f0": "X"}, price=Price(), mtu=1500),
        PlannedSegment(alias="y", functions=("f1",), places={"f1": "Y"}, price=Price(), mtu=1500),
    ),
    lines={},
    price=Price(),
    cost=Decimal(0),
    delay_us=0,
)
LOST = Reason(code=ReasonCode.INFRASTRUCTURE, message="fire")


def segment(alias: str, state: SegmentState = SegmentState.ACTIVE, **more: object) -> Segment:
    made = Segment(key=f"{alias}.1", alias=alias, ref=f"ref-{alias}", spec=part(alias), state=state, version=1)
    return replace(made, **more)  # type: ignore[arg-type]


def part(alias: str) -> ServiceSpec:
    """What is handed down: one function, at its place."""
    spec = chain("uni", "nni", "firewall" if alias == "x" else "meter")
    return replace(
        spec, functions=(replace(spec.functions[0], id="f0" if alias == "x" else "f1", places=(alias.upper(),)),)
    )


def live(*segments: Segment, **more: object) -> Order:
    made = Order(
        id="o", account="ann", ref="r", version=1, state=ServiceState.DEGRADED, created=NOW, updated=NOW,
        epoch="00000000-0000-0000-0000-000000000000", digest="d", spec=SPEC, plan=PLAN, segments=segments,
        choice=AddressingChoice(), price=Price(per_hour=Decimal(2)), cost=Price(per_hour=Decimal(1)),
        hop_budget=8, call_budget=100,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def env(
    now: datetime = NOW,
    silent: tuple[str, ...] = (),
    dead: tuple[str, ...] = (),
    views: tuple[SupplierView, ...] = (),
) -> Env:
    def nothing(*_: object, **__: object) -> Reason:
        raise AssertionError("nothing is allocated here")

    return Env(
        now=now,
        snapshot=Snapshot(own_sp_id="a", number=1, suppliers=views),
        allocate=nothing,
        identify=nothing,
        lexicon=nothing,  # type: ignore[arg-type]
        silent=lambda alias: alias in silent or alias in dead,
        dead=lambda alias: alias in dead,
        heal_after=lambda alias: GRACE,
    )


def begins(order: Order, at: Env) -> Order | None:
    """The order with its healing, if it is begun now."""
    result = heal(order, at)
    found = result.order if isinstance(result, Pause) else result
    return found if found.heals > order.heals else None


def seen(order: Order, at: Env) -> Order:
    result = heal(order, at)
    return result.order if isinstance(result, Pause) else result


FAILED = segment("y", SegmentState.FAILED, reasons=(LOST,))
DEGRADED = segment("y", SegmentState.DEGRADED, reasons=(LOST,))


# when


def test_what_failed_is_healed_at_once_and_what_is_degraded_after_its_time() -> None:
    assert begins(live(segment("x"), FAILED), env()) is not None
    waiting = seen(live(segment("x"), DEGRADED), env())
    assert waiting.heals == 0
    assert begins(waiting, env(NOW + GRACE - timedelta(seconds=1))) is None
    assert begins(waiting, env(NOW + GRACE)) is not None
    result = heal(waiting, env())
    assert isinstance(result, Pause)
    assert result.wake == NOW + GRACE


def test_who_says_to_be_healing_is_waited_for_longer_and_who_tried_in_vain_not_at_all() -> None:
    at_it = replace(DEGRADED, heals=Heals(phase=HealPhase.UNDER_WAY, tries=1))
    first = replace(DEGRADED, heals=Heals(phase=HealPhase.PENDING))
    for busy in (at_it, first):
        order = seen(live(segment("x"), busy), env())
        assert begins(order, env(NOW + GRACE * (GIVES_UP - 1))) is None
        assert begins(order, env(NOW + GRACE * GIVES_UP)) is not None
    in_vain = replace(DEGRADED, heals=Heals(phase=HealPhase.PENDING, tries=1))
    assert begins(live(segment("x"), in_vain), env()) is not None


@pytest.mark.parametrize("policy", HealPolicy)
def test_only_by_itself_where_its_owner_lets_it_or_asked(policy: HealPolicy) -> None:
    order = live(segment("x"), FAILED, spec=replace(SPEC, healing=policy))
    by_itself = policy in (HealPolicy.UNSPECIFIED, HealPolicy.AUTOMATIC)
    assert may(order) is by_itself
    assert (begins(order, env()) is not None) is by_itself
    assert begins(asked_for(order, NOW), env()) is not None


def test_tries_are_bounded_and_rest_ever_longer_in_between() -> None:
    order, now, begun = live(segment("x"), FAILED), NOW, []
    while (found := begins(order, env(now))) is not None or now < NOW + timedelta(days=1):
        if found is not None:
            begun.append(now)
            assert found.healing is not None
            order = replace(found, healing=replace(found.healing, state=ServiceState.REFUSED, segments=()))
        now += timedelta(seconds=5)
    assert [b - a for a, b in pairwise(begun)] == list(PAUSES[: TRIES - 1])
    assert begins(asked_for(order, NOW), env(now)) is not None, "its owner may ask again"


def test_what_was_whole_for_an_hour_is_tried_as_often_as_before() -> None:
    worn = live(segment("x"), FAILED, care=Care(tries=TRIES, last=NOW))
    assert begins(worn, env(NOW + PAUSES[-1] - timedelta(seconds=1))) is None
    assert begins(worn, env(NOW + PAUSES[-1])) is not None


@pytest.mark.parametrize("state", [ServiceState.RESERVING, ServiceState.RESERVED, ServiceState.COMMITTING])
def test_a_newer_version_of_its_owners_goes_first(state: ServiceState) -> None:
    newer = replace(live(), version=2, newer=True, state=state, segments=())
    assert begins(live(segment("x"), FAILED, beside=newer), env()) is None
    refused = replace(newer, state=ServiceState.REFUSED)
    assert begins(live(segment("x"), FAILED, beside=refused), env()) is not None


def test_what_ends_now_is_not_healed() -> None:
    order = live(segment("x"), FAILED, spec=replace(SPEC, end_time=NOW))
    assert heal(order, env()) is order
    assert consent(asked_for(order, NOW), env()) == asked_for(order, NOW)


# what is lost


def test_all_that_a_dead_supplier_has_is_lost_and_nothing_else() -> None:
    order = live(segment("x"), segment("y"), state=ServiceState.ACTIVE)
    assert lose(order, env(silent=("y",))) is order
    result = lose(order, env(dead=("y",)))
    assert isinstance(result, Order)
    assert [s.state for s in result.segments] == [SegmentState.ACTIVE, SegmentState.FAILED]
    assert result.segments[1].reasons[0].code is ReasonCode.SUPPLIER_UNREACHABLE


def test_a_loss_teaches_what_it_names_and_a_dead_supplier_is_closed_as_a_whole() -> None:
    named = begins(live(segment("x"), FAILED), env())
    assert named is not None
    assert named.healing is not None
    assert named.healing.avoid == Avoid(placings=frozenset({("y", "f1", "Y")}))
    sold = view("y", [sap("uni", "Y"), sap("nni", "Y")], [], [offer("meter", "Y")])
    closed = begins(live(segment("x"), FAILED), env(dead=("y",), views=(sold,)))
    assert closed is not None
    assert closed.healing is not None
    assert closed.healing.avoid.saps == {("y", "uni"), ("y", "nni")}
    assert closed.healing.avoid.functions == {("y", "f0"), ("y", "f1")}


def test_nothing_new_is_asked_of_who_is_silent_and_what_it_has_stays() -> None:
    elsewhere = view("z", [sap("uni", "Z")], [], [offer("meter", "Z")])
    found = begins(live(segment("x"), FAILED), env(silent=("z", "x"), views=(elsewhere, view("x", [], [], []))))
    assert found is not None
    assert found.healing is not None
    assert ("z", "uni") in found.healing.avoid.saps
    assert ("x", "f1") in found.healing.avoid.functions
    assert ("x", "f0") not in found.healing.avoid.functions


def test_every_function_of_what_is_lost_is_named_where_its_supplier_names_none() -> None:
    both = replace(FAILED, spec=chain("uni", "nni", "meter", "meter"))
    assert [reason.subject for reason in why_degraded(live(segment("x"), both), env())] == ["f0", "f1"]
    one = replace(both, reasons=(replace(LOST, subject="f1"),))
    assert [reason.subject for reason in why_degraded(live(segment("x"), one), env())] == ["f1"]


# the order that heals


def test_a_healing_takes_no_version_of_its_owners_and_no_ref_that_was_used() -> None:
    order = begins(live(segment("x"), FAILED), env())
    assert order is not None
    fresh = order.healing
    assert fresh is not None
    assert (fresh.version, fresh.mark, order.mark) == (1, "1.1", "1")
    assert [s.key for s in fresh.segments] == ["x.1"], "what is lost is not built on"
    assert fresh.lost == {"ref-y"}
    again = begins(replace(order, healing=replace(fresh, state=ServiceState.REFUSED)), env(NOW + PAUSES[0]))
    assert again is not None
    assert again.healing is not None
    assert again.healing.mark == "1.2"


def test_a_version_under_a_ref_is_asked_for_once_whoever_asks() -> None:
    asked = replace(segment("x", SegmentState.RELEASED), version=4, stands=1)
    newer = replace(live(asked), version=2, newer=True, state=ServiceState.REFUSED)
    order = begins(live(segment("x"), FAILED, beside=newer), env())
    assert order is not None
    assert order.healing is not None
    assert order.healing.segments[0].next_version == 5


def test_its_owners_next_version_is_judged_as_if_nothing_had_happened_and_has_to_wait_while_it_is_healed() -> None:
    order = live(segment("x"), FAILED)
    begun = begins(order, env())
    assert begun is not None
    assert begun.healing is not None
    now = judge(begun.known(), 2, "other")
    assert isinstance(now, Reason)
    assert (now.code, now.retryable) == (ReasonCode.MODIFICATION_NOT_OFFERED, True)
    after = succeeded(begun, replace(begun.healing, state=ServiceState.ACTIVE))
    for known in (order.known(), after.known()):
        assert judge(known, 1, "d") is Verdict.REPEAT
        assert judge(known, 2, "other") is Verdict.MODIFY
        reused = judge(known, 1, "other")
        assert isinstance(reused, Reason)
        assert reused.code is ReasonCode.KEY_REUSED
    assert (after.version, after.healed, after.heals, after.healing) == (1, 1, 1, None)


def test_it_may_cost_us_what_its_owner_pays_and_as_much_more_as_the_agreement_says() -> None:
    hours = SPEC.term_hours
    for loss, most in ((Decimal(0), Decimal(2 * hours)), (Decimal("0.5"), Decimal(3 * hours))):
        order = begins(live(segment("x"), FAILED, terms=Terms(heal_loss=loss)), env())
        assert order is not None
        assert order.healing is not None
        quoted = order.healing.quoted
        assert quoted is not None
        assert (quoted.price, quoted.most(hours)) == (order.price, most)
        dearer = Price(per_hour=Decimal(3))
        again = replace(order.healing, state=ServiceState.ACTIVE, cost=dearer, plan=PLAN, choice=AddressingChoice())
        healed = replace(succeeded(order, again), price=order.price, segments=(segment("x"), FAILED))
        twice = begins(healed, env(NOW + PAUSES[0]))
        assert twice is not None
        assert twice.healing is not None
        assert twice.healing.quoted is not None
        assert twice.healing.quoted.most(hours) == most, "it does not grow with each healing"


def test_who_refused_a_change_is_asked_under_its_ref_again_and_nothing_is_planned_around_it() -> None:
    refused = replace(FAILED, version=3, lives=2)
    order = begins(live(segment("x"), refused), env())
    assert order is not None
    assert order.healing is not None
    there = order.healing.segments[1]
    assert (there.ref, there.stands, there.next_version, there.state) == ("ref-y", 2, 4, SegmentState.RELEASED)
    assert order.healing.avoid == Avoid()
    gone = lose(live(segment("x"), refused), env(dead=("y",)))
    assert isinstance(gone, Order)
    assert gone.segments[1].lives == 0, "a dead supplier delivers nothing"


# consent


def test_a_yes_goes_down_to_suppliers_that_wait_for_one_and_let_themselves_be_asked() -> None:
    waits = replace(DEGRADED, heals=Heals(phase=HealPhase.WAITING))
    order = live(segment("x"), waits, spec=replace(SPEC, healing=HealPolicy.ASK))
    plain, asks = view("y", [], [], []), view("y", [], [], [])
    asks = replace(asks, note=replace(asks.note, api_features=(HEALING,)))
    assert consent(order, env(views=(asks,))) is order
    agreed = asked_for(order, NOW)
    assert consent(agreed, env(views=(plain,))) is agreed, "a release before would not know the call"
    result = consent(agreed, env(views=(asks,)))
    assert isinstance(result, Pause)
    assert [(call.kind, call.segment) for call in result.calls] == [(CallKind.HEAL, "y.1")]
    heard = agreed.with_segment(replace(waits, consented=True))
    assert consent(heard, env(views=(asks,))) is heard, "and once"


# what its owner is told


def test_its_owner_is_told_how_far_it_is() -> None:
    failed = live(segment("x"), FAILED)
    assert told(live(segment("x"), segment("y"), state=ServiceState.ACTIVE), True) is None
    cases: list[tuple[Order, HealPhase]] = [
        (failed, HealPhase.PENDING),
        (replace(failed, spec=replace(SPEC, healing=HealPolicy.ASK)), HealPhase.WAITING),
        (replace(failed, spec=replace(SPEC, healing=HealPolicy.NONE)), HealPhase.LEFT),
        (replace(failed, care=Care(tries=TRIES, last=NOW)), HealPhase.GIVEN_UP),
    ]
    begun = begins(failed, env())
    assert begun is not None
    cases.append((begun, HealPhase.UNDER_WAY))
    for order, phase in cases:
        found = told(order, True)
        assert found is not None
        assert (found.phase, found.broken) == (phase, ("y.1",))
        hidden = told(order, False)
        assert hidden is not None
        assert hidden.broken == ()


# what serves on


def chosen(link: str, prefix: str, **addresses: str) -> LinkChoice:
    at = {point.replace("_", ":"): ip_address(text) for point, text in addresses.items()}
    return LinkChoice(link=link, prefix=ip_network(prefix), addresses=at, mtu=1500)


CHOICE = AddressingChoice(
    labels={"a": 7, "b": 8},
    links=(
        chosen("l0", "10.0.0.0/31", a="10.0.0.0", f0_in="10.0.0.1"),
        chosen("l1", "10.0.0.2/31", f0_out="10.0.0.2", b="10.0.0.3"),
    ),
)
ONE = chain("uni", "nni", "firewall")
HAD = segment("x", spec=ONE, choice=CHOICE, delay_us=900)


def stated(spec: ServiceSpec, prefix: str) -> ServiceSpec:
    addressing = LinkAddressing(prefix=ip_network(prefix))
    return replace(spec, links=tuple(replace(x, addressing=addressing) if x.id == "l0" else x for x in spec.links))


@pytest.mark.parametrize(
    ("asked", "serves_on"),
    [
        (lambda: replace(ONE, name="in other words"), True),
        (lambda: stated(ONE, "10.0.0.0/31"), True),
        (lambda: stated(ONE, "10.0.9.0/31"), False),
        (lambda: replace(ONE, max_delay_us=900), True),
        (lambda: replace(ONE, max_delay_us=899), False),
        (lambda: replace(ONE, bandwidth_bps=5), False),
        (lambda: replace(ONE, ends=(ONE.ends[0], replace(ONE.ends[1], sap="other"))), False),
        (lambda: replace(ONE, ends=(ONE.ends[0], replace(ONE.ends[1], labels=LabelSet.of([8])))), True),
        (lambda: replace(ONE, ends=(ONE.ends[0], replace(ONE.ends[1], labels=LabelSet.of([9])))), False),
        (lambda: replace(ONE, min_availability=0.5), False),
    ],
)
def test_a_live_segment_serves_on_where_what_was_chosen_keeps_what_is_asked(
    asked: Callable[[], ServiceSpec], serves_on: bool
) -> None:
    assert serves(HAD, asked()) is serves_on


def test_a_service_is_asked_for_again_with_all_that_its_owner_was_told() -> None:
    order = live(HAD, spec=ONE, choice=CHOICE)
    asked = anchored(order, ONE, order, Snapshot(own_sp_id="a", number=1, suppliers=()))
    assert [end.labels for end in asked.ends] == [LabelSet.of([7]), LabelSet.of([8])]
    assert [link.addressing.prefix for link in asked.links] == [x.prefix for x in CHOICE.links]
    assert [r.point for link in asked.links for r in link.addressing.reserved] == ["a", "b"], (
        "and ports, where that is known"
    )


def test_the_labels_where_something_was_lost_are_others_if_there_are_any() -> None:
    joint = LabelClass(
        id="data1",
        members=(Member(segment="x.1", end="x1"), Member(segment="y.1", end="x1")),
        interconnects=("ic",),
        labels=LabelSet(((7, 9),)),
    )
    both = AddressingChoice(labels={"x1": 7})
    order = live(replace(segment("x"), choice=both), replace(FAILED, choice=both), classes=(joint,))
    begun = begins(order, env())
    assert begun is not None
    assert begun.healing is not None
    found = had(begun, begun.healing)
    assert found.left == {"ic": LabelSet.of([7])}
    assert found.suggested(joint).labels == LabelSet(((8, 9),))
    only = replace(joint, labels=LabelSet.of([7]))
    assert found.suggested(only).labels == LabelSet.of([7])
    assert Had().suggested(joint) == joint
