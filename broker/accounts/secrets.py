"""Passwords, kept as argon2id hashes (RFC 9106).

Rules kept here
- Only the hash is stored; it carries its own salt and cost, so the cost can be raised while old hashes still verify
  (`needs_rehash` says when to store a new one, after a successful login).
- An unknown account costs as much as a wrong password: with no hash to compare, a decoy of the same cost is.
- A password typed on another keyboard is the same one (Unicode NFC, RFC 8265 OpaqueString).
- A new password has at least 12 characters; one that was set shorter before still opens. The length is bounded.

Hashing takes tens of milliseconds and megabytes on purpose: callers run it off the event loop, a few at a time.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

SALT_BYTES = 16
MIN_PASSWORD = 12
"""Characters. No further rules of composition (NIST SP 800-63B, section 5.1.1.2)."""
MAX_PASSWORD_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """How much work one hash is: passes over the memory, memory in KiB, lanes."""

    passes: int
    memory_kib: int
    lanes: int


STANDARD = Cost(passes=3, memory_kib=64 * 1024, lanes=4)
"""RFC 9106, section 4, second recommended option."""


class UnusablePassword(ValueError):
    """The password cannot be set: too short or too long."""


class UnusableHash(ValueError):
    """What the store holds is not an argon2id hash; the message does not quote it."""


class Passwords:
    """Hashes and verifies at one cost. `random(n)` gives n random bytes, for salts."""

    def __init__(self, cost: Cost = STANDARD, random: Callable[[int], bytes] = os.urandom) -> None:
        self._hasher = PasswordHasher(
            time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes, type=Type.ID
        )
        self._random = random
        self._decoy = self._hasher.hash(random(32), salt=random(SALT_BYTES))

    def hash(self, password: str) -> str:
        """The text to store. Raises `UnusablePassword`."""
        data = canonical(password)
        if len(data.decode("utf-8", "surrogatepass")) < MIN_PASSWORD:
            raise UnusablePassword(f"a password has at least {MIN_PASSWORD} characters")
        if len(data) > MAX_PASSWORD_BYTES:
            raise UnusablePassword(f"a password has at most {MAX_PASSWORD_BYTES} bytes")
        return self._hasher.hash(data, salt=self._random(SALT_BYTES))

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` is the one of `stored`; `None` (no such account, or no password) is never right, and
        takes as long. Raises `UnusableHash`."""
        data = canonical(password)
        if len(data) > MAX_PASSWORD_BYTES:
            return False
        try:
            return self._hasher.verify(self._decoy if stored is None else stored, data) and stored is not None
        except VerifyMismatchError:
            return False
        except (InvalidHashError, VerificationError) as error:
            raise UnusableHash("the stored password hash cannot be read") from error

    def needs_rehash(self, stored: str) -> bool:
        """Whether `stored` was made at another cost than the one in force."""
        return self._hasher.check_needs_rehash(stored)


def canonical(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
