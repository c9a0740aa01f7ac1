"""Orders over real sockets while the lines between brokers are slow, deaf, mute or break, and processes are killed.

A schedule is its seed: it says how many orders live and how, what befalls the n-th request of each line, and who is killed when.
`SPBROKER_WEATHERS` says how many are run, and half as many with replicas; `SPBROKER_WEATHER` names one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.chaos_report import Facts, tell
from tests.support.killing import Federation
from tests.support.postgres import Where

WEATHERS = int(os.environ.get("SPBROKER_WEATHERS", "2"))
ONE = os.environ.get("SPBROKER_WEATHER")
BLOCKS = range(1 if ONE else min(2, -(-WEATHERS // 4)))


def seeds(block: int, schedules: int) -> Iterable[int]:
    return [int(ONE)] if ONE else range(block + 1, schedules + 1, len(BLOCKS))


@pytest.mark.parametrize("block", BLOCKS)
async def test_whatever_befalls_the_lines_every_order_comes_to_its_end(block: int, tmp_path: Path) -> None:
    await _weathered(seeds(block, WEATHERS), Federation(tmp_path))


@pytest.mark.parametrize("block", BLOCKS)
async def test_so_it_does_where_each_node_is_two_replicas(block: int, tmp_path: Path, databases: Where) -> None:
    await _weathered(seeds(block, WEATHERS // 2), Federation(tmp_path, stores=databases))


async def _weathered(seeds: Iterable[int], federation: Federation) -> None:
    met: Counter[str] = Counter()
    failed: list[str] = []
    run = 0
    async with federation:
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
