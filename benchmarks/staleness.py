"""What notes that are out of date cost: how many orders a broker still sells by planning around what is refused.

    python benchmarks/staleness.py [--quick] [--age ORDERS]

Rules kept here
- The same orders, one after another, to three brokers over the same domains, each with domains of its own: one plans with
  every domain's note as it is (*all-seeing*), two with notes that are `--age` orders old: *late* plans around what is refused
  and no more, *hoping* also asks for what was announced before, `--hopes` times for an order at most.
- *Growing*: no order ends, so that an old note promises too much, and refusals are planned around. *Churning*: each order
  ends after LIFE more; then an old note also hides what has become free, which no refusal tells.
- Orders are drawn that the empty domains could deliver, one at a time.
- Brokers are the tasks of a node, without I/O (`hierarchies/`): what is refused is planned around as there.
- *Admissions*: what a broker sells, in percent of what the all-seeing one does. Both are greedy, so each comes to its own
  state, and one refused order may leave room for two. *Of deliverable*: what it sells, in percent of the orders that an
  all-seeing planner could place at that moment in the same domains.
- *Calls*: reservations asked of suppliers; *waves*: how often an order was planned again. *Cost*: of what both sell, what the
  suppliers ask, over what they ask the all-seeing.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from benchmarks.hierarchies.drawn import Hierarchy, hierarchy  # noqa: E402
from benchmarks.hierarchies.requests import in_words, plain  # noqa: E402
from benchmarks.hierarchies.sellers import NOW, Middle, Seller  # noqa: E402
from benchmarks.peers.machine import machine  # noqa: E402
from broker.decompose.search import best  # noqa: E402
from capability_registry.note import CapabilityNote  # noqa: E402
from service_model.outcomes import Refused, Reserved  # noqa: E402
from service_model.spec import ServiceSpec  # noqa: E402

DEPTH = 4
LENGTH = 24
"""Orders of one stream."""
LIFE = 12
"""Orders after which one ends, where they do."""


class Late:
    """A seller whose note is read `age` refreshes late. `calls` counts the reservations that came."""

    def __init__(self, seller: Seller, age: int, calls: Counter[str]) -> None:
        self.sp_id, self._seller, self._calls = seller.sp_id, seller, calls
        self._notes = deque([seller.note()], maxlen=age + 1)

    def refresh(self) -> None:
        self._seller.refresh()
        self._notes.append(self._seller.note())

    def note(self) -> CapabilityNote:
        return self._notes[0]

    def reserve(self, ref: str, version: int, spec: ServiceSpec) -> Reserved | Refused:
        self._calls["calls"] += 1
        return self._seller.reserve(ref, version, spec)

    def release(self, ref: str) -> None:
        self._seller.release(ref)


@dataclass
class Run:
    """What one broker makes of each order, and what is counted on the way."""

    answers: list[Reserved | None] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def run(drawn: Hierarchy, orders: list[ServiceSpec], age: int, hopes: int, churning: bool) -> Run:
    """A broker over the domains of `drawn` whose notes are `age` orders old."""
    out = Run()
    sellers = {alias: Late(seller, age, out.counts) for alias, seller in drawn.flat.suppliers.items()}
    broker = Middle("broker", sellers, hopes=hopes)
    for number, spec in enumerate(orders):
        if churning and number >= LIFE:
            broker.release(f"r{number - LIFE}")
        broker.refresh()
        drawn.flat.refresh()
        out.counts["deliverable"] += best(spec, drawn.flat.snapshot, NOW) is not None
        before, ref = out.counts["calls"], f"r{number}"
        answer = broker.reserve(ref, 1, spec)
        held = answer if isinstance(answer, Reserved) else None
        out.answers.append(held)
        kind = "sold" if held else "refused"
        out.counts[kind] += 1
        out.counts[f"{kind} calls"] += out.counts["calls"] - before
        out.counts[f"{kind} waves"] += broker.crankbacks[ref] + broker.hoped[ref]
        out.counts["first try"] += held is not None and not broker.crankbacks[ref] + broker.hoped[ref]
        if held is None:
            broker.release(ref)
    return out


def drawn_orders(drawn: Hierarchy, seed: int) -> list[ServiceSpec]:
    rng = random.Random(f"staleness/{seed}")
    orders: list[ServiceSpec] = []
    while len(orders) < LENGTH:
        spec = in_words(plain(drawn, rng), drawn.flat_names)
        if best(spec, drawn.flat.snapshot, NOW) is not None:
            orders.append(spec)
    return orders


def compare(seed: int, age: int, hopes: int, churning: bool, sums: dict[str, Counter[str]]) -> None:
    """Counts over one drawn set of domains, by broker. Costs in hundredths, over the term."""
    orders = drawn_orders(hierarchy(seed, DEPTH), seed)
    brokers = {"all-seeing": (0, 0), "late": (age, 0), "hoping": (age, hopes)}
    runs = {name: run(hierarchy(seed, DEPTH), orders, *how, churning) for name, how in brokers.items()}
    for name, found in runs.items():
        sums.setdefault(name, Counter()).update(found.counts + Counter(orders=LENGTH))
        for spec, fresh, held in zip(orders, runs["all-seeing"].answers, found.answers, strict=True):
            if fresh is not None and held is not None:
                sums[name]["cost all-seeing"] += cents(fresh, spec)
                sums[name]["cost"] += cents(held, spec)


def figures(sums: Counter[str]) -> dict[str, float]:
    each = {
        f"{what}_per_{kind}": round(sums[f"{kind} {what}"] / max(1, sums[kind]), 2)
        for kind in ("sold", "refused")
        for what in ("calls", "waves")
    }
    return {**{name: sums[name] for name in ("orders", "sold", "deliverable", "first try")}, **each}


def ratios(sums: Counter[str], possible: int) -> dict[str, float]:
    return {
        "admissions_percent": round(100 * sums["sold"] / max(1, possible), 2),
        "of_deliverable_percent": round(100 * sums["sold"] / max(1, sums["deliverable"]), 2),
        "cost": round(sums["cost"] / max(1, sums["cost all-seeing"]), 4),
    }


def cents(held: Reserved, spec: ServiceSpec) -> int:
    return int(held.price.over(spec.term_hours) * Decimal(100))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer domains")
    parser.add_argument("--age", type=int, default=10, metavar="ORDERS", help="how old notes are (default 10)")
    parser.add_argument("--hopes", type=int, default=2, metavar="N", help="how often an order is hoped for (default 2)")
    parser.add_argument("--domains", type=int, default=24, metavar="N", help="how many sets of domains (default 24)")
    arguments = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    ratio: dict[str, dict[str, dict[str, float]]] = {}
    for kind in ("growing", "churning"):
        sums: dict[str, Counter[str]] = {}
        for seed in range(3 if arguments.quick else arguments.domains):
            compare(seed, arguments.age, arguments.hopes, kind == "churning", sums)
        found[kind] = {name: figures(counts) for name, counts in sums.items()}
        ratio[kind] = {name: ratios(counts, sums["all-seeing"]["sold"]) for name, counts in sums.items()}
        for name in sums:
            print(kind, name, found[kind][name], ratio[kind][name], flush=True)
    document = {
        "benchmark": "staleness",
        "figures": {"age_orders": arguments.age, "hopes": arguments.hopes, **found},
        "baseline": {kind: brokers["all-seeing"] for kind, brokers in found.items()},
        "ratio": ratio,
        "machine": machine(),
    }
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
