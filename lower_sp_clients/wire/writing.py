"""From a dataclass of the model to a message, by the message's descriptor.

Rules kept here
- A field of the message takes the attribute of the same name. None is not written; neither is zero where the message
  does not tell presence, for zero is what is read there.
- Amounts, addresses, prefixes and function types are texts, instants are Timestamps, sets of labels are ranges.
- A converter takes the value alone: who calls it adds the path to what is wrong, so that good values pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from address_planner.labels import LabelSet
from lower_sp_clients.wire import kinds
from lower_sp_clients.wire.errors import Violation, WireError
from lower_sp_clients.wire.structs import encode_struct

Write = Callable[[Any], Any]


@cache
def writer(descriptor: Descriptor) -> Write:
    """What makes a message of this kind from its value. It raises WireError."""
    make = GetMessageClass(descriptor)
    if descriptor.full_name == kinds.RANGE:
        return lambda bounds: make(first=bounds[0], last=bounds[1])
    if descriptor.full_name == kinds.LABELS:
        ranges = _each(writer(descriptor.fields_by_name["ranges"].message_type))
        return lambda labels: make(ranges=ranges(labels))
    if descriptor.full_name == kinds.PREFIXES:
        return lambda prefixes: make(prefixes=list(map(str, prefixes)))
    if descriptor.full_name == Struct.DESCRIPTOR.full_name:
        return encode_struct
    if descriptor.full_name == Timestamp.DESCRIPTOR.full_name:
        return _timestamp
    fields: list[tuple[str, bool, Write | None]] = []  # filled at the first message: messages may hold their own kind

    def write(value: Any) -> Any:
        if not fields:
            fields.extend((field.name, field.has_presence, _field(field)) for field in descriptor.fields)
        given = {}
        for name, has_presence, convert in fields:
            one = getattr(value, name)
            if one is None or not (one or has_presence):
                continue
            if convert is not None:
                try:
                    one = convert(one)
                except WireError as error:
                    raise error.under(name) from error
            given[name] = one
        try:
            return make(**given)
        except (ValueError, TypeError, OverflowError) as error:
            raise WireError(Violation("", str(error))) from error

    return write


def _field(field: FieldDescriptor) -> Write | None:
    """How the value of a field is converted; None where the message takes it as it is."""
    if kinds.is_map(field):
        value = _one(kinds.map_value(field))
        return value and _values(value)
    one = _one(field)
    return _each(one) if one is not None and kinds.is_repeated(field) else one


def _one(field: FieldDescriptor) -> Write | None:
    if (kind := field.message_type) is not None:
        return writer(kind)
    return _text if field.type == FieldDescriptor.TYPE_STRING else None


def _each(one: Write) -> Write:
    def write(values: Iterable[Any]) -> list[Any]:
        out: list[Any] = []
        try:
            for value in values.ranges if isinstance(values, LabelSet) else values:
                out.append(one(value))
        except WireError as error:
            raise error.under(f"[{len(out)}]") from error
        return out

    return write


def _values(one: Write) -> Write:
    def write(values: Mapping[str, Any]) -> dict[str, Any]:
        out = {}
        for key, value in values.items():
            try:
                out[key] = one(value)
            except WireError as error:
                raise error.under(f'["{key}"]') from error
        return out

    return write


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _timestamp(instant: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp
