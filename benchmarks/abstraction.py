"""What a note of a note is worth: whether what it promises is delivered, and what it hides of what could be sold.

    python benchmarks/abstraction.py [--quick] [--hierarchies N]

Rules kept here
- Hierarchies and requests are drawn from seeds (`hierarchies/`); brokers in them are the tasks of a node, without I/O.
- A *false accept*: the planner finds a plan over the top's note alone, and the top does not deliver it when nothing else is
  ordered. Each is printed with its seed; there must be none.
- *Refused*: what the broker that sees all domains sells, and the top does not; *not announced*: what it sells, and the
  top's own note alone does not hold. Both in percent of what the broker that sees all sells. A margin makes a request with
  a price bound dearer, which is no loss of abstraction: such requests are left out.
- *Volume*: the same orders, one after another, to the top and to the broker that sees all, each with its own domains; every
  note is derived anew after each order. Load is what is offered, in parts of all that the broker that sees all could sell
  of a long stream. After it a third of the orders ends, and new ones come up to the same load (churn).
- Times are processor time of this process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from benchmarks.hierarchies.drawn import Hierarchy, hierarchy  # noqa: E402
from benchmarks.hierarchies.requests import in_words, plain, request  # noqa: E402
from benchmarks.hierarchies.sellers import NOW, Middle  # noqa: E402
from broker.decompose.search import alone, best  # noqa: E402
from capability_registry import payload  # noqa: E402
from capability_registry.abstraction import Abstraction, Disclosure  # noqa: E402
from service_model.outcomes import Reserved  # noqa: E402
from service_model.spec import ServiceSpec  # noqa: E402

DEPTHS = (1, 2, 3, 4)
LEVELS = tuple(Abstraction)
LOADS = (0.5, 0.8, 0.95)
REQUESTS = 8
"""Of each hierarchy."""


@dataclass
class Judged:
    """Single requests at one depth."""

    hierarchies: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        sold = self.counts["sold by all-seeing"]
        return {
            "hierarchies": self.hierarchies,
            **{name: self.counts[name] for name in ("requests", "accepted by note", "false accepts")},
            "sold by all-seeing": sold,
            "refused_percent": round(100 * self.counts["refused"] / max(1, sold), 2),
            "not_announced_percent": round(100 * self.counts["not announced"] / max(1, sold), 2),
        }


def told(spec: ServiceSpec) -> str:
    """A request in a line."""
    names = ("bandwidth_bps", "max_delay_us", "max_price", "isolation", "countries", "groups", "distances", "min_mtu")
    asked = {name: getattr(spec, name) for name in names if getattr(spec, name)}
    asked.pop("min_mtu" if spec.min_mtu == 1280 else "", None)
    return f"{' - '.join([spec.ends[0].sap, *(f.type.name for f in spec.functions), spec.ends[1].sap])} {asked}"


def judge(drawn: Hierarchy, rng: random.Random, out: Judged, where: str) -> None:
    note = drawn.top.note()
    announced = alone(note)
    out.hierarchies += 1
    for number in range(REQUESTS if len(note.saps) > 1 else 0):
        spec = request(drawn, rng)
        promised = best(spec, announced, NOW) is not None
        delivered = sells(drawn.top, f"r{number}", spec)
        sold = sells(drawn.flat, f"f{number}", in_words(spec, drawn.flat_names))
        out.counts["requests"] += 1
        out.counts["accepted by note"] += promised
        if promised and not delivered:
            out.counts["false accepts"] += 1
            print(f"false accept: {where}, request {number}: {told(spec)}", flush=True)
        if sold and not (drawn.margins and spec.max_price is not None):
            out.counts["sold by all-seeing"] += 1
            out.counts["refused"] += not delivered
            out.counts["not announced"] += not promised


def sells(broker: Middle, ref: str, spec: ServiceSpec) -> bool:
    """Whether it holds the request; it is released at once."""
    held = isinstance(broker.reserve(ref, 1, spec), Reserved)
    broker.release(ref)
    return held


def soundness(count: int, level: Abstraction) -> dict[int, dict[str, Any]]:
    """Over `count` hierarchies whose brokers all show `level`: every depth in turn, one in four with a domain that two
    brokers sell, half with margins."""
    found = {depth: Judged() for depth in DEPTHS}
    for seed in range(count):
        depth = DEPTHS[seed % len(DEPTHS)]
        shared, margins = seed // len(DEPTHS) % 4 == 3, seed // len(DEPTHS) % 2 == 1
        disclosure = Disclosure(abstraction=level)
        drawn = hierarchy(seed, depth, shared=shared, margins=margins, disclosure=disclosure)
        where = f"hierarchy({seed}, {depth}, shared={shared}, margins={margins}), {level.short}"
        judge(drawn, random.Random(f"requests/{seed}"), found[depth], where)
    return {depth: judged.figures() for depth, judged in found.items()}


# --- volume ----------------------------------------------------------------------------------------------------------


@dataclass
class Book:
    """The orders that one of the two has sold: bit/s by ref."""

    hierarchy: Hierarchy
    broker: Middle
    flat: bool
    live: dict[str, int] = field(default_factory=dict)

    def offer(self, ref: str, spec: ServiceSpec) -> bool:
        asked = in_words(spec, self.hierarchy.flat_names) if self.flat else spec
        if not isinstance(self.broker.reserve(ref, 1, asked), Reserved):
            return False
        self.live[ref] = spec.bandwidth_bps
        self.broker.refresh()
        return True

    def end(self, refs: list[str]) -> None:
        for ref in refs:
            if self.live.pop(ref, None) is not None:
                self.broker.release(ref)
        self.broker.refresh()


def books(seed: int, depth: int) -> tuple[Book, Book]:
    ours, theirs = (hierarchy(seed, depth, roomy=True) for _ in range(2))
    return Book(ours, ours.top, False), Book(theirs, theirs.flat, True)


def stream(drawn: Hierarchy, seed: int) -> Iterator[tuple[str, ServiceSpec]]:
    """Orders without end, as the empty hierarchy could be asked for them."""
    rng, number = random.Random(f"stream/{seed}"), 0
    while True:
        number += 1
        yield f"o{number}", plain(drawn, rng)


def saturation(seed: int, depth: int) -> int:
    """All that the broker that sees all sells of a long stream (bit/s): until it refuses twenty orders in turn."""
    ours, theirs = books(seed, depth)
    refused = 0
    for ref, spec in stream(ours.hierarchy, seed):
        refused = 0 if theirs.offer(ref, spec) else refused + 1
        if refused == 20:
            return sum(theirs.live.values())
    raise AssertionError("a stream has no end")


def volume(seed: int, depth: int, load: float, most: int) -> tuple[Counter[str], Counter[str]]:
    """What both have sold at a load, and after churn."""
    ours, theirs = books(seed, depth)
    orders, rng = stream(ours.hierarchy, seed), random.Random(f"churn/{seed}")
    offered: dict[str, int] = {}

    def fill() -> Counter[str]:
        while sum(offered.values()) < load * most:
            ref, spec = next(orders)
            offered[ref] = spec.bandwidth_bps
            ours.offer(ref, spec)
            theirs.offer(ref, spec)
        return Counter(
            {"orders": len(ours.live), "bps": sum(ours.live.values()),
             "all-seeing orders": len(theirs.live), "all-seeing bps": sum(theirs.live.values())}
        )  # fmt: skip

    first = fill()
    ended = rng.sample(sorted(offered), len(offered) // 3)
    for ref in ended:
        del offered[ref]
    ours.end(ended)
    theirs.end(ended)
    return first, fill()


def volumes(count: int, loads: Sequence[float]) -> dict[str, dict[str, Any]]:
    sums: dict[str, Counter[str]] = {}
    for seed in range(count):
        depth = DEPTHS[1:][seed % 3]
        most = saturation(seed, depth)
        for load in loads:
            for name, sold in zip(("one after another", "after churn"), volume(seed, depth, load, most), strict=True):
                sums.setdefault(f"{load:.0%} {name}", Counter()).update(sold)
    return {
        name: {
            **sold,
            "volume_percent": round(100 * sold["bps"] / max(1, sold["all-seeing bps"]), 1),
            "orders_percent": round(100 * sold["orders"] / max(1, sold["all-seeing orders"]), 1),
        }
        for name, sold in sums.items()
    }


# --- size and time ---------------------------------------------------------------------------------------------------


def notes(count: int) -> dict[str, float]:
    """Of the tops of `count` hierarchies of depth 3: the note's size, and how long it takes to derive (medians)."""
    sizes, points, taken = [], [], []
    for seed in range(count):
        top = hierarchy(seed, 3, roomy=True).top
        begin = time.process_time()
        note = top.note()
        taken.append((time.process_time() - begin) * 1e3)
        sizes.append(len(payload.write(note)))
        points.append(statistics.fmean(len(e.points) for e in note.matrix) if note.matrix else 0.0)
    return {
        "kB": round(statistics.median(sizes) / 1e3, 1),
        "points_per_entry": round(statistics.fmean(points), 2),
        "derive_ms": round(statistics.median(taken), 1),
    }


