"""A broker whose store was restored from a backup: what it does not know any more stays as it is, is told, and meets nobody."""

from __future__ import annotations

import random
import uuid
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
import sqlalchemy as sa

from address_planner.conflicts import conflicting
from address_planner.labels import LabelSet
from broker.accounts.admin_port import CannotAccept, Discrepancy
from broker.orders.pools import PREFIXES
from broker.storage import tables
from broker.storage.allocations import all_allocations
from broker.storage.backup import back_up, restore
from lower_sp_clients.supplier import OutcomeUnknown, ReadOnly, ServiceNotFound
from service_model.outcomes import Committed, Reserved, ServiceState
from tests.support.orders import CONFIRM, CTX, active, reserved
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

UNI = LabelSet(((1, 999),))
TOP = Sp("a", (Site("s1", ("firewall",), uni=UNI), Sp("b", (Site("s2", ("meter",), uni=UNI),))), (POOL,))
ORDER = chain("s1.uni", "b.s2.uni", "firewall", "meter")
REASON = "a test"


async def saved(stack: Stack, name: str, file: Path) -> None:
    back_up(stack.nodes[name].path, file)


async def put_back(stack: Stack, name: str, file: Path) -> None:
    """Stop the broker, restore its store, start it again."""
    await stack.stop(name)
    restore(stack.nodes[name].path, file, at=stack.clock.now(), epoch=uuid.uuid4(), actor="os:test", reason=REASON)
    await stack.start(name)
    stack.announce_all()


async def accepted(stack: Stack, name: str, *without: str) -> tuple[Discrepancy, ...]:
    found, _ = await stack.nodes[name].restored.accept(without, REASON, "oscar")
    return found


async def ended(stack: Stack, ref: str) -> None:
    await stack.customer().terminate(ref, CTX)
    await stack.until(lambda: stack.state(ref) is ServiceState.TERMINATED, step=0.5)


def told(found: tuple[Discrepancy, ...]) -> set[str]:
    return {f"{d.where}: {d.message}" for d in found}


async def there(stack: Stack) -> dict[str, list[tuple[str, str]]]:
    """What everybody but the top has of anything, and what is built."""
    out = {
        n: sorted((o.ref, o.state.short) for o in node.broker.orders()) for n, node in stack.nodes.items() if n != "a"
    }
    for vim in stack.vims():
        out[vim.domain.name] = sorted((h.ref, h.state.short) for h in vim.holds() if vim.domain.name != "s1")
        out[f"{vim.domain.name} built"] = [(i.segment, i.name) for i in await vim.inventory()]
    return out


@pytest.fixture
async def restored(tmp_path: Path) -> Stack:  # type: ignore[misc]
    """`kept` is live in the backup and since. After it `over` was ended, `held` committed, `new` ordered."""
    async with Stack(TOP, tmp_path) as stack:
        await active(stack, ORDER, "kept")
        await active(stack, ORDER, "over")
        await reserved(stack, ORDER, "held")
        await saved(stack, "a", tmp_path / "backup")
        await ended(stack, "over")
        assert await stack.customer().commit("held", 1, CONFIRM, CTX) == Committed(ref="held", version=1)
        await active(stack, ORDER, "new")
        await stack.until(lambda: stack.state("held") is ServiceState.ACTIVE)
        await put_back(stack, "a", tmp_path / "backup")
        yield stack


async def test_until_it_is_accepted_it_answers_what_it_knows_and_changes_nothing(restored: Stack) -> None:
    ann, before = restored.customer(), await there(restored)
    for call in (
        ann.reserve("more", 1, ORDER, CTX),
        ann.reserve("held", 1, ORDER, CTX),
        ann.commit("held", 1, CONFIRM, CTX),
        ann.extend("held", 1, 60, CTX),
        ann.release("held", 1, CTX),
        ann.terminate("kept", CTX),
        ann.quote(ORDER, CTX),
    ):
        with pytest.raises(
            ReadOnly, match="restored from a backup: it changes nothing until its operator has accepted"
        ):
            await call
    await restored.pass_time(1200)
    assert restored.state("kept") is restored.state("over") is ServiceState.ACTIVE
    assert restored.state("held") is ServiceState.RESERVED
    assert {s.ref async for s in ann.services(CTX)} == {"kept", "over", "held"}
    with pytest.raises(ServiceNotFound):
        await ann.status("new", CTX)
    assert await there(restored) == before, "what is live stays live, and nothing is retried or ended"


