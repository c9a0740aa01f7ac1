"""`spbroker addresses`: pools of addresses and labels, for the operator."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import TypeAdapter

from broker.accounts.admin_port import PoolUse, ResourceUse
from broker.cli.connection import connected
from broker.cli.output import print_json, show
from broker.cli.rendering import calendar_table, pools_tables
from broker.cli.session_choice import As, AsJson
from broker.northbound.admin_servicer import POOL, RESOURCE
from spbroker.v1 import admin_service_pb2 as pb


def command(
    owners: Annotated[bool, typer.Option("--owners", help="Show what is taken, and for whose service.")] = False,
    calendar: Annotated[
        bool, typer.Option("--calendar", help="Show what is taken of ways, attachment points and hosts, and when.")
    ] = False,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Show every pool of prefixes and of labels: what is used, what is free, and how broken up it is.

    Fragmentation is the part of what is free that is not in its largest piece. With --calendar, what the own domains have given
    out over time instead. Needs the role operator.
    """
    with connected(as_) as connection:
        answer = connection.administer("ListPools", pb.ListPoolsRequest())
    if calendar:
        resources = tuple(map(RESOURCE.decode, answer.resources))
        if as_json:
            print_json(TypeAdapter(tuple[ResourceUse, ...]).dump_python(resources, mode="json"))
        else:
            show(calendar_table(resources))
        return
    pools = tuple(map(POOL.decode, answer.pools))
    if as_json:
        print_json(TypeAdapter(tuple[PoolUse, ...]).dump_python(pools, mode="json"))
    else:
        show(pools_tables(pools, owners))
