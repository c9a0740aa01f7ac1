"""The gate that every call passes: who is calling, may it, is it too large; and what went wrong becomes its status.

Rules kept here
- A method that is not in the table of roles needs the strongest role there is: forgetting one closes it.
- Reading and writing the effect of a call is never cut short by the caller going away: a unary call runs to its end, so
  that "the outcome is not known" is only ever true of the caller.
- A stream ends when its token does, and when the node stops.
- A node that stops takes no new call, and leaves no caller waiting: who was not answered by the end of the drain hears
  that the outcome is not known. What the call does inside goes on until the node closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import structlog

from broker.northbound.auth import Authenticator, Principal, admit, bearer, peer_certificate, thumbprint
from broker.northbound.status import abort
from broker.northbound.wrong_calls import AuthError, AuthReason, RequestTooLarge, ShuttingDown
from lower_sp_clients.supplier import OutcomeUnknown
from service_model.clock import Clock, within

log = structlog.get_logger()

REQUEST_MAX_BYTES = 1 << 20

ROLES: dict[str, str | None] = {
    "/spbroker.v1.BrokerService/IssueToken": None,
    "/spbroker.v1.BrokerService/": "customer",
    "/spbroker.v1.AdminService/": "operator",
}
"""Method or service -> the role that it needs; None: no token is needed."""

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
    def __init__(self, authenticator: Authenticator, clock: Clock) -> None:
        self._authenticator, self._clock = authenticator, clock
        self._calls: dict[asyncio.Task[Any], asyncio.Future[Any]] = {}
        """What runs, and what its caller waits for."""
        self._streams: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._parted = asyncio.Event()
        self._drained = False

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith(OPEN):
            return handler
        role = required_role(details.method)
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream, role), **codec)
        return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary, role), **codec)

    async def drain(self, seconds: float) -> None:
        """Takes no new calls (they are refused as soon as their connections end: `part`), ends every stream with SHUTTING_DOWN
        so that its reader connects elsewhere, and gives the calls that run so long to be answered. Calls whose callers have
        gone away are waited for alike."""
        self._closing = True
        for stream in tuple(self._streams):
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

    def part(self) -> None:
        """Every connection has heard that it is to go elsewhere: who waits here is told to come again."""
        self._parted.set()

    async def _stay(self) -> None:
        """Raises ShuttingDown. Not before the caller's connection knows that it ends: it would come again on the same one,
        and a call that meets the end of its connection is cancelled by gRPC, which tells the caller nothing."""
        if self._closing:
            await self._parted.wait()
            raise ShuttingDown

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

    def _unary(self, inner: Callable[[Any, Any], Awaitable[Any]], role: str | None) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            return await inner(request, context)

        async def call(request: Any, context: Any) -> Any:
            try:
                await self._stay()
                self._admit(request, context, role)
                task = asyncio.create_task(answer(request, context))
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
            try:
                await self._stay()
                principal = self._admit(request, context, role)
                async with aclosing(inner(request, context)) as messages:  # type: ignore[type-var]
                    async for message in messages:
                        if principal is not None and principal.expires <= self._clock.now():
                            raise AuthError(AuthReason.TOKEN_EXPIRED, "the token expired while the stream was open")
                        yield message
            except asyncio.CancelledError:
                if not self._closing:
                    raise
                task.uncancel()
                await abort(context, ShuttingDown())
            except Exception as error:
                await abort(context, error)
            finally:
                self._streams.discard(task)

        return stream
