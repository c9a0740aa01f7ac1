"""One of several processes on one store: its lease, what it has claimed, and what the others changed.

Theory of operation
- A replica has one lease, by the store's own clock, which it renews (`beat`). What it claimed is its own until it gives it
  away, another takes it, or its lease has lapsed and another finds it so.
- A claim has a fence, which grows each time that the claim changes hands. Every write for what is claimed is made under the
  fence that its writer knows (`guarded`), in the same transaction: a former owner's is refused with Fenced.
- Every write says what it changed (`changes`), in the same transaction. There is one writer at a time, so whoever has read
  up to a number has seen everything that was committed with lower ones. The others read anew what is named there.
- A write finds out in its own transaction which change was the last before it. Where that is known, nothing has to be read.
- A replica whose lease lapsed so long ago that it is forgotten has missed what nobody keeps: it ends, and is started again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, false, func, insert, literal_column, select, text, update

from broker.orders.claims import Fenced
from broker.storage import tables as t
from broker.storage.engine import Engine
from broker.storage.errors import StoreError
from broker.storage.statements import Done, Prepared, Row, Script, adding, replacing

OWN = "own"
"""The claim on what is own: domains and their drivers, and what time does to pools and quotes."""
BATCH = 200
"""How many claims are taken over at once, so that several replicas share what one left."""
KEPT = timedelta(minutes=10)
"""After how long a replica whose lease is over is forgotten. It is told what was changed for twice as long, so whoever is not
forgotten has missed nothing."""
Changed = tuple[str, str]
"""Kind and key of what was written."""

_C, _R, _N = t.claims.c, t.replicas.c, t.changes.c
_BEFORE = t.changes.alias("before")
_LEASE, _CLAIM = replacing(t.replicas), adding(t.claims)
_CLAIMED = Prepared(select(_C.owner, _C.fence).where(_C.what == bindparam("what")), [_C.what])
OVER = Prepared(update(t.claims).where(_C.what == bindparam("what")).values(open=false()), [_C.what])
"""Within the script that records that it is: nobody will work on it any more."""
_CHANGE = adding(t.changes, _N.seq, select(func.max(_BEFORE.c.seq)).scalar_subquery())
"""Returns its number, and the last one that was there before."""
_NEWS = Prepared(
    select(_N.seq, _N.by, _N.kind, _N.key, _C.owner, _C.fence)
    .join_from(t.changes, t.claims, (_N.kind == literal_column("'claim'")) & (_C.what == _N.key), isouter=True)
    .where(_N.seq > bindparam("seq"))
    .order_by(_N.seq)
    .limit(literal_column("1000")),
    [_N.seq],
)
"""Of a claim, as it is now: its owner and fence."""


def _nobody_follows() -> None:
    """Whoever reads does so by itself."""


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
        self.behind: Callable[[], None] = _nobody_follows
        """Called when something was recorded here and is not `learnt`: it has to be read."""

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
            self.tell(connection, [("claim", what) for what in left])
            connection.execute(delete(t.replicas).where(_R.id == self.id))

        await self._engine.tx(work)
        self.fences.clear()

    # claims

    async def write(self, script: Script, changed: Sequence[Changed], under: str | None = None) -> bool:
        """Run it, and tell the others what it changed, in one transaction. `under`: for what is claimed by that name; raises
        Fenced where it is not ours any more. What is new is claimed with it.

        Whether all that was recorded before it is known here: then it is learnt by this, and need not be read. Otherwise, or
        where what became of it is not known, `behind` is called.
        """
        whole, known = Script(script.by), False
        if under is not None:
            whole.then(self.guarded(under))
        whole.then(script)
        numbers = [whole.add(_CHANGE, row) for row in self._rows(changed)]
        try:
            await self._engine.tx(whole)
            if under is not None and self.fences.get(under) == 0:
                self.fences[under] = 1
            known = not numbers or self._follows(before=numbers[0].returned[0][1], last=numbers[-1].value)
        finally:
            if not known:
                self.behind()
        return known

    def guarded(self, what: str) -> Script:
        """The beginning of a transaction that writes for `what`: raises Fenced where it is not ours any more. What is new is
        claimed with it."""
        script, fence = Script(), self.fences.get(what)
        if fence == 0:
            script.add(_CLAIM, {"what": what, "owner": self.id, "fence": 1, "open": True})
            return script

        def ours(done: Done) -> None:
            if fence is None or done.returned != [(self.id, fence)]:
                raise Fenced(f"{what} is another replica's")

        script.add(_CLAIMED, {"what": what}, check=ours)
        return script

    def _follows(self, before: int | None, last: int) -> bool:
        """What was there before a change of ours, in its transaction, is all that there will ever be before it, because there is
        one writer at a time. Who knows that knows all up to our change."""
        if (before or 0) > self._seen:
            return False
        self._seen = max(self._seen, last)
        return True

    async def take(self, what: str) -> None:
        """From whoever has it. It is ours as soon as the change is read (`news`)."""

        def work(connection: Connection) -> None:
            owner = connection.execute(select(_C.owner).where(_C.what == what)).scalar()
            if owner is None:
                connection.execute(insert(t.claims), {"what": what, "owner": self.id, "fence": 1, "open": True})
            elif owner != self.id:
                connection.execute(update(t.claims).where(_C.what == what).values(owner=self.id, fence=_C.fence + 1))
            self.tell(connection, [("claim", what)])

        await self._engine.tx(work)

    async def give(self, what: str, with_: str) -> None:
        """To the replica that has `with_`. Raises Fenced where `what` is not ours."""
        check = self.guarded(what)

        def work(connection: Connection) -> None:
            check(connection)
            owner = connection.execute(select(_C.owner).where(_C.what == with_)).scalar() or ""
            connection.execute(update(t.claims).where(_C.what == what).values(owner=owner, fence=_C.fence + 1))
            self.tell(connection, [("claim", what)])

        await self._engine.tx(work)
        self.behind()

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
                self.tell(connection, [("claim", what) for what in found])
            return bool(found)

        return bool(await self._engine.read(left)) and await self._engine.tx(work)

    # changes

    def tell(self, connection: Connection, changed: Iterable[Changed]) -> None:
        """Within the transaction that writes it. Unlike what is told by `write` it has to be read here, too."""
        script = Script()
        for row in self._rows(changed):
            script.add(_CHANGE, row)
        script(connection)

    def _rows(self, changed: Iterable[Changed]) -> list[Row]:
        return [{"at": self._beaten, "by": self.id, "kind": kind, "key": key} for kind, key in changed]

    async def news(self) -> News | None:
        """What was changed behind what is `learnt`; None where nothing was."""
        rows = await self._engine.read(lambda connection: _NEWS.all(connection, {"seq": self._seen}))
        if not rows:
            return None
        others: dict[str, dict[str, None]] = {}
        claims: dict[str, Claim] = {}
        for _, by, kind, key, owner, fence in rows:
            if kind == "claim" and owner is not None:
                claims[key] = Claim(key, owner, fence)
            if kind != "claim" and by != self.id:
                others.setdefault(kind, {})[key] = None
        return News(
            upto=rows[-1][0],
            others={kind: list(keys) for kind, keys in others.items()},
            claims=tuple(claims.values()),
            orders=any(row[2] == "order" for row in rows),
        )

    def learnt(self, news: News) -> None:
        """It is known now, and is not told again. What changed hands is counted in `fences` by whoever learnt it."""
        self._seen = max(self._seen, news.upto)


async def written(
    engine: Engine, replica: Replica | None, script: Script, changed: Sequence[Changed], under: str | None = None
) -> bool:
    """As `Replica.write`, where the store is shared; alone, all is known."""
    if replica is not None:
        return await replica.write(script, changed, under)
    await engine.tx(script)
    return True
