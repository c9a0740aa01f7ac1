"""Suppliers that are listened to: what each makes of what it announced is counted and kept.

Rules kept here
- A listener changes nothing: every call and every answer passes as it is.
- An answer that is given again counts once: only the answer to the last version of a ref is new.
- What was asked for in hope was not announced: the answer, whatever it is, tells of no promise.
- Counts are recorded at ticks, when they changed, and never on the way of an order; a crash loses the last few.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Protocol

from broker.orders.catalogue import Catalogue
from capability_registry.promises import Promises
from lower_sp_clients.supplier import EVERYTHING, Context, Interest, SignedNote, Supplier
from service_model.outcomes import Bindings, Committed, Event, Refused, Reserved, ServiceStatus
from service_model.quotes import Qualification, Quote
from service_model.spec import ServiceSpec

ANSWERS = 4096
"""How many refs are remembered as answered."""


class PromiseBook(Protocol):
    """Durable counts by alias."""

    async def load(self) -> Mapping[str, Promises]: ...

    async def save(self, changed: Mapping[str, Promises]) -> None: ...


class Record:
    """Counts of all suppliers. `open` before use, `tick` now and then."""

    def __init__(self, book: PromiseBook, catalogue: Catalogue) -> None:
        self._book = book
        self._catalogue = catalogue
        self._counts: dict[str, Promises] = {}
        self._changed: set[str] = set()
        self._listened: dict[str, Listened] = {}
        self._answered: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def open(self) -> None:
        self._counts = dict(await self._book.load())
        for alias, promises in self._counts.items():
            self._catalogue.keeps(alias, promises.rate)

    def of(self, alias: str) -> Promises:
        return self._counts.get(alias, Promises())

    def listening(self, alias: str, supplier: Supplier) -> Supplier:
        """The supplier, listened to: the same object each time, for the same supplier."""
        known = self._listened.get(alias)
        if known is None or known.supplier is not supplier:
            known = self._listened[alias] = Listened(supplier, partial(self.heard, alias))
        return known

    def heard(self, alias: str, answer: Reserved | Refused) -> None:
        """The supplier's answer to a reservation."""
        key = alias, answer.ref
        if self._answered.get(key, 0) >= answer.version:
            return
        self._answered[key] = answer.version
        self._answered.move_to_end(key)
        while len(self._answered) > ANSWERS:
            self._answered.popitem(last=False)
        before = self.of(alias)
        after = before.held() if isinstance(answer, Reserved) else before.refused(r.code for r in answer.reasons)
        if after != before:
            self._counts[alias] = after
            self._changed.add(alias)

    def fell_short(self, alias: str) -> None:
        """What the supplier held was dearer than it had announced, or not what it was asked."""
        if alias in self._listened:
            self._counts[alias] = self.of(alias).fell_short()
            self._changed.add(alias)

    async def tick(self) -> None:
        """Record what changed, and tell the catalogue."""
        changed = {alias: self._counts[alias] for alias in self._changed}
        if changed:
            await self._book.save(changed)
            self._changed -= changed.keys()
            for alias, promises in changed.items():
                self._catalogue.keeps(alias, promises.rate)


class Listened:
    """A supplier whose answers to reservations are told to `heard`."""

    def __init__(self, supplier: Supplier, heard: Callable[[Reserved | Refused], None]) -> None:
        self.supplier = supplier
        self._heard = heard

    async def qualify(self, spec: ServiceSpec, ctx: Context) -> Qualification:
        return await self.supplier.qualify(spec, ctx)

    async def quote(self, spec: ServiceSpec, ctx: Context) -> Quote | Qualification:
        return await self.supplier.quote(spec, ctx)

    async def reserve(self, ref: str, version: int, spec: ServiceSpec, ctx: Context) -> Reserved | Refused:
        answer = await self.supplier.reserve(ref, version, spec, ctx)
        if not ctx.hoped:
            self._heard(answer)
        return answer

    async def extend(self, ref: str, version: int, seconds: float, ctx: Context) -> Reserved | Refused:
        return await self.supplier.extend(ref, version, seconds, ctx)

    async def commit(self, ref: str, version: int, bindings: Bindings, ctx: Context) -> Committed | Refused:
        return await self.supplier.commit(ref, version, bindings, ctx)

    async def release(self, ref: str, version: int, ctx: Context) -> None:
        await self.supplier.release(ref, version, ctx)

    async def terminate(self, ref: str, ctx: Context) -> None:
        await self.supplier.terminate(ref, ctx)

    async def heal(self, ref: str, ctx: Context) -> None:
        await self.supplier.heal(ref, ctx)

    async def status(self, ref: str, ctx: Context) -> ServiceStatus:
        return await self.supplier.status(ref, ctx)

    def services(self, ctx: Context) -> AsyncIterator[ServiceStatus]:
        return self.supplier.services(ctx)

    def watch(self, after: str, interest: Interest = EVERYTHING) -> AsyncIterator[Event]:
        return self.supplier.watch(after, interest)

    def notes(self) -> AsyncIterator[SignedNote]:
        return self.supplier.notes()
