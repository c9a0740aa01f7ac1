"""How good plans are beside the proven optimum, and how many a broker makes per second.

    python benchmarks/decompose.py [--quick]

Rules kept here
- Quality: the same orders to the planner and to HiGHS (`planning/milp.py`), in the same run. Only orders whose optimum
  (or that there is none) was proven count; the others are counted as unproven.
- Times are processor time of this process, so that what else the machine does counts for neither side.
- Speed: one core, orders that were not asked before, each with delay and capacity. A change of one supplier's note is
  timed from the new snapshot to the next plan.
- Topologies are those of topohub, figures are drawn from seeds (`planning/federations.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from benchmarks.peers.machine import machine  # noqa: E402
from benchmarks.planning.federations import (  # noqa: E402
    FLOW_BPS,
    NOW,
    REAL,
    Federation,
    Room,
    chain,
    federation,
    mesh,
    network,
)
from benchmarks.planning.milp import optimum  # noqa: E402
from broker.decompose.graph import graph_of  # noqa: E402
from broker.decompose.plan import Infeasible, Snapshot  # noqa: E402
from broker.decompose.search import plan  # noqa: E402
from service_model.constraints import Group, GroupKind, GroupScope  # noqa: E402
from service_model.spec import ServiceSpec  # noqa: E402

LENGTH = 5
SECONDS = 20.0
"""How long HiGHS may take for one order."""


@dataclass
class Compared:
    """One kind of order beside the reference. `gaps` in percent of the optimum."""

    gaps: list[float] = field(default_factory=list)
    infeasible: int = 0
    missed: int = 0
    invalid: int = 0
    unproven: int = 0
    ours_ms: list[float] = field(default_factory=list)
    milp_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return {
            "feasible": len(self.gaps) + self.missed,
            "infeasible": self.infeasible,
            "missed": self.missed,
            "invalid": self.invalid,
            "unproven": self.unproven,
            "mean_gap_percent": round(statistics.fmean(self.gaps), 4) if self.gaps else 0.0,
            "largest_gap_percent": round(max(self.gaps, default=0.0), 3),
            "median_ms": round(statistics.median(self.ours_ms), 2),
            "largest_ms": round(max(self.ours_ms), 2),
            "milp_median_ms": round(statistics.median(self.milp_ms), 1),
            "times_faster": round(statistics.median(m / o for m, o in zip(self.milp_ms, self.ours_ms, strict=True)), 1),
        }


def decided(spec: ServiceSpec, snapshot: Snapshot) -> tuple[Decimal | None, float]:
    """What the order costs (None: refused), and the milliseconds of processor time that it took to know."""
    begin = time.process_time()
    answer = plan(spec, snapshot, NOW, None, 1)
    taken = (time.process_time() - begin) * 1e3
    return None if isinstance(answer, Infeasible) else answer[0].cost, taken


def apart(spec: ServiceSpec) -> tuple[str, ...]:
    """The functions that must be at different suppliers."""
    return tuple(f for group in spec.groups for f in group.functions)


def compare(orders: Iterator[tuple[ServiceSpec, Snapshot]]) -> Compared:
    out = Compared()
    for spec, snapshot in orders:
        begin = time.process_time()
        proven = optimum(spec, snapshot, SECONDS, apart(spec))
        milp_ms = (time.process_time() - begin) * 1e3
        if proven is None:
            out.unproven += 1
            continue
        graph_of(snapshot)  # is kept between orders; a change is measured by itself
        ours, ours_ms = decided(spec, snapshot)
        out.ours_ms.append(ours_ms)
        out.milp_ms.append(milp_ms)
        if proven.cost is None:
            out.infeasible += ours is None
            out.invalid += ours is not None
        elif ours is None:
            out.missed += 1
        else:
            out.invalid += ours < proven.cost
            out.gaps.append(float((ours - proven.cost) / proven.cost) * 100)
    return out


Orders = Callable[[int, int, int], Iterator[tuple[ServiceSpec, Snapshot]]]


def chains(size: int, count: int, length: int) -> Iterator[tuple[ServiceSpec, Snapshot]]:
    fed = federation(size, 1)
    for seed in range(count):
        yield chain(fed, length, seed), fed.snapshot


def bound_by_delay(fed: Federation, length: int, seed: int, **more: Any) -> ServiceSpec:
    return hurried(fed, chain(fed, length, seed), seed, **more)


def hurried(fed: Federation, free: ServiceSpec, seed: int, **more: Any) -> ServiceSpec:
    """With less delay than the cheapest way takes: from just possible to just too tight."""
    found = plan(free, fed.snapshot, NOW, None, 1)
    assert not isinstance(found, Infeasible), "what is ample is planned"
    return replace(free, max_delay_us=int(found[0].delay_us * random.Random(seed).uniform(0.5, 0.95)), **more)


def real(length: int, bound: bool, names: Sequence[str], count: int) -> Iterator[tuple[ServiceSpec, Snapshot]]:
    """Chains over real networks, free or bound by delay."""
    for name in names:
        fed = network(f"sndlib/{name}", 1)
        for seed in range(count):
            yield (bound_by_delay if bound else chain)(fed, length, seed), fed.snapshot


def delay_bound(size: int, count: int, length: int) -> Iterator[tuple[ServiceSpec, Snapshot]]:
    fed = federation(size, 2)
    for seed in range(count):
        yield bound_by_delay(fed, length, seed), fed.snapshot


def shared(size: int, count: int, length: int) -> Iterator[tuple[ServiceSpec, Snapshot]]:
    for seed in range(count):
        fed = federation(size, seed % 5, room=Room.TIGHT)
        yield chain(fed, length, seed, bandwidth_bps=FLOW_BPS), fed.snapshot


def all_at_once(size: int, count: int, length: int) -> Iterator[tuple[ServiceSpec, Snapshot]]:
    """Shared capacity, delay, and the first three functions at different suppliers."""
    for seed in range(count):
        roomy, fed = federation(size, seed % 5), federation(size, seed % 5, room=Room.TIGHT)
        functions = tuple(f"f{i}" for i in range(min(3, length)))
        group = Group(id="apart", kind=GroupKind.ANTI_AFFINITY, scope=GroupScope.SUPPLIER, functions=functions)
        yield bound_by_delay(roomy, length, seed, bandwidth_bps=FLOW_BPS, groups=(group,)), fed.snapshot


def meshes(shape: str, size: int, count: int) -> Iterator[tuple[ServiceSpec, Snapshot]]:
    fed = federation(size, 3)
    for seed in range(count):
        yield mesh(fed, shape, seed), fed.snapshot


def meshes_at_once(shape: str, size: int, count: int) -> Iterator[tuple[ServiceSpec, Snapshot]]:
    """Shared capacity, delay, and the functions behind the first at different suppliers."""
    for seed in range(count):
        roomy, fed = federation(size, seed % 5), federation(size, seed % 5, room=Room.TIGHT)
        group = Group(id="apart", kind=GroupKind.ANTI_AFFINITY, scope=GroupScope.SUPPLIER, functions=("f1", "f2"))
        bound = hurried(roomy, mesh(roomy, shape, seed), seed, bandwidth_bps=FLOW_BPS, groups=(group,))
        yield bound, fed.snapshot


KINDS: dict[str, Orders] = {
    "chains": chains,
    "delay-bound chains": delay_bound,
    "shared capacity": shared,
    "capacity, delay, anti-affinity": all_at_once,
}
MESHES = {"nothing shared": meshes, "capacity, delay, anti-affinity": meshes_at_once}


def decisions(size: int, count: int) -> dict[str, float]:
    """Decisions with delay and capacity, none asked before: milliseconds each."""
    roomy, fed = federation(size, 0), federation(size, 0, room=Room.FAIR)
    orders = [bound_by_delay(roomy, LENGTH, seed, bandwidth_bps=FLOW_BPS) for seed in range(count)]
    plan(chain(fed, 0, 0), fed.snapshot, NOW, None, 1)
    costs, taken = zip(*(decided(order, fed.snapshot) for order in orders), strict=True)
    return {
        "suppliers": size,
        "vertices": fed.vertices,
        "planned": sum(cost is not None for cost in costs),
        "refused": sum(cost is None for cost in costs),
        "median_ms": round(statistics.median(taken), 2),
        "mean_ms": round(statistics.fmean(taken), 2),
        "p95_ms": round(sorted(taken)[int(len(taken) * 0.95)], 2),
        "per_second": round(1000 / statistics.fmean(taken), 1),
    }


def change(size: int, times: int) -> float:
    """Milliseconds from a new note of one supplier to the plan that knows it; the median."""
    fed = federation(size, 0)
    order, snapshot = chain(fed, 0, 0), fed.snapshot
    plan(order, snapshot, NOW, None, 1)
    taken = []
    for edition in range(2, 2 + times):
        suppliers = list(snapshot.suppliers)
        i = edition * 7 % len(suppliers)
        note = suppliers[i].note
        matrix = tuple(replace(e, points=e.points[:1]) if n == 0 else e for n, e in enumerate(note.matrix))
        suppliers[i] = replace(suppliers[i], note=replace(note, edition=edition, matrix=matrix))
        snapshot = Snapshot(own_sp_id=snapshot.own_sp_id, number=edition, suppliers=tuple(suppliers))
        taken.append(decided(order, snapshot)[1])
    return round(statistics.median(taken), 2)


def slope(measured: list[dict[str, float]]) -> float:
    """Of log(mean time) over log(suppliers), by least squares."""
    x = [math.log(m["suppliers"]) for m in measured]
    y = [math.log(m["mean_ms"]) for m in measured]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    return round(sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread, 2)


def measure(quick: bool) -> dict[str, Any]:
    sizes = (15, 25) if quick else (15, 25, 35)
    count, length = (4, 4) if quick else (8, 5)
    quality: dict[str, dict[str, Any]] = {}
    for name, orders in KINDS.items():
        for size in sizes:
            quality[f"{name}, {size} suppliers"] = compare(orders(size, count, length)).figures()
            print(f"{name}, {size} suppliers: {quality[f'{name}, {size} suppliers']}", flush=True)
    for size in (15,) if quick else sizes:
        for shape, (what, drawn) in product(("tree", "diamond"), MESHES.items()):
            name = f"{shape}s, {what}, {size} suppliers"
            quality[name] = compare(drawn(shape, size, 2 if quick else count)).figures()
            print(f"{name}: {quality[name]}", flush=True)
    for length, bound in product((3,) if quick else (3, 5, 8, 10), (False, True)):
        name = f"real networks, {length} functions, {'bound by delay' if bound else 'free'}"
        quality[name] = compare(real(length, bound, REAL[:2] if quick else REAL, 1 if quick else 4)).figures()
        print(f"{name}: {quality[name]}", flush=True)
    speeds = []
    for size in (50, 200, 1000) if quick else (50, 100, 200, 500, 1000):
        speeds.append(decisions(size, 20 if quick else 100))
        print(f"decisions: {speeds[-1]}", flush=True)
    changes = {size: change(size, 10) for size in ((200,) if quick else (200, 10_000))}
    print(f"a change of one note, ms: {changes}", flush=True)
    found = list(quality.values())
    return {
        "benchmark": "decompose",
        "figures": {"quality": quality, "decisions": speeds, "slope": slope(speeds), "change_ms": changes},
        "baseline": {name: figures["milp_median_ms"] for name, figures in quality.items()},
        "ratio": {"times_faster": statistics.median(f["times_faster"] for f in found)},
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    print(json.dumps(measure(parser.parse_args().quick)))


if __name__ == "__main__":
    main()
