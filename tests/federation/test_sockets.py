"""Orders through three levels over sockets: a person with a password at the top, SQLite and TLS at every level."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.settings.anchor import ANCHOR
from capability_registry.note import NOTE, CapabilityNote
from capability_registry.signing import NoteRefused, verify
from lower_sp_clients.wire import parse_note
from service_model.outcomes import STATUS, Reserved, ServiceState, ServiceStatus
from service_model.spec_yaml import load_order
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.customer import Customer
from tests.support.nodes import Nodes, RealNode
from tests.support.topologies import (
    DEMO_FROM,
    DEMO_TO,
    FROM,
    TO,
    chain,
    customer_of,
    demo_federation,
    left,
    nothing_left,
)

PARALLEL = 20
OFFICES = Path(__file__).parents[2] / "config/demo/orders/offices.spec.yml"
NOTE_MAX_BYTES = 4 << 20


def read_under(node: RealNode, jws: str) -> CapabilityNote:
    """The note if it is signed by this node. Raises NoteRefused."""
    return parse_note(verify(jws, ANCHOR.validate_python(node.anchor).keys(), NOTE_MAX_BYTES))


async def note_of(customer: Customer) -> str:
    """The JWS of the customer's note, as it comes over the wire."""
    answer = await customer.broker.GetCapabilityNote(pb.GetCapabilityNoteRequest(), metadata=customer.metadata)
    jws: str = answer.note.jws
    return jws


def parts(status: ServiceStatus) -> set[str]:
    """The aliases of all segments at every depth."""
    found, waiting = set(), list(status.segments)
    while waiting:
        segment = waiting.pop()
        found.add(segment.alias)
        waiting += segment.segments
    return found


async def test_an_order_is_delivered_by_three_levels_and_leaves_nothing_when_it_ends(
    nodes: Nodes, ann: Customer
) -> None:
    status = await ann.order("web", chain())
    assert parts(status) == {"wholesale.1", "metro.1", "lower.1", "field.1"}
    built = {sp_id: {item.kind for item in (await node.inventory()).items} for sp_id, node in nodes.by_id.items()}
    assert built["top"] == set()
    assert built["middle"] == built["leaf"] == {"network", "function", "attachment"}
    assert [h for node in nodes.by_id.values() for h in (await node.inventory()).holds] == []
    await ann.end("web")
    assert await left(nodes) == []


async def test_a_lan_of_sites_is_delivered_by_three_levels_and_leaves_nothing_when_it_ends(
    nodes: Nodes, ann: Customer
) -> None:
    spec = load_order(OFFICES.read_text(), str(OFFICES))
    ends = (replace(end, sap=sap) for end, sap in zip(spec.ends, (FROM, TO), strict=True))
    status = await ann.order("office", replace(spec, ends=tuple(ends)))
    assert parts(status) == {"wholesale.1", "metro.1", "lower.1", "field.1"}
    built = {sp_id: {item.kind for item in (await node.inventory()).items} for sp_id, node in nodes.by_id.items()}
    assert built == {"top": set(), "middle": {"network", "attachment"}, "leaf": {"network", "attachment"}}
    await ann.end("office")
    assert await left(nodes) == []


async def test_a_hold_takes_everything_builds_nothing_and_expires_at_every_level(nodes: Nodes, ann: Customer) -> None:
    held = await ann.reserve("web", chain())
    assert isinstance(held, Reserved)
    inventories = [await node.inventory() for node in nodes.by_id.values()]
    assert [len(inventory.holds) for inventory in inventories] == [1, 1, 1]
    assert [inventory.items for inventory in inventories] == [(), (), ()]
    nodes.clock.move(held.remaining_s + 60)
    await ann.until("web", ServiceState.EXPIRED)
    await nothing_left(nodes)


