"""One account's session at a lower SP: the mutual-TLS channel, its token, and calls that fail in one way only.

Rules kept here
- Every failure of a call is a `CallFailed`; whether the call had its effect is not said there.
- The token comes from the client certificate. It is renewed before it expires, and once when the SP does not take it.
- Certificates rotate: when what `tls` gives has changed at a renewal, the next calls use a new channel.
- A channel's own cancellation never looks like the cancellation of the caller's task.
- A stream whose first message does not come in time is given up: the deadline of a call would tell that its request was lost,
  and a stream has none. (What breaks later breaks the connection, which its pings find out.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from service_model.clock import Clock
from spbroker.v1 import broker_service_pb2 as pb
from spbroker.v1 import broker_service_pb2_grpc

ISSUE_TIMEOUT_S = 15.0
RENEW_BEFORE = timedelta(seconds=60)
OLD_CHANNEL_GRACE_S = 120.0

OPTIONS = (
    ("grpc.max_receive_message_length", 16 << 20),
    # A server of ours accepts pings every 30 s (`server.OPTIONS`).
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 30_000),
    ("grpc.enable_retries", 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """`roots`: the supplier's CA. `certificate` and `key`: our own. All PEM. `server_name`: the name that the supplier's
    certificate must have, where it is not the endpoint's host."""

    roots: bytes
    certificate: bytes
    key: bytes = field(repr=False)
    server_name: str = ""


class CallFailed(Exception):
    """A call that ended without a readable answer. `reason` is the SP's (ErrorInfo), `violations` are (field, text);
    `retry_after_s`: when it says that the call is worth making again (RetryInfo)."""

    def __init__(
        self,
        code: str,
        message: str,
        reason: str = "",
        violations: tuple[tuple[str, str], ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code}{f' ({reason})' if reason else ''}: {message}")
        self.code, self.message, self.reason, self.violations = code, message, reason, violations
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    expires: datetime
    renew_at: datetime


class Session:
    def __init__(self, endpoint: str, account: str, tls: Callable[[], ClientTls], clock: Clock) -> None:
        self._endpoint, self._account, self._tls, self._clock = endpoint, account, tls, clock
        self._used_tls: ClientTls | None = None
        self._channel: Any = None
        self._retired: set[asyncio.Task[None]] = set()
        self._stub: Any = None
        self._token: _Token | None = None
        self._renewing = asyncio.Lock()

    async def unary(self, method: str, request: Any, timeout: Callable[[], float], trace: str = "") -> Any:
        """The answer of `method`; `timeout` (seconds left) is asked before each attempt. Raises CallFailed."""
        for last in (False, True):
            token = await self._current_token(min(ISSUE_TIMEOUT_S, timeout()))
            try:
                with failures():
                    metadata = _metadata(token, trace)
                    return await getattr(self._stub, method)(request, timeout=timeout(), metadata=metadata)
            except CallFailed as error:
                if last or error.code != "UNAUTHENTICATED":
                    raise
                self._forget(token)
        raise AssertionError("two attempts end in an answer or an error")

    async def stream(self, method: str, request: Any, begins_within_s: float) -> AsyncIterator[Any]:
        """Messages of `method` until the stream breaks. Raises CallFailed, also when the SP ends it, or when so many seconds
        have gone without the first one."""
        for last in (False, True):
            token, begun = await self._current_token(ISSUE_TIMEOUT_S), False
            call = getattr(self._stub, method)(request, metadata=_metadata(token, ""))
            try:
                while True:
                    with failures():
                        async with asyncio.timeout(None if begun else begins_within_s):
                            message = await call.read()
                        if message is grpc.aio.EOF:
                            await _raise_status(call)
                    begun = True
                    yield message
            except TimeoutError as error:
                raise CallFailed("DEADLINE_EXCEEDED", "the stream does not begin") from error
            except CallFailed as error:
                if last or begun or error.code != "UNAUTHENTICATED":
                    raise
                self._forget(token)
            finally:
                call.cancel()

    async def close(self) -> None:
        for task in tuple(self._retired):
            task.cancel()
        if self._channel is not None:
            await self._channel.close()
        self._channel = self._stub = self._used_tls = self._token = None

    async def _current_token(self, timeout_s: float) -> _Token:
        async with self._renewing:
            now = self._clock.now()
            if self._token is not None and now < self._token.renew_at:
                return self._token
            self._connect()
            try:
                self._token = await self._issue(now, timeout_s)
            except CallFailed as error:
                # What is left of the old token serves, unless it was refused: then there is none.
                if self._token is None or self._token.expires <= now or error.code == "UNAUTHENTICATED":
                    raise
            return self._token

    async def _issue(self, now: datetime, timeout_s: float) -> _Token:
        with failures():
            answer = await self._stub.IssueToken(pb.IssueTokenRequest(account=self._account), timeout=timeout_s)
        try:
            expires = answer.expire_time.ToDatetime(UTC)
        except (ValueError, OverflowError) as error:
            raise CallFailed("INTERNAL", "the token's expire_time cannot be read") from error
        return _Token(answer.token, expires, expires - min(RENEW_BEFORE, (expires - now) / 3))

    def _forget(self, token: _Token) -> None:
        if self._token is token:
            self._token = None

    def _connect(self) -> None:
        tls = self._tls()
        if tls == self._used_tls:
            return
        if self._channel is not None:
            task = asyncio.get_running_loop().create_task(self._channel.close(OLD_CHANNEL_GRACE_S))
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)
        override = (("grpc.ssl_target_name_override", tls.server_name),) if tls.server_name else ()
        credentials = grpc.ssl_channel_credentials(tls.roots, tls.key, tls.certificate)
        # A channel of its own even where another session has the same endpoint: sessions do not share connections.
        local = (("grpc.use_local_subchannel_pool", 1),)
        self._channel = grpc.aio.secure_channel(self._endpoint, credentials, options=(*OPTIONS, *override, *local))
        self._stub = broker_service_pb2_grpc.BrokerServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._used_tls, self._token = tls, None


def _metadata(token: _Token, trace: str) -> tuple[tuple[str, str], ...]:
    authorization = ("authorization", f"Bearer {token.value}")
    return (authorization, ("traceparent", trace)) if trace else (authorization,)


@contextmanager
def failures() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _call_failed(error.code(), error.details(), error.trailing_metadata()) from error
    except grpc.aio.UsageError as error:
        raise CallFailed("CANCELLED", "the channel was closed") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise CallFailed("CANCELLED", "the channel was closed during the call") from error


async def _raise_status(call: Any) -> None:
    raise _call_failed(await call.code(), await call.details(), await call.trailing_metadata())


def _call_failed(code: Any, details: str | None, trailing: Any) -> CallFailed:
    reason, violations, retry_after_s = "", [], None
    status = status_pb2.Status()
    try:
        for key, value in trailing or ():
            if key == "grpc-status-details-bin":
                status.ParseFromString(value)
        for detail in status.details:
            info, bad, retry = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.BadRequest(),
                error_details_pb2.RetryInfo(),
            )
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(bad):
                violations = [(v.field, v.description) for v in bad.field_violations]
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    except DecodeError:
        reason = ""  # details that cannot be read add nothing; the code still counts
    return CallFailed(code.name, details or "the stream ended", reason, tuple(violations), retry_after_s)
