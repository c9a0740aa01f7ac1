"""Opaque origin tokens: how an SP recognises its own capability when it comes back round a loop.

Rules kept here
- A token is a random salt and a MAC of it: without the secret nobody can tell whose it is, or that two are the same
  SP's.
- One token is minted per note and audience, so that two audiences cannot compare theirs.
- Tokens have one length and are compared in constant time; anything else is simply not ours.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

SALT_BYTES = 16
_MAC_BYTES = 16


class WeakSecret(ValueError):
    """The secret or salt is too short to hide who minted a token."""


def mint(secret: bytes, salt: bytes, audience: str) -> str:
    """A token of ours for one audience. `salt` is SALT_BYTES random bytes, new for each note.

    Raises WeakSecret for a secret of less than 32 bytes or another length of salt.
    """
    if len(secret) < 32 or len(salt) != SALT_BYTES:
        raise WeakSecret(f"a secret of at least 32 bytes and a salt of {SALT_BYTES} are needed")
    blinded = hashlib.sha256(salt + audience.encode()).digest()[:SALT_BYTES]
    return base64.urlsafe_b64encode(blinded + _mac(secret, blinded)).decode().rstrip("=")


def is_ours(secret: bytes, token: str) -> bool:
    """Whether the token was minted with this secret, for whatever audience."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return False
    if len(raw) != SALT_BYTES + _MAC_BYTES:
        return False
    return hmac.compare_digest(raw[SALT_BYTES:], _mac(secret, raw[:SALT_BYTES]))


def _mac(secret: bytes, salt: bytes) -> bytes:
    return hmac.digest(secret, b"spbroker origin token" + salt, "sha256")[:_MAC_BYTES]
