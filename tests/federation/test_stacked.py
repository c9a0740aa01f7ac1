"""Brokers stacked on brokers: one service over many, whatever is lost, refused, restarted or late on the way."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from address_planner.labels import LabelSet
from address_planner.prefixes import inside, overlap
from broker.orders.gather import violation
from broker.orders.pools import Pool
from capability_registry.note import Lifecycle
from lower_sp_clients.supplier import Context, OutcomeUnknown
from lower_sp_clients.vim.driver import DriverError
from service_model.outcomes import (
    AddressingChoice,
    Committed,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
)
from service_model.spec import AddressRole, LinkAddressing, ReservedAddress, ServiceSpec
from tests.support.faults import alters, hangs, lost_after, lost_before, refuses, waits_for
from tests.support.stack import AURORA, AURORA_CHAIN, POOL, Either, Site, Sp, Stack, chain, function_type

CTX = Context()
OTHER = function_type("other")
CONFIRM = AddressingChoice()


async def reserved(stack: Stack, spec: ServiceSpec = AURORA_CHAIN, ref: str = "r", version: int = 1) -> Reserved:
    answer = await stack.customer().reserve(ref, version, spec, CTX)
    assert isinstance(answer, Reserved), answer
    return answer


async def active(stack: Stack, spec: ServiceSpec = AURORA_CHAIN, ref: str = "r") -> Reserved:
    answer = await reserved(stack, spec, ref)
    assert await stack.customer().commit(ref, 1, CONFIRM, CTX) == Committed(ref=ref, version=1)
    await stack.until(lambda: stack.state(ref) is ServiceState.ACTIVE)
    return answer


@pytest.fixture
async def aurora(tmp_path: Path) -> AsyncIterator[Stack]:
    async with Stack(AURORA, tmp_path) as stack:
        yield stack


async def test_a_service_over_four_brokers_is_reserved_built_and_taken_away(aurora: Stack) -> None:
    answer = await active(aurora)
    assert answer.choice.labels == {"a": 0, "b": 0}
    lan = answer.choice.link("mgmt")
    assert lan is not None
    assert set(lan.addresses) == {"f0:mgmt", "f1:mgmt", "f2:mgmt"}
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()
    assert aurora.state() is ServiceState.TERMINATED


async def test_an_uncontended_order_takes_one_round_at_every_level(aurora: Stack) -> None:
    await reserved(aurora)
    pairs = [("aurora", "boreas"), ("aurora", "notos"), ("notos", "abyss"), ("notos", "athens")]
    assert [aurora.line(*pair).count("reserve") for pair in pairs] == [1, 1, 1, 1]
    assert aurora.line("abyss", "ghent").count("reserve") == 1


async def test_nothing_of_a_service_overlaps_at_any_level(aurora: Stack) -> None:
    answer = await active(aurora)
    prefixes = [link.prefix for link in answer.choice.links if link.prefix is not None]
    assert len(prefixes) == 5
    assert not any(overlap(a, b) for a, b in itertools.combinations(prefixes, 2))
    addresses = [address for link in answer.choice.links for address in link.addresses.values()]
    assert len(addresses) == len(set(addresses))


async def test_depth_five_is_delivered_and_leaves_nothing(tmp_path: Path) -> None:
    deep = Sp("e", (Site("s5", ("meter",)),))
    for name, site in (("d", "s4"), ("c", "s3"), ("b", "s2")):
        deep = Sp(name, (Site(site, ("forwarder",)), deep))
    top = Sp("a", (Site("s1", ("firewall",)), deep), pools=(POOL,))
    async with Stack(top, tmp_path) as stack:
        types = ("firewall", "forwarder", "forwarder", "forwarder", "meter")
        await active(stack, chain("s1.uni", "b.c.d.e.s5.uni", *types, lan=True))
        assert [len(v.holds()) for v in stack.vims()] == [1, 1, 1, 1, 1]
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_where_labels_differ_the_authority_wins_and_only_the_other_side_is_asked_again(aurora: Stack) -> None:
    def takes_another(answer: Reserved) -> Reserved:
        return replace(answer, choice=replace(answer.choice, labels={**answer.choice.labels, "x1": 1777}))

    aurora.line("aurora", "boreas").next("reserve", alters(takes_another))
    await reserved(aurora)
    assert aurora.line("aurora", "boreas").count("reserve") == 1
    assert aurora.line("aurora", "notos").count("reserve") == 2
    spec = next(s for s in aurora.broker("aurora").orders()[0].segments if s.alias == "notos")
    assert spec.choice is not None
    assert spec.choice.labels["x1"] == 1777


async def test_label_exhaustion_is_refused_with_its_reason_and_frees_everything(tmp_path: Path) -> None:
    few = LabelSet.of([7])
    top = Sp("a", (Site("s1", ("firewall",), labels=few), Sp("b", (Site("s2", ("meter",), labels=few),))), (POOL,))
    async with Stack(top, tmp_path) as stack:
        spec = chain("s1.uni", "b.s2.uni", "firewall", "meter")
        await reserved(stack, spec)
        second = replace(spec, ends=(replace(spec.ends[0], sap="s1.uni"), spec.ends[1]))
        answer = await stack.customer().reserve("r2", 1, second, CTX)
        assert isinstance(answer, Refused)
        codes = {reason.code for reason in answer.reasons}
        assert codes & {ReasonCode.LABELS_EXHAUSTED, ReasonCode.LABEL_TAKEN}
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_a_label_that_is_refused_two_levels_down_is_chosen_again_by_who_set_it(tmp_path: Path) -> None:
    top = Sp("a", (Site("s1", ("firewall",)), Sp("b", (Sp("c", (Site("s2", ("meter",)),)),))), (POOL,))
    async with Stack(top, tmp_path) as stack:

        def taken(answer: Reserved) -> Refused:
            code = ReasonCode.LABEL_TAKEN
            return Refused(
                ref=answer.ref, version=answer.version, reasons=(Reason(code=code, message="taken", subject="x1"),)
            )

        stack.line("c", "s2").next("reserve", alters(taken))
        await reserved(stack, chain("s1.uni", "b.c.s2.uni", "firewall", "meter"))
        assert stack.line("a", "b").count("reserve") == 2
        order = stack.broker("a").orders()[0]
        assert order.crankbacks == 0
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


TWO_WAYS = Sp(
    "a",
    (
        Site("s1", ("firewall",)),
        Either((Sp("b", (Site("s2", ("meter",)),)), Sp("c", (Site("s3", ("meter",), cost=5),)))),
        Site("s4", ("forwarder",)),
    ),
    (POOL,),
)
TWO_WAYS_CHAIN = chain("s1.uni", "s4.uni", "firewall", "meter", "forwarder")


async def test_what_one_supplier_refuses_is_bought_from_another(tmp_path: Path) -> None:
    async with Stack(TWO_WAYS, tmp_path) as stack:
        stack.line("b", "s2").always["reserve"] = refuses(ReasonCode.CAPACITY, subject="f1")
        await active(stack, TWO_WAYS_CHAIN)
        assert [s.alias for s in stack.broker("a").orders()[0].segments if s.wanted] == ["s1", "c", "s4"]
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


def outside(answer: Reserved) -> Reserved:
    links = tuple(replace(x, prefix=ip_network("192.0.2.0/31")) for x in answer.choice.links)
    return replace(answer, choice=replace(answer.choice, links=links))


def wrong_label(answer: Reserved) -> Reserved:
    return replace(answer, choice=replace(answer.choice, labels=dict.fromkeys(answer.choice.labels, 9)))


def without_links(answer: Reserved) -> Reserved:
    return replace(answer, choice=replace(answer.choice, links=()))


def claims_the_world(answer: Reserved) -> Reserved:
    reach = {end: (ip_network("0.0.0.0/0"),) for end in answer.choice.labels}
    return replace(answer, choice=replace(answer.choice, reach=reach))


@pytest.mark.parametrize("lie", [outside, wrong_label, without_links, claims_the_world])
async def test_a_choice_that_breaks_its_constraint_is_released_and_bought_elsewhere(
    tmp_path: Path, lie: Callable[[Reserved], Reserved]
) -> None:
    async with Stack(TWO_WAYS, tmp_path) as stack:
        stack.line("a", "b").always["reserve"] = alters(lie)
        await active(stack, TWO_WAYS_CHAIN)
        assert [s.alias for s in stack.broker("a").orders()[0].segments if s.wanted] == ["s1", "c", "s4"]
        assert stack.line("a", "b").count("release") >= 1
        await stack.until(lambda: all(h.choice is None or h.released_upto for h in stack.vim("s2").holds()))
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_a_refused_repair_of_a_hold_leaves_no_hold_behind(tmp_path: Path) -> None:
    """The older version of a segment is still held where the newer one was refused: it is released with the rest."""
    async with Stack(TWO_WAYS, tmp_path) as stack:
        gate = stack.line("a", "b")

        def takes_another(answer: Reserved) -> Reserved:
            return replace(answer, choice=replace(answer.choice, labels={**answer.choice.labels, "x1": 1777}))

        stack.line("a", "s1").next("reserve", alters(takes_another))
        gate.next("reserve", alters(lambda answer: answer), refuses(ReasonCode.CAPACITY, subject="f1"))
        await reserved(stack, TWO_WAYS_CHAIN)
        assert [s.alias for s in stack.broker("a").orders()[0].segments if s.wanted] == ["s1", "c", "s4"]
        await stack.until(lambda: all(h.state is ServiceState.EXPIRED for h in stack.vim("s2").holds()))
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


@pytest.mark.parametrize("lost", [lost_before, lost_after], ids=["before", "after"])
@pytest.mark.parametrize("method", ["reserve", "commit", "terminate"])
async def test_a_lost_message_is_asked_again_with_the_same_key_until_it_is_answered(
    aurora: Stack, method: str, lost: Callable[[], object]
) -> None:
    for pair in (("aurora", "notos"), ("notos", "abyss"), ("abyss", "ghent")):
        aurora.line(*pair).next(method, lost(), lost())  # type: ignore[arg-type]
    customer = aurora.customer()
    task = asyncio.ensure_future(customer.reserve("r", 1, AURORA_CHAIN, CTX))
    await aurora.until(task.done, step=0.2)
    assert isinstance(task.result(), Reserved)
    committed = asyncio.ensure_future(customer.commit("r", 1, CONFIRM, CTX))
    await aurora.until(committed.done, step=0.2)
    assert committed.result() == Committed(ref="r", version=1)
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.2)
    await customer.terminate("r", CTX)
    await aurora.ends_empty()
    keys = {(ref, version) for name, ref, version in aurora.line("aurora", "notos").calls if name == method}
    assert len(keys) == 1
    assert all(len(v.holds()) == 1 for v in aurora.vims())


@pytest.mark.parametrize("fault", [lost_before, lost_after, hangs], ids=["before", "after", "hangs"])
async def test_a_supplier_that_does_not_answer_in_time_is_refused_and_released_later(
    aurora: Stack, fault: Callable[[], object]
) -> None:
    line = aurora.line("aurora", "notos")
    line.always |= {"reserve": fault(), "release": fault()}  # type: ignore[dict-item]
    task = asyncio.ensure_future(aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX))
    await aurora.until(task.done, step=0.5)
    answer = task.result()
    assert isinstance(answer, Refused)
    assert answer.reasons[0].code is ReasonCode.SUPPLIER_UNREACHABLE
    line.always.clear()
    await aurora.ends_empty(step=2.0)
    late = await aurora.broker("notos").seen_by("aurora").reserve(line.calls[0][1], 1, AURORA_CHAIN, CTX)
    assert isinstance(late, Refused), "what was released before it was seen has no effect later"


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


async def test_terminate_overtakes_a_commit_that_is_under_way(aurora: Stack) -> None:
    gate = asyncio.Event()
    await reserved(aurora)
    aurora.line("notos", "abyss").next("commit", waits_for(gate))
    committing = asyncio.ensure_future(aurora.customer().commit("r", 1, CONFIRM, CTX))
    await aurora.until(lambda: aurora.line("notos", "abyss").count("commit") == 1)
    ending = asyncio.ensure_future(aurora.customer().terminate("r", CTX))
    await aurora.turn()
    gate.set()
    await aurora.until(ending.done)
    answer = await committing
    assert isinstance(answer, Refused)
    await aurora.ends_empty()
    assert aurora.state() is ServiceState.TERMINATED


async def test_terminate_overtakes_a_reservation_that_is_under_way(aurora: Stack) -> None:
    gate = asyncio.Event()
    aurora.line("notos", "abyss").next("reserve", waits_for(gate))
    asking = asyncio.ensure_future(aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX))
    await aurora.until(lambda: aurora.line("notos", "abyss").count("reserve") == 1)
    ending = asyncio.ensure_future(aurora.customer().terminate("r", CTX))
    await aurora.turn()
    gate.set()
    await aurora.until(ending.done)
    answer = await asking
    assert isinstance(answer, Refused)
    assert answer.reasons
    await aurora.ends_empty()


@pytest.mark.parametrize("name", ["aurora", "boreas", "notos", "abyss"])
async def test_a_broker_that_restarts_while_it_is_reserved_goes_on(aurora: Stack, name: str) -> None:
    before = await reserved(aurora)
    await aurora.restart(name)
    again = await aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX)
    assert isinstance(again, Reserved)
    assert (again.choice, again.price) == (before.choice, before.price)
    task = asyncio.ensure_future(aurora.customer().commit("r", 1, CONFIRM, CTX))
    await aurora.until(task.done, step=0.2)
    assert isinstance(task.result(), Committed)
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.2)
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()


@pytest.mark.parametrize("name", ["aurora", "boreas", "notos", "abyss"])
async def test_a_broker_that_restarts_while_an_answer_to_its_commit_is_lost_goes_forward(
    aurora: Stack, name: str
) -> None:
    await reserved(aurora)
    for pair in (("aurora", "boreas"), ("aurora", "notos"), ("notos", "abyss"), ("abyss", "ghent")):
        aurora.line(*pair).always["commit"] = lost_after()
    task = asyncio.ensure_future(aurora.customer().commit("r", 1, CONFIRM, CTX))
    await aurora.until(lambda: aurora.line("abyss", "ghent").count("commit") > 0, step=0.1)
    await aurora.restart(name)
    for node in aurora.nodes.values():
        for line in node.lines.values():
            line.always.clear()
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.5)
    task.cancel()
    assert await aurora.customer().commit("r", 1, CONFIRM, CTX) == Committed(ref="r", version=1)
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()


@pytest.mark.parametrize("name", ["aurora", "boreas", "notos", "abyss"])
async def test_a_broker_that_restarts_while_it_terminates_finishes(aurora: Stack, name: str) -> None:
    await active(aurora)
    for pair in (("aurora", "boreas"), ("aurora", "notos"), ("notos", "abyss"), ("abyss", "ghent")):
        aurora.line(*pair).always["terminate"] = lost_before()
    await aurora.customer().terminate("r", CTX)
    await aurora.turn()
    await aurora.restart(name)
    for node in aurora.nodes.values():
        for line in node.lines.values():
            line.always.clear()
    await aurora.ends_empty()
    assert aurora.state() is ServiceState.TERMINATED


@pytest.mark.parametrize("name", ["aurora", "boreas", "notos", "abyss"])
async def test_a_broker_that_restarts_while_it_is_active_stays_so(aurora: Stack, name: str) -> None:
    await active(aurora)
    await aurora.restart(name)
    await aurora.pass_time(20)
    assert aurora.state() is ServiceState.ACTIVE
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()


async def test_what_ended_while_its_broker_was_down_is_heard_of_afterwards(aurora: Stack) -> None:
    await active(aurora)
    aurora.line("aurora", "notos").always["terminate"] = lost_after()
    await aurora.customer().terminate("r", CTX)
    await aurora.until(lambda: aurora.line("aurora", "notos").count("terminate") > 0)
    await aurora.stop("aurora")
    await aurora.pass_time(5)
    aurora.line("aurora", "notos").always.clear()
    await aurora.start("aurora")
    await aurora.ends_empty()


async def test_a_supplier_that_never_saw_the_order_is_rid_of_it_too(aurora: Stack) -> None:
    """A terminate of what was never seen leaves only a tombstone, which tells nothing: it is asked for."""
    line = aurora.line("aurora", "notos")
    line.always["reserve"] = lost_before()
    asking = asyncio.ensure_future(aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX))
    await aurora.until(lambda: line.count("reserve") > 0)
    line.next("terminate", lost_after())
    await aurora.customer().terminate("r", CTX)
    await asking
    await aurora.ends_empty()
    assert aurora.state() is ServiceState.TERMINATED


async def test_an_expired_hold_frees_everything_everywhere(aurora: Stack) -> None:
    await reserved(aurora)
    await aurora.pass_time(330)
    assert aurora.state() is ServiceState.EXPIRED
    await aurora.ends_empty()
    late = await aurora.customer().commit("r", 1, CONFIRM, CTX)
    assert isinstance(late, Refused)
    assert late.reasons[0].code is ReasonCode.HOLD_EXPIRED


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


@pytest.mark.parametrize("swaps", [True, False])
async def test_a_transit_carries_data_and_lan_between_suppliers_that_do_not_touch(tmp_path: Path, swaps: bool) -> None:
    middle = Sp("m", (Site("s2", (), swaps=swaps),))
    top = Sp("a", (Sp("b", (Site("s1", ("firewall",)),)), middle, Sp("c", (Site("s3", ("meter",)),))), (POOL,))
    async with Stack(top, tmp_path) as stack:
        await active(stack, chain("b.s1.uni", "c.s3.uni", "firewall", "meter", lan=True))
        hold = stack.vim("s2").holds()[0]
        assert hold.choice is not None
        labels = hold.choice.labels
        assert len(labels) == 4
        if not swaps:
            assert labels["x1"] == labels["x2"]
            assert labels["x1.mgmt"] == labels["x2.mgmt"]
        assert labels["x1"] != labels["x1.mgmt"]
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


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


async def test_two_services_may_have_the_same_networks_behind_their_ends(tmp_path: Path) -> None:
    vlans = LabelSet(((10, 19),))
    top = Sp("a", (Site("s1", ("firewall",), uni=vlans), Sp("b", (Site("s2", ("meter",), uni=vlans),))), (POOL,))
    behind = (ip_network("10.0.0.0/24"),)
    spec = chain("s1.uni", "b.s2.uni", "firewall", "meter")
    spec = replace(spec, ends=(replace(spec.ends[0], networks=behind), spec.ends[1]))
    async with Stack(top, tmp_path) as stack:
        one, other = await active(stack, spec, "r1"), await active(stack, spec, "r2")
        assert behind[0] in one.choice.reach["a"]
        assert behind[0] in other.choice.reach["a"]
        assert one.choice.labels["a"] != other.choice.labels["a"]
        inner = [x.prefix for answer in (one, other) for x in answer.choice.links]
        assert not any(overlap(p, behind[0]) for p in inner if p is not None)


async def test_a_customer_may_give_a_link_its_prefix_gateway_and_own_address(aurora: Stack) -> None:
    gateway, own = IPv4Address("172.20.0.1"), IPv4Address("172.20.0.9")
    given = LinkAddressing(
        prefix=ip_network("172.20.0.0/24"),
        reserved=(
            ReservedAddress(role=AddressRole.GATEWAY, address=gateway),
            ReservedAddress(role=AddressRole.PEER, address=own, point="a"),
        ),
    )
    links = tuple(replace(x, addressing=given) if x.id == "l0" else x for x in AURORA_CHAIN.links)
    answer = await active(aurora, replace(AURORA_CHAIN, links=links))
    link = answer.choice.link("l0")
    assert link is not None
    assert link.addresses == {"f0:in": gateway, "a": own}
    assert answer.choice.reach["a"] == (given.prefix,)


async def test_a_pool_of_ipv6_serves_as_well(tmp_path: Path) -> None:
    six = Pool(name="six", prefix=ip_network("2001:db8::/56"), block=64, quarantine=timedelta(0))
    async with Stack(replace(AURORA, pools=(six,)), tmp_path) as stack:
        answer = await active(stack)
        assert all(x.prefix is not None and inside(x.prefix, six.prefix) for x in answer.choice.links)
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()
        assert stack.broker("aurora").allocations() == ()


async def test_a_refused_order_gives_its_block_back(aurora: Stack) -> None:
    aurora.line("aurora", "boreas").always["reserve"] = refuses(ReasonCode.CAPACITY)
    for i in range(3):
        assert isinstance(await aurora.customer().reserve(f"r{i}", 1, AURORA_CHAIN, CTX), Refused)
    await aurora.ends_empty()
    assert aurora.broker("aurora").allocations() == ()


async def test_an_order_whose_supplier_is_gone_ends_when_it_is_back(aurora: Stack) -> None:
    await active(aurora)
    node = aurora.nodes["aurora"]
    node.broker.use({a: s for a, s in node.lines.items() if a != "notos"})
    await aurora.customer().terminate("r", CTX)
    await aurora.pass_time(60)
    assert aurora.state() is ServiceState.TERMINATING
    node.broker.use(node.lines)
    await aurora.ends_empty(step=2.0)
    assert aurora.state() is ServiceState.TERMINATED


class Tree:
    """A random line of sites under a random tree of brokers, and a random chain through it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0
        self.names = itertools.count()
        parts = self._parts(self.random.randint(2, 4))
        self.top = Sp("top", parts, (POOL,))
        self.sites = self._sites(self.top, "")
        types = [t for _, kinds in self.sites for t in kinds if self.random.random() < 0.7]
        self.spec = chain(f"{self.sites[0][0]}.uni", f"{self.sites[-1][0]}.uni", *types, lan=self.random.random() < 0.5)

    def _parts(self, sites: int) -> tuple[Sp | Site, ...]:
        out: list[Sp | Site] = []
        while sites:
            taken = self.random.randint(1, sites)
            if self.random.random() < 0.5:
                out.append(Sp(f"sp{next(self.names)}", self._parts(taken)))
            else:
                taken = 1
                number = next(self.names)
                kinds = tuple(self.random.sample(("firewall", "meter", "forwarder"), self.random.randint(1, 2)))
                out.append(Site(f"s{number}", kinds))
            sites -= taken
        return tuple(out)

    def _sites(self, sp: Sp, under: str) -> list[tuple[str, tuple[str, ...]]]:
        out: list[tuple[str, tuple[str, ...]]] = []
        for part in sp.parts:
            assert not isinstance(part, Either)
            if isinstance(part, Site):
                out.append((f"{under}{part.name}", part.functions))
            else:
                out += self._sites(part, f"{under}{part.name}.")
        return out


