"""What notes tell of windows of time: never more than there is, and what is there in a free window is found."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from address_planner.labels import LabelSet
from broker.decompose.graph import Graph
from broker.decompose.plan import Snapshot
from broker.decompose.search import fits
from broker.decompose.timely import asked_for, timely
from capability_registry import payload
from capability_registry.abstraction import Abstraction, Disclosure, abstracted
from capability_registry.hysteresis import Change, change
from capability_registry.note import NOTE, CapabilityNote, Period
from capability_registry.periods import MOST, coarser, covering, telling, windows, within
from lower_sp_clients.supplier import Context
from lower_sp_clients.vim.local_vim import LocalVim
from service_model.outcomes import Reserved
from service_model.spec import Blocks, ServiceSpec
from service_model.window import Window
from tests.support.planning import entry, point, sap, snapshot, view
from tests.support.sites import POOL, Site, Sp, chain
from tests.support.stack import Stack

DAY = timedelta(days=1)
DAY0 = datetime(2026, 1, 1, tzinfo=UTC)
BLOCKS = Blocks(allowed=(ip_network("10.0.0.0/16"),))
MANY = LabelSet(((1000, 1999),))
CTX = Context()


def day(n: float) -> datetime:
    return DAY0 + n * DAY


def spec(
    start: float | None, end: float | None, bps: int = 10**6, *functions: str, a: str = "uni", b: str = "uni"
) -> ServiceSpec:
    at = {"start_time": None if start is None else day(start), "end_time": None if end is None else day(end)}
    return replace(chain(a, b, *functions), blocks=BLOCKS, bandwidth_bps=bps, **at)  # type: ignore[arg-type]


SITE = Site("s1", ("firewall", "meter"), uni=MANY, hosts=(2, 1))


async def held(vim: LocalVim, ref: str, asked: ServiceSpec) -> bool:
    return isinstance(await vim.reserve(ref, 1, asked, CTX), Reserved)


def test_ways_that_say_the_same_in_a_period_alone_keep_their_numbers() -> None:
    """Of two that always say the same one is kept; these do so from the first day on."""
    ways = (point(1, 1, bandwidth_bps=1), point(1, 1, bandwidth_bps=2))
    made = view("m", [sap("a", "P"), sap("b", "P")], [entry("a", "b", *ways)], [])
    told = replace(made.note, periods=(Period(start=day(1), ways={"a|b#0": 2}),))
    snap = snapshot(replace(made, note=told))
    later = timely(snap, Window(day(2), day(3)))
    always, then = Graph(snap), Graph(later)
    assert [always.between(n).point.bandwidth_bps for n in (0, 1)] == [1, 2]
    assert [then.between(n).point.bandwidth_bps for n in (0, 1)] == [2, 2]
    assert timely(later, Window(day(2), day(3))).suppliers == later.suppliers


moments = st.lists(st.integers(0, 9).map(day), max_size=5)
levels = st.lists(st.integers(0, 3), min_size=10, max_size=10)
"""What is taken on each of ten days."""


def most(taken: list[int], window: Window) -> int:
    days = [n for n in range(10) if window.overlaps(Window(day(n), day(n + 1)))]
    return max((taken[n] for n in days), default=0)


@given(moments, levels, st.integers(0, 9), st.integers(1, 10))
def test_of_two_windows_the_shorter_never_finds_less_and_what_is_found_is_the_least_of_a_window_around_it(
    at: list[datetime], taken: list[int], start: int, length: int
) -> None:
    told = telling(windows(at), lambda window: most(taken, window), max(taken))

    def found(window: Window) -> int:
        return next((says for wide, says in reversed(told) if wide.covers(window)), max(taken))

    asked = Window(day(start), day(min(10, start + length)))
    around = [w for w in windows(at) if w.covers(asked)]
    assert found(asked) == min([max(taken), *(most(taken, w) for w in around)])
    for shorter in (Window(asked.start, day(start + 1)), Window(asked.end - DAY, asked.end)):
        assert found(shorter) <= found(asked)


def test_so_many_windows_at_most() -> None:
    assert len(windows(day(n) for n in range(MOST))) == (MOST + 1) * (MOST + 2) // 2 - 1


def period(start: float | None, end: float | None, bps: int) -> Period:
    return Period(start=None if start is None else day(start), end=None if end is None else day(end), saps={"x": bps})


def test_coarser_periods_are_shorter_and_the_last_of_equal_ones_stays() -> None:
    fine = [period(0.5, None, 1), period(0.5, 3.5, 2), period(0.75, 3.2, 3), period(1.1, 1.9, 4), period(None, 2.5, 5)]
    assert coarser(fine, DAY) == (period(1, None, 1), period(1, 3, 3), period(None, 2, 5))
    assert coarser([period(1, 2, 6)], DAY) == (period(1, 2, 6),)


async def test_a_domain_tells_of_no_period_where_nobody_has_said_when(tmp_path: Path) -> None:
    async with Stack(Sp("a", (SITE,)), tmp_path) as stack:
        vim = stack.vim("s1")
        assert await held(vim, "r", spec(None, None, 10**6, "firewall"))
        note = vim.note().note
        assert note.periods == ()
        assert b"periods" not in payload.write(note)


async def test_what_is_taken_for_a_while_is_free_before_and_after_and_never_for_who_stays_longer(
    tmp_path: Path,
) -> None:
    async with Stack(Sp("a", (SITE,)), tmp_path) as stack:
        vim = stack.vim("s1")
        assert await held(vim, "q", spec(2, 4, 8 * 10**8, "firewall")) is False  # twice at one SAP
        assert await held(vim, "r", spec(2, 4, 4 * 10**8, "firewall"))
        note, now = vim.note().note, stack.clock.now()
        assert note.saps[0].bandwidth_bps == 2 * 10**8
        assert len(note.periods) == 2
        for start, end, free in ((None, 2, True), (0.5, 1.5, True), (4, None, True), (5, 9, True), (1, 2.5, False)):
            assert fits(note, spec(start, end, 4 * 10**8, "firewall"), now) is free
        assert not fits(note, spec(3, None, 4 * 10**8, "firewall"), now)
        assert not fits(note, spec(None, None, 4 * 10**8, "firewall"), now)


async def test_a_way_that_is_full_for_a_while_is_still_told(tmp_path: Path) -> None:
    async with Stack(Sp("a", (SITE,)), tmp_path) as stack:
        vim, now = stack.vim("s1"), stack.clock.now()
        assert await held(vim, "r", spec(2, 4, 10**9 // 4, "firewall"))
        assert await held(vim, "s", spec(2, 4, 10**9 // 4, "firewall"))
        assert not fits(vim.note().note, spec(2, 4, 10**6, "firewall"), now)
        assert fits(vim.note().note, spec(4, 6, 10**9 // 4, "firewall"), now)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_a_domain_announces_for_a_window_it_holds(tmp_path: Path, seed: int) -> None:
    """And most of what it holds in some window, it had announced."""
    draw, announced, possible = random.Random(seed), 0, 0
    async with Stack(Sp("a", (SITE,)), tmp_path) as stack:
        vim = stack.vim("s1")
        for n in range(60):
            asked = drawn(draw)
            told = fits(vim.note().note, asked, stack.clock.now())
            there = await held(vim, f"r{n}", asked)
            assert there or not told, (asked.start_time, asked.end_time)
            announced, possible = announced + told, possible + there
            if draw.random() < 0.5:
                await vim.terminate(f"r{draw.randrange(n + 1)}", CTX)
            if draw.random() < 0.2:
                await stack.pass_time(draw.choice([3600, 86400]), step=86400)
    assert possible > 10
    assert announced >= possible * 0.6


def drawn(draw: random.Random) -> ServiceSpec:
    """A function or two for some days to come."""
    start = draw.choice([None, *range(8)])
    end = draw.choice([None, *range(1 + (start or 0), 10)])
    bps = draw.choice([10**6, 10**8, 3 * 10**8])
    return spec(start, end, bps, *draw.choice([("firewall",), ("firewall", "meter")]))


@pytest.mark.parametrize("shown", list(Abstraction))
@pytest.mark.parametrize("seed", range(2))
async def test_whatever_is_announced_at_any_level_is_held(tmp_path: Path, seed: int, shown: Abstraction) -> None:
    """Over two levels, whatever an agreement shows of places: none that fits is refused."""
    draw, announced, possible = random.Random(f"{seed}/{shown}"), 0, 0
    sites = Site("s1", ("firewall",), uni=MANY, hosts=(2,)), Site("s2", ("meter",), uni=MANY, hosts=(1, 1))
    async with Stack(Sp("x2", (Sp("x1", sites, pools=(POOL,)),), pools=(POOL,)), tmp_path) as stack:
        for node in stack.nodes.values():
            node.terms = replace(node.terms, disclosure=Disclosure(abstraction=shown))
        for n in range(25):
            stack.announce_all()
            asked = replace(drawn(draw), blocks=Blocks())
            ends = tuple(replace(e, sap=f"x1.s{k}.uni") for k, e in enumerate(asked.ends, start=1))
            asked = replace(asked, ends=ends)
            note, now = stack.nodes["x2"].note("alice"), stack.clock.now()
            told = fits(note, asked, now)
            answer = await stack.customer().reserve(f"r{n}", 1, asked, CTX)
            assert isinstance(answer, Reserved) or not told, answer
            announced, possible = announced + told, possible + isinstance(answer, Reserved)
            if draw.random() < 0.4:
                await stack.customer().terminate(f"r{draw.randrange(n + 1)}", CTX)
            await stack.turn()
    assert announced >= 3
    assert announced <= possible


async def test_the_planner_takes_the_note_of_the_window_and_else_the_very_snapshot(tmp_path: Path) -> None:
    async with Stack(Sp("a", (SITE,)), tmp_path) as stack:
        vim, now = stack.vim("s1"), stack.clock.now()
        before = stack.nodes["a"].catalogue.snapshot
        assert timely(before, asked_for(spec(5, 6), now)) is before
        await held(vim, "r", spec(2, 4, 3 * 10**8))
        stack.announce("a")
        snapshot: Snapshot = stack.nodes["a"].catalogue.snapshot
        assert timely(snapshot, asked_for(spec(3, None), now)) is snapshot
        then = timely(snapshot, asked_for(spec(5, 6), now))
        assert then is timely(snapshot, asked_for(spec(5, None), now))
        assert then.suppliers[0].note.saps[0].bandwidth_bps == 10**9


async def noted(tmp_path: Path, *asked: ServiceSpec) -> CapabilityNote:
    """The note of a domain that holds these."""
    async with Stack(Sp("a", (SITE,)), tmp_path) as stack:
        for n, each in enumerate(asked):
            assert await held(stack.vim("s1"), f"r{n}", each)
        return stack.vim("s1").note().note


async def test_a_period_that_became_worse_is_told_at_once_and_one_that_became_better_when_it_has_lasted(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    one = await noted(tmp_path_factory.mktemp("one"), spec(2, 4, 3 * 10**8))
    more = await noted(tmp_path_factory.mktemp("more"), spec(2, 4, 3 * 10**8), spec(5, 6, 2 * 10**8))
    assert change(one, one, 0.1) is Change.SAME
    assert change(one, more, 0.1) is Change.LESS
    assert change(more, one, 0.1) is Change.SLIGHT
    past = replace(more, not_before=day(7), expires=day(8))
    over = tuple(p for p in more.periods if p.end is not None)
    assert over
    assert change(replace(more, periods=over), replace(past, periods=()), 0.1) is Change.SLIGHT


async def test_a_note_with_periods_is_read_as_it_was_written(tmp_path: Path) -> None:
    note = await noted(tmp_path, spec(2, 4, 3 * 10**8), spec(5, 6, 2 * 10**8, "firewall"))
    assert note.periods
    assert payload.read(payload.write(note), NOTE.validate_json) == note
    white = abstracted(note, Disclosure(), {})
    assert covering(white, Window(day(0), day(2))) is not None
    assert within(note, Window(day(3), day(6))) is note
