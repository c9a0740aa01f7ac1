"""Any driver as a Supplier: holds, capacity, labels, idempotency, activation.

Theory of operation
- A reservation is decided in memory (`choosing`), saved with its allocations in one transaction, and only then answered.
- A commit records the bindings (ACTIVATING) and answers; a worker per ref then makes the infrastructure equal to what is
  recorded: `apply` while ACTIVATING, `remove` while TERMINATING, again with back-off until it is so. After a restart the same
  workers start from the records, so a crash at any point converges.
- An expired hold is freed here alone (`tick`). A committed one only on terminate.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import timedelta
from weakref import WeakValueDictionary

import structlog

from lower_sp_clients.broadcast import Broadcast
from lower_sp_clients.supplier import Context, ServiceNotFound, SignedNote
from lower_sp_clients.versions import OVER, Verdict, judge
from lower_sp_clients.vim import accounting, blueprints
from lower_sp_clients.vim.choosing import Choice, Impossible, choose, flavour_of
from lower_sp_clients.vim.domain import Domain, Usage, note
from lower_sp_clients.vim.driver import Driver, DriverError, Item
from lower_sp_clients.vim.holds import Allocation, AllocationState, Hold, HoldBook, Refusal
from service_model.clock import Clock
from service_model.outcomes import (
    Bindings,
    Committed,
    Event,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
)
from service_model.spec import ServiceSpec, split_point

log = structlog.get_logger()

_COMMITTED = frozenset({ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.FAILED})
"""The states of a hold whose commit was answered, and is answered again in the same way."""
_TRIES = 4
"""How often an activation is tried before the segment is reported FAILED."""


class LocalVim:
    """A Supplier over one domain. `open` before use, `tick` now and then, `close` at the end."""

    def __init__(
        self,
        domain: Domain,
        driver: Driver,
        book: HoldBook,
        clock: Clock,
        *,
        validity: timedelta = timedelta(hours=1),
        quarantine: timedelta = timedelta(seconds=60),
    ) -> None:
        self.domain = domain
        self.driver = driver
        self._book = book
        self._clock = clock
        self._validity = validity
        self._quarantine = quarantine
        self._holds: dict[str, Hold] = {}
        self._resting: list[Allocation] = []
        self._usage = Usage()
        self._edition = 0
        self._stale_note = False
        self._events: Broadcast[Event] = Broadcast()
        self._notes: Broadcast[SignedNote] = Broadcast()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._workers: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Load the records and take up what a former process left unfinished."""
        holds, allocations = await self._book.load()
        self._holds = {hold.ref: hold for hold in holds}
        self._resting = [a for a in allocations if a.state is AllocationState.RESTING]
        for hold in holds:
            accounting.count(self._usage, hold, 1)
        for allocation in self._resting:
            accounting.rest(self._usage, allocation, 1)
        for hold in holds:
            if hold.state in (ServiceState.ACTIVATING, ServiceState.TERMINATING):
                self._work(hold.ref)

    async def close(self) -> None:
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        for worker in workers:
            with suppress(asyncio.CancelledError):
                await worker

    # what is announced

    def note(self) -> SignedNote:
        self._edition += 1
        return SignedNote(jws="", note=note(self.domain, self._usage, self._edition, self._clock.now(), self._validity))

    async def notes(self) -> AsyncIterator[SignedNote]:
        async with aclosing(self._notes.receive(first=self.note())) as items:
            async for item in items:
                yield item

    def reconfigure(self, domain: Domain) -> None:
        """The operator changed the domain: what is held stays, what is new follows the new configuration."""
        self.domain = domain
        self._changed()

    def _changed(self) -> None:
        self._stale_note = False
        self._notes.send(self.note())

    # the contract

    async def reserve(self, ref: str, version: int, spec: ServiceSpec, ctx: Context) -> Reserved | Refused:
        async with self._lock(ref):
            held = self._holds.get(ref)
            digest = spec.digest()
            verdict = judge(held.known() if held else None, version, digest)
            if isinstance(verdict, Reason):
                return Refused(ref=ref, version=version, reasons=(verdict,))
            if verdict is Verdict.REPEAT and held is not None:
                return self._answer(held, version)
            now = self._clock.now()
            try:
                accounting.count(self._usage, held, -1)  # a hold that gives way does not stand in its own
                try:
                    choice = choose(self.domain, self._usage, spec, f"{ref}/{version}")
                finally:
                    accounting.count(self._usage, held, 1)
                self._check_parameters(spec)
            except Impossible as error:
                await self._save(self._refusal(ref, version, digest, error.reasons, held))
                return Refused(ref=ref, version=version, reasons=error.reasons)
            hold = Hold(
                ref=ref,
                version=version,
                state=ServiceState.RESERVED,
                created=held.created if held else now,
                updated=now,
                digest=digest,
                released_upto=max(held.released_upto if held else 0, version - 1),
                spec=spec,
                choice=choice.addressing,
                price=choice.price,
                delay_us=choice.delay_us,
                ways=tuple(way.id for way in choice.ways),
                hosts=choice.hosts,
                units=self._units(spec),
                expires=now + timedelta(seconds=self.domain.max_hold_s),
                refusals=held.refusals if held else {},
            )
            await self._save(hold, was=held, labels_of=choice)
            return self._answer(hold, version)

    async def extend(self, ref: str, version: int, seconds: float, ctx: Context) -> Reserved | Refused:
        async with self._lock(ref):
            hold = self._holds.get(ref)
            refusal = self._not_held(hold, version)
            if hold is None or refusal is not None:
                return Refused(ref=ref, version=version, reasons=(refusal or _not_held_reason(),))
            until = self._clock.now() + timedelta(seconds=min(seconds, self.domain.max_hold_s))
            if hold.expires is None or until > hold.expires:
                hold = replace(hold, expires=until, updated=self._clock.now())
                await self._save(hold)
            return self._answer(hold, version)

    async def commit(self, ref: str, version: int, bindings: Bindings, ctx: Context) -> Committed | Refused:
        async with self._lock(ref):
            hold = self._holds.get(ref)
            if hold is not None and hold.version == version and hold.state in _COMMITTED:
                if hold.bindings == bindings:
                    return Committed(ref=ref, version=version)
                reason = Reason(code=ReasonCode.KEY_REUSED, message="committed with other bindings", subject="bindings")
                return Refused(ref=ref, version=version, reasons=(reason,))
            refusal = self._not_held(hold, version) or self._unbound(hold, bindings)
            if hold is None or refusal is not None:
                return Refused(ref=ref, version=version, reasons=(refusal or _not_held_reason(),))
            now = self._clock.now()
            hold = replace(hold, state=ServiceState.ACTIVATING, bindings=bindings, expires=None, updated=now)
            await self._save(hold)
            self._work(ref)
            return Committed(ref=ref, version=version)

    async def release(self, ref: str, version: int, ctx: Context) -> None:
        async with self._lock(ref):
            hold = self._holds.get(ref)
            now = self._clock.now()
            if hold is None:
                hold = Hold(
                    ref=ref, version=0, state=ServiceState.EXPIRED, created=now, updated=now, released_upto=version
                )
                await self._save(hold)
            elif hold.state is ServiceState.RESERVED and hold.version <= version:
                gone = replace(hold, state=ServiceState.EXPIRED, updated=now, released_upto=version, expires=None)
                await self._save(gone, was=hold)
            elif hold.released_upto < version and hold.state not in accounting.TAKES:
                await self._save(replace(hold, released_upto=version))

    async def terminate(self, ref: str, ctx: Context) -> None:
        async with self._lock(ref):
            hold = self._holds.get(ref)
            now = self._clock.now()
            if hold is None:
                await self._save(Hold(ref=ref, version=0, state=ServiceState.TERMINATED, created=now, updated=now))
            elif hold.state is ServiceState.RESERVED:
                await self._save(replace(hold, state=ServiceState.TERMINATED, updated=now, expires=None), was=hold)
            elif hold.state in (ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.FAILED):
                await self._save(replace(hold, state=ServiceState.TERMINATING, updated=now))
            elif hold.state not in OVER:
                await self._save(replace(hold, state=ServiceState.TERMINATED, updated=now))
        if self._holds[ref].state is ServiceState.TERMINATING:
            self._work(ref)

    async def status(self, ref: str, ctx: Context) -> ServiceStatus:
        hold = self._holds.get(ref)
        if hold is None or hold.version == 0:
            raise ServiceNotFound(ref)
        return self._status(hold)

    async def services(self, ctx: Context) -> AsyncIterator[ServiceStatus]:
        for hold in sorted(self._holds.values(), key=lambda h: (h.created, h.ref)):
            if hold.version:
                yield self._status(hold)

    async def watch(self, after: str) -> AsyncIterator[Event]:
        async with aclosing(self._events.receive(first=Event(token=""))) as events:
            async for event in events:
                yield event

    # time and the infrastructure

    async def tick(self) -> None:
        """Free what expired and what has rested long enough; announce what changed since the last tick."""
        now = self._clock.now()
        for hold in list(self._holds.values()):
            if hold.state is ServiceState.RESERVED and hold.expires is not None and hold.expires <= now:
                async with self._lock(hold.ref):
                    if self._holds[hold.ref] is hold:
                        gone = replace(hold, state=ServiceState.EXPIRED, updated=now)
                        await self._save(gone, was=hold)
        rested = [a for a in self._resting if a.until is not None and a.until <= now]
        if rested:
            await self._book.save(None, (), rested)
            for allocation in rested:
                self._resting.remove(allocation)
                accounting.rest(self._usage, allocation, -1)
            self._stale_note = True
        if self._stale_note:
            self._changed()

    async def inventory(self) -> tuple[Item, ...]:
        return await self.driver.inventory()

    def discrepancies(self, items: Iterable[Item]) -> tuple[str, ...]:
        """What the infrastructure has and no record wants: reported, never removed by itself."""
        wanted = {
            h.ref
            for h in self._holds.values()
            if h.state in (ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.TERMINATING, ServiceState.FAILED)
        }
        return tuple(f"{i.kind} {i.name} of unknown segment {i.segment}" for i in items if i.segment not in wanted)

    def resting(self) -> tuple[Allocation, ...]:
        return tuple(self._resting)

    def holds(self) -> tuple[Hold, ...]:
        return tuple(self._holds.values())

    def _work(self, ref: str) -> None:
        worker = self._workers.get(ref)
        if worker is None or worker.done():
            task = asyncio.create_task(self._converge(ref), name=f"converge-{self.domain.name}-{ref}")
            self._workers[ref] = task
            task.add_done_callback(
                lambda done: self._workers.pop(ref, None) if self._workers.get(ref) is done else None
            )

    async def _converge(self, ref: str) -> None:
        """Until the infrastructure is what the record says. Only this worker calls the driver for `ref`."""
        tries = 0
        while True:
            hold = self._holds[ref]
            try:
                if hold.state is ServiceState.ACTIVATING:
                    await self._activate(hold)
                elif hold.state is ServiceState.TERMINATING:
                    await self.driver.remove(ref)
                    await self._advance(ref, hold, ServiceState.TERMINATED)
                else:
                    return
                tries = 0
            except Exception as error:  # also of the store: the worker never dies before its work is done
                tries += 1
                log.warning(
                    "driver failed", domain=self.domain.name, segment=ref, state=hold.state.short, error=str(error)
                )
                if hold.state is ServiceState.ACTIVATING and tries >= _TRIES and isinstance(error, DriverError):
                    with suppress(Exception):  # where it cannot be recorded it is tried again
                        reason = Reason(code=ReasonCode.INFRASTRUCTURE, message=str(error))
                        await self._advance(ref, hold, ServiceState.FAILED, reason)
                        continue
                await self._clock.sleep(min(30.0, 0.2 * 2 ** min(tries, 8)))

    async def _activate(self, hold: Hold) -> None:
        assert hold.spec is not None
        assert hold.bindings is not None
        if hold.spec.start_time is not None:
            wait = (hold.spec.start_time - self._clock.now()).total_seconds()
            if wait > 0:
                await self._clock.sleep(min(wait, 1.0))
                return
        await self.driver.apply(blueprints.blueprint(self.domain, hold.ref, hold.spec, hold.bindings))
        if self.driver.offer.probes:
            for path in blueprints.probes(hold.ref, hold.spec, hold.bindings):
                result = await self.driver.probe(path)
                if not result.ok:
                    raise DriverError(
                        f"no packet of {path.size} bytes from {path.function}:{path.port}: {result.detail}"
                    )
        await self._advance(hold.ref, hold, ServiceState.ACTIVE)

    async def _advance(self, ref: str, seen: Hold, state: ServiceState, *reasons: Reason) -> None:
        async with self._lock(ref):
            hold = self._holds[ref]
            if hold.state is not seen.state:  # terminate overtook
                return
            was = hold if state is ServiceState.TERMINATED else None
            await self._save(replace(hold, state=state, updated=self._clock.now(), reasons=reasons), was=was)

    # records

    async def _save(self, hold: Hold, was: Hold | None = None, labels_of: Choice | None = None) -> None:
        """Store `hold`; `was` is the hold whose labels are freed by it, `labels_of` what it takes."""
        drop, put = [], []
        if was is not None and was.state in accounting.TAKES:
            live = was.state is not ServiceState.RESERVED
            until = self._clock.now() + self._quarantine
            for allocation in accounting.labels(self.domain.name, was):
                if live and self._quarantine and accounting.rests(allocation):
                    put.append(replace(allocation, state=AllocationState.RESTING, until=until))
                else:
                    drop.append(allocation)
        if labels_of is not None:
            put.extend(accounting.labels(self.domain.name, hold))
            drop = [d for d in drop if not any((d.pool, d.value) == (p.pool, p.value) for p in put)]
        elif hold.state is ServiceState.ACTIVATING:
            put.extend(accounting.labels(self.domain.name, hold))
        before, resting = self._holds.get(hold.ref), [p for p in put if p.state is AllocationState.RESTING]
        self._swap(
            before, hold, resting
        )  # decided now, so that a concurrent reserve sees it; undone if the store fails
        try:
            await self._book.save(hold, put, drop)
        except BaseException:
            for allocation in resting:
                self._resting.remove(allocation)
                accounting.rest(self._usage, allocation, -1)
            self._swap(hold, before, [])
            raise
        if hold.version:
            self._events.send(Event(token="", status=self._status(hold)))
        self._stale_note = True

    def _swap(self, before: Hold | None, after: Hold | None, resting: list[Allocation]) -> None:
        accounting.count(self._usage, before, -1)
        accounting.count(self._usage, after, 1)
        for allocation in resting:
            self._resting.append(allocation)
            accounting.rest(self._usage, allocation, 1)
        if after is not None:
            self._holds[after.ref] = after
        elif before is not None:
            del self._holds[before.ref]

    def _refusal(self, ref: str, version: int, digest: str, reasons: tuple[Reason, ...], held: Hold | None) -> Hold:
        """The record of a refusal: beside the older hold where there is one, which stays."""
        now = self._clock.now()
        refusals = {**(held.refusals if held else {}), version: Refusal(digest=digest, reasons=reasons)}
        if held is not None and held.state is ServiceState.RESERVED:
            return replace(held, refusals=refusals)
        return Hold(
            ref=ref,
            version=version,
            state=ServiceState.REFUSED,
            created=held.created if held else now,
            updated=now,
            digest=digest,
            released_upto=held.released_upto if held else 0,
            reasons=reasons,
            refusals=refusals,
        )

    def _units(self, spec: ServiceSpec) -> dict[str, int]:
        out = {}
        for function in spec.functions:
            offer = self.domain.function(function.type)
            assert offer is not None
            out[function.id] = flavour_of(offer, function).units
        return out

    def _check_parameters(self, spec: ServiceSpec) -> None:
        for function in spec.functions:
            offer = self.domain.function(function.type)
            assert offer is not None
            try:
                self.driver.check_parameters(
                    offer.implementation, blueprints.parameters(self.domain, spec, function.id)
                )
            except ValueError as error:
                message = f"function {function.id!r}: {error}"
                raise Impossible(
                    Reason(code=ReasonCode.INVALID_PARAMETER, message=message, subject=function.id)
                ) from None

    def _not_held(self, hold: Hold | None, version: int) -> Reason | None:
        if hold is None or hold.version != version:
            return _not_held_reason()
        if hold.state is ServiceState.RESERVED and hold.expires is not None and hold.expires > self._clock.now():
            return None
        if hold.state in (ServiceState.RESERVED, ServiceState.EXPIRED):
            return Reason(code=ReasonCode.HOLD_EXPIRED, message="the hold has expired", subject="version")
        return _not_held_reason()

    @staticmethod
    def _unbound(hold: Hold | None, bindings: Bindings) -> Reason | None:
        """The bindings must confirm every label, prefix and port address that was chosen."""
        if hold is None or hold.choice is None:
            return _not_held_reason()
        for end, label in hold.choice.labels.items():
            if bindings.labels.get(end) != label:
                message = f"end {end!r}: bound to label {bindings.labels.get(end)}, held is {label}"
                return Reason(code=ReasonCode.CONSTRAINT_VIOLATED, message=message, subject=end)
        for link in hold.choice.links:
            told = bindings.link(link.link)
            bound = told.prefix if told else None
            if link.prefix is not None and bound != link.prefix:
                message = f"link {link.link!r}: bound to prefix {bound}, held is {link.prefix}"
                return Reason(code=ReasonCode.CONSTRAINT_VIOLATED, message=message, subject=link.link)
            for point, address in link.addresses.items():
                if split_point(point)[1] and (told is None or told.addresses.get(point) != address):
                    message = f"port {point!r}: bound to another address than {address}, which is held"
                    return Reason(code=ReasonCode.CONSTRAINT_VIOLATED, message=message, subject=link.link)
        return None

    def _answer(self, hold: Hold, version: int) -> Reserved | Refused:
        if version in hold.refusals:
            return Refused(ref=hold.ref, version=version, reasons=hold.refusals[version].reasons)
        if hold.choice is None:
            return Refused(ref=hold.ref, version=version, reasons=hold.reasons)
        return Reserved(
            ref=hold.ref,
            version=hold.version,
            choice=hold.choice,
            price=hold.price,
            remaining_s=self._remaining(hold),
            delay_us=hold.delay_us,
        )

    def _remaining(self, hold: Hold) -> float:
        return max(0.0, (hold.expires - self._clock.now()).total_seconds()) if hold.expires else 0.0

    def _status(self, hold: Hold) -> ServiceStatus:
        return ServiceStatus(
            ref=hold.ref,
            version=hold.version,
            state=hold.state,
            name=hold.spec.name if hold.spec else "",
            price=hold.price,
            delay_us=hold.delay_us,
            choice=hold.choice,
            binding=hold.bindings,
            remaining_s=self._remaining(hold),
            reasons=hold.reasons,
            create_time=hold.created,
            update_time=hold.updated,
        )

    def _lock(self, ref: str) -> asyncio.Lock:
        lock = self._locks.get(ref)
        if lock is None:
            lock = self._locks[ref] = asyncio.Lock()
        return lock


def _not_held_reason() -> Reason:
    return Reason(code=ReasonCode.NOT_HELD, message="this version is not held", subject="version")
