"""A service-specific manager over mutual TLS on 127.0.0.1, that does what a test says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import trustme

from spbroker.v1 import manager_service_pb2 as pb
from spbroker.v1 import manager_service_pb2_grpc

NAME = "manager.example"
Place = Callable[[pb.PlaceRequest, Any], Awaitable[pb.PlaceResponse]]


async def by_default(request: pb.PlaceRequest, context: Any) -> pb.PlaceResponse:
    return pb.PlaceResponse(by_default=pb.ByDefault())


@dataclass
class ServedManager(manager_service_pb2_grpc.ServiceManagerServicer):
    """`async with` serves it; `broker_ca` (PEM) is whom it lets ask. `place`, `heals` and `scales`
    answer; what came in is in `asked`, `healings` and `scalings`."""

    broker_ca: bytes
    place: Place = by_default
    asked: list[pb.PlaceRequest] = field(default_factory=list)
    heals: pb.HealResponse = field(default_factory=lambda: pb.HealResponse(by_default=pb.ByDefault()))
    healings: list[pb.HealRequest] = field(default_factory=list)
    scales: pb.ScaleResponse = field(default_factory=lambda: pb.ScaleResponse(by_default=pb.ByDefault()))
    scalings: list[pb.ScaleRequest] = field(default_factory=list)
    peers: list[list[bytes]] = field(default_factory=list)
    ca: trustme.CA = field(default_factory=trustme.CA)
    port: int = 0

    async def Place(self, request: pb.PlaceRequest, context: Any) -> pb.PlaceResponse:
        self.asked.append(request)
        self.peers.append(list(context.peer_identities() or ()))
        return await self.place(request, context)

    async def Address(self, request: pb.AddressRequest, context: Any) -> pb.AddressResponse:
        return pb.AddressResponse(by_default=pb.ByDefault())

    async def Configure(self, request: pb.ConfigureRequest, context: Any) -> pb.ConfigureResponse:
        return pb.ConfigureResponse(refusal=pb.ManagerRefusal(message="not like this"))

    async def Heal(self, request: pb.HealRequest, context: Any) -> pb.HealResponse:
        self.healings.append(request)
        return self.heals

    async def Scale(self, request: pb.ScaleRequest, context: Any) -> pb.ScaleResponse:
        self.scalings.append(request)
        return self.scales

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def roots(self) -> bytes:
        pem: bytes = self.ca.cert_pem.bytes()
        return pem

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        manager_service_pb2_grpc.add_ServiceManagerServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        issued = self.ca.issue_cert(NAME)
        pair = (issued.private_key_pem.bytes(), b"".join(c.bytes() for c in issued.cert_chain_pems))
        credentials = grpc.ssl_server_credentials([pair], self.broker_ca, require_client_auth=True)
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)
