"""What we call the parts of a site: what each supplier has at a place of which several announce something.

Rules kept here
- Two suppliers' capacities at one place cannot be used together, and what reaches one does not reach the other: they are
  parts of one site, each announced with what it has.
- One of them bears the site's id, as if it were alone; whoever names that means the site, any part of it. The others bear a
  word made of our alias for the supplier and its own id: the same each time, so that it can be named in an order.
- Who hears the words learns how many parts there are, and of their owners nothing.
"""

from __future__ import annotations

import hashlib

_DIGITS = 10
_LONGEST = 63 - 1 - _DIGITS
"""What an id may have beside a dot and the digits."""


def part_of(site: str, alias: str, place: str) -> str:
    """Our word for what the supplier calls `place`."""
    digest = hashlib.sha256(f"{alias}\0{place}".encode()).hexdigest()
    return f"{site[:_LONGEST]}.{digest[:_DIGITS]}"
