"""`spbroker abandon`: give up what a supplier never confirmed to be gone, for the operator."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import TypeAdapter

from broker.accounts.admin_port import AbandonedService
from broker.cli.connection import connected
from broker.cli.output import print_json, say
from broker.cli.session_choice import As, AsJson
from broker.northbound.admin_servicer import ABANDONED
from service_model.outcomes import ServiceState
from spbroker.v1 import admin_service_pb2 as pb


def command(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Its id or its owner's ref: spbroker stuck.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is written to the audit trail.")],
    segment: Annotated[str, typer.Argument(metavar="SEGMENT", help="Only this part; else all at suppliers.")] = "",
    account: Annotated[
        str, typer.Option("--account", metavar="NAME", help="Whose service, where several have one of this ref.")
    ] = "",
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Give up parts of a service that is STUCK, because their supplier is gone for ever. It cannot be undone.

    Who decided it, and why, is recorded. The suppliers are asked nothing of them again; when nothing else holds the service
    up, its block is freed, after its quarantine if the service was live. What a supplier that comes back still has is told
    by spbroker inventory, and not deleted. Needs the role operator.
    """
    request = pb.AbandonServiceRequest(service=service, account=account, segment=segment, reason=reason)
    with connected(as_) as connection:
        done = ABANDONED.decode(connection.administer("AbandonService", request))
    if as_json:
        print_json(TypeAdapter(AbandonedService).dump_python(done, mode="json"))
        return
    over = done.state is ServiceState.TERMINATED
    say(
        f"given up: {', '.join(done.segments)}; the service is {'TERMINATED' if over else 'still STUCK: spbroker stuck'}"
    )
