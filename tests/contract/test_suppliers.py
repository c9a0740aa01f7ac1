"""One contract, many suppliers: a local domain, a broker over it, a broker over brokers, and a broker over real sockets.

Every test is a rule of `lower_sp_clients.supplier` or of the table in `lower_sp_clients.versions`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from address_planner.labels import LabelSet
from broker.northbound.auth import thumbprint
from lower_sp_clients.remote_sp import RemoteSp
from lower_sp_clients.supplier import Context, Interest, ServiceNotFound, Supplier
from service_model.outcomes import (
    AddressingChoice,
    Committed,
    Event,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
)
from service_model.path_headers import PathHeader
from service_model.quotes import Qualification, Quote
from service_model.spec import Blocks, ServiceSpec
from service_model.words import Prefix
from tests.support.api_node import ApiNode
from tests.support.stack import POOL, Site, Sp, Stack, chain

CTX = Context()
BLOCKS = Blocks(allowed=(POOL.prefix,))
VLANS = LabelSet(((10, 14),))


@dataclass
class Bench:
    """The supplier under test, over a stack whose one domain is `s1`; `spec` can be made there."""

    stack: Stack
    supplier: Supplier
    spec: ServiceSpec

    def other(self) -> ServiceSpec:
        return replace(self.spec, name="another")

    def impossible(self) -> ServiceSpec:
        return replace(self.spec, bandwidth_bps=10**12)

    async def reserve(self, ref: str = "r", version: int = 1, spec: ServiceSpec | None = None) -> Reserved | Refused:
        return await self.supplier.reserve(ref, version, spec or self.spec, CTX)

    async def quoted(self, spec: ServiceSpec | None = None) -> Quote:
        answer = await self.supplier.quote(spec or self.spec, CTX)
        assert isinstance(answer, Quote), answer
        return answer

    async def by_quote(self, quote: str, ref: str = "r", spec: ServiceSpec | None = None) -> Reserved | Refused:
        return await self.supplier.reserve(ref, 1, spec or self.spec, replace(CTX, quote=quote))

    def raise_prices(self) -> None:
        """Everything in the one domain costs twice as much from now on, and that is announced."""
        vim = self.stack.vim("s1")
        ways = tuple(replace(w, price=w.price + w.price) for w in vim.domain.ways)
        functions = tuple(
            replace(f, flavours=tuple(replace(x, price=x.price + x.price) for x in f.flavours))
            for f in vim.domain.functions
        )
        vim.reconfigure(replace(vim.domain, ways=ways, functions=functions))
        self.stack.announce_all()

    async def hold(self, ref: str = "r", version: int = 1) -> AddressingChoice:
        answer = await self.reserve(ref, version)
        assert isinstance(answer, Reserved), answer
        return answer.choice

    async def commit(self, ref: str = "r", version: int = 1) -> AddressingChoice:
        choice = await self.hold(ref, version)
        assert await self.supplier.commit(ref, version, choice, CTX) == Committed(ref=ref, version=version)
        return choice

    async def state(self, ref: str = "r") -> ServiceState:
        return (await self.supplier.status(ref, CTX)).state

    async def becomes(self, state: ServiceState, ref: str = "r") -> None:
        for _ in range(400):
            if await self.state(ref) is state:
                return
            await self.stack.turn()
            self.stack.clock.advance(0.1)
        raise AssertionError(f"did not become {state.short}: {self.stack.states()}")


def sp_over(levels: int) -> Sp:
    site = Site("s1", ("firewall", "meter"), uni=VLANS)
    sp = Sp("x1", (site,), pools=(POOL,))
    for level in range(2, levels + 1):
        sp = Sp(f"x{level}", (sp,), pools=(POOL,))
    return sp


def spec_at(sap: str) -> ServiceSpec:
    """A firewall between two ends at the same SAP."""
    return replace(chain(sap, sap, "firewall"), blocks=BLOCKS)


def over_sockets(stack: Stack, node: ApiNode) -> RemoteSp:
    tls = node.partner_tls()
    node.authenticator.certificates["sp-a"] = thumbprint(tls.certificate)
    node.suppliers["sp-a"] = stack.customer()  # type: ignore[assignment]
    return RemoteSp(node.partner_endpoint, "sp-a", tls=lambda: tls, verify=_no_notes, clock=node.clock)


def _no_notes(jws: str) -> Any:
    raise ValueError("no notes here")


@pytest.fixture(params=["local_vim", "broker", "broker_over_broker", "remote"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    levels = 2 if request.param == "broker_over_broker" else 1
    async with Stack(sp_over(levels), tmp_path) as stack:
        if request.param == "local_vim":
            yield Bench(stack, stack.vim("s1"), replace(spec_at("uni"), ends=spec_at("uni").ends))
        elif request.param == "remote":
            node = await ApiNode().start()
            remote = over_sockets(stack, node)
            yield Bench(stack, remote, spec_at("s1.uni"))
            await remote.close()
            await node.close()
        else:
            yield Bench(stack, stack.customer(), spec_at("s1.uni" if levels == 1 else "x1.s1.uni"))


def bare(answer: Reserved | Refused | Committed | None) -> object:
    """An answer without what time changes in it."""
    return replace(answer, remaining_s=0.0) if isinstance(answer, Reserved) else answer


def code(answer: Reserved | Refused | Committed) -> ReasonCode:
    assert isinstance(answer, Refused), answer
    return answer.reasons[0].code


async def test_a_hold_is_answered_with_choice_price_and_what_remains(bench: Bench) -> None:
    answer = await bench.reserve()
    assert isinstance(answer, Reserved)
    assert set(answer.choice.labels) == {"a", "b"}
    assert len(set(answer.choice.labels.values())) == 2
    assert 0 < answer.remaining_s <= 300
    assert answer.price.per_hour > 0
    assert await bench.state() is ServiceState.RESERVED


async def test_every_message_repeated_gets_the_identical_answer(bench: Bench) -> None:
    choice = await bench.hold()
    messages: list[Callable[[], Awaitable[Any]]] = [
        lambda: bench.reserve(),
        lambda: bench.reserve("no", 1, bench.impossible()),
        lambda: bench.supplier.commit("r", 1, choice, CTX),
        lambda: bench.supplier.release("r", 1, CTX),
        lambda: bench.supplier.terminate("r", CTX),
    ]
    for message in messages:
        first = bare(await message())
        assert bare(await message()) == first


async def test_the_same_version_with_another_body_is_key_reused(bench: Bench) -> None:
    await bench.hold()
    assert code(await bench.reserve("r", 1, bench.other())) is ReasonCode.KEY_REUSED
    assert await bench.state() is ServiceState.RESERVED


async def test_a_refused_version_with_another_body_is_key_reused(bench: Bench) -> None:
    assert isinstance(await bench.reserve("r", 1, bench.impossible()), Refused)
    assert code(await bench.reserve("r", 1, bench.spec)) is ReasonCode.KEY_REUSED


async def test_an_older_version_is_refused(bench: Bench) -> None:
    await bench.hold("r", 5)
    assert isinstance(await bench.reserve("r", 4), Refused)
    assert await bench.state() is ServiceState.RESERVED


async def test_a_released_version_is_refused_and_the_next_is_not(bench: Bench) -> None:
    await bench.hold()
    await bench.supplier.release("r", 1, CTX)
    assert await bench.state() is ServiceState.EXPIRED
    assert code(await bench.reserve("r", 1)) is ReasonCode.VERSION_RELEASED
    await bench.hold("r", 2)


async def test_a_release_that_overtakes_its_reservation_leaves_a_tombstone(bench: Bench) -> None:
    await bench.supplier.release("r", 2, CTX)
    with pytest.raises(ServiceNotFound):
        await bench.supplier.status("r", CTX)
    assert code(await bench.reserve("r", 2)) is ReasonCode.VERSION_RELEASED
    assert code(await bench.reserve("r", 1)) is ReasonCode.VERSION_RELEASED
    await bench.hold("r", 3)
    assert isinstance(await bench.reserve("r", 2), Refused)


async def test_a_terminate_that_overtakes_its_reservation_ends_every_version(bench: Bench) -> None:
    await bench.supplier.terminate("r", CTX)
    assert code(await bench.reserve("r", 1)) is ReasonCode.VERSION_RELEASED
    assert code(await bench.reserve("r", 99)) is ReasonCode.VERSION_RELEASED
    await bench.stack.ends_empty()


async def test_a_higher_version_replaces_a_hold_and_may_use_what_it_held(bench: Bench) -> None:
    whole = replace(bench.spec, bandwidth_bps=5 * 10**8)  # in and out at the same SAP: all that it has
    assert isinstance(await bench.reserve("r", 1, whole), Reserved)
    assert isinstance(await bench.reserve("other", 1, whole), Refused)
    assert isinstance(await bench.reserve("r", 2, replace(whole, name="next")), Reserved)
    status = await bench.supplier.status("r", CTX)
    assert (status.version, status.state) == (2, ServiceState.RESERVED)


async def test_a_refused_replacement_leaves_the_older_hold_and_can_be_asked_for_again(bench: Bench) -> None:
    await bench.hold()
    first = await bench.reserve("r", 2, bench.impossible())
    assert isinstance(first, Refused)
    assert await bench.reserve("r", 2, bench.impossible()) == first
    await bench.becomes(ServiceState.RESERVED)
    status = await bench.supplier.status("r", CTX)
    assert status.version == 1
    assert status.choice is not None
    assert isinstance(await bench.supplier.commit("r", 1, status.choice, CTX), Committed)


async def test_releasing_a_refused_replacement_frees_the_older_hold_too(bench: Bench) -> None:
    await bench.hold()
    assert isinstance(await bench.reserve("r", 2, bench.impossible()), Refused)
    await bench.becomes(ServiceState.RESERVED)
    await bench.supplier.release("r", 2, CTX)
    await bench.stack.ends_empty()


async def test_a_hold_is_extended_only_while_it_is_held(bench: Bench) -> None:
    await bench.hold()
    before = (await bench.supplier.status("r", CTX)).remaining_s
    bench.stack.clock.advance(100)
    answer = await bench.supplier.extend("r", 1, 250, CTX)
    assert isinstance(answer, Reserved)
    assert answer.remaining_s > before - 100
    assert isinstance(await bench.supplier.extend("r", 2, 250, CTX), Refused)
    assert isinstance(await bench.supplier.extend("none", 1, 250, CTX), Refused)
    await bench.supplier.release("r", 1, CTX)
    assert isinstance(await bench.supplier.extend("r", 1, 250, CTX), Refused)


async def test_a_hold_expires_by_itself_and_a_late_commit_is_refused(bench: Bench) -> None:
    choice = await bench.hold()
    await bench.stack.pass_time(310)
    assert code(await bench.supplier.commit("r", 1, choice, CTX)) is ReasonCode.HOLD_EXPIRED
    assert await bench.state() is ServiceState.EXPIRED
    await bench.stack.ends_empty()


async def test_a_hold_that_has_just_ended_cannot_be_committed_before_anybody_noticed(bench: Bench) -> None:
    choice = await bench.hold()
    bench.stack.clock.advance((await bench.supplier.status("r", CTX)).remaining_s)
    assert code(await bench.supplier.commit("r", 1, choice, CTX)) is ReasonCode.HOLD_EXPIRED


async def test_a_commit_repeated_long_after_is_still_committed(bench: Bench) -> None:
    choice = await bench.commit()
    await bench.stack.pass_time(400)
    assert await bench.supplier.commit("r", 1, choice, CTX) == Committed(ref="r", version=1)
    await bench.becomes(ServiceState.ACTIVE)


async def test_a_commit_with_other_bindings_is_refused(bench: Bench) -> None:
    choice = await bench.hold()
    wrong = replace(choice, labels={end: label + 1 for end, label in choice.labels.items()})
    assert isinstance(await bench.supplier.commit("r", 1, wrong, CTX), Refused)
    assert await bench.state() is ServiceState.RESERVED
    assert isinstance(await bench.supplier.commit("r", 1, choice, CTX), Committed)


async def test_a_commit_with_another_prefix_is_refused(bench: Bench) -> None:
    choice = await bench.hold()

    def moved(prefix: Prefix | None) -> Prefix | None:
        return None if prefix is None else next(p for p in prefix.supernet().subnets() if p != prefix)

    wrong = replace(choice, links=tuple(replace(x, prefix=moved(x.prefix)) for x in choice.links))
    assert isinstance(await bench.supplier.commit("r", 1, wrong, CTX), Refused)
    assert await bench.state() is ServiceState.RESERVED


async def test_a_path_header_is_confirmed_as_it_was_told_and_bound_so(bench: Bench) -> None:
    told = {"a": PathHeader(id=6, index=201, back_index=100), "b": PathHeader(id=6, index=200, back_index=101)}
    spec = replace(bench.spec, ends=tuple(replace(end, path_header=told[end.id]) for end in bench.spec.ends))
    held = await bench.reserve(spec=spec)
    assert isinstance(held, Reserved), held
    assert held.choice.path_headers == told
    other = replace(held.choice, path_headers={**told, "b": told["a"]})
    assert isinstance(await bench.supplier.commit("r", 1, other, CTX), Refused)
    assert await bench.state() is ServiceState.RESERVED
    assert await bench.supplier.commit("r", 1, held.choice, CTX) == Committed(ref="r", version=1)
    await bench.becomes(ServiceState.ACTIVE)
    status = await bench.supplier.status("r", CTX)
    assert status.choice is not None
    assert status.binding is not None
    assert status.choice.path_headers == status.binding.path_headers == told


async def test_what_was_never_held_cannot_be_committed(bench: Bench) -> None:
    assert isinstance(await bench.supplier.commit("r", 1, AddressingChoice(), CTX), Refused)
    choice = await bench.hold()
    assert isinstance(await bench.supplier.commit("r", 2, choice, CTX), Refused)


async def test_a_live_version_is_not_released(bench: Bench) -> None:
    choice = await bench.commit()
    await bench.becomes(ServiceState.ACTIVE)
    await bench.supplier.release("r", 1, CTX)
    assert await bench.state() is ServiceState.ACTIVE
    assert isinstance(await bench.supplier.commit("r", 1, choice, CTX), Committed)


@pytest.mark.parametrize("stage", ["refused", "held", "released", "expired", "committed", "active", "terminated"])
async def test_terminate_ends_a_service_in_every_state(bench: Bench, stage: str) -> None:
    if stage == "refused":
        await bench.reserve("r", 1, bench.impossible())
    elif stage in ("held", "released", "expired"):
        await bench.hold()
    else:
        await bench.commit()
    if stage == "released":
        await bench.supplier.release("r", 1, CTX)
    elif stage == "expired":
        await bench.stack.pass_time(310)
    elif stage in ("active", "terminated"):
        await bench.becomes(ServiceState.ACTIVE)
    if stage == "terminated":
        await bench.supplier.terminate("r", CTX)
    await bench.supplier.terminate("r", CTX)
    await bench.becomes(ServiceState.TERMINATED)
    await bench.stack.ends_empty()
    assert code(await bench.reserve("r", 7, bench.other())) is ReasonCode.VERSION_RELEASED


async def test_a_wish_to_heal_what_is_whole_changes_nothing_and_of_nothing_is_not_found(bench: Bench) -> None:
    await bench.commit()
    await bench.becomes(ServiceState.ACTIVE)
    before = await bench.supplier.status("r", CTX)
    await bench.supplier.heal("r", CTX)
    await bench.supplier.heal("r", CTX)
    assert await bench.supplier.status("r", CTX) == before
    with pytest.raises(ServiceNotFound):
        await bench.supplier.heal("nobody", CTX)


async def test_an_unknown_ref_is_not_found(bench: Bench) -> None:
    with pytest.raises(ServiceNotFound):
        await bench.supplier.status("nobody", CTX)


async def test_all_services_are_listed_in_order_of_creation_without_tombstones(bench: Bench) -> None:
    for ref in ("z", "a"):
        await bench.hold(ref)
        bench.stack.clock.advance(1)
    await bench.supplier.release("tombstone", 1, CTX)
    assert [s.ref async for s in bench.supplier.services(CTX)] == ["z", "a"]


async def test_a_watcher_gets_a_bookmark_first_and_then_every_state(bench: Bench) -> None:
    seen: list[Event] = []
    ready = asyncio.Event()

    async def watch() -> None:
        async with aclosing(bench.supplier.watch("")) as events:  # type: ignore[type-var]
            async for event in events:
                seen.append(event)
                ready.set()

    watcher = asyncio.create_task(watch())
    await ready.wait()
    assert seen[0].status is None
    await bench.commit()
    await bench.becomes(ServiceState.ACTIVE)
    await bench.supplier.terminate("r", CTX)
    await bench.becomes(ServiceState.TERMINATED)
    await bench.stack.until(lambda: seen[-1].status is not None and seen[-1].status.state is ServiceState.TERMINATED)
    watcher.cancel()
    states = [e.status.state.short for e in seen if e.status is not None]
    order = [s for i, s in enumerate(states) if s not in states[:i]]
    wanted = ["RESERVED", "ACTIVE", "TERMINATING", "TERMINATED"]
    assert [s for s in order if s in wanted] == wanted


async def test_a_watcher_hears_of_the_states_that_it_asked_for_and_no_more_of_them_than_it_wants(bench: Bench) -> None:
    ends = frozenset({ServiceState.ACTIVE, ServiceState.TERMINATED})
    async with aclosing(bench.supplier.watch("", Interest(states=ends, addressing=False))) as events:  # type: ignore[type-var]
        assert (await anext(events)).status is None, "a bookmark first, whatever was asked for"
        await bench.commit()
        await bench.becomes(ServiceState.ACTIVE)
        full = await bench.supplier.status("r", CTX)
        await bench.supplier.terminate("r", CTX)
        await bench.becomes(ServiceState.TERMINATED)
        seen: list[ServiceStatus] = []
        async with asyncio.timeout(60):
            while not seen or seen[-1].state is not ServiceState.TERMINATED:
                event = await anext(events)
                assert event.status is not None
                seen.append(event.status)
    assert {s.state for s in seen} == ends
    assert full.choice is not None
    assert full.binding is not None
    assert [(s.choice, s.binding) for s in seen] == [(None, None)] * len(seen)


async def test_who_comes_back_with_the_last_token_and_asks_after_the_bookmark_misses_nothing(bench: Bench) -> None:
    async with aclosing(bench.supplier.watch("")) as events:  # type: ignore[type-var]
        assert (await anext(events)).status is None
        choice = await bench.hold()
        seen = await anext(events)
    assert isinstance(await bench.supplier.commit("r", 1, choice, CTX), Committed)  # nobody watches meanwhile
    await bench.becomes(ServiceState.ACTIVE)
    async with aclosing(bench.supplier.watch(seen.token)) as events:  # type: ignore[type-var]
        assert (await anext(events)).status is None, "a bookmark first"
        assert await bench.state() is ServiceState.ACTIVE
        await bench.supplier.terminate("r", CTX)
        async with asyncio.timeout(60):
            async for event in events:
                if event.status is not None and event.status.state is ServiceState.TERMINATING:
                    break


async def test_two_who_ask_for_the_same_at_once_get_one_hold(bench: Bench) -> None:
    answers = await asyncio.gather(*(bench.reserve() for _ in range(3)))
    assert all(bare(a) == bare(answers[0]) for a in answers)
    assert isinstance(answers[0], Reserved)
    assert len(bench.stack.vim("s1").holds()) == 1


# Before anything is held -----------------------------------------------------------------------------------------------


async def test_what_qualifies_has_a_price_and_leaves_nothing(bench: Bench) -> None:
    answer = await bench.supplier.qualify(bench.spec, CTX)
    assert answer.feasible
    assert answer.reasons == ()
    assert answer.price is not None
    assert answer.price.per_hour > 0
    assert answer.delay_us > 0
    assert [s async for s in bench.supplier.services(CTX)] == []
    assert await bench.stack.busy() == []


async def test_what_does_not_qualify_is_told_why_as_a_reservation_is(bench: Bench) -> None:
    answer = await bench.supplier.qualify(bench.impossible(), CTX)
    assert (answer.feasible, answer.price) == (False, None)
    assert code(await bench.reserve(spec=bench.impossible())) in [reason.code for reason in answer.reasons]
    quote = await bench.supplier.quote(bench.impossible(), CTX)
    assert isinstance(quote, Qualification)
    assert not quote.feasible
    assert quote.reasons == answer.reasons


async def test_a_quote_holds_nothing_and_a_reservation_by_it_costs_exactly_that(bench: Bench) -> None:
    quote = await bench.quoted()
    assert quote.price.per_hour > 0
    assert 0 < quote.remaining_s <= 3600
    assert await bench.stack.busy() == []
    bench.raise_prices()
    by_quote, today = await bench.by_quote(quote.id), await bench.reserve("today")
    assert isinstance(by_quote, Reserved)
    assert isinstance(today, Reserved)
    assert by_quote.price == quote.price
    assert today.price.per_hour > quote.price.per_hour


async def test_names_tags_labels_and_prefixes_are_no_matter_of_the_price(bench: Bench) -> None:
    quote = await bench.quoted()
    ends = (replace(bench.spec.ends[0], suggested_label=11), *bench.spec.ends[1:])
    same = replace(bench.other(), tags=("new",), ends=ends, blocks=Blocks(allowed=(POOL.prefix,), excluded=()))
    answer = await bench.by_quote(quote.id, spec=same)
    assert isinstance(answer, Reserved)
    assert answer.price == quote.price


async def test_a_quote_counts_for_what_it_was_given_for_until_it_expires(bench: Bench) -> None:
    quote = await bench.quoted()
    more = replace(bench.spec, bandwidth_bps=bench.spec.bandwidth_bps + 1)
    assert code(await bench.by_quote("no-such-quote", "r1")) is ReasonCode.QUOTE_NOT_VALID
    assert code(await bench.by_quote(quote.id, "r2", more)) is ReasonCode.QUOTE_NOT_VALID
    bench.stack.clock.advance(quote.remaining_s)
    assert code(await bench.by_quote(quote.id, "r3")) is ReasonCode.QUOTE_NOT_VALID
    await bench.stack.tick()
    assert code(await bench.by_quote(quote.id, "r4")) is ReasonCode.QUOTE_NOT_VALID


async def test_the_quote_is_part_of_the_body(bench: Bench) -> None:
    quote = await bench.quoted()
    first = await bench.by_quote(quote.id)
    assert isinstance(first, Reserved)
    assert bare(await bench.by_quote(quote.id)) == bare(first)
    assert code(await bench.reserve()) is ReasonCode.KEY_REUSED
    assert code(await bench.by_quote("another")) is ReasonCode.KEY_REUSED
