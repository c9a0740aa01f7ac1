"""`spbroker heal`: have what is lost of a service bought elsewhere."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from broker.cli.connection import connected
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.following import follow, status_of, view_on
from broker.cli.output import messages, print_json, say
from broker.cli.session_choice import As, AsJson
from service_model.healing import HealPhase
from service_model.outcomes import STATUS, ServiceState, ServiceStatus
from spbroker.v1 import broker_service_pb2 as pb


def command(
    ref: Annotated[str, typer.Argument(metavar="REF")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is whole, or cannot be.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Wait so long.")] = 300.0,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Have what is lost of a service, or was lost too often, bought elsewhere, whatever its policy says.

    Addresses, your labels and the price stay. Who is nearest to what is broken goes first. What is whole stays as it is.
    """
    with connected(as_) as connection:
        status_of(connection, ref)
        connection.call("HealService", pb.HealServiceRequest(ref=ref))
        if wait:
            until = time.monotonic() + timeout_s
            try:
                status = follow(connection, ref, view_on(messages(), stays=False), _is_over, until)
            except Fault as fault:
                if fault.kind != "TIMEOUT":
                    raise
                message = f"{ref} is not whole within {timeout_s:g} s; the provider goes on"
                raise Fault(Exit.FAILED, message, hint=f"follow it: spbroker watch {ref}") from None
        else:
            status = status_of(connection, ref)
    if as_json:
        print_json(STATUS.dump_python(status, mode="json"))
    elif _is_whole(status):
        say(f"{ref} is whole")
    elif not _is_over(status):
        say(f"{ref} is being healed")
    if wait and not _is_whole(status):
        raise Fault(Exit.FAILED, _why_not(ref, status))


def _is_whole(status: ServiceStatus) -> bool:
    """Whether all of it works, and nothing of it was lost too often."""
    return status.state is ServiceState.ACTIVE and status.healing is None


def _is_over(status: ServiceStatus) -> bool:
    """Whether it is whole, or nothing more will be done by itself."""
    if status.healing is None or status.state not in (ServiceState.ACTIVE, ServiceState.DEGRADED):
        return status.state is not ServiceState.DEGRADED
    return status.healing.phase is HealPhase.GIVEN_UP


def _why_not(ref: str, status: ServiceStatus) -> str:
    reasons = status.healing.reasons if status.healing is not None else ()
    why = f": {reasons[0].message}" if reasons else ""
    return f"{ref} is {status.state.short} and was not healed{why}"
