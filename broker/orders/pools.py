"""The address pools of a broker: one block per service, from buddy allocators rebuilt from the store.

Rules kept here
- A block belongs to one service, which has at most one of a family; asking again for the same service gives the same blocks.
- A block that was live rests for the pool's quarantine before it is free again.
- The record of every change is stored by the caller, in the transaction of the order that it belongs to. A block taken is
  taken at once; one given back is free only when that is durable (`stored`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
        self._owned: dict[str, dict[str, Allocation]] = {}
        """By service, then by the block."""
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

    def owned(self, owner: str) -> tuple[Allocation, ...]:
        """The blocks that a service has: HELD or LIVE."""
        return tuple(self._owned.get(owner, {}).values())

    def allocate(self, owner: str, sizes: Mapping[int, int]) -> tuple[tuple[str, Prefix], ...] | Reason:
        """Blocks for a service, of at least so many host bits by IP version (0: of either): (pool name, prefix) of each that
        it then has, or why there is none."""
        before = set(self.owned(owner))
        for version, bits in sizes.items():
            mine = self.owned(owner)
            if any(version in (0, ip_network(a.value).version) for a in mine):
                continue
            found = self._allocated(owner, bits, version)
            if isinstance(found, Reason):
                for allocation in set(mine) - before:
                    self._drop(allocation)
                return found
        return tuple((a.pool.removeprefix(PREFIXES), ip_network(a.value)) for a in self.owned(owner))

    def _allocated(self, owner: str, bits: int, version: int) -> Reason | None:
        kind = f"IPv{version} " if version else ""
        pools = [p for p in self._pools.values() if version in (0, p.prefix.version)]
        if not pools:
            message = f"this provider has no {kind}address pool"
            return Reason(code=ReasonCode.NOT_ADDRESSABLE, message=message, subject="blocks")
        roomy = [p for p in pools if p.prefix.max_prefixlen - p.block >= bits]
        if not roomy:
            return Reason(
                code=ReasonCode.PREFIX_TOO_SMALL,
                message=f"no pool gives blocks of {1 << bits} {kind}addresses",
                subject="blocks",
                nogood=Nogood(needed_addresses=1 << bits),
            )
        for pool in roomy:
            try:
                prefix = self._buddies[pool.name].allocate(pool.block)
            except PoolExhausted:
                continue
            self._put(Allocation(pool=PREFIXES + pool.name, value=str(prefix), owner=owner, state=AllocationState.HELD))
            return None
        message = f"every {kind}address pool is used up"
        return Reason(code=ReasonCode.ADDRESS_EXHAUSTED, message=message, subject="blocks", retryable=True)

    def available(self, sizes: Mapping[int, int]) -> tuple[Prefix, ...] | Reason:
        """The blocks that `allocate` would give now, which are not taken."""
        found = self.allocate("", sizes)
        for allocation in self.owned(""):
            self._drop(allocation)
        return found if isinstance(found, Reason) else tuple(prefix for _, prefix in found)

    def given_back(self, allocation: Allocation, now: datetime, was_live: bool) -> Allocation | None:
        """The allocation as it is to be stored when its owner is done: RESTING in quarantine; None: dropped."""
        quarantine = self._pools[allocation.pool.removeprefix(PREFIXES)].quarantine
        if was_live and quarantine:
            return replace(allocation, state=AllocationState.RESTING, until=now + quarantine)
        return None

    def unkept(self, owner: str, kept: Iterable[Prefix]) -> list[Allocation]:
        """What a service has that is none of these blocks."""
        values = {str(block) for block in kept}
        return [mine for mine in self.owned(owner) if mine.value not in values]

    def changes(
        self, owner: str, kept: Iterable[Prefix], known: Iterable[Prefix], state: AllocationState, now: datetime
    ) -> tuple[list[Allocation], list[Allocation]]:
        """What is to be stored when a service keeps these blocks, of which some were `known`, in this state: (put, drop)."""
        put, drop = list[Allocation](), list[Allocation]()
        gone, stays = self.unkept(owner, kept), {str(block) for block in known}
        for mine in self.owned(owner):
            if mine not in gone:
                if mine.value not in stays or mine.state is not state:
                    put.append(replace(mine, state=state))
            elif (rests := self.given_back(mine, now, mine.state is AllocationState.LIVE)) is not None:
                put.append(rests)
            else:
                drop.append(mine)
        return put, drop

    def stored(self, put: Sequence[Allocation], drop: Sequence[Allocation]) -> None:
        """These changes are durable: what is dropped is free from now on."""
        for allocation in drop:
            self._drop(allocation)
        for allocation in put:
            self._put(allocation)

    def _put(self, allocation: Allocation) -> None:
        self._allocations[allocation.pool, allocation.value] = allocation
        if allocation.state is not AllocationState.RESTING:
            self._owned.setdefault(allocation.owner, {})[allocation.value] = allocation
        else:
            self._disown(allocation)

    def _disown(self, allocation: Allocation) -> None:
        mine = self._owned.get(allocation.owner, {})
        mine.pop(allocation.value, None)
        if not mine:
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
        self._disown(allocation)
