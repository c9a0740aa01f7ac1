"""The table of allocations: what is taken and given back, with its entries in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from broker.storage import tables as t
from broker.storage.engine import Engine
from broker.storage.statements import adding, removing, replacing
from lower_sp_clients.vim.holds import Allocation, AllocationState

_ALLOCATE, _FREE = replacing(t.allocations), removing(t.allocations, "pool", "value", "owner")
_JOURNAL = adding(t.journal)


def save_allocations(
    connection: Connection, epoch: str, put: Sequence[Allocation], drop: Sequence[Allocation], at: datetime
) -> None:
    """The rows of what is taken and given back, and of each an entry in the journal."""
    _FREE.run(connection, *({"pool": a.pool, "value": a.value, "owner": a.owner} for a in drop))
    _ALLOCATE.run(
        connection,
        *(
            {
                "pool": a.pool,
                "value": a.value,
                "owner": a.owner,
                "epoch": epoch,
                "state": a.state.short,
                "until": a.until,
            }
            for a in put
        ),
    )
    changes = [(a, "FREE") for a in drop] + [(a, a.state.short) for a in put]
    _JOURNAL.run(
        connection,
        *(
            {
                "at": at,
                "service": a.owner,
                "segment": "",
                "what": "allocation",
                "key": a.value,
                "detail": f"{a.pool} {state}",
            }
            for a, state in changes
        ),
    )


def load_allocations(connection: Connection, prefix: str) -> list[Allocation]:
    rows = connection.execute(select(t.allocations).where(t.allocations.c.pool.startswith(prefix, autoescape=True)))
    return [
        Allocation(pool=r.pool, value=r.value, owner=r.owner, state=AllocationState(r.state), until=r.until)
        for r in rows
    ]


async def all_allocations(engine: Engine) -> Sequence[Allocation]:
    """The whole table: labels and blocks, whoever has them."""
    return await engine.read(lambda connection: load_allocations(connection, ""))
