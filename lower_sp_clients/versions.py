"""What a (ref, version, body) means to a supplier that has seen some before: one table for every implementation. The body
is the spec and the quote that it is ordered by.

| known of this ref                     | the call                    | verdict |
|---------------------------------------|-----------------------------|---------|
| nothing                               | any version                 | FRESH |
| v was refused                         | v, same body                | REPEAT: the recorded refusal |
| v was refused                         | v, another body             | refuse KEY_REUSED |
| terminated, failed or stuck           | any other                   | refuse VERSION_RELEASED |
| released up to r                      | version <= r                | refuse VERSION_RELEASED |
| version v                             | v, same body                | REPEAT: the recorded answer |
| version v                             | v, another body             | refuse KEY_REUSED |
| version v                             | < v                         | refuse VERSION_CONFLICT |
| version v, committed or live          | > v                         | refuse MODIFICATION_NOT_OFFERED |
| version v, held, refused or expired   | > v                         | REPLACE: the hold, if there is one, gives way |
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from service_model.outcomes import Reason, ReasonCode, ServiceState
from service_model.spec import ServiceSpec

LIVE = frozenset({ServiceState.COMMITTING, ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.DEGRADED})
OVER = frozenset({ServiceState.TERMINATING, ServiceState.TERMINATED, ServiceState.FAILED, ServiceState.STUCK})


def body(spec: ServiceSpec, quote: str) -> str:
    """What stands for the body of a request."""
    return hashlib.sha256(f"{spec.digest()} {quote}".encode()).hexdigest() if quote else spec.digest()


class Verdict(Enum):
    FRESH = "fresh"
    REPEAT = "repeat"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is recorded of a ref. `version` 0: only a tombstone; `released_upto` 0: nothing was released."""

    version: int
    digest: str
    state: ServiceState
    released_upto: int = 0
    refused: Mapping[int, str] = field(default_factory=dict)
    """Versions that were refused, with the digest of what they asked for."""


def judge(known: Known | None, version: int, digest: str) -> Verdict | Reason:
    """The verdict of the table above; a Reason is a refusal."""

    def refuse(code: ReasonCode, message: str) -> Reason:
        return Reason(code=code, message=message, subject="version")

    if known is None:
        return Verdict.FRESH
    if version in known.refused:
        if digest == known.refused[version]:
            return Verdict.REPEAT
        return refuse(ReasonCode.KEY_REUSED, f"version {version} was used for another request")
    if known.state in OVER:
        return refuse(ReasonCode.VERSION_RELEASED, "this service was terminated")
    if version <= known.released_upto:
        return refuse(ReasonCode.VERSION_RELEASED, f"version {version} was released")
    if known.version == 0:
        return Verdict.FRESH
    if version == known.version:
        if digest == known.digest:
            return Verdict.REPEAT
        return refuse(ReasonCode.KEY_REUSED, f"version {version} was used for another request")
    if version < known.version:
        return refuse(ReasonCode.VERSION_CONFLICT, f"version {version} is older than {known.version}")
    if known.state in LIVE:
        return refuse(ReasonCode.MODIFICATION_NOT_OFFERED, "this service is live; changing it is not offered")
    return Verdict.REPLACE
