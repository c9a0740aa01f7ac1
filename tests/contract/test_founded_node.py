"""Two founded nodes over real sockets: an operator administers one, the other's certificates get it in there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest

from broker.accounts.admin_port import Applied, Documents
from broker.accounts.administration import Administration
from broker.accounts.founding import Founded, Keys, found, read_keys
from broker.accounts.secrets import Cost, Passwords
from broker.northbound.authenticator import AccountAuthenticator
from broker.northbound.server import Identity, NorthboundServer, Serving, serve
from broker.settings.administered import plain
from broker.storage.document_book import SqlDocumentBook
from broker.storage.engine import Engine
from broker.storage.migrations import migrate
from lower_sp_clients.wire import encode_struct
from service_model.clock import SystemClock
from spbroker.v1 import admin_service_pb2 as admin_pb
from spbroker.v1 import admin_service_pb2_grpc, broker_service_pb2_grpc
from spbroker.v1 import broker_service_pb2 as pb
from tests.support import administered as docs
from tests.support.api_node import FakeAdmin
from tests.support.fake_supplier import FakeSupplier
from tests.support.postgres import Where

CHEAP = Cost(passes=1, memory_kib=8, lanes=1)


class Port(FakeAdmin):
    """An AdminPort whose documents are the real administration's."""

    def __init__(self, administration: Administration) -> None:
        super().__init__()
        self._administration = administration

    async def apply(self, documents: Documents, *, dry_run: bool, prune: bool, reason: str, actor: str) -> Applied:
        return await self._administration.apply(documents, dry_run=dry_run, prune=prune, reason=reason, actor=actor)

    async def export(self, kinds: tuple[str, ...]) -> Documents:
        return await self._administration.export(kinds)

    async def set_password(self, account: str, password: str, *, actor: str) -> None:
        await self._administration.set_password(account, password, actor=actor)


@dataclass
class Node:
    founded: Founded
    keys: Keys
    server: NorthboundServer

    def channel(self, listener: str, **own: bytes) -> Any:
        credentials = grpc.ssl_channel_credentials(self.keys.ca, own.get("key"), own.get("certificate"))
        address = f"127.0.0.1:{self.server.ports[listener]}"
        return grpc.aio.secure_channel(address, credentials, (("grpc.use_local_subchannel_pool", 1),))


def founded(directory: Path, sp_id: str) -> Founded:
    return found(directory, sp_id, datetime.now(UTC), [ip_address("127.0.0.1")], "root", "correct horse", CHEAP)


@pytest.fixture
async def node(tmp_path: Path, where: Where) -> AsyncIterator[Node]:
    made = await asyncio.to_thread(founded, tmp_path / "own", docs.OWN)
    keys = read_keys(made.layout)
    passwords, clock, ids = Passwords(CHEAP), SystemClock(), count()

    async def changed(whole: object) -> None:
        return None

    async with Engine.open(where("broker"), migrate=migrate) as engine:
        administration = Administration(
            sp_id=docs.OWN,
            book=SqlDocumentBook(engine),
            clock=clock,
            passwords=passwords,
            check=lambda whole: (),
            changed=changed,
        )
        first = (plain(made.operator),)
        assert (await administration.apply(first, dry_run=False, prune=False, reason="init", actor="root")).applied
        authenticator = AccountAuthenticator(
            sp_id=docs.OWN,
            administered=lambda: administration.present,
            passwords=passwords,
            signing_keys=lambda: (keys.token_key,),
            clock=clock,
            new_id=lambda: str(next(ids)),
        )
        supplier = FakeSupplier(clock)
        server = await serve(
            Serving(
                supplier_for=lambda account: supplier,
                notes_for=lambda account: supplier.notes(),
                authenticator=authenticator,
                clock=clock,
                admin=Port(administration),
            ),
            identity=lambda: Identity(certificate=keys.server.certificate, key=keys.server.key),
            partner_roots=authenticator.partner_roots,
            listen="127.0.0.1:0",
            listen_partners="127.0.0.1:0",
        )
        yield Node(made, keys, server)
        await server.stop(1.0)


async def login(channel: Any, account: str, password: str = "") -> tuple[tuple[str, str], ...]:
    stub = broker_service_pb2_grpc.BrokerServiceStub(channel)  # type: ignore[no-untyped-call]
    response = await stub.IssueToken(pb.IssueTokenRequest(account=account, password=password), timeout=60)
    return (("authorization", f"Bearer {response.token}"),)


async def test_an_operator_applies_and_a_partner_that_was_administered_gets_in(node: Node, tmp_path: Path) -> None:
    partner = await asyncio.to_thread(founded, tmp_path / "upper", "upper")
    theirs = read_keys(partner.layout)
    as_partner = partial(node.channel, "partners", key=theirs.client.key, certificate=theirs.client.certificate)
    async with as_partner() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as stranger:
            await login(channel, "upper")
    assert stranger.value.code() is grpc.StatusCode.UNAVAILABLE

    anchor = json.loads(partner.layout.anchor.read_text())
    documents = [d for d in docs.replaced(docs.service(anchor=anchor)) if d["name"] != "root"]
    async with node.channel("people") as channel:
        token = await login(channel, "root", "correct horse")
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)  # type: ignore[no-untyped-call]
        request = admin_pb.ApplyRequest(documents=[encode_struct(d, "") for d in documents], reason="first")
        applied = await stub.Apply(request, metadata=token, timeout=60)
        assert applied.applied
        assert [list(change.problems) for change in applied.changes] == [[] for _ in documents]
        exported = await stub.Export(admin_pb.ExportRequest(), metadata=token, timeout=60)
        assert len(exported.documents) == len(documents) + 1
        again = await stub.Apply(admin_pb.ApplyRequest(documents=exported.documents), metadata=token, timeout=60)
        assert {change.action for change in again.changes} == {admin_pb.CHANGE_ACTION_UNCHANGED}

    async with as_partner() as channel:
        token = await login(channel, "upper")
        broker = broker_service_pb2_grpc.BrokerServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await broker.GetService(pb.GetServiceRequest(ref="none"), metadata=token, timeout=60)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as customer:
            await admin.Export(admin_pb.ExportRequest(), metadata=token, timeout=60)
        assert customer.value.code() is grpc.StatusCode.PERMISSION_DENIED
