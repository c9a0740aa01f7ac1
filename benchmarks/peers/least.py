"""The bare programs as a contender: messages, tokens, documents and transactions as large and as many as the broker's."""

from __future__ import annotations

import json
import sqlite3
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peers.bare import SERVICE, Plan
from benchmarks.peers.contender import Contender, Settling
from benchmarks.peers.processes import Peers
from broker.accounts.founding import Layout
from lower_sp_clients import wire
from tests.support.customer import Customer
from tests.support.nodes import HOST, RealNode, free_port
from tests.support.topologies import LEVELS, chain


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
