"""How many suppliers' notes a broker takes in per second of one core, beside the bare checks of the same signatures.

    python benchmarks/notes.py [--quick] [--suppliers N]

Rules kept here
- Every supplier has a key and a note of its own. A note goes the way that it goes in a node: from the supplier's stream
  through `Feeds.judge` with the acceptance rules, the reader and the origin tokens of the wiring; its edition is recorded
  in a database; then it is in the catalogue. A snapshot of all ends a round.
- The baseline are the Ed25519 checks alone, of the same texts with keys that are loaded already. Both are measured in one
  run, alternating.
- Rates are per second of processor time, of all threads of the process: that of the database is the node's work too. So
  they are what one core does, whatever else the machine does meanwhile. By the clock on the wall is reported beside.
- Memory is what the process grew by while the first edition of all notes came in: texts, notes and feeds as they are held.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: E402

from address_planner.labels import LabelSet  # noqa: E402
from benchmarks.peers.machine import machine  # noqa: E402
from broker.bootstrap.feeds import Feeds  # noqa: E402
from broker.bootstrap.serving import spare_collections  # noqa: E402
from broker.orders.catalogue import Catalogue, Listing  # noqa: E402
from broker.storage.engine import Engine  # noqa: E402
from broker.storage.migrations import migrate  # noqa: E402
from broker.storage.supplier_books import SqlAcceptedEditions  # noqa: E402
from capability_registry import origin, payload, signing  # noqa: E402
from capability_registry.feed import Acceptance  # noqa: E402
from capability_registry.keys import SigningKey, from_base64url  # noqa: E402
from capability_registry.note import (  # noqa: E402
    Bin,
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    Encapsulation,
    FunctionOffer,
    FunctionPort,
    Place,
    PlaceCapacity,
    PointKind,
    PortRole,
    SapOffer,
    SapRole,
)
from lower_sp_clients import wire  # noqa: E402
from lower_sp_clients.supplier import SignedNote  # noqa: E402
from service_model.clock import SystemClock  # noqa: E402
from service_model.flavours import Flavour  # noqa: E402
from service_model.money import Price  # noqa: E402
from service_model.spec import FunctionType  # noqa: E402

US, SECRET = "broker", b"s" * 32
PORTS = (FunctionPort(name="in"), FunctionPort(name="out"), FunctionPort(name="mgmt", role=PortRole.MANAGEMENT))


@dataclass(frozen=True)
class Shape:
    saps: int
    places: int
    functions: int
    """Types at each place."""


SMALL, LARGE = Shape(2, 1, 1), Shape(12, 4, 4)
"""Small is what a domain of the demo announces: a customer's SAP, an interconnect, a function."""


def note(number: int, edition: int, shape: Shape, now: datetime) -> CapabilityNote:
    places = [f"PL{number:05}{i}" for i in range(shape.places)]
    saps = [f"sap-{i}" for i in range(shape.saps)]
    ends = saps + places
    price = Price(per_hour=Decimal("0.0123"))
    points = tuple(
        BorderPoint(kind=kind, price=price, delay_us=delay, bandwidth_bps=10**9, availability=0.999, mtu=1450, lan=True)
        for kind, delay in ((PointKind.CHEAPEST, 2000), (PointKind.FASTEST, 1000))
    )
    return CapabilityNote(
        sp_id=f"sp-{number}",
        edition=edition,
        audience=US,
        not_before=now - timedelta(minutes=1),
        expires=now + timedelta(hours=1),
        places=tuple(Place(id=p, country="NL", latitude=52.1, longitude=4.5) for p in places),
        functions=tuple(
            FunctionOffer(
                type=FunctionType("eu.spbroker", f"function-{n}", "1.0"),
                place=place,
                ports=PORTS,
                flavours=(Flavour(name="small", price=price),),
            )
            for place in places
            for n in range(shape.functions)
        ),
        capacities=tuple(PlaceCapacity(place=p, bins=(Bin(size=8, count=4), Bin(size=3, count=1))) for p in places),
        saps=tuple(
            SapOffer(
                id=s,
                role=SapRole.NNI,
                place=places[0],
                encapsulation=Encapsulation.VXLAN,
                mtu=1450,
                labels=LabelSet(((1000, 1200), (1300, 1999))),
                bandwidth_bps=10**9,
                interconnect=f"ic-{number}-{s}",
                peer=f"sp-{number + 1}",
            )
            for s in saps
        ),
        matrix=tuple(BorderEntry(a=a, b=b, points=points) for i, a in enumerate(ends) for b in ends[i + 1 :]),
        origin_tokens=(origin.mint(b"t" * 32, number.to_bytes(origin.SALT_BYTES, "big"), US),),
    )


@dataclass(frozen=True)
class Delivered:
    """A text as it comes, with what its bare check needs."""

    alias: str
    jws: str
    key: Ed25519PublicKey
    signature: bytes
    message: bytes


def delivered(number: int, key: SigningKey, value: CapabilityNote) -> Delivered:
    jws = signing.sign(payload.write(value), key)
    message, _, signature = jws.rpartition(".")
    return Delivered(
        f"a{number}", jws, key.public.to_cryptography(), from_base64url(signature), message.encode("ascii")
    )


@dataclass(frozen=True)
class Taken:
    """Seconds: of processor time, of all threads, and on the wall."""

    processor: float
    wall: float

    @classmethod
    def now(cls) -> Taken:
        return cls(time.process_time(), time.perf_counter())

    @classmethod
    def since(cls, began: Taken) -> Taken:
        now = cls.now()
        return cls(now.processor - began.processor, now.wall - began.wall)


