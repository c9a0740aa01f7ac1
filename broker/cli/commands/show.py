"""`spbroker show`: one service, as its owner sees it or, part by part, as the provider's operator does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter
from rich.console import RenderableType

from broker.accounts.admin_port import ServiceDetail
from broker.cli.connection import Connection, connected
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.following import status_of
from broker.cli.order_file import read_spec
from broker.cli.output import print_json, show
from broker.cli.rendering import (
    addressing_table,
    decisions_table,
    reasons_tree,
    service_facts,
    service_tree,
    state_text,
)
from broker.cli.rendering.text import Text
from broker.cli.session_choice import As, AsJson
from broker.northbound.admin_servicer import DETAIL
from service_model.outcomes import STATUS, ServiceStatus
from spbroker.v1 import admin_service_pb2 as admin_pb


def command(
    ref: Annotated[str, typer.Argument(metavar="REF")],
    spec_file: Annotated[
        Path | None,
        typer.Option(
            "--spec", metavar="FILE", help="The spec that was ordered (no NSD): its constraints are shown too."
        ),
    ] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="As the provider's operator: every part, with what was asked of whom.")
    ] = False,
    account: Annotated[str, typer.Option("--account", metavar="NAME", help="With --operator: whose service.")] = "",
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Show one service: its parts and states, its price, and its labels and prefixes.

    CHOSEN is what the provider chose within the constraint, BOUND what was confirmed at commit. Where the spec names
    managers, what they decided is told.
    """
    with connected(as_) as connection:
        if operator:
            _as_operator(connection, ref, account, as_json)
            return
        status = status_of(connection, ref)
    if as_json:
        print_json(STATUS.dump_python(status, mode="json"))
        return
    spec = read_spec(spec_file) if spec_file else None
    parts: list[RenderableType] = [service_tree(status), service_facts(status), *_decisions(status)]
    if status.choice or status.binding or spec:
        parts.append(addressing_table(status, spec=spec))
    show(*parts)


def _decisions(status: ServiceStatus) -> list[RenderableType]:
    return [decisions_table(status)] if status.decisions else []


def _as_operator(connection: Connection, ref: str, account: str, as_json: bool) -> None:
    request = admin_pb.ListOrdersRequest(ref=ref, account=account)
    orders = [DETAIL.decode(order) for order in connection.administer("ListOrders", request).orders]
    if not orders:
        raise Fault(Exit.NOT_FOUND, f"there is no service {ref!r}" + (f" of {account!r}" if account else ""))
    if as_json:
        documents: Any = TypeAdapter(list[ServiceDetail]).dump_python(orders, mode="json")
        print_json({"orders": documents})
        return
    for order in orders:
        parts: list[RenderableType] = [Text(f"account {order.account}", style="dim")]
        parts += [service_tree(order.status), service_facts(order.status), *_decisions(order.status)]
        for part in order.segments:
            head = Text(part.alias, style="bold").append("  ").append_text(state_text(part.state))
            head.append(f"  at {part.supplier} as {part.ref} version {part.version}", style="dim")
            parts.append(head)
            if part.reasons:
                parts.append(reasons_tree(part.reasons))
            if part.spec or part.choice or part.binding:
                parts.append(addressing_table(spec=part.spec, choice=part.choice, binding=part.binding))
        show(*parts)
