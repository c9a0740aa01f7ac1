"""`spbroker modify`: make a live service another one, which takes the live one's place when it is committed.

Rules kept here
- The live version carries the service until the newer one is in its place; where that is refused, or not committed, it stays.
- The same command asks again: what is held is found again by its number, and answered as it was.
"""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.commands.order import commit, followed, print_status, reserve
from broker.cli.connection import Connection, connected
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.following import SETTLED, status_of
from broker.cli.order_file import with_lines
from broker.cli.order_options import Order, takes_order
from broker.cli.output import say
from broker.cli.session_choice import As, AsJson
from service_model.outcomes import ReasonCode, Reserved, ServiceState, ServiceStatus
from service_model.spec import ServiceSpec

_AGAIN = frozenset({ServiceState.RESERVING, ServiceState.RESERVED, ServiceState.COMMITTING, ServiceState.ACTIVATING})
_LIVE = frozenset({ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.DEGRADED})


@takes_order
def command(
    ref: Annotated[str, typer.Argument(metavar="REF")],
    order: Order,
    reserve_only: Annotated[
        bool, typer.Option("--reserve-only", help="Hold it, do not commit; the same command without this commits.")
    ] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Wait so long.")] = 300.0,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Change a service that is live: FILE is what it is to be.

    Reserves that as a newer version beside the live one, shows its price and what was chosen, commits it, and follows it
    until it has taken the live one's place. What is refused or not committed leaves the live version as it is.
    """
    with connected(as_) as connection:
        spec = order.spec(connection)
        live = status_of(connection, ref)
        if live.state not in _LIVE:
            raise Fault(Exit.REFUSED, f"{ref} is {live.state.short}, not live", hint="order it: spbroker order")
        try:
            held = _reserve(connection, live, spec, as_json)
            if reserve_only:
                print_status(status_of(connection, ref), as_json)
                return
            commit(connection, held, as_json)
        except Fault as fault:
            raise with_lines(fault, order.file) from None
        say(f"version {held.version} is brought in; version {live.version} carries the service until then")
        status = followed(connection, ref, timeout_s, lambda s: s.version >= held.version and s.state in SETTLED)
        print_status(status, as_json)
    if status.state is not ServiceState.ACTIVE:
        raise Fault(Exit.FAILED, f"{ref} is {status.state.short}", reasons=status.reasons if as_json else ())


def _reserve(connection: Connection, live: ServiceStatus, spec: ServiceSpec, as_json: bool) -> Reserved:
    """The version that is held already, if it is for the same; else the next."""
    newer = live.newer
    if newer is not None and newer.state in _AGAIN:
        try:
            return reserve(connection, live.ref, newer.version, spec, "", as_json)
        except Fault as fault:
            if ReasonCode.KEY_REUSED not in {reason.code for reason in fault.reasons}:
                raise
    latest = newer.version if newer is not None else live.version
    return reserve(connection, live.ref, latest + 1, spec, "", as_json)
