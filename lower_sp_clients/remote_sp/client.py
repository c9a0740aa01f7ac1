"""RemoteSp: the wire turned back into a Supplier.

Rules kept here
- Never guess: whatever leaves a doubt is `OutcomeUnknown`. Only what the SP says of the *content* of a request, which it
  would say again of the same request, is a refusal; an answer for another ref or version is no answer.
- RESOURCE_EXHAUSTED with a hint when to come back says that this call had no effect: `Overloaded`, with the hint, which we
  bound. Without a hint it may be anybody's word on the way.
- No time left is OutcomeUnknown too: an earlier attempt with the same ref and version may have had its effect.
- The deadline handed down ends a margin before the caller's own, so that an answer can still be judged.
- The feed of notes reconnects for ever, resuming behind the last note that was accepted.
"""

from __future__ import annotations

import asyncio
import random as system_random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

import structlog

from capability_registry.note import CapabilityNote
from lower_sp_clients import wire
from lower_sp_clients.remote_sp.session import CallFailed, ClientTls, Session
from lower_sp_clients.supplier import (
    EVERYTHING,
    Context,
    Interest,
    OutcomeUnknown,
    Overloaded,
    ServiceNotFound,
    SignedNote,
)
from lower_sp_clients.wire import WireError
from service_model.clock import Clock
from service_model.outcomes import (
    Bindings,
    Committed,
    Event,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceStatus,
)
from service_model.quotes import Qualification, Quote, unqualified
from service_model.spec import ServiceSpec
from spbroker.v1 import broker_service_pb2 as pb
from spbroker.v1 import outcome_pb2

DEFAULT_TIMEOUT_S = 60.0
MARGIN_S = 0.2
EVENTS_BEGIN_S, NOTES_BEGIN_S = 30.0, 300.0
"""How long the first message of a stream is waited for. Of events it is a bookmark, at once; a large note is made first."""
BACK_OFF_MIN_S, BACK_OFF_MAX_S = 1.0, 60.0
HINT_MIN_S, HINT_MAX_S = 0.2, 60.0
"""What of an SP's hint when to come back is heeded."""

log = structlog.get_logger(__name__)


