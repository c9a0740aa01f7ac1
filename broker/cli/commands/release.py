"""`spbroker release`: free what is reserved and not committed."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.commands.order import print_status
from broker.cli.connection import connected
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.following import ENDED, status_of, uncommitted
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
        held = uncommitted(status_of(connection, ref), _FREE)
        connection.call("ReleaseReservation", pb.ReleaseReservationRequest(ref=ref, version=held.version))
        status = status_of(connection, ref)
        alone = status.version == held.version
        freed = status if alone else status.newer
        if freed is not None and freed.state not in ENDED:
            hint = f"end it: spbroker terminate {ref}"
            raise Fault(Exit.REFUSED, f"version {held.version} of {ref} was committed meanwhile, and stays", hint=hint)
        stays = "" if alone else f"; version {status.version} stays"
        say(f"version {held.version} of {ref} is released{stays}")
        if as_json:
            print_status(status, as_json)
