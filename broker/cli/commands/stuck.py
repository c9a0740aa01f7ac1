"""`spbroker stuck`: what is over and does not end, for the operator."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import TypeAdapter

from broker.accounts.admin_port import StuckSegment
from broker.cli.connection import connected
from broker.cli.output import print_json, show
from broker.cli.rendering import stuck_view
from broker.cli.session_choice import As, AsJson
from broker.northbound.admin_servicer import STUCK
from spbroker.v1 import admin_service_pb2 as pb


def command(
    account: Annotated[str, typer.Option("--account", metavar="NAME", help="Only services of this account.")] = "",
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Show what is over and does not end: parts of which a supplier has not confirmed for hours that they are gone.

    Each is still asked for, ever more rarely, and ends by itself when its supplier answers. What the part and its
    service hold until then, and what can be done, stands below. Needs the role operator.
    """
    with connected(as_) as connection:
        answer = connection.administer("ListStuck", pb.ListStuckRequest(account=account))
    segments = tuple(map(STUCK.decode, answer.segments))
    if as_json:
        print_json(TypeAdapter(tuple[StuckSegment, ...]).dump_python(segments, mode="json"))
    else:
        show(stuck_view(segments))
