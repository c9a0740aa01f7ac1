"""Plain JSON values as google.protobuf.Struct, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

from lower_sp_clients.wire.errors import Violation, WireError

EXACT_MAX = 1 << 53
"""Above it, an integer is not exact as a double, which is what a Struct holds."""


def encode_struct(data: Mapping[str, Any], path: str = "") -> Struct:
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


def decode_struct(struct: Struct, path: str = "") -> dict[str, Any]:
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


def _finite(number: float, path: str) -> float:
    if not math.isfinite(number):
        raise WireError(Violation(path, "not a finite number"))
    return float(number)
