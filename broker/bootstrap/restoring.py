"""A store that was restored from a backup, beside what suppliers and domains have: what differs, and what is kept off. Pure.

Rules kept here
- A supplier tells all that it has of ours. What it has and we do not know was ordered after the backup; what we know and it
  does not have ended since; what is known at both is of the same version, and both hold it or both deliver it.
- Nothing follows from a difference but that it is told. Whatever is reported as used and is not recorded here is kept off: a
  block, the identifier of a path, a label rests, under an owner that is none of our orders, until nobody reports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from address_planner.conflicts import conflicting
from broker.accounts.admin_port import Discrepancy
from broker.orders.path_ids import POOL as PATH_IDS
from broker.orders.pools import OF_OTHERS, PREFIXES, Pool
from broker.orders.records import Order, Segment
from broker.orders.states import AS_SERVICE
from broker.orders.tasks import remains
from lower_sp_clients.vim.driver import Item
from lower_sp_clients.vim.holds import Allocation, AllocationState, Hold
from service_model.outcomes import ServiceState, ServiceStatus
from service_model.words import Prefix

_HELD = frozenset({ServiceState.RESERVING, ServiceState.RESERVED})
_OVER = frozenset({ServiceState.TERMINATED, ServiceState.EXPIRED, ServiceState.REFUSED})
_BUILT = frozenset({ServiceState.ACTIVE})
_BUILDABLE = _BUILT | {ServiceState.ACTIVATING, ServiceState.FAILED, ServiceState.TERMINATING}
"""The states of holds whose infrastructure may be there."""
OWNER_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one supplier has of ours; or why it could not be asked."""

    alias: str
    services: Sequence[ServiceStatus] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """An own domain: its holds, and what its driver found."""

    domain: str
    holds: Sequence[Hold]
    items: Sequence[Item]


def differences(orders: Iterable[Order], told: Iterable[Told]) -> Iterator[Discrepancy]:
    ours = _parts(orders)
    for supplier in told:
        if supplier.failure:
            yield Discrepancy(where=supplier.alias, subject="", message=f"cannot be asked: {supplier.failure}")
            continue
        there = {status.ref: status for status in supplier.services}
        for ref, status in there.items():
            known = ours.get((supplier.alias, ref))
            message = _unknown(status) if known is None else _differs(*known, status)
            if message:
                yield Discrepancy(where=supplier.alias, subject=ref, message=message)
        for (alias, ref), (order, segment) in ours.items():
            if alias == supplier.alias and ref not in there and remains(segment):
                yield Discrepancy(where=alias, subject=ref, message=f"{_ours(order, segment)}, and unknown there")


def _parts(orders: Iterable[Order]) -> dict[tuple[str, str], tuple[Order, Segment]]:
    """Of all versions of every order, by supplier and ref; what is live of a ref before what is to take its place."""
    return {
        (s.alias, s.ref): (order, s) for order in orders for s in reversed(tuple(order.all_segments())) if not s.kept
    }


def _unknown(status: ServiceStatus) -> str:
    if status.state in _OVER:
        return ""
    return f"is {status.state.short} there, and unknown here: ordered after the backup"


def _differs(order: Order, segment: Segment, status: ServiceStatus) -> str:
    """How a segment that both know differs; empty where it does not."""
    if segment.abandoned is not None:
        return ""  # told by itself, whenever its supplier is back
    here = AS_SERVICE[segment.state] if remains(segment) else ServiceState.TERMINATED
    if _kind(here) != _kind(status.state):
        return f"is {status.state.short} there; {_ours(order, segment)}"
    if here not in _OVER and segment.version != status.version:
        return f"has version {status.version} there, and {segment.version} here; {_ours(order, segment)}"
    return ""


def _kind(state: ServiceState) -> str:
    return "over" if state in _OVER else "held" if state in _HELD else "live"


def _ours(order: Order, segment: Segment) -> str:
    return f"segment {segment.key} of {order.account}'s service {order.ref!r} is {segment.state.short} here"


def not_built(surveyed: Iterable[Surveyed]) -> Iterator[Discrepancy]:
    """What domains should have and do not. (What they have and nobody knows is told without a restore, too.)"""
    for domain in surveyed:
        built = {item.segment for item in domain.items}
        for hold in domain.holds:
            if hold.state in _BUILT and hold.ref not in built:
                message = f"is {hold.state.short} here, and nothing of it is built"
                yield Discrepancy(where=domain.domain, subject=hold.ref, message=message)


