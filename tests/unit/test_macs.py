"""MAC pools are sets, with one text; what is shared out of them is disjoint; what is taken is one port's."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from address_planner.macs import INDIVIDUAL, MAC_MAX, Mac, MacError, MacSet

pools = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=5).map(
    lambda rs: MacSet(tuple((a, a + n) for a, n in rs))
)


@given(pools, pools)
def test_the_algebra_is_that_of_sets(a: MacSet, b: MacSet) -> None:
    assert set(a & b) == set(a) & set(b)
    assert set(a | b) == set(a) | set(b)
    assert set(a - b) == set(a) - set(b)
    assert (a <= b) == (set(a) <= set(b))


@given(pools)
def test_the_text_is_canonical_and_reads_back(pool: MacSet) -> None:
    assert MacSet.parse(str(pool)) == pool
    assert str(MacSet.of(pool)) == str(pool)


@given(pools, st.integers(1, 7))
def test_parts_are_disjoint_and_together_the_whole(pool: MacSet, count: int) -> None:
    parts = pool.parts(count)
    assert len(parts) == count
    assert all(a.isdisjoint(b) for a, b in combinations(parts, 2))
    assert {m for part in parts for m in part} == set(pool)
    assert max(p.size for p in parts) - min(p.size for p in parts) <= 1


@given(pools, st.integers(0, 9), st.text(max_size=4))
def test_each_point_gets_one_of_its_own_and_always_the_same(pool: MacSet, count: int, key: str) -> None:
    points = [f"f{n}:in" for n in range(count)]
    if count > pool.size:
        with pytest.raises(IndexError):
            pool.pick(points, key)
        return
    found = pool.pick(points, key)
    assert set(found) == set(points)
    assert len(set(found.values())) == count
    assert all(mac.number in pool for mac in found.values())
    assert pool.pick(points, key) == found


@pytest.mark.parametrize("text", ["02:00:00:00:00", "2:0:0:0:0:1", "02-00-00-00-00-01", "g2:00:00:00:00:00"])
def test_what_is_no_hardware_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(MacError, match=text.split("-")[0]):
        MacSet.parse(text)
    with pytest.raises(MacError):
        Mac(MAC_MAX + 1)


def test_a_port_has_no_address_of_a_group_and_not_nothing() -> None:
    assert Mac.parse("02:00:00:00:00:01").number in INDIVIDUAL
    assert Mac.parse("01:00:5e:00:00:01").number not in INDIVIDUAL
    assert MAC_MAX not in INDIVIDUAL
    assert 0 not in INDIVIDUAL
    assert INDIVIDUAL.size == (1 << 47) - 1
