"""BrokerService over any Supplier: messages in, words through, messages out; nothing is decided here.

Rules kept here
- Whose services they are comes from the token: `supplier_for(account)` sees only that account's.
- A refusal is an answer. Every exception is left to the gate, which has the one table.
- The note stream is resumable: a token tells which note was seen, so an unchanged one is not sent again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

from broker.northbound.auth import Authenticator, ClientCertificate, Credentials, Password, caller, peer_certificate
from broker.northbound.paging import page
from broker.northbound.wrong_calls import AuthError, AuthReason
from lower_sp_clients import wire
from lower_sp_clients.supplier import Context, Given, Interest, Supplier
from lower_sp_clients.wire import Violation, WireError
from service_model.clock import Clock
from service_model.outcomes import Refused, Reserved, ServiceState
from service_model.quotes import Qualification
from service_model.spec import ServiceSpec
from spbroker.v1 import broker_service_pb2 as pb
from spbroker.v1 import broker_service_pb2_grpc, outcome_pb2

REF_MAX = 128
EXTEND_MAX_S = 86_400.0 * 366


class BrokerServicer(broker_service_pb2_grpc.BrokerServiceServicer):
    def __init__(
        self,
        *,
        supplier_for: Callable[[str], Supplier],
        notes_for: Callable[[str], AsyncIterator[Given]],
        authenticator: Authenticator,
        clock: Clock,
    ) -> None:
        self._supplier_for, self._notes_for = supplier_for, notes_for
        self._authenticator, self._clock = authenticator, clock

    async def IssueToken(self, request: pb.IssueTokenRequest, context: Any) -> pb.IssueTokenResponse:
        certificate = peer_certificate(context.auth_context())
        credentials: Credentials
        if certificate is None:
            credentials = Password(request.account, request.password)
        elif request.password:
            raise AuthError(AuthReason.CREDENTIALS_REFUSED, "this connection has a certificate: no password is taken")
        else:
            credentials = ClientCertificate(request.account, certificate)
        token, expires = await self._authenticator.issue(credentials)
        response = pb.IssueTokenResponse(token=token)
        response.expire_time.FromDatetime(expires)
        return response

    async def WatchCapabilityNotes(
        self, request: pb.WatchCapabilityNotesRequest, context: Any
    ) -> AsyncIterator[pb.WatchCapabilityNotesResponse]:
        in_snapshot = True
        async with aclosing(self._notes_for(caller().account)) as notes:  # type: ignore[type-var]
            async for note in notes:
                token = _note_token(note)
                if in_snapshot and request.resume_token and not _may_follow(request.resume_token, note):
                    yield pb.WatchCapabilityNotesResponse(start_again=pb.StartAgain())
                if not (in_snapshot and request.resume_token == token):
                    yield pb.WatchCapabilityNotesResponse(note=pb.SignedNote(jws=note.jws))
                if in_snapshot:
                    in_snapshot = False
                    yield pb.WatchCapabilityNotesResponse(snapshot_end=pb.SnapshotEnd())
                yield pb.WatchCapabilityNotesResponse(bookmark=pb.Bookmark(token=token))

    async def GetCapabilityNote(
        self, request: pb.GetCapabilityNoteRequest, context: Any
    ) -> pb.GetCapabilityNoteResponse:
        async with aclosing(self._notes_for(caller().account)) as notes:  # type: ignore[type-var]
            note = await anext(notes)
        return pb.GetCapabilityNoteResponse(note=pb.SignedNote(jws=note.jws))

    async def QualifyService(self, request: pb.QualifyServiceRequest, context: Any) -> pb.QualifyServiceResponse:
        answer = await self._supplier().qualify(spec_of(request), self._context(request, context))
        return pb.QualifyServiceResponse(qualification=wire.QUALIFICATION.encode(answer))

    async def QuoteService(self, request: pb.QuoteServiceRequest, context: Any) -> pb.QuoteServiceResponse:
        answer = await self._supplier().quote(spec_of(request), self._context(request, context))
        if isinstance(answer, Qualification):
            return pb.QuoteServiceResponse(unqualified=wire.QUALIFICATION.encode(answer))
        return pb.QuoteServiceResponse(quote=wire.QUOTE.encode(answer))

    async def ReserveService(self, request: pb.ReserveServiceRequest, context: Any) -> pb.ReserveServiceResponse:
        _check_key(request)
        spec = spec_of(request)
        answer = await self._supplier().reserve(request.ref, request.version, spec, self._context(request, context))
        return pb.ReserveServiceResponse(**_held_or_not(answer))

    async def ExtendReservation(
        self, request: pb.ExtendReservationRequest, context: Any
    ) -> pb.ExtendReservationResponse:
        _check_key(request)
        if not (math.isfinite(request.seconds) and 0 < request.seconds <= EXTEND_MAX_S):
            raise WireError(Violation("seconds", f"{request.seconds} is not within 0 to {EXTEND_MAX_S:g}"))
        ctx = self._context(request, context)
        answer = await self._supplier().extend(request.ref, request.version, request.seconds, ctx)
        return pb.ExtendReservationResponse(**_held_or_not(answer))

    async def CommitService(self, request: pb.CommitServiceRequest, context: Any) -> pb.CommitServiceResponse:
        _check_key(request)
        try:
            bindings = wire.CHOICE.decode(request.bindings)
        except WireError as error:
            raise error.under("bindings") from error
        ctx = self._context(request, context)
        answer = await self._supplier().commit(request.ref, request.version, bindings, ctx)
        if isinstance(answer, Refused):
            return pb.CommitServiceResponse(refused=wire.REFUSED.encode(answer))
        return pb.CommitServiceResponse(committed=wire.COMMITTED.encode(answer))

    async def ReleaseReservation(
        self, request: pb.ReleaseReservationRequest, context: Any
    ) -> pb.ReleaseReservationResponse:
        _check_key(request)
        await self._supplier().release(request.ref, request.version, self._context(request, context))
        return pb.ReleaseReservationResponse()

    async def TerminateService(self, request: pb.TerminateServiceRequest, context: Any) -> pb.TerminateServiceResponse:
        _check_ref(request.ref)
        await self._supplier().terminate(request.ref, self._context(request, context))
        return pb.TerminateServiceResponse()

    async def HealService(self, request: pb.HealServiceRequest, context: Any) -> pb.HealServiceResponse:
        _check_ref(request.ref)
        await self._supplier().heal(request.ref, self._context(request, context))
        return pb.HealServiceResponse()

    async def GetService(self, request: pb.GetServiceRequest, context: Any) -> pb.GetServiceResponse:
        _check_ref(request.ref)
        status = await self._supplier().status(request.ref, self._read_context(context))
        return pb.GetServiceResponse(service=wire.STATUS.encode(status))

    async def ListServices(self, request: pb.ListServicesRequest, context: Any) -> pb.ListServicesResponse:
        found, next_token = await page(
            self._supplier().services(self._read_context(context)),
            lambda status: (status.create_time, status.ref),
            request.page_token,
            request.page_size,
        )
        return pb.ListServicesResponse(services=map(wire.STATUS.encode, found), next_page_token=next_token)

    async def WatchServices(
        self, request: pb.WatchServicesRequest, context: Any
    ) -> AsyncIterator[pb.WatchServicesResponse]:
        async with aclosing(self._supplier().watch(request.after, _interest(request))) as events:  # type: ignore[type-var]
            async for event in events:
                yield pb.WatchServicesResponse(event=wire.EVENT.encode(event))

    def _supplier(self) -> Supplier:
        return self._supplier_for(caller().account)

    def _context(self, request: Any, context: Any) -> Context:
        """The budgets and the quote of the request; deadline and trace of the call."""
        given, default = request.context, Context()
        return Context(
            deadline=self._deadline(context),
            hop_budget=given.hop_budget if given.HasField("hop_budget") else default.hop_budget,
            call_budget=given.call_budget if given.HasField("call_budget") else default.call_budget,
            trace=_trace(context),
            quote=_quote(given.quote),
        )

    def _read_context(self, context: Any) -> Context:
        return Context(deadline=self._deadline(context), trace=_trace(context))

    def _deadline(self, context: Any) -> Any:
        remaining = context.time_remaining()
        if remaining is None or remaining > EXTEND_MAX_S:
            return None
        return self._clock.now() + timedelta(seconds=remaining)


def _held_or_not(answer: Reserved | Refused) -> dict[str, Any]:
    if isinstance(answer, Refused):
        return {"refused": wire.REFUSED.encode(answer)}
    return {"reserved": wire.RESERVED.encode(answer)}


def spec_of(request: Any) -> ServiceSpec:
    """What a request asks for. Raises WireError."""
    if not request.HasField("spec"):
        raise WireError(Violation("spec", "is missing"))
    try:
        spec: ServiceSpec = wire.SPEC.decode(request.spec)
    except WireError as error:
        raise error.under("spec") from error
    return spec


def _quote(id: str) -> str:
    if len(id) > REF_MAX or not (id.isascii() and id.isprintable()):
        raise WireError(Violation("context.quote", f"must be at most {REF_MAX} printable ASCII characters"))
    return id


def _interest(request: pb.WatchServicesRequest) -> Interest:
    """A state of a newer release is one that no service here is in."""
    known = outcome_pb2.ServiceState.DESCRIPTOR.values_by_number
    states = frozenset(ServiceState(known[s].name) if s in known else ServiceState.UNSPECIFIED for s in request.states)
    return Interest(states=states, addressing=request.view != pb.SERVICE_VIEW_BASIC)


def _check_ref(ref: str) -> None:
    if not (0 < len(ref) <= REF_MAX and ref.isascii() and ref.isprintable()):
        raise WireError(Violation("ref", f"must be 1 to {REF_MAX} printable ASCII characters"))


def _check_key(request: Any) -> None:
    _check_ref(request.ref)
    if request.version < 1:
        raise WireError(Violation("version", "must be 1 or more"))


def _trace(context: Any) -> str:
    values = [value for key, value in context.invocation_metadata() or () if key == "traceparent"]
    return values[0] if values and isinstance(values[0], str) else ""


def _note_token(note: Given) -> str:
    return f"{note.edition}.{hashlib.sha256(note.jws.encode()).hexdigest()[:32]}"


def _may_follow(token: str, note: Given) -> bool:
    """Whether `note` can be what came of the note that `token` tells: itself, or a later edition."""
    edition, _, _ = token.partition(".")
    return token == _note_token(note) or (edition.isdecimal() and int(edition[:19]) < note.edition)
