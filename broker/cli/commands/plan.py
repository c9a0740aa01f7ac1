"""`spbroker plan`: how a service would be made now, for the operator."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import TypeAdapter

from broker.accounts.planned import Preview
from broker.cli.connection import connected
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.order_file import with_lines
from broker.cli.order_options import Order, takes_order
from broker.cli.output import print_json, show
from broker.cli.rendering import planning_view
from broker.cli.session_choice import As, AsJson
from broker.northbound.admin_servicer import PLANNING
from lower_sp_clients import wire
from spbroker.v1 import admin_service_pb2 as pb


@takes_order
def command(
    order: Order,
    account: Annotated[
        str, typer.Option("--account", metavar="NAME", help="At this account's prices; at cost if left out.")
    ] = "",
    alternatives: Annotated[int, typer.Option("--alternatives", min=1, max=10, help="At most so many plans.")] = 3,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also what would be better, and which constraint it breaks.")
    ] = False,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Show how a service would be planned over the suppliers' present notes: the best plans, with what each part costs.

    Nobody is asked and nothing is held. Where nothing can be planned, the constraint that binds is told with the nearest
    plans that break it. Needs the role operator.
    """
    spec = order.unjudged()
    request = pb.PlanServiceRequest(
        spec=wire.SPEC.encode(spec), account=account, alternatives=alternatives, explain=explain
    )
    with connected(as_) as connection:
        try:
            answer = connection.administer("PlanService", request)
        except Fault as fault:
            raise with_lines(fault, order.file) from None
    planning = PLANNING.decode(answer.planning)
    if as_json:
        print_json(TypeAdapter(Preview).dump_python(planning, mode="json"))
    elif planning.plans or planning.nearest:
        show(*planning_view(planning, spec.term_hours))
    if not planning.plans:
        raise Fault(Exit.REFUSED, f"{spec.name} cannot be planned", reasons=planning.reasons)
