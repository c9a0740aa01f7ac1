"""One of several processes on one store: its lease, what it has claimed, and what the others changed.

Theory of operation
- A replica has one lease, by the store's own clock, which it renews (`beat`). What it claimed is its own until it gives it
  away, another takes it, or its lease has lapsed and another finds it so.
- A claim has a fence, which grows each time that the claim changes hands. Every write for what is claimed is made under the
  fence that its writer knows (`guarded`), in the same transaction: a former owner's is refused with Fenced.
- Every write says what it changed (`changes`), in the same transaction. There is one writer at a time, so whoever has read
  up to a number has seen everything that was committed with lower ones. The others read anew what is named there.
- A replica whose lease lapsed so long ago that it is forgotten has missed what nobody keeps: it ends, and is started again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select, text, update

from broker.orders.claims import Fenced
from broker.storage import tables as t
from broker.storage.engine import Engine
from broker.storage.errors import StoreError
from broker.storage.statements import adding, replacing

OWN = "own"
"""The claim on what is own: domains and their drivers, and what time does to pools and quotes."""
BATCH = 200
"""How many claims are taken over at once, so that several replicas share what one left."""
KEPT = timedelta(minutes=10)
"""After how long a replica whose lease is over is forgotten. It is told what was changed for twice as long, so whoever is not
forgotten has missed nothing."""
Guard = Callable[[Connection], None]
Changed = tuple[str, str]
"""Kind and key of what was written."""

_CHANGE = adding(t.changes)
_LEASE = replacing(t.replicas)
_C, _R, _N = t.claims.c, t.replicas.c, t.changes.c


def store_time(connection: Connection) -> datetime:
    """By the store's clock, which is one for all replicas."""
    return connection.execute(text("SELECT clock_timestamp()")).scalar_one()  # type: ignore[no-any-return]


class LeaseLost(StoreError):
    """This replica was taken for dead, and what was changed meanwhile is not kept: it has to be started again."""


@dataclass(frozen=True, slots=True)
class Claim:
    what: str
    owner: str
    fence: int


@dataclass(frozen=True, slots=True)
class News:
    """What was changed up to a number of the store."""

    upto: int
    others: dict[str, list[str]] = field(default_factory=dict)
    """By other replicas: by kind, the keys."""
    claims: tuple[Claim, ...] = ()
    """Those that changed hands, as they are now."""
    orders: bool = False
    """Whether any order was recorded, by whomever."""


