"""What can be wrong with a call itself, as opposed to a refusal, which is an answer.

    WrongCall
    +-- AuthError             who is calling is not known, or may not do this
    +-- Throttled             too many calls
    +-- RequestTooLarge
    +-- PageTokenInvalid
    ShuttingDown              the call is not wrong: the node is going away

`status.py` turns each into what the caller sees; so it does with `WireError`, `AccountNotFound`,
`ServiceNotFound`, `ReadOnly`, `NotRecorded`, `Overloaded` and `OutcomeUnknown`.
"""

from __future__ import annotations

from enum import StrEnum


class AuthReason(StrEnum):
    """Public: never renamed, only added."""

    TOKEN_MISSING = "TOKEN_MISSING"  # noqa: S105  a reason, no password
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105
    CREDENTIALS_REFUSED = "CREDENTIALS_REFUSED"
    ACCOUNT_DISABLED = "ACCOUNT_DISABLED"
    ROLE_REQUIRED = "ROLE_REQUIRED"


class WrongCall(Exception):
    """The caller has to call differently, or later; the message is for the caller."""


class AuthError(WrongCall):
    """The message does not say whether an account exists, and never quotes a token or a password."""

    def __init__(self, reason: AuthReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Throttled(WrongCall):
    """Too many calls; worth trying again after so many seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many calls: try again in {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class RequestTooLarge(WrongCall):
    """Sizes in bytes."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the request has {size} bytes, at most {limit} are accepted")
        self.size, self.limit = size, limit


class PageTokenInvalid(WrongCall):
    def __init__(self) -> None:
        super().__init__("page_token is not one that this service gave out: begin with the first page")


class ShuttingDown(Exception):
    """The node ends its streams before it stops."""

    def __init__(self) -> None:
        super().__init__("this node is shutting down: connect again")
