"""Signed notes: compact JWS (RFC 7515) with Ed25519 (RFC 8037).

Rules kept here
- The signature is verified over the text as it was received, before anything of the payload is decoded or parsed.
- One algorithm (`EdDSA`), one `typ` (`capability-note+jws`): neither `none`, nor a key used under another algorithm,
  nor a token signed by the same key passes for a note.
- The key is found by `kid` among the keys that the caller trusts. A header that brings or points to a key (`jwk`,
  `jku`, `x5c`, `x5u`), or that changes how the text is to be read (`crit`, `b64`), is refused.
- Size is judged first. One note has one text: base64url that is padded or not canonical, a header that names a member
  twice, are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any

from capability_registry.keys import PublicKey, SigningKey, base64url, from_base64url

TYPE = "capability-note+jws"
ALGORITHM = "EdDSA"
MAX_HEADER_CHARACTERS = 1024
REFUSED_MEMBERS = frozenset({"crit", "b64", "jwk", "jku", "x5u", "x5c"})


class Reason(StrEnum):
    OVERSIZED = "OVERSIZED"
    MALFORMED = "MALFORMED"
    FORBIDDEN_HEADER = "FORBIDDEN_HEADER"
    WRONG_ALGORITHM = "WRONG_ALGORITHM"
    WRONG_TYPE = "WRONG_TYPE"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    BAD_SIGNATURE = "BAD_SIGNATURE"


class NoteRefused(Exception):
    """`reason` is for machines and never changes; `message` is for the log."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


def sign(payload: bytes, key: SigningKey) -> str:
    """The compact JWS of `payload`."""
    header = {"alg": ALGORITHM, "kid": key.kid, "typ": TYPE}
    signed = f"{base64url(json.dumps(header, separators=(',', ':')).encode('ascii'))}.{base64url(payload)}"
    return f"{signed}.{base64url(key.sign(signed.encode('ascii')))}"


def verify(jws: str, keys: Mapping[str, PublicKey], max_bytes: int) -> bytes:
    """The payload of `jws`, proven to be signed by one of `keys` (by kid); `max_bytes` bounds the whole text.

    Raises `NoteRefused`.
    """
    if len(jws) > max_bytes:
        raise NoteRefused(Reason.OVERSIZED, f"{len(jws)} bytes, at most {max_bytes} are read")
    if not jws.isascii():
        raise NoteRefused(Reason.MALFORMED, "not ASCII")
    signed, _, signature_text = jws.encode("ascii").rpartition(b".")
    header_text, dot, payload_text = signed.partition(b".")
    if not dot or b"." in payload_text:
        raise NoteRefused(Reason.MALFORMED, f"{jws.count('.') + 1} parts, a compact JWS has three")
    kid = _kid(header_text)
    key = keys.get(kid)
    if key is None:
        raise NoteRefused(Reason.UNKNOWN_KEY, f"kid is {kid!r}, which is not a trusted key")
    try:
        signature = from_base64url(signature_text)
    except ValueError as error:
        raise NoteRefused(Reason.MALFORMED, "signature: malformed base64url") from error
    if not key.verifies(signature, signed):
        raise NoteRefused(Reason.BAD_SIGNATURE, f"not signed by key {key.kid}")
    try:
        return from_base64url(payload_text)
    except ValueError as error:
        raise NoteRefused(Reason.MALFORMED, "payload: malformed base64url") from error


def _header(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_HEADER_CHARACTERS:
        raise NoteRefused(Reason.OVERSIZED, f"a header of {len(text)} characters")
    try:
        header = json.loads(from_base64url(text), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise NoteRefused(Reason.MALFORMED, f"header: {error}") from error
    if not isinstance(header, dict):
        raise NoteRefused(Reason.MALFORMED, "the header is not an object")
    return header


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


@lru_cache(maxsize=16_384)
def _kid(text: bytes) -> str:
    """The key that a header names, if the header is one of ours. A supplier's notes mostly have the same header."""
    header = _header(text)
    forbidden = REFUSED_MEMBERS & header.keys()
    if forbidden:
        raise NoteRefused(Reason.FORBIDDEN_HEADER, f"the header has {', '.join(sorted(forbidden))}")
    if header.get("alg") != ALGORITHM:
        raise NoteRefused(Reason.WRONG_ALGORITHM, f"alg is {header.get('alg')!r}, only {ALGORITHM} is accepted")
    if header.get("typ") != TYPE:
        raise NoteRefused(Reason.WRONG_TYPE, f"typ is {header.get('typ')!r}, not {TYPE}")
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise NoteRefused(Reason.UNKNOWN_KEY, f"kid is {kid!r}, which is not a trusted key")
    return kid
