"""Access tokens: short-lived JWTs that this SP issues to its own customers (RFC 9068 profile, RFC 8037 signature).

Rules kept here
- Issuer and audience are this SP: a token of another SP, or meant for another SP, is refused.
- One algorithm (`EdDSA`) and one `typ` (`at+jwt`), whatever the header says. The key is found by `kid` among our own.
- A token that carries `cnf` is worth something only over a connection with that client certificate (RFC 8705,
  section 3.1); a confirmation method that is not understood is refused, not ignored.
- Time is an argument. A token lives from `iat` to just before `exp`; only `iat` is given `SKEW`, because another
  replica may have issued it.
- Refusals carry a stable reason and never quote the token.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

import jwt

from capability_registry.keys import PublicKey, SigningKey

TYPE = "at+jwt"
ALGORITHM = "EdDSA"
MAX_CHARACTERS = 8192
SKEW = timedelta(seconds=30)
_JWS = jwt.PyJWS(algorithms=[ALGORITHM])


class Reason(StrEnum):
    MALFORMED = "MALFORMED"
    WRONG_ALGORITHM = "WRONG_ALGORITHM"
    WRONG_TYPE = "WRONG_TYPE"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    MISSING_CLAIM = "MISSING_CLAIM"
    WRONG_ISSUER = "WRONG_ISSUER"
    WRONG_AUDIENCE = "WRONG_AUDIENCE"
    NOT_YET_VALID = "NOT_YET_VALID"
    EXPIRED = "EXPIRED"
    CERTIFICATE_MISMATCH = "CERTIFICATE_MISMATCH"


class TokenRefused(Exception):
    """`reason` is for machines and never changes; `message` is for the log."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified token says. `thumbprint` is the `x5t#S256` of the certificate that it is bound to."""

    account: str
    roles: frozenset[str]
    issued_at: datetime
    expires_at: datetime
    token_id: str
    thumbprint: str | None


