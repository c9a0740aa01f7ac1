"""Least sums over assignments, by elimination: what is still ahead when some variables have values.

Rules kept here
- A *factor* is a table over variables, one axis per variable in ascending order; what is sought is the least sum of all.
- Variables are eliminated from the last to the first (Dechter, Bucket elimination, 1999). So a variable's message is over
  earlier ones alone: with the first k given, the messages of the others are what is ahead, exactly.
- A table larger than `MOST` entries is not made: the bucket is parted, each part with a minimum of its own (Dechter and
  Rish, Mini-buckets, 2003). That is a lower bound still.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from broker.decompose.piece import Figures

MOST = 5_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """`line`: which line's it is; -1 for a message or what a variable costs itself."""

    scope: tuple[int, ...]
    table: Figures
    line: int = -1

    def at(self, values: Mapping[int, int], free: int | None = None) -> Figures:
        """The entry, or the row over the variable `free`."""
        chosen: Figures = self.table[tuple(slice(None) if v == free else values[v] for v in self.scope)]
        return chosen


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """What the elimination of variable `of` leaves over earlier variables."""

    of: int
    factor: Factor


def eliminated(factors: Sequence[Factor], sizes: Sequence[int]) -> list[Message]:
    """The messages of all variables. `sizes`: how many values each has."""
    messages: list[Message] = []
    for variable in range(len(sizes) - 1, -1, -1):
        bucket = [f for f in (*factors, *(m.factor for m in messages)) if f.scope and f.scope[-1] == variable]
        for part in _parted(bucket, sizes):
            scope = tuple(sorted({v for f in part for v in f.scope}))
            total = sum((_spread(f, scope) for f in part), np.zeros(()))
            least = np.broadcast_to(total, [sizes[v] for v in scope]).min(axis=-1)
            messages.append(Message(variable, Factor(scope[:-1], least)))
    return messages


def margins(factors: Sequence[Factor], sizes: Sequence[int]) -> list[Figures]:
    """Per variable, the least sum with each of its values."""
    out = []
    for variable in range(len(sizes)):
        order = [variable, *(v for v in range(len(sizes)) if v != variable)]
        moved = [_renumbered(f, {v: n for n, v in enumerate(order)}) for f in factors]
        messages = [m.factor for m in eliminated(moved, [sizes[v] for v in order]) if m.of]
        out.append(sum((f.table for f in (*moved, *messages) if f.scope in ((), (0,))), np.zeros(sizes[variable])))
    return out


def _renumbered(factor: Factor, number: Mapping[int, int]) -> Factor:
    order = sorted(range(len(factor.scope)), key=lambda axis: number[factor.scope[axis]])
    scope = tuple(number[factor.scope[axis]] for axis in order)
    return Factor(scope, factor.table.transpose(order) if len(order) > 1 else factor.table, factor.line)


def widest(scopes: Iterable[tuple[int, ...]], sizes: Sequence[int]) -> int:
    """How many entries the largest table has that elimination makes of factors over these (in ascending order)."""
    left, most = set(scopes), 1
    for variable in range(len(sizes) - 1, -1, -1):
        bucket = {scope for scope in left if scope and scope[-1] == variable}
        joined = tuple(sorted({v for scope in bucket for v in scope}))
        most = max(most, prod(sizes[v] for v in joined))
        left = (left - bucket) | {joined[:-1]}
    return most


def _parted(bucket: list[Factor], sizes: Sequence[int]) -> list[list[Factor]]:
    parts: list[list[Factor]] = []
    for factor in sorted(bucket, key=lambda f: -len(f.scope)):
        for part in parts:
            scope = {v for f in (*part, factor) for v in f.scope}
            if prod(sizes[v] for v in scope) <= MOST:
                part.append(factor)
                break
        else:
            parts.append([factor])
    return parts


def _spread(factor: Factor, scope: tuple[int, ...]) -> Figures:
    """The table with an axis of length 1 for each variable of the scope that it is not over."""
    out: Figures = factor.table[tuple(slice(None) if v in factor.scope else np.newaxis for v in scope)]
    return out
