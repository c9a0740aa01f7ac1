"""The JSON of a value that is written again and again while little of it changes.

The parts of an order (its spec, its plan, each segment) are frozen values: one that is the same object as at the last
writing has the same JSON. What comes out is what the type's own adapter would write, the fields in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from pydantic_core import CoreSchema, SchemaSerializer

T = TypeVar("T")
Written = dict[int, tuple[Any, bytes]]
"""By identity of a part, the part (so that the identity stays its own) and its JSON."""
_Write = Callable[[Any, Written, Written], bytes]


class Recent:
    """What was written last of each of the values that are being worked on, at most so many."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._written: dict[str, Written] = {}

    def turn(self, key: str, *, last: bool) -> tuple[Written, Written]:
        """Of that value, what was written last and where to put what is written now; of its `last` writing nothing is kept."""
        former, now = self._written.pop(key, {}), Written()
        if not last:
            self._written[key] = now
            while len(self._written) > self._most:
                del self._written[next(iter(self._written))]
        return former, now


class Pieces(Generic[T]):
    """Writes values of the dataclass `kind` with defaults left out. `parts` names the fields that are kept as pieces,
    each with how it is written, None for as its type says."""

    def __init__(self, kind: type[T], parts: Mapping[str, _Write | None]) -> None:
        known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
        self._whole: TypeAdapter[T] = TypeAdapter(kind)
        schemas = _schemas(self._whole.core_schema)
        self._left_out = set(parts)
        self._parts = [
            (name, b',"%s":' % name.encode(), _default(known[name]), write or _by(SchemaSerializer(schemas[name])))
            for name, write in parts.items()
        ]

    def write(self, value: T, former: Written, now: Written) -> bytes:
        """The JSON. `former` is what the last writing left in `now`."""
        out = [self._whole.dump_json(value, exclude_defaults=True, exclude=self._left_out)[:-1]]
        for name, key, default, write in self._parts:
            part = getattr(value, name)
            if part is default or part == default:
                continue
            out += (key, _kept(part, write, former, now))
        if out[0] == b"{" and len(out) > 1:
            out[1] = out[1][1:]
        return b"".join(out) + b"}"


def each(pieces: Pieces[Any]) -> _Write:
    """A tuple of values that are pieces themselves."""

    def write(values: Any, former: Written, now: Written) -> bytes:
        return b"[" + b",".join(_kept(v, pieces.write, former, now) for v in values) + b"]"

    return write


def _kept(part: Any, write: _Write, former: Written, now: Written) -> bytes:
    known = now.get(id(part)) or former.get(id(part))
    if known is None:
        known = (part, write(part, former, now))
    now[id(part)] = known
    return known[1]


def _schemas(whole: Any) -> dict[str, CoreSchema]:
    """Of each field of a dataclass its part of the schema: making an adapter from its type anew takes fifty times as long."""
    definitions: list[Any] = []
    while whole["type"] != "dataclass-args":
        if whole["type"] == "definitions":
            definitions = whole["definitions"]
        if whole["type"] == "definition-ref":
            whole = next(d for d in definitions if d["ref"] == whole["schema_ref"])
        else:
            whole = whole["schema"]
    return {
        field["name"]: {"type": "definitions", "schema": field["schema"], "definitions": definitions}
        for field in whole["fields"]
    }


def _by(serializer: SchemaSerializer) -> _Write:
    return lambda part, former, now: serializer.to_json(part, exclude_defaults=True)


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default
