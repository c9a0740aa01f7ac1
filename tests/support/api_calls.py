"""How tests of the API call it: as a partner through RemoteSp, and as people through plain stubs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from address_planner.labels import LabelSet
from broker.northbound.auth import thumbprint
from capability_registry.note import CapabilityNote
from lower_sp_clients.remote_sp import ClientTls, RemoteSp
from lower_sp_clients.supplier import Context, SignedNote
from service_model.spec import End, ServiceSpec, VirtualLink
from spbroker.v1 import admin_service_pb2_grpc, broker_service_pb2_grpc
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.api_node import START, ApiNode, SetClock

SPEC = ServiceSpec(
    name="web",
    ends=(
        End(id="a", sap="uni1", labels=LabelSet.parse("100-199"), suggested_label=150),
        End(id="b", sap="uni2"),
    ),
    links=(VirtualLink(id="l", points=("a", "b")),),
)
CTX = Context(hop_budget=3, call_budget=40, trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def partner(node: ApiNode, tls: ClientTls | None = None, endpoint: str = "", clock: SetClock | None = None) -> RemoteSp:
    """The partner `sp-a` of the node, with its certificate registered there."""
    tls = tls or node.partner_tls()
    node.authenticator.certificates["sp-a"] = thumbprint(tls.certificate)
    return RemoteSp(
        endpoint or node.partner_endpoint,
        "sp-a",
        tls=lambda: tls,
        verify=read_note,
        clock=clock or node.clock,
        random=lambda: 1.0,
    )


def read_note(jws: str) -> CapabilityNote:
    """Stands for verification: the JWS is `good-<edition>`."""
    kind, _, edition = jws.partition("-")
    if kind != "good":
        raise ValueError("the signature is wrong")
    return CapabilityNote(
        sp_id="sp-b", edition=int(edition), audience="sp-a", not_before=START, expires=START + timedelta(days=1)
    )


def signed(edition: int) -> SignedNote:
    return SignedNote(jws=f"good-{edition}", note=read_note(f"good-{edition}"))


async def token_of(node: ApiNode, account: str, *roles: str) -> tuple[tuple[str, str], ...]:
    """Metadata of a person who has logged in."""
    node.authenticator.passwords[account] = "correct horse"
    node.authenticator.roles[account] = frozenset(roles or {"customer"})
    answer = await people(node).IssueToken(pb.IssueTokenRequest(account=account, password="correct horse"))
    return (("authorization", f"Bearer {answer.token}"),)


def people(node: ApiNode, channel: Any = None) -> Any:
    """The API over `channel`; by default over a new one to the people's listener."""
    return broker_service_pb2_grpc.BrokerServiceStub(channel or node.people_channel())  # type: ignore[no-untyped-call]


def administration(node: ApiNode) -> Any:
    return admin_service_pb2_grpc.AdminServiceStub(node.people_channel())  # type: ignore[no-untyped-call]


class Wrong:
    """What a call that is wrong was told."""

    def __init__(self, error: Any) -> None:
        self.code, self.message = error.code(), error.details()
        status = status_pb2.Status()
        for key, value in error.trailing_metadata():
            if key == "grpc-status-details-bin":
                status.ParseFromString(value)
        assert status.code == self.code.value[0]
        self.info, self.bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        self.retry = error_details_pb2.RetryInfo()
        for detail in status.details:
            for kind in (self.info, self.bad, self.retry):
                detail.Unpack(kind)
        assert self.info.domain == "spbroker"
        self.fields = [violation.field for violation in self.bad.field_violations]


async def wrong(call: Any) -> Wrong:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Wrong(caught.value)


async def next_of(stream: Any) -> Any:
    return await asyncio.wait_for(anext(stream), 20)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  what is waited for happens in other tasks of this loop
            await asyncio.sleep(0)
