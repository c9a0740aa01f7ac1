"""What notes that are out of date cost: how many orders a broker still sells by planning around what is refused.

    python benchmarks/staleness.py [--quick] [--age ORDERS]

Rules kept here
- The same orders, one after another, to two brokers over the same domains, each with domains of its own: one plans with
  every domain's note as it is, the other with notes that are `--age` orders old.
- *Growing*: no order ends, so that an old note promises too much, and refusals are planned around. *Churning*: each order
  ends after LIFE more; then an old note also hides what has become free, which no refusal tells.
- Orders are drawn that the empty domains could deliver, one at a time.
- Brokers are the tasks of a node, without I/O (`hierarchies/`): what is refused is planned around as there.
- *Admissions*: what the late broker sells, in percent of what the all-seeing one does. *First try*: what it sells of these
  without one crank-back. *Cost*: of what both sell, what the suppliers ask, late over all-seeing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
from collections import Counter, deque
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from benchmarks.hierarchies.drawn import hierarchy  # noqa: E402
from benchmarks.hierarchies.requests import in_words, plain  # noqa: E402
from benchmarks.hierarchies.sellers import NOW, Middle, Seller  # noqa: E402
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
    """A seller whose note is read `age` refreshes late."""

    def __init__(self, seller: Seller, age: int) -> None:
        self.sp_id, self._seller = seller.sp_id, seller
        self._notes = deque([seller.note()], maxlen=age + 1)

    def refresh(self) -> None:
        self._seller.refresh()
        self._notes.append(self._seller.note())

    def note(self) -> CapabilityNote:
        return self._notes[0]

    def reserve(self, ref: str, version: int, spec: ServiceSpec) -> Reserved | Refused:
        return self._seller.reserve(ref, version, spec)

    def release(self, ref: str) -> None:
        self._seller.release(ref)


def sold(broker: Middle, orders: list[ServiceSpec], churning: bool) -> list[Reserved | None]:
    """What the broker makes of each order."""
    answers: list[Reserved | None] = []
    for number, spec in enumerate(orders):
        if churning and number >= LIFE:
            broker.release(f"r{number - LIFE}")
        broker.refresh()
        answer = broker.reserve(f"r{number}", 1, spec)
        answers.append(answer if isinstance(answer, Reserved) else None)
        if answers[-1] is None:
            broker.release(f"r{number}")
    return answers


def compare(seed: int, age: int, churning: bool) -> Counter[str]:
    """Counts over one drawn set of domains. Costs in hundredths, over the term."""
    drawn, again = hierarchy(seed, DEPTH), hierarchy(seed, DEPTH)
    rng = random.Random(f"staleness/{seed}")
    orders: list[ServiceSpec] = []
    while len(orders) < LENGTH:
        spec = in_words(plain(drawn, rng), drawn.flat_names)
        if best(spec, drawn.flat.snapshot, NOW) is not None:
            orders.append(spec)
    late = Middle("late", {alias: Late(seller, age) for alias, seller in again.flat.suppliers.items()})
    fresh_sold, late_sold = sold(drawn.flat, orders, churning), sold(late, orders, churning)
    out = Counter(orders=LENGTH)
    for n, (spec, fresh, stale) in enumerate(zip(orders, fresh_sold, late_sold, strict=True)):
        out["all-seeing"] += fresh is not None
        out["late"] += stale is not None
        out["first try"] += stale is not None and not late.crankbacks[f"r{n}"]
        if fresh is not None and stale is not None:
            out["cost all-seeing"] += cents(fresh, spec)
            out["cost late"] += cents(stale, spec)
    return out


def cents(held: Reserved, spec: ServiceSpec) -> int:
    return int(held.price.over(spec.term_hours) * Decimal(100))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer domains")
    parser.add_argument("--age", type=int, default=10, metavar="ORDERS", help="how old notes are (default 10)")
    arguments = parser.parse_args()
    figures, baseline, ratio = {}, {}, {}
    for kind in ("growing", "churning"):
        total: Counter[str] = Counter()
        for seed in range(4 if arguments.quick else 14):
            total += compare(seed, arguments.age, kind == "churning")
        possible = max(1, total["all-seeing"])
        figures[kind] = {"orders": total["orders"], "sold": total["late"], "at_first_try": total["first try"]}
        baseline[kind] = {"sold": total["all-seeing"]}
        ratio[kind] = {
            "admissions_percent": round(100 * total["late"] / possible, 2),
            "first_try_percent": round(100 * total["first try"] / possible, 2),
            "cost": round(total["cost late"] / max(1, total["cost all-seeing"]), 4),
        }
        print(kind, figures[kind], baseline[kind], ratio[kind], flush=True)
    document = {
        "benchmark": "staleness",
        "figures": {"age_orders": arguments.age, **figures},
        "baseline": baseline,
        "ratio": ratio,
        "machine": {
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
    }
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
