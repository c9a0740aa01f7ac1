"""Documents applied to nodes that are running: what is new travels up, what is live is not taken away."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network

from address_planner.labels import LabelSet
from broker.accounts.admin_port import PoolKind, PoolUse
from broker.settings.anchor import ANCHOR
from broker.storage import tables
from capability_registry.note import CapabilityNote
from capability_registry.signing import verify
from lower_sp_clients.wire import parse_note
from service_model.outcomes import ReasonCode, Refused, Reserved, ServiceState
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.customer import Customer, wrong
from tests.support.nodes import SETTLED_S, Nodes
from tests.support.topologies import (
    FROM,
    TO,
    chain,
    interconnect,
    left,
    nni,
    own_domain,
    person,
    pool,
    supplier,
    top_documents,
    uni,
)


class Reader:
    """A customer's stream of notes, each verified under the anchor of its provider."""

    def __init__(self, customer: Customer) -> None:
        request = pb.WatchCapabilityNotesRequest()
        self._call = customer.broker.WatchCapabilityNotes(request, metadata=customer.metadata)
        self._keys = ANCHOR.validate_python(customer.node.anchor).keys()
        self.editions: list[int] = []

    async def next(self) -> CapabilityNote:
        async with asyncio.timeout(SETTLED_S):
            async for message in self._call:
                if message.WhichOneof("kind") == "note":
                    note = parse_note(verify(message.note.jws, self._keys, 4 << 20))
                    self.editions.append(note.edition)
                    return note
        raise AssertionError("the stream of notes ended")

    def close(self) -> None:
        self._call.cancel()


def price_between(note: CapabilityNote, a: str, b: str) -> object:
    (entry,) = [e for e in note.matrix if {e.a, e.b} == {a, b}]
    return min(point.price.per_hour for point in entry.points)


async def test_a_new_price_and_a_new_sap_reach_the_customer_in_new_editions(nodes: Nodes, ann: Customer) -> None:
    reader = Reader(ann)
    note = await reader.next()
    before = price_between(note, FROM, TO)
    dearer = own_domain("field", "LOW", uni("server", "LOW"), nni("to-middle", "LOW"), price="0.90")
    await nodes["leaf"].administer([dearer])
    while price_between(note, FROM, TO) == before:
        note = await reader.next()
    saps = [uni("server", "LOW"), uni("annex", "LOW"), nni("to-middle", "LOW")]
    await nodes["leaf"].administer([own_domain("field", "LOW", *saps, price="0.90")])
    while "wholesale.lower.annex" not in {sap.id for sap in note.saps}:
        note = await reader.next()
    assert reader.editions == sorted(set(reader.editions))
    reader.close()
    status = await ann.order("web", chain(ends=(FROM, "wholesale.lower.annex")))
    assert status.state is ServiceState.ACTIVE


async def problems(nodes: Nodes, sp_id: str, *documents: dict[str, object], prune: bool = False) -> dict[str, str]:
    """`kind name` to what the node says against it, having applied nothing."""
    before = await nodes[sp_id].node.admin.export(())
    applied = await nodes[sp_id].apply(*documents, prune=prune)
    assert not applied.applied
    assert await nodes[sp_id].node.admin.export(()) == before
    return {f"{c.kind} {c.name}": "; ".join(c.problems) for c in applied.changes if c.problems}


async def test_a_pool_keeps_the_blocks_that_are_allocated(nodes: Nodes, ann: Customer) -> None:
    await ann.order("web", chain())
    (block,) = [a.value for a in (await nodes["top"].inventory()).allocations]
    told = await problems(nodes, "top", pool("10.97.0.0/16"))
    assert set(told) == {"pool services"}
    assert block in told["pool services"]
    await ann.end("web")
    await nodes["top"].administer([pool("10.97.0.0/16")])
    status = await ann.order("again", chain())
    assert status.choice is not None
    assert all(str(link.prefix).startswith("10.97.") for link in status.choice.links)


async def test_a_pool_that_is_drained_gives_nothing_new_and_keeps_what_is_live(nodes: Nodes, ann: Customer) -> None:
    await ann.order("web", chain())
    applied = await nodes["top"].apply(pool(state="DRAINING"))
    assert applied.applied
    (change,) = applied.changes
    assert change.notices == ("state: 1 block is in use until it is given back, and not given again",)
    (use,) = [u for u in await nodes["top"].node.admin.pools() if u.kind is PoolKind.PREFIXES]
    assert use.draining
    assert [e.ref for e in use.entries] == ["web"]
    refused = await ann.reserve("more", chain())
    assert isinstance(refused, Refused)
    assert [(r.code, r.subject) for r in refused.reasons] == [(ReasonCode.NOT_IN_SERVICE, "blocks")]
    assert (await ann.status("web")).state is ServiceState.ACTIVE
    await ann.end("web")
    gone = await nodes["top"].apply(pool("10.97.0.0/16", name="other"), prune=True)
    assert gone.applied, "nothing of it is left"
    assert (await ann.order("again", chain())).state is ServiceState.ACTIVE


