"""The broker: a Supplier built out of Suppliers. What its callers may do with orders.

Rules kept here
- What a caller does (reserve, commit, release, terminate) changes the order and wakes its worker; the caller is answered
  from what was recorded, never from what is only in memory. At its deadline the outcome is unknown, and the work goes on.
- Everything is scoped to the caller's account: what is not its own does not exist.
- What is refused before it is planned (quota, budgets, an invalid spec) is no order: it is logged, not recorded, so that
  nobody fills the store beyond a quota, and is judged anew when it is asked again. A version that was planned is answered
  from the record.
- A reservation by a quote is judged with it: the quote counts or not when the reservation comes, and is recorded with it.
- A commit is judged late or not once, here, before it is recorded; duplicates are recognised before that.
- What a caller does with a version is done with that version, the order's own or the newer one beside it; a terminate ends all.
- Where other processes work on the same store, an order is taken over before it is changed here, whoever has it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import timedelta

import structlog

from broker.orders import succession
from broker.orders.accounting import answer, status
from broker.orders.ailing import told
from broker.orders.engine import Stored
from broker.orders.gather import unconfirmed, whole
from broker.orders.healing import asked_for
from broker.orders.offers import Offers
from broker.orders.records import Abandoned, AuditRow, Order, Quoted, Terms
from broker.orders.states import Event
from broker.orders.stuck import abandoned, stuck_track, to_abandon
from broker.orders.tasks import abandon, ending
from broker.orders.times import wrong_time
from lower_sp_clients.broadcast import Overrun
from lower_sp_clients.supplier import (
    EVERYTHING,
    Context,
    Interest,
    OutcomeUnknown,
    ReadOnly,
    ServiceNotFound,
    SignedNote,
)
from lower_sp_clients.versions import LIVE, Verdict, body, judge
from service_model.outcomes import (
    STATUS,
    AddressingChoice,
    Bindings,
    Committed,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
)
from service_model.outcomes import Event as ServiceEvent
from service_model.quotes import Qualification, Quote
from service_model.replacing import replace
from service_model.spec import ServiceSpec

log = structlog.get_logger()

_SETTLING = frozenset({ServiceState.RESERVING})
_ENDED = frozenset({ServiceState.TERMINATING, ServiceState.STUCK, ServiceState.TERMINATED})
_STANDS = frozenset({ServiceState.FAILED})
"""Where a commit that was answered with Committed is so again: what failed did so afterwards."""
_TAKES = 10
"""How often an order is taken that another replica takes back at once."""
_BROUGHT_IN = frozenset({ServiceState.COMMITTING, ServiceState.ACTIVATING})


class Broker(Offers):
    """Orders of all accounts. `seen_by` gives each account its Supplier."""

    def seen_by(self, account: str) -> AccountView:
        return AccountView(self, account)

    # what callers do

    async def reserve(
        self, account: str, ref: str, version: int, spec: ServiceSpec, ctx: Context
    ) -> Reserved | Refused:
        known = await self._mine(account, ref)
        verdict = judge(known.known() if known else None, version, body(spec, ctx.quote))
        if isinstance(verdict, Reason):
            return _turned_away(account, ref, version, (verdict,), ctx)
        if verdict is not Verdict.REPEAT or known is None:
            terms = self._terms(account)
            wrong = (
                (terms,)
                if isinstance(terms, Reason)
                else self._late(ctx) or self._unacceptable(account, ref, spec, ctx, terms)
            )
            if wrong or isinstance(terms, Reason):
                return _turned_away(account, ref, version, wrong, ctx)
            quoted = self._quoted(account, spec, ctx)
            if isinstance(quoted, Reason):
                return _turned_away(account, ref, version, (quoted,), ctx)
            known = self._begin(known, verdict, account, ref, version, spec, terms, quoted, ctx)
        done = await self.until(known.id, lambda o: _answered(o, version), ctx)
        if (loss := done.loss()) is not None and verdict is not Verdict.REPEAT:
            log.warning("dearer than it was quoted", service=done.id, account=account, ref=ref, over_the_term=str(loss))
        return answer(done, version, self.clock.now())

    async def _mine(self, account: str, ref: str) -> Order | None:
        """The order, ours to change unless it is over."""
        await self.claims.catch_up()
        order = self.order_of(account, ref)
        if order is not None:
            await self._take(order)
        return self.order_of(account, ref)

    async def _take(self, order: Order) -> None:
        if order.state is ServiceState.TERMINATED:
            return
        for _ in range(_TAKES):
            if self.claims.mine(order.id):
                return
            await self.claims.take(order.id)
        raise OutcomeUnknown("the order goes to and fro between replicas")

    def _begin(
        self,
        known: Order | None,
        verdict: Verdict,
        account: str,
        ref: str,
        version: int,
        spec: ServiceSpec,
        terms: Terms,
        quoted: Quoted | None,
        ctx: Context,
    ) -> Order:
        now = self.clock.now()
        fresh = Order(
            id=known.id if known else self._new_id(),
            account=account,
            ref=ref,
            version=version,
            state=ServiceState.RESERVING,
            created=known.created if known else now,
            updated=now,
            epoch=self.epoch,
            digest=body(spec, ctx.quote),
            spec=spec,
            terms=terms,
            quoted=quoted,
            hop_budget=ctx.hop_budget,
            call_budget=ctx.call_budget,
            trace=ctx.trace,
            deadline=self._patience(ctx),
        )
        if known is not None and not known.version:
            fresh = replace(fresh, released_upto=known.released_upto)
        elif known is not None:
            beside = verdict is Verdict.MODIFY
            former = known.beside if beside else known
            live = known if beside else None
            fresh = succession.replaced(former, fresh, live) if former is not None else succession.begun(known, fresh)
            fresh = replace(known, beside=fresh) if beside else fresh
        if known is None:
            self.claims.begin(fresh.id)
        self.audit(fresh.id, account, "reserve", ref, known.state.short if known else "", "RESERVING", ctx)
        self.change(fresh)
        return fresh

    def _unacceptable(
        self, account: str, ref: str, spec: ServiceSpec, ctx: Context, terms: Terms
    ) -> tuple[Reason, ...]:
        """Everything that is wrong with a reservation before it is planned."""
        out = self._wrong_with(spec, ctx, terms)
        if not out and (late := self._after_the_live(account, ref, spec)) is not None:
            return (late,)
        others = self.wanted.count(account, besides=self.by_ref.get((account, ref)))
        if others >= terms.max_services:
            message = f"the agreement allows {terms.max_services} services"
            return (*out, Reason(code=ReasonCode.QUOTA, message=message))
        return out

    def _after_the_live(self, account: str, ref: str, spec: ServiceSpec) -> Reason | None:
        """Why it cannot be a newer version of what is live under that ref."""
        id = self.by_ref.get((account, ref))
        live = self.wanted[id] if id is not None else None
        return wrong_time(spec, self.clock.now(), live) if live is not None and live.state in LIVE else None

    async def extend(self, account: str, ref: str, version: int, seconds: float, ctx: Context) -> Reserved | Refused:
        while True:
            record, order = await self._version(account, ref, version)
            refusal = self._not_held(order, version)
            if record is None or order is None or refusal is not None:
                return Refused(ref=ref, version=version, reasons=(refusal or _NOT_HELD,))
            if order.extending is None:
                break
            await self.until(
                order.id, lambda o: _extended(o, version), ctx
            )  # one after the other: each is told what it got
        seconds = min(seconds, order.terms.max_hold_s)
        self.audit(order.id, account, "extend", ref, "RESERVED", "RESERVED", ctx)
        longer = replace(order, extending=self.clock.now() + timedelta(seconds=seconds))
        self.change(record.with_version(longer))
        done = await self.until(order.id, lambda o: _extended(o, version), ctx)
        if refusal := self._not_held(done.of(version), version):  # ended or committed meanwhile
            return Refused(ref=ref, version=version, reasons=(refusal,))
        return answer(done, version, self.clock.now())

    async def commit(self, account: str, ref: str, version: int, told: Bindings, ctx: Context) -> Committed | Refused:
        record, order = await self._version(account, ref, version)
        if record is None or order is None or not _committed(order):
            refusal = self._not_held(order, version)
            if record is None or order is None or order.choice is None or refusal is not None:
                failed = order is not None and order.state is ServiceState.FAILED
                reasons = order.reasons if order is not None and failed else (refusal or _NOT_HELD,)
                return Refused(ref=ref, version=version, reasons=reasons)
            wrong = unconfirmed(order.choice, told)
            if wrong is not None:
                return Refused(ref=ref, version=version, reasons=(wrong,))
            self.audit(order.id, account, "commit", ref, "RESERVED", "COMMITTING", ctx)
            decided = replace(order, bindings=whole(order.choice, told), was_live=True, extending=None)
            self.change(record.with_version(decided.on(Event.COMMIT)))
        elif order.choice is not None and _contradicts(order, order.choice, told):
            reason = Reason(code=ReasonCode.KEY_REUSED, message="committed with other bindings", subject="bindings")
            return Refused(ref=ref, version=version, reasons=(reason,))
        recorded = await self.until(order.id, lambda o: _decided(o, version), ctx)
        done = recorded.of(version)
        if done is not None and _committed(done):
            return Committed(ref=ref, version=version)
        ended = Reason(code=ReasonCode.NOT_HELD, message="the service was terminated")
        return Refused(ref=ref, version=version, reasons=(done or recorded).reasons or (ended,))

    async def _version(self, account: str, ref: str, version: int) -> tuple[Order | None, Order | None]:
        """The order, ours to change unless it is over, and that version of it: its own, or the newer one beside it."""
        order = await self._mine(account, ref)
        return order, order.of(version) if order is not None else None

    async def release(self, account: str, ref: str, version: int, ctx: Context) -> None:
        order = await self._mine(account, ref)
        if order is None:
            tombstone = replace(self._tombstone(account, ref, ServiceState.EXPIRED), released_upto=version)
            self.audit(tombstone.id, account, "release", ref, "", "EXPIRED", ctx)
            self.change(tombstone)
        elif order.state in (ServiceState.RESERVED, ServiceState.RESERVING) and order.version <= version:
            reason = Reason(code=ReasonCode.CUSTOMER, message="released by its owner")
            self.audit(order.id, account, "release", ref, order.state.short, "EXPIRED", ctx)
            self.change(replace(abandon(order), reasons=(reason,), released_upto=version).on(Event.RELEASE))
        elif order.state in LIVE and order.version < version and order.released_upto < version:
            if order.beside is not None and order.beside.state in _BROUGHT_IN:
                return
            self.audit(order.id, account, "release", ref, order.state.short, order.state.short, ctx)
            self.change(replace(_without(order, version), released_upto=version))
        elif order.previous is not None and order.previous.version <= version:  # the hold that would come back
            self.change(replace(order.alone(), released_upto=max(order.released_upto, version)))
        elif order.released_upto < version and order.state in (ServiceState.REFUSED, ServiceState.EXPIRED):
            self.change(replace(order, released_upto=version))
        else:
            return
        order = self.order_of(account, ref)
        assert order is not None
        await self.until(order.id, lambda o: o.released_upto >= version, ctx)

    async def terminate(self, account: str, ref: str, ctx: Context) -> None:
        order = await self._mine(account, ref)
        if self._may_live_untracked(order):
            log.warning("not confirmed to be gone: it may be among what is unknown since the restore", ref=ref)
            raise OutcomeUnknown("what is unknown here since the restore is not confirmed to be gone")
        if order is None:
            tombstone = self._tombstone(account, ref, ServiceState.TERMINATED)
            self.audit(tombstone.id, account, "terminate", ref, "", "TERMINATED", ctx)
            self.change(tombstone)
            order = tombstone
        elif order.state not in _ENDED:
            self.audit(order.id, account, "terminate", ref, order.state.short, "TERMINATING", ctx)
            self.change(replace(ending(order), expires=None, extending=None).on(Event.TERMINATE))
        await self.until(order.id, lambda o: o.state in _ENDED, ctx)

    async def heal(self, account: str, ref: str, ctx: Context) -> None:
        """Its owner wants it healed. Raises ServiceNotFound; of what is whole and was not lost too often, or is not live, it
        changes nothing."""
        order = await self._mine(account, ref)
        if order is None or not order.version:
            raise ServiceNotFound(ref)
        if told(order, shows_segments=False) is not None and not order.being_healed:
            self.audit(order.id, account, "heal", ref, order.state.short, order.state.short, ctx)
            self.change(asked_for(order, self.clock.now()))
        await self.until(order.id, lambda o: True, ctx)

    def _may_live_untracked(self, order: Order | None) -> bool:
        """Whether what the store knows nothing of, or only as a hold, may be live at suppliers since a restore: whoever hears
        that it is gone gives its addresses to others."""
        since = self.untracked_since
        return since is not None and (order is None or (order.created <= since and not order.was_live))

    async def abandon(self, named: Order, segment: str, reason: str, actor: str) -> tuple[Order, tuple[str, ...]]:
        """Give up a segment ("": all) that holds a STUCK service up, because `actor` decided so. Returns the order as it
        is recorded then, and what was given up. Raises NotStuck."""
        await self._take(named)
        whole, now = self.wanted[named.id], self.clock.now()
        track = stuck_track(whole)
        order = track.part(whole) or whole
        keys = to_abandon(order, segment, self._own)
        given = track.put(whole, abandoned(order, keys, Abandoned(at=now, actor=actor, reason=reason)))
        row = AuditRow(
            at=now,
            actor=actor,
            on_behalf_of=order.account,
            action="abandon",
            subject=order.ref,
            before=", ".join(f"{s.key}: {s.state.short}" for s in order.segments if s.key in keys),
            after=", ".join(f"{key}: ABANDONED" for key in keys),
            reason=reason,
            trace="",
        )
        self._unrecorded.add(order.id, row)
        self.change(given)
        done = await self.until(
            order.id, lambda o: all(s.abandoned for s in o.all_segments() if s.key in keys), Context()
        )
        log.warning("given up", service=order.id, segments=keys, actor=actor, reason=reason)
        return done, keys

    def _own(self, alias: str) -> bool:
        listing = self.catalogue.listing(alias)
        return listing is not None and listing.local

    def status(self, account: str, ref: str) -> ServiceStatus:
        order = self.by_ref.get((account, ref))
        if order is None or order not in self.saved or not self.saved[order].version:
            raise ServiceNotFound(ref)
        return status(self.saved[order], self.clock.now())

    def services(self, account: str) -> tuple[ServiceStatus, ...]:
        mine = [o for o in self.saved.values() if o.account == account and o.version]
        return tuple(status(o, self.clock.now()) for o in sorted(mine, key=lambda o: (o.created, o.id)))

    async def watch(self, account: str, after: str, interest: Interest) -> AsyncIterator[ServiceEvent]:
        """Events behind the token `after` ("" or one of another epoch: from now), first a bookmark."""
        async with aclosing(self.events.receive(first=Stored(sequence=0, account="", status=_NOTHING))) as live:
            await anext(live)  # from here on nothing is missed
            await self.claims.catch_up()
            epoch, _, number = after.partition(".")
            resumes = epoch == self.epoch and number.isdecimal()
            at = int(number) if resumes else self.sequence
            yield ServiceEvent(token=self._token(at))
            while resumes and (batch := await self.book.events_after(at, account, 500)):
                for at, document in batch:
                    if (told := interest.of(STATUS.validate_json(document))) is not None:
                        yield ServiceEvent(token=self._token(at), status=told)
            try:
                async for event in live:
                    if event.account == account and event.sequence > at:
                        at = event.sequence
                        if (told := interest.of(event.status)) is not None:
                            yield ServiceEvent(token=self._token(at), status=told)
            except Overrun as error:
                log.warning("watcher cut off: it does not keep up", account=account, resumes_behind=at)
                raise OutcomeUnknown(str(error)) from None

    def _token(self, sequence: int) -> str:
        return f"{self.epoch}.{sequence}"

    def _tombstone(self, account: str, ref: str, state: ServiceState) -> Order:
        now, id = self.clock.now(), self._new_id()
        self.claims.begin(id)
        return Order(
            id=id,
            account=account,
            ref=ref,
            version=0,
            state=state,
            created=now,
            updated=now,
            epoch=self.epoch,
        )

    def _not_held(self, order: Order | None, version: int) -> Reason | None:
        if order is None or order.version != version:
            return _NOT_HELD
        now = self.clock.now()
        if order.state is ServiceState.RESERVED and order.expires is not None and order.expires > now:
            return None
        if order.state in (ServiceState.RESERVED, ServiceState.EXPIRED):
            return Reason(code=ReasonCode.HOLD_EXPIRED, message="the hold has expired", subject="version")
        return _NOT_HELD


class AccountView:
    """The broker as one account's Supplier: everything else does not exist for it."""

    def __init__(
        self, broker: Broker, account: str, note: Callable[[], AsyncIterator[SignedNote]] | None = None
    ) -> None:
        self._broker = broker
        self._account = account
        self._note = note

    def _may_change(self) -> None:
        """Raises ReadOnly."""
        if self._broker.read_only:
            raise ReadOnly(self._broker.read_only)

    def notes(self) -> AsyncIterator[SignedNote]:
        if self._note is None:
            raise OutcomeUnknown("no notes are published to this account")
        return self._note()

    async def qualify(self, spec: ServiceSpec, ctx: Context) -> Qualification:
        return await self._broker.qualify(self._account, spec, ctx)

    async def quote(self, spec: ServiceSpec, ctx: Context) -> Quote | Qualification:
        self._may_change()
        return await self._broker.quote(self._account, spec, ctx)

    async def reserve(self, ref: str, version: int, spec: ServiceSpec, ctx: Context) -> Reserved | Refused:
        self._may_change()
        return await self._broker.reserve(self._account, ref, version, spec, ctx)

    async def extend(self, ref: str, version: int, seconds: float, ctx: Context) -> Reserved | Refused:
        self._may_change()
        return await self._broker.extend(self._account, ref, version, seconds, ctx)

    async def commit(self, ref: str, version: int, bindings: Bindings, ctx: Context) -> Committed | Refused:
        self._may_change()
        return await self._broker.commit(self._account, ref, version, bindings, ctx)

    async def release(self, ref: str, version: int, ctx: Context) -> None:
        self._may_change()
        await self._broker.release(self._account, ref, version, ctx)

    async def terminate(self, ref: str, ctx: Context) -> None:
        self._may_change()
        await self._broker.terminate(self._account, ref, ctx)

    async def heal(self, ref: str, ctx: Context) -> None:
        self._may_change()
        await self._broker.heal(self._account, ref, ctx)

    async def status(self, ref: str, ctx: Context) -> ServiceStatus:
        await self._broker.claims.catch_up()
        return self._broker.status(self._account, ref)

    async def services(self, ctx: Context) -> AsyncIterator[ServiceStatus]:
        await self._broker.claims.catch_up()
        for item in self._broker.services(self._account):
            yield item

    def watch(self, after: str, interest: Interest = EVERYTHING) -> AsyncIterator[ServiceEvent]:
        return self._broker.watch(self._account, after, interest)


