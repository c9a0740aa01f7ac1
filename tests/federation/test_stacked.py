"""Brokers stacked on brokers: one service over many, and what one supplier refuses is bought from another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from service_model.outcomes import (
    Committed,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
)
from tests.support.faults import alters, refuses
from tests.support.orders import CONFIRM, CTX, active, reserved
from tests.support.sites import AURORA_CHAIN, POOL, Either, Site, Sp, chain
from tests.support.stack import Stack


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


async def test_an_expired_hold_frees_everything_everywhere(aurora: Stack) -> None:
    await reserved(aurora)
    await aurora.pass_time(330)
    assert aurora.state() is ServiceState.EXPIRED
    await aurora.ends_empty()
    late = await aurora.customer().commit("r", 1, CONFIRM, CTX)
    assert isinstance(late, Refused)
    assert late.reasons[0].code is ReasonCode.HOLD_EXPIRED


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