async def test_labels_that_are_taken_from_an_interconnect_stay_with_their_services_and_that_is_told(
    nodes: Nodes, ann: Customer
) -> None:
    await ann.order("web", chain())
    (mine,) = [u for u in await nodes["leaf"].node.admin.pools() if u.name == "field/to-middle"]
    assert mine.extent == "vni:5000-5999"
    used = LabelSet.of(int(entry.value) for entry in mine.entries)
    left = LabelSet.parse("5000-5999") - used
    applied = await nodes["leaf"].apply(interconnect("middle", decides=True, labels=str(left)))
    assert applied.applied
    (change,) = applied.changes
    assert change.notices == (
        f"labels: 1 label is in use until it is given back, and not given again: {used} at SAP 'to-middle'",
    )
    (use,) = [u for u in await nodes["leaf"].node.admin.pools() if u.name == "field/to-middle"]
    assert [entry.outside for entry in use.entries] == [True]
    assert int(use.free) == int(use.size) == len(left)
    told = await problems(nodes, "leaf", own_domain("field", "LOW", uni("server", "LOW")))
    assert told == {"domain field": f"saps: label {used} of SAP 'to-middle' is in use"}
    await ann.end("web")
    (use,) = [u for u in await nodes["leaf"].node.admin.pools() if u.name == "field/to-middle"]
    assert use.entries == (), "given back"


async def test_pools_tell_what_is_used_for_whose_service(nodes: Nodes, ann: Customer) -> None:
    def taken(uses: tuple[PoolUse, ...]) -> dict[str, list[tuple[str, str, str]]]:
        return {use.name: [(e.state.short, e.account, e.ref) for e in use.entries] for use in uses if use.entries}

    await ann.order("web", chain())
    top = await nodes["top"].node.admin.pools()
    assert taken(top) == {"services": [("COMMITTED", "ann", "web")]}
    (blocks,) = [use for use in top if use.kind is PoolKind.PREFIXES]
    (block,) = blocks.entries
    assert int(blocks.size) - int(blocks.free) == ip_network(block.value).num_addresses
    assert 0 < blocks.fragmentation < 1
    leaf = await nodes["leaf"].node.admin.pools()
    segment = nodes["middle"].node.broker.orders()[0].segments
    assert all(entry[0] == "COMMITTED" for entries in taken(leaf).values() for entry in entries)
    assert {ref for entries in taken(leaf).values() for _, _, ref in entries} <= {s.ref for s in segment}
    labels = [use for use in leaf if use.kind is PoolKind.LABELS and use.entries]
    assert all(int(use.size) - int(use.free) == len(use.entries) for use in labels)
    assert labels
    await ann.end("web")


async def test_an_allocation_that_the_store_lost_is_told_and_nothing_is_mended(nodes: Nodes, ann: Customer) -> None:
    await ann.order("web", chain())
    assert (await nodes["top"].inventory()).discrepancies == ()
    assert (await nodes["leaf"].inventory()).discrepancies == ()
    (block,) = [a.value for a in (await nodes["top"].inventory()).allocations]
    await nodes["top"].node.engine.tx(lambda c: c.execute(tables.allocations.delete()).close())
    for _ in range(2):
        (found,) = (await nodes["top"].inventory()).discrepancies
        assert (found.where, found.subject) == ("prefixes/", block)
        assert found.message.endswith("which is not allocated")
    await ann.end("web")


async def test_a_supplier_keeps_its_place_while_segments_are_with_it(nodes: Nodes, ann: Customer) -> None:
    held = await ann.reserve("web", chain())
    assert isinstance(held, Reserved)
    other = supplier("another", nodes["middle"], "top")
    told = await problems(nodes, "top", other, prune=True)
    assert "'web'" in told["supplier wholesale"]
    await ann.end("web")
    await nodes["top"].administer([other, *top_documents(nodes["middle"])[1:]])
    applied = await nodes["top"].apply(other, prune=True)
    assert applied.applied
    await nodes["top"].announced("ann", "another.client", "another.lower.server")
    renamed = await ann.order("again", chain(ends=("another.client", "another.lower.server")))
    assert renamed.state is ServiceState.ACTIVE


async def test_a_domain_keeps_its_place_while_segments_are_in_it(nodes: Nodes, ann: Customer) -> None:
    await ann.order("web", chain())
    other = own_domain("elsewhere", "LOW", uni("other", "LOW"))
    told = await problems(nodes, "leaf", other, prune=True)
    assert told["domain field"].endswith("1 segments are still in it")


async def test_a_disabled_account_is_refused_at_once_with_its_live_token(
    nodes: Nodes, ann: Customer, ben: Customer
) -> None:
    await ann.order("web", chain())
    await nodes["top"].administer([person("ann", state="DISABLED")])
    assert await wrong(ann.status("web")) == ("UNAUTHENTICATED", "ACCOUNT_DISABLED")
    assert await wrong(ann.log_in()) == ("UNAUTHENTICATED", "ACCOUNT_DISABLED")
    assert (await ben.order("web", chain())).state is ServiceState.ACTIVE
    await nodes["top"].administer([person("ann", state="IN_SERVICE")])
    assert (await ann.status("web")).state is ServiceState.ACTIVE
    for customer in (ann, ben):
        await customer.end("web")
    assert await left(nodes) == []
