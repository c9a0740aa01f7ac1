"""Every crash point of an order's life: a broker dies before and after each of its writes, calls and builds; or the call is
lost, its answer is, or it comes twice. Afterwards all is as if nothing had happened.

The points are those that a life without a mishap goes through: a new effect is covered by itself. `SPBROKER_CRASH_POINTS` says
how many of them are tried (`all`: every one; `make chaos`); the rest is for the long run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest

from tests.support.crashing import Mishap, Points
from tests.support.lives import METHODS, Lives

TRIED = os.environ.get("SPBROKER_CRASH_POINTS", "36")


class Life(Enum):
    """Of an order: what becomes of it."""

    TERMINATED = "terminated"
    RELEASED = "released"
    MODIFIED = "modified"

    @property
    def effects(self) -> set[str]:
        """What its points are at least."""
        if self is Life.RELEASED:
            return {"write", "reserve", "release"}
        return {"write", "reserve", "commit", "terminate", "build", "remove"}

    def begun(self, directory: Path, points: Callable[[str], Points]) -> Lives:
        return Lives(directory, {"r": self is not Life.RELEASED}, points, modified=self is Life.MODIFIED)


@dataclass(frozen=True)
class Point:
    node: str
    number: int
    what: str
    mishap: Mishap

    def __str__(self) -> str:
        return f"{self.node} {self.mishap} {self.number}: {self.what}"

    async def met(self, directory: Path, life: Life) -> None:
        """A life in which it comes once."""
        first = {self.node: Points(self.number, self.mishap)}
        await life.begun(directory, lambda name: first.pop(name, None) or Points()).lived()


async def points(directory: Path, life: Life) -> list[Point]:
    """All points of a life without a mishap."""
    plain = life.begun(directory, lambda name: Points())
    await plain.lived()
    assert plain.versions == {"r": 2 if life is Life.MODIFIED else 1}
    return [
        Point(node, number, what, mishap)
        for node, points in plain.points.items()
        for number, what in enumerate(points.seen)
        for mishap in Mishap
        if mishap.deadly or what.split()[0] in METHODS
    ]


@pytest.mark.parametrize("life", Life, ids=lambda life: life.value)
async def test_whatever_happens_at_a_point_nothing_is_left_doubled_or_hidden(life: Life, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    every = await points(tmp_path / "plain", life)
    assert {p.what.split()[0] for p in every} >= life.effects
    tried = every if TRIED == "all" else every[:: max(1, len(every) * 2 // int(TRIED))]
    failed = []
    for n, point in enumerate(tried):
        directory = tmp_path / str(n)
        directory.mkdir()
        try:
            await point.met(directory, life)
        except AssertionError as error:
            failed.append(f"{point}\n{error}")
    assert not failed, "\n".join([f"{len(failed)} of {len(tried)} of {len(every)} points:", *failed])
