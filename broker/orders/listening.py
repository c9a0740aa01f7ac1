"""What suppliers tell of their parts of our orders, heard as it happens and asked for after every interruption, and where what
was heard could not be recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from broker.orders.calling import Caller
from broker.orders.delivering import observed, vanished
from broker.orders.records import Abandoned, Order
from broker.orders.tasks import remains
from lower_sp_clients.supplier import Interest, ServiceNotFound, Supplier
from service_model.clock import Alarm, Clock
from service_model.outcomes import ServiceState, ServiceStatus

log = structlog.get_logger()

_ANSWERED = {ServiceState.RESERVING, ServiceState.RESERVED, ServiceState.COMMITTING, ServiceState.ACTIVATING}
_PARTS = Interest(states=frozenset(ServiceState) - _ANSWERED, addressing=False)
"""What we hear of our segments: until they are active, the answers to our calls tell it."""

_LOOKS_AGAIN, _A_MOMENT = timedelta(minutes=1), timedelta(milliseconds=1)
LOOKS_AT_ONCE = 32
"""How many segments one supplier is asked for at once when it is heard of again."""
_OVER = frozenset({ServiceState.TERMINATED, ServiceState.EXPIRED, ServiceState.REFUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What a supplier says to have of a segment that was given up, under the ref that we chose for it there."""

    alias: str
    ref: str
    service: str
    segment: str
    state: ServiceState
    abandoned: Abandoned


