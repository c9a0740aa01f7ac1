"""Every crash point of an order's life: a broker dies before and after each of its writes, calls and builds; or the call is
lost, its answer is, or it comes twice. Afterwards all is as if nothing had happened.

The points are those that a life without a mishap goes through: a new effect is covered by itself. `SPBROKER_CRASH_POINTS` says
how many of them are tried (`all`: every one; `make chaos`); the rest is for the long run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.crashing import Mishap, Points
from tests.support.lives import METHODS, Lives

TRIED = os.environ.get("SPBROKER_CRASH_POINTS", "36")
EFFECTS = {True: {"write", "reserve", "commit", "terminate", "build", "remove"}, False: {"write", "reserve", "release"}}


@dataclass(frozen=True)
class Point:
    node: str
    number: int
    what: str
    mishap: Mishap

    def __str__(self) -> str:
        return f"{self.node} {self.mishap} {self.number}: {self.what}"

    async def met(self, directory: Path, committed: bool) -> None:
        """A life in which it comes once."""
        first = {self.node: Points(self.number, self.mishap)}
        await Lives(directory, {"r": committed}, lambda name: first.pop(name, None) or Points()).lived()


async def points(directory: Path, committed: bool) -> list[Point]:
    """All points of a life without a mishap."""
    plain = Lives(directory, {"r": committed}, lambda name: Points())
    await plain.lived()
    assert plain.versions == {"r": 1}
    return [
        Point(node, number, what, mishap)
        for node, points in plain.points.items()
        for number, what in enumerate(points.seen)
        for mishap in Mishap
        if mishap.deadly or what.split()[0] in METHODS
    ]


@pytest.mark.parametrize("committed", [True, False], ids=["terminated", "released"])
async def test_whatever_happens_at_a_point_nothing_is_left_doubled_or_hidden(committed: bool, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    every = await points(tmp_path / "plain", committed)
    assert {p.what.split()[0] for p in every} >= EFFECTS[committed]
    tried = every if TRIED == "all" else every[:: max(1, len(every) * 2 // int(TRIED))]
    failed = []
    for n, point in enumerate(tried):
        directory = tmp_path / str(n)
        directory.mkdir()
        try:
            await point.met(directory, committed)
        except AssertionError as error:
            failed.append(f"{point}\n{error}")
    assert not failed, "\n".join([f"{len(failed)} of {len(tried)} of {len(every)} points:", *failed])
