"""Where orders, holds, notes' editions and the store's epoch are kept: the ports of the inner layers over the tables.

Rules kept here
- One transaction per call; an order's row, its version, what was allocated and the rows that only grow go together.
- Where the store is shared, a write is made under its writer's fence, and tells the others what it changed. What is another's is
  not allocated: whoever comes second, with another view of what is free, gets Taken.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, func, insert, select, tuple_

from broker.orders import path_ids
from broker.orders.pools import PREFIXES
from broker.orders.records import ORDER, Change, Order, Segment
from broker.storage import tables as t
from broker.storage.allocations import add_allocations, allocations_where, load_allocations
from broker.storage.engine import Engine
from broker.storage.errors import StoreError
from broker.storage.pieces import Pieces, Recent, each
from broker.storage.replicas import OVER, OWN, Changed, Replica, written
from broker.storage.restored import edition_floor
from broker.storage.statements import Script, adding, replacing
from lower_sp_clients.vim.holds import HOLD, Allocation, AllocationState, Hold
from service_model.outcomes import ServiceState, ServiceStatus

T = TypeVar("T")

_SERVICE, _VERSION, _HOLD = replacing(t.services), replacing(t.service_versions), replacing(t.holds)
_EVENT, _JOURNAL = adding(t.events, t.events.c.seq), adding(t.journal)
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
_HOLD_PIECES = Pieces(Hold, dict.fromkeys(("spec", "choice", "bindings", "reasons", "refusals", "beside", "former")))


def _told(put: Sequence[Allocation], drop: Sequence[Allocation]) -> list[Changed]:
    """The allocations as changes that other replicas read."""
    return [("allocation", f"{a.pool} {a.value}") for a in (*drop, *put)]


def _parsed(engine: Engine, of: TypeAdapter[T], document: bytes, what: str) -> T:
    """A stored document. Raises StoreError, which names what cannot be read, and why."""
    try:
        return of.validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"{engine.name}: {what} cannot be read: {where}{': ' * bool(where)}{first['msg']}") from error


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

    def __init__(self, engine: Engine, epoch: str, replica: Replica | None = None) -> None:
        self._engine = engine
        self._epoch = epoch
        self._replica = replica
        self._recent = Recent()

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

    async def find(self, ids: Sequence[str]) -> Sequence[Order]:
        """Those of these orders that are recorded, as they are now."""

        def work(connection: Connection) -> list[Order]:
            v = t.service_versions
            current = t.services.join(v, (v.c.service == t.services.c.id) & (v.c.version == t.services.c.version))
            rows = connection.execute(select(v.c.document).select_from(current).where(t.services.c.id.in_(ids)))
            return [_parsed(self._engine, ORDER, row.document, "a service") for row in rows]

        return await self._engine.read(work)

    async def allocated(self, keys: Sequence[tuple[str, str]]) -> Sequence[Allocation]:
        """Those of these (pool, value) that are allocated, as they are now."""
        named = tuple_(t.allocations.c.pool, t.allocations.c.value).in_(keys)
        return await self._engine.read(lambda connection: allocations_where(connection, named))

    async def save(self, change: Change) -> int:
        order, spec, shared = change.order, change.order.spec, self._replica is not None
        document, visible = self._documents(order, change.event)
        script = Script("SqlOrderBook.save")
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
        script.add(_SERVICE, service)
        version = {
            "service": order.id,
            "version": order.version,
            "state": order.state.short,
            "digest": order.digest,
            "agreement": order.terms.agreement,
            "agreement_version": order.terms.version,
            "document": document,
        }
        script.add(_VERSION, version)
        add_allocations(script, self._epoch, change.put, change.drop, order.updated, shared=shared)
        self._append(script, change)
        if shared and order.state is ServiceState.TERMINATED:
            script.add(OVER, {"what": order.id})
        event = {"at": order.updated, "account": order.account, "service": order.id, "document": visible}
        told = script.add(_EVENT, *([event] if change.event is not None else ()))
        changed = [("order", order.id), *_told(change.put, change.drop)]
        known = await written(self._engine, self._replica, script, changed, under=order.id)
        return int(told.value or 0) if known else 0

    def _documents(self, order: Order, seen: ServiceStatus | None) -> tuple[bytes, bytes]:
        """The order, and what its owner sees of it, as JSON."""
        former, now = self._recent.turn(order.id, last=order.state is ServiceState.TERMINATED)
        document = _ORDER.write(order, former, now)
        return document, _STATUS.write(seen, former, now) if seen is not None else b""

    @staticmethod
    def _append(script: Script, change: Change) -> None:
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
        script.add(_JOURNAL, *journal)
        script.add(_AUDIT, *({f: getattr(a, f) for f in a.__slots__} for a in change.audit))
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
        script.add(_CHARGE, *charges)

    async def put_allocations(self, put: Sequence[Allocation], drop: Sequence[Allocation], at: datetime) -> None:
        script = Script("SqlOrderBook.put_allocations")
        add_allocations(script, self._epoch, put, drop, at, shared=self._replica is not None)
        await written(self._engine, self._replica, script, _told(put, drop), under=OWN)

    async def events_after(self, sequence: int, account: str, limit: int) -> Sequence[tuple[int, bytes]]:
        def work(connection: Connection) -> list[tuple[int, bytes]]:
            e = t.events
            query = select(e.c.seq, e.c.document).where(e.c.account == account, e.c.seq > sequence)
            return [(r.seq, r.document) for r in connection.execute(query.order_by(e.c.seq).limit(limit))]

        return await self._engine.read(work)

    async def allocated_to(self, owners: Sequence[str]) -> Sequence[Allocation]:
        """What these services have, as it is now."""
        return await self._engine.read(
            lambda connection: allocations_where(connection, t.allocations.c.owner.in_(owners))
        )

    async def events_of_all(self, sequence: int, limit: int) -> Sequence[tuple[int, str, bytes]]:
        """Events of all accounts behind `sequence`: (sequence, account, ServiceStatus as JSON)."""

        def work(connection: Connection) -> list[tuple[int, str, bytes]]:
            e = t.events
            query = select(e.c.seq, e.c.account, e.c.document).where(e.c.seq > sequence).order_by(e.c.seq).limit(limit)
            return [(r.seq, r.account, r.document) for r in connection.execute(query)]

        return await self._engine.read(work)

    async def last_event(self) -> int:
        return await self._engine.read(lambda c: int(c.execute(select(func.max(t.events.c.seq))).scalar() or 0))


class SqlHoldBook:
    """HoldBook of one domain over the tables."""

    def __init__(self, engine: Engine, epoch: str, domain: str, replica: Replica | None = None) -> None:
        self._engine = engine
        self._epoch = epoch
        self._domain = domain
        self._replica = replica
        self._recent = Recent()

    async def load(self) -> tuple[Sequence[Hold], Sequence[Allocation]]:
        def work(connection: Connection) -> tuple[list[Hold], list[Allocation]]:
            h, what = t.holds, f"the hold of domain {self._domain!r} for segment "
            rows = connection.execute(select(h.c.ref, h.c.document).where(h.c.domain == self._domain))
            holds = [_parsed(self._engine, HOLD, row.document, what + row.ref) for row in rows]
            return holds, load_allocations(connection, f"{self._domain}/")

        return await self._engine.read(work)

    async def find(self, refs: Sequence[str]) -> tuple[Sequence[Hold], Sequence[Allocation]]:
        def work(connection: Connection) -> tuple[list[Hold], list[Allocation]]:
            mine = (t.holds.c.domain == self._domain) & t.holds.c.ref.in_(refs)
            rows = connection.execute(select(t.holds.c.document).where(mine))
            a = t.allocations.c
            resting = a.pool.startswith(f"{self._domain}/", autoescape=True) & (
                a.state == AllocationState.RESTING.short
            )
            return [_parsed(self._engine, HOLD, r.document, "a hold") for r in rows], allocations_where(
                connection, resting
            )

        return await self._engine.read(work)

    async def save(
        self, hold: Hold | None, put: Sequence[Allocation], drop: Sequence[Allocation], at: datetime
    ) -> None:
        document = self._document(hold) if hold is not None else b""
        script = Script("SqlHoldBook.save")
        if hold is not None:
            row = {
                "domain": self._domain,
                "ref": hold.ref,
                "version": hold.version,
                "state": hold.state.short,
                "updated": hold.updated,
                "document": document,
            }
            script.add(_HOLD, row)
        add_allocations(script, self._epoch, put, drop, at, shared=self._replica is not None)
        ref = hold.ref if hold is not None else ""
        await written(self._engine, self._replica, script, [("hold", f"{self._domain} {ref}")], under=OWN)

    def _document(self, hold: Hold) -> bytes:
        former, now = self._recent.turn(hold.ref, last=hold.state is ServiceState.TERMINATED)
        return _HOLD_PIECES.write(hold, former, now)


class SqlEditions:
    """Which edition of its note each audience was given last, so that editions grow over restarts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def latest(self, audience: str) -> int:
        """The last edition that was given out, by whatever process; 0: none."""
        query = select(t.note_editions.c.edition).where(t.note_editions.c.audience == audience)
        return await self._engine.read(lambda connection: int(connection.execute(query).scalar() or 0))

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
