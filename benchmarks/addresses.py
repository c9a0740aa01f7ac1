"""How fast prefixes are given out and given back, in memory and durably, and how little the pool is broken up by it.

    python benchmarks/addresses.py [--quick]

Rules kept here
- In memory: the same seeded moves on a pool and on netaddr's IPSet, used as OpenStack Neutron uses it (the smallest free
  CIDR that holds the prefix is split). Both in one run, in turns; before each turn the pool is as full as the moves keep it.
- Durable: an allocation is a row and its entry in the journal, committed before the next is made, through the store's engine
  and writer as a node does; beside it the same driver that inserts the same two rows and commits. The same with a hundred
  allocations to a commit.
- Fragmentation: one seeded trace of prefixes of mixed sizes and lifetimes, on the pool, on a buddy allocator of its own that
  takes the first block that fits (`FirstFit`), and on one that breaks the smallest that fits (best fit). Compared is the largest
  free block, over the trace and at its end.
- Every move is checked against what the pool says of itself: no prefix twice, space conserved.
- In memory times are processor time; durable ones are what a caller waits.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import statistics
import sys
import tempfile
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from netaddr import IPNetwork, IPSet  # noqa: E402

from address_planner.buddy import Buddy, PoolExhausted  # noqa: E402
from address_planner.prefixes import Prefix  # noqa: E402
from benchmarks.peers.machine import machine  # noqa: E402
from broker.storage.books import SqlOrderBook  # noqa: E402
from broker.storage.engine import Engine  # noqa: E402
from broker.storage.migrations import migrate  # noqa: E402
from broker.storage.sqlite import WRITER_PRAGMAS, choose_driver, installed_drivers  # noqa: E402
from lower_sp_clients.vim.holds import Allocation, AllocationState  # noqa: E402


@dataclass(frozen=True)
class Space:
    """A pool, the lengths of prefixes asked of it (as often as listed), and how many live at a time."""

    prefix: str
    lengths: tuple[int, ...]
    live: int


SPACES = {
    "v4": Space("10.0.0.0/12", (24, 25, 26, 26, 27, 27, 28, 28, 29, 29, 30, 31), 2000),
    "v6": Space("fd00::/40", (56, 60, 60, 62, 62, 63, 64, 64, 64, 64, 127, 127), 2000),
}
AT = datetime(2026, 1, 1, tzinfo=UTC)
"""When everything durable happens."""
Move = tuple[int, int]
"""(length, -1): allocate; (-1, n): free the nth of what lives."""


def moves(space: Space, count: int, seed: int) -> Iterator[Move]:
    rng, live = random.Random(f"moves/{seed}"), 0
    for _ in range(count):
        if live and rng.random() < live / (2 * space.live):
            live -= 1
            yield -1, rng.randrange(live + 1)
        else:
            live += 1
            yield rng.choice(space.lengths), -1


class Ours:
    def __init__(self, prefix: str) -> None:
        self.pool = Buddy(ip_network(prefix))
        self.live: list[Prefix] = []

    def make(self, move: Move) -> None:
        length, number = move
        if length < 0:
            self.pool.free(self.live.pop(number))
        else:
            self.live.append(self.pool.allocate(length))

    def check(self) -> None:
        taken = sum(p.num_addresses for p in self.live)
        assert self.pool.free_addresses() + taken == self.pool.prefix.num_addresses, "space is lost or made"
        ordered = sorted((int(p.network_address), int(p.broadcast_address)) for p in self.live)
        assert all(a[1] < b[0] for a, b in pairwise(ordered)), "two prefixes overlap"


class Netaddr:
    def __init__(self, prefix: str) -> None:
        self.pool = IPSet([prefix])
        self.live: list[Any] = []

    def make(self, move: Move) -> None:
        length, number = move
        if length < 0:
            self.pool.add(self.live.pop(number))
            return
        free = max((c for c in self.pool.iter_cidrs() if c.prefixlen <= length), key=lambda c: c.prefixlen)
        given: IPNetwork = next(free.subnet(length))
        self.pool.remove(given)
        self.live.append(given)


def in_memory(space: Space, warm: int, turns: int, each: int, seed: int) -> dict[str, float]:
    """Microseconds per move, medians over the turns. Filling up before the first turn is timed for nobody."""
    ours, theirs = Ours(space.prefix), Netaddr(space.prefix)
    upcoming = moves(space, warm + turns * each, seed)
    for move in (next(upcoming) for _ in range(warm)):
        ours.make(move)
        theirs.make(move)
    mine, peer = list[float](), list[float]()
    for _ in range(turns):
        batch = [next(upcoming) for _ in range(each)]
        for who, times in ((ours, mine), (theirs, peer)):
            begin = time.process_time()
            for move in batch:
                who.make(move)
            times.append((time.process_time() - begin) / each * 1e6)
        ours.check()
    a, b = statistics.median(mine), statistics.median(peer)
    return {"ours_us": round(a, 2), "netaddr_us": round(b, 1), "times_faster": round(b / a, 1), "live": len(ours.live)}


def conserved(space: Space, count: int, seed: int) -> int:
    """How many moves were made, with checks a hundred times on the way."""
    ours = Ours(space.prefix)
    for number, move in enumerate(moves(space, count, seed)):
        ours.make(move)
        if number % (count // 100) == 0:
            ours.check()
    ours.check()
    return count


# --- durable ---------------------------------------------------------------------------------------------------------


async def durable(folder: Path, rows: int, batch: int, turns: int) -> dict[str, float]:
    """Allocations per second, `batch` to a commit: through the node's store, and by the driver alone."""
    driver: Any = choose_driver(installed_drivers())
    engine = await asyncio.to_thread(lambda: Engine.open(folder / f"ours-{batch}.db", migrate=migrate))
    book = SqlOrderBook(engine, "epoch")
    bare = driver.connect(str(folder / f"bare-{batch}.db"), isolation_level=None)
    for pragma in WRITER_PRAGMAS:
        bare.execute(f"PRAGMA {pragma}").fetchall()
    bare.execute(
        "CREATE TABLE allocations (pool TEXT, value TEXT, owner TEXT, epoch TEXT, state TEXT, until TEXT, "
        "PRIMARY KEY (pool, value))"
    )
    bare.execute("CREATE INDEX ix_allocations_owner ON allocations (owner)")
    bare.execute(
        "CREATE TABLE journal (seq INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT, service TEXT, segment TEXT, what TEXT, "
        "key TEXT, detail TEXT)"
    )
    bare.execute("CREATE INDEX ix_journal_service ON journal (service)")
    pool, ours, theirs = Buddy(ip_network("10.0.0.0/8")), [], []
    try:
        for turn in range(turns):
            owners = [f"service-{turn}-{n}" for n in range(rows)]
            prefixes = [str(pool.allocate(28)) for _ in owners]
            named = list(zip(prefixes, owners, strict=True))
            begin = time.perf_counter()
            for first in range(0, rows, batch):
                await book.put_allocations(
                    [
                        Allocation(pool="prefixes/p", value=value, owner=owner, state=AllocationState.HELD)
                        for value, owner in named[first : first + batch]
                    ],
                    (),
                    AT,
                )
            ours.append(rows / (time.perf_counter() - begin))
            begin = time.perf_counter()
            for first in range(0, rows, batch):
                bare.execute("BEGIN IMMEDIATE")
                bare.executemany(
                    "INSERT INTO allocations VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        ("prefixes/p", value, owner, "epoch", "HELD", None)
                        for value, owner in named[first : first + batch]
                    ],
                )
                bare.executemany(
                    "INSERT INTO journal (at, service, segment, what, key, detail) VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (AT.isoformat(timespec="microseconds"), owner, "", "allocation", value, "prefixes/p HELD")
                        for value, owner in named[first : first + batch]
                    ],
                )
                bare.execute("COMMIT")
            theirs.append(rows / (time.perf_counter() - begin))
    finally:
        bare.close()
        await engine.close()
    a, b = statistics.median(ours), statistics.median(theirs)
    return {"ours_per_s": round(a), "sqlite_per_s": round(b), "ratio": round(a / b, 2)}


