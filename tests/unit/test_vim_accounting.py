"""What holds take over time, with all their versions and states, against adding it up day by day."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lower_sp_clients.vim.accounting import TAKES, count, fits_beside
from lower_sp_clients.vim.calendar import Calendar
from lower_sp_clients.vim.domain import Domain, Key
from lower_sp_clients.vim.holds import Hold
from service_model.outcomes import AddressingChoice, ServiceState
from service_model.window import ALWAYS, Window
from tests.support.sites import chain

DAY0 = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 8
S = ServiceState
HOST = ("AMS", 0)


def day(n: int) -> datetime:
    return DAY0 + timedelta(days=n)


@st.composite
def version(draw: st.DrawFn, ref: str, number: int, states: tuple[ServiceState, ...]) -> Hold:
    start = draw(st.none() | st.integers(0, DAYS - 1))
    end = draw(st.none() | st.integers(1 + (start or 0), DAYS))
    spec = replace(
        chain("uni", "uni", "firewall"),
        bandwidth_bps=draw(st.integers(0, 5)),
        start_time=None if start is None else day(start),
        end_time=None if end is None else day(end),
    )
    return Hold(
        ref=ref, version=number, state=draw(st.sampled_from(states)), created=DAY0, updated=DAY0, spec=spec,
        choice=AddressingChoice(labels={"a": number}), ways=draw(st.sampled_from([(), ("way",), ("way", "way")])),
        hosts={"f0": HOST}, units={"f0": draw(st.integers(0, 3))},
    )  # fmt: skip


@st.composite
def records(draw: st.DrawFn, ref: str = "r") -> Hold:
    """Alone, in any state; or live with older versions that may still be there, and a newer one held or expired beside it."""
    if draw(st.booleans()):
        return draw(version(ref, 1, tuple(S)))
    live = draw(version(ref, 2, (S.ACTIVATING, S.ACTIVE, S.DEGRADED)))
    former = draw(st.lists(version(ref, 1, (S.ACTIVE, S.DEGRADED)), max_size=2))
    beside = draw(st.none() | version(ref, 3, (S.RESERVED, S.EXPIRED)))
    return replace(live, former=tuple(former), beside=beside)


def needs(hold: Hold) -> Counter[Key]:
    assert hold.spec is not None
    bps = hold.spec.bandwidth_bps
    return Counter({"way": bps * len(hold.ways), "uni": 2 * bps, HOST: hold.units["f0"]})


def by_day(holds: list[Hold], n: int) -> Counter[Key]:
    """What is taken on a day: of each record the most that one of its versions needs then."""
    out: Counter[Key] = Counter()
    for hold in holds:
        most: Counter[Key] = Counter()
        for v in hold.versions():
            assert v.spec is not None
            if v.state in TAKES and Window.of(v.spec.start_time, v.spec.end_time).covers_moment(day(n)):
                most |= needs(v)
        out.update(most)
    return out


several = st.lists(st.integers(), max_size=6).flatmap(
    lambda some: st.tuples(*(records(f"r{n}") for n in range(len(some))))
)


@given(several, st.integers(0, DAYS - 1), st.integers(1, DAYS))
def test_what_is_taken_in_a_window_is_the_most_of_any_day_of_it(
    holds: tuple[Hold, ...], start: int, length: int
) -> None:
    calendar = Calendar()
    for hold in holds:
        count(calendar, hold, 1)
    end = min(DAYS, start + length)
    usage = calendar.usage(Window(day(start), day(end)))
    days = [by_day(list(holds), n) for n in range(start, end)]
    for key in ("way", "uni", HOST):
        assert usage.of(key) == max(taken[key] for taken in days)


@given(several, st.data())
def test_what_was_counted_and_is_counted_off_again_leaves_nothing(holds: tuple[Hold, ...], data: st.DataObject) -> None:
    calendar = Calendar()
    for hold in holds:
        count(calendar, hold, 1)
    for hold in data.draw(st.permutations(holds)):
        count(calendar, hold, -1)
    assert calendar.taken == {}
    assert not any(calendar.labels.values())
    assert not any(calendar.held_labels.values())


@given(records("mine"), records("late"))
def test_who_is_late_to_go_is_in_the_way_where_both_together_are_too_much(mine: Hold, late: Hold) -> None:
    mine, late = mine.bare(), late.bare()
    calendar = Calendar()
    count(calendar, mine, 1)
    domain = Domain(
        name="d", sp_id="d", places=(), hosts={"AMS": (4,)}, lan=frozenset(), saps=(), ways=(), functions=()
    )
    own = needs(mine)[HOST] if mine.state in TAKES else 0
    other = needs(late)[HOST] if late.state in TAKES else 0
    bandwidth = needs(late)["uni"] > 0 and needs(mine)["uni"] > 0 and late.state in TAKES and mine.state in TAKES
    fits = fits_beside(domain, calendar.usage(ALWAYS), mine, [late])
    assert fits == (not bandwidth and not (own and other and own + other > 4))
