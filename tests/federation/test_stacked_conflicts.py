"""Brokers stacked on brokers: a prefix that one of them cannot use is chosen again, and nothing else is."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from ipaddress import IPv4Network, ip_network
from itertools import combinations, count
from pathlib import Path

import pytest

from address_planner.conflicts import conflicting
from address_planner.labels import LabelSet
from address_planner.prefixes import Prefix, inside, overlap
from broker.orders.pools import Pool
from lower_sp_clients.vim.accounting import TAKES
from lower_sp_clients.vim.holds import AllocationState
from service_model.outcomes import Nogood, Reason, ReasonCode, Refused, Reserved
from service_model.spec import LinkAddressing, ServiceSpec
from tests.support.faults import Answer, Fault, alters
from tests.support.orders import CTX, active, reserved
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

SPEC = chain("s1.uni", "b.c.s3.uni", "firewall", "meter", "shaper")


def federation(excluded: str, pools: tuple[Pool, ...] = (POOL,)) -> Sp:
    """`a` has s1 and buys from b, which has s2 and buys from c, which has s3: only s3 excludes anything."""
    below = Sp("c", (Site("s3", ("shaper",), excluded=tuple(map(ip_network, excluded.split(",")))),))
    return Sp("a", (Site("s1", ("firewall",)), Sp("b", (Site("s2", ("meter",)), below))), pools)


def prefixes(answer: Reserved) -> list[object]:
    return [link.prefix for link in answer.choice.links if link.prefix is not None]


def second_waits_for(gate: asyncio.Event) -> Fault:
    """The second version of a segment is held only when the gate is open."""

    async def fault(call: Answer, ref: str, version: int) -> object:
        if version > 1:
            await gate.wait()
        return await call()

    return fault


@pytest.mark.parametrize("excluded", ["10.64.0.4/31", "10.64.0.0/25", "10.64.0.0/29,10.64.0.16/28"])
async def test_a_prefix_that_cannot_be_used_is_chosen_again_and_nothing_else(tmp_path: Path, excluded: str) -> None:
    free, hindered = tmp_path / "free", tmp_path / "hindered"
    free.mkdir()
    hindered.mkdir()
    async with Stack(federation("192.0.2.0/24"), free) as stack:
        unhindered = await active(stack, SPEC)
    async with Stack(federation(excluded), hindered) as stack:
        answer = await active(stack, SPEC)
        order = stack.broker("a").orders()[0]
        assert order.crankbacks == 0
        assert 1 <= order.rounds <= 2
        for before, after in zip(unhindered.choice.links, answer.choice.links, strict=True):
            hit = [
                e for e in excluded.split(",") if before.prefix is not None and overlap(before.prefix, ip_network(e))
            ]
            at_s3 = {"f2:in", "f2:out"} & set(after.addresses)
            assert (before.prefix != after.prefix) == bool(hit and at_s3), before.link
            if at_s3 and after.prefix is not None:
                assert not any(overlap(after.prefix, ip_network(e)) for e in excluded.split(","))
        chosen = [p for link in answer.choice.links if (p := link.prefix) is not None]
        assert not any(overlap(x, y) for x, y in combinations(chosen, 2))
        assert stack.line("a", "s1").count("reserve") == 1, "it is not concerned"
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_where_a_block_cannot_be_used_the_top_takes_another_and_gives_it_back(tmp_path: Path) -> None:
    async with Stack(federation("10.64.0.0/22"), tmp_path) as stack:
        answer = await reserved(stack, SPEC)
        assert all(inside(link.prefix, ip_network("10.64.4.0/24")) for link in answer.choice.links if link.prefix)
        assert [(a.value, a.state) for a in stack.broker("a").allocations()] == [("10.64.4.0/24", AllocationState.HELD)]
        assert stack.broker("a").orders()[0].rounds == 1, "what was proposed is followed"
        await stack.restart("a")
        assert [a.value for a in stack.broker("a").allocations()] == ["10.64.4.0/24"]
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()
        assert stack.broker("a").allocations() == ()


async def test_a_block_that_is_given_up_stays_until_nobody_below_can_use_it(tmp_path: Path) -> None:
    async with Stack(federation("10.64.0.0/24"), tmp_path) as stack:
        gate = asyncio.Event()
        stack.line("a", "s1").always["reserve"] = second_waits_for(gate)
        asking = asyncio.ensure_future(stack.customer().reserve("r", 1, SPEC, CTX))
        await stack.until(lambda: stack.line("a", "s1").count("reserve") == 2, step=0.1)
        assert sorted(a.value for a in stack.broker("a").allocations()) == ["10.64.0.0/24", "10.64.1.0/24"]
        gate.set()
        await stack.until(asking.done, step=0.1)
        assert isinstance(asking.result(), Reserved)
        assert [a.value for a in stack.broker("a").allocations()] == ["10.64.1.0/24"]
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_where_no_block_can_be_used_it_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    small = replace(POOL, prefix=ip_network("10.64.0.0/23"))
    async with Stack(federation("10.64.0.0/16", (small,)), tmp_path) as stack:
        answer = await stack.customer().reserve("r", 1, SPEC, CTX)
        assert isinstance(answer, Refused)
        assert ReasonCode.ADDRESS_EXHAUSTED in {reason.code for reason in answer.reasons}
        await stack.ends_empty()
        assert stack.broker("a").allocations() == ()


async def test_a_hold_that_was_to_be_replaced_keeps_its_block_when_the_other_found_none(tmp_path: Path) -> None:
    small = replace(POOL, prefix=ip_network("10.64.0.0/23"))
    async with Stack(federation("10.64.1.0/24,10.64.0.128/25", (small,)), tmp_path) as stack:
        first = await reserved(stack, SPEC)
        given = LinkAddressing(prefix=ip_network("10.64.1.0/29"))
        links = tuple(replace(link, addressing=given) if link.id == "l3" else link for link in SPEC.links)
        answer = await stack.customer().reserve("r", 2, replace(SPEC, links=links), CTX)
        assert isinstance(answer, Refused)
        assert [a.value for a in stack.broker("a").allocations()] == ["10.64.0.0/24"]
        again = await stack.customer().reserve("r", 1, SPEC, CTX)
        assert isinstance(again, Reserved)
        assert prefixes(again) == prefixes(first)
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_a_prefix_of_the_customers_own_is_refused_to_it_with_what_would_do(tmp_path: Path) -> None:
    async with Stack(federation("172.20.0.0/24"), tmp_path) as stack:
        given = LinkAddressing(prefix=ip_network("172.20.0.0/29"))
        links = tuple(replace(link, addressing=given) if link.id == "l3" else link for link in SPEC.links)
        answer = await stack.customer().reserve("r", 1, replace(SPEC, links=links), CTX)
        assert isinstance(answer, Refused)
        (reason,) = answer.reasons
        assert (reason.code, reason.subject) == (ReasonCode.PREFIX_CONFLICT, "l3")
        assert reason.nogood == Nogood(
            link="l3",
            refused_prefixes=(ip_network("172.20.0.0/29"),),
            acceptable_prefixes=(ip_network("172.20.1.0/24"),),
        )
        assert reason.nogood is not None
        better = LinkAddressing(prefix=ip_network("172.20.1.0/29"))
        links = tuple(replace(link, addressing=better) if link.id == "l3" else link for link in SPEC.links)
        await reserved(stack, replace(SPEC, links=links), version=2)
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_who_proposes_what_it_then_refuses_is_followed_for_a_bounded_time(tmp_path: Path) -> None:
    async with Stack(federation("192.0.2.0/24"), tmp_path) as stack:

        def refuses(answer: Reserved) -> Refused:
            given = [link.prefix for link in answer.choice.links if link.prefix is not None]
            nogood = Nogood(link="l3", refused_prefixes=tuple(given))
            reason = Reason(code=ReasonCode.PREFIX_CONFLICT, message="no", subject="l3", nogood=nogood)
            return Refused(ref=answer.ref, version=answer.version, reasons=(reason,))

        stack.line("c", "s3").always["reserve"] = alters(refuses)
        answer = await stack.customer().reserve("r", 1, SPEC, CTX)
        assert isinstance(answer, Refused)
        assert stack.line("a", "b").count("reserve") <= 20


def drawn(seed: int) -> tuple[Sp, ServiceSpec]:
    """A line of sites under brokers at random, each with functions, and prefixes at random that it cannot use."""
    rng, kinds, names = random.Random(f"conflicts/{seed}"), ("firewall", "meter", "shaper"), list[str]()
    numbers, pool = count(), IPv4Network("10.64.0.0/23")
    blocks: dict[int, list[Prefix]] = {n: list(pool.subnets(new_prefix=n)) for n in (24, 25, 27, 29, 31)}

    def parts(left: int, under: str) -> tuple[Sp | Site, ...]:
        out: list[Sp | Site] = []
        while left:
            taken = rng.randint(1, left)
            if left > 1 and rng.random() < 0.5:
                name = f"sp{next(numbers)}"
                out.append(Sp(name, parts(taken, f"{under}{name}.")))
                left -= taken
                continue
            excluded = tuple(rng.choice(blocks[rng.choice(list(blocks))]) for _ in range(rng.randint(0, 3)))
            names.append(f"{under}s{len(names)}")
            out.append(Site(names[-1].rpartition(".")[2], kinds, excluded=excluded))
            left -= 1
        return tuple(out)

    top = Sp("top", parts(rng.randint(2, 4), ""), (POOL,))
    functions = [rng.choice(kinds) for _ in range(rng.randint(2, 5))]
    return top, chain(f"{names[0]}.uni", f"{names[-1]}.uni", *functions)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_the_tree_and_whatever_is_excluded_what_is_held_can_be_used(tmp_path: Path, seed: int) -> None:
    top, spec = drawn(seed)
    async with Stack(top, tmp_path) as stack:
        answer = await stack.customer().reserve("r", 1, spec, CTX)
        assert isinstance(answer, Reserved), answer
        for vim in stack.vims():
            for hold in vim.holds():
                if hold.state not in TAKES:
                    continue
                assert hold.choice is not None
                given = [link.prefix for link in hold.choice.links if link.prefix is not None and link.addresses]
                assert not conflicting(given, vim.domain.excluded)
        chosen = [link.prefix for link in answer.choice.links if link.prefix is not None]
        assert not any(overlap(x, y) for x, y in combinations(chosen, 2))
        order = stack.broker("top").orders()[0]
        assert order.rounds <= 8
        assert [a.value for a in stack.broker("top").allocations()] == [str(order.block)]
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_a_label_that_is_refused_is_told_with_where_what_and_what_would_do(tmp_path: Path) -> None:
    top = Sp(
        "a", (Site("s1", ("firewall",)), Sp("b", (Site("s2", ("meter",), labels=LabelSet(((1000, 1004),))),))), (POOL,)
    )
    async with Stack(top, tmp_path) as stack:
        heard: list[Nogood] = []

        def lost(answer: Reserved) -> Refused:
            label = answer.choice.labels["x1"]
            nogood = Nogood(
                end="x1",
                interconnect="ic-s1-s2",
                refused_labels=LabelSet.of([label]),
                acceptable_labels=LabelSet(((1000, 1004),)) - LabelSet.of([label]),
                proposed_label=1000 + (label - 1000 + 2) % 5,
            )
            heard.append(nogood)
            reason = Reason(code=ReasonCode.LABEL_TAKEN, message="taken", subject="x1", nogood=nogood)
            return Refused(ref=answer.ref, version=answer.version, reasons=(reason,))

        stack.line("b", "s2").next("reserve", alters(lost))
        await reserved(stack, chain("s1.uni", "b.s2.uni", "firewall", "meter"))
        order = stack.broker("a").orders()[0]
        chosen = {s.choice.labels["x1"] for s in order.segments if s.choice is not None}
        assert chosen == {heard[0].proposed_label}
        assert (order.rounds, order.crankbacks) == (1, 0)


async def test_a_domain_names_the_interconnect_and_proposes_a_label_that_is_free(tmp_path: Path) -> None:
    few, wide = LabelSet(((7, 8),)), LabelSet(((1, 99),))
    top = Sp(
        "a",
        (Site("s1", ("firewall",), labels=few, uni=wide), Sp("b", (Site("s2", ("meter",), labels=few, uni=wide),))),
        (POOL,),
    )
    async with Stack(top, tmp_path) as stack:
        spec = chain("s1.uni", "b.s2.uni", "firewall", "meter")
        await reserved(stack, spec, "r1")
        (hold,) = stack.vim("s1").holds()
        assert hold.spec is not None
        assert hold.choice is not None
        taken = LabelSet.of([hold.choice.labels["x1"]])
        asked = tuple(replace(e, labels=taken) if e.id == "x1" else e for e in hold.spec.ends)
        answer = await stack.vim("s1").reserve("another", 1, replace(hold.spec, ends=asked), CTX)
        assert isinstance(answer, Refused)
        nogood = answer.reasons[0].nogood
        assert nogood == Nogood(
            end="x1",
            interconnect="ic-s1-s2",
            refused_labels=taken,
            acceptable_labels=few - taken,
            proposed_label=next(iter(few - taken)),
        )
        story = " ".join(reason.message for reason in answer.reasons)
        assert hold.ref not in story, "who holds it is not said"
