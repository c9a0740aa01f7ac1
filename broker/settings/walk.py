"""The fields of a document by their paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from service_model.words import Word
from service_model.yaml_lines import Path, field_text


def unspecified(value: Any) -> tuple[str, ...]:
    """The paths at which a value of an enum was not named (`UNSPECIFIED` is for what partners do not say)."""
    return tuple(
        field_text(path) for path, leaf in leaves(value) if isinstance(leaf, Word) and leaf.name == "UNSPECIFIED"
    )


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Everything in `value` that has no parts, with its path; an empty mapping or sequence counts as such."""
    if is_dataclass(value) and not isinstance(value, type):
        parts: list[tuple[str | int, Any]] = [(f.name, getattr(value, f.name)) for f in fields(value)]
    elif isinstance(value, Mapping):
        parts = list(value.items())
    elif isinstance(value, list | tuple):
        parts = list(enumerate(value))
    else:
        parts = []
    if not parts:
        yield path, value
    for key, part in parts:
        yield from leaves(part, (*path, key))
