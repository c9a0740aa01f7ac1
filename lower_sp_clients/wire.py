"""Between the words of the model and the messages of the protocol, in one codec for all of them.

Rules kept here
- A dataclass's JSON form is proto3 JSON with the same field names, so one walk over the descriptor serves every type.
  Two things differ: `LabelSet` and `PrefixList` are messages there and plain lists here, for a list in a map or an
  optional list needs a message of its own.
- A field with presence that is not set is left to the default of the dataclass; one without presence is its zero.
- A map has no order on the wire; what is read is ordered by key, so the same message always gives the same value.
- An enum number of a newer release is read as UNSPECIFIED, an unknown field is passed over.
- What cannot be read or written is one `WireError` that names every culprit by its path in the message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Generic, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import TypeAdapter, ValidationError

from capability_registry.note import CapabilityNote
from service_model.outcomes import AddressingChoice, Committed, Event, Refused, Reserved, ServiceStatus
from service_model.spec import ServiceSpec
from spbroker.v1 import note_pb2, outcome_pb2, spec_pb2

EXACT_MAX = 1 << 53
"""Above it, an integer is not exact as a double, which is what a Struct holds."""

_LISTS = {"spbroker.v1.LabelSet": "ranges", "spbroker.v1.PrefixList": "prefixes"}
_VIOLATIONS_MAX = 32

T = TypeVar("T")
M = TypeVar("M", bound=Message)
_Convert = Callable[[Any, str], Any]


@dataclass(frozen=True, slots=True)
class Violation:
    """One culprit: `path` in the words of the message (`ends[0].labels`, `parameters["rules"]`), and what is wrong."""

    path: str
    reason: str


class WireError(ValueError):
    """A message or value that has no counterpart on the other side."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{v.path or 'message'}: {v.reason}" for v in violations))
        self.violations = violations

    def under(self, path: str) -> WireError:
        """The same, seen from a message that has this one in its field `path`."""
        return WireError(*(Violation(_joined(path, v.path), v.reason) for v in self.violations))


class Codec(Generic[T, M]):
    """`encode` and `decode` between one dataclass and one message. Both raise WireError."""

    def __init__(self, adapter: TypeAdapter[T], message: type[M]) -> None:
        self._adapter = adapter
        self._descriptor = cast(Descriptor, message.DESCRIPTOR)  # the C implementation has a type of its own

    def encode(self, value: T) -> M:
        encoded: M = _encode_message(self._descriptor, self._adapter.dump_python(value, mode="json"), "")
        return encoded

    def decode(self, message: M) -> T:
        plain = _decode_message(self._descriptor, message, "")
        try:
            return self._adapter.validate_python(plain)
        except ValidationError as error:
            raise _wire_error(error, self._descriptor) from error


# To a message ---------------------------------------------------------------------------------------------------------


def _encode_message(descriptor: Descriptor, data: Any, path: str) -> Any:
    if descriptor.full_name in _LISTS:
        data = {_LISTS[descriptor.full_name]: data}
    fields = {}
    for name, convert in _encoders(descriptor):
        value = data.get(name)
        if value is not None:
            fields[name] = value if convert is None else convert(value, _joined(path, name))
    try:
        return GetMessageClass(descriptor)(**fields)
    except (ValueError, TypeError, OverflowError) as error:
        raise WireError(Violation(path, str(error))) from error


@cache
def _encoders(descriptor: Descriptor) -> tuple[tuple[str, _Convert | None], ...]:
    """Per field, how its JSON value is converted; None where the message takes it as it is."""
    return tuple((field.name, _encoder(field)) for field in descriptor.fields)


def _encoder(field: FieldDescriptor) -> _Convert | None:
    if _is_map(field):
        value = _encode_one(_map_value(field))
        return value and (lambda data, path: {k: value(v, f'{path}["{k}"]') for k, v in data.items()})
    one = _encode_one(field)
    if one is None or not _is_repeated(field):
        return one
    return lambda data, path: [one(v, f"{path}[{i}]") for i, v in enumerate(data)]


def _encode_one(field: FieldDescriptor) -> _Convert | None:
    if (kind := field.message_type) is None:
        return None
    if kind.full_name == Struct.DESCRIPTOR.full_name:
        return encode_struct
    if kind.full_name == Timestamp.DESCRIPTOR.full_name:
        return _encode_timestamp
    return lambda data, path: _encode_message(kind, data, path)


def _encode_timestamp(text: str, path: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.fromisoformat(text))
    return stamp


def encode_struct(data: Mapping[str, Any], path: str) -> Struct:
    return Struct(fields={k: _encode_value(v, f'{path}["{k}"]') for k, v in data.items()})