class Replica:
    """This process among those that work on the store. `join` before use."""

    def __init__(
        self, engine: Engine, id: str, lease: timedelta, time: Callable[[Connection], datetime] = store_time
    ) -> None:
        self.id = id
        self.lease = lease
        self._engine = engine
        self._time = time
        self._seen = 0
        self._beaten = datetime.max.replace(tzinfo=UTC)
        """When the lease was renewed last: near enough to tell how old a change is."""
        self.fences: dict[str, int] = {}
        """What this replica has claimed, with the fence; 0: what is not recorded yet."""

    # the lease

    async def join(self) -> None:
        """From here on nothing that others change is missed."""

        def work(connection: Connection) -> int:
            self._renew(connection)
            if connection.execute(select(_C.what).where(_C.what == OWN)).first() is None:
                connection.execute(insert(t.claims), {"what": OWN, "owner": "", "fence": 1, "open": True})
            return int(connection.execute(select(func.max(_N.seq))).scalar() or 0)

        self._seen = await self._engine.tx(work)

    async def beat(self) -> None:
        """Renew the lease, and forget changes that everybody knows. Raises LeaseLost."""

        def work(connection: Connection) -> None:
            until = connection.execute(select(_R.until).where(_R.id == self.id)).scalar()
            if until is None:
                raise LeaseLost(f"{self._engine.name}: this replica was away for too long; start it again")
            now = self._renew(connection)
            connection.execute(delete(t.changes).where(_N.at < now - 2 * KEPT))
            connection.execute(delete(t.replicas).where(_R.until < now - KEPT))

        await self._engine.tx(work)

    def _renew(self, connection: Connection) -> datetime:
        now = self._time(connection)
        _LEASE.run(connection, {"id": self.id, "until": now + self.lease})
        self._beaten = now
        return now

    async def leave(self) -> None:
        """Give up everything: others take it at once."""

        def work(connection: Connection) -> None:
            mine = (_C.owner == self.id) & _C.open
            left = list(
                connection.scalars(update(t.claims).where(mine).values(owner="", fence=_C.fence + 1).returning(_C.what))
            )
            self._tell(connection, [("claim", what) for what in left])
            connection.execute(delete(t.replicas).where(_R.id == self.id))

        await self._engine.tx(work)
        self.fences.clear()

    # claims

    def guarded(self, what: str) -> Guard:
        """To be called in the transaction that writes for `what`: raises Fenced where it is not ours any more. What is new
        is claimed with it."""
        fence = self.fences.get(what)

        def check(connection: Connection) -> None:
            if fence == 0:
                connection.execute(insert(t.claims), {"what": what, "owner": self.id, "fence": 1, "open": True})
                return
            found = connection.execute(select(_C.owner, _C.fence).where(_C.what == what)).first()
            if fence is None or found is None or (found.owner, found.fence) != (self.id, fence):
                raise Fenced(f"{what} is another replica's")

        return check

    def recorded(self, what: str) -> None:
        """What was guarded is committed."""
        if self.fences.get(what) == 0:
            self.fences[what] = 1

    async def take(self, what: str) -> None:
        """From whoever has it. It is ours as soon as the change is read (`news`)."""

        def work(connection: Connection) -> None:
            owner = connection.execute(select(_C.owner).where(_C.what == what)).scalar()
            if owner is None:
                connection.execute(insert(t.claims), {"what": what, "owner": self.id, "fence": 1, "open": True})
            elif owner != self.id:
                connection.execute(update(t.claims).where(_C.what == what).values(owner=self.id, fence=_C.fence + 1))
            self._tell(connection, [("claim", what)])

        await self._engine.tx(work)

    async def give(self, what: str, with_: str) -> None:
        """To the replica that has `with_`. Raises Fenced where `what` is not ours."""
        check = self.guarded(what)

        def work(connection: Connection) -> None:
            check(connection)
            owner = connection.execute(select(_C.owner).where(_C.what == with_)).scalar() or ""
            connection.execute(update(t.claims).where(_C.what == what).values(owner=owner, fence=_C.fence + 1))
            self._tell(connection, [("claim", what)])

        await self._engine.tx(work)

    async def take_over(self) -> bool:
        """Claim a batch of what nobody works on: its replica's lease has lapsed, or it was given up. Whether there was any."""

        def left(connection: Connection) -> list[str]:
            living = select(_R.id).where(_R.until > self._time(connection))
            unowned = select(_C.what).where(_C.open, _C.owner.not_in(living))
            return list(connection.scalars(unowned.order_by(_C.what).limit(BATCH)))

        def work(connection: Connection) -> bool:
            found = left(connection)
            if found:
                taken = update(t.claims).where(_C.what.in_(found)).values(owner=self.id, fence=_C.fence + 1)
                connection.execute(taken)
                self._tell(connection, [("claim", what) for what in found])
            return bool(found)

        return bool(await self._engine.read(left)) and await self._engine.tx(work)

    # changes

    def tell(self, connection: Connection, changed: Iterable[Changed]) -> None:
        """Within the transaction that writes it."""
        self._tell(connection, list(changed))

    def end(self, connection: Connection, what: str) -> None:
        """Within the transaction that records it: it is over, and nobody will work on it any more."""
        connection.execute(update(t.claims).where(_C.what == what).values(open=False))

    def _tell(self, connection: Connection, changed: Sequence[Changed]) -> None:
        if changed:
            rows = ({"at": self._beaten, "by": self.id, "kind": kind, "key": key} for kind, key in changed)
            _CHANGE.run(connection, *rows)

    async def news(self) -> News | None:
        """What was changed behind what is `learnt`; None where nothing was."""

        def work(connection: Connection) -> News | None:
            query = select(_N.seq, _N.by, _N.kind, _N.key).where(_N.seq > self._seen).order_by(_N.seq).limit(1000)
            rows = connection.execute(query).all()
            if not rows:
                return None
            others: dict[str, dict[str, None]] = {}
            for row in rows:
                if row.kind != "claim" and row.by != self.id:
                    others.setdefault(row.kind, {})[row.key] = None
            named = {row.key for row in rows if row.kind == "claim"}
            claims = connection.execute(select(_C.what, _C.owner, _C.fence).where(_C.what.in_(named))) if named else ()
            return News(
                upto=rows[-1].seq,
                others={kind: list(keys) for kind, keys in others.items()},
                claims=tuple(Claim(c.what, c.owner, c.fence) for c in claims),
                orders=any(row.kind == "order" for row in rows),
            )

        return await self._engine.read(work)

    def learnt(self, news: News) -> None:
        """It is known now, and is not told again. What changed hands is counted in `fences` by whoever learnt it."""
        self._seen = news.upto
