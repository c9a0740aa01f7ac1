"""The broker as a contender: top, middle and leaf as `spbroker serve` runs them, with room for every order of a run."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from benchmarks.peers.contender import Contender, Settling
from benchmarks.peers.processes import Peers
from capability_registry.keys import from_base64url
from lower_sp_clients import wire
from lower_sp_clients.wire import encode_struct
from service_model.outcomes import Committed, Reserved, ServiceState
from spbroker.v1 import admin_service_pb2 as admin_pb
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.customer import PASSWORD, Customer, operator
from tests.support.nodes import HOST, OPERATOR_PASSWORD, MovedClock, RealNode, found_at
from tests.support.topologies import FROM, LEVELS, TO, chain, leaf_documents, middle_documents, top_documents

READY_S = 30.0
BIN = {"size": 100_000, "count": 4}
LABELS = "5000-999999"
BANDWIDTH = 10**14


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
    async for event in ann.watch(states=[ServiceState.ACTIVE]):
        if event.status is not None and event.status.state is ServiceState.ACTIVE:
            settling.tell(event.status.ref)


def remote_calls(nodes: Mapping[str, RealNode]) -> dict[str, int]:
    """Calls that each level's journal says it made of a lower SP."""
    out = {}
    for sp_id, node in nodes.items():
        with sqlite3.connect(f"file:{node.directory / 'broker.db'}?mode=ro", uri=True) as store:
            query = "SELECT count(*) FROM journal WHERE detail = 'intent' AND segment IN ('wholesale.1', 'lower.1')"
            out[sp_id] = store.execute(query).fetchone()[0]
    return out
