"""`spbroker release`: free what is reserved and not committed."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.commands.order import print_status
from broker.cli.connection import connected
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.following import status_of
from broker.cli.output import say
from broker.cli.session_choice import As, AsJson
from service_model.outcomes import ServiceState
from spbroker.v1 import broker_service_pb2 as pb

_FREE = frozenset({ServiceState.RESERVING, ServiceState.RESERVED})


def command(
    ref: Annotated[str, typer.Argument(metavar="REF")],
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Free what is reserved and not committed, before its hold ends by itself.

    Of a live service that is the newer version beside it; the live one stays. To end that: spbroker terminate.
    """
    with connected(as_) as connection:
        status = status_of(connection, ref)
        held = next((v for v in (status.newer, status) if v and v.state in _FREE), None)
        if held is None:
            hint = f"end it: spbroker terminate {ref}"
            raise Fault(Exit.REFUSED, f"{ref} is {status.state.short}: nothing of it is held", hint=hint)
        connection.call("ReleaseReservation", pb.ReleaseReservationRequest(ref=ref, version=held.version))
        stays = "" if held is status else f"; version {status.version} stays"
        say(f"version {held.version} of {ref} is released{stays}")
        if as_json:
            print_status(status_of(connection, ref), as_json)
