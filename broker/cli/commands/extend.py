"""`spbroker extend`: hold for longer what is reserved."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.commands.order import print_status, refused
from broker.cli.connection import connected
from broker.cli.following import status_of, uncommitted
from broker.cli.output import say
from broker.cli.rendering import duration_text
from broker.cli.session_choice import As, AsJson
from lower_sp_clients import wire
from service_model.outcomes import ServiceState
from spbroker.v1 import broker_service_pb2 as pb


def command(
    ref: Annotated[str, typer.Argument(metavar="REF")],
    for_s: Annotated[
        float, typer.Option("--for", min=1.0, metavar="SECONDS", help="From now on; a provider may grant less.")
    ] = 600.0,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Hold for longer what is reserved, so that there is more time to commit it.

    Of a live service that is the newer version beside it. What is refused leaves the hold as it was.
    """
    with connected(as_) as connection:
        held = uncommitted(status_of(connection, ref), {ServiceState.RESERVED})
        request = pb.ExtendReservationRequest(ref=ref, version=held.version, seconds=for_s)
        answer = connection.call("ExtendReservation", request)
        if answer.WhichOneof("outcome") != "reserved":
            raise refused(answer, "the provider refuses to hold it for longer", as_json)
        remaining_s = wire.RESERVED.decode(answer.reserved).remaining_s
        say(f"version {held.version} of {ref} is held for {duration_text(remaining_s)}")
        if as_json:
            print_status(status_of(connection, ref), as_json)
