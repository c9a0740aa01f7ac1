"""A live service becomes another, three levels deep: what changes is asked for, what does not stays untouched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from sqlalchemy import select

from address_planner.labels import LabelSet
from broker.orders.records import ChargeKind, Order, Segment
from broker.storage import tables
from lower_sp_clients.vim.accounting import TAKES
from service_model.healing import HealPolicy
from service_model.outcomes import Committed, ReasonCode, Refused, Reserved, ServiceState
from service_model.spec import Blocks, LinkAddressing, ServiceSpec
from tests.support.faults import lost_after, lost_before, refuses
from tests.support.ledger import table_and_journal
from tests.support.orders import CONFIRM, CTX, active
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import Stack

UNI = LabelSet(((1, 99),))
C = Sp("c", (Site("s3", ("shaper", "meter"), uni=UNI),))
D = Sp("d", (Site("s4", ("shaper", "meter"), uni=UNI, cost=3),))
B = Sp("b", (Site("s2", ("meter", "firewall")), Either((C, D))))
TOP = Sp("a", (Site("s1", ("firewall", "meter"), uni=UNI), B), (POOL,))
"""a sells on b, which has one site and buys of c, or of d, which is dearer."""
SPEC = chain("s1.uni", "b.c.s3.uni", "firewall", "meter", "shaper", lan=True)
FASTER = replace(SPEC, bandwidth_bps=10**7)
LINES = (("a", "s1"), ("a", "b"), ("b", "s2"), ("b", "c"), ("c", "s3"), ("b", "d"), ("d", "s4"))


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(TOP, tmp_path) as made:
        yield made


def calls(stack: Stack, method: str) -> dict[tuple[str, str], int]:
    return {line: n for line in LINES if (n := stack.line(*line).count(method))}


def order(stack: Stack, name: str = "a") -> Order:
    (found,) = stack.broker(name).orders()
    return found


def segments(stack: Stack, name: str = "a") -> list[Segment]:
    return [s for s in order(stack, name).segments if s.wanted]


def moved_end(spec: ServiceSpec) -> ServiceSpec:
    """The far end is at d's site, and with it the last function."""
    functions = tuple(replace(f, places=("S4",)) if f.id == "f2" else f for f in spec.functions)
    return replace(spec, ends=(spec.ends[0], replace(spec.ends[1], sap="b.d.s4.uni")), functions=functions)


def at(stack: Stack, name: str = "a") -> dict[str, list[str]]:
    """Its functions, by supplier."""
    return {s.alias: [f.id for f in s.spec.functions] for s in segments(stack, name)}


async def inventories(stack: Stack) -> dict[str, object]:
    """All that is built and allocated anywhere."""
    built: dict[str, object] = {v.domain.name: await v.inventory() for v in stack.vims()}
    for name, node in stack.nodes.items():
        table, journal = await table_and_journal(node.engine)
        assert table == journal
        built[f"ledger of {name}"] = table
    for vim in stack.vims():
        built[f"blueprints of {vim.domain.name}"] = {
            h.ref: (h.state, h.version, h.spec, h.choice, h.bindings) for h in vim.holds() if h.state in TAKES
        }
    return built


async def held(stack: Stack, spec: ServiceSpec, version: int = 2) -> Reserved:
    answer = await stack.customer().reserve("r", version, spec, CTX)
    assert isinstance(answer, Reserved), answer
    return answer


async def modified(stack: Stack, spec: ServiceSpec, version: int = 2) -> Reserved:
    answer = await held(stack, spec, version)
    assert await stack.customer().commit("r", version, CONFIRM, CTX) == Committed(ref="r", version=version)
    await settled(stack, version)
    return answer


async def settled(stack: Stack, version: int = 2) -> None:
    """Until that version is active, and what was there before is gone everywhere."""

    def done() -> bool:
        status = stack.broker("a").status("alice", "r")
        orders = [
            o for node in stack.nodes.values() for o in node.broker.orders() if o.state is not ServiceState.TERMINATED
        ]
        quiet = all(o.past is None and o.beside is None for o in orders)
        return (status.version, status.state) == (version, ServiceState.ACTIVE) and quiet

    await stack.until(done, step=0.1)


async def ends(stack: Stack) -> None:
    ending = asyncio.create_task(stack.customer().terminate("r", CTX))
    await stack.until(ending.done, step=0.2)  # what is being asked is waited for a while
    await stack.ends_empty()
    assert stack.state() is ServiceState.TERMINATED


