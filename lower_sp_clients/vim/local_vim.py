"""Any driver as a Supplier: holds, capacity, labels, idempotency, activation.

Theory of operation
- A reservation is decided in memory (`choosing`), saved with its allocations in one transaction, and only then answered.
- A commit records the bindings (ACTIVATING) and answers; the infrastructure is then made equal to what is recorded (`building`).
- A quote is judged like a reservation and takes nothing; its price is kept for who orders by it, whatever the domain asks
  then.
- An expired hold is freed here alone (`tick`). A committed one only on terminate.
- What has a start time takes what it needs from then on; what has an end time is removed then, whoever else ends it or not, and
  a hold that is not committed by then is freed. What was missed while nobody was there is done at the next `tick`.
- A higher version of what is live is held beside it, and may have what that has. Its commit makes it the hold's version; what
  the older one had besides stays its own until the infrastructure is the newer one's. What cannot be built in place of what
  was there is DEGRADED, has what both need, and is tried again until it is built, replaced or terminated.
- What is lost of what is built is DEGRADED, and built again as it was until it is there, which is told as well. It is no healing:
  nothing of it is chosen, moved or paid anew. While nobody answers nothing new is taken.
- Where several processes share the store, one of them `leads`: it alone reserves, builds and frees. The others know what that
  one recorded (`follow`), for what they plan, announce and quote; one that comes to lead begins as after a restart (`lead`).
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

import structlog

from address_planner.labels import LabelSet
from lower_sp_clients.broadcast import Broadcast
from lower_sp_clients.quotes import QuoteBook, QuoteLedger, StandingQuote
from lower_sp_clients.supplier import EVERYTHING, Context, Interest, ServiceNotFound, SignedNote
from lower_sp_clients.versions import LIVE, OVER, Verdict, body, judge
from lower_sp_clients.vim import accounting, answering, blueprints
from lower_sp_clients.vim.announcing import note
from lower_sp_clients.vim.building import COMMITTED, UNHEARD, Builder
from lower_sp_clients.vim.choosing import NOTHING_CHOSEN, Choice, choose
from lower_sp_clients.vim.domain import Domain, Key, Sap
from lower_sp_clients.vim.driver import Driver, Item
from lower_sp_clients.vim.holds import Allocation, Hold, HoldBook
from lower_sp_clients.vim.ledger import HoldLedger
from lower_sp_clients.vim.placing import Impossible, flavour_of, no
from lower_sp_clients.vim.recorder import Recorder
from service_model.clock import Clock
from service_model.money import Price
from service_model.outcomes import (
    AddressingChoice,
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
from service_model.port_names import named
from service_model.quotes import Qualification, Quote, unqualified
from service_model.replacing import replace
from service_model.spec import ServiceSpec
from service_model.window import Window

log = structlog.get_logger()


class LocalVim:
    """A Supplier over one domain. `open` before use, `tick` now and then, `close` at the end."""

    def __init__(
        self,
        domain: Domain,
        driver: Driver,
        book: HoldBook,
        quotes: QuoteBook[StandingQuote],
        clock: Clock,
        *,
        validity: timedelta = timedelta(hours=1),
        quarantine: timedelta = timedelta(seconds=60),
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self.domain = domain
        self.driver = driver
        self._clock = clock
        self._validity = validity
        self._ledger = HoldLedger(domain.name, book, quarantine)
        self._quotes = QuoteLedger(quotes)
        self._edition = 0
        self._renew_at = clock.now()
        self._notes: Broadcast[SignedNote] = Broadcast()
        self._read_only = False
        self._recorder = Recorder(self._ledger, clock)
        self._builder = Builder(lambda: self.domain, lambda: self.driver, self._recorder, clock)

    async def open(self, read_only: bool = False, restored: datetime | None = None) -> None:
        """Load the records and take up what a former process left unfinished; where it is `read_only`, not before `go_on`.
        `restored`: when they were put back from a backup, if they ever were."""
        self._builder.restored(restored)
        await self._quotes.load()
        await self._ledger.load()
        self._read_only = read_only
        self._take_up()

    def keep_off(self, kept_off: Iterable[Allocation]) -> None:
        """These labels are given to nobody, and no others but what is held, live or rests."""
        self._ledger.keep_off(a for a in kept_off if a.pool.startswith(f"{self.domain.name}/"))
        self._recorder.stale_note = True

    def go_on(self) -> None:
        """What was read-only may be changed from now on."""
        if self._read_only:
            self._read_only = False
            self._take_up()

    def _acts(self) -> bool:
        """Whether this process changes anything."""
        return self._leads() and not self._read_only

    def _take_up(self) -> None:
        if self._acts():
            self._builder.take_up()

    async def read(self) -> None:
        """All of it as it is recorded now. Nothing may be written here meanwhile: what is read would be older."""
        await self._ledger.load()
        self._recorder.stale_note = True

    def lead(self) -> None:
        """This process works on the domain from now on. It was `read` before."""
        self._take_up()

    async def follow(self, refs: Sequence[str]) -> None:
        """Another process recorded something of these refs."""
        await self._ledger.follow(refs)
        self._recorder.stale_note = True
        for hold in (self._ledger.holds[ref] for ref in refs if ref in self._ledger.holds):
            self._recorder.tell(hold)

    async def read_quotes(self) -> None:
        """Those that stand now, whoever gave them."""
        await self._quotes.load()

    async def close(self) -> None:
        """Stop working: everything stays as it is recorded. Also where another process leads from now on."""
        await self._builder.close()

    # what is announced

    def note(self) -> SignedNote:
        self._edition += 1
        now = self._clock.now()
        calendar = self._ledger.calendar
        self._renew_at = min(now + self._validity / 2, calendar.next_change(now))
        usage, later = calendar.usage(Window(start=now)), calendar.later(now, self.domain.sizes())
        return SignedNote(jws="", note=note(self.domain, usage, self._edition, now, self._validity, later))

    async def notes(self) -> AsyncIterator[SignedNote]:
        async with aclosing(self._notes.receive(first=self.note())) as items:
            async for item in items:
                yield item

    def reconfigure(self, domain: Domain) -> None:
        """The operator changed the domain: what is held stays, what is new follows the new configuration."""
        self.domain = domain
        self._changed()

    def rests(self, quarantine: timedelta) -> None:
        """For how long labels that are given back from now on rest."""
        self._ledger.quarantine = quarantine

    def _changed(self) -> None:
        self._recorder.stale_note = False
        self._notes.send(self.note())

    # the contract

    async def qualify(self, spec: ServiceSpec, ctx: Context) -> Qualification:
        try:
            choice = self._choose(spec, spec.digest())
        except Impossible as error:
            return unqualified(*error.reasons)
        return Qualification(feasible=True, price=choice.price, delay_us=choice.delay_us)

    async def quote(self, spec: ServiceSpec, ctx: Context) -> Quote | Qualification:
        try:
            choice = self._choose(spec, spec.digest())
        except Impossible as error:
            return unqualified(*error.reasons)
        now, digest = self._clock.now(), spec.priced().digest()
        given = StandingQuote(
            id=uuid.uuid5(uuid.NAMESPACE_OID, f"{digest} {choice.price} {now.isoformat()}").hex,
            digest=digest,
            price=choice.price,
            delay_us=choice.delay_us,
            path_delays_us=choice.delays_us,
            until=now + timedelta(seconds=self.domain.quote_s),
        )
        await self._quotes.give(given)
        return Quote(
            id=given.id,
            price=given.price,
            delay_us=given.delay_us,
            path_delays_us=given.path_delays_us,
            remaining_s=self.domain.quote_s,
        )

    async def reserve(self, ref: str, version: int, spec: ServiceSpec, ctx: Context) -> Reserved | Refused:
        async with self._recorder.lock(ref):
            held = self._ledger.holds.get(ref)
            digest = body(spec, ctx.quote)
            verdict = judge(held.known() if held else None, version, digest)
            if isinstance(verdict, Reason):
                return Refused(ref=ref, version=version, reasons=(verdict,))
            if verdict is Verdict.REPEAT and held is not None:
                return answering.answer(held, version, self._clock.now())
            now = self._clock.now()
            live = held if verdict is Verdict.MODIFY else None
            seed = (live.seed or f"{ref}/{live.version}") if live is not None else f"{ref}/{version}"
            before = live.choice if live is not None else None
            try:
                # what gives way, or is live, does not stand in its own way
                accounting.count(self._ledger.calendar, held, -1)
                try:
                    choice = self._choose(spec, seed, before or NOTHING_CHOSEN)
                finally:
                    accounting.count(self._ledger.calendar, held, 1)
                price = self._promised(spec, ctx.quote) if ctx.quote else choice.price
            except Impossible as error:
                await self._recorder.save(
                    answering.refusal(ref, version, digest, error.reasons, held, self._clock.now())
                )
                return Refused(ref=ref, version=version, reasons=error.reasons)
            hold = Hold(
                ref=ref,
                version=version,
                state=ServiceState.RESERVED,
                created=held.created if held else now,
                updated=now,
                digest=digest,
                seed=seed,
                released_upto=max(held.released_upto if held else 0, version - 1),
                spec=spec,
                choice=named(choice.addressing, spec, self.domain.sp_id, ref),
                price=price,
                delay_us=choice.delay_us,
                path_delays_us=choice.delays_us,
                ways=tuple(way.id for way in choice.ways),
                hosts=choice.hosts,
                units=self._units(spec),
                expires=self._latest(spec, now + timedelta(seconds=self.domain.max_hold_s)),
                refusals=held.refusals if held else {},
            )
            await self._recorder.save(hold if live is None else replace(live, beside=hold.bare()))
            return answering.answer(hold, version, self._clock.now())

    def _choose(self, spec: ServiceSpec, key: str, before: AddressingChoice = NOTHING_CHOSEN) -> Choice:
        """What the segment would take in its time. Raises Impossible."""
        window = Window.of(spec.start_time, spec.end_time).since(self._clock.now())
        if window.empty:
            raise no(ReasonCode.INVALID_SPEC, f"the end {window.end.isoformat()} is past", "end_time")
        if self._builder.is_dead():
            raise Impossible(UNHEARD)
        choice = choose(self.domain, self._ledger.usage(window), spec, key, before)
        self._check_parameters(spec)
        return choice

    def _latest(self, spec: ServiceSpec, until: datetime) -> datetime:
        """When a hold that might last until then ends: not after its service would."""
        return min(until, spec.end_time) if spec.end_time is not None else until

    def _promised(self, spec: ServiceSpec, quote: str) -> Price:
        """The price of that quote. Raises Impossible."""
        given = self._quotes.standing(quote, "", spec.priced().digest(), self._clock.now())
        if isinstance(given, Reason):
            raise Impossible(given)
        return given.price

    async def extend(self, ref: str, version: int, seconds: float, ctx: Context) -> Reserved | Refused:
        async with self._recorder.lock(ref):
            record = self._ledger.holds.get(ref)
            hold = record.of(version) if record is not None else None
            refusal = answering.not_held(hold, version, self._clock.now())
            if record is None or hold is None or refusal is not None:
                return Refused(ref=ref, version=version, reasons=(refusal or answering.NOT_HELD,))
            until = self._clock.now() + timedelta(seconds=min(seconds, self.domain.max_hold_s))
            until = self._latest(hold.spec, until) if hold.spec is not None else until
            if hold.expires is None or until > hold.expires:
                hold = replace(hold, expires=until, updated=self._clock.now())
                await self._recorder.save(record.with_version(hold))
            return answering.answer(hold, version, self._clock.now())

    async def commit(self, ref: str, version: int, bindings: Bindings, ctx: Context) -> Committed | Refused:
        async with self._recorder.lock(ref):
            record = self._ledger.holds.get(ref)
            hold = record.of(version) if record is not None else None
            if hold is not None and hold.state in COMMITTED:
                if hold.bindings == bindings:
                    return Committed(ref=ref, version=version)
                reason = Reason(code=ReasonCode.KEY_REUSED, message="committed with other bindings", subject="bindings")
                return Refused(ref=ref, version=version, reasons=(reason,))
            refusal = answering.not_held(hold, version, self._clock.now()) or answering.unbound(hold, bindings)
            if record is None or hold is None or refusal is not None:
                return Refused(ref=ref, version=version, reasons=(refusal or answering.NOT_HELD,))
            now = self._clock.now()
            hold = replace(hold, state=ServiceState.ACTIVATING, bindings=bindings, expires=None, updated=now)
            if hold.version != record.version:
                hold = replace(hold, refusals=record.refusals, former=(*record.former, record.bare()))
            await self._recorder.save(hold)
            self._builder.work(ref)
            return Committed(ref=ref, version=version)

    async def release(self, ref: str, version: int, ctx: Context) -> None:
        async with self._recorder.lock(ref):
            hold = self._ledger.holds.get(ref)
            now = self._clock.now()
            if hold is None:
                hold = Hold(
                    ref=ref, version=0, state=ServiceState.EXPIRED, created=now, updated=now, released_upto=version
                )
                await self._recorder.save(hold)
            elif hold.state is ServiceState.RESERVED and hold.version <= version:
                await self._recorder.save(
                    replace(hold, state=ServiceState.EXPIRED, updated=now, released_upto=version, expires=None)
                )
            elif hold.state in LIVE and hold.version < version and hold.released_upto < version:
                await self._recorder.save(replace(_without(hold, version, now), released_upto=version))
            elif hold.released_upto < version and hold.state not in accounting.TAKES:
                await self._recorder.save(replace(hold, released_upto=version))

    async def terminate(self, ref: str, ctx: Context) -> None:
        async with self._recorder.lock(ref):
            hold = self._ledger.holds.get(ref)
            now = self._clock.now()
            if hold is None:
                await self._recorder.save(
                    Hold(ref=ref, version=0, state=ServiceState.TERMINATED, created=now, updated=now)
                )
            elif hold.state is ServiceState.RESERVED:
                await self._recorder.save(replace(hold, state=ServiceState.TERMINATED, updated=now, expires=None))
            elif hold.state in COMMITTED:
                await self._recorder.save(replace(hold, state=ServiceState.TERMINATING, updated=now, beside=None))
            elif hold.state not in OVER:
                await self._recorder.save(replace(hold, state=ServiceState.TERMINATED, updated=now))
        if self._ledger.holds[ref].state is ServiceState.TERMINATING:
            self._builder.work(ref)

    async def heal(self, ref: str, ctx: Context) -> None:
        """What is degraded here is tried again in any case."""
        await self.status(ref, ctx)

    async def status(self, ref: str, ctx: Context) -> ServiceStatus:
        hold = self._ledger.holds.get(ref)
        if hold is None or hold.version == 0:
            raise ServiceNotFound(ref)
        return answering.status(hold, self._clock.now())

    async def services(self, ctx: Context) -> AsyncIterator[ServiceStatus]:
        for hold in sorted(self._ledger.holds.values(), key=lambda h: (h.created, h.ref)):
            if hold.version:
                yield answering.status(hold, self._clock.now())

    async def watch(self, after: str, interest: Interest = EVERYTHING) -> AsyncIterator[Event]:
        """From now, whatever `after`: no token is given out to come back with. Only our own broker, in this process, reads
        these, and it asks for the state of all that it has here after each bookmark; a memory would tell it that twice."""
        async with aclosing(self._recorder.events.receive(first=Event(token=""))) as events:
            async for event in events:
                if event.status is None:
                    yield event
                elif (told := interest.of(event.status)) is not None:
                    yield replace(event, status=told)

    # time and the infrastructure

    async def tick(self) -> None:
        """Begin and end what is due, free what expired and what has rested; announce what changed, renew what will expire."""
        now = self._clock.now()
        if self._acts():
            await self._builder.due(now)
            await self._free(now)
            await self._builder.look()
        if now >= self._renew_at:
            self._recorder.stale_note = True
        if self._recorder.stale_note:
            self._changed()

    async def _free(self, now: datetime) -> None:
        for record in tuple(self._ledger.holds.values()):
            hold = record.beside or record
            if hold.state is ServiceState.RESERVED and hold.expires is not None and hold.expires <= now:
                async with self._recorder.lock(record.ref):
                    if self._ledger.holds[record.ref] is record:
                        gone = replace(hold, state=ServiceState.EXPIRED, updated=now)
                        await self._recorder.save(record.with_version(gone))
        await self._quotes.tick(now)
        if await self._ledger.free_rested(now):
            self._recorder.stale_note = True

    async def inventory(self) -> tuple[Item, ...]:
        return await self.driver.inventory()

    def discrepancies(self, items: Iterable[Item]) -> tuple[str, ...]:
        """What the infrastructure has and no record wants: reported, never removed by itself."""
        wanted = {h.ref for h in self._ledger.holds.values() if h.state in accounting.BUILT}
        return tuple(f"{i.kind} {i.name} of unknown segment {i.segment}" for i in items if i.segment not in wanted)

    def resting(self) -> tuple[Allocation, ...]:
        return tuple(self._ledger.resting)

    def free_labels(self, sap: Sap) -> LabelSet:
        return self._ledger.calendar.free_labels(sap)

    def taken(self, now: datetime) -> list[tuple[Key, list[tuple[datetime, int]]]]:
        """What is taken of each resource from now on: from when, and how much."""
        return self._ledger.calendar.steps(now)

    def holds(self) -> tuple[Hold, ...]:
        return tuple(self._ledger.holds.values())

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


def _without(hold: Hold, version: int, now: datetime) -> Hold:
    """What is live without the version beside it, where that is not newer than `version`."""
    beside = hold.beside
    if beside is None or beside.version > version or beside.state is not ServiceState.RESERVED:
        return hold
    return replace(hold, beside=replace(beside, state=ServiceState.EXPIRED, updated=now, expires=None))