# --- fragmentation ---------------------------------------------------------------------------------------------------


class BestFit(Buddy):
    """The same pool, but the block is the smallest that holds the prefix; of equal ones the first."""

    def _lowest(self, sizes: int) -> tuple[int, int]:
        return super()._lowest(sizes & -sizes)


class FirstFit:
    """A buddy allocator as it is in books (Knuth, The Art of Computer Programming 1, 2.5): of each size the free blocks in the
    order of their addresses. What is asked for is cut from the first block that holds it."""

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix
        self._base, self._bits = int(prefix.network_address), prefix.max_prefixlen
        self._free: list[list[int]] = [[] for _ in range(self._bits - prefix.prefixlen + 1)]
        self._free[-1].append(0)

    def allocate(self, length: int) -> Prefix:
        size = self._bits - length
        fitting = [(blocks[0], at) for at, blocks in enumerate(self._free) if at >= size and blocks]
        if not fitting:
            raise PoolExhausted(f"{self.prefix} has no /{length} left")
        start, at = min(fitting)
        del self._free[at][0]
        while at > size:
            at -= 1
            insort(self._free[at], start + (1 << at))
        return ip_network((self._base + start, length))

    def free(self, prefix: Prefix) -> None:
        start, size = int(prefix.network_address) - self._base, self._bits - prefix.prefixlen
        while size < len(self._free) - 1:
            blocks, buddy = self._free[size], start ^ (1 << size)
            at = bisect_left(blocks, buddy)
            if at == len(blocks) or blocks[at] != buddy:
                break
            del blocks[at]
            start, size = min(start, buddy), size + 1
        insort(self._free[size], start)

    def largest_free(self) -> int | None:
        return next((self._bits - at for at in range(len(self._free) - 1, -1, -1) if self._free[at]), None)


