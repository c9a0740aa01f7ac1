"""Between the words of the model and the messages of the protocol, in one codec for all of them.

Rules kept here
- A dataclass's JSON form is proto3 JSON with the same field names, so one walk over the descriptor serves every type.
- What is written was valid when it was made and goes straight into the message; what is read is validated.
- What cannot be read or written is one `WireError` that names every culprit by its path in the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Generic, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from pydantic import TypeAdapter, ValidationError

from capability_registry.note import CapabilityNote
from lower_sp_clients.wire import kinds
from lower_sp_clients.wire.errors import Violation, WireError
from lower_sp_clients.wire.reading import reader
from lower_sp_clients.wire.structs import EXACT_MAX, decode_struct, encode_struct
from lower_sp_clients.wire.writing import writer
from service_model.managing import (
    Addresses,
    AddressQuestion,
    Configuration,
    ConfigureQuestion,
    Consultation,
    HealQuestion,
    ManagerRefusal,
    Placement,
    PlaceQuestion,
    Remedy,
)
from service_model.outcomes import AddressingChoice, Committed, Event, Refused, Reserved, ServiceStatus
from service_model.quotes import Qualification, Quote
from service_model.spec import ServiceSpec
from spbroker.v1 import manager_service_pb2, note_pb2, outcome_pb2, spec_pb2

__all__ = ["EXACT_MAX", "Codec", "Violation", "WireError", "decode_struct", "encode_struct", "parse_note"]

_VIOLATIONS_MAX = 32

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class Codec(Generic[T, M]):
    """`encode` and `decode` between the dataclass `kind` and one message. Both raise WireError."""

    def __init__(self, kind: type[T], message: type[M]) -> None:
        self._kind = kind
        self._descriptor = cast(Descriptor, message.DESCRIPTOR)  # the C implementation has a type of its own
        self._write, self._read = writer(self._descriptor), reader(self._descriptor)

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        """Made when it is needed: a process reads few of the messages that it writes."""
        return TypeAdapter(self._kind)

    def encode(self, value: T) -> M:
        encoded: M = self._write(value)
        return encoded

    def decode(self, message: M) -> T:
        try:
            return self._adapter.validate_python(self._read(message))
        except ValidationError as error:
            raise _wire_error(error, self._descriptor) from error


def _wire_error(error: ValidationError, descriptor: Descriptor) -> WireError:
    """The errors of a validation by path; those of a union's members are one."""
    reasons: dict[str, list[str]] = {}
    for found in error.errors(include_url=False, include_context=False):
        path = "".join(_steps(found["loc"], descriptor)).removeprefix(".")
        reasons.setdefault(path, []).append(found["msg"].removeprefix("Value error, "))
        if isinstance(found["input"], str | int | float):
            reasons[path][-1] += f", not {str(found['input'])[:64]!r}"
    return WireError(*(Violation(path, " or ".join(why)) for path, why in list(reasons.items())[:_VIOLATIONS_MAX]))


def _steps(location: tuple[int | str, ...], descriptor: Descriptor | None) -> Iterator[str]:
    """The parts of pydantic's location that are fields, indices and keys; its names of validators are not."""
    inside_map = False
    for part in location:
        if isinstance(part, int):
            yield f"[{part}]"
        elif inside_map:
            yield f'["{part}"]'
            inside_map = False
        elif descriptor is not None and part in descriptor.fields_by_name:
            yield f".{part}"
            field = descriptor.fields_by_name[part]
            inside_map = kinds.is_map(field)
            descriptor = kinds.map_value(field).message_type if inside_map else field.message_type
        else:
            return


SPEC = Codec(ServiceSpec, spec_pb2.ServiceSpec)
CHOICE = Codec(AddressingChoice, outcome_pb2.AddressingChoice)
RESERVED = Codec(Reserved, outcome_pb2.Reserved)
REFUSED = Codec(Refused, outcome_pb2.Refused)
COMMITTED = Codec(Committed, outcome_pb2.Committed)
QUALIFICATION = Codec(Qualification, outcome_pb2.Qualification)
QUOTE = Codec(Quote, outcome_pb2.Quote)
STATUS = Codec(ServiceStatus, outcome_pb2.ServiceStatus)
EVENT = Codec(Event, outcome_pb2.Event)
CONSULTATION = Codec(Consultation, manager_service_pb2.Consultation)
PLACE_QUESTION = Codec(PlaceQuestion, manager_service_pb2.PlaceQuestion)
ADDRESS_QUESTION = Codec(AddressQuestion, manager_service_pb2.AddressQuestion)
CONFIGURE_QUESTION = Codec(ConfigureQuestion, manager_service_pb2.ConfigureQuestion)
HEAL_QUESTION = Codec(HealQuestion, manager_service_pb2.HealQuestion)
REMEDY = Codec(Remedy, manager_service_pb2.Remedy)
PLACEMENT = Codec(Placement, manager_service_pb2.Placement)
ADDRESSES = Codec(Addresses, manager_service_pb2.Addresses)
CONFIGURATION = Codec(Configuration, manager_service_pb2.Configuration)
MANAGER_REFUSAL = Codec(ManagerRefusal, manager_service_pb2.ManagerRefusal)
NOTE = Codec(CapabilityNote, note_pb2.CapabilityNote)


def parse_note(payload: str | bytes) -> CapabilityNote:
    """A note from the proto3 JSON that a verified JWS carries; fields and enum names of newer releases are passed over.
    Raises WireError."""
    message = note_pb2.CapabilityNote()
    try:
        json_format.Parse(payload, message, ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(Violation("", f"not proto3 JSON of a note: {error}")) from error
    return NOTE.decode(message)
