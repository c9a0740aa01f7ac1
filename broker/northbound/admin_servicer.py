"""AdminService over the AdminPort. The gate has checked that the caller is an operator."""

from __future__ import annotations

from typing import Any

from google.protobuf.struct_pb2 import Struct

from broker.accounts.admin_port import (
    AbandonedService,
    AcceptedRestore,
    AdminPort,
    Applied,
    CannotAbandon,
    CannotAccept,
    Inventory,
    PoolUse,
    ResourceUse,
    ServiceDetail,
    StuckSegment,
    SupplierStatus,
)
from broker.accounts.planned import Preview
from broker.northbound.auth import caller
from broker.northbound.paging import page
from broker.northbound.servicer import spec_of
from lower_sp_clients.wire import Codec, Violation, WireError, decode_struct, encode_struct
from spbroker.v1 import admin_service_pb2 as pb
from spbroker.v1 import admin_service_pb2_grpc

APPLIED = Codec(Applied, pb.ApplyResponse)
INVENTORY = Codec(Inventory, pb.Inventory)
POOL = Codec(PoolUse, pb.Pool)
RESOURCE = Codec(ResourceUse, pb.ResourceUse)
SUPPLIER = Codec(SupplierStatus, pb.SupplierStatus)
PLANNING = Codec(Preview, pb.Planning)
PLANS, PLANS_MAX = 3, 10
STUCK = Codec(StuckSegment, pb.StuckSegment)
ABANDONED = Codec(AbandonedService, pb.AbandonServiceResponse)
ACCEPTED = Codec(AcceptedRestore, pb.AcceptRestoreResponse)
REASON_LENGTH = 1000
DETAIL = Codec(ServiceDetail, pb.ServiceDetail)


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    def __init__(self, port: AdminPort) -> None:
        self._port = port

    async def Apply(self, request: pb.ApplyRequest, context: Any) -> pb.ApplyResponse:
        applied = await self._port.apply(
            tuple(decode_struct(document, f"documents[{i}]") for i, document in enumerate(request.documents)),
            dry_run=request.dry_run,
            prune=request.prune,
            reason=request.reason,
            actor=caller().account,
        )
        return APPLIED.encode(applied)

    async def Export(self, request: pb.ExportRequest, context: Any) -> pb.ExportResponse:
        documents = await self._port.export(tuple(request.kinds))
        return pb.ExportResponse(documents=[_struct(document, i) for i, document in enumerate(documents)])

    async def GetInventory(self, request: pb.GetInventoryRequest, context: Any) -> pb.GetInventoryResponse:
        return pb.GetInventoryResponse(inventory=INVENTORY.encode(await self._port.inventory()))

    async def ListPools(self, request: pb.ListPoolsRequest, context: Any) -> pb.ListPoolsResponse:
        return pb.ListPoolsResponse(
            pools=map(POOL.encode, await self._port.pools()),
            resources=map(RESOURCE.encode, await self._port.resources()),
        )

    async def ListSuppliers(self, request: pb.ListSuppliersRequest, context: Any) -> pb.ListSuppliersResponse:
        return pb.ListSuppliersResponse(suppliers=map(SUPPLIER.encode, await self._port.suppliers()))

    async def SetPassword(self, request: pb.SetPasswordRequest, context: Any) -> pb.SetPasswordResponse:
        try:
            await self._port.set_password(request.account, request.password, actor=caller().account)
        except ValueError as error:
            raise WireError(Violation("password", str(error))) from error
        return pb.SetPasswordResponse()

    async def PlanService(self, request: pb.PlanServiceRequest, context: Any) -> pb.PlanServiceResponse:
        most = min(request.alternatives, PLANS_MAX) if request.alternatives > 0 else PLANS
        planning = await self._port.plan(spec_of(request), request.account, most, request.explain)
        return pb.PlanServiceResponse(planning=PLANNING.encode(planning))

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Any) -> pb.ListOrdersResponse:
        found, next_token = await page(
            self._port.orders(request.account, request.ref),
            lambda order: (order.status.create_time, f"{order.account}/{order.status.ref}"),
            request.page_token,
            request.page_size,
        )
        return pb.ListOrdersResponse(orders=map(DETAIL.encode, found), next_page_token=next_token)

    async def ListStuck(self, request: pb.ListStuckRequest, context: Any) -> pb.ListStuckResponse:
        return pb.ListStuckResponse(segments=map(STUCK.encode, await self._port.stuck(request.account)))

    async def AbandonService(self, request: pb.AbandonServiceRequest, context: Any) -> pb.AbandonServiceResponse:
        reason = _reason(request.reason)
        try:
            done = await self._port.abandon(
                request.service, request.account, request.segment, reason, actor=caller().account
            )
        except CannotAbandon as error:
            raise WireError(Violation(error.field, str(error))) from error
        return ABANDONED.encode(done)

    async def AcceptRestore(self, request: pb.AcceptRestoreRequest, context: Any) -> pb.AcceptRestoreResponse:
        reason = _reason(request.reason)
        try:
            done = await self._port.accept(tuple(request.without), reason, actor=caller().account)
        except CannotAccept as error:
            raise WireError(Violation(error.field, str(error))) from error
        return ACCEPTED.encode(done)


def _reason(given: str) -> str:
    """Why an operator decided something. Raises WireError."""
    reason = given.strip()
    if not reason:
        raise WireError(Violation("reason", "say why: it is written to the audit trail"))
    if len(reason) > REASON_LENGTH:
        raise WireError(Violation("reason", f"has {len(reason)} characters, at most {REASON_LENGTH} are kept"))
    return reason


def _struct(document: Any, index: int) -> Struct:
    return encode_struct(document, f"documents[{index}]")