def _encode_value(data: Any, path: str) -> Value:
    if data is None:
        return Value(null_value=NULL_VALUE)
    if isinstance(data, bool):
        return Value(bool_value=data)
    if isinstance(data, str):
        return Value(string_value=data)
    if isinstance(data, int | float):
        if isinstance(data, int) and abs(data) > EXACT_MAX:
            raise WireError(Violation(path, f"{data} is not exact as a double; write it as text"))
        return Value(number_value=_finite(data, path))
    if isinstance(data, Mapping):
        return Value(struct_value=encode_struct(data, path))
    return Value(list_value=ListValue(values=[_encode_value(v, f"{path}[{i}]") for i, v in enumerate(data)]))


# From a message -------------------------------------------------------------------------------------------------------


def _decode_message(descriptor: Descriptor, message: Any, path: str) -> Any:
    data = {}
    for name, has_presence, convert in _decoders(descriptor):
        if has_presence and not message.HasField(name):
            continue
        value = getattr(message, name)
        data[name] = value if convert is None else convert(value, _joined(path, name))
    return data[_LISTS[descriptor.full_name]] if descriptor.full_name in _LISTS else data


@cache
def _decoders(descriptor: Descriptor) -> tuple[tuple[str, bool, _Convert | None], ...]:
    """Per field, whether its presence is told, and how its value becomes a JSON value."""
    return tuple((field.name, field.has_presence, _decoder(field)) for field in descriptor.fields)


def _decoder(field: FieldDescriptor) -> _Convert | None:
    if _is_map(field):
        value = _decode_one(_map_value(field))
        if value is None:
            return lambda data, path: dict(sorted(data.items()))
        return lambda data, path: {k: value(v, f'{path}["{k}"]') for k, v in sorted(data.items())}
    one = _decode_one(field)
    if not _is_repeated(field):
        return one
    if one is None:
        return lambda data, path: list(data)
    return lambda data, path: [one(v, f"{path}[{i}]") for i, v in enumerate(data)]


def _decode_one(field: FieldDescriptor) -> _Convert | None:
    if (words := field.enum_type) is not None:
        names = {number: value.name for number, value in words.values_by_number.items()}
        return lambda data, path: names.get(data, names[0])
    if (kind := field.message_type) is None:
        return None
    if kind.full_name == Struct.DESCRIPTOR.full_name:
        return decode_struct
    if kind.full_name == Timestamp.DESCRIPTOR.full_name:
        return _decode_timestamp
    return lambda data, path: _decode_message(kind, data, path)


def _decode_timestamp(stamp: Timestamp, path: str) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise WireError(Violation(path, "not an instant of the years 1 to 9999")) from error


def decode_struct(struct: Struct, path: str) -> dict[str, Any]:
    return {k: _decode_value(v, f'{path}["{k}"]') for k, v in sorted(struct.fields.items())}


def _decode_value(value: Value, path: str) -> Any:
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "string_value":
            return value.string_value
        case "number_value":
            number = _finite(value.number_value, path)
            return int(number) if number.is_integer() and abs(number) <= EXACT_MAX else number
        case "struct_value":
            return decode_struct(value.struct_value, path)
        case "list_value":
            return [_decode_value(v, f"{path}[{i}]") for i, v in enumerate(value.list_value.values)]
        case _:
            return None


# Paths and kinds ------------------------------------------------------------------------------------------------------


def _finite(number: float, path: str) -> float:
    if not math.isfinite(number):
        raise WireError(Violation(path, "not a finite number"))
    return float(number)


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _map_value(field: FieldDescriptor) -> FieldDescriptor:
    return cast(Descriptor, field.message_type).fields_by_name["value"]


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name and not name.startswith("[") else path + name


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
            inside_map = _is_map(field)
            descriptor = _map_value(field).message_type if inside_map else field.message_type
        else:
            return


# The codecs -----------------------------------------------------------------------------------------------------------

SPEC = Codec(TypeAdapter(ServiceSpec), spec_pb2.ServiceSpec)
CHOICE = Codec(TypeAdapter(AddressingChoice), outcome_pb2.AddressingChoice)
RESERVED = Codec(TypeAdapter(Reserved), outcome_pb2.Reserved)
REFUSED = Codec(TypeAdapter(Refused), outcome_pb2.Refused)
COMMITTED = Codec(TypeAdapter(Committed), outcome_pb2.Committed)
STATUS = Codec(TypeAdapter(ServiceStatus), outcome_pb2.ServiceStatus)
EVENT = Codec(TypeAdapter(Event), outcome_pb2.Event)
NOTE = Codec(TypeAdapter(CapabilityNote), note_pb2.CapabilityNote)


def parse_note(payload: str | bytes) -> CapabilityNote:
    """A note from the proto3 JSON that a verified JWS carries; fields and enum names of newer releases are passed over.
    Raises WireError."""
    message = note_pb2.CapabilityNote()
    try:
        json_format.Parse(payload, message, ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(Violation("", f"not proto3 JSON of a note: {error}")) from error
    return NOTE.decode(message)
