"""One thing that is wrong with a spec: where, and why in words for whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """`field` is a path in the spec, as `("links", 2, "points", 0)`; `reason` names the culprit."""

    field: Path
    reason: str
