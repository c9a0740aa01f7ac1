"""`spbroker accept`: let a node go on that was restored from a backup, for the operator."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import TypeAdapter

from broker.accounts.admin_port import AcceptedRestore
from broker.cli.connection import connected
from broker.cli.output import print_json, say, show
from broker.cli.rendering import discrepancies_table
from broker.cli.session_choice import As, AsJson
from broker.northbound.admin_servicer import ACCEPTED
from spbroker.v1 import admin_service_pb2 as pb


def command(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is written to the audit trail.")],
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="NAME", help="A supplier that cannot be asked, repeatable."),
    ] = None,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Accept what a restored node found: from now on it takes orders, and goes on with those that it knows.

    All suppliers and domains are asked once more. What they have and the node does not know stays as it is, and among the
    disagreements of spbroker inventory; its blocks and labels are given to nobody. Repeat it when a supplier is back, or when
    what was unknown has ended. Needs the role operator.
    """
    request = pb.AcceptRestoreRequest(reason=reason, without=without or ())
    with connected(as_) as connection:
        done = ACCEPTED.decode(connection.administer("AcceptRestore", request))
    if as_json:
        print_json(TypeAdapter(AcceptedRestore).dump_python(done, mode="json"))
        return
    show(discrepancies_table(done.discrepancies))
    say(f"accepted; {done.kept_off} values that others use are kept off")
