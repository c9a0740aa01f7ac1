"""Sets of whole numbers as ranges: what labels, addresses and MACs have in common.

Rules kept here
- A set is held as sorted, disjoint, non-adjacent closed ranges, so equal sets are equal values.
- `|`, `&`, `-`, `<=` and `in` are those of sets; none of them counts the members one by one.
- A subclass says how far its numbers go (`MAX`); sets of different classes are not mixed.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Self


class RangeError(ValueError):
    """A text or range that is no such set; the message names the culprit."""


@dataclass(frozen=True, slots=True)
class RangeSet:
    """An immutable set of the numbers from 0 to MAX. `ranges` are closed `(first, last)` pairs, canonical after construction."""

    ranges: tuple[tuple[int, int], ...] = ()

    MAX: ClassVar[int]

    def __post_init__(self) -> None:
        for first, last in self.ranges:
            if not 0 <= first <= last <= self.MAX:
                raise self._error(first, last)
        merged: list[tuple[int, int]] = []
        for first, last in sorted(self.ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        object.__setattr__(self, "ranges", tuple(merged))

    @classmethod
    def _error(cls, first: int, last: int) -> RangeError:
        return RangeError(f"range {first}-{last} is not within 0-{cls.MAX}")

    @classmethod
    def _of_canonical(cls, ranges: Iterable[tuple[int, int]]) -> Self:
        """Of ranges that are canonical already: parts of canonical ranges, in order."""
        made = object.__new__(cls)
        object.__setattr__(made, "ranges", tuple(ranges))
        return made

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        """The set of exactly these numbers."""
        return cls(tuple((number, number) for number in numbers))

    @classmethod
    def all(cls) -> Self:
        return cls._of_canonical([(0, cls.MAX)])

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        i = bisect_right(self.ranges, (number, self.MAX)) - 1
        return i >= 0 and self.ranges[i][0] <= number <= self.ranges[i][1]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    @property
    def size(self) -> int:
        """How many members it has; `len` only goes up to the machine's word."""
        return sum(last - first + 1 for first, last in self.ranges)

    def __len__(self) -> int:
        return self.size

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __and__(self, other: Self) -> Self:
        if self.ranges == other.ranges:  # both sides of an interconnect mostly have the same
            return self
        if len(other.ranges) == 1:
            return self._within(*other.ranges[0])
        if len(self.ranges) == 1:
            return other._within(*self.ranges[0])
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
        return self._of_canonical(out)

    def _met(self, first: int, last: int) -> tuple[int, int]:
        """From where to before where its ranges have anything of one range, without a look at each."""
        begin, end = (bisect_right(self.ranges, (number, self.MAX)) for number in (first, last))
        return begin - (begin > 0 and self.ranges[begin - 1][1] >= first), end

    def _within(self, first: int, last: int) -> Self:
        """What of it is in one range."""
        begin, end = self._met(first, last)
        met = list(self.ranges[begin:end])
        if met:
            met[0] = (max(first, met[0][0]), met[0][1])
            met[-1] = (met[-1][0], min(last, met[-1][1]))
        return self._of_canonical(met)

    def _without(self, first: int, last: int) -> Self:
        """What of it is not in one range."""
        begin, end = self._met(first, last)
        met = self.ranges[begin:end]
        left = [(met[0][0], first - 1)] if met and met[0][0] < first else []
        right = [(last + 1, met[-1][1])] if met and met[-1][1] > last else []
        return self._of_canonical((*self.ranges[:begin], *left, *right, *self.ranges[end:]))

    def __or__(self, other: Self) -> Self:
        return type(self)(self.ranges + other.ranges)

    def __sub__(self, other: Self) -> Self:
        if len(other.ranges) < 2:
            return self._without(*other.ranges[0]) if other.ranges else self
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
        return self._of_canonical(out)

    def __le__(self, other: Self) -> bool:
        return self & other == self

    def isdisjoint(self, other: Self) -> bool:
        return not self & other

    def nth(self, n: int) -> int:
        """The n-th smallest member, 0-based. Raises IndexError beyond the set."""
        for first, last in self.ranges:
            if n <= last - first:
                return first + n
            n -= last - first + 1
        raise IndexError("index out of range")

    def suggest(self, key: str) -> int | None:
        """A member chosen by hash of `key`, so that unrelated orders rarely suggest the same; None when empty."""
        size = self.size
        if not size:
            return None
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        return self.nth(int.from_bytes(digest, "big") % size)
