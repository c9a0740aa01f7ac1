"""The gate that every call passes: who is calling, may it, is it too large; and what went wrong becomes its status.

Rules kept here
- A method that is not in the table of roles needs the strongest role there is: forgetting one closes it.
- Reading and writing the effect of a call is never cut short by the caller going away: a unary call runs to its end, so
  that "the outcome is not known" is only ever true of the caller.
- What begins something waits for its turn and may be turned away (`admission.py`); a reservation that was begun before is
  not beginning. A turn ends with the call, whether its caller is still there or not.
- A stream ends when its token does, and when the node stops.
- A node that stops takes no new call, and leaves no caller waiting: who was not answered by the end of the drain hears
  that the outcome is not known. What the call does inside goes on until the node closes it.
- Who calls at the last is told nothing before the server has said on every connection that it goes away: told earlier, it
  would call again on the same one, and what comes there while the server closes is CANCELLED without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import structlog

from broker.northbound.admission import Admission, Slot
from broker.northbound.auth import Authenticator, Principal, admit, bearer, peer_certificate, thumbprint
from broker.northbound.status import abort
from broker.northbound.wrong_calls import AuthError, AuthReason, RequestTooLarge, ShuttingDown
from lower_sp_clients.supplier import OutcomeUnknown
from service_model.clock import Clock, within

log = structlog.get_logger()

REQUEST_MAX_BYTES = 1 << 20
LAST_CALLS_S, LAST_CALLS_TRIES = 0.5, 6
"""The server goes away when no call has come for so long, or after so many times that. Whoever calls again sooner than that after
an answer has a call waiting then, and does not call at that very moment."""

ROLES: dict[str, str | None] = {
    "/spbroker.v1.BrokerService/IssueToken": None,
    "/spbroker.v1.BrokerService/": "customer",
    "/spbroker.v1.AdminService/": "operator",
}
"""Method or service -> the role that it needs; None: no token is needed."""

BEGINNING = frozenset(
    f"/spbroker.v1.BrokerService/{name}" for name in ("ReserveService", "QuoteService", "QualifyService")
)
"""Methods that begin something."""

Begun = Callable[[str, str, int], bool]
"""Whether that account has an order with that ref of that version, or a later one."""

OPEN = (
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/grpc.reflection.v1.ServerReflection/",
)
"""Say nothing but what the API is and whether it works."""


def required_role(method: str) -> str | None:
    service = method[: method.rindex("/") + 1]
    return ROLES[method] if method in ROLES else ROLES.get(service, "operator")


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    def __init__(self, authenticator: Authenticator, clock: Clock, admission: Admission, begun: Begun) -> None:
        self._authenticator, self._clock = authenticator, clock
        self._admission, self._begun = admission, begun
        self._calls: dict[asyncio.Task[Any], asyncio.Future[Any]] = {}
        """What runs, and what its caller waits for."""
        self._streams: set[asyncio.Task[Any]] = set()
        self._sending: set[asyncio.Task[Any]] = set()
        """Those of them whose message is on its way out: to cancel one there would end it without a word."""
        self._open: set[asyncio.Task[Any]] = set()
        """Streams that say whether the node works: they end last."""
        self._closing = False
        self._drained = False
        self._gone = asyncio.Event()
        self._last_calls = 0
        """How many calls came since it has drained."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return handler
        if details.method.startswith(OPEN):
            return self._ending(handler)
        role = required_role(details.method)
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream, role), **codec)
        begins = details.method in BEGINNING
        return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary, role, begins), **codec)

    async def drain(self, seconds: float) -> None:
        """Takes no new calls, ends every stream with SHUTTING_DOWN so that its reader connects elsewhere, and gives the
        calls that run so long to be answered. Calls whose callers have gone away are waited for alike."""
        self._closing = True
        for stream in self._streams - self._sending:
            stream.cancel()
        if self._calls:
            finished = asyncio.ensure_future(asyncio.wait(tuple(self._calls)))
            await within(self._clock, seconds, finished)
            finished.cancel()
        self._drained = True
        if self._calls:
            log.warning("calls end without their outcome", calls=len(self._calls))
        for waiting in tuple(self._calls.values()):
            waiting.cancel()
        for _ in range(LAST_CALLS_TRIES):
            before = self._last_calls
            await self._clock.sleep(LAST_CALLS_S)
            if self._last_calls == before:
                break

    def gone(self) -> None:
        """The server has said everywhere that it goes away: whoever waits for that is told, and calls elsewhere."""
        self._gone.set()
        for stream in tuple(self._open):
            stream.cancel()

    async def _refuse_late(self) -> None:
        """Raises ShuttingDown."""
        if self._drained:
            self._last_calls += 1
            await self._gone.wait()
        if self._closing:
            raise ShuttingDown

    def _ending(self, handler: Any) -> Any:
        """What is open to all, as it is; but a stream of it, which nobody would end, ends when the node has drained."""
        if not handler.response_streaming or handler.request_streaming:
            return handler

        async def stream(request: Any, context: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._open.add(task)
            try:
                if self._drained:
                    await self._refuse_late()
                await handler.unary_stream(request, context)  # the health's own writes to the context
            except ShuttingDown as refused:
                await abort(context, refused)
            except asyncio.CancelledError:
                if not self._gone.is_set():
                    raise
                task.uncancel()
                await abort(context, ShuttingDown())
            finally:
                self._open.discard(task)

        return grpc.unary_stream_rpc_method_handler(
            stream,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _admit(self, request: Any, context: Any, role: str | None) -> Principal | None:
        principal = None
        if role is not None:
            certificate = peer_certificate(context.auth_context())
            bound_to = thumbprint(certificate) if certificate else None
            principal = self._authenticator.authenticate(bearer(context.invocation_metadata() or ()), bound_to)
            admit(principal, role)
        if (size := request.ByteSize()) > REQUEST_MAX_BYTES:
            raise RequestTooLarge(size, REQUEST_MAX_BYTES)
        return principal

    async def _slot(self, principal: Principal | None, request: Any, begins: bool) -> Slot:
        """Its turn. Raises Overloaded."""
        if principal is None or not begins:
            return self._admission.finish()
        key = getattr(request, "ref", ""), getattr(request, "version", 0)  # a question has none
        if key[0] and self._begun(principal.account, *key):
            return self._admission.finish()
        return await self._admission.begin(principal.account)

    def _unary(self, inner: Callable[[Any, Any], Awaitable[Any]], role: str | None, begins: bool) -> Any:
        async def answer(request: Any, context: Any, slot: Slot) -> Any:
            try:
                return await inner(request, context)
            finally:
                slot.leave()

        async def call(request: Any, context: Any) -> Any:
            try:
                await self._refuse_late()
                principal = self._admit(request, context, role)
                slot = await self._slot(principal, request, begins)
                if self._closing:
                    slot.leave()
                    await self._refuse_late()
                task = asyncio.create_task(answer(request, context, slot))
                self._calls[task] = asyncio.shield(task)
                task.add_done_callback(self._done)
                return await self._answered(self._calls[task])
            except Exception as error:
                await abort(context, error)

        return call

    async def _answered(self, call: asyncio.Future[Any]) -> Any:
        """What the call gives, as long as the node does not stop before it. Raises OutcomeUnknown."""
        try:
            return await call
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if not self._drained or caller is None or caller.cancelling():
                raise
            raise OutcomeUnknown("the node stops before the call has ended") from None

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._calls.pop(task, None)
        if not task.cancelled():
            task.exception()  # looked at, so that the loop does not complain of a caller that went away

    def _stream(self, inner: Callable[[Any, Any], AsyncIterator[Any]], role: str | None) -> Any:
        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            task = asyncio.current_task()
            assert task is not None
            self._streams.add(task)
            slot = None
            try:
                await self._refuse_late()
                principal = self._admit(request, context, role)
                slot = self._admission.stream(principal.account if principal is not None else "")
                async with aclosing(inner(request, context)) as messages:  # type: ignore[type-var]
                    async for message in messages:
                        if principal is not None and principal.expires <= self._clock.now():
                            raise AuthError(AuthReason.TOKEN_EXPIRED, "the token expired while the stream was open")
                        self._sending.add(task)
                        yield message
                        self._sending.discard(task)
                        if self._closing:
                            raise ShuttingDown
            except asyncio.CancelledError:
                if not self._closing:
                    raise
                task.uncancel()
                await abort(context, ShuttingDown())
            except Exception as error:
                await abort(context, error)
            finally:
                self._streams.discard(task)
                self._sending.discard(task)
                if slot is not None:
                    slot.leave()

        return stream
