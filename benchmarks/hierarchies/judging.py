"""Single requests, one by one: what a note of notes promises, what is delivered, and what one who sees all sells.

Rules kept here
- A *false accept*: the planner finds a plan over the top's note alone, and the top does not deliver it when nothing else is
  ordered. Each is printed with its seed; there must be none.
- *Refused*: what the broker that sees all domains sells, and the top does not; *not announced*: what it sells, and the
  top's own note alone does not hold. *Orderable*: what it sells and the level of abstraction lets be ordered: by kilometres only
  where coordinates are told (docs/administration.md). Of what is refused of that, how much asks functions to be together or
  apart, which a level that hides the names of places cannot always tell.
- A margin makes a request with a price bound dearer, which is no loss of abstraction: such requests are left out.
- What is asked, and what the broker that sees all makes of it, does not depend on the level of abstraction.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.hierarchies.drawn import Hierarchy, hierarchy
from benchmarks.hierarchies.requests import in_words, request
from benchmarks.hierarchies.sellers import NOW, Middle
from broker.decompose.search import alone, best
from capability_registry.abstraction import Abstraction, Disclosure, PlaceDetail
from service_model.outcomes import Reserved
from service_model.spec import ServiceSpec

DEPTHS = (1, 2, 3, 4)
LEVELS = {
    "WHITE": Disclosure(),
    "GREY": Disclosure(abstraction=Abstraction.GREY),
    "GREY, located": Disclosure(abstraction=Abstraction.GREY, place_detail=PlaceDetail.COORDINATES),
    "BLACK": Disclosure(abstraction=Abstraction.BLACK),
}
"""What agreements disclose."""
LOCATED = frozenset({"WHITE", "GREY, located"})
"""Where whatever stands for one place tells its coordinates."""
REQUESTS = 8
"""Of each hierarchy."""


@dataclass
class Judged:
    """Single requests at one level and depth."""

    hierarchies: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        told = ("requests", "accepted by note", "false accepts", "sold by all-seeing", "refused", "orderable")
        return {
            "hierarchies": self.hierarchies,
            **{name: self.counts[name] for name in (*told, "orderable refused", "of these in groups", "not announced")},
            "refused_percent": self._percent("refused", "sold by all-seeing"),
            "orderable_refused_percent": self._percent("orderable refused", "orderable"),
            "not_announced_percent": self._percent("not announced", "sold by all-seeing"),
        }

    def _percent(self, part: str, whole: str) -> float:
        return round(100 * self.counts[part] / max(1, self.counts[whole]), 2)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A hierarchy to be drawn: one in four has a domain that two brokers sell, half have margins."""

    seed: int

    @property
    def depth(self) -> int:
        return DEPTHS[self.seed % len(DEPTHS)]

    @property
    def shared(self) -> bool:
        return self.seed // len(DEPTHS) % 4 == 3

    @property
    def margins(self) -> bool:
        return self.seed // len(DEPTHS) % 2 == 1

    def at(self, disclosure: Disclosure) -> Hierarchy:
        return hierarchy(self.seed, self.depth, shared=self.shared, margins=self.margins, disclosure=disclosure)

    def __str__(self) -> str:
        return f"hierarchy({self.seed}, {self.depth}, shared={self.shared}, margins={self.margins})"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and whether the broker that sees all sells it."""

    spec: ServiceSpec
    sold: bool


def asked_of(drawn: Hierarchy, seed: int) -> Iterator[Asked]:
    rng = random.Random(f"requests/{seed}")
    for number in range(REQUESTS if len(drawn.top.note().saps) > 1 else 0):
        spec = request(drawn, rng)
        sold = sells(drawn.flat, f"f{number}", in_words(spec, drawn.flat_names))
        yield Asked(spec, sold)


def judge(drawn: Hierarchy, requests: list[Asked], out: Judged, level: str, where: str) -> None:
    announced = alone(drawn.top.note())
    out.hierarchies += 1
    for number, asked in enumerate(requests):
        promised = best(asked.spec, announced, NOW) is not None
        delivered = sells(drawn.top, f"r{number}", asked.spec)
        out.counts["requests"] += 1
        out.counts["accepted by note"] += promised
        if promised and not delivered:
            out.counts["false accepts"] += 1
            print(f"false accept: {where}, request {number}: {told(asked.spec)}", flush=True)
        if asked.sold and not (drawn.margins and asked.spec.max_price is not None):
            out.counts["sold by all-seeing"] += 1
            out.counts["refused"] += not delivered
            out.counts["not announced"] += not promised
            orderable = level in LOCATED or all(d.max_km is None for d in asked.spec.distances)
            out.counts["orderable"] += orderable
            out.counts["orderable refused"] += orderable and not delivered
            out.counts["of these in groups"] += orderable and not delivered and bool(asked.spec.groups)


def sells(broker: Middle, ref: str, spec: ServiceSpec) -> bool:
    """Whether it holds the request; it is released at once."""
    held = isinstance(broker.reserve(ref, 1, spec), Reserved)
    broker.release(ref)
    return held


def told(spec: ServiceSpec) -> str:
    """A request in a line."""
    names = ("bandwidth_bps", "max_delay_us", "max_price", "isolation", "countries", "groups", "distances", "min_mtu")
    asked = {name: getattr(spec, name) for name in names if getattr(spec, name)}
    asked.pop("min_mtu" if spec.min_mtu == 1280 else "", None)
    return f"{' - '.join([spec.ends[0].sap, *(f.type.name for f in spec.functions), spec.ends[1].sap])} {asked}"


def soundness(seeds: int, first: int = 0, every: int = 25) -> dict[str, dict[int, Judged]]:
    """Over the hierarchies of so many seeds from `first` on, each at every level. Each `every` of them it tells how far it is."""
    found = {level: {depth: Judged() for depth in DEPTHS} for level in LEVELS}
    for seed in range(first, first + seeds):
        drawn = Drawn(seed)
        requests: list[Asked] | None = None
        for level, disclosure in LEVELS.items():
            whole = drawn.at(disclosure)
            requests = list(asked_of(whole, seed)) if requests is None else requests
            judge(whole, requests, found[level][drawn.depth], level, f"{drawn}, {level}")
        if (seed + 1 - first) % every == 0 or seed + 1 == first + seeds:
            print(f"after {seed + 1 - first} of {seeds} seeds:", flush=True)
            for level, judged in found.items():
                for depth, of in judged.items():
                    print(f"  {level}, depth {depth}: {of.figures()}", flush=True)
    return found
