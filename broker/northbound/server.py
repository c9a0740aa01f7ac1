"""The listening side of a node: one gRPC server, one listener for people and one for partners.

Rules kept here
- People: TLS, no client certificate. Partners: mutual TLS, and only certificates under the roots of the moment.
- Keys, certificates and roots are asked for at every handshake, so they rotate without a restart.
- Without any partner root nobody gets in there; the system's own roots never count.
- Health says what the node says of itself. Stopping says so first, then lets calls finish, for as long as it is told.
"""

from __future__ import annotations

import asyncio
import random as system_random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from broker.accounts.admin_port import AdminPort
from broker.northbound.admin_servicer import AdminServicer
from broker.northbound.admission import Admission, Bounds
from broker.northbound.auth import Authenticator
from broker.northbound.calls import Begun, Gate
from broker.northbound.lateness import Turn, measure
from broker.northbound.servicer import BrokerServicer
from lower_sp_clients.supplier import Given, Supplier
from service_model.clock import Clock
from spbroker.v1 import admin_service_pb2, admin_service_pb2_grpc, broker_service_pb2, broker_service_pb2_grpc

BROKER = broker_service_pb2.DESCRIPTOR.services_by_name["BrokerService"].full_name
ADMIN = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name

OPTIONS = (
    # Above this the transport gives up (RESOURCE_EXHAUSTED); from 1 MiB on, the gate refuses with a reason.
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.max_metadata_size", 32 << 10),
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Clients ping every 60 s (`remote_sp.OPTIONS`); the default minimum of 5 minutes would cut them off.
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ("grpc.so_reuseport", 0),
)

FLUSH_S = 5.0
"""How long the last answers, all of which are given by then, may take to leave; on a busy machine they take more than a moment,
and a call that is cut off here would be CANCELLED. Nothing is waited for that has left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What this node proves who it is with; both PEM, the certificate with its chain."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Identity(...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What is served. Without `admin` there is no AdminService. `begun`: what is asked again; `bounds`: how much at once; `turn`:
    what work waits for that is ready."""

    supplier_for: Callable[[str], Supplier]
    notes_for: Callable[[str], AsyncIterator[Given]]
    authenticator: Authenticator
    clock: Clock
    admin: AdminPort | None = None
    begun: Begun = lambda account, ref, version: False
    bounds: Bounds = Bounds()
    turn: Turn = lambda: asyncio.sleep(0)


class NorthboundServer:
    """A running server. `ports` has the port of each listener: "people", "partners"."""

    def __init__(self, server: Any, gate: Gate, health_servicer: Any, services: tuple[str, ...]) -> None:
        self._server, self._gate, self._health, self._services = server, gate, health_servicer, services
        self._measuring: asyncio.Task[None] | None = None
        self.ports: dict[str, int] = {}

    async def start(self, admission: Admission, turn: Turn) -> None:
        """Serve, as many at once as `admission` allows by how long work waits for its `turn`."""
        await self._server.start()
        self._measuring = asyncio.create_task(measure(turn, admission.seen), name="lateness")

    async def set_health(self, serving: bool) -> None:
        """What the health service answers, for the node as a whole ("") and for each service."""
        status = health_pb2.HealthCheckResponse
        for service in ("", *self._services):
            await self._health.set(service, status.SERVING if serving else status.NOT_SERVING)

    async def stop(self, drain_s: float) -> None:
        """Health says NOT_SERVING, new calls are refused with SHUTTING_DOWN, streams end, running calls get `drain_s` to
        be answered, and the rest hear that their outcome is not known. Then the listeners are closed."""
        await self._health.enter_graceful_shutdown()
        await self._gate.drain(drain_s)
        stopped = asyncio.create_task(self._server.stop(FLUSH_S))
        await asyncio.sleep(0)  # now it has sent GOAWAY on every connection
        self._gate.gone()
        await stopped
        if self._measuring is not None:
            self._measuring.cancel()
            with suppress(asyncio.CancelledError):
                await self._measuring


async def serve(
    serving: Serving,
    *,
    identity: Callable[[], Identity],
    partner_roots: Callable[[], bytes],
    listen: str | None = None,
    listen_partners: str | None = None,
) -> NorthboundServer:
    """Listens at `listen` (people) and `listen_partners` (`host:port`, port 0: any); both may be left out, not both at
    once in earnest. `partner_roots`: CA certificates (PEM, one after the other) that partners' certificates must be
    under; empty: none. The health starts as NOT_SERVING. Raises OSError where it cannot listen."""
    admission = Admission(serving.bounds, serving.clock, system_random.random)
    gate = Gate(serving.authenticator, serving.clock, admission, serving.begun)
    server = grpc.aio.server(interceptors=[gate], options=OPTIONS)
    services = [BROKER]
    broker_service_pb2_grpc.add_BrokerServiceServicer_to_server(  # type: ignore[no-untyped-call]
        BrokerServicer(
            supplier_for=serving.supplier_for,
            notes_for=serving.notes_for,
            authenticator=serving.authenticator,
            clock=serving.clock,
        ),
        server,
    )
    if serving.admin is not None:
        services.append(ADMIN)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(  # type: ignore[no-untyped-call]
            AdminServicer(serving.admin), server
        )
    health_servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection((*services, "grpc.health.v1.Health", reflection.SERVICE_NAME), server)
    running = NorthboundServer(server, gate, health_servicer, tuple(services))
    await running.set_health(False)
    if listen is not None:
        running.ports["people"] = _bind(server, listen, _credentials(identity, None))
    if listen_partners is not None:
        running.ports["partners"] = _bind(server, listen_partners, _credentials(identity, partner_roots))
    await running.start(admission, serving.turn)
    return running


def _bind(server: Any, address: str, credentials: Any) -> int:
    try:
        port: int = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(f"cannot listen at {address}: {error}") from error
    return port


def _credentials(identity: Callable[[], Identity], roots: Callable[[], bytes] | None) -> Any:
    """Server credentials that are asked for anew at every handshake; with `roots`, client certificates are required."""

    def present() -> tuple[Identity, bytes | None]:
        own = identity()
        # No roots would mean the system's roots; our own certificate, which is no CA, lets nobody in.
        return own, None if roots is None else roots() or own.certificate

    def configuration(of: tuple[Identity, bytes | None]) -> Any:
        own, trusted = of
        return grpc.ssl_server_certificate_configuration([(own.key, own.certificate)], root_certificates=trusted)

    current = present()

    def fetch() -> Any:
        nonlocal current
        fresh = present()
        if fresh == current:
            return None
        current = fresh
        return configuration(fresh)

    return grpc.dynamic_ssl_server_credentials(
        configuration(current), fetch, require_client_authentication=roots is not None
    )
