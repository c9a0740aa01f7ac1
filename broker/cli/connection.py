"""Calls to a provider in the name of a stored login.

Rules kept here
- TLS always, and only under the CA that the login names; the system's roots do not count.
- Every call has a deadline; a stream has none. Every failure is a Fault.
- A call that is turned away by a provider with too much to do is made again when the provider said, while there is time: it
  has had no effect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the library's own lines on stderr would hide the one error

import grpc

from broker.cli.failures import Status, fault_of
from broker.cli.faults import Fault
from broker.cli.output import say
from broker.cli.profiles import login_line, stored
from broker.cli.session_choice import chosen
from spbroker.v1 import admin_service_pb2_grpc, broker_service_pb2_grpc

TIMEOUT_S = 60.0
OPTIONS = (
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.enable_retries", 0),
)


class Connection:
    """A channel to `endpoint` whose certificate is under `ca` (PEM); `token` goes with each call if there is one."""

    def __init__(self, endpoint: str, ca: str, token: str = "", log_in_again: str = "") -> None:
        self.endpoint = endpoint
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._log_in_again = log_in_again
        self._channel = grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(ca.encode()), OPTIONS)
        self._broker = broker_service_pb2_grpc.BrokerServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._admin = admin_service_pb2_grpc.AdminServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def call(self, method: str, request: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """The answer of BrokerService's `method`. Raises Fault."""
        return self._patiently(getattr(self._broker, method), request, timeout_s)

    def administer(self, method: str, request: Any) -> Any:
        """The answer of AdminService's `method`. Raises Fault."""
        return self._patiently(getattr(self._admin, method), request, TIMEOUT_S)

    def stream(self, method: str, request: Any, timeout_s: float | None = None) -> Iterator[Any]:
        """Messages of BrokerService's `method` until it ends. Raises Fault, also when the time is up."""
        call = getattr(self._broker, method)(request, timeout=timeout_s, metadata=self._metadata)
        try:
            with self._faults():
                yield from call
        finally:
            call.cancel()

    def _patiently(self, call: Callable[..., Any], request: Any, timeout_s: float) -> Any:
        """The answer, asked for again when the provider says that it is worth it, `timeout_s` in all. Raises Fault."""
        until = time.monotonic() + timeout_s
        while True:
            try:
                return call(request, timeout=until - time.monotonic(), metadata=self._metadata)
            except grpc.RpcError as error:
                status = Status.of(error)
                pause = status.retry_after_s
                if not status.turned_away or pause is None or time.monotonic() + pause >= until:
                    raise self._fault(error) from None
            say(f"{self.endpoint} has too much to do: asking again in {pause:.1f} s")
            time.sleep(pause)

    def close(self) -> None:
        self._channel.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._fault(error) from None

    def _fault(self, error: Any) -> Fault:
        return fault_of(Status.of(error), self.endpoint, self._log_in_again)


@contextmanager
def connected(as_: str | None) -> Iterator[Connection]:
    """The connection of the login that `--as` chooses. Raises Fault where there is none or it has expired."""
    name = chosen(as_)
    profile = stored(name)
    connection = Connection(profile.endpoint, profile.ca, profile.token, login_line(name, profile))
    try:
        yield connection
    finally:
        connection.close()
