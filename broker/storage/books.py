"""Where orders, holds, notes' editions and the store's epoch are kept: the ports of the inner layers over the tables.

One transaction per call; an order's row, its version, what was allocated and the rows that only grow go together.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, func, insert, select

from broker.orders import path_ids
from broker.orders.pools import PREFIXES
from broker.orders.records import ORDER, Change, Order, Segment
from broker.storage import tables as t
from broker.storage.allocations import load_allocations, save_allocations
from broker.storage.engine import Engine
from broker.storage.errors import StoreError
from broker.storage.pieces import Pieces, Written, each
from broker.storage.restored import edition_floor
from broker.storage.statements import adding, replacing
from lower_sp_clients.vim.holds import HOLD, Allocation, Hold
from service_model.outcomes import ServiceState, ServiceStatus

T = TypeVar("T")

_SERVICE, _VERSION, _HOLD = replacing(t.services), replacing(t.service_versions), replacing(t.holds)
_EVENT, _JOURNAL = adding(t.events, returning="seq"), adding(t.journal)
_AUDIT, _CHARGE = adding(t.audit), adding(t.charges)
_EDITION = replacing(t.note_editions)

_SEGMENT = Pieces(Segment, dict.fromkeys(("spec", "towards", "choice", "bindings", "reasons", "parts")))
_ORDER = Pieces(
    Order,
    {
        **dict.fromkeys(("spec", "terms", "plan", "avoid", "classes", "links", "choice", "bindings", "reasons")),
        **dict.fromkeys(("answers", "previous", "beside", "past", "quoted")),
        "segments": each(_SEGMENT),
    },
)
_STATUS = Pieces(ServiceStatus, dict.fromkeys(("choice", "binding", "reasons")))
_KEPT = 1024
"""Of how many orders the pieces last written are remembered: those that are being worked on."""


def _parsed(engine: Engine, of: TypeAdapter[T], document: bytes, what: str) -> T:
    """A stored document. Raises StoreError, which names what cannot be read, and why."""
    try:
        return of.validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"{engine.path}: {what} cannot be read: {where}{': ' * bool(where)}{first['msg']}") from error


async def epoch_of(engine: Engine, fresh: uuid.UUID) -> str:
    """The store's incarnation: made once, as `fresh`, with the store."""

    def work(connection: Connection) -> str:
        known = connection.execute(select(t.meta.c.value).where(t.meta.c.key == "epoch")).scalar()
        if known is None:
            connection.execute(insert(t.meta), {"key": "epoch", "value": str(fresh)})
        return known or str(fresh)

    return await engine.tx(work)