def within_every_constraint(stack: Stack) -> int:
    """Check what every broker and domain chose against what it was asked; how many were checked."""
    checked = 0
    for node in stack.nodes.values():
        for order in node.broker.orders():
            assert order.spec is not None
            assert order.choice is not None
            assert violation(order.spec, order.choice) is None
            checked += 1
        for vim in node.vims.values():
            for hold in vim.holds():
                assert hold.spec is not None
                assert hold.choice is not None
                assert violation(hold.spec, hold.choice) is None
                checked += 1
    return checked


def prefixes_by_link(stack: Stack) -> dict[str, set[object]]:
    """What all levels say that a link's prefix is."""
    out: dict[str, set[object]] = {}
    for vim in stack.vims():
        for hold in vim.holds():
            assert hold.choice is not None
            for link in hold.choice.links:
                if link.prefix is not None:
                    out.setdefault(link.link, set()).add(link.prefix)
    return out


@pytest.mark.parametrize("seed", range(24))
async def test_whatever_the_tree_everything_is_disjoint_and_within_every_constraint_above(
    tmp_path: Path, seed: int
) -> None:
    tree = Tree(seed)
    async with Stack(tree.top, tmp_path) as stack:
        answer = await stack.customer().reserve("r", 1, tree.spec, CTX)
        assert isinstance(answer, Reserved), answer
        assert within_every_constraint(stack) >= 2
        links = prefixes_by_link(stack)
        assert all(len(said) == 1 for said in links.values()), "both sides of a link know the same prefix"
        chosen = [link.prefix for link in answer.choice.links if link.prefix is not None]
        assert not any(overlap(x, y) for x, y in itertools.combinations(chosen, 2))
        addresses = [a for link in answer.choice.links for a in link.addresses.values()]
        assert len(addresses) == len(set(addresses))
        assert isinstance(await stack.customer().commit("r", 1, CONFIRM, CTX), Committed)
        await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=0.1)
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_a_replacement_that_is_refused_late_brings_the_older_hold_back(aurora: Stack) -> None:
    before = await reserved(aurora)
    await aurora.pass_time(100)
    aurora.line("aurora", "notos").next("reserve", refuses(ReasonCode.CAPACITY))
    answer = await aurora.customer().reserve("r", 2, replace(AURORA_CHAIN, bandwidth_bps=2 * 10**6), CTX)
    assert isinstance(answer, Refused)
    await aurora.until(lambda: aurora.state() is ServiceState.RESERVED, step=0.1)
    again = await aurora.customer().reserve("r", 1, AURORA_CHAIN, CTX)
    assert isinstance(again, Reserved)
    assert again.choice.links == before.choice.links
    assert isinstance(await aurora.customer().commit("r", 1, CONFIRM, CTX), Committed)
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE)
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()


