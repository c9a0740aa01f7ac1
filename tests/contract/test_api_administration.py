"""Administration, health and reflection over the wire."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from broker.northbound.admin_servicer import POOL, RESOURCE, STUCK, SUPPLIER
from spbroker.v1 import admin_service_pb2 as admin_pb
from tests.support.api_calls import (
    administration,
    token_of,
    wrong,
)
from tests.support.api_node import ApiNode


async def test_an_operator_applies_and_exports_documents(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    request = admin_pb.ApplyRequest(reason="first pool", dry_run=True)
    request.documents.add().update({"kind": "pool", "name": "p", "prefix": "10.0.0.0/8", "block": 24})
    dry = await stub.Apply(request, metadata=oscar)
    assert not dry.applied
    assert (await stub.Export(admin_pb.ExportRequest(), metadata=oscar)).documents == []
    request.dry_run = False
    done = await stub.Apply(request, metadata=oscar)
    assert done.applied
    assert [(c.kind, c.name, c.action) for c in done.changes] == [("pool", "p", admin_pb.CHANGE_ACTION_CREATED)]
    assert done.changes[0].diffs[0].after == '"10.0.0.0/8"'
    assert node.admin.log == [("oscar", "first pool")] * 2
    assert node.admin.documents["pool", "p"]["block"] == 24
    exported = await stub.Export(admin_pb.ExportRequest(kinds=["pool"]), metadata=oscar)
    assert exported.documents[0]["prefix"] == "10.0.0.0/8"
    assert (await stub.Export(admin_pb.ExportRequest(kinds=["place"]), metadata=oscar)).documents == []


async def test_an_operator_sees_inventory_and_orders(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    inventory = (await stub.GetInventory(admin_pb.GetInventoryRequest(), metadata=oscar)).inventory
    assert [(a.pool, a.state) for a in inventory.allocations] == [("p", admin_pb.ALLOCATION_STATE_HELD)]
    first = await stub.ListOrders(admin_pb.ListOrdersRequest(page_size=2), metadata=oscar)
    rest = await stub.ListOrders(admin_pb.ListOrdersRequest(page_token=first.next_page_token), metadata=oscar)
    assert [o.status.ref for page in (first, rest) for o in page.orders] == ["r-0", "r-1", "r-2"]
    assert first.orders[0].segments[0].supplier == "sp-c"


async def test_an_operator_sees_pools_of_any_size(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    answer = await stub.ListPools(admin_pb.ListPoolsRequest(), metadata=oscar)
    assert tuple(map(POOL.decode, answer.pools)) == await node.admin.pools()
    assert tuple(map(RESOURCE.decode, answer.resources)) == await node.admin.resources()
    ann = await token_of(node, "ann")
    denied = await wrong(administration(node).ListPools(admin_pb.ListPoolsRequest(), metadata=ann))
    assert denied.code is grpc.StatusCode.PERMISSION_DENIED


async def test_an_operator_sees_what_is_stuck_and_gives_it_up_for_a_reason(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    listed = await stub.ListStuck(admin_pb.ListStuckRequest(account="ann"), metadata=oscar)
    assert tuple(map(STUCK.decode, listed.segments)) == await node.admin.stuck("ann")
    for wrong_reason in (" ", "x" * 1001):
        request = admin_pb.AbandonServiceRequest(service="r-1", reason=wrong_reason)
        refused = await wrong(stub.AbandonService(request, metadata=oscar))
        assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["reason"])
    request = admin_pb.AbandonServiceRequest(service="r-9", reason="bankrupt")
    unknown = await wrong(stub.AbandonService(request, metadata=oscar))
    assert unknown.fields == ["service"]
    assert unknown.bad.field_violations[0].description == "there is no service 'r-9'"
    assert node.admin.abandoned == {}
    request = admin_pb.AbandonServiceRequest(service="r-1", reason=" bankrupt ")
    ann = await token_of(node, "ann")
    denied = await wrong(administration(node).AbandonService(request, metadata=ann))
    assert denied.code is grpc.StatusCode.PERMISSION_DENIED
    done = await stub.AbandonService(request, metadata=oscar)
    assert (done.service, list(done.segments)) == ("s-1", ["east.1"])
    assert node.admin.abandoned == {"east.1": ("oscar", "bankrupt")}


async def test_an_operator_sees_what_is_heard_of_suppliers(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    answer = await stub.ListSuppliers(admin_pb.ListSuppliersRequest(), metadata=oscar)
    assert tuple(map(SUPPLIER.decode, answer.suppliers)) == await node.admin.suppliers()
    ann = await token_of(node, "ann")
    denied = await wrong(administration(node).ListSuppliers(admin_pb.ListSuppliersRequest(), metadata=ann))
    assert denied.code is grpc.StatusCode.PERMISSION_DENIED


async def test_an_operator_sets_a_password(node: ApiNode) -> None:
    oscar, stub = await token_of(node, "oscar", "operator"), administration(node)
    await stub.SetPassword(admin_pb.SetPasswordRequest(account="ann", password="long enough now"), metadata=oscar)
    assert node.admin.passwords == {"ann": "long enough now"}
    short = await wrong(stub.SetPassword(admin_pb.SetPasswordRequest(account="ann", password="short"), metadata=oscar))
    assert (short.info.reason, short.fields) == ("INVALID_REQUEST", ["password"])
    nobody = await wrong(stub.SetPassword(admin_pb.SetPasswordRequest(account="bob", password="x"), metadata=oscar))
    assert (nobody.code, nobody.info.reason) == (grpc.StatusCode.NOT_FOUND, "ACCOUNT_NOT_FOUND")


async def test_health_says_what_the_node_says(node: ApiNode) -> None:
    stub = health_pb2_grpc.HealthStub(node.people_channel())
    request = health_pb2.HealthCheckRequest(service="spbroker.v1.BrokerService")
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert node.server is not None
    await node.server.set_health(True)
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services(node: ApiNode) -> None:
    assert node.server is not None
    address = f"127.0.0.1:{node.server.ports['people']}"

    def listed() -> list[str]:
        credentials = grpc.ssl_channel_credentials(node.authority.cert_pem.bytes())
        with grpc.secure_channel(address, credentials) as channel:
            return list(ProtoReflectionDescriptorDatabase(channel).get_services())

    assert {"spbroker.v1.BrokerService", "spbroker.v1.AdminService"} <= set(await asyncio.to_thread(listed))
