"""What is wrong with a message or a value, by its path in the words of the message (`ends[0].labels`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One culprit: `path` in the words of the message (`ends[0].labels`, `parameters["rules"]`), and what is wrong."""

    path: str
    reason: str


class WireError(ValueError):
    """A message or value that has no counterpart on the other side."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{v.path or 'message'}: {v.reason}" for v in violations))
        self.violations = violations

    def under(self, path: str) -> WireError:
        """The same, seen from a message that has this one in its field `path`."""
        return WireError(*(Violation(joined(path, v.path), v.reason) for v in self.violations))


def joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name and not name.startswith("[") else path + name
