"""A broker's pools: a block for each service, another where it cannot be used, and when each goes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network

import pytest

from broker.orders.pools import PREFIXES, Pool, PoolInUse, Pools
from broker.orders.records import Order
from broker.orders.tasks import abandon
from lower_sp_clients.vim.holds import Allocation, AllocationState
from service_model.outcomes import Reason, ReasonCode, ServiceState
from service_model.words import Prefix
from tests.support.planning import NOW

POOL = Pool(name="p", prefix=ip_network("10.64.0.0/22"), block=24, quarantine=timedelta(seconds=30))
BLOCKS = [ip_network(f"10.64.{n}.0/24") for n in range(4)]


def taken(pools: Pools, owner: str, avoid: tuple[Prefix, ...] = ()) -> Prefix:
    found = pools.allocate(owner, {0: 5}, avoid)
    assert not isinstance(found, Reason), found
    ((_, block),) = found
    return block


def test_a_service_keeps_its_block_until_it_has_to_avoid_it() -> None:
    pools = Pools((POOL,), ())
    assert taken(pools, "a") == taken(pools, "a") == BLOCKS[0]
    assert taken(pools, "b") == BLOCKS[1]
    avoid = (ip_network("10.64.0.128/25"), ip_network("10.64.2.0/30"))
    assert taken(pools, "a", avoid) == taken(pools, "a", avoid) == BLOCKS[3]
    assert [a.value for a in pools.owned("a")] == [str(BLOCKS[0]), str(BLOCKS[3])]
    none = pools.allocate("a", {0: 5}, (POOL.prefix,))
    assert isinstance(none, Reason)
    assert none.code is ReasonCode.ADDRESS_EXHAUSTED


@pytest.mark.parametrize("live", [False, True])
def test_what_is_no_more_wanted_goes_back_and_rests_if_it_was_live(live: bool) -> None:
    pools = Pools((POOL,), ())
    first, second = str(taken(pools, "a")), str(taken(pools, "a", (BLOCKS[0],)))
    put, drop = pools.changes("a", frozenset(), {first, second}, live, NOW)
    assert {(a.value, a.state) for a in put} == {
        (value, AllocationState.LIVE if live else AllocationState.HELD) for value in (first, second)
    }
    pools.stored(put, drop)
    assert pools.changes("a", {first, second}, {first, second}, live, NOW) == ([], [])
    put, drop = pools.changes("a", {first, second}, {second}, live, NOW)
    pools.stored(put, drop)
    assert [a.value for a in pools.owned("a")] == [second]
    if not live:
        assert ([a.value for a in drop], put) == ([first], [])
        assert taken(pools, "b") == BLOCKS[0]
        return
    assert [(a.value, a.state, a.until) for a in put] == [(first, AllocationState.RESTING, NOW + POOL.quarantine)]
    assert taken(pools, "b") == BLOCKS[2], "what rests is not given"
    assert pools.rested(NOW + timedelta(seconds=29)) == ()
    pools.stored((), pools.rested(NOW + POOL.quarantine))
    assert taken(pools, "c") == BLOCKS[0]


def test_a_pool_that_is_drained_gives_nothing_and_keeps_what_is_its_own() -> None:
    pools = Pools((POOL,), ())
    block = taken(pools, "a")
    drained = pools.changed((replace(POOL, usable=False),))
    assert taken(drained, "a") == block
    refused = drained.allocate("b", {0: 5})
    assert isinstance(refused, Reason)
    assert refused.code is ReasonCode.NOT_IN_SERVICE
    beside = drained.changed((replace(POOL, usable=False), replace(POOL, name="q", prefix=ip_network("10.65.0.0/24"))))
    assert taken(beside, "b") == ip_network("10.65.0.0/24")
    with pytest.raises(PoolInUse, match=r"10\.64\.0\.0/24"):
        drained.changed((replace(POOL, prefix=ip_network("10.64.2.0/23")),))
    with pytest.raises(PoolInUse, match="still allocated"):
        drained.changed(())


def test_pools_are_rebuilt_from_what_is_recorded_and_refuse_what_overlaps() -> None:
    row = Allocation(pool=f"{PREFIXES}p", value="10.64.0.0/24", owner="a", state=AllocationState.LIVE)
    resting = replace(row, value="10.64.1.0/24", owner="gone", state=AllocationState.RESTING, until=NOW)
    pools = Pools((POOL,), (row, resting))
    assert taken(pools, "a") == BLOCKS[0]
    assert pools.owned("gone") == ()
    assert taken(pools, "b") == BLOCKS[2]
    with pytest.raises(PoolInUse):
        Pools((POOL,), (row, replace(row, value="10.64.0.0/25", owner="b")))


def test_an_order_that_gives_up_the_hold_before_keeps_its_block_until_it_is_free_below() -> None:
    before = Order(
        id="o", account="x", ref="r", version=1, state=ServiceState.RESERVED, created=NOW, updated=NOW, block=BLOCKS[0]
    )
    order = replace(before, version=2, block=BLOCKS[1], former_blocks=(BLOCKS[2],), previous=before)
    assert order.blocks() == {str(b) for b in BLOCKS[:3]}
    assert order.alone().blocks() == abandon(order).blocks() == order.blocks()
    assert set(order.alone().own_blocks()) == set(BLOCKS[:3])
    assert replace(order, block=BLOCKS[0]).alone().former_blocks == (BLOCKS[2],)


def theirs(value: str, owner: str = "other", state: AllocationState = AllocationState.HELD) -> Allocation:
    return Allocation(pool="prefixes/p", value=value, owner=owner, state=state)


def test_what_others_recorded_is_not_given_again_and_what_they_freed_is() -> None:
    pool = Pool(name="p", prefix=ip_network("10.0.0.0/22"), block=24, quarantine=timedelta())
    pools = Pools((pool,), ())
    pools.mirror([theirs("10.0.0.0/24"), theirs("10.0.1.0/24", state=AllocationState.RESTING)], [])
    assert pools.allocate("a", {0: 1}) == (("p", ip_network("10.0.2.0/24")),)
    pools.mirror([], [("prefixes/p", "10.0.0.0/24"), ("prefixes/p", "10.0.9.0/24")])
    assert pools.allocate("b", {0: 1}) == (("p", ip_network("10.0.0.0/24")),)


@pytest.mark.parametrize("value", ["10.0.0.0/24", "10.0.0.0/23", "10.0.0.128/25"])
def test_what_is_given_and_not_recorded_gives_way_to_what_another_recorded(value: str) -> None:
    pools = Pools((Pool(name="p", prefix=ip_network("10.0.0.0/22"), block=24, quarantine=timedelta()),), ())
    assert pools.allocate("a", {0: 1}) == (("p", ip_network("10.0.0.0/24")),)
    pools.mirror([theirs(value)], [])
    assert pools.owned("a") == ()
    assert [(a.owner, a.value) for a in pools.allocations()] == [("other", value)]
    found = pools.allocate("a", {0: 1})
    assert not isinstance(found, Reason)
    assert not found[0][1].overlaps(ip_network(value))


def test_what_others_freed_is_still_ours_where_it_was_given_to_us_meanwhile() -> None:
    pools = Pools((Pool(name="p", prefix=ip_network("10.0.0.0/22"), block=24, quarantine=timedelta()),), ())
    pools.allocate("a", {0: 1})
    pools.mirror([], [("prefixes/p", "10.0.0.0/24")], lambda owner: owner == "a")
    assert [a.value for a in pools.owned("a")] == ["10.0.0.0/24"]
    assert pools.allocate("b", {0: 1}) == (("p", ip_network("10.0.1.0/24")),)


def test_what_another_recorded_of_a_pool_that_is_gone_here_is_passed_over() -> None:
    pools = Pools((), ())
    pools.mirror([theirs("10.0.0.0/24")], [])
    assert pools.allocations() == ()
