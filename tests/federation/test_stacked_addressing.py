"""Brokers stacked on brokers: labels and prefixes that fit together at every level."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from address_planner.prefixes import inside, overlap
from broker.orders.gather import violation
from broker.orders.pools import Pool
from service_model.outcomes import (
    Committed,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
)
from service_model.spec import AddressRole, LinkAddressing, ReservedAddress
from tests.support.faults import alters
from tests.support.orders import CONFIRM, CTX, active, reserved
from tests.support.sites import AURORA, AURORA_CHAIN, POOL, Either, Site, Sp, chain
from tests.support.stack import Stack


async def test_nothing_of_a_service_overlaps_at_any_level(aurora: Stack) -> None:
    answer = await active(aurora)
    prefixes = [link.prefix for link in answer.choice.links if link.prefix is not None]
    assert len(prefixes) == 5
    assert not any(overlap(a, b) for a, b in itertools.combinations(prefixes, 2))
    addresses = [address for link in answer.choice.links for address in link.addresses.values()]
    assert len(addresses) == len(set(addresses))


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
