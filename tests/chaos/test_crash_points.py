"""Every crash point of an order's life: a broker dies before and after each of its writes, calls and builds; or the write, the
call or the build fails; or the call or the build is made twice; or the call never arrives, is never answered or comes late.
Afterwards all is as if nothing had happened.

The points are those that a life without a mishap goes through: a new effect is covered by itself. `SPBROKER_CRASH_POINTS` says
how many of them are tried (`all`: every one; `make chaos`); the rest is for the long run.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.chaos_report import Facts, tell
from tests.support.crashing import Effect, Mishap, Points
from tests.support.lives import KINDS, Lives

TRIED = os.environ.get("SPBROKER_CRASH_POINTS", "40")
SHARES = 4 if TRIED == "all" else 1
"""A kind of life is tried by so many tests, side by side."""
EFFECTS = {
    "terminated": {"write", "reserve", "commit", "terminate", "build", "remove"},
    "released": {"write", "reserve", "release"},
    "extended": {"write", "reserve", "extend", "commit", "terminate", "build", "remove"},
    "ended early": {"write", "reserve", "commit", "terminate"},
    "modified": {"write", "reserve", "commit", "terminate", "build", "remove"},
    "scheduled": {"write", "reserve", "commit", "terminate", "build", "remove"},
    "built again": {"write", "reserve", "commit", "terminate", "build", "remove"},
    "flapping": {"write", "reserve", "commit", "terminate", "build", "remove"},
    "healed": {"write", "reserve", "commit", "terminate", "build", "remove"},
    "healed when asked": {"write", "reserve", "commit", "heal", "terminate", "build", "remove"},
    "sized": {"write", "ask", "reserve", "commit", "terminate", "build", "remove"},
}


@dataclass(frozen=True)
class Point:
    node: str
    number: int
    what: str
    mishap: Mishap

    def __str__(self) -> str:
        return f"{self.node} {self.mishap} {self.number}: {self.what}"

    async def met(self, directory: Path, kind: str, checked: Counter[str]) -> None:
        """A life in which it comes once."""
        first = {self.node: Points(self.number, self.mishap)}
        lives = Lives(directory, {"r": kind}, lambda name: first.pop(name, None) or Points())
        await lives.lived()
        checked.update(lives.checked)


async def points(directory: Path, kind: str) -> list[Point]:
    """All points of a life without a mishap."""
    plain = Lives(directory, {"r": kind}, lambda name: Points())
    await plain.lived()
    assert plain.versions == {"r": 1 + sum(step.startswith("modify") for step in KINDS[kind])}
    return [
        Point(node, number, what, mishap)
        for node, points in plain.points.items()
        for number, what in enumerate(points.seen)
        for mishap in Effect.of(what).meets()
    ]


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_happens_at_a_point_nothing_is_left_doubled_or_hidden(
    kind: str, share: int, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    every = await points(tmp_path / "plain", kind)
    assert {p.what.split()[0] for p in every} >= EFFECTS[kind]
    every = every[share::SHARES]
    tried = every if TRIED == "all" else every[:: max(1, len(every) * len(KINDS) // int(TRIED))]
    failed: list[str] = []
    checked: Counter[str] = Counter()
    for n, point in enumerate(tried):
        directory = tmp_path / str(n)
        directory.mkdir()
        try:
            await point.met(directory, kind, checked)
        except AssertionError as error:
            failed.append(f"{point}\n{error}")
    befell = Counter(str(point.mishap) for point in tried)
    what = f"crash points in one process, {kind}"
    tell(
        Facts(
            what,
            points=len(every),
            tried=len(tried),
            came=len(tried),
            checked=checked,
            befell=befell,
            violations=failed,
        )
    )
    assert not failed, "\n".join([f"{len(failed)} of {len(tried)} of {len(every)} points:", *failed])
