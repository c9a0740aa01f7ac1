"""Label sets: what may be used on one interconnect, as an immutable set of integers.

Rules kept here
- A set is held as sorted, disjoint, non-adjacent closed ranges, so equal sets have one canonical text.
- 0 is the *untagged* label: a plain Ethernet SAP offers `{0}`, so its exclusive use is one more allocation.
- VLAN ids are 1-4094 (IEEE 802.1Q-2022, 9.6), VNIs 1-16777215 (RFC 7348, 5); the set itself only bounds to 24 bits.

Label set, suggested label and acceptable label set are the words of GMPLS signalling (RFC 3473, 2 and 4.1).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

UNTAGGED = 0
VLAN_MAX = 4094
LABEL_MAX = (1 << 24) - 1


class LabelSetError(ValueError):
    """A text or range that is no label set; the message names the culprit."""


@dataclass(frozen=True, slots=True)
class LabelSet:
    """An immutable set of labels. `ranges` are closed `(first, last)` pairs, canonical after construction."""

    ranges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for first, last in self.ranges:
            if not 0 <= first <= last <= LABEL_MAX:
                raise LabelSetError(f"label range {first}-{last} is not within 0-{LABEL_MAX}")
        merged: list[tuple[int, int]] = []
        for first, last in sorted(self.ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        object.__setattr__(self, "ranges", tuple(merged))

    @classmethod
    def _of_canonical(cls, ranges: Iterable[tuple[int, int]]) -> LabelSet:
        """Of ranges that are canonical already: parts of canonical ranges, in order."""
        made = object.__new__(cls)
        object.__setattr__(made, "ranges", tuple(ranges))
        return made

    @classmethod
    def of(cls, labels: Iterable[int]) -> LabelSet:
        """The set of exactly these labels."""
        return cls(tuple((label, label) for label in labels))

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

    def __contains__(self, label: object) -> bool:
        if not isinstance(label, int):
            return False
        i = bisect_right(self.ranges, (label, LABEL_MAX)) - 1
        return i >= 0 and self.ranges[i][0] <= label <= self.ranges[i][1]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __and__(self, other: LabelSet) -> LabelSet:
        out, i, j = [], 0, 0
        a, b = self.ranges, other.ranges
        while i < len(a) and j < len(b):
            first, last = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
            if first <= last:
                out.append((first, last))
            if a[i][1] < b[j][1]:
                i += 1
            else:
                j += 1
        return LabelSet._of_canonical(out)

    def __or__(self, other: LabelSet) -> LabelSet:
        return LabelSet(self.ranges + other.ranges)

    def __sub__(self, other: LabelSet) -> LabelSet:
        out, j, cuts = [], 0, other.ranges
        for first, last in self.ranges:
            while j < len(cuts) and cuts[j][0] <= last:
                if cuts[j][0] > first:
                    out.append((first, cuts[j][0] - 1))
                first = max(first, cuts[j][1] + 1)
                if cuts[j][1] > last:
                    break  # it reaches beyond: the next range meets it too
                j += 1
            if first <= last:
                out.append((first, last))
        return LabelSet._of_canonical(out)

    def __le__(self, other: LabelSet) -> bool:
        return self & other == self

    def nth(self, n: int) -> int:
        """The n-th smallest label, 0-based. Raises IndexError beyond the set."""
        for first, last in self.ranges:
            if n <= last - first:
                return first + n
            n -= last - first + 1
        raise IndexError("label set index out of range")

    def longest(self, count: int) -> LabelSet:
        """The subset of at most `count` ranges: the longest, of equal ones the smallest labels."""
        if len(self.ranges) <= count:
            return self
        return LabelSet(tuple(sorted(self.ranges, key=lambda r: (r[0] - r[1], r[0]))[:count]))

    def suggest(self, key: str) -> int | None:
        """A member chosen by hash of `key`, so that unrelated orders rarely suggest the same; None when empty."""
        size = len(self)
        if not size:
            return None
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        return self.nth(int.from_bytes(digest, "big") % size)


ANY_LABEL = LabelSet(((0, LABEL_MAX),))
NO_LABEL = LabelSet()
