"""Real nodes whose disk is full, and two of them on one database."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from service_model.outcomes import Committed, Reserved, ServiceState
from tests.support.customer import Customer, wrong
from tests.support.disks import made_disk, on_disk, require_disks, seen_by
from tests.support.nodes import SETTLED_S, Nodes
from tests.support.served import served, stopped, up
from tests.support.topologies import chain

COPIED = 'cp "$1" "$2" && shift 2 && exec "$@"'


def fill(ballast: Path) -> None:
    """Until nothing more goes in."""
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while True:
            os.write(file, b"x" * 4096)
    except OSError:
        os.close(file)


async def held_until_refused(ann: Customer) -> tuple[list[str], str]:
    """Order on until a reservation is not recorded: what was answered as held, and the one that was not."""
    held: list[str] = []
    for number in range(500):
        ref = f"web-{number}"
        asked = asyncio.ensure_future(ann.reserve(ref, chain()))
        await asyncio.wait([asked])
        if asked.exception() is not None:
            assert await wrong(asked) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
            return held, ref
        assert isinstance(asked.result(), Reserved), asked.result()
        held.append(ref)
    raise AssertionError("the disk is large")


async def test_a_full_disk_refuses_orders_loses_none_and_is_forgotten_when_there_is_room(
    nodes: Nodes, ann: Customer, tmp_path: Path
) -> None:
    require_disks("ext4")
    top, disk = nodes["top"], tmp_path / "disk"
    image, kept = made_disk(tmp_path / "image"), top.settings.store
    disk.mkdir()
    await top.close()
    store = {"SPBROKER_STORE": str(disk / "broker.db")}

    def moved(*line: str) -> list[str]:
        return on_disk(image, disk, "sh", "-c", COPIED, "moved", str(kept), store["SPBROKER_STORE"], *line)

    async with served(top, moved, store) as process:
        await up(top, ann)
        await ann.order("first", chain())
        assert isinstance(await ann.reserve("second", chain()), Reserved)
        ballast = seen_by(process.pid, disk / "ballast")
        fill(ballast)
        held, refused = await held_until_refused(ann)
        assert await wrong(ann.commit("second")) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
        assert await wrong(ann.terminate("first")) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
        assert (await ann.status("first")).state is ServiceState.ACTIVE, "reading goes on"
        assert (await ann.status("second")).state is ServiceState.RESERVED
        ballast.unlink()
        async with asyncio.timeout(SETTLED_S):
            assert isinstance(await ann.reserve(refused, chain()), Reserved)
        assert await ann.commit(refused) == Committed(ref=refused, version=1)
        await ann.until(refused, ServiceState.ACTIVE)
        assert await stopped(process) == 0
    async with served(top, lambda *line: on_disk(image, disk, *line), store) as process:
        await up(top, ann)
        for ref in ("first", refused):
            assert (await ann.status(ref)).state is ServiceState.ACTIVE
        for ref in ("second", *held):
            assert (await ann.status(ref)).state is ServiceState.RESERVED
        assert await stopped(process) == 0
    await top.open()


async def test_a_second_broker_on_one_database_is_refused_and_told_which_process_has_it(
    nodes: Nodes, ann: Customer
) -> None:
    top = nodes["top"]
    await top.close()
    async with served(top) as first:
        await up(top, ann)
        async with served(top) as second:
            assert second.stdout is not None
            told = (await second.stdout.read()).decode()
            assert await second.wait() == 3
            assert f"{top.settings.store}: another broker uses this database (process {first.pid})" in told, told
        await ann.order("web", chain())
        assert await stopped(first) == 0
    await top.open()
