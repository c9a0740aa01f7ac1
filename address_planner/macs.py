"""MAC pools: the hardware addresses that a link's ports may take, as an immutable set of numbers.

Rules kept here
- Equal sets have one canonical text: `02:00:00:00:00:10-02:00:00:00:00:1f,06:00:00:00:00:01`.
- A port takes an individual address (I/G bit 0) that is not all zeros (IEEE 802-2014, 8.2.2). Universal and local ones alike:
  whose a pool is, is a matter of whoever gives it.
- Who splits a link between segments splits its pool: what two segments are given is disjoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from address_planner.ranges import RangeError, RangeSet

MAC_MAX = (1 << 48) - 1
_TEXT = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}")


class MacError(RangeError):
    """A text that is no hardware address or pool of them; the message names the culprit."""


@dataclass(frozen=True, slots=True, order=True)
class Mac:
    """One hardware address, 48 bits."""

    number: int

    def __post_init__(self) -> None:
        if not 0 <= self.number <= MAC_MAX:
            raise MacError(f"{self.number} is no hardware address of 48 bits")

    @classmethod
    def parse(cls, text: str) -> Mac:
        """`02:00:00:00:00:10`. Raises MacError."""
        if not _TEXT.fullmatch(text):
            raise MacError(f"{text!r} is no hardware address like 02:00:00:00:00:10")
        return cls(int(text.replace(":", ""), 16))

    def __str__(self) -> str:
        return ":".join(f"{octet:02x}" for octet in self.number.to_bytes(6, "big"))


@dataclass(frozen=True, slots=True)
class MacSet(RangeSet):
    """An immutable set of hardware addresses."""

    MAX: ClassVar[int] = MAC_MAX

    @classmethod
    def _error(cls, first: int, last: int) -> MacError:
        return MacError(f"hardware addresses {first:#x}-{last:#x} are not a range of 48 bits")

    @classmethod
    def parse(cls, text: str) -> MacSet:
        """Read the canonical text; the empty text is the empty set. Raises MacError."""
        ranges = []
        for part in filter(None, (p.strip() for p in text.split(","))):
            first, dash, last = part.partition("-")
            ranges.append((Mac.parse(first).number, Mac.parse(last if dash else first).number))
        return cls(tuple(ranges))

    def __str__(self) -> str:
        return ",".join(str(Mac(a)) if a == b else f"{Mac(a)}-{Mac(b)}" for a, b in self.ranges)

    def pick(self, points: Iterable[str], key: str) -> dict[str, Mac]:
        """An address for each point, no two alike, by hash of `key`. Raises IndexError where there are too few."""
        left, out = self, dict[str, Mac]()
        for point in points:
            number = left.suggest(f"{key}/{point}")
            if number is None:
                raise IndexError(f"no hardware address is left for {point}")
            out[point] = Mac(number)
            left -= MacSet.of([number])
        return out

    def parts(self, count: int) -> tuple[MacSet, ...]:
        """So many disjoint parts of it, which together are all of it, as equal as they can be; each from lower addresses than
        the next."""
        sizes = [self.size // count + (n < self.size % count) for n in range(count)]
        out, ranges = list[MacSet](), list(self.ranges)
        for size in sizes:
            taken = []
            while size:
                first, last = ranges.pop(0)
                end = min(last, first + size - 1)
                taken.append((first, end))
                size -= end - first + 1
                if end < last:
                    ranges.insert(0, (end + 1, last))
            out.append(MacSet(tuple(taken)))
        return tuple(out)


ANY_MAC = MacSet.all()
INDIVIDUAL = MacSet(tuple((max(1, octet << 40), (octet << 40) + (1 << 40) - 1) for octet in range(0, 256, 2)))
"""What a port may have: neither a group address nor all zeros."""