async def test_notes_travel_up_signed_by_each_level_for_its_own_customer(nodes: Nodes, ann: Customer) -> None:
    jws = await note_of(ann)
    note = read_under(nodes["top"], jws)
    assert (note.sp_id, note.audience) == ("top", "ann")
    assert {FROM, TO} <= {sap.id for sap in note.saps}
    assert {f.type.name for f in note.functions} == {"firewall", "meter"}
    with pytest.raises(NoteRefused):
        read_under(nodes["middle"], jws)
    feed = nodes["top"].node.feeds.states()["wholesale"]
    assert feed.held is not None


async def test_two_customers_do_not_see_each_others_services(nodes: Nodes, ann: Customer, ben: Customer) -> None:
    seen = ben.watch()
    assert (await anext(seen)).status is None
    mine = await ann.order("web", chain())
    theirs = await ben.order("web", chain())  # the same ref at another account is another service
    assert (await ann.refs(), await ben.refs()) == ({"web"}, {"web"})
    assert mine.choice != theirs.choice
    async with asyncio.timeout(60):
        told = [await anext(seen) for _ in range(3)]
    assert all(event.status is not None and event.status.choice in (None, theirs.choice) for event in told)
    await ben.end("web")
    assert (await ann.status("web")).state is ServiceState.ACTIVE
    await seen.aclose()  # type: ignore[attr-defined]


async def test_orders_in_parallel_all_succeed_with_prefixes_and_labels_of_their_own(
    nodes: Nodes, ann: Customer
) -> None:
    refs = [f"web-{number}" for number in range(PARALLEL)]
    services = await asyncio.gather(*(ann.order(ref, chain()) for ref in refs))
    assert [s.state for s in services] == [ServiceState.ACTIVE] * PARALLEL
    choices = [s.choice for s in services if s.choice is not None]
    for end in ("client", "server"):
        assert len({choice.labels[end] for choice in choices}) == PARALLEL
    prefixes = [link.prefix for choice in choices for link in choice.links if link.prefix is not None]
    assert len(prefixes) == 3 * PARALLEL
    assert not [(a, b) for a, b in itertools.combinations(prefixes, 2) if a.overlaps(b)]
    inner = [a.value for a in (await nodes["leaf"].inventory()).allocations if "to-middle" in a.pool]
    assert len(set(inner)) == len(inner) == PARALLEL
    await asyncio.gather(*(ann.end(ref) for ref in refs))
    assert await left(nodes) == []


# the demo's four operators ------------------------------------------------------------------------------------------


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Nodes]:
    nodes = Nodes(tmp_path)
    try:
        yield await demo_federation(nodes)
    finally:
        await nodes.close()


async def test_whom_the_suppliers_buy_from_is_known_to_nobody_above_them(demo: Nodes) -> None:
    alice = await customer_of(demo["aurora"], "alice")
    spec = chain(ends=(DEMO_FROM, DEMO_TO), functions=("firewall", "meter", "shaper"))
    events = alice.watch()
    told = [await anext(events)]
    active = await alice.order("web", spec)
    assert "ghent.1" in str(active)  # the part that abyss delivers is there, under its operator's word for the place
    await alice.terminate("web")
    async with asyncio.timeout(60):
        while told[-1].status is None or told[-1].status.state is not ServiceState.TERMINATED:
            told.append(await anext(events))
    await events.aclose()  # type: ignore[attr-defined]
    note = read_under(demo["aurora"], await note_of(alice))
    said = [NOTE.dump_json(note), *(STATUS.dump_json(e.status) for e in told if e.status is not None)]
    assert len(said) > 5
    assert [text for text in said if b"abyss" in text.lower()] == []
    await alice.close()
    demo.clock.move(60)  # what was live has rested
    await nothing_left(demo)
    stored = demo["aurora"].stored().lower()
    assert b"ghent.1" in stored
    assert b"abyss" not in stored
    assert b"abyss" in demo["notos"].stored().lower()  # who buys from it knows it: what is looked for can be found
