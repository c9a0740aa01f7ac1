"""A store that takes nothing for a while, from every write of an order's life on: who asks is refused and asks again, nothing in
memory is ahead of the store, and when there is room the same brokers go on.

The writes are those that a life without a fault goes through: a new one is covered by itself. `SPBROKER_CRASH_POINTS` says
how many of them, of all kinds of life, are tried (`all`: every one; `make chaos`); others each kind of life tries.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from broker.storage.books import SqlHoldBook, SqlOrderBook
from broker.storage.errors import StoreError
from tests.support.crashing import Points
from tests.support.lives import KINDS, Lives
from tests.support.stack import Node

T = TypeVar("T")

TRIED = os.environ.get("SPBROKER_CRASH_POINTS", "48")
LASTS = 5
"""How many writes are refused one after the other."""


class FullDisk(Points):
    """From the write with the number `full_from` on, `lasts` of them are refused."""

    def __init__(self, full_from: int = -1, lasts: int = 0) -> None:
        super().__init__()
        self.refused = range(full_from, full_from + lasts)
        self.writes = 0

    async def through(self, what: str, effect: Callable[[], Awaitable[T]]) -> T:
        if self.counts and what.startswith("write"):
            self.writes += 1
            if self.writes - 1 in self.refused:
                raise StoreError(f"{what}: the disk is full")
        return await super().through(what, effect)


class Checked(Lives):
    """Lives at whose end every broker knows what its store knows."""

    async def _charged_once(self) -> None:
        await super()._charged_once()
        for node in self.stack.nodes.values():
            await self._knows_what_is_recorded(node)

    async def _knows_what_is_recorded(self, node: Node) -> None:
        orders, allocations = await SqlOrderBook(node.engine, "").load()
        assert {o.id: o for o in orders} == node.broker.saved == node.broker.wanted
        assert {*allocations} == {*node.broker.allocations(), *node.broker.path_ids.allocations()}
        for name, vim in node.vims.items():
            holds, resting = await SqlHoldBook(node.engine, "", name).load()
            assert {h.ref: h for h in holds} == {h.ref: h for h in vim.holds()}
            assert {*resting} == {*vim.resting()}


async def writes(directory: Path, kind: str) -> dict[str, int]:
    plain = {name: FullDisk() for name in ("a", "b", "c")}
    await Checked(directory, {"r": kind}, plain.__getitem__).lived()
    return {name: disk.writes for name, disk in plain.items()}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_full_disk_at_any_write_only_delays_an_order(kind: str, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    every = await writes(tmp_path / "plain", kind)
    assert min(every.values()) >= 3
    points = [(name, first) for name, number in every.items() for first in range(number)]
    step = 1 if TRIED == "all" else max(1, len(points) * len(KINDS) // int(TRIED))
    failed = []
    for name, first in points[[*KINDS].index(kind) % step :: step]:
        disks = {other: FullDisk() for other in every} | {name: FullDisk(first, LASTS)}
        directory = tmp_path / f"{name}-{first}"
        directory.mkdir()
        try:
            await Checked(directory, {"r": kind}, disks.__getitem__).lived()
        except AssertionError as error:
            failed.append(f"{name} from write {first} on: {error}")
        assert disks[name].writes > first
    assert not failed, "\n".join(failed)