async def test_what_differs_is_told_of_every_supplier_and_domain(restored: Stack) -> None:
    found = told(await restored.nodes["a"].restored.discrepancies())
    assert found == {
        "b: is ACTIVE there, and unknown here: ordered after the backup",
        "b: is TERMINATED there; segment b.1 of alice's service 'over' is ACTIVE here",
        "b: is ACTIVE there; segment b.1 of alice's service 'held' is HELD here",
        "s1: is ACTIVE here, and nothing of it is built",
    }
    unknown = restored.vim("s1").discrepancies(await restored.vim("s1").inventory())
    assert len({message.rsplit(" ", 1)[1] for message in unknown}) == 2, "of `new`, and of `held`"


async def test_once_accepted_orders_go_on_and_what_is_unknown_stays_and_meets_nobody(restored: Stack) -> None:
    node, before = restored.nodes["a"], await there(restored)
    theirs = {s.ref: s async for s in restored.customer("a", "b").services(CTX)}
    found = await accepted(restored, "a")
    assert found == await node.restored.discrepancies()
    await restored.pass_time(1200)
    now = await there(restored)
    assert set(before["s2 built"]) <= set(now["s2 built"])
    assert set(before["s1 built"]) <= set(now["s1 built"])
    mine = {segment.ref for order in node.broker.orders() for segment in order.segments}
    foreign = [s for ref, s in theirs.items() if ref not in mine and s.state is ServiceState.ACTIVE]
    assert len(foreign) == 1
    choices = [s.choice for s in theirs.values() if s.state is ServiceState.ACTIVE and s.choice is not None]
    used = [link.prefix for choice in choices for link in choice.links if link.prefix is not None]
    for number in range(5):
        await active(restored, ORDER, f"more-{number}")
    fresh = [o for o in node.broker.orders() if o.ref.startswith("more-")]
    assert not conflicting([b for o in fresh for b in o.present_blocks], used), "no block that anybody still uses"
    assert {s.ref for o in fresh for s in o.segments}.isdisjoint(theirs), "no ref of the time that is lost"
    assert restored.state("held") is ServiceState.EXPIRED
    await active(restored, ORDER, "new")
    await ended(restored, "kept")
    still = told(await node.restored.discrepancies())
    assert "b: is ACTIVE there, and unknown here: ordered after the backup" in still


@pytest.mark.parametrize("ref", ["new", "held"])
async def test_what_may_be_live_unknown_is_not_confirmed_to_be_gone(ref: str, restored: Stack) -> None:
    """Whoever hears that it is gone gives its addresses to others."""
    await accepted(restored, "a")
    await restored.pass_time(1200)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown, match="not confirmed to be gone"):
            await restored.customer().terminate(ref, CTX)
        await restored.restart("a")
    below = restored.customer("a", "b")
    known = {s.ref for o in restored.nodes["a"].broker.orders() if o.was_live for s in o.segments}
    async for status in below.services(CTX):
        if status.ref not in known:
            await below.terminate(status.ref, CTX)
    vim = restored.vim("s1")
    kept = {h.ref for h in vim.holds() if h.state is ServiceState.ACTIVE}
    for item in await vim.inventory():
        if item.segment not in kept:
            await vim.driver.remove(item.segment)  # by hand
    await restored.pass_time(60)
    await accepted(restored, "a")
    await restored.customer().terminate(ref, CTX)


async def test_who_accepted_it_and_why_is_recorded(restored: Stack) -> None:
    await accepted(restored, "a")

    def work(connection: sa.Connection) -> list[tuple[str, str, str]]:
        a = tables.audit.c
        query = sa.select(a.actor, a.action, a.reason).where(a.subject == "store")
        return [(r.actor, r.action, r.reason) for r in connection.execute(query)]

    rows = await restored.nodes["a"].plain.read(work)
    assert rows == [("os:test", "restore", REASON), ("oscar", "accept", REASON)]
    await restored.restart("a")
    assert restored.nodes["a"].restored.read_only == ""
    await active(restored, ORDER, "more")


