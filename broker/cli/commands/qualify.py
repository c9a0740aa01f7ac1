"""`spbroker qualify`: whether the provider can deliver a service now, or what would do instead."""

from __future__ import annotations

from broker.cli.connection import connected
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.order_file import with_lines
from broker.cli.order_options import Order, takes_order
from broker.cli.output import print_json, show
from broker.cli.rendering import qualification_line
from broker.cli.session_choice import As, AsJson
from lower_sp_clients import wire
from service_model.quotes import QUALIFICATION
from spbroker.v1 import broker_service_pb2 as pb


@takes_order
def command(
    order: Order,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Ask whether a service can be delivered now. Nothing is held, nothing is kept of the question.

    Where it cannot, each reason tells what binds and the nearest service that can be had. The price is indicative: ask
    for a firm one with `spbroker quote`.
    """
    with connected(as_) as connection:
        spec = order.spec(connection)
        try:
            answer = connection.call("QualifyService", pb.QualifyServiceRequest(spec=wire.SPEC.encode(spec)))
        except Fault as fault:
            raise with_lines(fault, order.file) from None
    qualification = wire.QUALIFICATION.decode(answer.qualification)
    if as_json:
        print_json(QUALIFICATION.dump_python(qualification, mode="json"))
    elif qualification.feasible:
        show(qualification_line(spec.name, qualification))
    if not qualification.feasible:
        raise Fault(Exit.REFUSED, f"{spec.name} cannot be delivered", reasons=qualification.reasons)
