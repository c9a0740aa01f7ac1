"""`spbroker abandon`: an operator waits no longer for suppliers of a service that is being ended."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.connection import connected
from broker.cli.output import print_json, say
from broker.cli.session_choice import As, AsJson
from spbroker.v1 import admin_service_pb2 as pb


def command(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT")],
    ref: Annotated[str, typer.Argument(metavar="REF")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is written to the audit trail.")],
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Wait no longer for suppliers that do not give back their parts of a service that is being ended.

    The service is then over, and what was allocated for it here rests and is free again. What its suppliers still have, they
    have: settle it with them. Parts in domains of our own cannot be given up. Needs the role operator.
    """
    with connected(as_) as connection:
        request = pb.AbandonServiceRequest(account=account, ref=ref, reason=reason)
        answer = connection.administer("AbandonService", request)
    if as_json:
        print_json({"segments": list(answer.segments)})
    else:
        say(f"{ref} is given up: {', '.join(answer.segments)}")
