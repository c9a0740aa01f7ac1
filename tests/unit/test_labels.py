"""Label sets are sets: the same algebra as Python's, with one canonical text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from address_planner.labels import LABEL_MAX, LabelSet, LabelSetError

small = st.integers(0, 60)
sets = st.lists(st.tuples(small, st.integers(0, 9)), max_size=8).map(lambda rs: [(a, a + n) for a, n in rs])


def members(ranges: list[tuple[int, int]]) -> set[int]:
    return {v for first, last in ranges for v in range(first, last + 1)}


@given(sets, sets)
def test_the_algebra_is_that_of_sets(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    x, y, left, right = LabelSet(tuple(a)), LabelSet(tuple(b)), members(a), members(b)
    assert set(x & y) == left & right
    assert set(x | y) == left | right
    assert set(x - y) == left - right
    assert (x & y, x - y) == (LabelSet.of(left & right), LabelSet.of(left - right))
    assert (x <= y) == (left <= right)
    assert len(x) == len(left)
    assert bool(x) == bool(left)
    assert [v in x for v in range(75)] == [v in left for v in range(75)]
    assert (x == y) == (left == right)


@given(sets)
def test_the_text_is_canonical_and_reads_back(a: list[tuple[int, int]]) -> None:
    labels = LabelSet(tuple(a))
    assert LabelSet.parse(str(labels)) == labels
    assert str(LabelSet.of(members(a))) == str(labels)
    assert [labels.nth(i) for i in range(len(labels))] == sorted(members(a))


@given(sets, st.text(max_size=8))
def test_a_suggestion_is_a_member_and_always_the_same(a: list[tuple[int, int]], key: str) -> None:
    labels = LabelSet(tuple(a))
    suggested = labels.suggest(key)
    assert (suggested in labels) if labels else (suggested is None)
    assert labels.suggest(key) == suggested


@pytest.mark.parametrize("text", ["a", "1-", "-1", "5-2", "1-2-3", str(LABEL_MAX + 1)])
def test_what_is_no_label_set_is_refused_by_name(text: str) -> None:
    with pytest.raises(LabelSetError, match=text.split("-")[0] or "-"):
        LabelSet.parse(text)


def test_there_is_no_label_behind_the_last() -> None:
    with pytest.raises(IndexError):
        LabelSet.of([3, 5]).nth(2)


@given(sets, st.integers(0, 75), st.integers(1, 40))
def test_around_a_label_there_are_whole_ranges_until_it_is_enough(
    a: list[tuple[int, int]], label: int, least: int
) -> None:
    labels = LabelSet(tuple(a))
    found = labels.around(label, least)
    assert set(found.ranges) <= set(labels.ranges)
    assert len(found) >= min(least, len(labels))
    assert (label in found) or label not in labels
    fewer = [LabelSet(found.ranges[:n] + found.ranges[n + 1 :]) for n in range(len(found.ranges))]
    assert found == labels or any(len(rest) < least for rest in fewer)


@given(sets, small, st.integers(0, 20))
def test_what_is_of_one_range_is_found_without_the_others(a: list[tuple[int, int]], first: int, more: int) -> None:
    labels, one = LabelSet(tuple(a)), LabelSet(((first, first + more),))
    inside = set(range(first, first + more + 1))
    assert labels & one == one & labels == LabelSet.of(members(a) & inside)
    assert labels - one == LabelSet.of(members(a) - inside)
