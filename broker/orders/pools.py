"""The address pools of a broker: one block per service, from buddy allocators rebuilt from the store.

Rules kept here
- A block belongs to one service, which has one of each family that it needs; asking again for the same service gives the same.
- A pool that is drained gives nothing new, and what is allocated of it stays. One that would lose an allocated block cannot be
  changed so.
- A block that was live rests for the pool's quarantine before it is free again.
- The record of every change is stored by the caller, in the transaction of the order that it belongs to. A block taken is
  taken at once; one given back is free only when that is durable (`stored`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_network

from address_planner.buddy import Buddy, NotAllocated, PoolExhausted
from address_planner.conflicts import conflicting
from address_planner.prefixes import subtract
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
    usable: bool = True
    """Whether it gives anything new; what is allocated of it stays in any case."""


OF_OTHERS = "~"
"""What owners begin with that are none of our orders: what a supplier or a domain has that the store does not know of."""


def of_others(allocation: Allocation) -> bool:
    return allocation.owner.startswith(OF_OTHERS)


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
        """The blocks that a service has, HELD or LIVE, the one that it took last at the end."""
        return tuple(self._owned.get(owner, {}).values())

    def allocate(
        self, owner: str, sizes: Mapping[int, int], avoid: Sequence[Prefix] = ()
    ) -> tuple[tuple[str, Prefix], ...] | Reason:
        """Blocks for a service, of at least so many host bits by IP version (0: of either), with no address of `avoid`: (pool
        name, prefix) of each, or why there is none. Those that it had stay its own until the change of its order is `stored`."""
        had, taken = self.owned(owner), list[Allocation]()
        for version, bits in sizes.items():
            mine = [a for a in had if version in (0, ip_network(a.value).version)]
            if mine and not conflicting([ip_network(mine[-1].value)], avoid):
                taken.append(mine[-1])
                continue
            found = self._allocated(owner, bits, version, avoid)
            if isinstance(found, Reason):
                for allocation in (a for a in taken if a not in had):
                    self._drop(allocation)
                return found
            taken.append(found)
        return tuple((a.pool.removeprefix(PREFIXES), ip_network(a.value)) for a in taken)

    def _allocated(self, owner: str, bits: int, version: int, avoid: Sequence[Prefix]) -> Allocation | Reason:
        kind = f"IPv{version} " if version else ""
        pools = [p for p in self._pools.values() if version in (0, p.prefix.version)]
        if not pools:
            message = f"this provider has no {kind}address pool"
            return Reason(code=ReasonCode.NOT_ADDRESSABLE, message=message, subject="blocks")
        giving = [p for p in pools if p.usable]
        if not giving:
            message = f"no {kind}address pool of this provider is in service"
            return Reason(code=ReasonCode.NOT_IN_SERVICE, message=message, subject="blocks", retryable=True)
        roomy = [p for p in giving if p.prefix.max_prefixlen - p.block >= bits]
        if not roomy:
            return Reason(
                code=ReasonCode.PREFIX_TOO_SMALL,
                message=f"no pool gives blocks of {1 << bits} {kind}addresses",
                subject="blocks",
                nogood=Nogood(needed_addresses=1 << bits),
            )
        for pool in roomy:
            try:
                prefix = self._block(pool, avoid)
            except PoolExhausted:
                continue
            allocation = Allocation(
                pool=PREFIXES + pool.name, value=str(prefix), owner=owner, state=AllocationState.HELD
            )
            self._put(allocation)
            return allocation
        message = f"every {kind}address pool is used up"
        return Reason(code=ReasonCode.ADDRESS_EXHAUSTED, message=message, subject="blocks", retryable=True)

    def _block(self, pool: Pool, avoid: Sequence[Prefix]) -> Prefix:
        """Raises PoolExhausted."""
        buddy = self._buddies[pool.name]
        near = conflicting([pool.prefix], avoid)
        return buddy.allocate_within(pool.block, subtract([pool.prefix], near)) if near else buddy.allocate(pool.block)

    def available(self, sizes: Mapping[int, int]) -> tuple[Prefix, ...] | Reason:
        """The blocks that `allocate` would give now, which are not taken."""
        found = self.allocate("", sizes)
        for allocation in self.owned(""):
            self._drop(allocation)
        return found if isinstance(found, Reason) else tuple(prefix for _, prefix in found)

    def changes(
        self, owner: str, had: Set[str], wants: Set[str], live: bool, now: datetime
    ) -> tuple[list[Allocation], list[Allocation]]:
        """What is to be stored where a service that had these blocks wants those: (put, drop). What was live rests."""
        state = AllocationState.LIVE if live else AllocationState.HELD
        put, drop = list[Allocation](), list[Allocation]()
        for mine in self.owned(owner):
            quarantine = self._pools[mine.pool.removeprefix(PREFIXES)].quarantine
            if mine.value in wants:
                if mine.value not in had or state is not mine.state:
                    put.append(replace(mine, state=state))
            elif mine.state is AllocationState.LIVE and quarantine:
                put.append(replace(mine, state=AllocationState.RESTING, until=now + quarantine))
            else:
                drop.append(mine)
        return put, drop

    def stored(self, put: Sequence[Allocation], drop: Sequence[Allocation]) -> None:
        """These changes are durable: what is dropped is free from now on."""
        for allocation in drop:
            self._drop(allocation)
        for allocation in put:
            self._put(allocation)

    def mirror(
        self,
        put: Sequence[Allocation],
        gone: Sequence[tuple[str, str]],
        ours: Callable[[str], bool] = lambda owner: False,
    ) -> None:
        """What others recorded: these are allocated, and these (pool, value) are not any more. Of what is given to `ours`, and
        perhaps not recorded yet, they recorded nothing that counts but that it is theirs."""
        for key in gone:
            if (known := self._allocations.get(key)) is not None and not ours(known.owner):
                self._drop(known)
        for allocation in put:
            known = self._allocations.get((allocation.pool, allocation.value))
            if known is not None:
                self._disown(known)
            elif not self._take(allocation):
                continue
            self._put(allocation)

    def _take(self, allocation: Allocation) -> bool:
        """Whether its pool is known."""
        buddy = self._buddies.get(allocation.pool.removeprefix(PREFIXES))
        if buddy is None:
            return False
        prefix = ip_network(allocation.value)
        for other in [a for a in self._allocations.values() if a.pool == allocation.pool]:
            if conflicting([ip_network(other.value)], [prefix]):
                self._drop(other)
        buddy.take(prefix)
        return True

    def _put(self, allocation: Allocation) -> None:
        self._allocations[allocation.pool, allocation.value] = allocation
        if allocation.state is not AllocationState.RESTING:
            self._owned.setdefault(allocation.owner, {})[allocation.value] = allocation
        else:
            self._disown(allocation)

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

    def _disown(self, allocation: Allocation) -> None:
        mine = self._owned.get(allocation.owner, {})
        mine.pop(allocation.value, None)
        if not mine:
            self._owned.pop(allocation.owner, None)