class SqlOrderBook:
    """OrderBook over the tables."""

    def __init__(self, engine: Engine, epoch: str) -> None:
        self._engine = engine
        self._epoch = epoch
        self._written: dict[str, Written] = {}

    async def load(self) -> tuple[Sequence[Order], Sequence[Allocation]]:
        def work(connection: Connection) -> tuple[list[Order], list[Allocation]]:
            v = t.service_versions
            current = t.services.join(v, (v.c.service == t.services.c.id) & (v.c.version == t.services.c.version))
            rows = connection.execute(
                select(v.c.service, v.c.document).select_from(current).order_by(t.services.c.created)
            )
            return [_parsed(self._engine, ORDER, row.document, f"service {row.service}") for row in rows], [
                a for pool in (PREFIXES, path_ids.POOL) for a in load_allocations(connection, pool)
            ]

        return await self._engine.read(work)

    async def save(self, change: Change) -> int:
        order = change.order
        document, visible = self._documents(order, change.event)

        def work(connection: Connection) -> int:
            spec = order.spec
            service = {
                "id": order.id,
                "account": order.account,
                "ref": order.ref,
                "state": order.state.short,
                "version": order.version,
                "name": spec.name if spec else "",
                "reference": spec.reference if spec else "",
                "tags": " ".join(spec.tags) if spec else "",
                "created": order.created,
                "updated": order.updated,
            }
            _SERVICE.run(connection, service)
            version = {
                "service": order.id,
                "version": order.version,
                "state": order.state.short,
                "digest": order.digest,
                "agreement": order.terms.agreement,
                "agreement_version": order.terms.version,
                "document": document,
            }
            _VERSION.run(connection, version)
            save_allocations(connection, self._epoch, change.put, change.drop, order.updated)
            self._append(connection, change)
            if change.event is None:
                return 0
            event = {"at": order.updated, "account": order.account, "service": order.id, "document": visible}
            return int(_EVENT.run(connection, event))

        return await self._engine.tx(work)

    def _documents(self, order: Order, seen: ServiceStatus | None) -> tuple[bytes, bytes]:
        """The order, and what its owner sees of it, as JSON."""
        former, now = self._written.pop(order.id, {}), Written()
        document = _ORDER.write(order, former, now)
        visible = _STATUS.write(seen, former, now) if seen is not None else b""
        if order.state is not ServiceState.TERMINATED:
            self._written[order.id] = now
            while len(self._written) > _KEPT:
                del self._written[next(iter(self._written))]
        return document, visible

    @staticmethod
    def _append(connection: Connection, change: Change) -> None:
        journal = (
            {
                "at": j.at,
                "service": j.service,
                "segment": j.segment,
                "what": j.what,
                "key": j.key,
                "detail": j.detail,
            }
            for j in change.journal
        )
        _JOURNAL.run(connection, *journal)
        _AUDIT.run(connection, *({f: getattr(a, f) for f in a.__slots__} for a in change.audit))
        charges = (
            {
                "at": c.at,
                "side": c.side.short,
                "partner": c.partner,
                "service": c.service,
                "segment": c.segment,
                "kind": c.kind.short,
                "currency": c.price.currency,
                "once": str(c.price.once),
                "per_hour": str(c.price.per_hour),
                "agreement": c.agreement,
                "agreement_version": c.agreement_version,
            }
            for c in change.charges
        )
        _CHARGE.run(connection, *charges)

    async def put_allocations(self, put: Sequence[Allocation], drop: Sequence[Allocation], at: datetime) -> None:
        await self._engine.tx(lambda connection: save_allocations(connection, self._epoch, put, drop, at))

    async def events_after(self, sequence: int, account: str, limit: int) -> Sequence[tuple[int, bytes]]:
        def work(connection: Connection) -> list[tuple[int, bytes]]:
            e = t.events
            query = select(e.c.seq, e.c.document).where(e.c.account == account, e.c.seq > sequence)
            return [(r.seq, r.document) for r in connection.execute(query.order_by(e.c.seq).limit(limit))]

        return await self._engine.read(work)

    async def last_event(self) -> int:
        return await self._engine.read(lambda c: int(c.execute(select(func.max(t.events.c.seq))).scalar() or 0))


class SqlHoldBook:
    """HoldBook of one domain over the tables."""

    def __init__(self, engine: Engine, epoch: str, domain: str) -> None:
        self._engine = engine
        self._epoch = epoch
        self._domain = domain

    async def load(self) -> tuple[Sequence[Hold], Sequence[Allocation]]:
        def work(connection: Connection) -> tuple[list[Hold], list[Allocation]]:
            h, what = t.holds, f"the hold of domain {self._domain!r} for segment "
            rows = connection.execute(select(h.c.ref, h.c.document).where(h.c.domain == self._domain))
            holds = [_parsed(self._engine, HOLD, row.document, what + row.ref) for row in rows]
            return holds, load_allocations(connection, f"{self._domain}/")

        return await self._engine.read(work)

    async def save(
        self, hold: Hold | None, put: Sequence[Allocation], drop: Sequence[Allocation], at: datetime
    ) -> None:
        document = HOLD.dump_json(hold, exclude_defaults=True) if hold is not None else b""

        def work(connection: Connection) -> None:
            if hold is not None:
                row = {
                    "domain": self._domain,
                    "ref": hold.ref,
                    "version": hold.version,
                    "state": hold.state.short,
                    "updated": hold.updated,
                    "document": document,
                }
                _HOLD.run(connection, row)
            save_allocations(connection, self._epoch, put, drop, at)

        await self._engine.tx(work)


class SqlEditions:
    """Which edition of its note each audience was given last, so that editions grow over restarts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def next(self, audience: str, digest: str) -> int:
        """The edition for this content: the last one if nothing changed, else one more. The first one of a restored store is
        above all that were given out before."""

        def work(connection: Connection) -> int:
            e = t.note_editions
            known = connection.execute(select(e.c.edition, e.c.digest).where(e.c.audience == audience)).first()
            if known is not None and known.digest == digest:
                return int(known.edition)
            edition = (known.edition if known is not None else edition_floor(connection)) + 1
            _EDITION.run(connection, {"audience": audience, "edition": edition, "digest": digest})
            return int(edition)

        return await self._engine.tx(work)
