"""From a gRPC status to the one error that a person sees, and its exit code.

Rules kept here
- What the provider says (google.rpc.ErrorInfo, BadRequest, RetryInfo) comes first; the transport's words only where it
  could not be reached, and then in plain ones: unknown host, refused connection, certificate of another authority.
- A call that was not answered may have had its effect: whoever made one that has effects says how to ask again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault

_TRANSPORT = (
    ("DNS resolution failed", "there is no host of this name"),
    ("errors resolving", "there is no host of this name"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not under the CA that you trust for it"),
    ("is not in peer certificate", "its certificate is for another name"),
    ("WRONG_VERSION_NUMBER", "what listens there does not speak TLS"),
    ("empty address list", "the CA is not a certificate in PEM"),
    ("Connection refused", "nothing listens there"),
    ("Socket closed", "it closed the connection: perhaps it wants a client certificate"),
)


@dataclass(frozen=True, slots=True)
class Status:
    """A failed call: the gRPC code's name, the message, and what the details say. `violations` are (field, reason);
    `retry_after_s`: in how many seconds it is worth making again."""

    code: str
    message: str
    reason: str = ""
    violations: tuple[tuple[str, str], ...] = ()
    retry_after_s: float | None = None

    @property
    def turned_away(self) -> bool:
        """Whether the provider has too much to do, and has not looked at the call."""
        return self.code == "RESOURCE_EXHAUSTED" and self.reason == "OVERLOADED"

    @classmethod
    def of(cls, error: Any) -> Status:
        """Of a grpc.RpcError that ended a call."""
        reason, violations, retry_after_s = "", [], None
        status = status_pb2.Status()
        try:
            for key, value in error.trailing_metadata() or ():
                if key == "grpc-status-details-bin":
                    status.ParseFromString(value)
            for detail in status.details:
                info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
                retry = error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    reason = info.reason
                elif detail.Unpack(bad):
                    violations = [(v.field, v.description) for v in bad.field_violations]
                elif detail.Unpack(retry):
                    retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        except DecodeError:
            reason = ""  # details that cannot be read add nothing; the code still counts
        return cls(error.code().name, error.details() or "", reason, tuple(violations), retry_after_s)


def fault_of(status: Status, endpoint: str, log_in_again: str) -> Fault:
    """What a person sees of a call to `endpoint` that ended with `status`."""
    match status.code:
        case "UNAUTHENTICATED":
            hint = "" if status.reason == "CREDENTIALS_REFUSED" else f"log in again: {log_in_again}"
            return _fault(Exit.NOT_ALLOWED, f"{endpoint} does not let you in: {status.message}", status, hint)
        case "PERMISSION_DENIED":
            return _fault(Exit.NOT_ALLOWED, f"you may not do this: {status.message}", status)
        case "NOT_FOUND":
            return _fault(Exit.NOT_FOUND, status.message, status)
        case "INVALID_ARGUMENT":
            details = tuple(f"{field or 'request'}: {reason}" for field, reason in status.violations)
            if len(details) == 1:
                return Fault(Exit.WRONG_INPUT, details[0], kind=status.reason)
            message = "the request is wrong" if details else status.message
            return Fault(Exit.WRONG_INPUT, message, details=details, kind=status.reason)
        case "RESOURCE_EXHAUSTED" if status.turned_away:
            message = f"{endpoint} has too much to do and turned the call away: nothing was done"
            return _fault(Exit.UNREACHABLE, message, status, "ask again later")
        case "RESOURCE_EXHAUSTED":
            return _fault(Exit.REFUSED, status.message, status)
        case "UNIMPLEMENTED":
            return _fault(Exit.REFUSED, f"{endpoint} does not offer this", status)
        case "UNAVAILABLE" if status.reason:
            return _fault(Exit.UNREACHABLE, f"{endpoint}: {status.message}", status)
        case "UNAVAILABLE":
            plain = next((text for sign, text in _TRANSPORT if sign in status.message), status.message)
            return _fault(Exit.UNREACHABLE, f"cannot reach {endpoint}: {plain}", status)
        case "DEADLINE_EXCEEDED":
            return _fault(Exit.UNREACHABLE, f"{endpoint} did not answer in time", status)
    return _fault(Exit.UNEXPECTED, f"{endpoint}: {status.message or status.code}", status)


def _fault(exit_code: Exit, message: str, status: Status, hint: str = "") -> Fault:
    return Fault(exit_code, message, hint=hint, kind=status.reason or status.code)
