"""Label sets: what may be used on one interconnect, as an immutable set of integers.

Rules kept here
- Equal sets have one canonical text.
- 0 is the *untagged* label: a plain Ethernet SAP offers `{0}`, so its exclusive use is one more allocation.
- VLAN ids are 1-4094 (IEEE 802.1Q-2022, 9.6), VNIs 1-16777215 (RFC 7348, 5); the set itself only bounds to 24 bits.

Label set, suggested label and acceptable label set are the words of GMPLS signalling (RFC 3473, 2 and 4.1).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from address_planner.ranges import RangeError, RangeSet

UNTAGGED = 0
VLAN_MAX = 4094
LABEL_MAX = (1 << 24) - 1


class LabelSetError(RangeError):
    """A text or range that is no label set; the message names the culprit."""


@dataclass(frozen=True, slots=True)
class LabelSet(RangeSet):
    """An immutable set of labels."""

    MAX: ClassVar[int] = LABEL_MAX

    @classmethod
    def _error(cls, first: int, last: int) -> LabelSetError:
        return LabelSetError(f"label range {first}-{last} is not within 0-{LABEL_MAX}")

    @classmethod
    def parse(cls, text: str) -> LabelSet:
        """Read the canonical text, e.g. `"100-199,300"`; the empty text is the empty set. Raises LabelSetError."""
        ranges = []
        for part in filter(None, (p.strip() for p in text.split(","))):
            first, dash, last = part.partition("-")
            if not (first.isdecimal() and (last.isdecimal() or not dash)):
                raise LabelSetError(f"{part!r} is not a label or a range of labels like 100-199")
            ranges.append((int(first), int(last if dash else first)))
        return cls(tuple(ranges))

    def __str__(self) -> str:
        return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in self.ranges)

    def longest(self, count: int) -> LabelSet:
        """The subset of at most `count` ranges: the longest, of equal ones the smallest labels."""
        if len(self.ranges) <= count:
            return self
        return LabelSet(tuple(sorted(self.ranges, key=lambda r: (r[0] - r[1], r[0]))[:count]))

    def around(self, label: int, least: int) -> LabelSet:
        """The subset of whole ranges from that of `label` on, and from the lowest again, until they have `least` labels; all
        where there are no more."""
        begin = max(0, bisect_right(self.ranges, (label, self.MAX)) - 1)
        kept: list[tuple[int, int]] = []
        size = 0
        for first, last in chain(self.ranges[begin:], self.ranges[:begin]):
            if size >= least:
                return LabelSet(tuple(kept))
            kept.append((first, last))
            size += last - first + 1
        return self


ANY_LABEL = LabelSet.all()
NO_LABEL = LabelSet()
