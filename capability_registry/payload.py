"""Between a note and the payload of its JWS.

Rules kept here
- A payload is one JSON object in UTF-8: no member twice, no NaN, not nested deeper than MAX_DEPTH.
- What reads as a note that we would write in the very same bytes is that note: there is nothing else in it to look at.
- Any other payload is judged before anything is built of it, and left to `tolerant`, which reads all that proto3 JSON
  allows (other names and spellings, members and words of newer releases) and takes four to twelve times as long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from capability_registry.note import NOTE, CapabilityNote

MAX_DEPTH = 16

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A string, or what is left from its beginning where it does not end: no byte is looked at twice."""
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def write(note: CapabilityNote) -> bytes:
    """The note as proto3 JSON; what is as by default is left out."""
    return NOTE.dump_json(note, exclude_defaults=True)


def read(payload: bytes, tolerant: Callable[[bytes], CapabilityNote]) -> CapabilityNote:
    """The note. Raises ValueError for what is none."""
    with suppress(ValidationError):
        note = NOTE.validate_json(payload)
        if write(note) == payload:
            return note
    _check_depth(payload)
    try:
        value = json.loads(payload.decode("utf-8"), object_pairs_hook=_members, parse_constant=_no_constant)
    except RecursionError:  # more of the stack is in use than a note needs
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return tolerant(payload)


def _check_depth(payload: bytes) -> None:
    """Brackets outside strings, at most MAX_DEPTH open at once. Each round takes the innermost away. Raises ValueError."""
    left = _STRING.sub(b"", payload).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        left = left.replace(b"[]", b"")
    if left:
        raise ValueError(f"nested deeper than {MAX_DEPTH}, or brackets that do not match")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"member {next(n for n in names if names.count(n) > 1)!r} appears twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
