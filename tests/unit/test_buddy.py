"""The pool of prefixes against a naive one that marks single addresses.

`SPBROKER_MOVES` says how many moves the long tests make: `SPBROKER_MOVES=1000000 pytest tests/unit/test_buddy.py -k many_moves`
makes a million in each family, and a million with labels.
"""

from __future__ import annotations

import os
import random
from ipaddress import IPv4Network, ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from address_planner.buddy import Buddy, NotAllocated, PoolExhausted
from address_planner.labels import LabelSet
from address_planner.prefixes import Prefix

MOVES = int(os.environ.get("SPBROKER_MOVES", "200000"))
LABEL_MOVES = int(os.environ.get("SPBROKER_MOVES", "20000"))
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


@given(st.data())
def test_the_block_is_the_first_that_holds_it(data: st.DataObject) -> None:
    buddy, used = Buddy(POOL), set[int]()
    for _ in range(data.draw(st.integers(1, 12))):
        if data.draw(st.booleans()) and used:
            gone = data.draw(st.sampled_from(sorted(buddy.allocated(), key=str)))
            buddy.free(gone)
            used -= {int(a) for a in gone}
        length = data.draw(st.integers(27, 32))
        open_to_it = [p for p in POOL.subnets(new_prefix=length) if not used & {int(a) for a in p}]
        if not open_to_it:
            with pytest.raises(PoolExhausted):
                buddy.allocate(length)
            continue
        # the first block that holds it, broken from its lowest address on
        assert buddy.allocate(length) == open_to_it[0]
        used |= {int(a) for a in open_to_it[0]}


def test_the_largest_free_block_is_told() -> None:
    buddy = Buddy(ip_network("fd00::/48"))
    assert buddy.largest_free() == 48
    first = buddy.allocate(64)
    assert buddy.largest_free() == 49
    buddy.free(first)
    buddy.allocate(48)
    assert buddy.largest_free() is None


@pytest.mark.parametrize("pool", ["10.0.0.0/12", "fd00::/40"])
def test_after_many_moves_space_is_conserved_and_no_two_prefixes_overlap(pool: str) -> None:
    rng, buddy, live = random.Random(pool), Buddy(ip_network(pool)), list[Prefix]()
    width = buddy.prefix.max_prefixlen
    for number in range(MOVES):
        if live and rng.random() < len(live) / 4000:
            place = rng.randrange(len(live))
            live[place], live[-1] = live[-1], live[place]
            buddy.free(live.pop())
        else:
            live.append(buddy.allocate(width - rng.choice((0, 1, 2, 3, 4, 6, 8))))
        if number % (MOVES // 10) == 0 or number == MOVES - 1:
            taken = sorted((int(p.network_address), int(p.broadcast_address)) for p in live)
            assert all(a[1] < b[0] for a, b in pairwise(taken))
            assert taken[0][0] >= int(buddy.prefix.network_address)
            assert taken[-1][1] <= int(buddy.prefix.broadcast_address)
            assert buddy.free_addresses() + sum(p.num_addresses for p in live) == buddy.prefix.num_addresses
            assert buddy.allocated() == set(live)


def test_after_many_moves_no_label_is_given_twice_and_none_is_lost() -> None:
    rng, sap, live = random.Random("labels"), LabelSet(((100, 1099), (5000, 5499))), list[int]()
    free = sap
    for number in range(LABEL_MOVES):
        if live and rng.random() < len(live) / 1500:
            place = rng.randrange(len(live))
            live[place], live[-1] = live[-1], live[place]
            free |= LabelSet.of([live.pop()])
        elif (label := free.suggest(f"{number}")) is not None:
            assert label in free
            free -= LabelSet.of([label])
            live.append(label)
        if number % (LABEL_MOVES // 10) == 0 or number == LABEL_MOVES - 1:
            assert len(set(live)) == len(live)
            assert free | LabelSet.of(live) == sap
            assert free.isdisjoint(LabelSet.of(live))
            assert len(free) + len(live) == len(sap)


def test_what_was_not_given_out_cannot_come_back() -> None:
    buddy = Buddy(POOL)
    with pytest.raises(NotAllocated):
        buddy.free(POOL)
    with pytest.raises(NotAllocated):
        buddy.take(ip_network("192.0.2.0/31"))
    with pytest.raises(PoolExhausted):
        buddy.allocate(20)
