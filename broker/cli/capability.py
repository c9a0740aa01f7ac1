"""The provider's capability note as a person's client takes it: over the trusted connection, its signature unchecked.

The signature is for brokers, who relay a note; it proves nothing more to somebody who asked its issuer over TLS.
"""

from __future__ import annotations

from broker.cli.connection import Connection
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from capability_registry.keys import from_base64url
from capability_registry.note import CapabilityNote
from lower_sp_clients import wire
from spbroker.v1 import broker_service_pb2 as pb

TIMEOUT_S = 20.0


def current_note(connection: Connection) -> CapabilityNote:
    """Raises Fault."""
    return read_note(connection.call("GetCapabilityNote", pb.GetCapabilityNoteRequest(), TIMEOUT_S).note.jws)


def read_note(jws: str) -> CapabilityNote:
    """The note in a compact JWS. Raises Fault."""
    try:
        _, payload, _ = jws.split(".")
        return wire.parse_note(from_base64url(payload))
    except (wire.WireError, ValueError) as error:
        raise Fault(Exit.UNEXPECTED, f"the provider's note cannot be read: {error}") from None
