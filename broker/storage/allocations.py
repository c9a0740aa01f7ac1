"""The table of allocations: what is taken and given back, with its entries in the journal.

Where other processes allocate too, whoever comes second gets Taken; a prefix that overlaps another's is refused by PostgreSQL
itself. A process that is alone knows what is free, and may put what it keeps off in the place of what an order had.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, select

from broker.orders.claims import Taken
from broker.storage import tables as t
from broker.storage.engine import Engine
from broker.storage.statements import Done, Script, adding, removing, replacing
from lower_sp_clients.vim.holds import Allocation, AllocationState

_ALLOCATE, _FREE = replacing(t.allocations), removing(t.allocations, "pool", "value", "owner")
_ALLOCATE_FREE = replacing(t.allocations, of_same="owner")
"""Only what is free, or its owner's already."""
_JOURNAL = adding(t.journal)
_OVERLAPS = "23P01"
"""The SQLSTATE of an exclusion constraint."""


def add_allocations(
    script: Script,
    epoch: str,
    put: Sequence[Allocation],
    drop: Sequence[Allocation],
    at: datetime,
    *,
    shared: bool = False,
) -> None:
    """The rows of what is taken and given back, and of each an entry in the journal. `shared`: other processes allocate too, and
    what turns out to be another's, or overlaps it, raises Taken."""
    script.add(_FREE, *({"pool": a.pool, "value": a.value, "owner": a.owner} for a in drop))
    rows = [
        {
            "pool": a.pool,
            "value": a.value,
            "owner": a.owner,
            "epoch": epoch,
            "state": a.state.short,
            "until": a.until,
        }
        for a in put
    ]

    def all_written(done: Done) -> None:
        if done.count != len(put):
            raise Taken(f"one of {[a.value for a in put]} is another's")

    def overlapping(error: Exception) -> Exception:
        if getattr(error, "sqlstate", "") == _OVERLAPS:
            return Taken(f"one of {[a.value for a in put]} overlaps another's")
        return error

    if shared:
        script.add(_ALLOCATE_FREE, *rows, check=all_written, refused=overlapping)
    else:
        script.add(_ALLOCATE, *rows)
    changes = [(a, "FREE") for a in drop] + [(a, a.state.short) for a in put]
    script.add(
        _JOURNAL,
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
    return allocations_where(connection, t.allocations.c.pool.startswith(prefix, autoescape=True))


def allocations_where(connection: Connection, condition: ColumnElement[bool]) -> list[Allocation]:
    rows = connection.execute(select(t.allocations).where(condition))
    return [
        Allocation(pool=r.pool, value=r.value, owner=r.owner, state=AllocationState(r.state), until=r.until)
        for r in rows
    ]


async def all_allocations(engine: Engine) -> Sequence[Allocation]:
    """The whole table: labels and blocks, whoever has them."""
    return await engine.read(lambda connection: load_allocations(connection, ""))
