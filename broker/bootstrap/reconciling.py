"""Whether allocations and what they are for agree: told, and never mended by itself. Pure.

Rules kept here
- Every block, label and path id that is HELD or LIVE has an owner that has it, and is LIVE where the owner is committed; what an
  owner has is allocated. What rests has no owner any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broker.accounts.admin_port import Discrepancy
from broker.orders.path_ids import POOL as PATH_IDS
from broker.orders.pools import PREFIXES
from broker.orders.records import Order
from lower_sp_clients.vim import accounting
from lower_sp_clients.vim.holds import Allocation, AllocationState, Hold

Having = dict[tuple[str, str], tuple[str, AllocationState]]
"""By pool and value, the owner and how far that is. A block is known by its value alone."""


def disagreements(
    recorded: Iterable[Allocation], orders: Iterable[Order], holds: Iterable[tuple[str, Hold]]
) -> Iterator[Discrepancy]:
    """`recorded`: the table of allocations; `holds`: of own domains, each with its domain."""
    held = {_key(a): a for a in recorded if a.state is not AllocationState.RESTING}
    having: Having = {}
    for order in orders:
        had = order.id, AllocationState.LIVE if order.was_live else AllocationState.HELD
        having |= {(PREFIXES, value): had for value in order.blocks()}
        having |= {(PATH_IDS, str(id)): had for id in order.path_ids.values()}
    for domain, hold in holds:
        having |= {key: (a.owner, a.state) for key, a in accounting.labels(domain, hold).items()}
    for key, allocation in held.items():
        owner, state = having.get(key, ("", allocation.state))
        if owner != allocation.owner:
            message = f"{allocation.value} is allocated to {allocation.owner}, which does not have it"
        elif state is not allocation.state:
            message = f"{allocation.value} of {owner} is recorded as {allocation.state.short}, and is {state.short}"
        else:
            continue
        yield Discrepancy(where=allocation.pool, subject=allocation.value, message=message)
    for key, (owner, _) in having.items():
        if key not in held:
            message = f"{owner} has {key[1]}, which is not allocated"
            yield Discrepancy(where=key[0], subject=key[1], message=message)


def _key(allocation: Allocation) -> tuple[str, str]:
    pool = PREFIXES if allocation.pool.startswith(PREFIXES) else allocation.pool
    return pool, allocation.value
