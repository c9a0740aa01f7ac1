"""What the operators of the demo see of one service: each level's order, and where each function ended up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker.accounts.admin_port import Inventory, SegmentDetail, ServiceDetail
from broker.cli.connection import connected
from broker.northbound.admin_servicer import DETAIL, INVENTORY
from spbroker.v1 import admin_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Placed:
    """A function's namespaces belong to `segment` in the domain of `operator`, whose alias there is `domain`."""

    function: str
    operator: str
    domain: str
    segment: str


def orders(operator: str) -> tuple[ServiceDetail, ...]:
    """Every order at this operator."""
    with connected(f"{operator}-operator") as connection:
        answer = connection.administer("ListOrders", pb.ListOrdersRequest())
    return tuple(DETAIL.decode(order) for order in answer.orders)


def inventory(operator: str) -> Inventory:
    with connected(f"{operator}-operator") as connection:
        found: Inventory = INVENTORY.decode(connection.administer("GetInventory", pb.GetInventoryRequest()).inventory)
        return found


def own_segments(operator: str) -> Iterator[SegmentDetail]:
    """The parts that the operator makes in its own domains."""
    for order in orders(operator):
        for segment in order.segments:
            if segment.supplier == operator and segment.spec is not None:
                yield segment


def placed(operators: tuple[str, ...]) -> dict[str, Placed]:
    """Function id to where it runs."""
    return {
        f.id: Placed(f.id, operator, segment.alias.rpartition(".")[0], segment.ref)
        for operator in operators
        for segment in own_segments(operator)
        if segment.spec is not None
        for f in segment.spec.functions
    }
