"""A node with many suppliers' notes.

    python benchmarks/peers/large.py DIR SUPPLIERS FEW

FEW: up to how many ways of notes plans are made in the event loop. A line on stdin fills the catalogue, and is answered
by `{}`; the end of stdin ends the node.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.planning.federations import Room, federation
from broker.accounts.founding import Layout, read_keys
from broker.accounts.secrets import Passwords
from broker.bootstrap.node import Node, Parts, over_grpc
from broker.bootstrap.serving import configure_logging, listen, spare_collections
from broker.orders.catalogue import Listing
from broker.settings.process import NODE_FILE, load_process
from service_model.clock import SystemClock


def fill(node: Node, suppliers: int) -> None:
    """Notes of suppliers that nobody answers for: they are planned with and never called."""
    now = datetime.now(UTC)
    views = federation(suppliers, 0, room=Room.FAIR).snapshot.suppliers
    listings = (
        Listing(alias=v.alias, sp_id=v.sp_id, local=False, expose={own: name for name, own in v.saps.items()})
        for v in views
    )
    node.catalogue.list(tuple(listings))
    for view in views:
        node.catalogue.put(view.alias, replace(view.note, not_before=now, expires=now + timedelta(hours=6)))


async def main(directory: Path, suppliers: int, few: int) -> None:
    settings = load_process(directory / NODE_FILE, os.environ)
    configure_logging(settings.log_level)
    keys, clock, passwords = read_keys(Layout(directory)), SystemClock(), Passwords()
    spare_collections()
    parts = Parts(clock=clock, connect=over_grpc(keys, clock), passwords=passwords, few_ways=few)
    node = Node(settings.sp_id, settings.store, keys, parts)
    await node.open()
    server = await listen(node, settings, keys, passwords, clock)
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()

    def told() -> None:
        if sys.stdin.readline():
            fill(node, suppliers)
            print("{}", flush=True)
        else:
            loop.remove_reader(sys.stdin)
            stopping.set()

    loop.add_reader(sys.stdin, told)
    await stopping.wait()
    await server.stop(0.1)
    await node.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
