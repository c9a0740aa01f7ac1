"""How long an order takes through three levels, beside the least that the same calls and durable commits take.

    python benchmarks/order.py [--quick] [--profile DIR]

Rules kept here
- top, middle and leaf are nodes in processes of their own, over TLS, with simulated domains and SQLite. A customer reserves
  and commits a chain of two functions: one client in turn (latency), then many at once (throughput).
- The baseline are three bare programs (`peers/bare.py`): the same call tree, TLS, message sizes, and as many durable
  transactions in the same places. Both are measured in one run, alternating. What both did is counted, not assumed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

import grpc  # noqa: E402

from benchmarks.peers.bare import SERVICE, Plan  # noqa: E402
from broker.accounts.founding import Layout  # noqa: E402
from capability_registry.keys import from_base64url  # noqa: E402
from lower_sp_clients import wire  # noqa: E402
from lower_sp_clients.wire import encode_struct  # noqa: E402
from service_model.outcomes import Committed, Reserved, ServiceState  # noqa: E402
from spbroker.v1 import admin_service_pb2 as admin_pb  # noqa: E402
from spbroker.v1 import broker_service_pb2 as pb  # noqa: E402
from tests.support.customer import PASSWORD, Customer, operator  # noqa: E402
from tests.support.nodes import HOST, OPERATOR_PASSWORD, MovedClock, RealNode, found_at, free_port  # noqa: E402
from tests.support.topologies import (  # noqa: E402
    FROM,
    LEVELS,
    TO,
    chain,
    leaf_documents,
    middle_documents,
    top_documents,
)

READY_S = 30.0
BIN = {"size": 100_000, "count": 4}
LABELS = "5000-999999"
BANDWIDTH = 10**14


@dataclass
class Peers:
    """Processes that answer a line on stdin with what their store did."""

    processes: dict[str, Process] = field(default_factory=dict)

    async def start(self, name: str, program: str, *arguments: str, **more: str) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "SPBROKER_LOG_LEVEL": "error", **more}
        self.processes[name] = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "benchmarks" / "peers" / program), *arguments,
            stdin=PIPE, stdout=PIPE, env=environment,
        )  # fmt: skip

    async def counts(self) -> dict[str, dict[str, int]]:
        """By level, as soon as nothing more is recorded."""
        former: dict[str, dict[str, int]] = {}
        while (now := {name: await self._ask(process) for name, process in self.processes.items()}) != former:
            former = now
            await asyncio.sleep(0.7)
        return now

    @staticmethod
    async def _ask(process: Process) -> dict[str, int]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        answer: dict[str, int] = json.loads(await process.stdout.readline())
        return answer

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.stdin is not None:
                process.stdin.close()
        for process in self.processes.values():
            try:
                async with asyncio.timeout(10):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


Order = Callable[[str], Awaitable[None]]
"""Reserves and commits under a ref."""


@dataclass
class Contender:
    """One of the two that are measured: how to order, and to wait until everything after an order is over."""

    order: Order
    settled: Callable[[str], Awaitable[None]]
    latencies: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)

    async def in_turn(self, orders: int) -> None:
        for _ in range(orders):
            ref = str(uuid.uuid4())
            begun = time.perf_counter()
            await self.order(ref)
            self.latencies.append(time.perf_counter() - begun)
            await self.settled(ref)

    async def at_once(self, clients: int, seconds: float) -> None:
        begun = time.perf_counter()
        counts = [0] * clients

        async def client(number: int) -> None:
            while time.perf_counter() - begun < seconds:
                await self.order(str(uuid.uuid4()))
                counts[number] += 1

        await asyncio.gather(*(client(number) for number in range(clients)))
        self.per_second.append(sum(counts) / (time.perf_counter() - begun))

    def figures(self) -> dict[str, float]:
        ordered = sorted(self.latencies)
        return {
            "p50_ms": round(statistics.median(ordered) * 1000, 2),
            "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 2),
            "orders_per_s": round(statistics.median(self.per_second), 1),
        }


class Settling:
    """Which refs a stream has told of."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}
        self.begun = asyncio.Event()

    def tell(self, ref: str) -> None:
        self._waiting.setdefault(ref, asyncio.Event()).set()

    async def wait(self, ref: str) -> None:
        async with asyncio.timeout(READY_S):
            await self._waiting.setdefault(ref, asyncio.Event()).wait()


# the nodes


