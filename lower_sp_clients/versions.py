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
| version v, held, refused or expired   | > v                         | REPLACE: the hold, if there is one, gives way |
| version v, being committed            | > v                         | refuse MODIFICATION_NOT_OFFERED, for now |
| version v, being healed               | > v                         | refuse MODIFICATION_NOT_OFFERED, for now |
| version v, committed or live          | > v                         | MODIFY: beside v, whose resources it counts as its own |
| w beside v: held, expired             | w, same body                | REPEAT: the recorded answer |
| w beside v: held, expired             | w, another body             | refuse KEY_REUSED |
| w beside v: held, expired             | between v and w             | refuse VERSION_CONFLICT |
| w beside v: being committed           | > w                         | refuse MODIFICATION_NOT_OFFERED, for now |
| w beside v: held, expired             | > w                         | MODIFY: w gives way, v stays |

What is live is never released: of a live v, "released up to r" counts for the versions after v alone.
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
    MODIFY = "modify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is recorded of a ref. `version` 0: only a tombstone; `released_upto` 0: nothing was released; `beside`: the newer
    version beside a live one, whose own `released_upto` and `refused` say nothing; `healing`: whether it is just being healed,
    under the same version."""

    version: int
    digest: str
    state: ServiceState
    released_upto: int = 0
    refused: Mapping[int, str] = field(default_factory=dict)
    """Versions that were refused, with the digest of what they asked for."""
    beside: Known | None = None
    healing: bool = False


def judge(known: Known | None, version: int, digest: str) -> Verdict | Reason:
    """The verdict of the table above; a Reason is a refusal."""

    def refuse(code: ReasonCode, message: str) -> Reason:
        return Reason(code=code, message=message, subject="version")

    def same(of: Known) -> Verdict | Reason:
        if digest == of.digest:
            return Verdict.REPEAT
        return refuse(ReasonCode.KEY_REUSED, f"version {version} was used for another request")

    if known is None:
        return Verdict.FRESH
    if version in known.refused:
        if digest == known.refused[version]:
            return Verdict.REPEAT
        return refuse(ReasonCode.KEY_REUSED, f"version {version} was used for another request")
    if known.state in OVER:
        return refuse(ReasonCode.VERSION_RELEASED, "this service was terminated")
    live = known.state in LIVE
    if live and version == known.version:
        return same(known)
    if live and version < known.version:
        return refuse(ReasonCode.VERSION_CONFLICT, f"version {version} is older than {known.version}")
    if version <= known.released_upto:
        return refuse(ReasonCode.VERSION_RELEASED, f"version {version} was released")
    if known.version == 0:
        return Verdict.FRESH
    latest = known.beside or known
    if version == latest.version:
        return same(latest)
    if version < latest.version:
        return refuse(ReasonCode.VERSION_CONFLICT, f"version {version} is older than {latest.version}")
    if not live:
        return Verdict.REPLACE
    if latest.state is ServiceState.COMMITTING or (known.beside is not None and latest.state in LIVE):
        message = f"version {latest.version} is just being committed: ask again when it is"
        return Reason(code=ReasonCode.MODIFICATION_NOT_OFFERED, message=message, subject="version", retryable=True)
    if known.healing:
        message = "the service is just being healed: ask again when it is"
        return Reason(code=ReasonCode.MODIFICATION_NOT_OFFERED, message=message, subject="version", retryable=True)
    return Verdict.MODIFY
