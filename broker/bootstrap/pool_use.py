"""What is taken of each pool, and how broken up the rest is: as an operator sees it. Pure.

Rules kept here
- A pool of prefixes is the broker's own; a pool of labels is what one SAP of an own domain has. The identifiers of paths are
  one pool, told of where any is taken. What has bandwidth or units is told over time.
- An owner is told as the order that it is for. A label of a domain is a segment's; the segment is looked up among our orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from ipaddress import ip_network

from address_planner.label_kinds import KindedLabels
from broker.accounts.admin_port import AllocationState, PoolEntry, PoolKind, PoolUse, ResourceLevel, ResourceUse
from broker.bootstrap.running import labels_in_use
from broker.orders.path_ids import POOL as PATH_IDS
from broker.orders.path_ids import PathIds
from broker.orders.pools import PREFIXES, Pools
from broker.orders.records import Order
from capability_registry.label_kinds import kind_of
from lower_sp_clients.vim.domain import Sap
from lower_sp_clients.vim.holds import Allocation
from lower_sp_clients.vim.holds import AllocationState as Recorded
from lower_sp_clients.vim.local_vim import LocalVim

STATES = {
    Recorded.HELD: AllocationState.HELD,
    Recorded.LIVE: AllocationState.COMMITTED,
    Recorded.RESTING: AllocationState.QUARANTINED,
}
Owners = Mapping[str, tuple[str, str]]
"""Account and ref of an order by its id, and by the refs of its segments."""


def owners(orders: Iterable[Order]) -> Owners:
    """Whose each block and each segment's label is."""
    out: dict[str, tuple[str, str]] = {}
    for order in orders:
        whose = order.account, order.ref
        out |= {order.id: whose, **{segment.ref: whose for segment in order.segments}}
    return out


def of_prefixes(pools: Pools, known: Owners) -> Iterator[PoolUse]:
    """The broker's pools; sizes in addresses."""
    for pool in pools.all():
        free, length = pools.free(pool)
        bits = pool.prefix.max_prefixlen - length if length is not None else -1
        mine = sorted(
            (a for a in pools.allocations() if a.pool == PREFIXES + pool.name),
            key=lambda a: int(ip_network(a.value).network_address),
        )
        yield PoolUse(
            name=pool.name,
            kind=PoolKind.PREFIXES,
            extent=str(pool.prefix),
            size=str(pool.prefix.num_addresses),
            free=str(free),
            largest_free=f"/{length}" if length is not None else "",
            fragmentation=_broken_up(free, 1 << bits if bits >= 0 else 0),
            draining=not pool.usable,
            entries=tuple(_entry(a, known) for a in mine),
        )


def of_labels(vim: LocalVim, known: Owners) -> Iterator[PoolUse]:
    """The SAPs of an own domain; sizes in labels."""
    taken: dict[str, list[Allocation]] = {}
    for allocation in labels_in_use(vim):
        taken.setdefault(allocation.pool.partition("/")[2], []).append(allocation)
    for sap in vim.domain.saps:
        free = vim.free_labels(sap)
        largest = free.longest(1)
        yield PoolUse(
            name=f"{vim.domain.name}/{sap.id}",
            kind=PoolKind.LABELS,
            extent=_extent(sap),
            size=str(len(sap.labels)),
            free=str(len(free)),
            largest_free=str(largest),
            fragmentation=_broken_up(len(free), len(largest)),
            draining=not sap.usable,
            entries=tuple(
                _entry(a, known, outside=int(a.value) not in sap.labels)
                for a in sorted(taken.get(sap.id, ()), key=lambda a: int(a.value))
            ),
        )


def of_resources(vim: LocalVim, now: datetime) -> Iterator[ResourceUse]:
    """The ways, SAPs and hosts of an own domain of which anything is taken now or later."""
    sizes = vim.domain.sizes()
    for key, levels in vim.taken(now):
        name = key if isinstance(key, str) else f"{key[0]} host {key[1] + 1}"
        yield ResourceUse(
            name=f"{vim.domain.name}/{name}",
            size=sizes.get(key, 0),
            host=not isinstance(key, str),
            levels=tuple(ResourceLevel(since=since, taken=taken) for since, taken in levels),
        )


def of_path_ids(ids: PathIds, known: Owners) -> Iterator[PoolUse]:
    """The identifiers of paths; sizes in paths."""
    if taken := sorted(ids.allocations(), key=lambda a: int(a.value)):
        yield PoolUse(
            name=PATH_IDS.lstrip("~"),
            kind=PoolKind.PATH_IDS,
            extent=f"2-{2 * ids.size}",
            size=str(ids.size),
            free=str(ids.free),
            entries=tuple(_entry(a, known) for a in taken),
        )


def _entry(allocation: Allocation, known: Owners, outside: bool = False) -> PoolEntry:
    account, ref = known.get(allocation.owner, ("", ""))
    return PoolEntry(
        value=allocation.value,
        state=STATES[allocation.state],
        account=account,
        ref=ref,
        until=allocation.until,
        outside=outside,
    )


def _extent(sap: Sap) -> str:
    """Its labels with what they are; as plain numbers where the encapsulation is of a newer release."""
    kind = kind_of(sap.encapsulation)
    return str(KindedLabels(kind, sap.labels)) if kind is not None and sap.labels <= kind.labels else str(sap.labels)


def _broken_up(free: int, largest: int) -> float:
    return round(1 - largest / free, 4) if free else 0.0
