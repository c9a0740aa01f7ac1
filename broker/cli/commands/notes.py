"""`spbroker notes`: what the provider announces that it can deliver."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from broker.cli.connection import Connection, connected
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.output import data, print_json
from broker.cli.rendering import note_tables
from broker.cli.session_choice import As, AsJson
from capability_registry.keys import from_base64url
from capability_registry.note import CapabilityNote
from lower_sp_clients import wire
from spbroker.v1 import broker_service_pb2 as pb


def command(
    watch: Annotated[bool, typer.Option("--watch", help="Show each new edition too, until interrupted.")] = False,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Show the provider's capability note.

    The note is shown as it came over the trusted connection; its signature is for brokers, who relay it.
    With --json it is the note itself, as it was signed.
    """
    with connected(as_) as connection:
        if not watch:
            _print(current(connection), as_json, False)
            return
        for message in connection.stream("WatchCapabilityNotes", pb.WatchCapabilityNotesRequest()):
            if message.WhichOneof("kind") == "note":
                _print(message.note.jws, as_json, True)


def current(connection: Connection) -> str:
    """The current note's JWS."""
    jws: str = connection.call("GetCapabilityNote", pb.GetCapabilityNoteRequest(), 20.0).note.jws
    return jws


def read(jws: str) -> CapabilityNote:
    """The note in a JWS, whose signature is not checked here. Raises Fault."""
    try:
        return wire.parse_note(_payload(jws))
    except (wire.WireError, ValueError) as error:
        raise Fault(Exit.UNEXPECTED, f"the provider's note cannot be read: {error}") from None


def _payload(jws: str) -> bytes:
    parts = jws.split(".")
    if len(parts) != 3:
        raise ValueError("not a compact JWS")
    return from_base64url(parts[1])


def _print(jws: str, as_json: bool, in_stream: bool) -> None:
    note = read(jws)
    if as_json:
        document: Any = json.loads(_payload(jws))
        print_json(document, in_stream=in_stream)
    else:
        data().print(note_tables(note))
        if in_stream:
            data().print()
