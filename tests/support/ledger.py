"""What the store says of allocations: as a table, and as the journal that led there."""

from __future__ import annotations

from sqlalchemy import Connection, select

from broker.storage import tables as t
from broker.storage.engine import Engine

Ledger = dict[tuple[str, str], tuple[str, str]]
"""By pool and value, the owner and the state."""


async def table_and_journal(engine: Engine) -> tuple[Ledger, Ledger]:
    """The allocations as they stand, and as the journal's entries make them one after the other."""

    def work(connection: Connection) -> tuple[Ledger, Ledger]:
        j = t.journal.c
        table = {(r.pool, r.value): (r.owner, r.state) for r in connection.execute(select(t.allocations))}
        replayed: Ledger = {}
        entries = select(j.service, j.key, j.detail).where(j.what == "allocation").order_by(j.seq)
        for owner, value, detail in connection.execute(entries):
            pool, _, state = detail.rpartition(" ")
            if state != "FREE":
                replayed[pool, value] = (owner, state)
            elif replayed.get((pool, value), ("", ""))[0] == owner:
                del replayed[pool, value]
        return table, replayed

    return await engine.read(work)
