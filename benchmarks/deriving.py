"""What it takes to follow suppliers' notes with a note of our own: made from nothing, and after one of them changed.

    python benchmarks/deriving.py [--quick]

Rules kept here
- Federations of `planning/federations.py`, each in a process of its own. Every note is made twice in one run: by who made the
  one before (`kept`), and from nothing (`new`), alternating. Both are compared byte by byte.
- A small change: a label of one SAP is taken, or a way has less bandwidth. A large one: an entry of a border matrix goes, or
  comes back. Who changes is drawn from a seed.
- A second audience, at other prices, is told after each change as well (`other`): it sees the same suppliers.
- Times are processor time, from the suppliers' notes to the text that is signed. Memory is what the process has more after
  the first note was made than before.
- Beside it: how late an event loop is that has a note made by a thread, and by the process that nodes use.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from address_planner.labels import LabelSet  # noqa: E402
from benchmarks.peers.machine import machine  # noqa: E402
from benchmarks.planning.federations import NOW, Room, federation  # noqa: E402
from broker.bootstrap.deriving import Deriving  # noqa: E402
from broker.decompose.deriving import GC_THRESHOLDS, Deriver, Wish  # noqa: E402
from broker.decompose.plan import Snapshot  # noqa: E402
from capability_registry.abstraction import OPEN  # noqa: E402
from capability_registry.note import NOTE, BorderEntry, CapabilityNote, Lifecycle  # noqa: E402
from service_model.flows import PATHS  # noqa: E402

SIZES = (10, 20, 50)
SECRET = b"s" * 32
WISH = Wish(
    audience="above",
    sp_id="",
    now=NOW,
    validity=timedelta(hours=1),
    margin=Decimal("1.1"),
    currency="EUR",
    disclosure=OPEN,
    classes=(),
    max_hold_s=300,
    lifecycle=Lifecycle.ACTIVE,
    notice="",
    features=(PATHS,),
    token="token",
    secret=SECRET,
    share=0.1,
)


class Changing:
    """A federation one of whose suppliers says something else each time."""

    def __init__(self, suppliers: int) -> None:
        self.snapshot: Snapshot = federation(suppliers, 0, room=Room.FAIR).snapshot
        self._rng = random.Random(suppliers)
        self._away: list[tuple[int, int, BorderEntry]] = []

    def small(self, number: int) -> None:
        at = self._rng.randrange(len(self.snapshot.suppliers))
        note = self.snapshot.suppliers[at].note
        if number % 2:
            n = self._rng.randrange(len(note.matrix))
            points = tuple(replace(p, bandwidth_bps=p.bandwidth_bps * 9 // 10) for p in note.matrix[n].points)
            entry = replace(note.matrix[n], points=points)
            self._put(at, replace(note, matrix=(*note.matrix[:n], entry, *note.matrix[n + 1 :])))
        else:
            n = self._rng.randrange(len(note.saps))
            labels = note.saps[n].labels - LabelSet.of([next(iter(note.saps[n].labels))])
            sap = replace(note.saps[n], labels=labels)
            self._put(at, replace(note, saps=(*note.saps[:n], sap, *note.saps[n + 1 :])))

    def large(self, number: int) -> None:
        if number % 2:
            at, n, entry = self._away.pop()
            note = self.snapshot.suppliers[at].note
            self._put(at, replace(note, matrix=(*note.matrix[:n], entry, *note.matrix[n:])))
        else:
            at = self._rng.randrange(len(self.snapshot.suppliers))
            note = self.snapshot.suppliers[at].note
            n = self._rng.randrange(len(note.matrix))
            self._away.append((at, n, note.matrix[n]))
            self._put(at, replace(note, matrix=(*note.matrix[:n], *note.matrix[n + 1 :])))

    def _put(self, at: int, note: CapabilityNote) -> None:
        views = list(self.snapshot.suppliers)
        views[at] = replace(views[at], note=note)
        self.snapshot = replace(self.snapshot, number=self.snapshot.number + 1, suppliers=tuple(views))


def made(deriver: Deriver, snapshot: Snapshot, wish: Wish = WISH) -> tuple[bytes, float]:
    """The text, and the milliseconds that it took."""
    gc.collect()
    begun = time.process_time()
    deriver.make(wish, snapshot)
    text = deriver.issue(wish.audience, 1, SECRET)
    taken = (time.process_time() - begun) * 1000
    assert text is not None
    return text, taken


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def one(suppliers: int, changes: int) -> dict[str, Any]:
    """The figures of one federation."""
    gc.set_threshold(*GC_THRESHOLDS)
    changing, kept = Changing(suppliers), Deriver()
    gc.collect()
    before = resident_mb()
    text, first = made(kept, changing.snapshot)
    memory = resident_mb() - before
    other = replace(WISH, audience="beside", margin=Decimal("1.3"))
    taken: dict[str, list[float]] = {"new": [first], "small": [], "large": [], "other": []}
    for kind, change in (("small", changing.small), ("large", changing.large)):
        for number in range(changes):
            change(number)
            text, after = made(kept, changing.snapshot)
            again, anew = made(Deriver(), changing.snapshot)
            if text != again:
                raise SystemExit(f"{suppliers} suppliers: after a {kind} change the note is another one")
            taken[kind].append(after)
            taken["other"].append(made(kept, changing.snapshot, other)[1])
            taken["new"].append(anew)
    note = NOTE.validate_json(text)
    return {
        "suppliers": suppliers,
        "points": len(note.saps) + len(note.capacities),
        "ways": sum(len(entry.points) for entry in note.matrix),
        "note_kb": round(len(text) / 1000),
        "walks": kept.walks,
        "memory_mb": round(memory, 1),
        **{f"{name}_ms": round(statistics.median(times), 1) for name, times in taken.items()},
        **{f"{name}_most_ms": round(max(times), 1) for name, times in taken.items()},
    }


async def lateness(work: Awaitable[object]) -> list[float]:
    """How many milliseconds late a loop is that wants to be woken each millisecond, until the work is done."""
    late, task = [], asyncio.ensure_future(work)
    while not task.done():
        begun = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - begun) * 1000 - 1)
    await task
    return late


async def loops(suppliers: int) -> dict[str, dict[str, float]]:
    snapshot, deriving, out = Changing(suppliers).snapshot, Deriving(few=0), {}

    async def in_the_process() -> None:
        await deriving.make(WISH, snapshot)
        await deriving.issue(WISH.audience, 1, SECRET)

    await deriving.make(WISH, replace(snapshot, suppliers=snapshot.suppliers[:2]))  # the process is there
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "idle": lambda: asyncio.sleep(2),
        "thread": lambda: asyncio.to_thread(made, Deriver(), snapshot),
        "process": in_the_process,
    }
    for name, work in ways.items():
        late = sorted(await lateness(work()))
        out[name] = {"p99_ms": round(late[int(len(late) * 0.99)], 2), "max_ms": round(late[-1], 2)}
    await deriving.close()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    changes = 2 if given.quick else 6
    if given.one:
        print(json.dumps(one(given.one, changes)))
        return
    rows = []
    for size in SIZES:
        told = [sys.executable, __file__, "--one", str(size), *(["--quick"] if given.quick else [])]
        rows.append(json.loads(subprocess.run(told, check=True, capture_output=True, text=True).stdout))
    loop = asyncio.run(loops(SIZES[-2] if given.quick else SIZES[-1]))
    print("suppliers  points   note kB   memory MB      new ms    small ms    large ms    other ms   (medians)")
    for r in rows:
        print(
            f"{r['suppliers']:9} {r['points']:7} {r['note_kb']:9} {r['memory_mb']:11} {r['new_ms']:11} {r['small_ms']:11}"
            f" {r['large_ms']:11} {r['other_ms']:11}"
        )
    for name, late in loop.items():
        print(f"loop, {name:8} late by p99 {late['p99_ms']} ms, at most {late['max_ms']} ms")
    result = {
        "benchmark": "deriving",
        "figures": {"sizes": rows, "loop": loop},
        "baseline": {str(r["suppliers"]): r["new_ms"] for r in rows},
        "ratio": {
            str(r["suppliers"]): {kind: round(r["new_ms"] / r[f"{kind}_ms"], 1) for kind in ("small", "large", "other")}
            for r in rows
        },
        "machine": machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
