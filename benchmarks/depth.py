"""How long a hold takes where every call to a supplier takes 5 ms: by the number of segments, and by how deep they are bought.

    python benchmarks/depth.py [--quick]

Rules kept here
- Brokers stacked in one process, each with its own SQLite file, `synchronous` as nodes have it; simulated domains. The clock is
  the machine's. A call is 5 ms of waiting and what its supplier then does.
- *One by one*: the same brokers in the same run, each of which has one call under way at a time. It is what a broker does that
  goes along the chain.
- Every order is terminated before the next; medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

import structlog  # noqa: E402

from benchmarks.peers.machine import machine  # noqa: E402
from service_model.clock import SystemClock  # noqa: E402
from service_model.outcomes import Reserved  # noqa: E402
from tests.support.faults import Answer, Fault  # noqa: E402
from tests.support.lines import first_and_last, line  # noqa: E402
from tests.support.orders import CTX  # noqa: E402
from tests.support.stack import Stack  # noqa: E402

CALL_S = 0.005


def delayed() -> Fault:
    async def fault(call: Answer, ref: str, version: int) -> Any:
        await asyncio.sleep(CALL_S)
        return await call()

    return fault


def one_by_one(turn: asyncio.Lock) -> Fault:
    async def fault(call: Answer, ref: str, version: int) -> Any:
        async with turn:
            await asyncio.sleep(CALL_S)
            return await call()

    return fault


async def held_ms(stack: Stack, length: int, ref: str) -> float:
    spec = first_and_last(stack.top, length)
    begun = time.perf_counter()
    answer = await stack.customer().reserve(ref, 1, spec, CTX)
    taken = (time.perf_counter() - begun) * 1000
    assert isinstance(answer, Reserved), answer
    await stack.customer().terminate(ref, CTX)
    while await stack.busy():
        await stack.turn()
    return taken


async def measured(lengths: Sequence[int], depth: int, orders: int) -> dict[tuple[int, int], tuple[float, float]]:
    """By length and depth, the milliseconds until the hold is answered: all at once, and one by one. Every length in turn, so
    that what else the machine does falls on all alike."""
    taken: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="spbroker-depth-") as folder:
        async with AsyncExitStack() as opened:
            stacks = {}
            for length in lengths:
                (own := Path(folder) / str(length)).mkdir()
                stack = Stack(line(length, depth), own, clock=SystemClock())  # type: ignore[arg-type]
                stacks[length] = await opened.enter_async_context(stack)
            for n in range(-2, orders):  # the first two build graphs and statements
                for name, (length, stack) in product(("at once", "one by one"), stacks.items()):
                    for node in stack.nodes.values():
                        turn = asyncio.Lock()
                        for wire in node.lines.values():
                            wire.always["reserve"] = delayed() if name == "at once" else one_by_one(turn)
                    ms = await held_ms(stack, length, f"{name} {n}")
                    if n >= 0:
                        taken.setdefault((name, length), []).append(ms)
    return {
        (length, depth): (statistics.median(taken["at once", length]), statistics.median(taken["one by one", length]))
        for length in lengths
    }


async def measure(lengths: Sequence[int], depths: Sequence[int], orders: int) -> dict[str, Any]:
    figures: dict[tuple[int, int], tuple[float, float]] = {}
    for depth in depths:
        figures |= await measured(lengths, depth, orders)
    least, most, deep = lengths[0], lengths[-1], depths[-1]
    return {
        "benchmark": "depth",
        "figures": [
            {"segments": n, "depth": d, "at_once_ms": round(x, 1), "one_by_one_ms": round(y, 1)}
            for (n, d), (x, y) in figures.items()
        ],
        "baseline": "one by one",
        "ratio": {
            f"{most}_segments_to_{least}": {d: round(figures[most, d][0] / figures[least, d][0], 2) for d in depths},
            f"{most}_segments_to_{least}_one_by_one": {
                d: round(figures[most, d][1] / figures[least, d][1], 2) for d in depths
            },
            f"depth_{deep}_to_1": {n: round(figures[n, deep][0] / figures[n, 1][0], 2) for n in lengths},
            "one_by_one_to_at_once": {n: round(figures[n, 1][1] / figures[n, 1][0], 2) for n in lengths},
        },
        "machine": machine(call_ms=CALL_S * 1000, orders=orders),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 30 s on two cores")
    quick = parser.parse_args().quick
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    lengths, orders = ((2, 6, 12), 5) if quick else ((2, 4, 6, 8, 10, 12), 20)
    result = asyncio.run(measure(lengths, (1, 2, 3, 4), orders))
    print("segments   depth   at once ms   one by one ms")
    for row in result["figures"]:
        print(f"{row['segments']:8} {row['depth']:7} {row['at_once_ms']:12} {row['one_by_one_ms']:15}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
