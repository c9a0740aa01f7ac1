"""One node as `spbroker serve` runs it, which tells on request what its store did.

    python benchmarks/peers/node.py DIR [PROFILE]

Each line on stdin is answered by one line of JSON: `{"commits": …, "transactions": …}`. The end of stdin ends the node.
With PROFILE the event loop's thread is profiled (cProfile) into that file.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import sys
from pathlib import Path

from broker.bootstrap.node import Node
from broker.bootstrap.serving import run


async def main(directory: Path) -> None:
    stopping, loop, nodes = asyncio.Event(), asyncio.get_running_loop(), list[Node]()

    def told() -> None:
        if not sys.stdin.readline():
            loop.remove_reader(sys.stdin)
            stopping.set()
        elif nodes:
            store = nodes[0].engine
            print(json.dumps({"commits": store.commits, "transactions": store.transactions}), flush=True)

    loop.add_reader(sys.stdin, told)
    await run(directory, stopping, nodes.append)


def profiled(directory: Path, file: str) -> None:
    profile = cProfile.Profile()
    profile.enable()
    try:
        asyncio.run(main(directory))
    finally:
        profile.disable()
        profile.dump_stats(file)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        profiled(Path(sys.argv[1]), sys.argv[2])
    else:
        asyncio.run(main(Path(sys.argv[1])))