def _turned_away(account: str, ref: str, version: int, reasons: tuple[Reason, ...], ctx: Context) -> Refused:
    """Refused before it was an order: told to the operator, and not recorded."""
    why = [f"{reason.code.short}: {reason.message}" for reason in reasons]
    log.info("refused before planning", account=account, ref=ref, version=version, why=why, trace=ctx.trace)
    return Refused(ref=ref, version=version, reasons=reasons)


def _answered(order: Order, version: int) -> bool:
    """Whether there is an answer to the reservation of that version."""
    latest = order.beside or order
    known = order.of(version)
    settled = known is None or known.state not in _SETTLING
    return version in order.refusals or settled or latest.version > version


def _decided(order: Order, version: int) -> bool:
    """Whether a commit of that version has come to an end."""
    known = order.of(version)
    return known is None or known.state not in (ServiceState.RESERVED, ServiceState.COMMITTING)


def _committed(order: Order) -> bool:
    """Whether a commit of this version is, or was, answered with Committed, or is being worked on."""
    return order.state in LIVE or (order.confirmed and order.state in _STANDS)


def _contradicts(order: Order, choice: AddressingChoice, told: Bindings) -> bool:
    """Whether a commit that comes again comes with other bindings. What was healed since is bound otherwise in what is none of
    its owner's."""
    return order.bindings != whole(choice, told) if not order.healed else unconfirmed(choice, told) is not None


def _without(order: Order, version: int) -> Order:
    """What is live without the versions beside it that are not newer than `version`."""
    beside = order.beside
    if beside is None:
        return order
    reason = Reason(code=ReasonCode.CUSTOMER, message="released by its owner")
    if beside.version <= version:
        if beside.state not in (ServiceState.RESERVED, ServiceState.RESERVING):
            return order
        return replace(order, beside=replace(abandon(beside), reasons=(reason,)).on(Event.RELEASE))
    if beside.previous is not None and beside.previous.version <= version:  # the hold that would come back
        return replace(order, beside=beside.alone())
    return order


def _extended(order: Order, version: int) -> bool:
    """Whether nobody is being asked for a longer hold of that version any more."""
    known = order.of(version)
    return known is None or known.extending is None


_NOT_HELD = Reason(code=ReasonCode.NOT_HELD, message="this version is not held", subject="version")
_NOTHING = ServiceStatus(ref="", version=0, state=ServiceState.UNSPECIFIED)
