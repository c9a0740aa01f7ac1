"""Qualifications and quotes through brokers stacked on brokers: prices are gathered, promised, and kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from lower_sp_clients.supplier import Context
from lower_sp_clients.vim.local_vim import LocalVim
from service_model.money import FREE, Price
from service_model.outcomes import Reason, ReasonCode, Refused, Reserved, ServiceState
from service_model.quotes import Qualification, Quote
from service_model.spec import ServiceSpec
from tests.support.faults import Fault, hangs, lost_before, refuses
from tests.support.orders import CONFIRM, CTX
from tests.support.sites import AURORA_CHAIN, POOL, Either, Site, Sp, chain
from tests.support.stack import Stack

TWO_WAYS = Sp(
    "top",
    (
        Site("left"),
        Either((Sp("cheap", (Site("c", ("firewall",)),)), Sp("dear", (Site("d", ("firewall",), cost=2),)))),
        Site("right"),
    ),
    pools=(POOL,),
)
FIREWALL = chain("left.uni", "right.uni", "firewall")


@pytest.fixture
async def two_ways(tmp_path: Path) -> AsyncIterator[Stack]:
    """left, then one of two suppliers of a firewall, then right."""
    async with Stack(TWO_WAYS, tmp_path) as stack:
        yield stack


async def quoted(stack: Stack, spec: ServiceSpec = FIREWALL) -> Quote:
    answer = await stack.customer().quote(spec, CTX)
    assert isinstance(answer, Quote), answer
    return answer


async def by_quote(stack: Stack, quote: Quote, spec: ServiceSpec = FIREWALL, ref: str = "r") -> Reserved | Refused:
    return await stack.customer().reserve(ref, 1, spec, replace(CTX, quote=quote.id))


def raise_prices(vim: LocalVim, factor: int) -> None:
    """The domain asks so many times as much from now on. Its broker and others know it only once it is announced."""
    ways = tuple(replace(w, price=Price(per_hour=w.price.per_hour * factor)) for w in vim.domain.ways)
    functions = tuple(
        replace(
            f,
            flavours=tuple(replace(x, price=Price(per_hour=x.price.per_hour * factor)) for x in f.flavours),
        )
        for f in vim.domain.functions
    )
    vim.reconfigure(replace(vim.domain, ways=ways, functions=functions))


def suppliers(quote: Quote) -> list[str]:
    return [part.alias.partition(".")[0] for part in quote.segments]


async def test_the_parts_of_a_quote_add_up_and_a_reservation_without_it_costs_the_same(two_ways: Stack) -> None:
    quote = await quoted(two_ways)
    assert suppliers(quote) == ["left", "cheap", "right"]
    assert sum((part.price for part in quote.segments), FREE) == quote.price
    assert sum(part.delay_us for part in quote.segments) == quote.delay_us
    assert await two_ways.busy() == []
    today = await two_ways.customer().reserve("today", 1, FIREWALL, CTX)
    assert isinstance(today, Reserved)
    assert today.price == quote.price


async def test_the_best_by_true_prices_wins_over_what_an_old_note_says(two_ways: Stack) -> None:
    raise_prices(two_ways.vim("c"), 5)
    two_ways.announce("cheap")  # top still has the note of before
    assert suppliers(await quoted(two_ways)) == ["left", "dear", "right"]


async def test_each_different_segment_is_asked_once_and_a_qualification_asks_nobody(two_ways: Stack) -> None:
    assert (await two_ways.customer().qualify(FIREWALL, CTX)).feasible
    lines = [two_ways.line("top", alias) for alias in ("left", "cheap", "dear", "right")]
    assert [line.calls for line in lines] == [[], [], [], []]
    await quoted(two_ways)
    assert lines[0].count("quote") == 3  # the three best plans go through it four times
    assert {name for line in lines for name, _, _ in line.calls} == {"quote"}


@pytest.mark.parametrize("fault", [lost_before(), hangs()])
async def test_a_supplier_that_does_not_answer_costs_its_plans_only(two_ways: Stack, fault: Fault) -> None:
    two_ways.line("top", "cheap").always["quote"] = fault
    waiting = asyncio.create_task(two_ways.customer().quote(FIREWALL, CTX))
    await two_ways.until(waiting.done, step=1.0)
    answer = waiting.result()
    assert isinstance(answer, Quote)
    assert suppliers(answer) == ["left", "dear", "right"]


async def test_where_nobody_gives_a_quote_the_reasons_are_told_as_those_of_a_reservation(two_ways: Stack) -> None:
    async def full(*_: object) -> Qualification:
        reason = Reason(code=ReasonCode.CAPACITY, message="host 7 of dear is full", subject="f0")
        return Qualification(feasible=False, reasons=(reason,))

    for alias in ("cheap", "dear"):
        two_ways.line("top", alias).always["quote"] = full
    answer = await two_ways.customer().quote(FIREWALL, CTX)
    assert isinstance(answer, Qualification)
    assert {reason.code for reason in answer.reasons} == {ReasonCode.SEGMENT_REFUSED}
    assert {reason.segment for reason in answer.reasons} == {"cheap.1", "dear.1"}
    assert all(reason.incident_id and reason.causes[0].code is ReasonCode.CAPACITY for reason in answer.reasons)
    assert "host 7" not in repr(answer)


async def test_a_quote_is_kept_through_four_providers_whatever_prices_become(aurora: Stack) -> None:
    quote = await quoted(aurora, AURORA_CHAIN)
    for vim in aurora.vims():
        raise_prices(vim, 3)
    aurora.announce_all()
    for name in aurora.nodes:
        await aurora.restart(name)
    answer = await by_quote(aurora, quote, AURORA_CHAIN)
    assert isinstance(answer, Reserved)
    assert answer.price == quote.price
    costs = [(o.price, o.cost) for node in aurora.nodes.values() for o in node.broker.orders()]
    assert all(price.per_hour >= cost.per_hour for price, cost in costs)
    await aurora.customer().commit("r", 1, CONFIRM, CTX)
    await aurora.until(lambda: aurora.state() is ServiceState.ACTIVE, step=0.5)


async def test_another_accounts_quote_is_none(two_ways: Stack) -> None:
    quote = await quoted(two_ways)
    answer = await two_ways.customer("bob").reserve("r", 1, FIREWALL, replace(CTX, quote=quote.id))
    assert isinstance(answer, Refused)
    assert answer.reasons[0].code is ReasonCode.QUOTE_NOT_VALID


async def test_what_was_quoted_is_refused_and_another_way_costs_the_customer_no_more(two_ways: Stack) -> None:
    two_ways.nodes["top"].terms = replace(two_ways.nodes["top"].terms, margin=Decimal(3))
    quote = await quoted(two_ways)
    two_ways.line("top", "cheap").always["reserve"] = refuses(ReasonCode.CAPACITY)
    answer = await by_quote(two_ways, quote)
    assert isinstance(answer, Reserved)
    assert [part.alias for part in answer.segments if part.functions and part.alias == "dear.1"]
    assert answer.price == quote.price


async def test_where_every_other_way_costs_us_more_than_was_quoted_it_is_refused_for_its_price(two_ways: Stack) -> None:
    quote = await quoted(two_ways)
    two_ways.line("top", "cheap").always["reserve"] = refuses(ReasonCode.CAPACITY)
    answer = await by_quote(two_ways, quote)
    assert isinstance(answer, Refused)
    refused, price = answer.reasons
    assert (refused.code, price.code) == (ReasonCode.SEGMENT_REFUSED, ReasonCode.PRICE)
    assert price.nogood is not None
    assert price.nogood.alternative is not None
    assert price.nogood.alternative.price.per_hour > quote.price.per_hour
    await two_ways.ends_empty()


async def test_a_supplier_that_forgot_its_quote_is_asked_at_todays_price_and_the_customers_stays(
    two_ways: Stack,
) -> None:
    two_ways.nodes["top"].terms = replace(two_ways.nodes["top"].terms, margin=Decimal(3))
    quote = await quoted(two_ways)
    raise_prices(two_ways.vim("c"), 2)
    two_ways.announce("cheap")
    two_ways.line("top", "cheap").next("reserve", refuses(ReasonCode.QUOTE_NOT_VALID))
    answer = await by_quote(two_ways, quote)
    assert isinstance(answer, Reserved)
    assert answer.price == quote.price
    assert [line for line in two_ways.line("top", "cheap").calls if line[0] == "reserve"][-1][2] == 2


async def test_parts_are_told_and_quotes_are_counted_as_the_agreement_says(two_ways: Stack) -> None:
    node = two_ways.nodes["top"]
    node.terms = replace(node.terms, show_segments=False, max_quotes=1, quote_s=60)
    quote = await quoted(two_ways)
    assert quote.segments == ()
    assert 50 <= quote.remaining_s <= 60
    more = await two_ways.customer().quote(FIREWALL, CTX)
    assert isinstance(more, Qualification)
    assert more.reasons[0].code is ReasonCode.QUOTA
    await two_ways.pass_time(quote.remaining_s)
    assert (await quoted(two_ways)).id != quote.id


async def test_quotes_that_are_asked_for_at_once_are_counted_too(two_ways: Stack) -> None:
    node = two_ways.nodes["top"]
    node.terms = replace(node.terms, max_quotes=2)
    answers = await asyncio.gather(*(two_ways.customer().quote(FIREWALL, CTX) for _ in range(5)))
    refused = [a.reasons[0].code for a in answers if isinstance(a, Qualification)]
    assert refused == [ReasonCode.QUOTA] * 3


async def test_levels_and_calls_are_used_up_by_questions_as_by_orders(aurora: Stack) -> None:
    for ctx in (Context(hop_budget=2), Context(call_budget=3)):
        answer = await aurora.customer().quote(AURORA_CHAIN, ctx)
        assert isinstance(answer, Qualification)
        assert {c.code for r in answer.reasons for c in r.causes} & {ReasonCode.SEGMENT_REFUSED, ReasonCode.CALL_BUDGET}


@pytest.mark.parametrize("asks", ["reserve", "qualify"])
async def test_what_cannot_be_had_names_what_binds_and_the_nearest_that_can(two_ways: Stack, asks: str) -> None:
    tight = replace(FIREWALL, max_delay_us=1000)
    if asks == "qualify":
        reasons = (await two_ways.customer().qualify(tight, CTX)).reasons
    else:
        answer = await two_ways.customer().reserve("r", 1, tight, CTX)
        assert isinstance(answer, Refused)
        reasons = answer.reasons
    (reason,) = reasons
    assert reason.code is ReasonCode.DELAY
    assert reason.nogood is not None
    nearest = reason.nogood.alternative
    assert nearest is not None
    assert nearest.gives == (ReasonCode.DELAY,)
    within = replace(FIREWALL, max_delay_us=nearest.delay_us)
    held = await two_ways.customer().reserve("near", 1, within, CTX)
    assert isinstance(held, Reserved)
    assert (held.price, held.delay_us) == (nearest.price, nearest.delay_us)


async def test_where_several_bind_together_the_nearest_says_that_it_keeps_none_of_them(two_ways: Stack) -> None:
    answer = await two_ways.customer().qualify(replace(FIREWALL, max_delay_us=1000, max_price=Decimal(1)), CTX)
    assert {reason.code for reason in answer.reasons} == {ReasonCode.DELAY, ReasonCode.PRICE}
    for reason in answer.reasons:
        assert reason.nogood is not None
        assert reason.nogood.alternative is not None
        assert set(reason.nogood.alternative.gives) == {ReasonCode.DELAY, ReasonCode.PRICE}


async def test_a_bound_on_the_price_is_one_on_what_the_customer_pays(two_ways: Stack) -> None:
    """Our margin is between what suppliers ask and what is allowed: nothing is held that is refused for it afterwards."""
    price = (await quoted(two_ways)).price
    just = price.over(FIREWALL.term_hours)
    assert (await two_ways.customer().qualify(replace(FIREWALL, max_price=just), CTX)).feasible
    less = replace(FIREWALL, max_price=just - Decimal("0.01"))
    answer = await two_ways.customer().reserve("r", 1, less, CTX)
    assert isinstance(answer, Refused)
    assert [reason.code for reason in answer.reasons] == [ReasonCode.PRICE]
    assert f"best {just}" in answer.reasons[0].message
    assert two_ways.line("top", "left").count("reserve") == 0


# Dearer than announced --------------------------------------------------------------------------------------------------


async def test_who_asks_more_than_it_announced_is_given_up_for_who_asks_less(two_ways: Stack) -> None:
    raise_prices(two_ways.vim("c"), 5)  # its broker announces what was
    two_ways.announce("cheap")
    answer = await two_ways.customer().reserve("r", 1, FIREWALL, CTX)
    assert isinstance(answer, Reserved)
    assert [part.alias for part in answer.segments] == ["left.1", "dear.1", "right.1"]
    assert two_ways.nodes["top"].dearer == ["cheap"]
    assert two_ways.line("top", "cheap").count("reserve") == 1
    assert two_ways.line("top", "cheap").count("release") == 1
    await two_ways.customer().terminate("r", CTX)
    await two_ways.ends_empty()


async def test_who_asks_more_and_is_still_the_best_keeps_what_it_holds(two_ways: Stack) -> None:
    vim = two_ways.vim("c")
    ways = tuple(replace(w, price=Price(per_hour=w.price.per_hour * 2)) for w in vim.domain.ways)
    vim.reconfigure(replace(vim.domain, ways=ways))
    two_ways.announce("cheap")
    answer = await two_ways.customer().reserve("r", 1, FIREWALL, CTX)
    assert isinstance(answer, Reserved)
    assert [two_ways.line("top", alias).count("reserve") for alias in ("left", "cheap", "dear", "right")] == [
        1,
        1,
        0,
        1,
    ]
    assert sum(two_ways.line("top", alias).count("release") for alias in ("left", "cheap", "dear", "right")) == 0
    assert two_ways.nodes["top"].dearer == ["cheap"]


async def test_where_all_ask_more_the_search_ends_and_all_but_one_is_given_back(two_ways: Stack) -> None:
    for name in ("c", "d"):
        raise_prices(two_ways.vim(name), 5)
    for name in ("cheap", "dear"):
        two_ways.announce(name)
    answer = await two_ways.customer().reserve("r", 1, FIREWALL, CTX)
    assert isinstance(answer, Reserved)
    await two_ways.customer().terminate("r", CTX)
    await two_ways.ends_empty()
