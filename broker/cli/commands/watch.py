"""`spbroker watch`: services as they change, until interrupted or the one that is watched has ended."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from broker.cli.connection import connected
from broker.cli.following import ENDED, Lines, changes, events, follow, view_on
from broker.cli.output import data, print_json
from broker.cli.session_choice import As, AsJson
from service_model.outcomes import STATUS, Event

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def command(
    ref: Annotated[str, typer.Argument(metavar="[REF]", show_default=False, help="Only this one.")] = "",
    after: Annotated[
        str, typer.Option("--after", metavar="TOKEN", help="Without REF: go on behind an event of an earlier watch.")
    ] = "",
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Follow your services as they change.

    With REF: that service as it is now, then each change, until it has ended. Without: every change from now on.
    With --json one document a line; without REF each has the token that resumes the stream behind it.
    """
    with connected(as_) as connection:
        if ref and not as_json:
            follow(connection, ref, view_on(data(), stays=True), lambda status: status.state in ENDED)
        elif ref:
            for status in changes(connection, ref):
                print_json(STATUS.dump_python(status, mode="json"), in_stream=True)
                if status.state in ENDED:
                    return
        else:
            lines = Lines(data())
            for event in events(connection, after):
                if as_json:
                    document: Any = _EVENT.dump_python(event, mode="json")
                    print_json(document, in_stream=True)
                elif event.status is not None:
                    lines.update(event.status)
