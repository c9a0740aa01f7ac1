"""What a note of notes is worth: whether what it promises is delivered, and what it hides of what could be sold.

    python benchmarks/abstraction.py [--quick] [--only single|volume|notes] [--hierarchies N] [--streams N] [--first SEED]

Rules kept here
- Hierarchies and requests are drawn from seeds (`hierarchies/`); brokers in them are the tasks of a node, without I/O.
- Single requests, of hierarchies at each level of abstraction (`hierarchies/judging.py`): false accepts, of which there must
  be none, and what is refused of what the broker that sees all sells.
- Volume, orders one after another and after churn, against that broker (`hierarchies/streams.py`).
- Notes: the size of a top's note, and the processor time of deriving it.
- The parts tell how far they are, so that one that is cut short has told something.
- Times are processor time of this process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from benchmarks.hierarchies.drawn import hierarchy  # noqa: E402
from benchmarks.hierarchies.judging import DEPTHS, LEVELS, soundness  # noqa: E402
from benchmarks.hierarchies.streams import Sold, volumes  # noqa: E402
from benchmarks.peers.machine import machine  # noqa: E402
from broker.decompose.graph import keep_graphs  # noqa: E402
from capability_registry import payload  # noqa: E402

LOADS = (0.5, 0.8, 0.95)
PARTS = ("single", "volume", "notes")


def single(hierarchies: int, first: int) -> dict[str, dict[int, dict[str, Any]]]:
    """Over so many hierarchies, each seed's at every level."""
    found = soundness(-(-hierarchies // len(LEVELS)), first)
    return {level: {depth: of.figures() for depth, of in judged.items()} for level, judged in found.items()}


def volume(streams: int, loads: Sequence[float]) -> dict[str, dict[str, Any]]:
    return {name: dict(sold) | _percents(sold) for name, sold in volumes(streams, DEPTHS[1:], loads).items()}


def _percents(sold: Sold) -> dict[str, float]:
    return {
        "volume_percent": round(100 * sold["bps"] / max(1, sold["all-seeing bps"]), 1),
        "orders_percent": round(100 * sold["orders"] / max(1, sold["all-seeing orders"]), 1),
    }


def notes(count: int) -> dict[str, float]:
    """Of the tops of `count` hierarchies of depth 3: the note's size, and how long it takes to derive (medians)."""
    sizes, points, taken = [], [], []
    for seed in range(count):
        top = hierarchy(seed, 3, roomy=True).top
        begin = time.process_time()
        note = top.note()
        taken.append((time.process_time() - begin) * 1e3)
        sizes.append(len(payload.write(note)))
        pairs = {(e.a, e.b) for e in chain(note.matrix, note.guarded)}
        points.append(sum(len(e.points) for e in chain(note.matrix, note.guarded)) / max(1, len(pairs)))
    return {
        "kB": round(statistics.median(sizes) / 1e3, 1),
        "points_per_pair": round(statistics.fmean(points), 2),
        "derive_ms": round(statistics.median(taken), 1),
    }


def measure(parts: Sequence[str], hierarchies: int, streams: int, loads: Sequence[float], first: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    baseline: dict[str, Any] = {}
    ratio: dict[str, Any] = {}
    if "single" in parts:
        figures["single"] = found = single(hierarchies, first)
        judged = [of for level in found.values() for of in level.values()]
        baseline["sold by all-seeing"] = sum(of["sold by all-seeing"] for of in judged)
        ratio["false_accepts"] = sum(of["false accepts"] for of in judged)
        for name in ("refused_percent", "orderable_refused_percent"):
            ratio[name] = {level: {depth: of[name] for depth, of in by.items()} for level, by in found.items()}
    if "volume" in parts:
        figures["volume"] = sold = volume(streams, loads)
        baseline["volume"] = "the broker that sees all, the same orders"
        ratio["volume_percent"] = {name: of["volume_percent"] for name, of in sold.items()}
    if "notes" in parts:
        figures["notes"] = notes(10)
    return {
        "benchmark": "abstraction",
        "figures": figures,
        "baseline": baseline,
        "ratio": ratio,
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    parser.add_argument(
        "--hierarchies", type=int, default=2000, help="of how many requests are judged, over all levels"
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed of these")
    parser.add_argument("--streams", type=int, default=15, help="of orders one after another")
    arguments = parser.parse_args()
    keep_graphs(64)  # all brokers of a hierarchy plan in this process, in turn
    parts = (arguments.only,) if arguments.only else PARTS
    if arguments.quick:
        print(json.dumps(measure(parts, 12, 1, LOADS[:1], arguments.first)))
    else:
        print(json.dumps(measure(parts, arguments.hierarchies, arguments.streams, LOADS, arguments.first)))


if __name__ == "__main__":
    main()
