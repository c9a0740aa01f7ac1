"""Every crash point again, with processes and sockets: each node is killed by SIGKILL before and after each of its writes, calls
and builds, or these fail, or are made twice. After the restart nothing is left, doubled or hidden. The same where each node is
two replicas on PostgreSQL, and the other goes on.

The points are those of a life without a mishap. `SPBROKER_KILLED_POINTS` says how many are tried (`all`: every one).
"""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from zlib import crc32

import pytest

from tests.support.chaos_report import Facts, tell
from tests.support.killing import Federation, Place, places, tree_of
from tests.support.lives import KINDS
from tests.support.postgres import Where

TRIED = os.environ.get("SPBROKER_KILLED_POINTS", "4")
SHORT = ("terminated",)
"""The kinds of life of which a few points are tried in the short form."""
REPLICATED = ("released", "modified", "sized", "healed")
"""Those that are lived with replicas too."""
SHARES = 6 if TRIED == "all" else 1
"""A kind of life is tried by so many tests, each with trees of its own: most of the time one process waits for another."""


def chosen(every: list[Place], kind: str, share: int, part: int) -> list[Place]:
    """A share of all, or a `part`-th of as many as are asked for, the same each time."""
    if TRIED == "all":
        return every[share::SHARES]
    return sorted(every, key=lambda place: crc32(f"{kind} {place}".encode()))[: -(-int(TRIED) // part)]


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("kind", [*KINDS] if TRIED == "all" else SHORT)
async def test_wherever_a_process_is_killed_nothing_is_left_doubled_or_hidden(
    kind: str, share: int, tmp_path: Path
) -> None:
    await _tried(kind, share, tmp_path)


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("kind", REPLICATED if TRIED == "all" else SHORT)
async def test_wherever_a_replica_is_killed_the_other_goes_on(
    kind: str, share: int, tmp_path: Path, databases: Where
) -> None:
    await _tried(kind, share, tmp_path, databases)


async def _tried(kind: str, share: int, folder: Path, databases: Where | None = None) -> None:
    failed: list[str] = []
    left: list[Place] | None = None
    tree = tree_of(kind)
    happened, what = 0, f"crash points of {'replicas' if databases else 'processes'}, {kind}"
    for number in count():
        (folder / str(number)).mkdir()
        stores = (lambda name, number=number: databases(f"{name}-{number}")) if databases else None
        async with Federation(folder / str(number), tree, stores) as federation:
            if left is None:
                every = places((await federation.lived(kind))[0])
                assert {place.node for place in every} == {*tree.nodes}
                left = chosen(every, kind, share, 2 if databases else 1)
                tell(Facts(what, points=len(every[share::SHARES])))
            while left and len(failed) == number:
                place, checked = left.pop(), federation.checked.copy()
                came = True
                try:
                    _, came = await federation.lived(kind, place)
                except AssertionError as error:
                    failed.append(f"{place}\n{error}")  # what is left of it would be found again after every other
                happened += came
                befell = {place.mishap.value: int(came)}
                tell(
                    Facts(
                        what,
                        tried=1,
                        came=came,
                        checked=federation.checked - checked,
                        befell=befell,
                        violations=failed[number:],
                    )
                )
        if not left:
            break
    assert happened, "something happened"
    assert not failed, "\n".join(failed)
