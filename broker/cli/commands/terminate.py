"""`spbroker terminate`: end a service."""

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
from service_model.outcomes import STATUS, ServiceState
from spbroker.v1 import broker_service_pb2 as pb

_OVER = frozenset({ServiceState.TERMINATED, ServiceState.STUCK})


def command(
    ref: Annotated[str, typer.Argument(metavar="REF")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it has ended.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Wait so long.")] = 300.0,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """End a service: every version of it, for good. Charging stops at once; what was built is taken down after it.

    Where a part has not been confirmed for hours to be gone, the service is STUCK: over, and told so.
    """
    with connected(as_) as connection:
        status_of(connection, ref)  # a ref that was mistyped is told, not recorded
        connection.call("TerminateService", pb.TerminateServiceRequest(ref=ref))
        if wait:
            until = time.monotonic() + timeout_s
            try:
                view = view_on(messages(), stays=False)
                status = follow(connection, ref, view, lambda s: s.state in _OVER, until)
            except Fault as fault:
                if fault.kind != "TIMEOUT":
                    raise
                message = f"{ref} has not ended within {timeout_s:g} s; the provider goes on"
                raise Fault(Exit.FAILED, message, hint=f"follow it: spbroker watch {ref}") from None
        else:
            status = status_of(connection, ref)
    if as_json:
        print_json(STATUS.dump_python(status, mode="json"))
    elif status.state is not ServiceState.STUCK:
        say(f"{ref} has ended" if status.state is ServiceState.TERMINATED else f"{ref} is ending")
    if status.state is ServiceState.STUCK:
        parts = [part.alias for part in status.segments if part.state is ServiceState.STUCK]
        message = (
            f"{ref} is over and costs nothing more; not confirmed to be gone: {', '.join(parts) or 'a part of it'}"
        )
        raise Fault(Exit.FAILED, message, hint="the provider goes on asking; it is TERMINATED when all have confirmed")
