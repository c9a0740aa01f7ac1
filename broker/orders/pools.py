"""The address pools of a broker: one block per service, from buddy allocators rebuilt from the store.

Rules kept here
- A block belongs to one service; asking again for the same service gives the same block.
- A block that was live rests for the pool's quarantine before it is free again.
- The record of every change is stored by the caller, in the transaction of the order that it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_network

from address_planner.buddy import Buddy, NotAllocated, PoolExhausted
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
        for allocation in allocations:
            self._buddies[allocation.pool.removeprefix(PREFIXES)].take(ip_network(allocation.value))
            self._allocations[allocation.pool, allocation.value] = allocation

    def allocations(self) -> tuple[Allocation, ...]:
        return tuple(self._allocations.values())

    def changed(self, pools: Sequence[Pool]) -> Pools:
        """The same allocations under other pools. Raises PoolInUse where one would lose its place."""
        names = {p.name for p in pools}
        for allocation in self._allocations.values():
            if allocation.pool.removeprefix(PREFIXES) not in names:
                name = allocation.pool.removeprefix(PREFIXES)
                raise PoolInUse(name, f"{allocation.value} of pool {name} is still allocated")
        for pool in pools:
            inside = [a for a in self.allocations() if a.pool == PREFIXES + pool.name]
            try:
                Pools((pool,), inside)
            except NotAllocated as error:
                raise PoolInUse(pool.name, f"an allocated block would lose its place: {error}") from None
        return Pools(pools, self.allocations())

    def allocate(self, owner: str, bits: int) -> tuple[str, Prefix] | Reason:
        """A block with at least `bits` host bits for a service: (pool name, prefix), or why there is none."""
        for allocation in self._allocations.values():
            if allocation.owner == owner and allocation.state is not AllocationState.RESTING:
                return allocation.pool.removeprefix(PREFIXES), ip_network(allocation.value)
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
            self._allocations[allocation.pool, allocation.value] = allocation
            return pool.name, prefix
        return Reason(
            code=ReasonCode.ADDRESS_EXHAUSTED, message="every address pool is used up", subject="blocks", retryable=True
        )

    def record(self, pool: str, prefix: Prefix, state: AllocationState) -> Allocation:
        """The allocation in a new state (HELD, LIVE), to be stored."""
        allocation = replace(self._allocations[PREFIXES + pool, str(prefix)], state=state)
        self._allocations[allocation.pool, allocation.value] = allocation
        return allocation

    def give_back(self, pool: str, prefix: Prefix, now: datetime, was_live: bool) -> Allocation:
        """The allocation as it is to be stored: RESTING until its quarantine ends, or to be dropped (not RESTING)."""
        key = (PREFIXES + pool, str(prefix))
        allocation = self._allocations[key]
        quarantine = self._pools[pool].quarantine
        if was_live and quarantine:
            allocation = replace(allocation, state=AllocationState.RESTING, until=now + quarantine)
            self._allocations[key] = allocation
        else:
            self._drop(allocation)
        return allocation

    def rested(self, now: datetime) -> tuple[Allocation, ...]:
        """Free what has rested long enough: to be dropped from the store."""
        over = tuple(
            a
            for a in self._allocations.values()
            if a.state is AllocationState.RESTING and a.until is not None and a.until <= now
        )
        for allocation in over:
            self._drop(allocation)
        return over

    def _drop(self, allocation: Allocation) -> None:
        self._buddies[allocation.pool.removeprefix(PREFIXES)].free(ip_network(allocation.value))
        del self._allocations[allocation.pool, allocation.value]
