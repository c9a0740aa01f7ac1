"""Real nodes, backed up while they serve, restored and accepted, with the commands that an operator has."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

from broker.accounts.admin_port import CannotAccept
from capability_registry.note import Lifecycle
from service_model.outcomes import Refused, ServiceState
from tests.support.customer import Customer, wrong
from tests.support.nodes import OPERATOR, SETTLED_S, Nodes, RealNode
from tests.support.served import ROOT
from tests.support.topologies import FROM, TO, chain


async def spbroker(*line: str) -> tuple[int, str]:
    """A command's exit code, and what it says."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}
    command = [sys.executable, "-m", "broker.cli", *line]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=STDOUT)
    told, _ = await process.communicate()
    return process.returncode or 0, told.decode()


async def restored(node: RealNode, backup: Path) -> None:
    await node.close()
    code, told = await spbroker("restore", str(node.directory), str(backup), "--reason", "a test")
    assert code == 0, told
    await node.open()


async def accepted(node: RealNode) -> None:
    """As soon as all its suppliers can be asked."""
    async with asyncio.timeout(SETTLED_S):
        while True:
            try:
                await node.node.admin.accept((), "a test", actor=OPERATOR)
                return
            except CannotAccept:
                await asyncio.sleep(0.1)


async def test_a_node_is_backed_up_while_it_serves_and_restored_when_it_does_not(
    nodes: Nodes, ann: Customer, tmp_path: Path
) -> None:
    top, backup = nodes["top"], tmp_path / "backup"
    ordering = [asyncio.create_task(ann.order(f"web-{n}", chain())) for n in range(5)]
    await ordering[0]
    code, told = await spbroker("backup", str(top.directory), str(backup))
    assert code == 0, told
    assert "checked" in told
    await asyncio.gather(*ordering)
    assert (await spbroker("backup", str(top.directory), str(backup)))[0] == 3
    code, told = await spbroker("restore", str(top.directory), str(backup), "--reason", "a test")
    assert code == 3
    assert f"another broker uses this database (process {os.getpid()})" in told
    await ann.order("after", chain())
    await restored(top, backup)
    await ann.log_in()
    assert (await ann.status("web-0")).state is ServiceState.ACTIVE
    assert await wrong(ann.status("after")) == ("NOT_FOUND", "SERVICE_NOT_FOUND")
    for call in (ann.reserve("more", chain()), ann.terminate("web-0"), ann.commit("web-1")):
        assert await wrong(call) == ("UNAVAILABLE", "READ_ONLY")
    inventory = await top.inventory()
    assert "restored from a backup" in inventory.read_only
    assert any("unknown here: ordered after the backup" in d.message for d in inventory.discrepancies)
    await accepted(top)
    assert (await top.inventory()).read_only == ""
    await top.announced("ann", FROM, TO)
    fresh = await ann.order("after", chain())
    assert fresh.state is ServiceState.ACTIVE
    await ann.end("web-0")
    assert any("unknown here: ordered after the backup" in d.message for d in (await top.inventory()).discrepancies)


async def test_whoever_buys_of_a_restored_node_reads_newer_notes_and_orders_again_once_it_is_accepted(
    nodes: Nodes, ann: Customer, tmp_path: Path
) -> None:
    top, middle, backup = nodes["top"], nodes["middle"], tmp_path / "backup"
    await ann.order("before", chain())
    assert (await spbroker("backup", str(middle.directory), str(backup)))[0] == 0
    await ann.order("after", chain())
    (former,) = [s for s in await top.node.admin.suppliers() if s.sp_id == "middle"]
    await restored(middle, backup)
    note = (await middle.note_after("top", former.edition)).note
    assert note.lifecycle is Lifecycle.WITHDRAWING
    assert not note.matrix, "nothing is offered while nothing may be ordered"
    assert isinstance(await ann.reserve("more", chain()), Refused)
    assert (await ann.status("before")).state is ServiceState.ACTIVE
    await accepted(middle)
    await top.announced("ann", FROM, TO)
    (now,) = [s for s in await top.node.admin.suppliers() if s.sp_id == "middle"]
    assert now.edition > former.edition
    assert not now.refusal
    await ann.order("again", chain())
    await ann.end("before")
    await ann.terminate("after")
    assert (await ann.status("after")).state is ServiceState.TERMINATING, (
        "middle does not confirm what it does not know"
    )
