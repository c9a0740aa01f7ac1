"""How long after a change of one supplier's note the next decision knows it, beside the same decision without a change.

    python benchmarks/changes.py [--quick] [--suppliers N]

Rules kept here
- A change goes from the catalogue through the snapshot and the graph to the plan. The baseline is the same decision over the
  same snapshot, asked again at once; what is between them is what the change adds. Both are measured in turn.
- Of every kind of change many are made, each at another supplier; medians of processor time are reported.
- The same is asked of the planner's process, as a node asks it, with all that is told on the way: the processor time of both
  processes (the mean: the system counts in hundredths of a second), and the time on the wall until the answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from address_planner.labels import LabelSet  # noqa: E402
from benchmarks.peers.machine import machine  # noqa: E402
from benchmarks.planning.federations import FLOW_BPS, NOW, Federation, Room, chain, federation  # noqa: E402
from broker.bootstrap.planning import Planning  # noqa: E402
from broker.bootstrap.serving import spare_collections  # noqa: E402
from broker.decompose.plan import Avoid, Infeasible  # noqa: E402
from broker.decompose.search import plan  # noqa: E402
from broker.orders.catalogue import Catalogue, Listing  # noqa: E402
from capability_registry.note import CapabilityNote  # noqa: E402
from service_model.spec import ServiceSpec  # noqa: E402

LENGTH = 5
PROCESS = "planner's process"
STEP = 37
"""Between the suppliers that change: a prime, so that all come in turn."""


def slower(note: CapabilityNote) -> CapabilityNote:
    first, *others = note.matrix
    points = tuple(replace(p, delay_us=p.delay_us + 1) for p in first.points)
    return replace(note, matrix=(replace(first, points=points), *others))


def fewer_labels(note: CapabilityNote) -> CapabilityNote:
    """As after an order."""
    first, *others = note.saps
    taken = LabelSet.of([next(iter(first.labels))])
    return replace(note, saps=(replace(first, labels=first.labels - taken), *others))


def way_lost(note: CapabilityNote) -> CapabilityNote:
    first, *others = note.matrix
    return replace(note, matrix=(replace(first, points=first.points[:1]), *others))


def sap_lost(note: CapabilityNote) -> CapabilityNote:
    first = note.saps[0].id
    return replace(note, saps=note.saps[1:], matrix=tuple(e for e in note.matrix if first not in (e.a, e.b)))


def gone(note: CapabilityNote) -> None:
    """It has lapsed."""


CHANGES: dict[str, Callable[[CapabilityNote], CapabilityNote | None]] = {
    "a way is slower": slower,
    "a label is taken": fewer_labels,
    "a way is lost": way_lost,
    "a SAP is lost": sap_lost,
    "a supplier is gone": gone,
}


class Market:
    """A catalogue of a federation in which one supplier after another changes."""

    def __init__(self, fed: Federation, keep: frozenset[str]) -> None:
        self.catalogue = Catalogue(fed.snapshot.own_sp_id)
        views = fed.snapshot.suppliers
        self.catalogue.list(tuple(Listing(alias=v.alias, sp_id=v.sp_id, local=False) for v in views))
        for view in views:
            self.catalogue.put(view.alias, view.note)
        self._others = [v.alias for v in views if v.alias not in keep and len(v.note.saps) > 1]
        self._turn = 0

    def change(self, how: Callable[[CapabilityNote], CapabilityNote | None]) -> None:
        note = None
        while note is None:
            self._turn += STEP
            alias = self._others[self._turn % len(self._others)]
            note = self.catalogue.note(alias)
        new = how(note)
        self.catalogue.put(alias, new if new is None else replace(new, edition=note.edition + 1))


def decided(market: Market, order: ServiceSpec) -> float:
    """Milliseconds of processor time for a decision over everything as it is now."""
    begin = time.process_time()
    found = plan(order, market.catalogue.snapshot, NOW, None, 1)
    taken = (time.process_time() - begin) * 1e3
    if isinstance(found, Infeasible):
        raise RuntimeError(f"not planned: {found.reasons[0].message}")
    return taken


def here(market: Market, order: ServiceSpec, times: int) -> dict[str, dict[str, float]]:
    """By kind of change, in this process."""
    out = {}
    for _ in range(6):  # as in a node that runs for some time: graphs are let go of, and their memory serves the next
        market.change(way_lost)
        decided(market, order)
    for name, how in CHANGES.items():
        after, again = [], []
        for _ in range(times):
            market.change(how)
            after.append(decided(market, order))
            again.append(decided(market, order))
        added = statistics.median(a - b for a, b in zip(after, again, strict=True))
        out[name] = {
            "after_ms": round(statistics.median(after), 1),
            "again_ms": round(statistics.median(again), 1),
            "added_ms": round(added, 1),
            "added_p95_ms": round(sorted(a - b for a, b in zip(after, again, strict=True))[int(times * 0.95)], 1),
        }
        print(f"  {name:<20} {out[name]}", flush=True)
    return out


async def elsewhere(market: Market, order: ServiceSpec, times: int) -> dict[str, float]:
    """In the planner's process, over all kinds of change in turn."""
    planning = Planning(few=0)
    processor: dict[str, list[float]] = {"after": [], "again": []}
    wall: dict[str, list[float]] = {"after": [], "again": []}

    def spent() -> float:
        process = planning.process
        return time.process_time() + (ticks(process.pid) if process is not None else 0.0)

    async def asked(when: str) -> None:
        begin, before = time.perf_counter(), spent()
        await planning(order, market.catalogue.snapshot, NOW, Avoid())
        wall[when].append((time.perf_counter() - begin) * 1e3)
        processor[when].append((spent() - before) * 1e3)

    for turn in range(6 + times):
        market.change([*CHANGES.values()][turn % len(CHANGES)])
        await asked("after")
        await asked("again")
    await planning.close()
    after, again = (statistics.fmean(processor[when][6:]) for when in ("after", "again"))
    late = [a - b for a, b in zip(wall["after"][6:], wall["again"][6:], strict=True)]
    return {
        "after_ms": round(after, 1),
        "again_ms": round(again, 1),
        "added_ms": round(after - again, 1),
        "added_wall_ms": round(statistics.median(late), 1),
    }


