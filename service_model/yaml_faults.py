"""What pydantic found wrong in a document, as errors with the line that a person must change.

Rules kept here
- An error stands at the nearest path that the document has; a missing field at the mapping that lacks it.
- What a union's members say about one value is one error.
- Names in our own enums are shown in their short form (`LAN`, not `LINK_KIND_LAN`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from service_model.yaml_lines import Document, DocumentError, Path

_QUOTED = re.compile(r"'([^']*)'")
_NAMES = "^[A-Za-z0-9](?:"
"""How the patterns of names begin."""
_UNKNOWN = {"unexpected_keyword_argument", "extra_forbidden"}
_MISSING = {"missing", "missing_argument", "missing_keyword_only_argument"}


def document_errors(
    error: ValidationError, document: Document, origin: Callable[[Path], Path] = lambda path: path
) -> tuple[DocumentError, ...]:
    """`error` about the data of `document`, in its order.

    `origin` leads from a path in the validated data to the one in the document, where they differ.
    """
    found: dict[Path, dict[str, str]] = {}
    for item in error.errors(include_url=False):
        path = _path(item["loc"], item["type"], document, origin)
        if item["type"] == "too_short" and any(known[: len(path)] == path for known in found):
            continue  # its items were refused one by one
        found.setdefault(path, {}).setdefault(item["type"], _reason(item))
    return tuple(document.error(path, _together(reasons)) for path, reasons in found.items())


def _path(loc: Path, kind: str, document: Document, origin: Callable[[Path], Path]) -> Path:
    """`loc` without the names of union members that pydantic puts in it."""
    path: Path = ()
    for part in loc:
        if origin((*path, part)) in document.positions:
            path = (*path, part)
    if kind in _MISSING and path != loc:
        return (*origin(path), loc[-1])
    return origin(path)


def _reason(item: Mapping[str, Any]) -> str:
    kind: str = item["type"]
    if kind in _UNKNOWN:
        return "unknown field"
    if kind in _MISSING:
        return "a required field is missing"
    if kind == "enum":
        return f"not one of {_short(_QUOTED.findall(item['ctx']['expected']))}"
    if kind == "string_pattern_mismatch":
        given, pattern = repr(str(item["input"])[:80]), item["ctx"]["pattern"]
        if pattern.startswith(_NAMES):
            return f"{given} is not a name: letters, digits, dot, underscore and hyphen"
        return f"{given} does not have the form {pattern}"
    if kind == "too_short":
        return f"needs at least {item['ctx']['min_length']}"
    if kind in ("dataclass_type", "dataclass_exact_type"):
        return "a mapping of fields belongs here"
    message: str = item["msg"]
    return message.removeprefix("Value error, ").replace("Input ", "it ").replace(" after validation", "")


def _short(names: list[str]) -> str:
    prefix = names[0] if names else ""
    while prefix and not all(name.startswith(prefix + "_") for name in names):
        prefix = prefix.rpartition("_")[0]
    short = [name.removeprefix(prefix).removeprefix("_") for name in names]
    return ", ".join(name for name in short if name != "UNSPECIFIED")


def _together(reasons: Mapping[str, str]) -> str:
    return " or ".join(dict.fromkeys(reasons.values()))