async def test_bandwidth_up_and_down_stays_where_it_is_with_the_same_labels_and_addresses(stack: Stack) -> None:
    first = await active(stack, SPEC)
    before = await inventories(stack)
    second = await modified(stack, FASTER)
    assert second.choice == first.choice
    assert {h.spec.bandwidth_bps for v in stack.vims() for h in v.holds() if h.spec} == {10**7}
    third = await modified(stack, SPEC, 3)
    assert third.choice == first.choice
    after = await inventories(stack)
    assert {k: v for k, v in after.items() if "blueprints" not in k} == {
        k: v for k, v in before.items() if "blueprints" not in k
    }
    await ends(stack)


def inserted() -> ServiceSpec:
    """One more function between the second and the last, at the last one's place."""
    extra = replace(SPEC.functions[1], id="f3", places=("S3",))
    links = tuple(replace(x, points=("f1:out", "f3:in")) if x.id == "l2" else x for x in SPEC.links)
    more = replace(SPEC.links[0], id="l4", points=("f3:out", "f2:in"))
    (path,) = SPEC.paths
    hops = (*path.hops[:5], "f3:in", "f3:out", *path.hops[5:])
    return replace(SPEC, functions=(*SPEC.functions, extra), links=(*links, more), paths=(replace(path, hops=hops),))


async def test_what_is_not_changed_is_not_called(stack: Stack) -> None:
    """A function is added before the last: of a's parts b's is changed, and of b's only what c has."""
    await active(stack, SPEC)
    asked = calls(stack, "reserve")
    await modified(stack, inserted())
    more = {line: n - asked.get(line, 0) for line, n in calls(stack, "reserve").items() if n > asked.get(line, 0)}
    assert more == {("a", "b"): 1, ("b", "c"): 1, ("c", "s3"): 1}
    assert calls(stack, "terminate") == {}
    await ends(stack)


async def test_a_function_is_added_and_removed_again(stack: Stack) -> None:
    first = await active(stack, SPEC)
    longer = chain("s1.uni", "b.c.s3.uni", "firewall", "meter", "meter", "shaper", lan=True)
    await modified(stack, longer)
    built = [item.name for v in stack.vims() for item in await v.inventory() if item.kind == "function"]
    assert sorted(built) == ["f0", "f1", "f2", "f3"]
    third = await modified(stack, SPEC, 3)
    built = [item.name for v in stack.vims() for item in await v.inventory() if item.kind == "function"]
    assert sorted(built) == ["f0", "f1", "f2"]
    assert third.choice.labels == first.choice.labels
    await ends(stack)


async def test_a_function_is_moved_to_another_place(stack: Stack) -> None:
    await active(stack, SPEC)
    assert at(stack) == {"s1": ["f0", "f1"], "b": ["f2"]}
    functions = tuple(replace(f, places=("S2",)) if f.id == "f1" else f for f in SPEC.functions)
    await modified(stack, replace(SPEC, functions=functions))
    assert at(stack) == {"s1": ["f0"], "b": ["f1", "f2"]}
    assert at(stack, "b") == {"s2": ["f1"], "c": ["f2"]}
    extra = replace(inserted(), bandwidth_bps=10**7)
    await modified(stack, extra, 3)
    assert at(stack, "b") == {"s2": ["f1"], "c": ["f3", "f2"]}, "what may be anywhere stays where it is"
    await ends(stack)


async def test_an_end_is_moved_to_another_provider_and_what_was_bought_before_is_ended_after(stack: Stack) -> None:
    await active(stack, SPEC)
    elsewhere = moved_end(SPEC)
    answer = await stack.customer().reserve("r", 2, elsewhere, CTX)
    assert isinstance(answer, Reserved), answer
    assert calls(stack, "terminate") == {}
    assert [s.alias for s in segments(stack, "b")] == ["s2", "c"]
    assert await stack.customer().commit("r", 2, CONFIRM, CTX) == Committed(ref="r", version=2)
    await settled(stack)
    assert [s.alias for s in segments(stack, "b")] == ["s2", "d"]
    assert calls(stack, "terminate") == {("b", "c"): 1, ("c", "s3"): 1}
    assert await stack.vim("s3").inventory() == ()
    back = await modified(stack, SPEC, 3)
    assert back.choice.labels.keys() == {"a", "b"}
    assert [s.alias for s in segments(stack, "b")] == ["s2", "c"]
    await ends(stack)


