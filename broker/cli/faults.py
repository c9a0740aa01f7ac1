"""What ends a command: one error, for people, with its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.cli.exit_codes import Exit

if TYPE_CHECKING:
    from service_model.outcomes import Reason


class Fault(Exception):
    """`details` are lines below the message, or stand alone; `reasons` a provider's refusal, shown as a tree; `hint` what to do.

    `kind` tells programs within the command line which fault it is: the reason of the API's ErrorInfo, or empty.
    """

    def __init__(
        self,
        exit_code: Exit,
        message: str,
        *,
        details: tuple[str, ...] = (),
        reasons: tuple[Reason, ...] = (),
        hint: str = "",
        kind: str = "",
    ) -> None:
        super().__init__(message)
        self.exit_code, self.message, self.details = exit_code, message, details
        self.reasons, self.hint, self.kind = reasons, hint, kind


class WrongInput(Fault):
    """What somebody gave is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(Exit.WRONG_INPUT, message)


class WrongFile(Fault):
    """What somebody wrote in a file is wrong; each line is `file:line: field: reason`, for people and for editors."""

    def __init__(self, *lines: str, hint: str = "") -> None:
        super().__init__(Exit.WRONG_INPUT, "", details=lines, hint=hint)