def untracked(orders: Iterable[Order], told: Iterable[Told], surveyed: Iterable[Surveyed]) -> bool:
    """Whether anybody has, or delivers, what the store does not know of, or only as a hold."""
    live = {part: order.was_live for part, (order, _) in _parts(orders).items()}
    for supplier in told:
        for status in supplier.services:
            known = live.get((supplier.alias, status.ref))
            if status.state not in _OVER and (known is None or (not known and status.state not in _HELD)):
                return True
    for domain in surveyed:
        known_there = {hold.ref for hold in domain.holds if hold.state in _BUILDABLE}
        if any(item.segment not in known_there for item in domain.items):
            return True
    return False


def kept_off(
    pools: Sequence[Pool],
    recorded: Iterable[Allocation],
    orders: Iterable[Order],
    told: Sequence[Told],
    surveyed: Sequence[Surveyed],
) -> tuple[Allocation, ...]:
    """What is to rest until nobody reports it. `recorded`: all allocations of our own.

    What is recorded for the very order that it is reported of needs no keeping: it is freed with that order. But for what we only
    hold, and a supplier has live: it was committed after the backup, and the hold that is recorded here ends.
    """
    rows = {(a.pool, a.value): a for a in recorded}
    ours = {part: order.id for part, (order, _) in _parts(orders).items()}
    out: dict[tuple[str, str], Allocation] = {}
    own = [ip_network(value) for pool, value in rows if pool.startswith(PREFIXES)]
    for use in _uses(pools, ours, told, surveyed):
        key = use.pool, use.value
        row = rows.get(key)
        safe = row is not None and row.owner == use.order and not (use.live and row.state is AllocationState.HELD)
        if safe or key in out:
            continue
        if row is None and use.pool.startswith(PREFIXES):
            if conflicting([ip_network(use.value)], own):
                continue  # a pool had blocks of another size: what covers it has an owner
            own.append(ip_network(use.value))
        owner = (OF_OTHERS + use.whose)[:OWNER_LENGTH]
        out[key] = Allocation(pool=use.pool, value=use.value, owner=owner, state=AllocationState.RESTING)
    return tuple(out.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """A value of a pool that is reported as used. `order`: which of ours it is reported of, as allocations name owners."""

    pool: str
    value: str
    whose: str
    order: str
    live: bool


def _uses(
    pools: Sequence[Pool], ours: Mapping[tuple[str, str], str], told: Iterable[Told], surveyed: Iterable[Surveyed]
) -> Iterator[_Use]:
    for supplier in told:
        for status in supplier.services:
            if status.choice is None or status.state in _OVER:
                continue
            values = {(PREFIXES + pool.name, str(b)) for p in _prefixes(status) for pool, b in _blocks(pools, p)}
            values |= {(PATH_IDS, str(header.id)) for header in status.choice.path_headers.values()}
            order, live = ours.get((supplier.alias, status.ref), ""), status.state not in _HELD
            for pool, value in sorted(values):
                yield _Use(pool=pool, value=value, whose=f"{supplier.alias}/{status.ref}", order=order, live=live)
    for domain in surveyed:
        for item in domain.items:
            if item.label is not None:
                pool, value = f"{domain.domain}/{item.sap}", str(item.label)
                yield _Use(pool=pool, value=value, whose=item.segment, order=item.segment, live=True)


def _prefixes(status: ServiceStatus) -> Iterator[Prefix]:
    assert status.choice is not None
    for link in status.choice.links:
        yield from (prefix for prefix in (link.prefix, link.second_prefix) if prefix is not None)


def _blocks(pools: Sequence[Pool], prefix: Prefix) -> Iterator[tuple[Pool, Prefix]]:
    """The blocks of our pools that a prefix lies in."""
    for pool in pools:
        if pool.prefix.version == prefix.version and conflicting([pool.prefix], [prefix]):
            if prefix.prefixlen >= pool.block:
                yield pool, prefix.supernet(new_prefix=pool.block)
            else:
                inside = conflicting([pool.prefix], [prefix])
                yield from ((pool, block) for part in inside for block in part.subnets(new_prefix=pool.block))