def measure(hierarchies: int, streams: int, loads: Sequence[float]) -> dict[str, Any]:
    single = {level.short: soundness(hierarchies // len(LEVELS), level) for level in LEVELS}
    judged = [figures for level in single.values() for figures in level.values()]
    for level, found in single.items():
        for depth, figures in found.items():
            print(f"{level}, depth {depth}: {figures}", flush=True)
    sold = volumes(streams, loads)
    for name, volume_sold in sold.items():
        print(f"{name}: {volume_sold}", flush=True)
    last = f"{loads[-1]:.0%} after churn"
    return {
        "benchmark": "abstraction",
        "figures": {"single": single, "volume": sold, "notes": notes(10)},
        "baseline": {"sold by all-seeing": sum(f["sold by all-seeing"] for f in judged)},
        "ratio": {
            "false_accepts": sum(f["false accepts"] for f in judged),
            "refused_percent": {
                level: {depth: f["refused_percent"] for depth, f in found.items()} for level, found in single.items()
            },
            "volume_percent": sold[last]["volume_percent"],
        },
        "machine": {
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    parser.add_argument("--hierarchies", type=int, default=2000, help="of how many requests are judged one by one")
    arguments = parser.parse_args()
    print(json.dumps(measure(9, 1, LOADS[:1]) if arguments.quick else measure(arguments.hierarchies, 12, LOADS)))


if __name__ == "__main__":
    main()
