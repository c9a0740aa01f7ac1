"""How much of one resource is taken at each moment. Pure.

Rules kept here
- It is a step function: `at` are the moments at which it changes, in order, and `level` what is taken before the first,
  between each two, and after the last. Two neighbours never have the same level, so what was added and taken away again
  leaves nothing behind.
- Something fits beside what is taken if the most that is taken within its window leaves room for it: what it takes itself
  does not change within its window.

Of k changes, `most` costs O(log k) and one C-speed look at the levels within the window; `add` costs O(log k) and as many
steps as there are changes within the window. What is open at both sides is one number.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime

from service_model.window import BEGINNING, NEVER, Window


class Profile:
    """What is taken of one resource, over all time."""

    __slots__ = ("at", "level")

    def __init__(self) -> None:
        self.at: list[datetime] = []
        self.level: list[int] = [0]

    def add(self, window: Window, amount: int) -> None:
        """So much more is taken within the window; a negative amount is given back."""
        if window.empty or not amount:
            return
        first, last = self._cut(window.start), self._cut(window.end)
        for n in range(first, last):
            self.level[n] += amount
        self._join(last)
        self._join(first)

    def most(self, window: Window) -> int:
        """The most that is taken at any moment of the window; 0 where that is empty."""
        first, last = self._within(window)
        return 0 if window.empty else max(self.level[first:last])

    def fullest(self, window: Window) -> Window:
        """The first stretch within the window, which is not empty, in which the most is taken."""
        first, last = self._within(window)
        n = max(range(first, last), key=self.level.__getitem__)
        start = self.at[n - 1] if n else BEGINNING
        end = self.at[n] if n < len(self.at) else NEVER
        return Window(max(start, window.start), min(end, window.end))

    @property
    def nothing(self) -> bool:
        """Whether nothing is taken at any time."""
        return not self.at and not self.level[0]

    def _within(self, window: Window) -> tuple[int, int]:
        return bisect_right(self.at, window.start), bisect_left(self.at, window.end) + 1

    def _cut(self, moment: datetime) -> int:
        """The number of the first level from `moment` on, which begins there."""
        if moment == BEGINNING:
            return 0
        if moment == NEVER:
            return len(self.level)
        n = bisect_left(self.at, moment)
        if n == len(self.at) or self.at[n] != moment:
            self.at.insert(n, moment)
            self.level.insert(n + 1, self.level[n])
        return n + 1

    def _join(self, n: int) -> None:
        """Level n with the one before it, where they are the same."""
        if 0 < n < len(self.level) and self.level[n] == self.level[n - 1]:
            del self.level[n], self.at[n - 1]
