"""`spbroker order`: reserve a service, show what it costs and what was chosen, commit it, and follow it until it works.

Rules kept here
- The ref is said before the first call. Where an outcome is not known, the same command with that ref asks again: the
  provider answers a request that it has seen with what it recorded.
- Nothing is committed that was not shown; a hold that is not committed frees itself.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import TypeAdapter

from broker.cli.connection import Connection, connected
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.following import SETTLED, follow, status_of, view_on
from broker.cli.order_file import with_lines
from broker.cli.order_options import Order, takes_order
from broker.cli.output import messages, print_json, say, show
from broker.cli.rendering import addressing_table, delay_text, duration_text, price_text, service_facts, service_tree
from broker.cli.session_choice import As, AsJson
from lower_sp_clients import wire
from service_model.outcomes import STATUS, ReasonCode, Refused, Reserved, ServiceState, ServiceStatus
from service_model.spec import FunctionType, ServiceSpec
from spbroker.v1 import broker_service_pb2 as pb

_Answer = pb.ReserveServiceResponse | pb.ExtendReservationResponse | pb.CommitServiceResponse


@takes_order
def command(
    order: Order,
    quote: Annotated[
        str, typer.Option("--quote", metavar="ID", help="At the price of this quote (spbroker quote).")
    ] = "",
    ref: Annotated[str, typer.Option("--ref", metavar="REF", help="Your reference; made up if left out.")] = "",
    reserve_only: Annotated[
        bool, typer.Option("--reserve-only", help="Hold it, do not commit; the same command without this commits.")
    ] = False,
    wait: Annotated[
        bool | None,
        typer.Option("--wait/--no-wait", show_default=False, help="Until it works (default, if it starts now)."),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Wait so long.")] = 300.0,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Order a service.

    Reserves it, shows price, delay and what was chosen, commits it, and follows its parts until it is ACTIVE.
    To ask again after a broken connection, repeat the command with the --ref that it said.
    """
    with connected(as_) as connection:
        spec = order.spec(connection)
        version = _version(connection, ref) if ref else 1
        ref = ref or f"{spec.name[:100]}-{secrets.token_hex(3)}"
        line = ["spbroker", "order", *order.words, "--ref", ref]
        again = shlex.join([*line, *(["--quote", quote] if quote else []), *(["--as", as_] if as_ else [])])
        say(f"ordering {spec.name} as {ref}")
        try:
            held = reserve(connection, ref, version, spec, quote, as_json)
            if reserve_only:
                status = status_of(connection, ref)
                print_status(status, as_json)
                say(f"commit it: {again}")
                return
            commit(connection, held, as_json)
        except Fault as fault:
            if fault.exit_code in (Exit.UNREACHABLE, Exit.UNEXPECTED):
                known = fault.kind == "OVERLOADED"
                hint = f"{'' if known else 'what became of the order is not known; '}ask again: {again}"
                raise Fault(fault.exit_code, fault.message, hint=hint, kind=fault.kind) from None
            if unsold := _unsold(fault, spec):
                order.spec(connection, unsold)
            raise with_lines(fault, order.file) from None
        starts_later = spec.start_time is not None and spec.start_time > datetime.now(UTC)
        if wait is None and starts_later:
            say(f"it is built at {spec.start_time}; follow it: spbroker watch {ref}")
        waits = wait or (wait is None and not starts_later)
        status = followed(connection, ref, timeout_s) if waits else status_of(connection, ref)
        print_status(status, as_json)
    if waits and status.state is not ServiceState.ACTIVE:
        raise Fault(Exit.FAILED, f"{ref} is {status.state.short}", reasons=status.reasons if as_json else ())


def _version(connection: Connection, ref: str) -> int:
    """That of the order so far, so that it is answered again; the next, where that one came to nothing."""
    try:
        status = status_of(connection, ref)
    except Fault as fault:
        if fault.exit_code is Exit.NOT_FOUND:
            return 1
        raise
    over = status.state in (ServiceState.REFUSED, ServiceState.EXPIRED)
    return max(1, status.version + over)


def reserve(connection: Connection, ref: str, version: int, spec: ServiceSpec, quote: str, as_json: bool) -> Reserved:
    context = pb.CallContext(quote=quote)
    request = pb.ReserveServiceRequest(ref=ref, version=version, spec=wire.SPEC.encode(spec), context=context)
    answer = connection.call("ReserveService", request)
    if answer.WhichOneof("outcome") != "reserved":
        raise refused(answer, "the provider refuses the order", as_json)
    held = wire.RESERVED.decode(answer.reserved)
    delay = f", delay {delay_text(held.delay_us)}" if held.delay_us else ""
    say(f"reserved for {duration_text(held.remaining_s)}: {price_text(held.price)}{delay}")
    if held.choice.labels or held.choice.links:
        messages().print(addressing_table(spec=spec, choice=held.choice))
    return held


def commit(connection: Connection, held: Reserved, as_json: bool) -> None:
    request = pb.CommitServiceRequest(ref=held.ref, version=held.version, bindings=wire.CHOICE.encode(held.choice))
    answer = connection.call("CommitService", request)
    if answer.WhichOneof("outcome") != "committed":
        raise refused(answer, "the provider refuses to commit it", as_json)
    say("committed")


def refused(answer: _Answer, message: str, as_json: bool) -> Fault:
    if answer.WhichOneof("outcome") != "refused":
        return Fault(Exit.UNEXPECTED, "the provider gave an answer that this release does not know")
    why = wire.REFUSED.decode(answer.refused)
    if as_json:
        print_json({"refused": TypeAdapter(Refused).dump_python(why, mode="json")})
    return Fault(Exit.REFUSED, message, reasons=why.reasons)


def _unsold(fault: Fault, spec: ServiceSpec) -> frozenset[FunctionType]:
    """The function types that the provider refuses because it does not know them."""
    subjects = {reason.subject for reason in fault.reasons if reason.code is ReasonCode.UNKNOWN_FUNCTION_TYPE}
    return frozenset(function.type for function in spec.functions if function.id in subjects)


def followed(
    connection: Connection,
    ref: str,
    timeout_s: float,
    is_over: Callable[[ServiceStatus], bool] = lambda status: status.state in SETTLED,
) -> ServiceStatus:
    """The status when it `is_over`. Raises Fault where it is not in time."""
    until = time.monotonic() + timeout_s
    try:
        return follow(connection, ref, view_on(messages(), stays=False), is_over, until)
    except KeyboardInterrupt:
        message = f"{ref} is committed and goes on"
        raise Fault(Exit.INTERRUPTED, message, hint=f"follow it: spbroker watch {ref}") from None
    except Fault as fault:
        if fault.kind != "TIMEOUT":
            raise
        message = f"{ref} is not ACTIVE within {timeout_s:g} s; the provider goes on"
        raise Fault(Exit.FAILED, message, hint=f"follow it: spbroker watch {ref}") from None


def print_status(status: ServiceStatus, as_json: bool) -> None:
    if as_json:
        print_json(STATUS.dump_python(status, mode="json"))
    else:
        show(service_tree(status), service_facts(status))
