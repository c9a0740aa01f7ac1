"""How long an order takes through three levels, beside the least that the same calls and durable commits take.

    python benchmarks/order.py [--quick] [--profile DIR]

Rules kept here
- top, middle and leaf are nodes in processes of their own, over TLS, with simulated domains and SQLite. A customer reserves
  and commits a chain of two functions: one client in turn (latency), then many at once (throughput).
- The baseline are three bare programs (`peers/bare.py`): the same call tree, TLS, message sizes, and as many durable
  transactions in the same places. Both are measured in one run, alternating. What both did is counted, not assumed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

import grpc  # noqa: E402

from benchmarks.peers.contender import Settling  # noqa: E402
from benchmarks.peers.federation import (  # noqa: E402
    READY_S,
    announced,
    broker_contender,
    log_in,
    remote_calls,
    start_nodes,
    watch_nodes,
)
from benchmarks.peers.least import authority, bare_contender, sizes, start_bare, watch_bare  # noqa: E402
from benchmarks.peers.machine import machine  # noqa: E402
from benchmarks.peers.processes import Peers  # noqa: E402
from tests.support.customer import PASSWORD, Customer  # noqa: E402
from tests.support.topologies import LEVELS  # noqa: E402


def between(before: Mapping[str, Any], after: Mapping[str, Any], what: str) -> dict[str, int]:
    return {level: after[level][what] - before[level][what] for level in LEVELS}


async def measure(folder: Path, quick: bool, profiles: Path | None) -> dict[str, Any]:
    in_turn, rounds, clients, seconds = (25, 2, 16, 2.5) if quick else (200, 4, 16, 10.0)
    ours, bare = Peers(), Peers()
    tasks: list[asyncio.Task[None]] = []
    try:
        nodes = await start_nodes(folder, ours, profiles)
        ann = await log_in(Customer(nodes["top"], "ann"), PASSWORD)
        await announced(ann)
        told = Settling()
        tasks.append(asyncio.create_task(watch_nodes(ann, told)))
        broker = broker_contender(ann, told)
        await broker.in_turn(3)  # warm
        counted = 10
        before, calls = await ours.counts(), remote_calls(nodes)
        await broker.in_turn(counted)
        after, called = await ours.counts(), remote_calls(nodes)
        transactions = {k: round(v / counted) for k, v in between(before, after, "transactions").items()}
        needed = {"top": 4, "middle": 6, "leaf": 6}
        settle = {level: transactions[level] - needed[level] for level in LEVELS}
        status = await ann.status(next(iter(await ann.refs())))
        measured = sizes(nodes, status, ann)
        address = await start_bare(folder, nodes, measured, settle, bare)
        channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority(nodes["top"].layout)))
        heard = Settling()
        tasks.append(asyncio.create_task(watch_bare(channel, heard)))
        least = bare_contender(channel, measured, heard)
        await bare.counts()  # each answers once it follows the level below
        await asyncio.wait_for(heard.begun.wait(), READY_S)
        await least.in_turn(3)
        bare_before = await bare.counts()
        await least.in_turn(counted)
        bare_after = await bare.counts()
        broker.latencies.clear()
        least.latencies.clear()
        for _ in range(rounds):
            await broker.in_turn(in_turn)
            await least.in_turn(in_turn)
        for _ in range(rounds):
            await broker.at_once(clients, seconds)
            await ours.counts()
            await least.at_once(clients, seconds)
        await channel.close()
        await ann.close()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await ours.stop()
        await bare.stop()
    figures, baseline = broker.figures(), least.figures()
    bare_transactions = {k: round(v / counted) for k, v in between(bare_before, bare_after, "transactions").items()}
    made = sum(called[level] - calls[level] for level in LEVELS) / counted + 2
    return {
        "benchmark": "order",
        "figures": {**figures, "transactions_per_order": transactions, "calls_per_order": made},
        "baseline": {**baseline, "transactions_per_order": bare_transactions, "calls_per_order": 6},
        "ratio": {
            "p50": round(figures["p50_ms"] / baseline["p50_ms"], 2),
            "throughput": round(baseline["orders_per_s"] / figures["orders_per_s"], 2),
        },
        "machine": machine(message_bytes=measured),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    parser.add_argument("--profile", type=Path, metavar="DIR", help="leave cProfile files of the three nodes there")
    given = parser.parse_args()
    if given.profile is not None:
        given.profile.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spbroker-order-") as folder:
        result = asyncio.run(measure(Path(folder), given.quick, given.profile))
    figures, baseline = result["figures"], result["baseline"]
    print("reserve + commit through three levels            broker      bare")
    for key in ("p50_ms", "p99_ms", "orders_per_s"):
        print(f"  {key:44} {figures[key]:>8} {baseline[key]:>9}")
    for key in ("transactions_per_order", "calls_per_order"):
        print(f"  {key}: broker {figures[key]}, bare {baseline[key]}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
