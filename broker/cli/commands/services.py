"""`spbroker services`: a page of the caller's services."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from broker.cli.connection import Connection, connected
from broker.cli.output import print_json, say, show
from broker.cli.rendering import services_table
from broker.cli.session_choice import As, AsJson
from lower_sp_clients import wire
from service_model.outcomes import STATUS, ServiceStatus
from spbroker.v1 import broker_service_pb2 as pb

ALL_PAGE = 1000


def command(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 100,
    page: Annotated[str, typer.Option("--page", metavar="TOKEN", help="Go on behind an earlier page.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Every page.")] = False,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """List your services, in order of creation."""
    with connected(as_) as connection:
        found, following = _page(connection, ALL_PAGE if all_ else limit, page)
        while all_ and following:
            more, following = _page(connection, ALL_PAGE, following)
            found += more
    if as_json:
        services: list[Any] = [STATUS.dump_python(status, mode="json") for status in found]
        print_json({"services": services, "next_page_token": following})
        return
    if not found:
        say("you have no services" if not page else "there are no more services")
        return
    show(services_table(found))
    if following:
        say(f"there are more: spbroker services --page {following}")


def _page(connection: Connection, size: int, token: str) -> tuple[list[ServiceStatus], str]:
    answer = connection.call("ListServices", pb.ListServicesRequest(page_size=size, page_token=token))
    return [wire.STATUS.decode(service) for service in answer.services], answer.next_page_token
