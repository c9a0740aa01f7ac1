"""A node of every earlier schema, with orders in it, opens in this release and goes on with them.

The schema of each revision is made by the revisions themselves; its rows are those that a node of this release writes, as far as
that schema has their tables and columns. A new revision, table or column is covered by itself.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from broker.storage import tables
from broker.storage.engine import Engine
from broker.storage.migrations import migrate
from broker.storage.migrations.upgrading import revisions
from lower_sp_clients.supplier import Context, Supplier
from service_model.outcomes import AddressingChoice, Committed, Reserved, ServiceState, ServiceStatus
from service_model.spec import End, ServiceFunctionPath, ServiceSpec, VirtualLink
from tests.support.nodes import Nodes, RealNode
from tests.support.schema import differences
from tests.support.topologies import agreement, function, own_domain, person, pool, uni

Rows = dict[str, list[dict[str, Any]]]
"""By table, each row by column, as the database has them."""
CTX = Context()
NOT_DATA = "alembic_version"
SPEC = ServiceSpec(
    name="web",
    ends=(End(id="a", sap="client"), End(id="b", sap="server")),
    links=(VirtualLink(id="l", points=("a", "b")),),
    paths=(ServiceFunctionPath(id="p", hops=("a", "b")),),
    bandwidth_bps=10**6,
)
DOCUMENTS = (
    {"kind": "place", "name": "LOW", "country": "GR"},
    own_domain("field", "LOW", uni("server", "LOW"), uni("client", "LOW")),
    function("meter"),
    agreement("retail"),
    pool(),
    person("ann"),
)


async def until(ann: Supplier, node: RealNode, ref: str, state: ServiceState) -> ServiceStatus:
    async for event in ann.watch(""):
        if event.status is None:
            status = await ann.status(ref, CTX)
        elif event.status.ref == ref:
            status = event.status
        else:
            continue
        if status.state is state:
            return status
    raise AssertionError("the events ended")


async def lived(node: RealNode) -> dict[str, ServiceStatus]:
    """Orders of every kind: live, held, terminated, released, refused, and a quote."""
    ann = node.node.supplier_for("ann")
    for ref in ("live", "gone", "held", "released"):
        assert isinstance(await ann.reserve(ref, 1, SPEC, CTX), Reserved)
    for ref in ("live", "gone"):
        assert await ann.commit(ref, 1, AddressingChoice(), CTX) == Committed(ref=ref, version=1)
        await until(ann, node, ref, ServiceState.ACTIVE)
    await ann.terminate("gone", CTX)
    await until(ann, node, "gone", ServiceState.TERMINATED)
    await ann.release("released", 1, CTX)
    await ann.quote(SPEC, CTX)
    async for _ in node.node.notes_for("ann"):
        break
    return {ref: await ann.status(ref, CTX) for ref in ("live", "held", "gone", "released")}


def content(connection: sa.Connection) -> Rows:
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return {
        table.name: [dict(row._mapping) for row in connection.execute(table.select())]
        for table in metadata.sorted_tables
        if table.name != NOT_DATA
    }


def anything(table: sa.Table) -> dict[str, Any]:
    """A row of a table that this node had no use for."""
    return {column.name: _anything(column.type) for column in table.c}


def _anything(of: sa.types.TypeEngine[Any]) -> Any:
    if isinstance(of, sa.Boolean):
        return True
    if isinstance(of, sa.Integer):
        return 7
    return b"{}" if isinstance(of, sa.LargeBinary) else "7"


def insert(rows: Rows) -> Any:
    """What of `rows` the schema that is there has a place for; what was inserted."""

    def work(connection: sa.Connection) -> Rows:
        metadata = sa.MetaData()
        metadata.reflect(connection)
        put: Rows = {}
        for table in metadata.sorted_tables:
            if table.name == NOT_DATA:
                continue
            known = set(table.c.keys())
            put[table.name] = [
                {k: v for k, v in row.items() if k in known} for row in rows.get(table.name) or [anything(table)]
            ]
            connection.execute(table.insert(), put[table.name])
        return put

    return work


@pytest.fixture
async def solo(tmp_path: Path) -> AsyncIterator[RealNode]:
    nodes = Nodes(tmp_path)
    node = await nodes.add("solo")
    await node.administer(DOCUMENTS)
    yield node
    await nodes.close()


async def test_orders_of_every_earlier_schema_are_served_by_this_release(solo: RealNode) -> None:
    before = await lived(solo)
    present = solo.node.administration.present
    await solo.close()
    store = solo.settings.store
    assert isinstance(store, Path)
    kept = store.with_name("kept.db")
    async with Engine.open(store) as engine:
        rows = await engine.read(content)
    assert {name for name in rows if rows[name]} >= {"services", "service_versions", "holds", "allocations", "quotes"}
    shutil.move(store, kept)
    earlier = revisions()
    assert len(earlier) >= 4
    for revision in earlier:
        async with Engine.open(store, migrate=lambda c, to=revision: migrate(c, to=to)) as engine:  # type: ignore[misc]
            put = await engine.tx(insert(rows))
        async with Engine.open(store, migrate=migrate) as engine:
            assert await engine.read(lambda c: differences(c, tables.metadata)) == []
            migrated = await engine.read(content)
        for table, former in put.items():
            now = [{k: row[k] for k in former[0]} for row in migrated[table]]
            assert now == former, f"{revision}: {table}"
        await served(solo, before, present)
        await solo.close()
        store.unlink()


async def served(node: RealNode, before: dict[str, ServiceStatus], present: object) -> None:
    await node.open()
    ann = node.node.supplier_for("ann")
    assert node.node.administration.present == present
    for ref, status in before.items():
        now = await ann.status(ref, CTX)
        assert (now.state, now.choice, now.price, now.binding) == (
            status.state,
            status.choice,
            status.price,
            status.binding,
        )
    assert isinstance(await ann.reserve("new", 1, SPEC, CTX), Reserved)
    assert await ann.commit("held", 1, AddressingChoice(), CTX) == Committed(ref="held", version=1)
    await until(ann, node, "held", ServiceState.ACTIVE)
    for ref in ("live", "held"):
        await ann.terminate(ref, CTX)
        await until(ann, node, ref, ServiceState.TERMINATED)
    assert [d for d in (await node.inventory()).discrepancies if d.where != "7"] == []