def fragmentation(
    make: Callable[[Prefix], Buddy | FirstFit], space: Space, events: int, load: float, seed: int
) -> dict[str, float]:
    """A prefix comes at every step and stays for a time that is drawn (exponential); `load`: how much of the pool lives on
    average if nothing is refused."""
    pool, rng, ends = make(ip_network(space.prefix)), random.Random(f"trace/{seed}"), list[tuple[float, int, Prefix]]()
    size = pool.prefix.num_addresses
    mean = statistics.fmean(1 << (pool.prefix.max_prefixlen - length) for length in space.lengths)
    stays = load * size / mean
    largest, refused, done, now = [], 0, 0, 0
    while done < events:
        now += 1
        while ends and ends[0][0] <= now:
            pool.free(heapq.heappop(ends)[2])
            done += 1
        length, ending = rng.choice(space.lengths), now + rng.expovariate(1 / stays)
        try:
            heapq.heappush(ends, (ending, now, pool.allocate(length)))
        except PoolExhausted:
            refused += 1
        done += 1
        if now % 100 == 0:
            found = pool.largest_free()
            largest.append(0 if found is None else 1 << (pool.prefix.max_prefixlen - found))
    return {
        "mean_largest": round(statistics.fmean(largest[len(largest) // 5 :])),
        "last_largest": largest[-1],
        "refused": refused,
    }


def measure(quick: bool) -> dict[str, Any]:
    turns, each, operations = (5, 100, 100_000) if quick else (15, 400, 500_000)
    memory = {name: in_memory(space, 4 * space.live, turns, each, 1) for name, space in SPACES.items()}
    for name, figures in memory.items():
        print(f"in memory, {name}: {figures}", flush=True)
    moved = sum(conserved(space, operations, 2) for space in SPACES.values())
    print(f"{moved} moves: no prefix twice, space conserved", flush=True)
    lasting = {}
    with tempfile.TemporaryDirectory() as folder:
        for batch in (1, 100):
            rows = (300 if quick else 1000) * (1 if batch == 1 else 10)
            lasting[batch] = asyncio.run(durable(Path(folder), rows, batch, 3 if quick else 7))
            print(f"durable, {batch} to a commit: {lasting[batch]}", flush=True)
    broken: dict[str, dict[str, float]] = {}
    allocators: dict[str, Callable[[Prefix], Buddy | FirstFit]]
    allocators = {"ours": Buddy, "first fit": FirstFit, "best fit": BestFit}
    for load in (0.5, 0.7, 0.9):
        for name, make in allocators.items():
            trace = Space("10.0.0.0/16", SPACES["v4"].lengths, 0)
            broken[f"{load:.0%} {name}"] = fragmentation(make, trace, 50_000 if quick else 1_000_000, load, 3)
            print(f"fragmentation, load {load:.0%}, {name}: {broken[f'{load:.0%} {name}']}", flush=True)
    return {
        "benchmark": "addresses",
        "figures": {"in_memory": memory, "moves_checked": moved, "durable": lasting, "fragmentation": broken},
        "baseline": {"netaddr_us": {name: f["netaddr_us"] for name, f in memory.items()}},
        "ratio": {
            "in_memory": {name: f["times_faster"] for name, f in memory.items()},
            "durable": {batch: f["ratio"] for batch, f in lasting.items()},
            "largest_free": {
                f"{load:.0%} {peer}": round(
                    broken[f"{load:.0%} ours"]["mean_largest"] / max(1, broken[f"{load:.0%} {peer}"]["mean_largest"]), 3
                )
                for load in (0.5, 0.7, 0.9)
                for peer in ("first fit", "best fit")
            },
        },
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    print(json.dumps(measure(parser.parse_args().quick)))


if __name__ == "__main__":
    main()
