"""How often something was lost lately, and when that is too often: pure, with the clock as an argument."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.decompose.plan import Avoid
from broker.orders.ailing import TRIES, told, why_degraded
from broker.orders.delivering import observed, vanished
from broker.orders.flapping import LONGEST, MOST, Flapping, lost
from broker.orders.healing import heal, lose
from broker.orders.records import ORDER, Care, Heals, Order
from broker.orders.states import SegmentState
from broker.orders.succession import succeeded, with_healing
from broker.orders.tasks import Pause
from service_model.healing import HealPhase, HealPolicy
from service_model.outcomes import Healing, Reason, ReasonCode, ServiceState, ServiceStatus
from tests.support.sites import chain
from tests.unit.test_healing import GRACE, NOW, SPEC, begins, env, live, segment

gaps = st.lists(st.timedeltas(timedelta(seconds=-60), timedelta(hours=3)), max_size=60)
limits = st.builds(
    Flapping,
    losses=st.integers(1, MOST),
    within=st.timedeltas(timedelta(minutes=1), LONGEST),
)
later = st.timedeltas(timedelta(0), 2 * LONGEST)


def recorded(gaps: list[timedelta]) -> tuple[tuple[datetime, ...], datetime]:
    """The record after losses with these gaps between them, some of a clock that was put back, and the last instant."""
    losses, instants = tuple[datetime, ...](), [NOW + sum(gaps[: n + 1], timedelta()) for n in range(len(gaps))]
    for at in instants:
        losses = lost(losses, at)
    return losses, instants[-1] if instants else NOW


@given(gaps)
def test_the_record_is_in_order_and_bounded_whatever_happens(gaps: list[timedelta]) -> None:
    losses, last = recorded(gaps)
    assert list(losses) == sorted(losses)
    assert len(losses) <= MOST
    assert not gaps or losses[-1] == last, "nothing is of a time to come"
    assert all(last - loss < LONGEST for loss in losses)


@given(gaps, limits, later, later)
def test_with_time_alone_it_only_becomes_less(
    gaps: list[timedelta], limit: Flapping, soon: timedelta, then: timedelta
) -> None:
    losses, now = recorded(gaps)
    assert limit.lately(losses, now + soon) >= limit.lately(losses, now + soon + then)
    assert limit.lately(losses, now + LONGEST) == 0, "it is forgotten"


@given(gaps, limits, later)
def test_one_more_loss_never_makes_it_less(gaps: list[timedelta], limit: Flapping, soon: timedelta) -> None:
    losses, now = recorded(gaps)
    now += soon
    before, after = limit.lately(losses, now), limit.lately(lost(losses, now), now)
    assert after == min(before + 1, MOST)


@given(gaps, limits, later)
def test_it_is_flapping_until_the_instant_that_is_told_and_not_from_then_on(
    gaps: list[timedelta], limit: Flapping, soon: timedelta
) -> None:
    losses, now = recorded(gaps)
    now += soon
    until = limit.until(losses, now)
    assert (until is not None) == (limit.lately(losses, now) >= limit.losses)
    if until is not None:
        assert until > now
        assert limit.until(losses, until - timedelta(microseconds=1)) == until
        assert limit.until(losses, until) is None


@given(gaps)
def test_a_limit_of_nought_is_never_reached(gaps: list[timedelta]) -> None:
    losses, now = recorded(gaps)
    assert Flapping(losses=0).until(losses, now) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3600, "within an hour"),
        (7200, "within 2 hours"),
        (60, "within a minute"),
        (5400, "within 90 minutes"),
        (90, "within 90 seconds"),
    ],
)
def test_a_time_is_told_as_people_say_it(seconds: int, text: str) -> None:
    assert str(Flapping(within=timedelta(seconds=seconds))) == text


# what counts


def says(state: ServiceState, healing: Healing | None = None, version: int = 1) -> ServiceStatus:
    return ServiceStatus(ref="ref-y", version=version, state=state, healing=healing)


def after(order: Order, *seen: ServiceStatus, at: datetime = NOW) -> Order:
    for status in seen:
        order = observed(order, "y", "ref-y", status, at)
    return order


WHOLE = live(segment("x"), segment("y"), state=ServiceState.ACTIVE)
DOWN, UP = says(ServiceState.DEGRADED), says(ServiceState.ACTIVE)
AT_IT = says(ServiceState.DEGRADED, Healing(phase=HealPhase.UNDER_WAY))


def test_a_loss_is_what_worked_and_does_not_any_more() -> None:
    order = after(WHOLE, DOWN, says(ServiceState.FAILED), DOWN, UP, UP, DOWN)
    assert [s.losses for s in order.segments] == [(), (NOW, NOW)]
    assert vanished(after(order, UP), "y", "ref-y", NOW).segments[1].losses == (NOW, NOW, NOW)
    unheard = lose(after(order, UP), env(dead=("y",)))
    assert isinstance(unheard, Order)
    assert len(unheard.segments[1].losses) == 3
    assert unheard.segments[0].losses == ()
    assert after(WHOLE, says(ServiceState.DEGRADED, version=7)) == WHOLE, "and nothing that is told of another version"


def test_what_its_supplier_bought_elsewhere_begins_anew() -> None:
    order = after(WHOLE, DOWN, UP, AT_IT)
    assert len(order.segments[1].losses) == 2
    assert after(order, UP).segments[1].losses == ()
    working = says(ServiceState.ACTIVE, Healing(phase=HealPhase.UNDER_WAY))
    assert len(after(order, working).segments[1].losses) == 2, "it is at it yet"
    assert after(order, working, UP).segments[1].losses == ()
    in_vain = says(ServiceState.ACTIVE, Healing(phase=HealPhase.PENDING, tries=1))
    assert len(after(order, in_vain, UP).segments[1].losses) == 2


def test_losses_outlive_a_change_of_what_stays_and_not_what_is_replaced() -> None:
    order = after(WHOLE, DOWN, UP)
    fresh = replace(live(version=2, state=ServiceState.RESERVING), newer=True, healed=1)
    healing = with_healing(order, replace(fresh, version=1)).healing
    assert healing is not None
    order = after(order, DOWN, UP, at=NOW + GRACE)
    x, y = healing.segments
    changed = replace(y, version=2, stands=1, wanted=True, state=SegmentState.ACTIVE)
    elsewhere = replace(segment("z"), wanted=True)
    parts = (replace(x, wanted=True), changed, elsewhere)
    made = succeeded(order, replace(healing, segments=parts, state=ServiceState.ACTIVE))
    assert {s.alias: s.losses for s in made.segments} == {"x": (), "y": (NOW, NOW + GRACE), "z": ()}


def test_an_order_of_a_release_before_is_read_as_never_lost() -> None:
    order = after(WHOLE, DOWN)
    document: dict[str, Any] = ORDER.dump_python(order, mode="json")
    assert ORDER.validate_python(document) == order
    for part in document["segments"]:
        del part["losses"]
    del document["care"]["early"]
    old = ORDER.validate_python(document)
    assert [s.losses for s in old.segments] == [(), ()]
    assert old.care == Care()


# what follows


OFTEN = tuple(NOW - timedelta(minutes=n) for n in (30, 20, 10, 0))
FLAPPING = segment("y", losses=OFTEN)
ENDS = NOW + timedelta(minutes=30)


def test_what_was_lost_too_often_counts_as_lost_while_it_works_and_until_it_has_held() -> None:
    order = live(segment("x"), FLAPPING, state=ServiceState.ACTIVE)
    begun = begins(order, env())
    assert begun is not None
    assert begun.healing is not None
    assert begun.healing.lost == {"ref-y"}
    assert begun.state is ServiceState.ACTIVE
    assert heal(order, env(ENDS)) is order
    seldom = live(segment("x"), replace(FLAPPING, losses=OFTEN[1:]), state=ServiceState.ACTIVE)
    assert heal(seldom, env()) is seldom
    off = replace(env(), flapping=lambda alias: Flapping(losses=0))
    assert heal(order, off) is order


def test_only_what_flapped_is_kept_off_also_while_it_works() -> None:
    """What was said of the last loss is known when the segment is back."""
    both = chain("uni", "nni", "meter", "meter")
    two = replace(both, functions=tuple(replace(f, places=("Y",)) for f in both.functions))
    order = live(segment("x"), replace(FLAPPING, losses=OFTEN[1:], spec=two), state=ServiceState.ACTIVE)
    fire = Reason(code=ReasonCode.INFRASTRUCTURE, message="fire", subject="f1")
    order = after(order, replace(DOWN, reasons=(fire,)), UP)
    begun = begins(order, env())
    assert begun is not None
    assert begun.healing is not None
    assert begun.healing.avoid == Avoid(placings=frozenset({("y", "f1", "Y")}))
    (told,) = why_degraded(order, env())
    assert told.subject == "f1"
    healed = after(order, AT_IT, UP)
    assert (healed.segments[1].reasons, healed.segments[1].losses) == ((), ())


def test_what_is_left_as_it_is_is_looked_at_again_when_it_has_held_for_long_enough() -> None:
    order = live(segment("x"), FLAPPING, state=ServiceState.ACTIVE, spec=replace(SPEC, healing=HealPolicy.NONE))
    result = heal(order, env())
    assert isinstance(result, Pause)
    assert result.wake == ENDS
    shown = told(result.order, True)
    assert shown is not None
    assert (shown.phase, shown.broken) == (HealPhase.LEFT, ("y.1",))
    whole = heal(replace(result.order, reasons=why_degraded(order, env())), env(ENDS))
    assert isinstance(whole, Order)
    assert (told(whole, True), whole.reasons, whole.care.broken) == (None, (), {})


def test_how_often_it_failed_is_told_besides_what_is_broken() -> None:
    (reason,) = why_degraded(live(segment("x"), FLAPPING, state=ServiceState.ACTIVE), env())
    assert (reason.code, reason.segment, reason.message) == (
        ReasonCode.SEGMENT_FAILED,
        "y.1",
        "segment y.1 failed 4 times within an hour",
    )
    gone = Reason(code=ReasonCode.INFRASTRUCTURE, message="fire")
    broken = replace(FLAPPING, state=SegmentState.DEGRADED, reasons=(gone,))
    first, second = why_degraded(live(segment("x"), broken), env())
    assert (first.message, second.message) == ("segment y.1 failed: the infrastructure failed", reason.message)


@pytest.mark.parametrize("state", [SegmentState.ACTIVE, SegmentState.DEGRADED])
def test_who_says_to_heal_it_is_waited_for_and_who_says_nothing_is_not(state: SegmentState) -> None:
    whole = ServiceState.ACTIVE if state is SegmentState.ACTIVE else ServiceState.DEGRADED
    for heals, at_once in (
        (None, True),
        (Heals(phase=HealPhase.UNDER_WAY), False),
        (Heals(phase=HealPhase.PENDING), False),
        (Heals(phase=HealPhase.PENDING, tries=1), True),
        (Heals(phase=HealPhase.WAITING), False),
    ):
        order = live(segment("x"), replace(FLAPPING, state=state, heals=heals), state=whole)
        assert (begins(order, env()) is not None) is at_once, heals


def test_who_is_healed_by_its_supplier_tells_that_it_is_under_way() -> None:
    """So that whoever is above knows that it was replaced, and not only back again."""
    at_it = replace(FLAPPING, heals=Heals(phase=HealPhase.UNDER_WAY))
    order = live(segment("x"), at_it, state=ServiceState.ACTIVE, care=Care(broken={"y.1": NOW}))
    shown = told(order, True)
    assert shown is not None
    assert shown.phase is HealPhase.UNDER_WAY


def test_tries_for_what_came_back_are_not_counted_against_what_does_not() -> None:
    worn = Care(tries=TRIES, last=NOW, early=True, broken={"y.1": NOW})
    working = live(segment("x"), FLAPPING, state=ServiceState.ACTIVE, care=worn)
    assert begins(working, env(NOW + timedelta(minutes=20))) is None
    just = replace(FLAPPING, state=SegmentState.DEGRADED)
    assert begins(live(segment("x"), just, care=worn), env()) is None
    found = begins(live(segment("x"), just, care=worn), env(NOW + GRACE))
    assert found is not None
    assert (found.care.tries, found.care.early) == (1, False)
    lasting = replace(worn, early=False)
    assert begins(live(segment("x"), just, care=lasting), env(NOW + GRACE)) is None


@given(st.lists(st.timedeltas(timedelta(seconds=1), timedelta(minutes=30)), max_size=40))
def test_however_it_flaps_tries_are_bounded(gaps: list[timedelta]) -> None:
    """Nothing else can be had: each healing is refused at once, and what flaps is back at once."""
    order, now, begun = WHOLE, datetime(2026, 1, 1, 12, tzinfo=UTC), 0
    for gap in gaps:
        now += gap
        order = replace(after(order, DOWN, UP, at=now), state=ServiceState.ACTIVE)
        if (found := begins(order, env(now))) is not None and found.healing is not None:
            begun += 1
            order = replace(found, healing=replace(found.healing, state=ServiceState.REFUSED, segments=()))
        else:
            result = heal(order, env(now))
            order = result.order if isinstance(result, Pause) else result
    hours = sum(gaps, timedelta()) / timedelta(hours=1)
    assert begun <= TRIES * (1 + hours)