def ticks(pid: int) -> float:
    """Seconds of processor time that another process had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(size: int, times: int) -> dict[str, Any]:
    fed = federation(size, 0, room=Room.AMPLE)
    orders = {
        "a path": chain(fed, 0, 0),
        f"a chain of {LENGTH}, bound by delay": chain(fed, LENGTH, 1, max_delay_us=10**7, bandwidth_bps=FLOW_BPS),
    }
    ends = frozenset(end.sap.partition(".")[0] for order in orders.values() for end in order.ends)
    market = Market(fed, ends)
    spare_collections()
    figures: dict[str, Any] = {}
    for name, order in orders.items():
        print(f"{name}, {size} suppliers", flush=True)
        figures[name] = here(market, order, times)
        figures[name][PROCESS] = asyncio.run(elsewhere(market, order, times))
        print(f"  {PROCESS:<20} {figures[name][PROCESS]}", flush=True)
    return {
        "benchmark": "changes",
        "figures": figures,
        "baseline": {name: statistics.median(f["again_ms"] for f in found.values()) for name, found in figures.items()},
        "ratio": {
            name: round(statistics.median(f["after_ms"] / f["again_ms"] for f in found.values()), 2)
            for name, found in figures.items()
        },
        "machine": machine(suppliers=size),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    parser.add_argument("--suppliers", type=int, help="how many; 10000, with --quick 2000")
    given = parser.parse_args()
    size = given.suppliers or (2000 if given.quick else 10_000)
    print(json.dumps(measure(size, 10 if given.quick else 20)))


if __name__ == "__main__":
    main()
