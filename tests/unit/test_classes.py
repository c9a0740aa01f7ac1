"""Label classes: suggestions that do not meet, the authority that wins, and what is left after a refusal."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from address_planner.classes import (
    ENOUGH,
    LabelClass,
    LabelsExhausted,
    Member,
    disagreement,
    shortened,
    suggest,
    without,
)
from address_planner.labels import LabelSet

LEFT = Member(segment="s", end="x")
RIGHT = Member(segment="t", end="x", decides=True)


def over(id: str, labels: LabelSet, suggested: int | None = None, joint: str = "ic") -> LabelClass:
    return LabelClass(id=id, members=(LEFT, RIGHT), interconnects=(joint,), labels=labels, suggested=suggested)


@given(st.integers(1, 8), st.integers(0, 8), st.text(max_size=4))
def test_classes_of_one_interconnect_get_different_labels_or_are_refused(count: int, labels: int, key: str) -> None:
    classes = [over(f"c{i}", LabelSet.of(range(labels))) for i in range(count)]
    if labels < count:
        with pytest.raises(LabelsExhausted):
            suggest(classes, key)
        return
    values = [c.suggested for c in suggest(classes, key)]
    assert len(set(values)) == count
    assert all(v is not None and v in classes[0].labels for v in values)


sets = st.sets(st.integers(0, 4), max_size=3)
joints = st.sets(st.sampled_from("xyz"), min_size=1, max_size=2)


@given(st.lists(st.tuples(sets, joints, st.none() | st.integers(0, 4)), max_size=5), st.text(max_size=4))
def test_classes_that_can_be_told_apart_are(asked: list[tuple[set[int], set[str], int | None]], key: str) -> None:
    classes = [
        LabelClass(
            id=f"c{i}",
            members=(LEFT, RIGHT),
            interconnects=tuple(sorted(joint)),
            labels=LabelSet.of(labels),
            suggested=suggested,
        )
        for i, (labels, joint, suggested) in enumerate(asked)
    ]

    def apart(values: tuple[int, ...]) -> bool:
        pairs = combinations(zip(values, classes, strict=True), 2)
        return not any(v == w and set(c.interconnects) & set(d.interconnects) for (v, c), (w, d) in pairs)

    if not any(apart(values) for values in product(*(labels for labels, _, _ in asked))):
        with pytest.raises(LabelsExhausted):
            suggest(classes, key)
        return
    found = suggest(classes, key)
    assert [c.id for c in found] == [c.id for c in classes]
    values = tuple(c.suggested for c in found if c.suggested is not None)
    assert len(values) == len(classes)
    assert apart(values)
    assert all(v in c.labels for v, c in zip(values, classes, strict=True))


@given(st.integers(2, 8), st.integers(0, 7), st.text(max_size=4))
def test_what_is_suggested_to_us_is_suggested_on_though_others_could_have_it(count: int, which: int, key: str) -> None:
    labels = LabelSet.of(range(count))
    told = [over(f"c{i}", labels, suggested=0 if i == which % count else None) for i in range(count)]
    assert suggest(told, key)[which % count].suggested == 0


def test_the_authority_wins_and_only_the_others_are_pinned() -> None:
    item = over("c", LabelSet(((1, 9),)))
    assert disagreement(item, {("s", "x"): 4, ("t", "x"): 5}) == (5, (LEFT,))
    assert disagreement(item, {("s", "x"): 5, ("t", "x"): 5}) is None
    assert disagreement(item, {}) is None


def test_what_could_not_be_had_is_not_suggested_again_and_the_set_only_shrinks() -> None:
    item = over("c", LabelSet(((0, 9),)), suggested=0)
    smaller = without(item, 0, LabelSet(((3, 12),)), "k", taken=LabelSet.of([3, 4, 5]))
    assert smaller.labels == LabelSet(((3, 9),))
    assert smaller.suggested in LabelSet(((6, 9),))
    with pytest.raises(LabelsExhausted):
        without(item, 0, LabelSet.of([0]), "k")


def test_of_what_is_long_and_full_of_holes_members_hear_of_enough_with_what_is_suggested() -> None:
    odd = LabelSet.of(range(1, 100_000, 2))
    found = shortened(over("data0", odd, 77_777))
    assert len(found.labels) == ENOUGH
    assert 77_777 in found.labels
    assert found.labels <= odd


def test_of_what_is_short_or_whole_members_hear_all() -> None:
    for labels in (LabelSet.of(range(1, 2 * ENOUGH, 2)), LabelSet(((5000, 999_999),))):
        assert shortened(over("data0", labels, next(iter(labels)))).labels == labels