async def test_addresses_are_changed(stack: Stack) -> None:
    await active(stack, SPEC)
    given = ip_network("172.16.5.0/31")
    links = tuple(replace(x, addressing=LinkAddressing(prefix=given)) if x.id == "l1" else x for x in SPEC.links)
    answer = await modified(stack, replace(SPEC, links=links))
    link = answer.choice.link("l1")
    assert link is not None
    assert link.prefix == given
    other = replace(SPEC, blocks=Blocks(allowed=(ip_network("10.99.0.0/24"),)))
    answer = await modified(stack, other, 3)
    prefixes = [p for link in answer.choice.links for p in link.prefixes]
    assert all(p.subnet_of(ip_network("10.99.0.0/24")) for p in prefixes)  # type: ignore[arg-type]
    await ends(stack)


REFUSALS = {
    "at the top's own domain": (("a", "s1"), ReasonCode.CAPACITY),
    "at the middle's own domain": (("b", "s2"), ReasonCode.CAPACITY),
    "at the bottom": (("c", "s3"), ReasonCode.CAPACITY),
}


@pytest.mark.parametrize("where", REFUSALS)
async def test_a_refusal_at_any_depth_leaves_everything_untouched_everywhere(stack: Stack, where: str) -> None:
    line, reason = REFUSALS[where]
    await active(stack, SPEC)
    before = await inventories(stack)
    stack.line(*line).always["reserve"] = refuses(reason)
    refused = await stack.customer().reserve("r", 2, FASTER, CTX)
    assert isinstance(refused, Refused)
    await nothing_more(stack)
    assert await inventories(stack) == before
    assert stack.state() is ServiceState.ACTIVE
    assert await stack.customer().reserve("r", 2, FASTER, CTX) == refused
    stack.line(*line).always.pop("reserve")
    await modified(stack, FASTER, 3)
    await ends(stack)


async def nothing_more(stack: Stack) -> None:
    """Until nobody does anything more about a newer version."""
    await stack.until(
        lambda: all(
            o.beside is None or not any(s.version > s.stands and s.state.short in _OPEN for s in o.beside.segments)
            for node in stack.nodes.values()
            for o in node.broker.orders()
        ),
        step=0.1,
    )
    for _ in range(5):
        await stack.turn()


_OPEN = {"RESERVING", "HELD", "RELEASING", "COMMITTING", "TERMINATING", "LEAVING"}


@pytest.mark.parametrize("how", ["released", "expired"])
async def test_what_is_not_committed_leaves_everything_untouched_everywhere(stack: Stack, how: str) -> None:
    await active(stack, SPEC)
    before = await inventories(stack)
    elsewhere = moved_end(FASTER)
    await held(stack, elsewhere)
    assert await inventories(stack) != before
    if how == "released":
        await stack.customer().release("r", 2, CTX)
    else:
        await stack.pass_time(330)
    await nothing_more(stack)
    assert await inventories(stack) == before
    assert stack.state() is ServiceState.ACTIVE
    await modified(stack, elsewhere, 3)
    await ends(stack)


@pytest.mark.parametrize("stage", ["reserving", "held", "committing", "active"])
async def test_terminate_during_a_modification_ends_everything(stack: Stack, stage: str) -> None:
    await active(stack, SPEC)
    elsewhere = moved_end(FASTER)
    if stage == "reserving":
        stack.line("b", "d").always["reserve"] = lost_after()
        asking = asyncio.create_task(stack.customer().reserve("r", 2, elsewhere, CTX))
        for _ in range(20):
            await stack.turn()
        assert not asking.done()
    else:
        await held(stack, elsewhere)
    if stage == "committing":
        stack.line("a", "b").always["commit"] = lost_before()
        with pytest.raises(Exception, match="deadline"):
            await stack.customer().commit("r", 2, CONFIRM, replace(CTX, deadline=stack.clock.now()))
    if stage == "active":
        assert await stack.customer().commit("r", 2, CONFIRM, CTX) == Committed(ref="r", version=2)
    await ends(stack)
    if stage == "reserving":
        assert isinstance(await asking, Refused)


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
@pytest.mark.parametrize("stage", ["held", "committed"])
async def test_a_restart_in_the_middle_goes_on_where_it_was(stack: Stack, name: str, stage: str) -> None:
    await active(stack, SPEC)
    elsewhere = moved_end(FASTER)
    await held(stack, elsewhere)
    if stage == "held":
        await stack.restart(name)
        stack.announce_all()
    committing = asyncio.create_task(stack.customer().commit("r", 2, CONFIRM, CTX))
    await stack.until(committing.done, step=0.1)  # who is back is followed again after a moment
    assert committing.result() == Committed(ref="r", version=2)
    if stage == "committed":
        await stack.restart(name)
        stack.announce_all()
    await settled(stack)
    assert await stack.vim("s3").inventory() == ()
    await ends(stack)


