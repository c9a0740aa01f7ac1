"""What kinds of fields the messages have, and which messages stand for plain values."""

from __future__ import annotations

from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor

LABELS, PREFIXES, RANGE = "spbroker.v1.LabelSet", "spbroker.v1.PrefixList", "spbroker.v1.LabelRange"
LISTS = {LABELS: "ranges", PREFIXES: "prefixes"}
"""Messages that are plain lists in the domain types: a list in a map, or one that may be absent, needs a message."""


def is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def map_value(field: FieldDescriptor) -> FieldDescriptor:
    return cast(Descriptor, field.message_type).fields_by_name["value"]
