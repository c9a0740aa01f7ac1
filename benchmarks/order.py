"""How long an order takes through trees of brokers, beside the least that the same calls and durable commits take; and what
live services cost: memory, and time to take them up after a crash.

    python benchmarks/order.py [--quick] [--store postgresql] [--shapes 3x1,1x4] [--live N]
                               [--live-shape 2x1] [--profile DIR]

Rules kept here
- A shape is levels × fan-out: so many levels of brokers, each broker with so many suppliers, the lowest with domains of its own
  (`peers/tree.py`). Every broker is a node in a process of its own, over TLS, with simulated domains and a store of its own: a
  file of SQLite, or a database of one PostgreSQL server that is started for the run, durable on the disk as SQLite is. A customer
  reserves and commits a chain through all domains: one client in turn (latency), then many at once (throughput).
- The baseline are bare programs (`peers/bare.py`): the same call tree, TLS, message sizes, and as many durable transactions in
  the same places of the same kind of store. Both are measured in one run, alternating. What both did is counted, not assumed.
- Processor time is that of all brokers (or bare programs) together, from the first of many orders at once until everything after
  the last is over; what a server of PostgreSQL or the client takes is not in it. It depends less than time does on who else uses
  the machine.
- Live services are ordered through the API of a tree; what the first tenth of them takes of processors stands beside the last.
  Then the top is killed and started again: until it answers, and until its processor rests, which is when all is taken up and
  heard of again from below. Simulated domains of its own have lost all then, and it has been built again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

import grpc  # noqa: E402

from benchmarks.peers.contender import Contender, Settling  # noqa: E402
from benchmarks.peers.federation import (  # noqa: E402
    READY_S,
    announced,
    broker_contender,
    log_in,
    remote_calls,
    start_node,
    start_nodes,
    watch_nodes,
)
from benchmarks.peers.least import authority, bare_contender, sizes, start_bare, watch_bare  # noqa: E402
from benchmarks.peers.machine import machine  # noqa: E402
from benchmarks.peers.processes import Peers, used_s  # noqa: E402
from benchmarks.peers.stores import POSTGRESQL, SQLITE, Stores, stores  # noqa: E402
from benchmarks.peers.tree import ACCOUNTS, Broker, Shape, spec  # noqa: E402
from tests.support.customer import PASSWORD, Customer  # noqa: E402
from tests.support.nodes import RealNode  # noqa: E402

SHAPES = (Shape(1, 1), Shape(2, 1), Shape(3, 1), Shape(5, 1), Shape(1, 4), Shape(1, 16), Shape(2, 4))
QUICK = (Shape(1, 1), Shape(3, 1))
MAIN = Shape(3, 1)
"""What the figures at the top of the result are of, where it was measured."""
LIVE, LIVE_QUICK, LIVE_SHAPE = 10_000, 60, Shape(2, 1)
CLIENTS = 16
REST_S = 0.5
"""Over how long a processor that rests is looked at."""


def top_of(shape: Shape, nodes: Mapping[str, RealNode]) -> RealNode:
    return nodes[Broker(shape, 0, 0).sp_id]


def between(before: Mapping[str, Any], after: Mapping[str, Any], orders: int) -> dict[str, int]:
    """Transactions of one order, by node."""
    return {name: round((after[name]["transactions"] - before[name]["transactions"]) / orders) for name in after}


async def measure(folder: Path, shape: Shape, quick: bool, profiles: Path | None, stores: Stores) -> dict[str, Any]:
    """An order through one shape, by both contenders."""
    in_turn, rounds, clients, seconds = (10, 2, CLIENTS, 1.0) if quick else (50, 4, CLIENTS, 5.0)
    ours, bare = Peers(), Peers()
    tasks: list[asyncio.Task[None]] = []
    try:
        nodes = await start_nodes(folder, shape, ours, profiles, stores=stores)
        ordered, top = spec(shape), top_of(shape, nodes)
        ann = await log_in(Customer(top, ACCOUNTS[0]), PASSWORD)
        await announced(ann, ordered)
        told = Settling()
        tasks.append(asyncio.create_task(watch_nodes(ann, told)))
        broker = broker_contender(ann, ordered, told)
        await broker.in_turn(3)  # warm
        counted = 5
        before, calls = await ours.counts(), remote_calls(nodes)
        await broker.in_turn(counted)
        after, called = await ours.counts(), remote_calls(nodes)
        transactions = between(before, after, counted)
        status = await ann.status(next(iter(await ann.refs())))
        measured = sizes(nodes, status, ann, ordered)
        address = await start_bare(folder, shape, nodes, measured, transactions, bare, stores)
        channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority(top.layout)))
        heard = Settling()
        tasks.append(asyncio.create_task(watch_bare(channel, heard)))
        least = bare_contender(channel, measured, heard)
        await bare.counts()  # each answers once it follows the level below
        await asyncio.wait_for(heard.begun.wait(), READY_S)
        await least.in_turn(3)
        bare_before = await bare.counts()
        await least.in_turn(counted)
        bare_transactions = between(bare_before, await bare.counts(), counted)
        await alternating(((broker, ours), (least, bare)), in_turn, rounds, clients, seconds)
        await channel.close()
        await ann.close()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await ours.stop()
        await bare.stop()
    figures, baseline = broker.figures(), least.figures()
    brokers = len(nodes)
    return {
        "figures": {
            **figures,
            "transactions_per_order": sum(transactions.values()),
            "calls_per_order": (called - calls) / counted + 2,
        },
        "baseline": {
            **baseline,
            "transactions_per_order": sum(bare_transactions.values()),
            "calls_per_order": 2 * brokers,
        },
        "ratio": {
            "p50": round(figures["p50_ms"] / baseline["p50_ms"], 2),
            "throughput": round(baseline["orders_per_s"] / figures["orders_per_s"], 2),
            "processor": round(figures["processor_ms"] / baseline["processor_ms"], 2),
        },
        "message_bytes": measured,
    }


async def alternating(
    measured: Sequence[tuple[Contender, Peers]], in_turn: int, rounds: int, clients: int, seconds: float
) -> None:
    for contender, _ in measured:
        contender.latencies.clear()
    for _ in range(rounds):
        for contender, _ in measured:
            await contender.in_turn(in_turn)
    for _ in range(rounds):
        for contender, peers in measured:
            before = peers.processor_s()
            ordered = await contender.at_once(clients, seconds)
            await peers.counts()  # until everything after the last is over
            contender.processor_ms.append((peers.processor_s() - before) / ordered * 1000)


async def live(folder: Path, services: int, shape: Shape, stores: Stores) -> dict[str, Any]:
    """So many live services in a tree: what they take, and how soon the top has them after a crash."""
    peers, tenth = Peers(), max(1, services // 10)
    try:
        nodes = await start_nodes(folder, shape, peers, stores=stores)
        ordered, top = spec(shape), top_of(shape, nodes)
        name = Broker(shape, 0, 0).sp_id
        ann = await log_in(Customer(top, ACCOUNTS[0]), PASSWORD)
        await announced(ann, ordered)
        contender = broker_contender(ann, ordered, Settling())
        for warm in range(20):
            await contender.order(f"warm-{warm}")
        await peers.counts()
        empty, begun = resident_kb(peers, name), time.perf_counter()
        first = await fill(contender, range(tenth), peers)
        await fill(contender, range(tenth, services - tenth), peers)
        last = await fill(contender, range(services - tenth, services), peers)
        filled_s = time.perf_counter() - begun
        full = resident_kb(peers, name)
        latencies = Contender(contender.order, contender.settled)
        late = [await timed(latencies, f"late-{n}") for n in range(20)]
        await ann.close()
        await peers.kill(name)
        begun = time.perf_counter()
        await start_node(top, peers)
        again = await log_in(Customer(top, ACCOUNTS[0]), PASSWORD)
        assert (await again.status("live-0")).ref == "live-0"
        answers_s = time.perf_counter() - begun
        await rests(peers, name)
        rests_s = time.perf_counter() - begun - REST_S
        fresh = resident_kb(peers, name)
        await again.close()
    finally:
        await peers.stop()
    return {
        "services": services,
        "ordered_per_s": round(services / filled_s, 1),
        "processor_ms_of_the_first": round(first / tenth * 1000, 2),
        "processor_ms_of_the_last": round(last / tenth * 1000, 2),
        "p50_ms_with_all_live": round(statistics.median(late) * 1000, 1),
        "mb_per_10000": round((full - empty) / 1024 * 10_000 / services, 1),
        "mb_after_restart": round(fresh / 1024, 1),
        "answers_after_s": round(answers_s, 2),
        "taken_up_after_s": round(rests_s, 2),
    }


async def timed(contender: Contender, ref: str) -> float:
    begun = time.perf_counter()
    await contender.order(ref)
    return time.perf_counter() - begun


async def fill(contender: Contender, services: range, peers: Peers) -> float:
    """Orders these, and returns what that took of processors, in seconds."""
    numbers, before = iter(services), peers.processor_s()

    async def client() -> None:
        for number in numbers:
            await contender.order(f"live-{number}")

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    await peers.counts()
    return peers.processor_s() - before


def resident_kb(peers: Peers, name: str) -> int:
    status = Path(f"/proc/{peers.processes[name].pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def rests(peers: Peers, name: str) -> None:
    """Until the node uses less than a twentieth of a processor."""
    pid = peers.processes[name].pid
    before = used_s(pid)
    while True:
        await asyncio.sleep(REST_S)
        now = used_s(pid)
        if now - before < REST_S / 20:
            return
        before = now


async def all_of(
    shapes: tuple[Shape, ...],
    services: int,
    live_shape: Shape,
    quick: bool,
    profiles: Path | None,
    stores: Stores,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="spbroker-order-") as folder:
            found[shape.name] = await measure(Path(folder), shape, quick, profiles, stores)
        show(shape, found[shape.name])
    main = found.get(MAIN.name) or next(iter(found.values()))
    taken = {}
    if services:
        with tempfile.TemporaryDirectory(prefix="spbroker-live-") as folder:
            taken = await live(Path(folder), services, live_shape, stores)
        print(f"live services, {live_shape.name}: {taken}")
    return {
        "benchmark": "order",
        "figures": {**main["figures"], "live": taken, "shapes": {n: f["figures"] for n, f in found.items()}},
        "baseline": {**main["baseline"], "shapes": {n: f["baseline"] for n, f in found.items()}},
        "ratio": {**main["ratio"], "shapes": {n: f["ratio"] for n, f in found.items()}},
        "machine": machine(message_bytes=main["message_bytes"]),
    }


def show(shape: Shape, result: Mapping[str, Any]) -> None:
    figures, baseline, ratio = result["figures"], result["baseline"], result["ratio"]
    print(f"{shape.levels} levels, fan-out {shape.fan_out}: reserve + commit           broker      bare", flush=True)
    for key in ("p50_ms", "p99_ms", "orders_per_s", "processor_ms", "transactions_per_order", "calls_per_order"):
        print(f"  {key:44} {figures[key]:>8} {baseline[key]:>9}", flush=True)
    told = f"p50 {ratio['p50']} times, throughput a {ratio['throughput']}th, processor {ratio['processor']} times"
    print(f"  {told}", flush=True)


def shapes_of(text: str) -> tuple[Shape, ...]:
    return tuple(Shape(*map(int, name.split("x"))) for name in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    parser.add_argument("--store", choices=(SQLITE, POSTGRESQL), default=SQLITE)
    parser.add_argument("--shapes", type=shapes_of, metavar="LEVELSxFANOUT,…", help="these, and not all")
    parser.add_argument("--live", type=int, metavar="N", help="so many live services; 0: none")
    parser.add_argument(
        "--live-shape", type=lambda text: shapes_of(text)[0], default=LIVE_SHAPE, metavar="LEVELSxFANOUT"
    )
    parser.add_argument(
        "--profile", type=Path, metavar="DIR", help="leave cProfile files of the nodes of each shape there"
    )
    given = parser.parse_args()
    if given.profile is not None:
        given.profile.mkdir(parents=True, exist_ok=True)
    services = given.live if given.live is not None else LIVE_QUICK if given.quick else LIVE
    shapes = given.shapes or (QUICK if given.quick else SHAPES)
    with stores(given.store) as where:
        result = asyncio.run(all_of(shapes, services, given.live_shape, given.quick, given.profile, where))
    result["machine"]["store"] = given.store
    print(json.dumps(result))


if __name__ == "__main__":
    main()
