"""How long it takes to judge one request in advance beside many holds: what is free of everything within its window.

    python benchmarks/reserving_ahead.py [--quick]

Rules kept here
- A domain's resources, and holds drawn from a seed over a year: each takes some resources for its window; one in ten is open at
  one side. The same holds for ours (`Calendar`) and for the baseline.
- The baseline goes through all holds: of those that overlap the window it adds up what is taken at each moment at which
  anything changes, resource by resource, in order.
- Both in one run, in turns, in processor time. Every answer is compared with the other's.
- Beside it, what a hold costs when it comes and goes, and what a note costs that tells of the windows to come.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from benchmarks.peers.machine import machine  # noqa: E402
from lower_sp_clients.vim.calendar import Calendar  # noqa: E402
from lower_sp_clients.vim.domain import Key  # noqa: E402
from service_model.window import Window  # noqa: E402

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR_MINUTES = 365 * 24 * 60
RESOURCES: tuple[Key, ...] = (*(f"way-{n}" for n in range(60)), *(("AMS", n) for n in range(100)))


@dataclass(frozen=True)
class Taken:
    window: Window
    amounts: dict[Key, int]


def drawn_window(draw: random.Random) -> Window:
    start = NOW + timedelta(minutes=draw.randrange(YEAR_MINUTES))
    end = start + timedelta(minutes=draw.randint(10, 14 * 24 * 60))
    kind = draw.random()
    if kind < 0.05:
        return Window(start=start)
    return Window(end=end) if kind < 0.1 else Window(start, end)


def drawn(draw: random.Random) -> Taken:
    return Taken(drawn_window(draw), {key: draw.randint(1, 8) for key in draw.sample(RESOURCES, 6)})


def scanned(holds: list[Taken], window: Window) -> dict[Key, int]:
    """The most that is taken of each resource within the window, by going through all holds."""
    steps: dict[Key, list[tuple[datetime, int]]] = {}
    for hold in holds:
        if hold.window.overlaps(window):
            for key, amount in hold.amounts.items():
                steps.setdefault(key, []).append((max(hold.window.start, window.start), amount))
                steps[key].append((hold.window.end, -amount))
    out = {}
    for key, moves in steps.items():
        level = most = 0
        for at, amount in sorted(moves):  # what ends at a moment goes before what begins then
            if at < window.end:
                level += amount
                most = max(most, level)
        out[key] = most
    return out


def measure(quick: bool) -> dict[str, Any]:
    figures: dict[str, dict[str, float]] = {}
    compared = 0
    for count in (1000, 10_000):
        draw = random.Random(count)
        holds, calendar = [drawn(draw) for _ in range(count)], Calendar()
        for hold in holds:
            calendar.take(hold.window, hold.amounts)
        ours, scan, change = list[float](), list[float](), list[float]()
        for _ in range(20 if quick else 200):
            window = drawn_window(draw)
            begun = time.process_time()
            usage = calendar.usage(window)
            between = time.process_time()
            other = scanned(holds, window)
            ended = time.process_time()
            ours.append(between - begun)
            scan.append(ended - between)
            assert {k: n for k, n in (usage.bandwidth | usage.units).items() if n} == other  # type: ignore[operator]
            compared += len(other)
            more = drawn(draw)
            begun = time.process_time()
            calendar.take(more.window, more.amounts)
            calendar.take(more.window, {key: -amount for key, amount in more.amounts.items()})
            change.append(time.process_time() - begun)
        begun = time.process_time()
        told = calendar.later(NOW, dict.fromkeys(RESOURCES, 100))
        note = time.process_time() - begun
        figures[str(count)] = {
            "judged_ms": round(1000 * statistics.median(ours), 3),
            "scanned_ms": round(1000 * statistics.median(scan), 3),
            "times_faster": round(statistics.median(scan) / statistics.median(ours), 1),
            "comes_and_goes_ms": round(1000 * statistics.median(change), 3),
            "windows_to_tell_ms": round(1000 * note, 1),
            "windows": len(told),
        }
        print(f"{count} holds: {figures[str(count)]}", flush=True)
    print(f"{compared} figures were the same both ways", flush=True)
    return {
        "benchmark": "reserving_ahead",
        "figures": figures | {"compared": compared},
        "baseline": {count: f["scanned_ms"] for count, f in figures.items()},
        "ratio": {count: f["times_faster"] for count, f in figures.items()},
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    print(json.dumps(measure(parser.parse_args().quick)))


if __name__ == "__main__":
    main()