class RemoteSp:
    """The SP at `endpoint` (`host:port`), where we are `account`.

    `tls` is asked at each renewal of the token; `verify` checks and reads a note's JWS, and raises for one that is not to
    be taken; `random` gives numbers of [0, 1) for jitter. A stream that does not begin
    within `events_begin_s` or `notes_begin_s` is given up, and begun again."""

    def __init__(
        self,
        endpoint: str,
        account: str,
        *,
        tls: Callable[[], ClientTls],
        verify: Callable[[str], CapabilityNote],
        clock: Clock,
        random: Callable[[], float] = system_random.random,
        events_begin_s: float = EVENTS_BEGIN_S,
        notes_begin_s: float = NOTES_BEGIN_S,
    ) -> None:
        self._session = Session(endpoint, account, tls, clock)
        self._events_begin_s, self._notes_begin_s = events_begin_s, notes_begin_s
        self._verify, self._clock, self._random = verify, clock, random
        self._log = log.bind(endpoint=endpoint, account=account)
        self.feed_broken_since: datetime | None = None
        """Since when notes have not been flowing; None while they are. What was announced before is then stale."""

    async def close(self) -> None:
        await self._session.close()

    async def notes(self) -> AsyncIterator[SignedNote]:
        resume, failures = "", 0
        while True:
            accepted = True
            try:
                request = pb.WatchCapabilityNotesRequest(resume_token=resume)
                stream = self._session.stream("WatchCapabilityNotes", request, self._notes_begin_s)
                async with aclosing(stream) as messages:  # type: ignore[type-var]
                    async for message in messages:
                        failures, self.feed_broken_since = 0, None
                        match message.WhichOneof("kind"):
                            case "note":
                                note = await asyncio.to_thread(self._accepted, message.note.jws)
                                accepted = note is not None
                                if note is not None:
                                    yield note
                            case "bookmark" if accepted:
                                resume = message.bookmark.token
                            case "start_again":
                                resume = ""
            except CallFailed as error:
                self.feed_broken_since = self.feed_broken_since or self._clock.now()
                self._log.warning("note_feed_broken", error=str(error), failures=failures)
            wait = min(BACK_OFF_MAX_S, BACK_OFF_MIN_S * 2 ** min(failures, 10))
            failures += 1
            await self._clock.sleep(wait * (0.5 + self._random() / 2))

    async def qualify(self, spec: ServiceSpec, ctx: Context) -> Qualification:
        request = pb.QualifyServiceRequest(spec=wire.SPEC.encode(spec), context=_call_context(ctx))
        try:
            answer = await self._session.unary("QualifyService", request, self._timeout(ctx), ctx.trace)
        except CallFailed as error:
            return _no(error, "QualifyService")
        qualification: Qualification = _readable(wire.QUALIFICATION.decode, answer.qualification)
        return qualification

    async def quote(self, spec: ServiceSpec, ctx: Context) -> Quote | Qualification:
        request = pb.QuoteServiceRequest(spec=wire.SPEC.encode(spec), context=_call_context(ctx))
        try:
            answer = await self._session.unary("QuoteService", request, self._timeout(ctx), ctx.trace)
        except CallFailed as error:
            return _no(error, "QuoteService")
        outcome: Quote | Qualification
        match answer.WhichOneof("outcome"):
            case "quote":
                outcome = _readable(wire.QUOTE.decode, answer.quote)
            case "unqualified":
                outcome = _readable(wire.QUALIFICATION.decode, answer.unqualified)
            case _:
                raise OutcomeUnknown("QuoteService was answered with something else than a quote or why there is none")
        return outcome

    async def reserve(self, ref: str, version: int, spec: ServiceSpec, ctx: Context) -> Reserved | Refused:
        request = pb.ReserveServiceRequest(
            ref=ref, version=version, spec=wire.SPEC.encode(spec), context=_call_context(ctx)
        )
        return await self._held_or_refused("ReserveService", request, ctx)

    async def extend(self, ref: str, version: int, seconds: float, ctx: Context) -> Reserved | Refused:
        request = pb.ExtendReservationRequest(ref=ref, version=version, seconds=seconds, context=_call_context(ctx))
        return await self._held_or_refused("ExtendReservation", request, ctx)

    async def commit(self, ref: str, version: int, bindings: Bindings, ctx: Context) -> Committed | Refused:
        request = pb.CommitServiceRequest(
            ref=ref, version=version, bindings=wire.CHOICE.encode(bindings), context=_call_context(ctx)
        )
        outcome = await self._outcome("CommitService", request, ctx)
        if isinstance(outcome, Committed | Refused):
            return outcome
        raise OutcomeUnknown("CommitService was answered with something else than committed or refused")

    async def release(self, ref: str, version: int, ctx: Context) -> None:
        request = pb.ReleaseReservationRequest(ref=ref, version=version, context=_call_context(ctx))
        await self._call("ReleaseReservation", request, ctx)

    async def terminate(self, ref: str, ctx: Context) -> None:
        await self._call("TerminateService", pb.TerminateServiceRequest(ref=ref, context=_call_context(ctx)), ctx)

    async def heal(self, ref: str, ctx: Context) -> None:
        await self._call("HealService", pb.HealServiceRequest(ref=ref, context=_call_context(ctx)), ctx)

    async def status(self, ref: str, ctx: Context) -> ServiceStatus:
        answer = await self._call("GetService", pb.GetServiceRequest(ref=ref), ctx)
        status: ServiceStatus = _readable(wire.STATUS.decode, answer.service)
        if status.ref != ref:
            raise OutcomeUnknown(f"GetService was answered for {status.ref!r}, not {ref!r}")
        return status

    async def services(self, ctx: Context) -> AsyncIterator[ServiceStatus]:
        token = ""
        while True:
            answer = await self._call("ListServices", pb.ListServicesRequest(page_token=token), ctx)
            for service in answer.services:
                yield _readable(wire.STATUS.decode, service)
            if not answer.next_page_token or answer.next_page_token == token:
                return
            token = answer.next_page_token

    async def watch(self, after: str, interest: Interest = EVERYTHING) -> AsyncIterator[Event]:
        """Raises OutcomeUnknown when the stream breaks or does not begin: watch again, behind the last token."""
        try:
            view = pb.SERVICE_VIEW_FULL if interest.addressing else pb.SERVICE_VIEW_BASIC
            request = pb.WatchServicesRequest(after=after, view=view)
            request.states.extend(outcome_pb2.ServiceState.Value(state) for state in sorted(interest.states))
            stream = self._session.stream("WatchServices", request, self._events_begin_s)
            async with aclosing(stream) as messages:  # type: ignore[type-var]
                async for message in messages:
                    yield _readable(wire.EVENT.decode, message.event)
        except CallFailed as error:
            raise OutcomeUnknown(f"the stream of events broke: {error}") from error

    def _accepted(self, jws: str) -> SignedNote | None:
        try:
            return SignedNote(jws=jws, note=self._verify(jws))
        except (
            Exception
        ) as error:  # whatever is wrong with one note, the feed goes on: the registry keeps the last good one
            self._log.warning("note_refused", error=str(error))
            return None

    async def _held_or_refused(self, method: str, request: Any, ctx: Context) -> Reserved | Refused:
        outcome = await self._outcome(method, request, ctx)
        if isinstance(outcome, Reserved | Refused):
            return outcome
        raise OutcomeUnknown(f"{method} was answered with something else than reserved or refused")

    async def _outcome(self, method: str, request: Any, ctx: Context) -> Reserved | Committed | Refused | None:
        try:
            answer = await self._session.unary(method, request, self._timeout(ctx), ctx.trace)
        except CallFailed as error:
            if reasons := _refusal(error):
                return Refused(ref=request.ref, version=request.version, reasons=reasons)
            raise _unknown(method, error) from error
        outcome: Reserved | Committed | Refused
        match answer.WhichOneof("outcome"):
            case "reserved":
                outcome = _readable(wire.RESERVED.decode, answer.reserved)
            case "committed":
                outcome = _readable(wire.COMMITTED.decode, answer.committed)
            case "refused":
                outcome = _readable(wire.REFUSED.decode, answer.refused)
            case _:
                return None
        if (outcome.ref, outcome.version) != (request.ref, request.version):
            raise OutcomeUnknown(f"{method} was answered for {outcome.ref!r} version {outcome.version}")
        return outcome

    async def _call(self, method: str, request: Any, ctx: Context) -> Any:
        try:
            return await self._session.unary(method, request, self._timeout(ctx), ctx.trace)
        except CallFailed as error:
            raise _unknown(method, error) from error

    def _timeout(self, ctx: Context) -> Callable[[], float]:
        """Seconds left until the margin before the deadline; raises OutcomeUnknown when there are none."""

        def left() -> float:
            if ctx.deadline is None:
                return DEFAULT_TIMEOUT_S
            seconds = (ctx.deadline - self._clock.now()).total_seconds() - MARGIN_S
            if seconds <= 0:
                raise OutcomeUnknown("the deadline leaves no time to ask")
            return seconds

        return left


