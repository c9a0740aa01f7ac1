"""Orders over real sockets while the lines between brokers are slow, deaf, mute or break, and processes are killed.

A schedule is its seed: it says how many orders live and how, what befalls the n-th request of each line, and who is killed when.
`SPBROKER_WEATHERS` says how many are run, `SPBROKER_WEATHER` names one.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.support.chaos_report import Facts, tell
from tests.support.killing import Federation

WEATHERS = int(os.environ.get("SPBROKER_WEATHERS", "2"))
ONE = os.environ.get("SPBROKER_WEATHER")
BLOCKS = range(1 if ONE else min(2, -(-WEATHERS // 4)))


@pytest.mark.parametrize("block", BLOCKS)
async def test_whatever_befalls_the_lines_every_order_comes_to_its_end(block: int, tmp_path: Path) -> None:
    seeds = [int(ONE)] if ONE else range(block, WEATHERS, len(BLOCKS))
    met: Counter[str] = Counter()
    failed: list[str] = []
    run = 0
    async with Federation(tmp_path) as federation:
        for seed in seeds:
            run += 1
            try:
                met += await federation.weathered(seed)
            except AssertionError as error:
                failed.append(f"SPBROKER_WEATHER={seed}: {error}")
                break  # what is left of it would be found again after every other
    checked = federation.checked
    tell(Facts("schedules over sockets", schedules=run, checked=checked, befell=met, violations=failed))
    assert not failed, "\n".join(failed)
    assert met, "something happened"
