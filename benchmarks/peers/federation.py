"""The broker as a contender: the nodes of a tree as `spbroker serve` runs them, with room for every order of a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from benchmarks.peers.contender import Contender, Settling
from benchmarks.peers.processes import Peers
from benchmarks.peers.stores import Stores, files, rows
from benchmarks.peers.tree import ACCOUNTS, Shape, documents
from lower_sp_clients import wire
from lower_sp_clients.wire import encode_struct
from service_model.outcomes import Committed, Reserved, ServiceState
from service_model.spec import ServiceSpec
from spbroker.v1 import admin_service_pb2 as admin_pb
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.customer import PASSWORD, Customer, operator
from tests.support.nodes import HOST, OPERATOR_PASSWORD, MovedClock, RealNode, found_at

READY_S = 30.0
NO_SETTINGS: Mapping[str, str] = {}


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


async def start_nodes(
    folder: Path,
    shape: Shape,
    peers: Peers,
    profiles: Path | None = None,
    settings: Mapping[str, str] = NO_SETTINGS,
    stores: Stores = files,
) -> dict[str, RealNode]:
    """All nodes of a tree, by sp_id, administered; `settings` are variables of their environment."""
    clock = MovedClock()
    brokers = tuple(shape.brokers())
    nodes: dict[str, RealNode] = {}
    for broker in brokers:
        home = folder / broker.sp_id
        await found_at(home, broker.sp_id, stores(home / "broker.db"))
        nodes[broker.sp_id] = RealNode(folder / broker.sp_id, clock)
    for broker in brokers:
        await start_node(nodes[broker.sp_id], peers, profiles, settings)
    for broker in brokers:
        people = () if broker.level else ACCOUNTS
        await administer(nodes[broker.sp_id], documents(broker, nodes), people)
    return nodes


async def start_node(
    node: RealNode, peers: Peers, profiles: Path | None = None, settings: Mapping[str, str] = NO_SETTINGS
) -> None:
    """Its process, at the ports that it has."""
    sp_id = node.directory.name
    listeners = {"SPBROKER_LISTEN": f"{HOST}:{node.people}", "SPBROKER_LISTEN_PARTNERS": node.endpoint}
    profile = [str(profiles / f"{sp_id}.prof")] if profiles else []
    await peers.start(sp_id, "node.py", str(node.directory), *profile, **listeners, **settings)


async def announced(ann: Customer, spec: ServiceSpec) -> None:
    """Once the top announces that the order can be had."""
    request = pb.QualifyServiceRequest(spec=wire.SPEC.encode(spec))
    async with asyncio.timeout(READY_S):
        while True:
            answer = await ann.broker.QualifyService(request, metadata=ann.metadata)
            if wire.QUALIFICATION.decode(answer.qualification).feasible:
                return
            await asyncio.sleep(0.2)


def broker_contender(ann: Customer, spec: ServiceSpec, settling: Settling) -> Contender:
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


def remote_calls(nodes: Mapping[str, RealNode]) -> int:
    """Calls that all journals say were made of lower SPs: of segments whose alias is one of a tree."""
    query = "SELECT count(*) FROM journal WHERE detail = 'intent' AND segment LIKE 's%'"
    return sum(rows(node.settings.store, query)[0][0] for node in nodes.values())
