"""The exit codes of `spbroker`, in one table: public, never renumbered."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    OK = 0
    UNEXPECTED = 1
    WRONG_INPUT = 2
    ENVIRONMENT_MISSING = 3
    NOT_ALLOWED = 4
    REFUSED = 5
    NOT_FOUND = 6
    UNREACHABLE = 7
    FAILED = 8
    INTERRUPTED = 130


MEANING: dict[Exit, str] = {
    Exit.OK: "done",
    Exit.UNEXPECTED: "an error that is ours: please report it",
    Exit.WRONG_INPUT: "wrong usage or input; named as file:line: field: reason",
    Exit.ENVIRONMENT_MISSING: "this machine lacks something that the command needs",
    Exit.NOT_ALLOWED: "not logged in, the login has expired, or not permitted",
    Exit.REFUSED: "refused by the provider; the reasons are shown",
    Exit.NOT_FOUND: "there is no such service, account or profile",
    Exit.UNREACHABLE: "the provider cannot be reached or trusted, or did not answer",
    Exit.FAILED: "the service failed, or did not get there in time",
    Exit.INTERRUPTED: "interrupted from the keyboard",
}


def table() -> list[tuple[str, str]]:
    """Rows of code and meaning, for `--help` and the documentation."""
    return [(str(code.value), meaning) for code, meaning in MEANING.items()]