async def test_a_new_part_that_cannot_be_built_takes_the_modification_back(stack: Stack) -> None:
    await active(stack, SPEC)
    before = await inventories(stack)
    elsewhere = moved_end(SPEC)
    await held(stack, elsewhere)
    stack.line("d", "s4").always["commit"] = refuses(ReasonCode.HOLD_EXPIRED)
    answer = await stack.customer().commit("r", 2, CONFIRM, CTX)
    assert isinstance(answer, Refused)
    assert answer.reasons[0].code is ReasonCode.SEGMENT_FAILED
    await nothing_more(stack)
    assert await inventories(stack) == before
    assert stack.state() is ServiceState.ACTIVE
    assert await stack.customer().commit("r", 2, CONFIRM, CTX) == answer
    stack.line("d", "s4").always.pop("commit")
    await modified(stack, elsewhere, 3)
    await ends(stack)


async def test_a_changed_part_that_fails_after_the_decision_is_told_and_can_be_modified_again(stack: Stack) -> None:
    await active(stack, SPEC)
    await held(stack, replace(FASTER, healing=HealPolicy.NONE))
    stack.line("b", "c").next("commit", refuses(ReasonCode.HOLD_EXPIRED))
    assert await stack.customer().commit("r", 2, CONFIRM, CTX) == Committed(ref="r", version=2)
    await stack.until(lambda: stack.state() is ServiceState.DEGRADED, step=0.1)
    status = stack.broker("a").status("alice", "r")
    assert status.version == 2
    assert [reason.code for reason in status.reasons] == [ReasonCode.SEGMENT_FAILED]
    await modified(stack, SPEC, 3)
    await ends(stack)


async def charged(stack: Stack) -> list[tuple[str, str, str, str]]:
    c = tables.charges.c
    query = select(c.side, c.segment, c.kind, c.per_hour).order_by(c.seq)
    rows = await stack.nodes["a"].engine.read(lambda connection: connection.execute(query).all())
    return [tuple(row) for row in rows]


async def test_the_new_price_counts_from_commit_and_the_old_one_ends(stack: Stack) -> None:
    first = await active(stack, SPEC)
    begun = await charged(stack)
    assert len(begun) == 3
    shorter = chain("s1.uni", "b.c.s3.uni", "firewall", "meter")
    second = await modified(stack, shorter)
    assert second.price.per_hour < first.price.per_hour
    more = (await charged(stack))[len(begun) :]
    sold = [(kind, hour) for side, _, kind, hour in more if side == "SELL"]
    assert sold == [("STOP", str(first.price.per_hour)), ("START", str(second.price.per_hour))]
    assert {segment for side, segment, _, _ in more if side == "BUY"} == {"b.1"}
    await ends(stack)
    every = await charged(stack)
    assert sum(kind == "START" for _, _, kind, _ in every) == sum(kind == "STOP" for _, _, kind, _ in every)
    assert ChargeKind.ONCE.short not in {kind for _, _, kind, _ in every}


async def test_modifications_follow_one_another(stack: Stack) -> None:
    """There and back several times: no ref is used again where it has ended."""
    await active(stack, SPEC)
    elsewhere = moved_end(SPEC)
    for version in range(2, 8):
        await modified(stack, elsewhere if version % 2 == 0 else SPEC, version)
    await ends(stack)


async def test_a_second_modification_while_one_is_brought_in_is_asked_to_come_again(stack: Stack) -> None:
    await active(stack, SPEC)
    await held(stack, FASTER)
    stack.line("a", "b").always["commit"] = lost_before()
    with pytest.raises(Exception, match="deadline"):
        await stack.customer().commit("r", 2, CONFIRM, replace(CTX, deadline=stack.clock.now()))
    answer = await stack.customer().reserve("r", 3, SPEC, CTX)
    assert isinstance(answer, Refused)
    assert answer.reasons[0].code is ReasonCode.MODIFICATION_NOT_OFFERED
    assert answer.reasons[0].retryable
    stack.line("a", "b").always.pop("commit")
    await settled(stack)
    await modified(stack, SPEC, 3)
    await ends(stack)
