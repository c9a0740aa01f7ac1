"""Several orders at once while mishaps come at random: brokers die, writes and builds fail, calls
are lost, late, doubled or never answered, over and over.

A schedule is its seed. `SPBROKER_SCHEDULES` says how many are run (`make chaos`: 2000), `SPBROKER_SCHEDULE` names one.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.support.chaos_report import Facts, tell
from tests.support.crashing import Chance, Luck
from tests.support.lives import KINDS, Lives

SCHEDULES = int(os.environ.get("SPBROKER_SCHEDULES", "12"))
ONE = os.environ.get("SPBROKER_SCHEDULE")
BLOCKS = range(1 if ONE else min(4, SCHEDULES))


def seeds(block: int) -> list[int]:
    return [int(ONE)] if ONE else list(range(block, SCHEDULES, len(BLOCKS)))


@pytest.mark.parametrize("block", BLOCKS)
async def test_whatever_happens_every_order_comes_to_its_end_and_nothing_is_left(block: int, tmp_path: Path) -> None:
    met: Counter[str] = Counter()
    checked: Counter[str] = Counter()
    failed: list[str] = []
    for seed in seeds(block):
        rng = random.Random(f"schedule/{seed}")
        luck = Luck(rng, left=rng.randint(1, 8))
        orders = {f"r{n}": rng.choice(tuple(KINDS)) for n in range(rng.randint(1, 3))}
        directory = tmp_path / str(seed)
        directory.mkdir()
        lives = Lives(
            directory,
            orders,
            lambda name, luck=luck: Chance(luck),  # type: ignore[misc]
            lambda rng=rng: rng.uniform(0, 20),  # type: ignore[misc]
            lambda rng=rng: rng.uniform(1, 60),  # type: ignore[misc]
            str(seed),
        )
        try:
            await lives.lived()
        except AssertionError as error:
            failed.append(f"SPBROKER_SCHEDULE={seed}: {error}")
        met.update(luck.met)
        checked.update(lives.checked)
    run = len(seeds(block))
    tell(Facts("schedules on a simulated clock", schedules=run, checked=checked, befell=met, violations=failed))
    assert not failed, "\n".join(failed)
    assert met, "something happened"
