"""`spbroker notes`: what the provider announces that it can deliver."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.capability import current_note, read_note
from broker.cli.connection import connected
from broker.cli.output import data, print_json
from broker.cli.rendering import note_tables
from broker.cli.session_choice import As, AsJson
from capability_registry.note import NOTE, CapabilityNote
from spbroker.v1 import broker_service_pb2 as pb


def command(
    watch: Annotated[bool, typer.Option("--watch", help="Show each new edition too, until interrupted.")] = False,
    as_json: AsJson = False,
    as_: As = None,
) -> None:
    """Show the provider's capability note: places, functions with prices, attachment points, ways between them.

    It is shown as it came over the trusted connection; its signature is for brokers, who relay it.
    """
    with connected(as_) as connection:
        if not watch:
            _print(current_note(connection), as_json, False)
            return
        for message in connection.stream("WatchCapabilityNotes", pb.WatchCapabilityNotesRequest()):
            if message.WhichOneof("kind") == "note":
                _print(read_note(message.note.jws), as_json, True)


def _print(note: CapabilityNote, as_json: bool, in_stream: bool) -> None:
    if as_json:
        print_json(NOTE.dump_python(note, mode="json"), in_stream=in_stream)
    else:
        data().print(note_tables(note))
        if in_stream:
            data().print()
