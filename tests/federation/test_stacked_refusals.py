"""Brokers stacked on brokers: what cannot be had is refused with its reason, tells nothing of others, and leaves nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from capability_registry.note import Lifecycle
from lower_sp_clients.supplier import Context
from lower_sp_clients.vim.driver import DriverError
from service_model.outcomes import (
    Committed,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
)
from service_model.spec import ServiceSpec
from tests.support.faults import refuses
from tests.support.orders import CONFIRM, CTX, active, reserved
from tests.support.sites import AURORA_CHAIN, POOL, Site, Sp, chain, function_type
from tests.support.stack import Stack

OTHER = function_type("other")


async def test_a_segment_that_refuses_its_commit_ends_the_whole_and_the_customer_is_told(aurora: Stack) -> None:
    await reserved(aurora)
    aurora.line("notos", "athens").next("commit", refuses(ReasonCode.CAPACITY))
    answer = await aurora.customer().commit("r", 1, CONFIRM, CTX)
    assert isinstance(answer, Refused)
    assert answer.reasons[0].code is ReasonCode.SEGMENT_FAILED
    assert answer.reasons[0].segment == "notos.1"
    await aurora.ends_empty()
    assert aurora.state() is ServiceState.FAILED
    await aurora.customer().terminate("r", CTX)
    await aurora.until(lambda: aurora.state() is ServiceState.TERMINATED, step=0.5)


async def test_a_segment_that_cannot_be_built_ends_the_whole(aurora: Stack) -> None:
    for _ in range(9):
        aurora.nodes["abyss"].drivers["ghent"].fail_next("apply", DriverError("no luck"), half_done=True)
    await reserved(aurora)
    assert await aurora.customer().commit("r", 1, CONFIRM, CTX) == Committed(ref="r", version=1)
    await aurora.until(lambda: aurora.state() is ServiceState.FAILED, step=0.5)
    assert await aurora.customer().commit("r", 1, CONFIRM, CTX) == Committed(ref="r", version=1)
    await aurora.ends_empty()


async def test_nothing_that_goes_up_names_a_lower_provider_its_saps_or_addresses(tmp_path: Path) -> None:
    abyss = Sp("abyss", (Site("ghent", ("meter",)),), known_as="west")
    notos = Sp("notos", (abyss, Site("athens", ("shaper",))), known_as="south")
    boreas = Sp("boreas", (Site("amsterdam", ("firewall",)),), known_as="north")
    hidden = ("abyss", "notos", "boreas", "to-ghent", "to-athens", "ic-", "198.51.100.9")
    async with Stack(Sp("aurora", (boreas, notos), (POOL,)), tmp_path) as stack:
        spec = replace(AURORA_CHAIN, ends=chain("north.amsterdam.uni", "south.athens.uni").ends)
        assert not [word for word in hidden if word in repr(stack.nodes["aurora"].note("alice"))]
        whole = await active(stack, spec)
        said = repr(whole) + repr(await stack.customer().status("r", CTX))
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()
        stack.line("abyss", "ghent").always["reserve"] = refuses(
            ReasonCode.CAPACITY, "host 7 at 198.51.100.9 of abyss is full, see ic-ghent-athens at to-athens", "f1"
        )
        answer = await stack.customer().reserve("r2", 1, spec, CTX)
        assert isinstance(answer, Refused)
        said += repr(answer) + repr(await stack.customer().status("r2", CTX))
        assert not [word for word in hidden if word in said]


async def test_a_management_lan_is_refused_where_a_domain_on_its_way_offers_none(tmp_path: Path) -> None:
    top = Sp("a", (Site("s1", ("firewall",)), Sp("b", (Site("s2", ("meter",), lan=False),))), (POOL,))
    async with Stack(top, tmp_path) as stack:
        answer = await stack.customer().reserve("r", 1, chain("s1.uni", "b.s2.uni", "firewall", "meter", lan=True), CTX)
        assert isinstance(answer, Refused)
        assert ReasonCode.LAN_NOT_OFFERED in {r.code for r in answer.reasons}
        await active(stack, chain("s1.uni", "b.s2.uni", "firewall", "meter"), "r2")


@pytest.mark.parametrize("hops", [0, 1, 2])
async def test_a_request_whose_levels_are_used_up_is_refused(aurora: Stack, hops: int) -> None:
    answer = await aurora.customer().reserve("r", 1, AURORA_CHAIN, Context(hop_budget=hops))
    assert isinstance(answer, Refused)
    await aurora.ends_empty()


@pytest.mark.parametrize(
    ("code", "spec", "ctx", "most"),
    [
        (ReasonCode.QUOTA, AURORA_CHAIN, CTX, 0),
        (ReasonCode.HOP_BUDGET, AURORA_CHAIN, Context(hop_budget=0), 9),
        (ReasonCode.CALL_BUDGET, AURORA_CHAIN, Context(call_budget=0), 9),
        (ReasonCode.INVALID_SPEC, replace(AURORA_CHAIN, links=()), CTX, 9),
        (ReasonCode.MANAGER_NOT_ALLOWED, replace(AURORA_CHAIN, managers=("mine",)), CTX, 9),
    ],
)
async def test_what_is_refused_before_planning_is_told_to_the_operator_and_judged_anew(
    aurora: Stack, code: ReasonCode, spec: ServiceSpec, ctx: Context, most: int
) -> None:
    node = aurora.nodes["aurora"]
    usual, node.terms = node.terms, replace(node.terms, max_services=most)
    with capture_logs() as told:
        answer = await aurora.customer().reserve("r", 1, spec, ctx)
    assert isinstance(answer, Refused)
    (entry,) = [e for e in told if e["event"] == "refused before planning"]
    assert (entry["account"], entry["ref"], entry["version"]) == ("alice", "r", 1)
    assert entry["why"][0].startswith(code.short)
    node.terms = usual
    await reserved(aurora)


async def test_an_agreement_limits_services_even_when_they_come_at_once(aurora: Stack) -> None:
    node = aurora.nodes["aurora"]
    node.terms = replace(node.terms, max_services=1)
    answers = await asyncio.gather(*(aurora.customer().reserve(f"r{i}", 1, AURORA_CHAIN, CTX) for i in range(3)))
    assert sorted(type(a).__name__ for a in answers) == ["Refused", "Refused", "Reserved"]
    again = await aurora.customer().reserve("r0", 2, replace(AURORA_CHAIN, name="other"), CTX)
    assert isinstance(again, Reserved), "a hold that gives way does not count against its own successor"


@pytest.mark.parametrize("closed", ["drained", "withdrawing"])
async def test_what_only_a_closed_supplier_has_is_known_and_not_offered_now(aurora: Stack, closed: str) -> None:
    catalogue = aurora.nodes["aurora"].catalogue
    if closed == "drained":
        catalogue.list(tuple(replace(item, usable=item.alias != "notos") for item in catalogue.listings()))
    else:
        note = catalogue.note("notos")
        assert note is not None
        catalogue.put("notos", replace(note, lifecycle=Lifecycle.WITHDRAWING))
    answer = await aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX)
    assert isinstance(answer, Refused)
    assert {(r.code, r.subject) for r in answer.reasons} == {
        (ReasonCode.NOT_IN_SERVICE, "b"),
        (ReasonCode.NOT_IN_SERVICE, "f1"),
        (ReasonCode.NOT_IN_SERVICE, "f2"),
    }
    functions = [r.message for r in answer.reasons if r.subject != "b"]  # the name of a SAP has its alias in it
    assert all("is known, and not offered now" in message and "notos" not in message for message in functions)
    unheard = replace(
        AURORA_CHAIN, functions=(replace(AURORA_CHAIN.functions[0], type=OTHER), *AURORA_CHAIN.functions[1:])
    )
    answer = await aurora.customer().reserve("other", 1, unheard, CTX)
    assert isinstance(answer, Refused)
    assert [r.subject for r in answer.reasons if r.code is ReasonCode.UNKNOWN_FUNCTION_TYPE] == ["f0"]


async def test_a_refused_order_gives_its_block_back(aurora: Stack) -> None:
    aurora.line("aurora", "boreas").always["reserve"] = refuses(ReasonCode.CAPACITY)
    for i in range(3):
        assert isinstance(await aurora.customer().reserve(f"r{i}", 1, AURORA_CHAIN, CTX), Refused)
    await aurora.ends_empty()
    assert aurora.broker("aurora").allocations() == ()
