"""A newer version of what is live: one contract for every supplier (`lower_sp_clients.versions`)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lower_sp_clients.vim.accounting import TAKES
from lower_sp_clients.vim.domain import Usage
from service_model.outcomes import (
    AddressingChoice,
    Bindings,
    Committed,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
)
from service_model.spec import ServiceSpec
from tests.contract.test_suppliers import CTX, Bench, bench, code

__all__ = ["bench"]


def wider(spec: ServiceSpec) -> ServiceSpec:
    """Over half of what the SAP has, so that both versions side by side would be too much."""
    return replace(spec, bandwidth_bps=3 * 10**8)


async def live(bench: Bench) -> AddressingChoice:
    choice = await bench.commit()
    await bench.becomes(ServiceState.ACTIVE)
    return choice


async def newer(bench: Bench, version: int = 2, spec: ServiceSpec | None = None) -> Reserved:
    answer = await bench.reserve("r", version, spec or wider(bench.spec))
    assert isinstance(answer, Reserved), answer
    return answer


async def seen(bench: Bench) -> ServiceStatus:
    return await bench.supplier.status("r", CTX)


def usage(bench: Bench) -> Usage:
    return bench.stack.vim("s1")._ledger.usage()


def taken(bench: Bench) -> tuple[object, ...]:
    """What the one domain has given away, without what is nothing."""
    used = usage(bench)
    units = {host: n for host, n in used.units.items() if n}
    ways = {way: n for way, n in used.bandwidth.items() if n}
    labels = {sap: dict(sorted(owners.items())) for sap, owners in used.labels.items() if owners}
    return ways, units, labels, {sap: set(held) for sap, held in used.held_labels.items() if held}


async def has_version(bench: Bench, version: int) -> None:
    """Until it is that version that is active."""
    for _ in range(400):
        status = await seen(bench)
        if (status.version, status.state) == (version, ServiceState.ACTIVE):
            return
        await bench.stack.turn()
        bench.stack.clock.advance(0.1)
    raise AssertionError(f"version {version} does not become active: {status} {bench.stack.states()}")


async def test_a_newer_version_stands_beside_the_live_one_and_keeps_its_labels_and_addresses(bench: Bench) -> None:
    choice = await live(bench)
    held = await newer(bench)
    assert held.choice.labels == choice.labels
    assert held.choice.links == choice.links
    status = await seen(bench)
    assert (status.version, status.state, status.choice) == (1, ServiceState.ACTIVE, choice)
    assert status.newer is not None
    assert (status.newer.version, status.newer.state) == (2, ServiceState.RESERVED)
    assert status.newer.remaining_s > 0


async def test_a_committed_modification_takes_the_live_ones_place(bench: Bench) -> None:
    await live(bench)
    before = taken(bench)
    held = await newer(bench)
    assert await bench.supplier.commit("r", 2, held.choice, CTX) == Committed(ref="r", version=2)
    await has_version(bench, 2)
    assert (await seen(bench)).newer is None
    ways = taken(bench)[0]
    assert isinstance(ways, dict)
    assert all(bps >= 3 * 10**8 for bps in ways.values())
    back = await newer(bench, 3, bench.spec)
    assert await bench.supplier.commit("r", 3, back.choice, CTX) == Committed(ref="r", version=3)
    await has_version(bench, 3)
    assert taken(bench) == before


async def test_what_both_versions_need_counts_once(bench: Bench) -> None:
    """1 Gbit/s at the SAP, passed twice: two versions of 0.3 Gbit/s side by side would be 1.2."""
    held = await bench.reserve("r", 1, wider(bench.spec))
    assert isinstance(held, Reserved)
    assert await bench.supplier.commit("r", 1, held.choice, CTX) == Committed(ref="r", version=1)
    await bench.becomes(ServiceState.ACTIVE)
    await newer(bench, 2, replace(bench.spec, bandwidth_bps=4 * 10**8))


async def test_a_refused_modification_leaves_the_live_version_as_it_was(bench: Bench) -> None:
    choice = await live(bench)
    before, was = taken(bench), bench.stack.vim("s1").holds()
    refused = await bench.reserve("r", 2, bench.impossible())
    assert isinstance(refused, Refused)
    assert await bench.reserve("r", 2, bench.impossible()) == refused
    assert code(await bench.reserve("r", 2, wider(bench.spec))) is ReasonCode.KEY_REUSED
    assert taken(bench) == before
    now = bench.stack.vim("s1").holds()
    assert [replace(hold, refusals={}) for hold in now] == [replace(hold, refusals={}) for hold in was]
    status = await seen(bench)
    assert (status.version, status.state, status.choice) == (1, ServiceState.ACTIVE, choice)
    await newer(bench, 3)


@pytest.mark.parametrize("how", ["released", "expired"])
async def test_a_modification_that_is_not_committed_leaves_the_live_version_as_it_was(bench: Bench, how: str) -> None:
    choice = await live(bench)
    before = taken(bench)
    await newer(bench)
    assert taken(bench) != before
    if how == "released":
        await bench.supplier.release("r", 2, CTX)
        await bench.supplier.release("r", 2, CTX)
        assert code(await bench.reserve("r", 2, wider(bench.spec))) is ReasonCode.VERSION_RELEASED
    else:
        await bench.stack.pass_time(400)
    late = await bench.supplier.commit("r", 2, choice, CTX)
    assert code(late) is ReasonCode.HOLD_EXPIRED
    for _ in range(10):
        await bench.stack.turn()
    assert taken(bench) == before
    status = await seen(bench)
    assert (status.version, status.state, status.choice) == (1, ServiceState.ACTIVE, choice)
    held = await newer(bench, 3)
    assert await bench.supplier.commit("r", 3, held.choice, CTX) == Committed(ref="r", version=3)
    await has_version(bench, 3)


async def test_a_release_that_overtakes_a_modification_leaves_a_tombstone_and_what_is_live(bench: Bench) -> None:
    await live(bench)
    await bench.supplier.release("r", 2, CTX)
    assert code(await bench.reserve("r", 2, wider(bench.spec))) is ReasonCode.VERSION_RELEASED
    assert await bench.reserve("r", 1) == await bench.reserve("r", 1)
    await newer(bench, 3)


async def test_a_still_newer_version_replaces_the_one_beside_what_is_live(bench: Bench) -> None:
    await live(bench)
    first = await newer(bench)
    await newer(bench, 3, replace(bench.spec, bandwidth_bps=2 * 10**8))
    assert code(await bench.supplier.commit("r", 2, first.choice, CTX)) is ReasonCode.NOT_HELD
    assert code(await bench.reserve("r", 2, wider(bench.spec))) is ReasonCode.VERSION_CONFLICT
    assert (await seen(bench)).version == 1


async def test_every_message_of_a_modification_repeated_gets_the_same_answer(bench: Bench) -> None:
    choice = await live(bench)
    held = await newer(bench)
    assert replace(await newer(bench), remaining_s=0.0) == replace(held, remaining_s=0.0)
    assert code(await bench.reserve("r", 2, bench.other())) is ReasonCode.KEY_REUSED
    first = await bench.reserve("r", 1)
    assert isinstance(first, Reserved)
    assert first.choice == choice
    for _ in range(2):
        assert await bench.supplier.commit("r", 2, held.choice, CTX) == Committed(ref="r", version=2)
    await has_version(bench, 2)
    assert await bench.supplier.commit("r", 2, held.choice, CTX) == Committed(ref="r", version=2)
    assert code(await bench.reserve("r", 1)) is ReasonCode.VERSION_CONFLICT
    await bench.supplier.release("r", 1, CTX)
    await bench.supplier.release("r", 2, CTX)
    await has_version(bench, 2)


async def test_a_modification_is_extended_as_any_hold(bench: Bench) -> None:
    await live(bench)
    await newer(bench)
    await bench.stack.pass_time(100)
    longer = await bench.supplier.extend("r", 2, 300.0, CTX)
    assert isinstance(longer, Reserved)
    assert longer.remaining_s > 280
    assert code(await bench.supplier.extend("r", 1, 300.0, CTX)) is ReasonCode.NOT_HELD


async def test_a_modification_with_other_bindings_is_refused(bench: Bench) -> None:
    choice = await live(bench)
    await newer(bench)
    wrong: Bindings = replace(choice, labels=dict.fromkeys(choice.labels, 4000))
    assert code(await bench.supplier.commit("r", 2, wrong, CTX)) is ReasonCode.CONSTRAINT_VIOLATED
    assert (await seen(bench)).version == 1


@pytest.mark.parametrize("stage", ["held", "committed", "active"])
async def test_terminate_ends_both_versions(bench: Bench, stage: str) -> None:
    await live(bench)
    held = await newer(bench)
    if stage != "held":
        assert await bench.supplier.commit("r", 2, held.choice, CTX) == Committed(ref="r", version=2)
    if stage == "active":
        await has_version(bench, 2)
    await bench.supplier.terminate("r", CTX)
    await bench.becomes(ServiceState.TERMINATED)
    await bench.stack.pass_time(120)
    assert taken(bench) == ({}, {}, {}, {})
    assert await bench.stack.vim("s1").inventory() == ()
    assert all(h.state not in TAKES for h in bench.stack.vim("s1").holds())
    assert code(await bench.reserve("r", 3)) is ReasonCode.VERSION_RELEASED
    assert isinstance(await bench.supplier.commit("r", 2, held.choice, CTX), Refused)
