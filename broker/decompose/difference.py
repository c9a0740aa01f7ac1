"""What of one row of things stays in the next, and arrays over such rows that follow without being made again.

Rules kept here
- A thing stays where the next row has the very same object and those that stay keep their order. Whatever else is in the
  next row is new, also where it only moved.
- Nothing is changed in place: who still has the former array has it as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import is_not
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEW = -1


@dataclass(frozen=True, slots=True)
class Step:
    """`length` things from `now` on, which were at `before` on; where that is NEW it is one thing that was not there."""

    now: int
    before: int
    length: int


@dataclass(frozen=True, slots=True)
class Difference:
    """`steps` make up the row as it is now, in order. `fresh`: where something new is; `gone`: where something was that is
    no more."""

    steps: tuple[Step, ...]
    fresh: tuple[int, ...]
    gone: tuple[int, ...]

    @property
    def in_place(self) -> bool:
        """Whether everything that stays is where it was."""
        return self.fresh == self.gone and all(s.before in (NEW, s.now) for s in self.steps)

    def array(self, before: NDArray[Any], first: NDArray[Any], part: Callable[[int], NDArray[Any]]) -> NDArray[Any]:
        """What stays of an array, `first` being where each thing's part of it began, and the parts of new things."""
        if not self.steps:
            return before[:0]
        parts = [
            part(s.now) if s.before == NEW else before[first[s.before] : first[s.before + s.length]] for s in self.steps
        ]
        return np.concatenate(parts)

    def numbers(self, before: NDArray[Any], now: NDArray[Any]) -> NDArray[np.int64]:
        """By the number that each part had (`before`: where each thing's begin) the one that it has; NEW where it is gone."""
        out = np.full(before[-1], NEW, dtype=np.int64)
        for s in self.steps:
            if s.before != NEW:
                out[before[s.before] : before[s.before + s.length]] = np.arange(now[s.now], now[s.now + s.length])
        return out


def difference(before: Sequence[object], now: Sequence[object]) -> Difference:
    """Costs next to nothing where only one thing is another: what is alike at both ends is passed over."""
    shared = min(len(before), len(now))
    head = _alike(before, now, shared)
    tail = min(_alike(reversed(before), reversed(now), shared), shared - head)
    was = {id(before[i]): i for i in range(head, len(before) - tail)}
    pairs = []
    last = head - 1
    for i in range(head, len(now) - tail):
        here = was.get(id(now[i]), NEW)
        here = here if here > last else NEW
        last = max(last, here)
        pairs.append((i, here))
    kept = {here for _, here in pairs}
    return Difference(
        steps=tuple(_steps(head, pairs, (len(now) - tail, len(before) - tail, tail))),
        fresh=tuple(i for i, here in pairs if here == NEW),
        gone=tuple(i for i in range(head, len(before) - tail) if i not in kept),
    )


def _alike(x: Iterable[object], y: Iterable[object], most: int) -> int:
    """How many of the first are the same objects."""
    return next(compress(count(), map(is_not, x, y)), most)


def _steps(head: int, pairs: list[tuple[int, int]], tail: tuple[int, int, int]) -> list[Step]:
    runs = [[0, 0, head]] if head else []
    for now, before in pairs:
        if runs and before != NEW and runs[-1][1] != NEW and before == runs[-1][1] + runs[-1][2]:
            runs[-1][2] += 1
        else:
            runs.append([now, before, 1])
    return [Step(*run) for run in (*runs, tail) if run[2]]
