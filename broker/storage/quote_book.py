"""The quotes that stand, over the table: the broker's own under "", a domain's under its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from pydantic import TypeAdapter
from sqlalchemy import Connection, select

from broker.storage import tables as t
from broker.storage.engine import Engine
from broker.storage.replicas import Replica, written
from broker.storage.statements import Script, removing, replacing
from lower_sp_clients.quotes import Q

_PUT, _DROP = replacing(t.quotes), removing(t.quotes, "supplier", "id")


class SqlQuoteBook(Generic[Q]):
    """`kind` is how a quote of this supplier is written."""

    def __init__(self, engine: Engine, supplier: str, kind: TypeAdapter[Q], replica: Replica | None = None) -> None:
        self._engine, self._supplier, self._kind, self._replica = engine, supplier, kind, replica

    async def load(self) -> Sequence[Q]:
        def work(connection: Connection) -> list[Q]:
            rows = connection.execute(select(t.quotes.c.document).where(t.quotes.c.supplier == self._supplier))
            return [self._kind.validate_json(row.document) for row in rows]

        return await self._engine.read(work)

    async def put(self, quote: Q) -> None:
        row = {
            "supplier": self._supplier,
            "id": quote.id,
            "account": quote.account,
            "until": quote.until,
            "document": self._kind.dump_json(quote, exclude_defaults=True),
        }

        script = Script("SqlQuoteBook.put")
        script.add(_PUT, row)
        await self._written(script)

    async def drop(self, ids: Sequence[str]) -> None:
        script = Script("SqlQuoteBook.drop")
        script.add(_DROP, *({"supplier": self._supplier, "id": id} for id in ids))
        await self._written(script)

    async def _written(self, script: Script) -> None:
        await written(self._engine, self._replica, script, [("quote", self._supplier)])