def mint(
    key: SigningKey,
    *,
    sp_id: str,
    account: str,
    roles: Collection[str],
    now: datetime,
    lifetime: timedelta,
    token_id: str,
    thumbprint: str | None = None,
) -> str:
    """A token for `account` at `sp_id`, valid from `now` for `lifetime` (whole seconds); `token_id` must be unique."""
    issued = int(now.timestamp())
    seconds = int(lifetime.total_seconds())
    if seconds <= 0:
        raise ValueError("a token lives for at least a second")
    claims: dict[str, Any] = {
        "iss": sp_id,
        "aud": sp_id,
        "sub": account,
        "roles": sorted(set(roles)),
        "iat": issued,
        "exp": issued + seconds,
        "jti": token_id,
    }
    if thumbprint is not None:
        claims["cnf"] = {"x5t#S256": thumbprint}
    payload = json.dumps(claims, separators=(",", ":")).encode("utf-8")
    return _JWS.encode(payload, key.private, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": key.kid})


def verify(token: str, keys: Mapping[str, PublicKey], sp_id: str, now: datetime, peer_thumbprint: str | None) -> Claims:
    """The claims of `token` if it is ours and valid at `now` over a connection whose client certificate is
    `peer_thumbprint` (None: no certificate). Raises `TokenRefused`."""
    claims = _signed_claims(token, tuple(sorted(keys.items(), key=lambda item: item[0])))
    if _text(claims, "iss") != sp_id:
        raise TokenRefused(Reason.WRONG_ISSUER, f"issued by {claims['iss']!r}")
    if claims.get("aud") is None:
        raise TokenRefused(Reason.MISSING_CLAIM, "no aud")
    if claims["aud"] != sp_id:
        raise TokenRefused(Reason.WRONG_AUDIENCE, f"meant for {claims['aud']!r}")
    account, token_id = _text(claims, "sub"), _text(claims, "jti")
    issued_at, expires_at = _instant(claims, "iat"), _instant(claims, "exp")
    if issued_at > now + SKEW:
        raise TokenRefused(Reason.NOT_YET_VALID, f"issued in the future, at {issued_at.isoformat()}")
    if now >= expires_at:
        raise TokenRefused(Reason.EXPIRED, f"expired at {expires_at.isoformat()}")
    thumbprint = _binding(claims)
    if thumbprint is not None and not (
        peer_thumbprint is not None and hmac.compare_digest(thumbprint.encode(), peer_thumbprint.encode())
    ):
        raise TokenRefused(Reason.CERTIFICATE_MISMATCH, "the connection's client certificate is not the token's")
    return Claims(
        account=account,
        roles=_roles(claims),
        issued_at=issued_at,
        expires_at=expires_at,
        token_id=token_id,
        thumbprint=thumbprint,
    )


@lru_cache(maxsize=1024)
def _signed_claims(token: str, keyring: tuple[tuple[str, PublicKey], ...]) -> Mapping[str, Any]:
    """The claims under the signature. What depends on the moment or the connection is judged by the caller, each time; a
    signature that held under these keys holds again, so it is remembered (a refusal is not)."""
    keys = dict(keyring)
    if len(token) > MAX_CHARACTERS:
        raise TokenRefused(Reason.MALFORMED, f"{len(token)} characters, at most {MAX_CHARACTERS} are read")
    try:
        header = _JWS.get_unverified_header(token)
        _check_header(header)
        key = keys.get(header["kid"]) if isinstance(header.get("kid"), str) else None
        if key is None:
            raise TokenRefused(Reason.UNKNOWN_KEY, "its kid is not one of our keys")
        claims = json.loads(_JWS.decode(token, key.to_cryptography(), algorithms=[ALGORITHM]))
    except jwt.InvalidSignatureError as error:
        raise TokenRefused(Reason.BAD_SIGNATURE, "not signed by the key that it names") from error
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenRefused(Reason.MALFORMED, f"not a signed token ({type(error).__name__})") from error
    if not isinstance(claims, dict):
        raise TokenRefused(Reason.MALFORMED, "the claims are not an object")
    return claims


def _check_header(header: Mapping[str, Any]) -> None:
    if header.get("alg") != ALGORITHM:
        raise TokenRefused(Reason.WRONG_ALGORITHM, f"alg is {header.get('alg')!r}, only {ALGORITHM} is accepted")
    if header.get("typ") != TYPE:
        raise TokenRefused(Reason.WRONG_TYPE, f"typ is {header.get('typ')!r}, not {TYPE}")
    if "crit" in header or "b64" in header:
        raise TokenRefused(Reason.MALFORMED, "the header has critical extensions, none is understood")


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None or value == "":
        raise TokenRefused(Reason.MISSING_CLAIM, f"no {name}")
    if not isinstance(value, str):
        raise TokenRefused(Reason.MALFORMED, f"{name} is not text")
    return value


def _instant(claims: Mapping[str, Any], name: str) -> datetime:
    value = claims.get(name)
    if value is None:
        raise TokenRefused(Reason.MISSING_CLAIM, f"no {name}")
    if not isinstance(value, int) or isinstance(value, bool):
        raise TokenRefused(Reason.MALFORMED, f"{name} is not a whole number of seconds")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise TokenRefused(Reason.MALFORMED, f"{name} is out of range") from error


def _roles(claims: Mapping[str, Any]) -> frozenset[str]:
    value = claims.get("roles")
    if value is None:
        raise TokenRefused(Reason.MISSING_CLAIM, "no roles")
    if not isinstance(value, list) or not all(isinstance(role, str) for role in value):
        raise TokenRefused(Reason.MALFORMED, "roles is not a list of names")
    return frozenset(value)


def _binding(claims: Mapping[str, Any]) -> str | None:
    if "cnf" not in claims:
        return None
    confirmation = claims["cnf"]
    if not isinstance(confirmation, dict) or set(confirmation) != {"x5t#S256"}:
        raise TokenRefused(Reason.CERTIFICATE_MISMATCH, "bound in a way that is not understood")
    return _text(confirmation, "x5t#S256")
