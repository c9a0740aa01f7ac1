"""What is remembered of each supplier over its table: what it made of what it announced, and its last edition."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.postgresql import insert

from broker.storage import tables as t
from broker.storage.engine import Engine
from broker.storage.statements import replacing
from capability_registry.promises import Promises

_ACCEPTED = replacing(t.accepted_editions)


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


class SqlAcceptedEditions:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def load(self) -> Mapping[str, tuple[str, int]]:
        def work(connection: Connection) -> dict[str, tuple[str, int]]:
            rows = connection.execute(select(t.accepted_editions))
            return {row.supplier: (row.sp_id, row.edition) for row in rows}

        return await self._engine.read(work)

    async def save(self, accepted: Mapping[str, tuple[str, int]]) -> None:
        rows = [{"supplier": alias, "sp_id": sp, "edition": edition} for alias, (sp, edition) in accepted.items()]
        await self._engine.tx(lambda connection: _ACCEPTED.run(connection, *rows))

    async def forget(self, alias: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(delete(t.accepted_editions).where(t.accepted_editions.c.supplier == alias))

        await self._engine.tx(work)