async def test_extending_and_committing_at_once_leaves_nobody_waiting(aurora: Stack) -> None:
    await reserved(aurora)
    customer = aurora.customer()
    calls = [customer.extend("r", 1, 200, CTX), customer.extend("r", 1, 250, CTX)]
    waiting = [asyncio.ensure_future(call) for call in calls]
    committing = asyncio.ensure_future(customer.commit("r", 1, CONFIRM, CTX))
    await aurora.until(lambda: all(task.done() for task in (*waiting, committing)))
    assert isinstance(committing.result(), Committed)


async def test_a_broker_that_stops_leaves_nobody_waiting(aurora: Stack) -> None:
    aurora.line("aurora", "notos").always["reserve"] = hangs()
    customer = aurora.customer()
    asking = asyncio.ensure_future(customer.reserve("r", 1, AURORA_CHAIN, CTX))
    await aurora.until(lambda: aurora.line("aurora", "notos").count("reserve") == 1)
    await aurora.stop("aurora")
    async with asyncio.timeout(10):
        with pytest.raises(OutcomeUnknown):
            await asking
        with pytest.raises(OutcomeUnknown):  # one that comes in while it stops
            await customer.reserve("r", 1, AURORA_CHAIN, CTX)
    aurora.line("aurora", "notos").always.clear()
    await aurora.start("aurora")
    await reserved(aurora)
