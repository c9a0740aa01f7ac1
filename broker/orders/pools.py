"""The address pools of a broker: one block per service, from buddy allocators rebuilt from the store.

Rules kept here
- A block belongs to one service; asking again for the same service gives the same block.
- A block that was live rests for the pool's quarantine before it is free again.
- The record of every change is stored by the caller, in the transaction of the order that it belongs to. A block taken is
  taken at once; one given back is free only when that is durable (`stored`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_network

from address_planner.buddy import Buddy, NotAllocated, PoolExhausted
from broker.orders.records import Order
from lower_sp_clients.vim.holds import Allocation, AllocationState
from service_model.outcomes import Nogood, Reason, ReasonCode
from service_model.words import Prefix

PREFIXES = "prefixes/"
"""Allocations of prefixes are recorded under the pool name with this in front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    name: str
    prefix: Prefix
    block: int
    quarantine: timedelta


class PoolInUse(Exception):
    """A pool cannot be changed or taken away while blocks of it are allocated; the message names one."""

    def __init__(self, pool: str, message: str) -> None:
        super().__init__(message)
        self.pool = pool


class Pools:
    def __init__(self, pools: Sequence[Pool], allocations: Sequence[Allocation]) -> None:
        self._pools = {p.name: p for p in pools}
        self._buddies = {p.name: Buddy(p.prefix) for p in pools}
        self._allocations: dict[tuple[str, str], Allocation] = {}
        self._owned: dict[str, Allocation] = {}
        for allocation in allocations:
            name = allocation.pool.removeprefix(PREFIXES)
            if name not in self._buddies:
                raise PoolInUse(name, f"{allocation.value} of pool {name} is still allocated")
            try:
                self._buddies[name].take(ip_network(allocation.value))
            except NotAllocated as error:
                raise PoolInUse(name, f"an allocated block would lose its place: {error}") from None
            self._put(allocation)

    def allocations(self) -> tuple[Allocation, ...]:
        return tuple(self._allocations.values())

    def free(self, pool: Pool) -> tuple[int, int | None]:
        """How many addresses are free, and the length of the largest prefix that is, if any."""
        buddy = self._buddies[pool.name]
        return buddy.free_addresses(), buddy.largest_free()

    def all(self) -> tuple[Pool, ...]:
        return tuple(self._pools.values())

    def changed(self, pools: Sequence[Pool]) -> Pools:
        """The same allocations under other pools. Raises PoolInUse where one would lose its place."""
        return Pools(pools, self.allocations())

    def owned(self, owner: str) -> Allocation | None:
        """The block that a service has: HELD or LIVE."""
        return self._owned.get(owner)

    def allocate(self, owner: str, bits: int) -> tuple[str, Prefix] | Reason:
        """A block with at least `bits` host bits for a service: (pool name, prefix), or why there is none."""
        if (mine := self._owned.get(owner)) is not None:
            return mine.pool.removeprefix(PREFIXES), ip_network(mine.value)
        if not self._pools:
            return Reason(
                code=ReasonCode.NOT_ADDRESSABLE, message="this provider has no address pool", subject="blocks"
            )
        roomy = [p for p in self._pools.values() if p.prefix.max_prefixlen - p.block >= bits]
        if not roomy:
            return Reason(
                code=ReasonCode.PREFIX_TOO_SMALL,
                message=f"no pool gives blocks of {1 << bits} addresses",
                subject="blocks",
                nogood=Nogood(needed_addresses=1 << bits),
            )
        for pool in roomy:
            try:
                prefix = self._buddies[pool.name].allocate(pool.block)
            except PoolExhausted:
                continue
            allocation = Allocation(
                pool=PREFIXES + pool.name, value=str(prefix), owner=owner, state=AllocationState.HELD
            )
            self._put(allocation)
            return pool.name, prefix
        return Reason(
            code=ReasonCode.ADDRESS_EXHAUSTED, message="every address pool is used up", subject="blocks", retryable=True
        )

    def available(self, bits: int) -> Prefix | Reason:
        """The block that `allocate` would give now, which is not taken."""
        found = self.allocate("", bits)
        if isinstance(found, Reason):
            return found
        self._drop(self._owned[""])
        return found[1]

    def changes(self, before: Order | None, order: Order, now: datetime) -> tuple[list[Allocation], list[Allocation]]:
        """What the change of the order changes of its block, to be stored with it: (put, drop)."""
        mine = self.owned(order.id)
        if mine is None:
            return [], []
        if order.block is not None:
            state = AllocationState.LIVE if order.was_live else AllocationState.HELD
            fresh = before is None or before.block is None or state is not mine.state
            return ([replace(mine, state=state)], []) if fresh else ([], [])
        rests = self.given_back(mine, now, mine.state is AllocationState.LIVE)
        return ([rests], []) if rests is not None else ([], [mine])

    def given_back(self, allocation: Allocation, now: datetime, was_live: bool) -> Allocation | None:
        """The allocation as it is to be stored when its owner is done: RESTING in quarantine; None: dropped."""
        quarantine = self._pools[allocation.pool.removeprefix(PREFIXES)].quarantine
        if was_live and quarantine:
            return replace(allocation, state=AllocationState.RESTING, until=now + quarantine)
        return None

    def stored(self, put: Sequence[Allocation], drop: Sequence[Allocation]) -> None:
        """These changes are durable: what is dropped is free from now on."""
        for allocation in drop:
            self._drop(allocation)
        for allocation in put:
            self._put(allocation)

    def _put(self, allocation: Allocation) -> None:
        self._allocations[allocation.pool, allocation.value] = allocation
        if allocation.state is not AllocationState.RESTING:
            self._owned[allocation.owner] = allocation
        elif self._owned.get(allocation.owner, allocation).value == allocation.value:
            self._owned.pop(allocation.owner, None)

    def rested(self, now: datetime) -> tuple[Allocation, ...]:
        """What has rested long enough: to be dropped from the store."""
        return tuple(
            a
            for a in self._allocations.values()
            if a.state is AllocationState.RESTING and a.until is not None and a.until <= now
        )

    def _drop(self, allocation: Allocation) -> None:
        if self._allocations.pop((allocation.pool, allocation.value), None) is None:
            return
        self._buddies[allocation.pool.removeprefix(PREFIXES)].free(ip_network(allocation.value))
        if (mine := self._owned.get(allocation.owner)) is not None and mine.value == allocation.value:
            del self._owned[allocation.owner]
