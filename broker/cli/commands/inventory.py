"""`spbroker inventory`: what is allocated, held and built, for the operator."""

from __future__ import annotations

from pydantic import TypeAdapter

from broker.accounts.admin_port import Inventory
from broker.cli.connection import connected
from broker.cli.output import print_json, show
from broker.cli.rendering import inventory_tables
from broker.cli.session_choice import As, AsJson
from broker.northbound.admin_servicer import INVENTORY
from spbroker.v1 import admin_service_pb2 as pb


def command(as_json: AsJson = False, as_: As = None) -> None:
    """Show what is allocated, held and built, and where records and infrastructure disagree.

    Nothing is changed by it. Needs the role operator.
    """
    with connected(as_) as connection:
        answer = connection.administer("GetInventory", pb.GetInventoryRequest())
    inventory = INVENTORY.decode(answer.inventory)
    if as_json:
        print_json(TypeAdapter(Inventory).dump_python(inventory, mode="json"))
    else:
        show(inventory_tables(inventory))
