"""Orders one after another: the volume that a hierarchy sells beside one who sees all, each with domains of its own.

Rules kept here
- The same orders to both; every note is derived anew after each order, where something below changed and somebody asks.
- Load is what is offered, in parts of all that the broker that sees all could sell of a long stream: until it refuses
  twenty orders in turn. After it a third of the orders ends, and new ones come up to the same load (churn).
- What is sold one after another at a lower load is read off on the way to the highest.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from benchmarks.hierarchies.drawn import Hierarchy, hierarchy
from benchmarks.hierarchies.requests import in_words, plain
from benchmarks.hierarchies.sellers import Middle
from service_model.outcomes import Reserved
from service_model.spec import ServiceSpec

REFUSED_IN_TURN = 20


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

    def end(self, refs: Sequence[str]) -> None:
        for ref in refs:
            if self.live.pop(ref, None) is not None:
                self.broker.release(ref)
        self.broker.refresh()


def books(seed: int, depth: int) -> tuple[Book, Book]:
    ours, theirs = (hierarchy(seed, depth, roomy=True) for _ in range(2))
    return Book(ours, ours.top, False), Book(theirs, theirs.flat, True)


Order = tuple[str, ServiceSpec]


def stream(drawn: Hierarchy, seed: int) -> Iterator[Order]:
    """Orders without end, as the empty hierarchy could be asked for them."""
    rng, number = random.Random(f"stream/{seed}"), 0
    while True:
        number += 1
        yield f"o{number}", plain(drawn, rng)


@dataclass(frozen=True, slots=True)
class Stream:
    """What is offered, and in front of it as much as the broker that sees all is asked for until it is full, of which it sells
    `most` bit/s in all."""

    seed: int
    depth: int
    orders: tuple[Order, ...]
    most: int


def saturated(seed: int, depth: int) -> Stream:
    _, theirs = books(seed, depth)
    orders: list[Order] = []
    refused = 0
    for order in stream(theirs.hierarchy, seed):
        orders.append(order)
        refused = 0 if theirs.offer(*order) else refused + 1
        if refused == REFUSED_IN_TURN:
            more = islice(stream(hierarchy(seed, depth, roomy=True), seed), len(orders), 4 * len(orders))
            return Stream(seed, depth, (*orders, *more), sum(theirs.live.values()))
    raise AssertionError("a stream has no end")


Sold = Counter[str]


def churned(of: Stream, loads: Sequence[float]) -> tuple[dict[float, Sold], Sold]:
    """What both have sold at each of these loads, one after another; and at the last, after churn."""
    ours, theirs = books(of.seed, of.depth)
    orders, rng = iter(of.orders), random.Random(f"churn/{of.seed}")
    offered: dict[str, int] = {}

    def fill(load: float) -> Sold:
        while sum(offered.values()) < load * of.most:
            ref, spec = next(orders)
            offered[ref] = spec.bandwidth_bps
            ours.offer(ref, spec)
            theirs.offer(ref, spec)
        return Counter(
            {"orders": len(ours.live), "bps": sum(ours.live.values()),
             "all-seeing orders": len(theirs.live), "all-seeing bps": sum(theirs.live.values())}
        )  # fmt: skip

    first = {load: fill(load) for load in loads}
    ended = rng.sample(sorted(offered), len(offered) // 3)
    for ref in ended:
        del offered[ref]
    ours.end(ended)
    theirs.end(ended)
    return first, fill(loads[-1])


def volumes(streams: int, depths: Sequence[int], loads: Sequence[float]) -> dict[str, Sold]:
    """Summed over so many streams, the depths in turn. Each stream is told of when it is done."""
    sums: dict[str, Sold] = {}
    for seed in range(streams):
        of = saturated(seed, depths[seed % len(depths)])
        for n, load in enumerate(loads, start=1):
            last = n == len(loads)
            first, churn = churned(of, loads if last else (load,))
            told = {f"{at:.0%} one after another": sold for at, sold in first.items()} if last else {}
            for name, sold in (told | {f"{load:.0%} after churn": churn}).items():
                sums.setdefault(name, Counter()).update(sold)
                print(f"stream {seed}, depth {of.depth}, {name}: {dict(sold)}", flush=True)
    return sums
