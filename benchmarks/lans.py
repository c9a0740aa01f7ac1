"""What a plan of a LAN is worth: whether what notes promise of sites is delivered, how dear trees are, how long it takes.

    python benchmarks/lans.py [--quick] [--hierarchies N]

Rules kept here
- Hierarchies are those of `abstraction.py`, a level of disclosure and a depth in turn. A *false accept*: a plan over the top's
  note alone, which the top does not deliver when nothing else is ordered. Beside it, what the broker that sees all sells.
- Trees: LANs of sites over a drawn federation (`planning/federations.py`), every way of which carries LANs. Up to EXACT sites a
  tree is the cheapest there is; what is grown where there are more is compared with it on the same sites.
- Times are processor time of this process.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from benchmarks.hierarchies.drawn import hierarchy  # noqa: E402
from benchmarks.hierarchies.requests import in_words, sites  # noqa: E402
from benchmarks.hierarchies.sellers import NOW as THEN  # noqa: E402
from benchmarks.hierarchies.sellers import Middle  # noqa: E402
from benchmarks.peers.machine import machine  # noqa: E402
from benchmarks.planning.federations import NOW, Federation, federation  # noqa: E402
from broker.decompose.plan import SupplierView  # noqa: E402
from broker.decompose.search import alone, best  # noqa: E402
from capability_registry import steiner  # noqa: E402
from capability_registry.abstraction import Abstraction, Disclosure  # noqa: E402
from service_model.check import check  # noqa: E402
from service_model.outcomes import Reserved  # noqa: E402
from service_model.spec import LAN_SITES, End, LinkKind, ServiceSpec, VirtualLink  # noqa: E402

REQUESTS = 8
"""Of each hierarchy."""


def sells(broker: Middle, ref: str, spec: ServiceSpec) -> bool:
    held = isinstance(broker.reserve(ref, 1, spec), Reserved)
    broker.release(ref)
    return held


def soundness(count: int) -> dict[str, dict[str, int]]:
    """LANs by themselves, and beside paths."""
    found: dict[str, Counter[str]] = {"alone": Counter(), "beside paths": Counter()}
    levels = tuple(Abstraction)
    for seed in range(count):
        disclosure = Disclosure(abstraction=levels[seed % 3])
        depth, shared, margins = 1 + seed // 3 % 4, seed // 16 % 4 == 3, seed // 4 % 2 == 1
        drawn = hierarchy(seed, depth, shared=shared, margins=margins, disclosure=disclosure)
        note, rng = drawn.top.note(), random.Random(f"lans/{seed}")
        for number in range(REQUESTS if len(note.saps) > 1 else 0):
            spec = sites(drawn, rng)
            if check(spec):
                continue
            counts = found["beside paths" if spec.paths else "alone"]
            promised = best(spec, alone(note), THEN) is not None
            delivered = sells(drawn.top, f"r{number}", spec)
            sold = sells(drawn.flat, f"f{number}", in_words(spec, drawn.flat_names))
            priced = drawn.margins and spec.max_price is not None
            counts.update(
                {
                    "requests": 1,
                    "promised": promised,
                    "false accepts": promised and not delivered,
                    "sold by all-seeing": sold and not priced,
                    "refused": sold and not priced and not delivered,
                }
            )
            if promised and not delivered:
                print(f"false accept: hierarchy({seed}, {depth}), request {number}", flush=True)
    return {name: dict(counts) for name, counts in found.items()}


def carrying(fed: Federation) -> Federation:
    """With every way open to LANs."""

    def opened(view: SupplierView) -> SupplierView:
        matrix = tuple(
            replace(entry, points=tuple(replace(p, lan=True, lan_alone=True) for p in entry.points))
            for entry in view.note.matrix
        )
        features = (*view.note.api_features, LAN_SITES)
        return replace(view, note=replace(view.note, matrix=matrix, api_features=features))

    return replace(fed, snapshot=replace(fed.snapshot, suppliers=tuple(map(opened, fed.snapshot.suppliers))))


def elan(saps: list[str]) -> ServiceSpec:
    ends = tuple(End(id=f"e{n}", sap=sap) for n, sap in enumerate(saps))
    lan = VirtualLink(id="lan", kind=LinkKind.LAN, points=tuple(end.id for end in ends))
    return ServiceSpec(name="bench", ends=ends, links=(lan,))


def trees(size: int, of_sites: tuple[int, ...], times: int) -> dict[str, Any]:
    """By how many sites: the median time of a plan, and by how much what is grown is dearer than the cheapest."""
    fed, rng, out = carrying(federation(size, 1)), random.Random(f"lans/{size}"), {}
    best(elan(rng.sample(fed.unis, 2)), fed.snapshot, NOW)  # the graph is made
    for count in of_sites:
        taken, dearer = [], []
        for _ in range(times):
            spec = elan(rng.sample(fed.unis, count))
            begin = time.process_time()
            made = best(spec, fed.snapshot, NOW)
            taken.append(time.process_time() - begin)
            if made is not None and count <= steiner.EXACT:
                dearer.append(float(grown(spec, fed) / made.cost) - 1)
        figures = {"ms": round(1e3 * statistics.median(taken), 1)}
        if dearer:
            figures |= {"grown_dearer_percent": round(100 * statistics.fmean(dearer), 2),
                        "at_most_percent": round(100 * max(dearer), 2)}  # fmt: skip
        out[f"{count} sites"] = figures
    return {"suppliers": len(fed.snapshot.suppliers), "vertices": fed.vertices, **out}


def grown(spec: ServiceSpec, fed: Federation) -> Any:
    """The cost of the tree that is grown by the nearest site."""
    exact, steiner.EXACT = steiner.EXACT, 1
    try:
        made = best(spec, fed.snapshot, NOW)
    finally:
        steiner.EXACT = exact
    assert made is not None, "there is a tree"
    return made.cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    parser.add_argument("--hierarchies", type=int, default=240)
    arguments = parser.parse_args()
    sizes = (50,) if arguments.quick else (50, 200)
    single = soundness(9 if arguments.quick else arguments.hierarchies)
    laid = [trees(size, (3, 5, 7, 12), 3 if arguments.quick else 15) for size in sizes]
    result = {
        "benchmark": "lans",
        "figures": {"single": single, "trees": laid},
        "baseline": {"sold by all-seeing": sum(f.get("sold by all-seeing", 0) for f in single.values())},
        "ratio": {"false_accepts": sum(f.get("false accepts", 0) for f in single.values())},
        "machine": machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
