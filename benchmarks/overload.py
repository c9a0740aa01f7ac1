"""What a broker does under several times the load that it can carry, with and without turning calls away.

    python benchmarks/overload.py [--quick] [--times 4]

Rules kept here
- Two nodes as `spbroker serve` runs them, over TLS, with SQLite and a simulated domain: one as it is by itself, one that lets
  everything in (`late_s: 0`). Both are measured in one run, alternating.
- The peak is what a node finishes for the best number of clients that order in turn. The load is orders that come at random
  moments (Poisson, from a seed), so many times the peak per second, whatever becomes of them: who comes does not wait for
  others. Nine of ten are of one account, one is of another.
- A customer has `PATIENCE_S` for its order: reserve and commit. Turned away, it comes back when it was told, if that is within
  its patience. Goodput are the orders that were committed in that time, per second of the load.
- Latency is of the calls that were let in: a reservation that was answered. It is counted from the sending of that call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

import grpc  # noqa: E402

from benchmarks.peers.contender import Settling  # noqa: E402
from benchmarks.peers.federation import announced, broker_contender, log_in, start_nodes  # noqa: E402
from benchmarks.peers.machine import machine  # noqa: E402
from benchmarks.peers.processes import Peers  # noqa: E402
from benchmarks.peers.tree import ACCOUNTS, Broker, Shape, spec  # noqa: E402
from broker.cli.failures import Status  # noqa: E402
from service_model.outcomes import Committed, Reserved  # noqa: E402
from tests.support.customer import PASSWORD, Customer  # noqa: E402

SHAPE = Shape(1, 1)
PATIENCE_S = 3.0
CLIENTS = (4, 8, 16)
FEW = 0.1
"""Which part of the orders is of the account that asks for little."""
LETS_ALL_IN = {"SPBROKER_LATE_S": "0", "SPBROKER_BEGINNING": "10000", "SPBROKER_FINISHING": "100000"}


@dataclass
class Heard:
    """What became of the orders of a load."""

    asked: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    turned_away: int = 0
    without_hint: int = 0
    gave_up: int = 0
    not_known: int = 0
    refused: int = 0
    admitted_s: list[float] = field(default_factory=list)
    hints_s: list[float] = field(default_factory=list)


@dataclass
class Contender:
    name: str
    customers: tuple[Customer, ...]
    peaks: list[float] = field(default_factory=list)
    heard: list[tuple[Heard, float]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        peak = max(self.peaks)
        seconds = sum(s for _, s in self.heard)
        all_heard = [heard for heard, _ in self.heard]
        admitted = sorted(s for heard in all_heard for s in heard.admitted_s)
        goodput = sum(heard.done.total() for heard in all_heard) / seconds
        few, many = ACCOUNTS[1], ACCOUNTS[0]
        return {
            "peak_per_s": round(peak, 1),
            "goodput_per_s": round(goodput, 1),
            "goodput_of_peak": round(goodput / peak, 2),
            "admitted_p50_ms": _part(admitted, 0.5),
            "admitted_p99_ms": _part(admitted, 0.99),
            "calls_turned_away": sum(heard.turned_away for heard in all_heard),
            "of_these_without_hint": sum(heard.without_hint for heard in all_heard),
            "orders": sum(heard.asked.total() for heard in all_heard),
            "orders_given_up": sum(heard.gave_up for heard in all_heard),
            "orders_not_known": sum(heard.not_known for heard in all_heard),
            "orders_refused": sum(heard.refused for heard in all_heard),
            "served_of_who_asks_little": _share(all_heard, few),
            "served_of_who_asks_much": _share(all_heard, many),
        }


def _share(all_heard: Sequence[Heard], account: str) -> float:
    asked = sum(heard.asked[account] for heard in all_heard)
    return round(sum(heard.done[account] for heard in all_heard) / max(1, asked), 2)


def _part(ordered: Sequence[float], part: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 1) if ordered else 0.0


async def one(customer: Customer, ref: str, heard: Heard) -> None:
    """An order by a customer with patience, which heeds what it is told."""
    until = time.monotonic() + PATIENCE_S
    heard.asked[customer.account] += 1
    ordered = spec(SHAPE)
    try:
        while True:
            begun = time.monotonic()
            try:
                held = await customer.reserve(ref, ordered, within=until - begun)
                heard.admitted_s.append(time.monotonic() - begun)
                break
            except grpc.aio.AioRpcError as error:
                status = Status.of(error)
                if not status.turned_away:
                    raise
                heard.turned_away += 1
                if status.retry_after_s is None:
                    heard.without_hint += 1
                    return
                heard.hints_s.append(status.retry_after_s)
                if time.monotonic() + status.retry_after_s >= until:
                    heard.gave_up += 1
                    return
                await asyncio.sleep(status.retry_after_s)
        if not isinstance(held, Reserved):
            heard.refused += 1
            return
        if isinstance(await customer.commit(ref, within=max(0.001, until - time.monotonic())), Committed):
            heard.done[customer.account] += 1
        else:
            heard.refused += 1
    except grpc.aio.AioRpcError:
        heard.not_known += 1


async def load(contender: Contender, per_s: float, seconds: float, draw: random.Random, run: str) -> None:
    heard, tasks, begun, number = Heard(), list[asyncio.Task[None]](), time.monotonic(), 0
    at = begun
    while (at := at + draw.expovariate(per_s)) < begun + seconds:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        customer = contender.customers[1 if draw.random() < FEW else 0]
        tasks.append(asyncio.create_task(one(customer, f"{run}-{number}", heard)))
        number += 1
    await asyncio.gather(*tasks)
    contender.heard.append((heard, seconds))


async def peak(contender: Contender, seconds: float) -> None:
    for clients in CLIENTS:
        measured = broker_contender(contender.customers[0], spec(SHAPE), Settling())
        await measured.at_once(clients, seconds)
        contender.peaks += measured.per_second


async def started(folder: Path, name: str, peers: Peers, settings: Mapping[str, str]) -> Contender:
    nodes = await start_nodes(folder / name, SHAPE, peers, settings=settings)
    top = nodes[Broker(SHAPE, 0, 0).sp_id]
    customers = tuple([await log_in(Customer(top, account, heeds=False), PASSWORD) for account in ACCOUNTS[:2]])
    await announced(customers[0], spec(SHAPE))
    return Contender(name, customers)


async def measure(folder: Path, times: float, quick: bool) -> dict[str, Any]:
    rounds, seconds, peak_s = (1, 6.0, 1.0) if quick else (3, 15.0, 4.0)
    processes, draw = (Peers(), Peers()), random.Random(7)
    try:
        ours = await started(folder, "shedding", processes[0], {})
        theirs = await started(folder, "all", processes[1], LETS_ALL_IN)
        for contender in (ours, theirs):
            await peak(contender, peak_s)
        for number in range(rounds):
            for contender, its in zip((ours, theirs), processes, strict=True):
                await load(contender, times * max(contender.peaks), seconds, draw, f"load-{number}")
                await its.counts()  # what it still works on does not burden the other
        for contender in (ours, theirs):
            for customer in contender.customers:
                await customer.close()
    finally:
        for its in processes:
            await its.stop()
    figures, baseline = ours.figures(), theirs.figures()
    return {
        "benchmark": "overload",
        "figures": figures,
        "baseline": baseline,
        "ratio": {
            "goodput": round(figures["goodput_per_s"] / max(0.1, baseline["goodput_per_s"]), 2),
            "admitted_p99": round(figures["admitted_p99_ms"] / max(0.1, baseline["admitted_p99_ms"]), 2),
        },
        "machine": machine(times=times, patience_s=PATIENCE_S),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    parser.add_argument("--times", type=float, default=4.0, help="how many times the peak comes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spbroker-overload-") as folder:
        result = asyncio.run(measure(Path(folder), given.times, given.quick))
    print(f"{given.times:g} times the peak                      turns away   lets all in")
    for key, value in result["figures"].items():
        print(f"  {key:32} {value:>12} {result['baseline'][key]:>13}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
