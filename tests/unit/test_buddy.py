"""The pool of prefixes against a naive one that marks single addresses."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from address_planner.buddy import Buddy, NotAllocated, PoolExhausted
from address_planner.prefixes import Prefix

POOL = IPv4Network("10.0.0.0/27")
steps = st.lists(
    st.tuples(st.sampled_from(["get", "take", "free"]), st.integers(27, 32), st.integers(0, 31)), max_size=40
)


@given(steps)
def test_space_is_conserved_and_nothing_is_given_twice(moves: list[tuple[str, int, int]]) -> None:
    buddy = Buddy(POOL)
    used: set[int] = set()
    blocks: list[Prefix] = []
    for move, length, number in moves:
        block: Prefix
        if move == "get":
            aligned = [p for p in POOL.subnets(new_prefix=length) if not used & {int(a) for a in p}]
            try:
                block = buddy.allocate(length)
            except PoolExhausted:
                assert not aligned
                continue
            assert block in aligned
        elif move == "take":
            block = list(POOL.subnets(new_prefix=length))[number % (1 << (length - 27))]
            clash = bool(used & {int(a) for a in block})
            if clash:
                with pytest.raises(NotAllocated):
                    buddy.take(block)
                continue
            buddy.take(block)
        elif blocks:
            block = blocks.pop(number % len(blocks))
            buddy.free(block)
            used -= {int(a) for a in block}
            continue
        else:
            continue
        assert not used & {int(a) for a in block}
        used |= {int(a) for a in block}
        blocks.append(block)
        assert buddy.free_addresses() + len(used) == POOL.num_addresses
        assert buddy.allocated() == frozenset(blocks)
    for block in blocks:
        buddy.free(block)
    assert buddy.allocate(27) == POOL


def test_what_was_not_given_out_cannot_come_back() -> None:
    buddy = Buddy(POOL)
    with pytest.raises(NotAllocated):
        buddy.free(POOL)
    with pytest.raises(NotAllocated):
        buddy.take(ip_network("192.0.2.0/31"))
    with pytest.raises(PoolExhausted):
        buddy.allocate(20)
