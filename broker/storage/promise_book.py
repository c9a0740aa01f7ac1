"""What each supplier made of what it announced, over the table."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from broker.storage import tables as t
from broker.storage.engine import Engine
from capability_registry.promises import Promises


class SqlPromiseBook:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def load(self) -> Mapping[str, Promises]:
        def work(connection: Connection) -> dict[str, Promises]:
            rows = connection.execute(select(t.supplier_promises))
            return {row.supplier: Promises(kept=row.kept, broken=row.broken) for row in rows}

        return await self._engine.read(work)

    async def save(self, changed: Mapping[str, Promises]) -> None:
        statement = insert(t.supplier_promises)
        statement = statement.on_conflict_do_update(
            index_elements=["supplier"], set_={"kept": statement.excluded.kept, "broken": statement.excluded.broken}
        )
        rows = [{"supplier": alias, "kept": p.kept, "broken": p.broken} for alias, p in changed.items()]

        def work(connection: Connection) -> None:
            connection.execute(statement, rows)

        await self._engine.tx(work)
