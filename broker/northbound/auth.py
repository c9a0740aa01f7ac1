"""Who is calling: what the northbound side needs of whoever issues and checks tokens, and the caller of the call at hand.

Rules kept here
- Tenancy comes from the token and from nothing else. `caller()` is known only inside an admitted call.
- A token that was issued for a client certificate counts only on a connection with that certificate (RFC 8705, 3).
- A connection that has a client certificate is authenticated by it, never by a password besides.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from broker.northbound.wrong_calls import AuthError, AuthReason


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose call it is, what it may do, and until when the token says so."""

    account: str
    roles: frozenset[str]
    expires: datetime


@dataclass(frozen=True, slots=True)
class Password:
    account: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The certificate (PEM) that the caller proved to have the key of, in the handshake of this connection."""

    account: str
    pem: bytes

    @property
    def thumbprint(self) -> str:
        return thumbprint(self.pem)


Credentials = Password | ClientCertificate


class Authenticator(Protocol):
    async def issue(self, credentials: Credentials) -> tuple[str, datetime]:
        """A token and when it expires. Raises AuthError, or Throttled."""

    def authenticate(self, token: str, peer_cert_thumbprint: str | None) -> Principal:
        """Whose token it is, on a connection with that client certificate. Raises AuthError, or Throttled."""


_caller: ContextVar[Principal] = ContextVar("caller")


def caller() -> Principal:
    """Whose call is being served. Raises LookupError outside an admitted call."""
    return _caller.get()


def admit(principal: Principal, role: str) -> None:
    """Lets the call at hand be the principal's. Raises AuthError without the role."""
    if role not in principal.roles:
        raise AuthError(AuthReason.ROLE_REQUIRED, f"this needs the role {role!r}")
    _caller.set(principal)


def bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The token of the call's metadata (RFC 6750, 2.1). Raises AuthError."""
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        raise AuthError(AuthReason.TOKEN_MISSING, "one authorization: Bearer <token> is needed; get one by IssueToken")
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise AuthError(AuthReason.TOKEN_MISSING, "the authorization is not of the form Bearer <token>")
    return token.strip()


def peer_certificate(auth_context: Mapping[str, Iterable[bytes]]) -> bytes | None:
    """The client certificate (PEM) of a connection, from its gRPC authentication context."""
    return next(iter(auth_context.get("x509_pem_cert", ())), None)


def thumbprint(pem: bytes) -> str:
    """`x5t#S256`: base64url of SHA-256 over the DER (RFC 8705, 3.1)."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
