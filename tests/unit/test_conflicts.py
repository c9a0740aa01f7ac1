"""Prefixes that cannot be used: what is proposed instead can be, and who follows proposals comes to an end."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from address_planner.buddy import Buddy, PoolExhausted
from address_planner.conflicts import carved_again, conflicting, nearest, unusable
from address_planner.prefixes import Prefix, PrefixTooSmall, carve, inside, overlap, subtract

V4, V6 = IPv4Network("10.0.0.0/26"), IPv6Network("fd00::/122")
POOLS: list[Prefix] = [V4, V6]
pools = st.sampled_from(POOLS)


@st.composite
def some(draw: st.DrawFn, pool: Prefix, least: int = 0) -> list[Prefix]:
    lengths = st.integers(1, 6)
    blocks: list[list[Prefix]] = [list(pool.subnets(n)) for n in range(7)]
    return [
        blocks[length][draw(st.integers(0, (1 << length) - 1))]
        for length in draw(st.lists(lengths, min_size=least, max_size=4))
    ]


def members(prefixes: list[Prefix] | tuple[Prefix, ...], pool: Prefix) -> set[int]:
    return {int(a) for p in prefixes for a in p if a in pool}


@given(st.data())
def test_what_two_have_in_common_is_told_once(data: st.DataObject) -> None:
    pool = data.draw(pools)
    a, b = data.draw(some(pool)), data.draw(some(pool))
    found = conflicting(a, b)
    assert members(found, pool) == members(a, pool) & members(b, pool)
    assert not any(overlap(x, y) for x, y in combinations(found, 2))


@given(st.data())
def test_what_is_proposed_is_free_near_and_large_enough(data: st.DataObject) -> None:
    pool = data.draw(pools)
    excluded = data.draw(some(pool, 1))
    refused = data.draw(st.sampled_from(excluded))
    found = nearest([refused], excluded)
    assert not conflicting(found, excluded)
    blocks = (refused.supernet(new_prefix=length) for length in range(refused.prefixlen - 1, -1, -1))
    free = (subtract([block], excluded) for block in blocks)
    roomy = next(f for f in free if any(p.prefixlen <= refused.prefixlen for p in f))
    assert found == tuple(sorted(roomy, key=lambda p: p.prefixlen))


@given(st.data())
def test_who_follows_proposals_is_never_sent_in_a_circle(data: st.DataObject) -> None:
    """Each refusal teaches what it refused and nothing that could be used; so one after the other, all is known in the end."""
    pool = data.draw(pools)
    excluded = data.draw(some(pool))
    bits = data.draw(st.integers(0, 3))
    known: tuple[Prefix, ...] = ()
    for _ in range(8):
        try:
            chosen = carve([pool], known, {"x": bits})["x"]
        except PrefixTooSmall:
            with pytest.raises(PrefixTooSmall):
                carve([pool], excluded, {"x": bits})
            return
        refused = conflicting([chosen], excluded)
        if not refused:
            return
        learnt = unusable(refused, nearest(refused, excluded))
        assert members(refused, pool) <= members(learnt, pool) <= members(tuple(excluded), pool)
        assert not members(refused, pool) <= members(known, pool)
        known = (*known, *learnt)
    raise AssertionError("eight rounds were not enough")


def test_who_proposes_nothing_teaches_of_what_it_refused_alone() -> None:
    refused = (ip_network("10.0.0.0/31"),)
    assert unusable(refused, ()) == refused
    assert unusable(refused, [ip_network("10.0.0.16/28")]) == (ip_network("10.0.0.0/28"),)
    assert nearest([ip_network("0.0.0.0/0")], [ip_network("0.0.0.0/0")]) == ()


@given(st.data())
def test_only_what_cannot_stay_is_chosen_again(data: st.DataObject) -> None:
    pool = data.draw(pools)
    wanted = data.draw(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3), min_size=1))
    try:
        before = carve([pool], (), wanted)
    except PrefixTooSmall:
        return
    excluded = data.draw(some(pool))
    try:
        kept = {k: p for k, p in before.items() if not conflicting([p], excluded)}
        after = carved_again([pool], (), wanted, kept, excluded)
    except PrefixTooSmall:
        with pytest.raises(PrefixTooSmall):
            carve([pool], excluded, wanted)
        return
    assert {k: p.max_prefixlen - p.prefixlen for k, p in after.items()} == wanted
    assert not conflicting(after.values(), excluded)
    assert not any(overlap(x, y) for x, y in combinations(after.values(), 2))
    moved = [key for key in wanted if after[key] != before[key]]
    if all(conflicting([before[key]], excluded) for key in moved):
        return
    with pytest.raises(PrefixTooSmall):  # only because the rest had no room beside what could have stayed
        carve([pool], [*excluded, *kept.values()], {k: b for k, b in wanted.items() if k not in kept})


def test_what_stays_does_not_keep_off_what_the_others_avoid() -> None:
    kept: dict[str, Prefix] = {"a": ip_network("10.0.0.0/31")}
    again = carved_again([V4], (), {"a": 1, "b": 1}, kept, [ip_network("10.0.0.0/28")])
    assert again == {**kept, "b": ip_network("10.0.0.16/31")}


@given(st.data())
def test_a_pool_gives_the_lowest_block_that_lies_within(data: st.DataObject) -> None:
    pool = data.draw(pools)
    buddy, taken = Buddy(pool), list[Prefix]()
    for _ in range(data.draw(st.integers(0, 8))):
        try:
            taken.append(buddy.allocate(pool.prefixlen + data.draw(st.integers(1, 6))))
        except PoolExhausted:
            break
    for gone in data.draw(st.lists(st.sampled_from(taken), unique=True)) if taken else ():
        buddy.free(gone)
        taken.remove(gone)
    within = subtract([pool], data.draw(some(pool)))
    length = pool.prefixlen + data.draw(st.integers(0, 6))
    fitting = [
        p for p in pool.subnets(new_prefix=length) if any(inside(p, w) for w in within) and not conflicting([p], taken)
    ]
    if not fitting:
        with pytest.raises(PoolExhausted):
            buddy.allocate_within(length, within)
        return
    assert buddy.allocate_within(length, within) == fitting[0]
    assert buddy.free_addresses() == pool.num_addresses - sum(p.num_addresses for p in (*taken, fitting[0]))
