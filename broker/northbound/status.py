"""The one table from what went wrong to what the caller sees: a gRPC code, and google.rpc details.

Rules kept here
- Every status has an ErrorInfo with a reason of this file and the domain `spbroker`. Reasons are public and never change.
- A wrong field is named by its path (BadRequest); when to try again is said (RetryInfo).
- What is not in the table is our fault: INTERNAL with an incident id, the cause goes to the log only.
- RESOURCE_EXHAUSTED with RetryInfo says that this call had no effect.
- Clients treat UNAVAILABLE and INTERNAL as an unknown outcome, so nothing that was plainly refused is mapped to them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from broker.accounts.admin_port import AccountNotFound
from broker.northbound.wrong_calls import (
    AuthError,
    AuthReason,
    PageTokenInvalid,
    RequestTooLarge,
    ShuttingDown,
    Throttled,
)
from lower_sp_clients.supplier import NotRecorded, OutcomeUnknown, Overloaded, ReadOnly, ServiceNotFound
from lower_sp_clients.wire import Violation, WireError

DOMAIN = "spbroker"
DETAILS_KEY = "grpc-status-details-bin"

log = structlog.get_logger(__name__)
Code = grpc.StatusCode


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStatus:
    code: Any
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after_s: float | None = None

    def details(self) -> bytes:
        """The serialized google.rpc.Status."""
        parts: list[Any] = [error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)]
        if self.violations:
            fields = [
                error_details_pb2.BadRequest.FieldViolation(field=v.path, description=v.reason) for v in self.violations
            ]
            parts.append(error_details_pb2.BadRequest(field_violations=fields))
        if self.retry_after_s is not None:
            delay = Duration()
            delay.FromTimedelta(timedelta(seconds=self.retry_after_s))
            parts.append(error_details_pb2.RetryInfo(retry_delay=delay))
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for part in parts:
            packed = AnyMessage()
            packed.Pack(part)
            status.details.append(packed)
        serialized: bytes = status.SerializeToString()
        return serialized


def status_of(error: Exception) -> CallStatus:
    """What the caller sees of `error`."""
    message = str(error)
    match error:
        case AuthError(reason=AuthReason.ROLE_REQUIRED):
            return CallStatus(code=Code.PERMISSION_DENIED, reason=error.reason, message=message)
        case AuthError():
            return CallStatus(code=Code.UNAUTHENTICATED, reason=error.reason, message=message)
        case Throttled():
            return CallStatus(
                code=Code.RESOURCE_EXHAUSTED,
                reason="TOO_MANY_REQUESTS",
                message=message,
                retry_after_s=error.retry_after_s,
            )
        case Overloaded():
            return CallStatus(
                code=Code.RESOURCE_EXHAUSTED, reason="OVERLOADED", message=message, retry_after_s=error.retry_after_s
            )
        case RequestTooLarge():
            sizes = {"size_bytes": str(error.size), "limit_bytes": str(error.limit)}
            return CallStatus(code=Code.INVALID_ARGUMENT, reason="REQUEST_TOO_LARGE", message=message, metadata=sizes)
        case WireError():
            return CallStatus(
                code=Code.INVALID_ARGUMENT, reason="INVALID_REQUEST", message=message, violations=error.violations
            )
        case PageTokenInvalid():
            culprit = (Violation("page_token", message),)
            return CallStatus(
                code=Code.INVALID_ARGUMENT, reason="PAGE_TOKEN_INVALID", message=message, violations=culprit
            )
        case ServiceNotFound():
            return CallStatus(
                code=Code.NOT_FOUND, reason="SERVICE_NOT_FOUND", message="you have no service with this ref"
            )
        case AccountNotFound():
            return CallStatus(code=Code.NOT_FOUND, reason="ACCOUNT_NOT_FOUND", message=message)
        case ShuttingDown():
            return CallStatus(code=Code.UNAVAILABLE, reason="SHUTTING_DOWN", message=message)
        case ReadOnly():
            return CallStatus(code=Code.UNAVAILABLE, reason="READ_ONLY", message=message)
        case NotRecorded():
            log.error("call_not_recorded", error=message)
            return CallStatus(
                code=Code.UNAVAILABLE,
                reason="STORE_UNAVAILABLE",
                message="this node cannot use its store at the moment: ask again with the same ref and version",
            )
        case OutcomeUnknown():
            return CallStatus(
                code=Code.UNAVAILABLE,
                reason="OUTCOME_UNKNOWN",
                message="the outcome is not known yet: ask again with the same ref and version",
            )
    incident = uuid.uuid4().hex
    log.error("call_failed", incident_id=incident, exc_info=error)
    return CallStatus(
        code=Code.INTERNAL,
        reason="INTERNAL",
        message=f"an error of this node, incident {incident}",
        metadata={"incident_id": incident},
    )


async def abort(context: Any, error: Exception) -> NoReturn:
    """Ends the call of a grpc.aio servicer context with the status of `error`."""
    status = status_of(error)
    await context.abort(status.code, status.message[:2000], ((DETAILS_KEY, status.details()),))
    raise AssertionError("abort returned")
