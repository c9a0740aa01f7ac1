"""What others notice while a node plans: the latency of their calls, with and without a process for the planner.

    python benchmarks/stall.py [--quick] [--suppliers N]

Rules kept here
- Two nodes over the same notes, served over TLS. One makes every plan in its event loop, the other as nodes do: large ones
  in the planner's process. Both are measured in one run, alternating.
- One customer asks for qualifications in turn without a pause, each a plan over all the notes. Another lists its services
  again and again: that takes no plan. *Idle* is the latency of its calls while the first is silent.
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from benchmarks.peers.federation import administer, log_in  # noqa: E402
from benchmarks.peers.machine import machine  # noqa: E402
from benchmarks.peers.processes import Peers  # noqa: E402
from benchmarks.planning.federations import FLOW_BPS, Room, chain, federation  # noqa: E402
from broker.bootstrap.planning import FEW_WAYS  # noqa: E402
from lower_sp_clients import wire  # noqa: E402
from service_model.spec import ServiceSpec  # noqa: E402
from spbroker.v1 import broker_service_pb2 as pb  # noqa: E402
from tests.support.customer import PASSWORD, Customer  # noqa: E402
from tests.support.nodes import HOST, MovedClock, RealNode, found_at  # noqa: E402

LENGTH = 5
WAYS_IN_THE_LOOP = {"in the loop": 10**9, "as nodes do": FEW_WAYS}
DOCUMENTS: list[dict[str, Any]] = [
    {"kind": "agreement", "name": "retail", "currency": "EUR"},
    {"kind": "account", "name": "ann", "agreement": "retail"},
    {"kind": "account", "name": "bob", "agreement": "retail"},
]


async def start(folder: Path, peers: Peers, name: str, suppliers: int, few: int) -> tuple[Customer, Customer]:
    directory = folder / f"n{few}"
    await found_at(directory, "top")
    node = RealNode(directory, MovedClock())
    listeners = {"SPBROKER_LISTEN": f"{HOST}:{node.people}", "SPBROKER_LISTEN_PARTNERS": node.endpoint}
    await peers.start(name, "large.py", str(directory), str(suppliers), str(few), **listeners)
    await administer(node, DOCUMENTS, ("ann", "bob"))
    return await log_in(Customer(node, "ann"), PASSWORD), await log_in(Customer(node, "bob"), PASSWORD)


async def plan_on(ann: Customer, specs: Sequence[ServiceSpec], until: asyncio.Event) -> int:
    """How many qualifications were answered meanwhile."""
    asked = 0
    while not until.is_set():
        request = pb.QualifyServiceRequest(spec=wire.SPEC.encode(specs[asked % len(specs)]))
        await ann.broker.QualifyService(request, metadata=ann.metadata)
        asked += 1
    return asked


async def latencies(bob: Customer, seconds: float) -> list[float]:
    """Milliseconds of each call, one after another with a short pause."""
    out, begun = [], time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds:
        await bob.broker.ListServices(pb.ListServicesRequest(page_size=1), metadata=bob.metadata)
        out.append((time.perf_counter() - now) * 1000)
        await asyncio.sleep(0.005)
    return out


def figures(taken: Sequence[float]) -> dict[str, float]:
    ordered = sorted(taken)
    return {
        "p50_ms": round(statistics.median(ordered), 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
        "max_ms": round(ordered[-1], 2),
    }


async def measure(folder: Path, suppliers: int, rounds: int, seconds: float) -> dict[str, Any]:
    fed = federation(suppliers, 0, room=Room.FAIR)
    specs = [chain(fed, LENGTH, seed, bandwidth_bps=FLOW_BPS) for seed in range(20)]
    peers = Peers()
    idle: list[float] = []
    busy: dict[str, list[float]] = {name: [] for name in WAYS_IN_THE_LOOP}
    plans = dict.fromkeys(WAYS_IN_THE_LOOP, 0)
    try:
        customers = {name: await start(folder, peers, name, suppliers, few) for name, few in WAYS_IN_THE_LOOP.items()}
        await peers.counts()
        for ann, _ in customers.values():  # the graph is built, and the planner's process knows every note
            request = pb.QualifyServiceRequest(spec=wire.SPEC.encode(specs[0]))
            await ann.broker.QualifyService(request, metadata=ann.metadata)
        for _ in range(rounds):
            for name, (ann, bob) in customers.items():
                idle += await latencies(bob, seconds / 4)
                enough = asyncio.Event()
                planning = asyncio.create_task(plan_on(ann, specs, enough))
                busy[name] += await latencies(bob, seconds)
                enough.set()
                plans[name] += await planning
        for pair in customers.values():
            for customer in pair:
                await customer.close()
    finally:
        await peers.stop()
    found = {name: {**figures(taken), "plans": plans[name]} for name, taken in busy.items()}
    at_rest = figures(idle)
    return {
        "benchmark": "stall",
        "figures": {"idle": at_rest, **found},
        "baseline": found["in the loop"],
        "ratio": {
            "p99_to_idle": round(found["as nodes do"]["p99_ms"] / at_rest["p99_ms"], 2),
            "p99_in_the_loop_to_idle": round(found["in the loop"]["p99_ms"] / at_rest["p99_ms"], 2),
        },
        "machine": machine(suppliers=suppliers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    parser.add_argument("--suppliers", type=int, help="how many; 1000, with --quick 500")
    given = parser.parse_args()
    suppliers = given.suppliers or (500 if given.quick else 1000)
    with tempfile.TemporaryDirectory(prefix="spbroker-stall-") as folder:
        result = asyncio.run(measure(Path(folder), suppliers, *((2, 3.0) if given.quick else (5, 10.0))))
    print(f"a call that needs no plan, {suppliers} suppliers      p50 ms     p99 ms     max ms")
    for name, taken in result["figures"].items():
        print(f"  {name:44} {taken['p50_ms']:>8} {taken['p99_ms']:>10} {taken['max_ms']:>10}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