def roomy(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same federation with room for every order of a run."""
    for document in documents:
        match document["kind"]:
            case "domain":
                document["places"] = [{"place": document["places"][0]["place"], "bins": [BIN]}]
                for sap in document["saps"]:
                    sap["bandwidth_bps"] = BANDWIDTH
                for way in (way for link in document["links"] for way in link["ways"]):
                    way["bandwidth_bps"] = BANDWIDTH
            case "interconnect":
                document["labels"] = LABELS
            case "pool":
                document["prefix"] = "10.0.0.0/8"
            case "agreement":
                document["max_services"] = 1_000_000
    return documents


async def log_in(customer: Customer, password: str) -> Customer:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            return await customer.log_in(password)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def administer(node: RealNode, documents: list[dict[str, Any]], people: tuple[str, ...] = ()) -> None:
    root = await log_in(operator(node), OPERATOR_PASSWORD)
    structs = [encode_struct(document, "documents") for document in documents]
    request = admin_pb.ApplyRequest(documents=structs, reason="a benchmark")
    applied = await root.admin.Apply(request, metadata=root.metadata)
    if not applied.applied:
        raise RuntimeError(str(applied))
    for name in people:
        password = admin_pb.SetPasswordRequest(account=name, password=PASSWORD)
        await root.admin.SetPassword(password, metadata=root.metadata)
    await root.close()


async def start_nodes(folder: Path, peers: Peers, profiles: Path | None) -> dict[str, RealNode]:
    clock, nodes = MovedClock(), {}
    for sp_id in LEVELS:
        await found_at(folder / sp_id, sp_id)
        node = nodes[sp_id] = RealNode(folder / sp_id, clock)
        listeners = {"SPBROKER_LISTEN": f"{HOST}:{node.people}", "SPBROKER_LISTEN_PARTNERS": node.endpoint}
        profile = [str(profiles / f"{sp_id}.prof")] if profiles else []
        await peers.start(sp_id, "node.py", str(folder / sp_id), *profile, **listeners)
    top, middle, leaf = (nodes[sp_id] for sp_id in LEVELS)
    await administer(leaf, roomy(leaf_documents(middle)))
    await administer(middle, roomy(middle_documents(top, leaf)))
    await administer(top, roomy(top_documents(middle)), ("ann",))
    return nodes


async def announced(ann: Customer) -> None:
    request = pb.WatchCapabilityNotesRequest()
    async with asyncio.timeout(READY_S):
        async for message in ann.broker.WatchCapabilityNotes(request, metadata=ann.metadata):
            if message.WhichOneof("kind") == "note":
                payload = message.note.jws.split(".")[1]
                note = wire.parse_note(from_base64url(payload))
                if any({entry.a, entry.b} == {FROM, TO} for entry in note.matrix):
                    return


def broker_contender(ann: Customer, settling: Settling) -> Contender:
    spec = chain()

    async def order(ref: str) -> None:
        held = await ann.reserve(ref, spec)
        if not isinstance(held, Reserved):
            raise RuntimeError(str(held))
        done = await ann.commit(ref)
        if not isinstance(done, Committed):
            raise RuntimeError(str(done))

    return Contender(order, settling.wait)


async def watch_nodes(ann: Customer, settling: Settling) -> None:
    async for event in ann.watch():
        if event.status is not None and event.status.state is ServiceState.ACTIVE:
            settling.tell(event.status.ref)


# the bare programs


def sizes(nodes: Mapping[str, RealNode], status: Any, ann: Customer) -> dict[str, Any]:
    """What an order's messages and documents measure, from a real one."""
    spec = wire.SPEC.encode(chain()).ByteSize()
    choice = wire.CHOICE.encode(status.choice).ByteSize()
    documents = []
    for node in nodes.values():
        with sqlite3.connect(f"file:{node.directory / 'broker.db'}?mode=ro", uri=True) as store:
            documents.append(store.execute("SELECT avg(length(document)) FROM service_versions").fetchone()[0])
    return {
        "answer_bytes": choice,
        "request_bytes": {"Reserve": spec, "Commit": choice},
        "document_bytes": int(statistics.mean(documents)),
        "token_bytes": len(ann.token),
    }


async def start_bare(
    folder: Path, nodes: Mapping[str, RealNode], measured: Mapping[str, Any], settle: Mapping[str, int], peers: Peers
) -> str:
    """Start the three, and return where the top listens."""
    ports = {level: f"{HOST}:{free_port()}" for level in LEVELS}
    for above, level, below in zip(("", *LEVELS), LEVELS, (*LEVELS[1:], ""), strict=False):
        layout = nodes[level].layout
        (certificate, key), (client, client_key) = layout.credential("server"), layout.credential("client")
        plan = Plan(
            listen=ports[level], below=ports[below] if below else "", domain=level != "top", settle=settle[level],
            store=str(folder / f"bare-{level}.db"), certificate=str(certificate), key=str(key),
            ca=str(layout.credential("ca")[0]), client=str(client), client_key=str(client_key),
            client_ca=_ca(nodes[above].layout) if above else "", below_ca=_ca(nodes[below].layout) if below else "",
            **measured,
        )  # fmt: skip
        await peers.start(level, "bare.py", json.dumps(asdict(plan)))
    return ports["top"]


def _ca(layout: Layout) -> str:
    return str(layout.credential("ca")[0])


def authority(layout: Layout) -> bytes:
    return layout.credential("ca")[0].read_bytes()


def bare_contender(channel: Any, measured: Mapping[str, Any], settling: Settling) -> Contender:
    metadata = (("authorization", "Bearer " + "x" * measured["token_bytes"]),)
    calls = [(channel.unary_unary(f"/{SERVICE}/{m}"), measured["request_bytes"][m]) for m in ("Reserve", "Commit")]

    async def order(ref: str) -> None:
        for call, size in calls:
            await call(ref.encode().ljust(size, b"z"), metadata=metadata, wait_for_ready=True)

    return Contender(order, settling.wait)


async def watch_bare(channel: Any, settling: Settling) -> None:
    async for message in channel.unary_stream(f"/{SERVICE}/Watch")(b"", wait_for_ready=True):
        settling.begun.set()
        settling.tell(message[:36].decode())


# the run


def between(before: Mapping[str, Any], after: Mapping[str, Any], what: str) -> dict[str, int]:
    return {level: after[level][what] - before[level][what] for level in LEVELS}


def remote_calls(nodes: Mapping[str, RealNode]) -> dict[str, int]:
    """Calls that each level's journal says it made of a lower SP."""
    out = {}
    for sp_id, node in nodes.items():
        with sqlite3.connect(f"file:{node.directory / 'broker.db'}?mode=ro", uri=True) as store:
            query = "SELECT count(*) FROM journal WHERE detail = 'intent' AND segment IN ('wholesale.1', 'lower.1')"
            out[sp_id] = store.execute(query).fetchone()[0]
    return out


async def measure(folder: Path, quick: bool, profiles: Path | None) -> dict[str, Any]:
    in_turn, rounds, clients, seconds = (25, 2, 16, 2.5) if quick else (200, 4, 16, 10.0)
    ours, bare = Peers(), Peers()
    tasks: list[asyncio.Task[None]] = []
    try:
        nodes = await start_nodes(folder, ours, profiles)
        ann = await log_in(Customer(nodes["top"], "ann"), PASSWORD)
        await announced(ann)
        told = Settling()
        tasks.append(asyncio.create_task(watch_nodes(ann, told)))
        broker = broker_contender(ann, told)
        await broker.in_turn(3)  # warm
        counted = 10
        before, calls = await ours.counts(), remote_calls(nodes)
        await broker.in_turn(counted)
        after, called = await ours.counts(), remote_calls(nodes)
        transactions = {k: round(v / counted) for k, v in between(before, after, "transactions").items()}
        needed = {"top": 4, "middle": 6, "leaf": 6}
        settle = {level: transactions[level] - needed[level] for level in LEVELS}
        status = await ann.status(next(iter(await ann.refs())))
        measured = sizes(nodes, status, ann)
        address = await start_bare(folder, nodes, measured, settle, bare)
        channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority(nodes["top"].layout)))
        heard = Settling()
        tasks.append(asyncio.create_task(watch_bare(channel, heard)))
        least = bare_contender(channel, measured, heard)
        await bare.counts()  # each answers once it follows the level below
        await asyncio.wait_for(heard.begun.wait(), READY_S)
        await least.in_turn(3)
        bare_before = await bare.counts()
        await least.in_turn(counted)
        bare_after = await bare.counts()
        broker.latencies.clear()
        least.latencies.clear()
        for _ in range(rounds):
            await broker.in_turn(in_turn)
            await least.in_turn(in_turn)
        for _ in range(rounds):
            await broker.at_once(clients, seconds)
            await ours.counts()
            await least.at_once(clients, seconds)
        await channel.close()
        await ann.close()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await ours.stop()
        await bare.stop()
    figures, baseline = broker.figures(), least.figures()
    bare_transactions = {k: round(v / counted) for k, v in between(bare_before, bare_after, "transactions").items()}
    made = sum(called[level] - calls[level] for level in LEVELS) / counted + 2
    return {
        "benchmark": "order",
        "figures": {**figures, "transactions_per_order": transactions, "calls_per_order": made},
        "baseline": {**baseline, "transactions_per_order": bare_transactions, "calls_per_order": 6},
        "ratio": {
            "p50": round(figures["p50_ms"] / baseline["p50_ms"], 2),
            "throughput": round(baseline["orders_per_s"] / figures["orders_per_s"], 2),
        },
        "machine": {
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
            "system": platform.platform(),
            "python": platform.python_version(),
            "message_bytes": measured,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s on two cores")
    parser.add_argument("--profile", type=Path, metavar="DIR", help="leave cProfile files of the three nodes there")
    given = parser.parse_args()
    if given.profile is not None:
        given.profile.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spbroker-order-") as folder:
        result = asyncio.run(measure(Path(folder), given.quick, given.profile))
    figures, baseline = result["figures"], result["baseline"]
    print("reserve + commit through three levels            broker      bare")
    for key in ("p50_ms", "p99_ms", "orders_per_s"):
        print(f"  {key:44} {figures[key]:>8} {baseline[key]:>9}")
    for key in ("transactions_per_order", "calls_per_order"):
        print(f"  {key}: broker {figures[key]}, bare {baseline[key]}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