class Stream:
    """A supplier: each text that it sends is judged as `RemoteSp` has it judged."""

    def __init__(self, judge: Callable[[str], CapabilityNote]) -> None:
        self.texts: asyncio.Queue[str] = asyncio.Queue()
        self._judge = judge

    async def notes(self) -> AsyncIterator[SignedNote]:
        while True:
            jws = await self.texts.get()
            yield SignedNote(jws=jws, note=self._judge(jws))
            self.texts.task_done()


class Broker:
    """What of a node takes notes in."""

    def __init__(self, keys: Sequence[SigningKey], engine: Engine) -> None:
        self.catalogue = Catalogue(US)
        self.catalogue.list(tuple(Listing(alias=f"a{n}", sp_id=f"sp-{n}", local=False) for n, _ in enumerate(keys)))
        self.feeds = Feeds(self.catalogue, SystemClock(), SqlAcceptedEditions(engine))
        self._streams: dict[str, Any] = {
            f"a{n}": Stream(
                partial(
                    self.feeds.judge,
                    f"a{n}",
                    Acceptance(
                        sp_id=f"sp-{n}",
                        audience=US,
                        keys={key.kid: key.public},
                        verify=signing.verify,
                        is_ours=partial(origin.is_ours, SECRET),
                        tolerant=wire.parse_note,
                    ),
                )
            )
            for n, key in enumerate(keys)
        }
        self.feeds.follow(self._streams)

    async def take(self, texts: Sequence[Delivered]) -> Taken:
        """Until all of them are in a snapshot."""
        began = Taken.now()
        for text in texts:
            self._streams[text.alias].texts.put_nowait(text.jws)
        for text in texts:
            await self._streams[text.alias].texts.join()
        found = self.catalogue.snapshot
        spent = Taken.since(began)
        if len(found.suppliers) < len(texts):
            raise RuntimeError(f"{len(found.suppliers)} of {len(texts)} notes are in the snapshot")
        return spent


def check(texts: Sequence[Delivered]) -> Taken:
    """The bare checks."""
    began = Taken.now()
    for text in texts:
        text.key.verify(text.signature, text.message)
    return Taken.since(began)


def resident() -> int:
    """Bytes of memory that the process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Rates:
    """Per second of processor time: notes taken in, and bare checks; and notes per second on the wall."""

    notes: float
    checks: float
    wall: float

    @classmethod
    def median(cls, of: Sequence[Rates]) -> Rates:
        return cls(*(statistics.median(getattr(r, f) for r in of) for f in ("notes", "checks", "wall")))


async def rates(broker: Broker, texts: Sequence[Delivered], chunks: int) -> Rates:
    """The median over the chunks, alternating."""
    found = []
    size = len(texts) // chunks
    for start in range(0, size * chunks, size):
        part = texts[start : start + size]
        bare, ours = check(part), await broker.take(part)
        found.append(Rates(size / ours.processor, size / bare.processor, size / ours.wall))
    return Rates.median(found)


async def measure(suppliers: int, rounds: int, engine: Engine) -> dict[str, Any]:
    now = datetime.now(UTC)
    keys = [SigningKey.generate() for _ in range(suppliers)]
    broker = Broker(keys, engine)
    first = [delivered(n, key, note(n, 1, SMALL, now)) for n, key in enumerate(keys)]
    gc.collect()
    before = resident()
    await broker.take(first)
    grown = resident() - before
    found = []
    for edition in range(2, 2 + rounds):
        texts = [delivered(n, key, note(n, edition, SMALL, now)) for n, key in enumerate(keys)]
        found.append(await rates(broker, texts, 10))
    small = Rates.median(found)
    texts = [delivered(n, key, note(n, 99, LARGE, now)) for n, key in enumerate(keys[: suppliers // 20])]
    large = await rates(broker, texts, 5)
    await broker.feeds.close()
    return {
        "benchmark": "notes",
        "figures": {
            "notes_per_s": round(small.notes),
            "large_notes_per_s": round(large.notes),
            "notes_per_s_on_the_wall": round(small.wall),
            "memory_mb": round(grown / 1e6, 1),
            "memory_per_note_bytes": round(grown / suppliers),
        },
        "baseline": {"checks_per_s": round(small.checks), "large_checks_per_s": round(large.checks)},
        "ratio": {
            "small": round(small.checks / small.notes, 2),
            "large": round(large.checks / large.notes, 2),
        },
        "machine": machine(
            suppliers=suppliers,
            note_bytes=round(statistics.mean(len(text.jws) for text in first)),
            large_note_bytes=round(statistics.mean(len(text.jws) for text in texts)),
        ),
    }


async def run(suppliers: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with Engine.open(Path(folder) / "notes.db", migrate=migrate) as engine:
            return await measure(suppliers, rounds, engine)


def main() -> None:
    spare_collections()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    parser.add_argument("--suppliers", type=int, help="how many; 10000, with --quick 2000")
    given = parser.parse_args()
    result = asyncio.run(run(given.suppliers or (2000 if given.quick else 10_000), 2 if given.quick else 3))
    figures, baseline, machine = result["figures"], result["baseline"], result["machine"]
    print(f"notes of {machine['suppliers']} suppliers                  taken in/s   bare checks/s")
    for name, prefix in (("note_bytes", ""), ("large_note_bytes", "large_")):
        ours, bare = figures[f"{prefix}notes_per_s"], baseline[f"{prefix}checks_per_s"]
        print(f"  {machine[name]:>7} bytes {ours:>34} {bare:>15}")
    print(f"  by the clock on the wall: {figures['notes_per_s_on_the_wall']}/s (load {machine['load']})")
    print(f"  held in memory: {figures['memory_mb']} MB, {figures['memory_per_note_bytes']} bytes a note")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
