"""The versions of administered documents over the tables.

Rules kept here
- A version is never rewritten: a change ends the current row (`valid_until`) and begins the next, a removal only ends it.
- Version numbers of a name grow also over its removal, so what a reservation pinned stays one document.
- The audit rows of a change are in its transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, func, insert, select, update

from broker.accounts.documents import Authorship, DocumentsChanged, Edit, audited
from broker.settings.administered import DOCUMENT
from broker.settings.present import Administered, Key, Versioned
from broker.storage import tables as t
from broker.storage.engine import Engine
from broker.storage.replicas import Replica

_D = t.documents.c


class SqlDocumentBook:
    """DocumentBook over the tables."""

    def __init__(self, engine: Engine, replica: Replica | None = None) -> None:
        self._engine = engine
        self._replica = replica

    async def load(self) -> Administered:
        def work(connection: Connection) -> dict[Key, Versioned]:
            rows = connection.execute(select(t.documents).where(_D.valid_until.is_(None)))
            return {(r.kind, r.name): Versioned(DOCUMENT.validate_json(r.document), r.version) for r in rows}

        return Administered(await self._engine.read(work))

    async def save(self, edits: Sequence[Edit], by: Authorship) -> Mapping[Key, int]:
        def work(connection: Connection) -> dict[Key, int]:
            versions: dict[Key, int] = {}
            for edit in edits:
                version = _replace(connection, edit, by)
                if version is not None:
                    versions[edit.key] = version
            if self._replica is not None:
                self._replica.tell(connection, [("documents", "")])
            return versions

        versions = await self._engine.tx(work)
        if self._replica is not None:
            self._replica.behind()
        return versions


def has_documents(connection: Connection) -> bool:
    """Whether anything was ever administered in this store."""
    return connection.execute(select(_D.version).limit(1)).first() is not None


def _replace(connection: Connection, edit: Edit, by: Authorship) -> int | None:
    kind, name = edit.key
    named = (_D.kind == kind) & (_D.name == name)
    current = connection.execute(select(_D.version).where(named, _D.valid_until.is_(None))).scalar()
    if current != (edit.before.version if edit.before else None):
        raise DocumentsChanged(f"{kind} {name!r} was changed meanwhile")
    if current is not None:
        connection.execute(update(t.documents).where(named, _D.version == current).values(valid_until=by.at))
    version = None
    if edit.after is not None:
        version = int(connection.execute(select(func.max(_D.version)).where(named)).scalar() or 0) + 1
        row = {
            "kind": kind,
            "name": name,
            "version": version,
            "valid_from": by.at,
            "valid_until": None,
            "author": by.actor,
            "reason": by.reason,
            "document": DOCUMENT.dump_json(edit.after),
        }
        connection.execute(insert(t.documents), row)
    audit = {
        "at": by.at,
        "actor": by.actor,
        "on_behalf_of": by.actor,
        "action": by.action,
        "subject": f"{kind}/{name}",
        "before": audited(edit.before.document if edit.before else None),
        "after": audited(edit.after),
        "reason": by.reason,
        "trace": "",
    }
    connection.execute(insert(t.audit), audit)
    return version
