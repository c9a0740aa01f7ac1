"""What a database that was restored from a backup knows of it, and that an operator has accepted it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter
from sqlalchemy import Connection, select

from broker.orders.records import AuditRow
from broker.storage import tables as t
from broker.storage.allocations import add_allocations
from broker.storage.engine import Engine
from broker.storage.statements import Script, adding, replacing
from lower_sp_clients.vim.holds import Allocation
from service_model.words import Instant

MARK = "restored"
EDITION_FLOOR = "edition_floor"
"""Keys of the table `meta`: what follows, and the edition that all notes of this incarnation are above."""
_META, _AUDIT = replacing(t.meta), adding(t.audit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """When it was restored, the epoch of the backup, and when an operator accepted what was found. `untracked`: whether others
    had something then that the store does not know of, or were not heard."""

    at: Instant
    former_epoch: str = ""
    accepted: Instant | None = None
    untracked: bool = False

    def text(self) -> str:
        return _RESTORED.dump_json(self, exclude_defaults=True).decode()


_RESTORED: TypeAdapter[Restored] = TypeAdapter(Restored)


class SqlRestored:
    def __init__(self, engine: Engine, epoch: str) -> None:
        self._engine = engine
        self._epoch = epoch

    async def load(self) -> Restored | None:
        """None where this database was never restored."""

        def work(connection: Connection) -> str | None:
            return connection.execute(select(t.meta.c.value).where(t.meta.c.key == MARK)).scalar()

        found = await self._engine.read(work)
        return _RESTORED.validate_json(found) if found else None

    async def accept(
        self,
        restored: Restored,
        untracked: bool,
        put: Sequence[Allocation],
        drop: Sequence[Allocation],
        audit: AuditRow,
    ) -> Restored:
        """That it is accepted, what is kept off from then on and what no longer, and who decided so: all or nothing."""
        at = audit.at
        done = replace(restored, accepted=restored.accepted or at, untracked=untracked)

        script = Script("SqlRestored.accept")
        script.add(_META, {"key": MARK, "value": done.text()})
        add_allocations(script, self._epoch, put, drop, at)
        script.add(_AUDIT, {f: getattr(audit, f) for f in audit.__slots__})
        await self._engine.tx(script)
        return done


def edition_floor(connection: Connection) -> int:
    known = connection.execute(select(t.meta.c.value).where(t.meta.c.key == EDITION_FLOOR)).scalar()
    return int(known or 0)
