"""Ed25519 keys: for signing capability notes and access tokens.

Rules kept here
- A key's id is computed from the key (RFC 7638 thumbprint of its JWK), never chosen: one id cannot mean two keys.
- A private key is never printed. Only `to_pem` and the signature leave a `SigningKey`.
- The seed is an argument: whoever makes a key says where its randomness comes from.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

RAW_BYTES = 32
_STANDARD = bytes.maketrans(b"-_+/=", b"+/***")
"""To the alphabet that is decoded; what is of the other alphabet, or padding, to what is of none."""


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: str | bytes) -> bytes:
    """The reverse of `base64url`, strictly: exactly one text is accepted for each value. Raises `ValueError`."""
    rest = len(text) % 4
    try:
        written = text.encode("ascii") if isinstance(text, str) else text
        data = binascii.a2b_base64(written.translate(_STANDARD) + b"==="[: -rest % 4], strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError("malformed base64url") from error
    if rest and base64url(data[1 - rest :]).encode("ascii") != written[-rest:]:  # bits of the last that mean nothing
        raise ValueError("malformed base64url")
    return data


@lru_cache(maxsize=1024)
def _thumbprint(raw: bytes) -> str:
    """Of a public key. Each call asks for those of our own keys."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": base64url(raw)}
    return base64url(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode("ascii")).digest())


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key, 32 bytes (RFC 8032)."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != RAW_BYTES:
            raise ValueError(f"an Ed25519 public key has {RAW_BYTES} bytes, not {len(self.raw)}")

    @property
    def kid(self) -> str:
        """The JWK's SHA-256 thumbprint (RFC 7638; members for OKP keys: RFC 8037, section 2)."""
        return _thumbprint(self.raw)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        try:
            self.to_cryptography().verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def to_cryptography(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)

    def to_jwk(self) -> dict[str, str]:
        """The public JWK, to be published."""
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url(self.raw), "kid": self.kid, "use": "sig", "alg": "EdDSA"}

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> Self:
        """Read a public JWK. Raises `ValueError` for another kind of key, or a `kid` that is not the thumbprint."""
        if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519" or not isinstance(jwk.get("x"), str):
            raise ValueError("not an Ed25519 JWK")
        if "d" in jwk:
            raise ValueError("this JWK holds a private key, which must not be handed around")
        key = cls(from_base64url(jwk["x"]))
        if jwk.get("kid", key.kid) != key.kid:
            raise ValueError("the JWK's kid is not its thumbprint")
        return key


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 private key and the public key that goes with it."""

    private: Ed25519PrivateKey
    public: PublicKey

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"

    @classmethod
    def generate(cls, random: Callable[[int], bytes] = os.urandom) -> Self:
        """A new key; `random(n)` gives n random bytes."""
        return cls._of(Ed25519PrivateKey.from_private_bytes(random(RAW_BYTES)))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read an unencrypted PKCS #8 PEM. Raises `ValueError` when it holds anything but an Ed25519 key."""
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise ValueError("not an unencrypted private key in PEM") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("not an Ed25519 key")
        return cls._of(private)

    @classmethod
    def _of(cls, private: Ed25519PrivateKey) -> Self:
        return cls(private, PublicKey(private.public_key().public_bytes_raw()))

    def to_pem(self) -> bytes:
        """Unencrypted PKCS #8: whoever writes it to disk sees to its mode."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def kid(self) -> str:
        return self.public.kid

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)