async def test_a_supplier_that_cannot_be_asked_is_named_and_left_out_only_by_name(restored: Stack) -> None:
    await restored.stop("b")
    with pytest.raises(CannotAccept, match="supplier 'b' cannot be asked what it has: nobody answers"):
        await accepted(restored, "a")
    assert restored.nodes["a"].restored.read_only
    with pytest.raises(CannotAccept, match="there is no supplier 'c'"):
        await accepted(restored, "a", "c")
    assert "b: cannot be asked: nobody answers" in told(await accepted(restored, "a", "b"))
    assert not restored.nodes["a"].restored.read_only
    kept = [a for a in await all_allocations(restored.nodes["a"].plain) if a.owner.startswith("~b/")]
    assert kept == []
    await restored.start("b")
    restored.announce_all()
    await accepted(restored, "a")
    kept = [a for a in await all_allocations(restored.nodes["a"].plain) if a.owner.startswith("~b/")]
    assert kept, "its word counts when it is back"


async def test_what_was_unknown_and_has_ended_is_kept_off_no_longer(restored: Stack) -> None:
    await accepted(restored, "a")
    node = restored.nodes["a"]
    kept = {a.owner for a in node.broker.allocations() if a.owner.startswith("~b/")}
    assert kept
    below = restored.customer("a", "b")
    for owner in kept:
        await below.terminate(owner.removeprefix("~b/"), CTX)  # by agreement with that provider
    await restored.pass_time(60)
    await accepted(restored, "a")
    assert not [a for a in await all_allocations(node.plain) if a.owner.startswith("~b/")]
    assert not [a for a in node.broker.allocations() if a.owner.startswith("~b/")]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happened_since_the_backup_no_block_or_label_has_two_users(seed: int, tmp_path: Path) -> None:
    """Of any broker of the tree; several times over."""
    rng = random.Random(seed)
    async with Stack(TOP, tmp_path, draw=str(seed)) as stack:
        live: set[str] = set()

        async def some_orders(count: int) -> None:
            for _ in range(count):
                ref = f"r-{rng.randrange(10**6)}"
                if isinstance(await stack.customer().reserve(ref, 1, ORDER, CTX), Reserved) and rng.random() < 0.8:
                    await stack.customer().commit(ref, 1, CONFIRM, CTX)
                    live.add(ref)
                if live and rng.random() < 0.3:
                    gone = rng.choice(sorted(live))
                    live.discard(gone)
                    with suppress(OutcomeUnknown):  # it is not known any more, and not confirmed to be gone
                        await stack.customer().terminate(gone, CTX)
                await stack.turn()

        for round in range(3):
            await some_orders(rng.randint(2, 5))
            name, file = rng.choice("ab"), tmp_path / f"backup-{round}"
            await saved(stack, name, file)
            await some_orders(rng.randint(2, 5))
            await stack.pass_time(10)
            await put_back(stack, name, file)
            await accepted(stack, name)
            await stack.pass_time(400)
            await some_orders(3)
            await stack.pass_time(30)
            uses_are_apart(stack)


def uses_are_apart(stack: Stack) -> None:
    """What is built: the labels and prefixes of different segments."""
    for vim in stack.vims():
        built = vim.driver._domain.built  # type: ignore[attr-defined]
        labels = [(a.sap, a.label) for blueprint in built.values() for a in blueprint.attachments]
        assert len(labels) == len(set(labels)), vim.domain.name
        addresses = [a.ip for b in built.values() for f in b.functions for p in f.ports for a in p.interfaces]
        assert len(addresses) == len(set(addresses)), vim.domain.name
    for node in stack.nodes.values():
        blocks = [ip_network(a.value) for a in node.broker.allocations() if a.pool.startswith(PREFIXES)]
        assert all(not conflicting([b], blocks[:i]) for i, b in enumerate(blocks))
