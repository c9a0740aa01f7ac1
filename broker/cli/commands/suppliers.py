"""`spbroker suppliers`: what is heard of each lower provider, for the operator."""

from __future__ import annotations

from pydantic import TypeAdapter

from broker.accounts.admin_port import SupplierStatus
from broker.cli.connection import connected
from broker.cli.output import print_json, show
from broker.cli.rendering import suppliers_table
from broker.cli.session_choice import As, AsJson
from broker.northbound.admin_servicer import SUPPLIER
from spbroker.v1 import admin_service_pb2 as pb


def command(as_json: AsJson = False, as_: As = None) -> None:
    """Show each supplier's feed of notes: its state, the edition that is held, and why the last note was refused.

    KEPT is how often a supplier held what it had announced, of how often it was asked lately. Needs the role operator.
    """
    with connected(as_) as connection:
        answer = connection.administer("ListSuppliers", pb.ListSuppliersRequest())
    suppliers = tuple(SUPPLIER.decode(supplier) for supplier in answer.suppliers)
    if as_json:
        print_json(TypeAdapter(tuple[SupplierStatus, ...]).dump_python(suppliers, mode="json"))
    else:
        show(suppliers_table(suppliers))
