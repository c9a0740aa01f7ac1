"""The bare programs as a contender: messages, tokens, documents and transactions as large and as many as the broker's."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peers.bare import SERVICE, Plan
from benchmarks.peers.contender import Contender, Settling
from benchmarks.peers.processes import Peers
from benchmarks.peers.stores import Stores, rows
from benchmarks.peers.tree import Broker, Shape
from broker.accounts.founding import Layout
from broker.settings.process import Database
from lower_sp_clients import wire
from service_model.spec import ServiceSpec
from tests.support.customer import Customer
from tests.support.nodes import HOST, RealNode, free_port


def sizes(nodes: Mapping[str, RealNode], status: Any, ann: Customer, spec: ServiceSpec) -> dict[str, Any]:
    """What an order's messages and documents measure, from a real one."""
    choice = wire.CHOICE.encode(status.choice).ByteSize()
    query = "SELECT avg(length(document)) FROM service_versions"
    documents = [float(rows(node.settings.store, query)[0][0]) for node in nodes.values()]
    return {
        "answer_bytes": choice,
        "request_bytes": {"Reserve": wire.SPEC.encode(spec).ByteSize(), "Commit": choice},
        "document_bytes": int(statistics.mean(documents)),
        "token_bytes": len(ann.token),
    }


def needed(broker: Broker) -> int:
    """The records of one order before its commit is answered: before and after each of the two calls, and its domains' own."""
    return 4 + 2 * len(broker.domains)


async def start_bare(
    folder: Path,
    shape: Shape,
    nodes: Mapping[str, RealNode],
    measured: Mapping[str, Any],
    transactions: Mapping[str, int],
    peers: Peers,
    stores: Stores,
) -> str:
    """Start one for each broker, with as many `transactions` for an order, and return where the top listens."""
    ports = {broker: f"{HOST}:{free_port()}" for broker in shape.brokers()}
    for broker, listen in ports.items():
        layout, above = nodes[broker.sp_id].layout, broker.above
        (certificate, key), (client, client_key) = layout.credential("server"), layout.credential("client")
        store = stores(folder / f"bare-{broker.sp_id}.db")
        plan = Plan(
            listen=listen, below=[(ports[b], _ca(nodes[b.sp_id].layout)) for b in broker.below],
            domains=len(broker.domains), settle=max(0, transactions[broker.sp_id] - needed(broker)),
            store=store.url if isinstance(store, Database) else str(store), certificate=str(certificate), key=str(key),
            ca=_ca(layout), client=str(client), client_key=str(client_key),
            client_ca=_ca(nodes[above.sp_id].layout) if above else "", **measured,
        )  # fmt: skip
        await peers.start(broker.sp_id, "bare.py", json.dumps(asdict(plan)))
    return ports[Broker(shape, 0, 0)]


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
