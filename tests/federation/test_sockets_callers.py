"""Whoever calls wrongly is told so by name, and leaves nothing behind."""

from __future__ import annotations

from datetime import UTC, datetime

import grpc

from broker.accounts.pki import Credential, create_authority, issue
from lower_sp_clients import wire
from service_model.outcomes import ReasonCode, Refused, ServiceState
from spbroker.v1 import admin_service_pb2 as admin_pb
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.customer import Customer, operator, wrong
from tests.support.nodes import OPERATOR_PASSWORD, Nodes, RealNode
from tests.support.topologies import chain, left, partner

RESERVE = pb.ReserveServiceRequest(ref="web", version=1, spec=wire.SPEC.encode(chain()))


def certified(node: RealNode, account: str, credential: Credential) -> Customer:
    """At the partners' listener of `node`, with this certificate."""
    roots = node.layout.credential("ca")[0].read_bytes()
    tls = grpc.ssl_channel_credentials(roots, credential.key, credential.certificate)
    return Customer(node, account, tls=tls)


def client_of(node: RealNode) -> Credential:
    certificate, key = node.layout.credential("client")
    return Credential(certificate.read_bytes() + node.layout.credential("ca")[0].read_bytes(), key.read_bytes())


async def untouched(nodes: Nodes) -> None:
    assert await left(nodes) == []
    assert [o for node in nodes.by_id.values() for o in node.node.broker.orders()] == []


async def test_a_certificate_of_an_authority_that_is_nobodys_gets_no_connection(nodes: Nodes) -> None:
    now = datetime.now(UTC)
    stranger = issue(create_authority("top", now), "top", (), now, 30)  # it may write any name
    caller = certified(nodes["middle"], "top", stranger)
    code, _ = await wrong(caller.log_in(""))
    assert code == "UNAVAILABLE"
    await caller.close()
    nobody = Customer(nodes["middle"], "top", tls=grpc.ssl_channel_credentials(ca_of(nodes["middle"])))
    assert (await wrong(nobody.log_in("")))[0] == "UNAVAILABLE"
    await nobody.close()
    await untouched(nodes)


def ca_of(node: RealNode) -> bytes:
    return node.layout.credential("ca")[0].read_bytes()


async def test_a_partners_certificate_is_worth_nothing_for_another_partners_account(nodes: Nodes) -> None:
    middle = nodes["middle"]
    await middle.administer([partner("other", nodes["leaf"])])
    caller = certified(middle, "top", client_of(nodes["leaf"]))
    assert await wrong(caller.log_in("")) == ("UNAUTHENTICATED", "CREDENTIALS_REFUSED")
    rightly = await certified(middle, "top", client_of(nodes["top"])).log_in("")
    caller.token = rightly.token  # bound to the other certificate
    assert await wrong(caller.broker.ReserveService(RESERVE, metadata=caller.metadata)) == (
        "UNAUTHENTICATED",
        "TOKEN_INVALID",
    )
    for each in (caller, rightly):
        await each.close()
    await untouched(nodes)


async def test_tokens_expire_and_count_at_one_provider_alone(nodes: Nodes, ann: Customer) -> None:
    abroad = Customer(nodes["middle"], "ann")
    abroad.token = ann.token
    assert await wrong(abroad.reserve("web", chain())) == ("UNAUTHENTICATED", "TOKEN_INVALID")
    nodes.clock.move(3600)
    assert await wrong(ann.reserve("web", chain())) == ("UNAUTHENTICATED", "TOKEN_EXPIRED")
    ann.token = ""
    assert (await wrong(ann.reserve("web", chain())))[0] == "UNAUTHENTICATED"
    assert await wrong(ann.log_in("a wrong password")) == ("UNAUTHENTICATED", "CREDENTIALS_REFUSED")
    await abroad.close()
    await untouched(nodes)


async def test_administration_is_for_operators_and_ordering_for_customers(nodes: Nodes, ann: Customer) -> None:
    for method, request in (
        ("Apply", admin_pb.ApplyRequest()),
        ("Export", admin_pb.ExportRequest()),
        ("GetInventory", admin_pb.GetInventoryRequest()),
        ("ListOrders", admin_pb.ListOrdersRequest()),
        ("SetPassword", admin_pb.SetPasswordRequest(account="ben", password="mine now, so there")),
    ):
        call = getattr(ann.admin, method)(request, metadata=ann.metadata)
        assert await wrong(call) == ("PERMISSION_DENIED", "ROLE_REQUIRED"), method
    root = await operator(nodes["top"]).log_in(OPERATOR_PASSWORD)
    assert await wrong(root.reserve("web", chain())) == ("PERMISSION_DENIED", "ROLE_REQUIRED")
    listed = await root.admin.Export(admin_pb.ExportRequest(kinds=["account"]), metadata=root.metadata)
    assert len(listed.documents) == 3
    await root.close()
    await untouched(nodes)


async def test_a_service_of_another_customer_does_not_exist(nodes: Nodes, ann: Customer, ben: Customer) -> None:
    mine = await ann.order("web", chain())
    assert await wrong(ben.status("web")) == ("NOT_FOUND", "SERVICE_NOT_FOUND")
    told = await ben.commit("web")
    assert isinstance(told, Refused)
    assert [reason.code for reason in told.reasons] == [ReasonCode.NOT_HELD]
    release = pb.ReleaseReservationRequest(ref="web", version=1)
    await ben.broker.ReleaseReservation(release, metadata=ben.metadata)
    await ben.terminate("web")  # of ben's own `web`, whatever may still arrive of it
    assert await ann.status("web") == mine
    assert mine.state is ServiceState.ACTIVE
    assert await ben.refs() == set()
    await ann.end("web")
    assert await left(nodes) == []
