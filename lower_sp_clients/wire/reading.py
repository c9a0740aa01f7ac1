"""From a message to the plain JSON value that its dataclass is validated from, by the message's descriptor.

Rules kept here
- A field with presence that is not set is left to the default of the dataclass; one without presence is its zero.
- A map has no order on the wire; what is read is ordered by key, so the same message always gives the same value.
- An enum number of a newer release is read as UNSPECIFIED, an unknown field is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from lower_sp_clients.wire import kinds
from lower_sp_clients.wire.errors import Violation, WireError
from lower_sp_clients.wire.structs import decode_struct

Read = Callable[[Any], Any]


@cache
def reader(descriptor: Descriptor) -> Read:
    """What makes a plain value of a message of this kind. It raises WireError."""
    if descriptor.full_name == Struct.DESCRIPTOR.full_name:
        return decode_struct
    if descriptor.full_name == Timestamp.DESCRIPTOR.full_name:
        return _instant
    listed = kinds.LISTS.get(descriptor.full_name)
    fields: list[tuple[str, bool, Read | None]] = []  # filled at the first message: messages may hold their own kind

    def read(message: Any) -> Any:
        if not fields:
            fields.extend((field.name, field.has_presence, _field(field)) for field in descriptor.fields)
        data = {}
        for name, has_presence, convert in fields:
            if has_presence and not message.HasField(name):
                continue
            value = getattr(message, name)
            if convert is not None:
                try:
                    value = convert(value)
                except WireError as error:
                    raise error.under(name) from error
            data[name] = value
        return data if listed is None else data[listed]

    return read


def _field(field: FieldDescriptor) -> Read | None:
    """How the value of a field becomes a plain one; None where it is."""
    if kinds.is_map(field):
        return _values(_one(kinds.map_value(field)))
    one = _one(field)
    if not kinds.is_repeated(field):
        return one
    return list if one is None else _each(one)


def _one(field: FieldDescriptor) -> Read | None:
    if (words := field.enum_type) is not None:
        names = {number: value.name for number, value in words.values_by_number.items()}
        return lambda number: names.get(number, names[0])
    return reader(field.message_type) if field.message_type is not None else None


def _each(one: Read) -> Read:
    def read(values: Iterable[Any]) -> list[Any]:
        out: list[Any] = []
        try:
            for value in values:
                out.append(one(value))
        except WireError as error:
            raise error.under(f"[{len(out)}]") from error
        return out

    return read


def _values(one: Read | None) -> Read:
    def read(values: Mapping[str, Any]) -> dict[str, Any]:
        out = {}
        for key in sorted(values):
            try:
                out[key] = values[key] if one is None else one(values[key])
            except WireError as error:
                raise error.under(f'["{key}"]') from error
        return out

    return read


def _instant(stamp: Timestamp) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise WireError(Violation("", "not an instant of the years 1 to 9999")) from error
