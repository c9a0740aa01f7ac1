"""A customer at a real node: logs in with a password, and calls through plain stubs as any program would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

import grpc

from broker.cli.failures import Status
from lower_sp_clients import wire
from service_model.outcomes import (
    AddressingChoice,
    Committed,
    Event,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
)
from service_model.spec import ServiceSpec
from spbroker.v1 import admin_service_pb2_grpc, broker_service_pb2_grpc, outcome_pb2
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.nodes import HOST, OPERATOR, SETTLED_S, RealNode

OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_retries", 0),
)
PASSWORD = "correct horse battery"


class Customer:
    """`log_in` before anything else; `close` at the end. With `tls`, over the partners' listener. `heeds`: whether it
    comes back by itself after it was turned away."""

    def __init__(self, node: RealNode, account: str, *, tls: Any = None, heeds: bool = True) -> None:
        self.node, self.account, self._heeds = node, account, heeds
        roots = node.layout.credential("ca")[0].read_bytes()
        credentials = tls or grpc.ssl_channel_credentials(roots)
        port = node.partners if tls else node.people
        self._channel = grpc.aio.secure_channel(f"{HOST}:{port}", credentials, OPTIONS)
        self.broker: Any = broker_service_pb2_grpc.BrokerServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.admin: Any = admin_service_pb2_grpc.AdminServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.token = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    async def log_in(self, password: str = PASSWORD) -> Self:
        """With its password; over the partners' listener with its certificate."""
        request = pb.IssueTokenRequest(account=self.account, password=password)
        self.token = (await self.broker.IssueToken(request, timeout=SETTLED_S)).token
        return self

    async def close(self) -> None:
        await self._channel.close()

    async def reserve(
        self, ref: str, spec: ServiceSpec, version: int = 1, within: float | None = SETTLED_S
    ) -> Reserved | Refused:
        request = pb.ReserveServiceRequest(ref=ref, version=version, spec=wire.SPEC.encode(spec))
        answer = await self._call("ReserveService", request, within)
        if answer.WhichOneof("outcome") == "refused":
            refused: Refused = wire.REFUSED.decode(answer.refused)
            return refused
        reserved: Reserved = wire.RESERVED.decode(answer.reserved)
        return reserved

    async def commit(self, ref: str, version: int = 1, within: float | None = SETTLED_S) -> Committed | Refused:
        request = pb.CommitServiceRequest(ref=ref, version=version, bindings=wire.CHOICE.encode(AddressingChoice()))
        answer = await self._call("CommitService", request, within)
        if answer.WhichOneof("outcome") == "refused":
            refused: Refused = wire.REFUSED.decode(answer.refused)
            return refused
        committed: Committed = wire.COMMITTED.decode(answer.committed)
        return committed

    async def order(self, ref: str, spec: ServiceSpec) -> ServiceStatus:
        """Reserve and commit what must be had, until it is active."""
        held = await self.reserve(ref, spec)
        assert isinstance(held, Reserved), held
        assert await self.commit(ref) == Committed(ref=ref, version=1)
        return await self.until(ref, ServiceState.ACTIVE)

    async def terminate(self, ref: str, within: float = SETTLED_S) -> None:
        await self._call("TerminateService", pb.TerminateServiceRequest(ref=ref), within)

    async def end(self, ref: str) -> None:
        """Terminate, until it is over."""
        await self.terminate(ref)
        await self.until(ref, ServiceState.TERMINATED)

    async def status(self, ref: str) -> ServiceStatus:
        answer = await self._call("GetService", pb.GetServiceRequest(ref=ref))
        status: ServiceStatus = wire.STATUS.decode(answer.service)
        return status

    async def _known(self, ref: str) -> ServiceStatus | None:
        try:
            return await self.status(ref)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise

    async def refs(self) -> set[str]:
        answer = await self._call("ListServices", pb.ListServicesRequest(page_size=100))
        return {service.ref for service in answer.services}

    async def watch(self, after: str = "", states: Iterable[ServiceState] = ()) -> AsyncIterator[Event]:
        request = pb.WatchServicesRequest(after=after)
        request.states.extend(outcome_pb2.ServiceState.Value(state) for state in states)
        call = self.broker.WatchServices(request, metadata=self.metadata)
        try:
            async for message in call:
                yield wire.EVENT.decode(message.event)
        finally:
            call.cancel()

    async def until(self, ref: str, *states: ServiceState, within: float = SETTLED_S) -> ServiceStatus:
        """The service's status as soon as it is in one of these states, also over restarts of the node."""
        status = None
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        async for event in self.watch():  # the first is a bookmark: then the present is asked for
                            status = event.status or await self._known(ref)
                            if status is not None and status.ref == ref and status.state in states:
                                return status
                    except grpc.aio.AioRpcError as error:
                        if error.code() is not grpc.StatusCode.UNAVAILABLE:
                            raise
                    await asyncio.sleep(0.1)  # the node is away
        except TimeoutError:
            raise AssertionError(f"{ref} is not {states} after {within:g} s but {status}") from None

    async def _call(self, method: str, request: Any, within: float | None = SETTLED_S) -> Any:
        """None: without a deadline. What was turned away is asked again when the provider said, as by `spbroker`."""
        loop = asyncio.get_running_loop()
        until = None if within is None else loop.time() + within
        while True:
            left = None if until is None else until - loop.time()
            try:
                return await getattr(self.broker, method)(request, metadata=self.metadata, timeout=left)
            except grpc.aio.AioRpcError as error:
                status = Status.of(error)
                pause = status.retry_after_s
                if not (self._heeds and status.turned_away) or pause is None:
                    raise
                if until is not None and loop.time() + pause >= until:
                    raise
            await asyncio.sleep(pause)


def operator(node: RealNode) -> Customer:
    return Customer(node, OPERATOR)


async def wrong(call: Any) -> tuple[str, str]:
    """(code, reason) of a call that must fail."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        status = Status.of(error)
        return status.code, status.reason
    raise AssertionError(f"this must not have an answer: {answer}")
