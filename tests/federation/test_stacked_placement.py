"""Constraints on where functions may be and what the way is like, kept by those below to whom they are handed down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lower_sp_clients.supplier import Context
from service_model.constraints import Countries, Distance, Group, GroupKind, GroupScope
from service_model.outcomes import Reason, ReasonCode, Refused, Reserved
from service_model.spec import ServiceSpec
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import Stack

APART, TOGETHER = GroupKind.ANTI_AFFINITY, GroupKind.AFFINITY
INNER = Sp("b", (Site("b1"), Site("b2", country="DE"), Site("b3")))
"""A transit whose inner domain is in Germany; what it announces is at its borders, in the Netherlands."""
AROUND = Sp("c", tuple(Site(f"c{n}", cost=9) for n in (1, 2, 3)))
"""The same way for more, through the Netherlands alone."""
NOT_DE = chain("s1.uni", "s3.uni", "firewall", "meter", countries=Countries(denied=("DE",)))


async def ask(stack: Stack, spec: ServiceSpec) -> Reserved | Refused:
    return await stack.customer().reserve("r", 1, spec, Context())


def told(answer: Reserved | Refused) -> set[tuple[ReasonCode, str]]:
    """Code and subject of all that was said, at every depth."""

    def all_of(reasons: tuple[Reason, ...]) -> Iterator[Reason]:
        for reason in reasons:
            yield reason
            yield from all_of(reason.causes)

    assert isinstance(answer, Refused), answer
    return {(r.code, r.subject) for r in all_of(answer.reasons)}


def over(*transits: Sp) -> Sp:
    return Sp("a", (Site("s1", ("firewall",)), Either(transits), Site("s3", ("meter",))), pools=(POOL,))


async def test_who_would_pass_through_a_country_that_is_denied_is_left_for_another(tmp_path: Path) -> None:
    async with Stack(over(INNER, AROUND), tmp_path) as stack:
        assert isinstance(await ask(stack, NOT_DE), Reserved)
        assert stack.line("a", "b").count("reserve") > 0, "it looked cheaper, and its borders are in no denied country"
        passed = [v.domain for v in stack.vims() if v.holds()]
        assert {p.country for domain in passed for p in domain.places} == {"NL"}
        assert {"s1", "s3"} < {domain.name for domain in passed}


async def test_without_another_way_the_country_is_named_and_nothing_is_held(tmp_path: Path) -> None:
    async with Stack(over(INNER), tmp_path) as stack:
        assert (ReasonCode.COUNTRY, "countries") in told(await ask(stack, NOT_DE))
        await stack.ends_empty()
        assert isinstance(await stack.customer().reserve("free", 1, chain("s1.uni", "s3.uni"), Context()), Reserved)


def below(site: Site) -> Sp:
    return Sp("a", (Site("s1"), Sp("b", (site,))), pools=(POOL,))


def by_host(kind: GroupKind) -> ServiceSpec:
    group = Group(id="pair", kind=kind, scope=GroupScope.HOST, functions=("f0", "f1"))
    return chain("s1.uni", "b.s2.uni", "firewall", "meter", groups=(group,))


@pytest.mark.parametrize(("kind", "hosts", "used"), [(APART, (8, 8), 2), (APART, (1, 8), 2), (TOGETHER, (1, 2), 1)])
async def test_a_domain_two_levels_down_keeps_functions_on_one_host_or_apart(
    tmp_path: Path, kind: GroupKind, hosts: tuple[int, ...], used: int
) -> None:
    async with Stack(below(Site("s2", ("firewall", "meter"), hosts=hosts)), tmp_path) as stack:
        assert isinstance(await ask(stack, by_host(kind)), Reserved)
        (hold,) = stack.vim("s2").holds()
        assert len(set(hold.hosts.values())) == used


@pytest.mark.parametrize(("kind", "hosts"), [(APART, (8,)), (TOGETHER, (1, 1))])
async def test_hosts_that_cannot_be_so_refuse_the_order(
    tmp_path: Path, kind: GroupKind, hosts: tuple[int, ...]
) -> None:
    async with Stack(below(Site("s2", ("firewall", "meter"), hosts=hosts)), tmp_path) as stack:
        assert (ReasonCode.AFFINITY, "pair") in told(await ask(stack, by_host(kind)))
        await stack.ends_empty()


async def test_a_host_that_was_taken_since_it_was_announced_is_refused_below(tmp_path: Path) -> None:
    """The note of two hosts is still with the one who plans; one of them is gone."""
    async with Stack(below(Site("s2", ("firewall", "meter"), hosts=(8, 8))), tmp_path) as stack:
        vim = stack.vim("s2")
        vim.reconfigure(replace(vim.domain, hosts={"S2": (16,)}))
        assert (ReasonCode.AFFINITY, "pair") in told(await ask(stack, by_host(APART)))
        await stack.ends_empty()


async def test_isolation_is_kept_at_every_level_or_refused(tmp_path: Path) -> None:
    isolated = ("macsec",)
    asked = chain("s1.uni", "b.s2.uni", "meter", isolation=isolated)
    top = Sp("a", (Site("s1", isolation=isolated), Sp("b", (Site("s2", ("meter",), isolation=isolated),))), (POOL,))
    async with Stack(top, tmp_path) as stack:
        assert isinstance(await ask(stack, asked), Reserved)
        for vim in stack.vims():
            (hold,) = vim.holds()
            assert hold.ways
            assert all(way.endswith("-f") for way in hold.ways), "only the fast ways are isolated"
    (tmp_path / "open").mkdir()
    top = Sp("a", (Site("s1", isolation=isolated), Sp("b", (Site("s2", ("meter",)),))), (POOL,))
    async with Stack(top, tmp_path / "open") as stack:
        assert (ReasonCode.ISOLATION, "isolation") in told(await ask(stack, asked))


async def test_a_distance_by_delay_is_kept_across_suppliers(tmp_path: Path) -> None:
    def within(us: int) -> ServiceSpec:
        distance = Distance(id="d", function="f1", to="f0", max_delay_us=us)
        return chain("s1.uni", "b.s2.uni", "firewall", "meter", distances=(distance,))

    top = Sp("a", (Site("s1", ("firewall",)), Sp("b", (Site("s2", ("meter",)),))), (POOL,))
    async with Stack(top, tmp_path) as stack:
        assert (ReasonCode.DISTANCE, "d") in told(await ask(stack, within(1999)))
        assert isinstance(await stack.customer().reserve("near", 1, within(2000), Context()), Reserved)
        assert [h.ways for name in ("s1", "s2") for h in stack.vim(name).holds()] == [
            ("uni-c", "to-s2-f"),
            ("to-s1-f", "uni-c"),
        ]