class Listener:
    """Follows every supplier of `caller`. `orders` are all orders as wanted; one that a supplier's word changes is given
    to `change`. Of a supplier that was not heard of for `dead_after` (None: of which that says nothing) each order that has
    anything there is told to `died`, by its id."""

    def __init__(
        self,
        caller: Caller,
        clock: Clock,
        orders: Mapping[str, Order],
        change: Callable[[Order], None],
        dead_after: Callable[[str], timedelta | None] = lambda alias: None,
        died: Callable[[str], None] = lambda id: None,
    ) -> None:
        self._caller = caller
        self._clock = clock
        self._orders = orders
        self._change = change
        self._dead_after, self._died = dead_after, died
        self._silent: dict[str, tuple[datetime, Alarm]] = {}
        """Since when a supplier is not heard of, and who looks whether it is dead then."""
        self._by_child: dict[tuple[str, str], tuple[str, str]] = {}
        self._children: dict[str, frozenset[tuple[str, str]]] = {}
        """By order, what is known of it."""
        self._abandoned: dict[tuple[str, str], tuple[str, str, Abandoned]] = {}
        self._returned: dict[tuple[str, str], ServiceState] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._forgotten: set[str] = set()
        self._asking: dict[str, asyncio.Task[None]] = {}
        """By order."""

    def follow(self, suppliers: Mapping[str, Supplier]) -> None:
        """Listen to these from now on, by alias, and to no others."""
        former = self._caller.suppliers
        for alias in [a for a, s in former.items() if suppliers.get(a) is not s]:
            self._followers.pop(alias).cancel()
            self._hears(alias)
        self._caller.suppliers = dict(suppliers)
        for alias, supplier in suppliers.items():
            if former.get(alias) is not supplier:
                task = asyncio.create_task(self._follow(alias, supplier), name=f"follow-{alias}")
                self._followers[alias] = task

    def index(self, order: Order) -> None:
        """Know the segments of this order by their suppliers' names for them."""
        open = {(s.alias, s.ref): (order.id, s.key) for s in order.all_segments() if remains(s)}
        for child in self._children.pop(order.id, frozenset()) - open.keys():
            del self._by_child[child]
        if open:
            self._children[order.id] = frozenset(open)
            self._by_child |= open
        for segment in order.all_segments():
            if segment.abandoned is not None:
                self._abandoned[segment.alias, segment.ref] = (order.id, segment.key, segment.abandoned)

    def open(self) -> tuple[str, ...]:
        """Segments whose supplier may still tell something."""
        return tuple(f"segment {key} of {id}" for id, key in self._by_child.values())

    def returned(self) -> tuple[Returned, ...]:
        """What suppliers that came back have of segments that were given up. It is reported, and never asked for to end."""
        out = []
        for (alias, ref), state in self._returned.items():
            service, segment, by = self._abandoned[alias, ref]
            out.append(Returned(alias=alias, ref=ref, service=service, segment=segment, state=state, abandoned=by))
        return tuple(out)

    def silent(self, alias: str) -> bool:
        """Whether a supplier is not heard of at this moment."""
        return alias in self._silent and self._dead_after(alias) is not None

    def dead(self, alias: str) -> bool:
        """Whether it was not heard of for so long that it counts as dead."""
        limit, known = self._dead_after(alias), self._silent.get(alias)
        return limit is not None and known is not None and known[0] + limit <= self._clock.now()

    def _misses(self, alias: str) -> None:
        """It is not heard of: from now, if it was before."""
        if alias not in self._silent:
            self._wait(alias, self._clock.now())

    def _wait(self, alias: str, since: datetime) -> None:
        limit = self._dead_after(alias) or _LOOKS_AGAIN
        left = max(since + limit - self._clock.now(), _A_MOMENT).total_seconds()
        self._silent[alias] = since, self._clock.after(left, lambda: self._judge(alias))

    def _judge(self, alias: str) -> None:
        if not self.dead(alias):  # its document says otherwise by now
            self._wait(alias, self._silent[alias][0])
            return
        log.warning("a supplier counts as dead: it is not heard of", supplier=alias, since=str(self._silent[alias][0]))
        for id in {id for (its, _), (id, _) in self._by_child.items() if its == alias}:
            self._died(id)

    def _hears(self, alias: str) -> None:
        if (known := self._silent.pop(alias, None)) is not None:
            known[1].cancel()

    async def close(self) -> None:
        for alias in tuple(self._silent):
            self._hears(alias)
        tasks = (*self._followers.values(), *self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ask_again(self, id: str) -> None:
        """What was heard of this order may be lost: its suppliers are asked for it, until each has answered."""
        self._forgotten.add(id)
        if id not in self._asking:
            self._asking[id] = asyncio.create_task(self._ask(id), name=f"ask-{id}")

    async def _ask(self, id: str) -> None:
        attempts = 0
        while id in self._forgotten:
            await self._clock.sleep(min(30.0, 2.0**attempts))
            attempts = min(attempts + 1, 8)
            self._forgotten.discard(id)
            order = self._orders.get(id)
            try:
                for segment in order.all_segments() if order is not None else ():
                    supplier = self._caller.suppliers.get(segment.alias)  # none: asked when it is followed again
                    if order is not None and supplier is not None and remains(segment):
                        await self._look(segment.alias, segment.ref, supplier)
            except Exception as error:
                log.warning("a segment's supplier does not tell", service=id, error=str(error))
                self._forgotten.add(id)
        del self._asking[id]  # at once with the last look at what is forgotten

    async def _follow(self, alias: str, supplier: Supplier) -> None:
        """Hear of every change at one supplier; after each (re)connection ask for the present state of all that is open."""
        attempts = 0
        while True:
            self._misses(alias)
            try:
                async for event in supplier.watch("", _PARTS):
                    self._hears(alias)
                    if event.status is None:
                        await self._resync(alias, supplier)
                    else:
                        self._observe(alias, event.status.ref, event.status)
                    attempts = 0
            except Exception as error:
                log.warning("supplier's events broke off", supplier=alias, error=str(error))
            attempts += 1
            await self._clock.sleep(min(10.0, 0.2 * 2 ** min(attempts, 8)))

    async def _resync(self, alias: str, supplier: Supplier) -> None:
        """Ask for every segment that the supplier may still have, so many at once."""
        refs = iter([ref for known in (self._by_child, self._abandoned) for its, ref in known if its == alias])

        async def some() -> None:
            for ref in refs:
                await self._look(alias, ref, supplier)

        asking = [asyncio.create_task(some()) for _ in range(LOOKS_AT_ONCE)]
        try:
            await asyncio.gather(*asking)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _look(self, alias: str, ref: str, supplier: Supplier) -> None:
        id = (self._by_child.get((alias, ref)) or self._abandoned.get((alias, ref)) or ("",))[0]
        order = self._orders.get(id)
        if order is None:  # it ended meanwhile
            return
        try:
            seen = await self._caller.look(supplier, order, ref)
        except ServiceNotFound:
            self._returned.pop((alias, ref), None)
            self._misses_live(id, alias, ref)
        else:
            self._observe(alias, ref, seen)

    def _misses_live(self, id: str, alias: str, ref: str) -> None:
        """A supplier does not know what it is to deliver."""
        order = self._orders.get(id)
        if order is not None and (changed := vanished(order, alias, ref, self._clock.now())) is not order:
            log.warning("a supplier does not know a live segment", service=id, supplier=alias, ref=ref)
            self._change(changed)

    def _observe(self, alias: str, ref: str, seen: ServiceStatus) -> None:
        if (alias, ref) in self._abandoned:
            self._sees_abandoned(alias, ref, seen.state)
            return
        id, _ = self._by_child.get((alias, ref), ("", ""))
        order = self._orders.get(id)
        if order is None:
            return
        changed = observed(order, alias, ref, seen, self._clock.now())
        if changed is not order:
            self._change(changed)

    def _sees_abandoned(self, alias: str, ref: str, state: ServiceState) -> None:
        if state in _OVER:
            self._returned.pop((alias, ref), None)
        elif self._returned.get((alias, ref)) is not state:
            self._returned[alias, ref] = state
            service, key, _ = self._abandoned[alias, ref]
            log.warning("a segment that was given up is still there", service=service, segment=key, state=state.short)