def _call_context(ctx: Context) -> pb.CallContext:
    return pb.CallContext(hop_budget=ctx.hop_budget, call_budget=ctx.call_budget, quote=ctx.quote)


def _readable(decode: Callable[[Any], Any], message: Any) -> Any:
    try:
        return decode(message)
    except WireError as error:
        raise OutcomeUnknown(f"the answer cannot be read: {error}") from error


def _unknown(method: str, error: CallFailed) -> OutcomeUnknown | Overloaded | ServiceNotFound:
    if error.code == "RESOURCE_EXHAUSTED" and error.retry_after_s is not None:
        return Overloaded(min(HINT_MAX_S, max(HINT_MIN_S, error.retry_after_s)))
    if error.code == "NOT_FOUND" and error.reason == "SERVICE_NOT_FOUND":
        return ServiceNotFound(error.message)
    return OutcomeUnknown(f"{method}: {error}")


def _no(error: CallFailed, method: str) -> Qualification:
    """What the SP says of the request's content, as the qualification that says no. Raises OutcomeUnknown, Overloaded."""
    if reasons := _refusal(error):
        return unqualified(*reasons)
    raise _unknown(method, error) from error


def _refusal(error: CallFailed) -> tuple[Reason, ...]:
    """What the SP says of the request's content, as reasons of a refusal; none where it says nothing of it."""
    if error.code == "UNIMPLEMENTED":
        return (Reason(code=ReasonCode.FEATURE_NOT_OFFERED, message=error.message),)
    if error.code != "INVALID_ARGUMENT":
        return ()
    violations = error.violations or (("", error.message),)
    return tuple(
        Reason(code=ReasonCode.INVALID_SPEC, message=reason, subject=path.removeprefix("spec."))
        for path, reason in violations
    )
