"""One thing wrong with one administered document, and the reading of a document that finds them.

Rules kept here
- A problem names the document by kind and name, and the field by its path; its text is `field: reason`.
- Everything wrong with a document is told at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from broker.settings.administered import TYPES, Document
from service_model.yaml_faults import document_errors
from service_model.yaml_lines import Document as Lined
from service_model.yaml_lines import Path

_ADAPTERS: Mapping[str, TypeAdapter[Document]] = {kind: TypeAdapter(type) for kind, type in TYPES.items()}
_NOWHERE = (1, 1)


@dataclass(frozen=True, slots=True)
class Problem:
    """`field` is a path like `saps[2].interconnect`; empty for the document as a whole."""

    kind: str
    name: str
    field: str
    reason: str

    @property
    def text(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


def key_of(data: Mapping[str, Any]) -> tuple[str, str]:
    """Kind and name as far as the data has them as text."""
    kind, name = (data.get(word) for word in ("kind", "name"))
    return kind if isinstance(kind, str) else "", name if isinstance(name, str) else ""


def read(data: Mapping[str, Any]) -> Document | tuple[Problem, ...]:
    """The document in `data`, or everything that is wrong with it."""
    errors = faults(Lined("", data, _positions(data)))
    if isinstance(errors, tuple):
        kind, name = key_of(data)
        return tuple(Problem(kind, name, field, reason) for field, reason in errors)
    return errors


def faults(lined: Lined) -> Document | tuple[tuple[str, str], ...]:
    """The document in `lined`, or (field, reason) of everything that is wrong."""
    kind = lined.data.get("kind") if isinstance(lined.data, Mapping) else None
    if not isinstance(kind, str) or kind not in _ADAPTERS:
        known = ", ".join(_ADAPTERS)
        return (
            ("kind", f"not one of {known}" if kind is not None else f"a required field is missing: one of {known}"),
        )
    try:
        return _ADAPTERS[kind].validate_python(lined.data)
    except ValidationError as error:
        return tuple((e.field, e.reason) for e in document_errors(error, lined))


def _positions(data: Any) -> dict[Path, tuple[int, int]]:
    """Every path of plain data, so that errors about it find their field; there are no lines."""
    found: dict[Path, tuple[int, int]] = {}
    waiting: list[tuple[Path, Any]] = [((), data)]
    while waiting:
        path, value = waiting.pop()
        found[path] = _NOWHERE
        if isinstance(value, Mapping):
            waiting.extend(((*path, key), child) for key, child in value.items())
        elif isinstance(value, list | tuple):
            waiting.extend(((*path, index), child) for index, child in enumerate(value))
    return found
