"""What we call the parts of a site: what each supplier has at a place of which several announce something.

Rules kept here
- Two suppliers' capacities at one place cannot be used together, and what reaches one does not reach the other: they are
  parts of one site, each announced with what it has.
- One of them bears the site's id, as if it were alone; whoever names that means the site, any part of it. The others bear a
  word made of our alias for the supplier and its own id: the same each time, so that it can be named in an order.
- Who hears the words learns how many parts there are, and of their owners nothing.
- Of who gave a place its name our customers hear a word made in the same way: the supplier, or whoever that is to the supplier.
"""

from __future__ import annotations

import hashlib

_DIGITS = 10
_LONGEST = 63 - 1 - _DIGITS
"""What an id may have beside a dot and the digits."""


def part_of(site: str, alias: str, place: str) -> str:
    """Our word for what the supplier calls `place`."""
    return f"{site[:_LONGEST]}.{_digest(alias, place)}"


def named_by(alias: str, namer: str) -> str:
    """Our word for whom the supplier calls `namer`; itself where that is empty."""
    return _digest("names", alias, namer)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:_DIGITS]
