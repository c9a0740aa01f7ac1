"""Label sets that say their kind: sets within a kind, nothing between two, one text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from address_planner.label_kinds import KindedLabels, LabelKind, OtherKind
from address_planner.labels import LabelSet, LabelSetError

numbered = st.sampled_from([k for k in LabelKind if k is not LabelKind.PORT])
ranges = st.lists(st.tuples(st.integers(16, 70), st.integers(0, 9)), max_size=4).map(
    lambda rs: LabelSet(tuple((a, a + n) for a, n in rs))
)


@given(numbered, ranges, ranges)
def test_within_a_kind_the_algebra_is_that_of_sets(kind: LabelKind, a: LabelSet, b: LabelSet) -> None:
    x, y = KindedLabels(kind, a), KindedLabels(kind, b)
    assert ((x & y).labels, (x | y).labels, (x - y).labels) == (a & b, a | b, a - b)
    assert {(x & y).kind, (x | y).kind, (x - y).kind} == {kind}
    assert (x <= y) == (a <= b)
    assert x & KindedLabels.all(kind) == x
    assert [n in x for n in range(80)] == [n in a for n in range(80)]
    assert bool(x) == bool(a)


@given(numbered, numbered, ranges, ranges)
def test_two_kinds_have_no_operators_between_them(one: LabelKind, other: LabelKind, a: LabelSet, b: LabelSet) -> None:
    x, y = KindedLabels(one, a), KindedLabels(other, b)
    if one is other:
        assert x & y == y & x
        return
    for operator in (KindedLabels.__and__, KindedLabels.__or__, KindedLabels.__sub__, KindedLabels.__le__):
        with pytest.raises(OtherKind, match=one.value):
            operator(x, y)


@given(numbered, ranges)
def test_the_text_is_canonical_and_reads_back(kind: LabelKind, labels: LabelSet) -> None:
    mine = KindedLabels(kind, labels)
    assert KindedLabels.parse(str(mine)) == mine
    assert str(mine) == f"{kind.value}:{labels}"


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("untagged", 0, 0),
        ("vlan:1-4094", 1, 4094),
        ("vni:1-16777215", 1, (1 << 24) - 1),
        ("spi:1-16777215", 1, (1 << 24) - 1),
        ("mpls:16-1048575", 16, (1 << 20) - 1),
    ],
)
def test_each_kind_has_its_own_numbers(text: str, first: int, last: int) -> None:
    whole = KindedLabels.parse(text)
    assert whole == KindedLabels.all(whole.kind)
    assert str(whole) == text
    assert (first in whole, last in whole) == (True, True)
    for beyond in {first - 1, last + 1} & set(range(1 << 24)):
        with pytest.raises(LabelSetError, match=f"{beyond} is no {whole.kind.value} label"):
            KindedLabels(whole.kind, LabelSet.of([beyond]))


@pytest.mark.parametrize("text", ["", "vlan", "100-199", "qinq:5", "vlan:0", "vlan:4095", "vlan:a"])
def test_what_is_no_such_set_is_refused(text: str) -> None:
    with pytest.raises(LabelSetError):
        KindedLabels.parse(text)


def test_an_untagged_port_that_is_taken_has_no_label_left() -> None:
    port = KindedLabels.parse("untagged")
    left = port - port
    assert not left
    assert KindedLabels.parse(str(left)) == left
