"""What is taken over time, against counting it moment by moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lower_sp_clients.vim.calendar import Calendar
from lower_sp_clients.vim.profile import Profile
from service_model.window import ALWAYS, BEGINNING, NEVER, Window

DAY0 = datetime(2026, 1, 1, tzinfo=UTC)


def day(n: int) -> datetime:
    return DAY0 + timedelta(days=n)


def days(start: int | None, end: int | None) -> Window:
    return Window.of(None if start is None else day(start), None if end is None else day(end))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Of a few days, so that many touch; open at either side now and then."""
    start = draw(st.none() | st.integers(0, 11))
    end = draw(st.none() | st.integers(1 + (start or 0), 12))
    return days(start, end)


@dataclass(frozen=True)
class Taken:
    window: Window
    amount: int


taken = st.builds(Taken, windows(), st.integers(1, 9))
MOMENTS = [BEGINNING, *(day(n) for n in range(13)), day(12) + timedelta(seconds=1)]
"""What changes, changes at one of these: so much is taken until the next."""


def at(moment: datetime, holds: list[Taken]) -> int:
    return sum(h.amount for h in holds if h.window.start <= moment < h.window.end)


def enumerated(window: Window, holds: list[Taken]) -> int:
    """The most that is taken at any moment of the window."""
    return max(at(m, holds) for m in {window.start, *(m for m in MOMENTS if window.covers_moment(m))})


def profile_of(holds: list[Taken]) -> Profile:
    made = Profile()
    for hold in holds:
        made.add(hold.window, hold.amount)
    return made


@given(st.lists(taken, max_size=12), windows())
def test_the_most_that_is_taken_in_a_window_is_what_counting_every_moment_finds(
    holds: list[Taken], asked: Window
) -> None:
    assert profile_of(holds).most(asked) == enumerated(asked, holds)


@given(st.lists(taken, max_size=12), st.data())
def test_what_is_given_back_leaves_nothing_behind_in_whatever_order(holds: list[Taken], data: st.DataObject) -> None:
    profile = profile_of(holds)
    gone = data.draw(st.permutations(holds))
    stays = data.draw(st.integers(0, len(holds)))
    for hold in gone[stays:]:
        profile.add(hold.window, -hold.amount)
    other = profile_of(gone[:stays])
    assert (profile.at, profile.level) == (other.at, other.level)
    assert profile.nothing == (stays == 0)
    assert all(a != b for a, b in zip(profile.level, profile.level[1:], strict=False))


@given(st.lists(taken, max_size=12), windows())
def test_the_fullest_stretch_is_within_the_window_and_as_full_as_it_is_at_most(
    holds: list[Taken], asked: Window
) -> None:
    profile = profile_of(holds)
    fullest = profile.fullest(asked)
    assert asked.covers(fullest)
    assert not fullest.empty
    assert {at(m, holds) for m in {fullest.start, *(m for m in MOMENTS if fullest.covers_moment(m))}} == {
        profile.most(asked)
    }


@given(st.lists(st.tuples(windows(), st.integers(1, 9)), max_size=30), st.integers(1, 12))
def test_who_is_admitted_one_by_one_is_never_more_than_there_is_and_nobody_is_refused_who_would_fit(
    asked: list[tuple[Window, int]], size: int
) -> None:
    profile, admitted = Profile(), list[Taken]()
    for window, amount in asked:
        fits = profile.most(window) + amount <= size
        assert fits == (enumerated(window, [*admitted, Taken(window, amount)]) <= size)
        if fits:
            profile.add(window, amount)
            admitted.append(Taken(window, amount))
    assert all(at(m, admitted) <= size for m in MOMENTS)


def test_what_touches_does_not_overlap() -> None:
    profile = profile_of([Taken(days(1, 3), 5), Taken(days(3, 5), 5)])
    assert profile.most(ALWAYS) == 5
    assert (profile.most(days(0, 1)), profile.most(days(5, None))) == (0, 0)


def test_what_is_open_at_both_sides_is_one_number() -> None:
    profile = profile_of([Taken(ALWAYS, n) for n in range(1, 100)])
    assert (profile.at, profile.level) == ([], [4950])


@pytest.mark.parametrize("window", [days(3, 3), Window(day(4), day(2))])
def test_an_empty_window_takes_nothing_and_finds_nothing(window: Window) -> None:
    profile = profile_of([Taken(days(1, 9), 4)])
    profile.add(window, 5)
    assert profile.most(ALWAYS) == 4
    assert profile.most(window) == 0


def test_a_usage_tells_when_most_is_taken_unless_that_is_all_the_time() -> None:
    calendar = Calendar()
    calendar.take(days(2, 4), {"way": 7, ("AMS", 0): 3})
    calendar.take(days(None, None), {"way": 1})
    usage = calendar.usage(days(1, None))
    assert (usage.bandwidth, usage.units) == ({"way": 8}, {("AMS", 0): 3})
    assert usage.when("way") == days(2, 4)
    assert usage.when("another way") is None
    assert calendar.usage(days(2, 4)).when("way") is None
    calendar.take(days(2, 4), {"way": -7, ("AMS", 0): -3})
    assert calendar.taken.keys() == {"way"}


def test_a_window_reads_as_it_stands_in_a_reason() -> None:
    assert str(days(2, 4)) == "between 2026-01-03 00:00:00Z and 2026-01-05 00:00:00Z"
    assert str(days(None, 2)) == "until 2026-01-03 00:00:00Z"
    assert str(days(2, None)) == "from 2026-01-03 00:00:00Z on"
    assert Window(BEGINNING, NEVER) == ALWAYS
