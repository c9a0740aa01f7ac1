"""Brokers stacked on brokers: services of IPv4, of IPv6 and of both, and customers' own addresses, at every level."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from address_planner.prefixes import overlap
from broker.bootstrap.running import drained
from broker.bootstrap.stuck_list import stuck_segments
from broker.orders.gather import violation
from lower_sp_clients.vim.holds import AllocationState
from service_model.families import ANY_FAMILY, DUAL_STACK, FIXED_PORTS, AddressFamily, versions
from service_model.outcomes import AddressingChoice, ReasonCode, Refused, Reserved
from service_model.quotes import Quote
from service_model.spec import AddressRole, LinkAddressing, ReservedAddress, ServiceSpec
from tests.support import administered as docs
from tests.support.orders import CTX, active, reserved
from tests.support.sites import AURORA, AURORA_CHAIN, POOL, POOL6, Site, Sp, chain
from tests.support.stack import Stack

FOUR, SIX = (AddressFamily.IPV4,), (AddressFamily.IPV6,)
STACKS = (FOUR, SIX, ANY_FAMILY)
DUAL = replace(AURORA, pools=(POOL, POOL6))


def of(families: tuple[AddressFamily, ...], spec: ServiceSpec = AURORA_CHAIN) -> ServiceSpec:
    return replace(spec, families=families)


def apart(choice: AddressingChoice, families: tuple[AddressFamily, ...]) -> None:
    """Every link has one prefix of each family, none overlaps another, no address is there twice."""
    assert all(tuple(p.version for p in link.prefixes) == versions(families) for link in choice.links)
    prefixes = [prefix for link in choice.links for prefix in link.prefixes]
    assert not any(overlap(a, b) for a, b in itertools.combinations(prefixes, 2))
    addresses = [address for link in choice.links for s in link.stacks for address in s.addresses.values()]
    assert len(addresses) == len(set(addresses))


@pytest.mark.parametrize("families", STACKS)
async def test_a_service_of_any_family_is_delivered_over_three_levels(
    tmp_path: Path, families: tuple[AddressFamily, ...]
) -> None:
    async with Stack(DUAL, tmp_path) as stack:
        answer = await active(stack, of(families))
        apart(answer.choice, families)
        for node in stack.nodes.values():
            for order in node.broker.orders():
                assert order.spec is not None
                assert order.choice is not None
                assert violation(order.spec, order.choice) is None
                assert order.spec.versions == versions(families)
        told: dict[str, set[object]] = {}
        for vim in stack.vims():
            for hold in vim.holds():
                assert hold.bindings is not None
                for link in hold.bindings.links:
                    if len(link.stacks) and link.link.startswith("l"):
                        told.setdefault(link.link, set()).add(link.prefixes)
        assert set(told) == {"l0", "l1", "l2", "l3"}
        assert all(len(said) == 1 for said in told.values()), "both sides of a link know the same prefixes"
        blocks = {a.pool: a.state for a in stack.broker("aurora").allocations()}
        assert len(blocks) == len(families)
        assert set(blocks.values()) == {AllocationState.LIVE}
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


@pytest.mark.parametrize("families", STACKS)
async def test_both_blocks_are_there_after_a_restart_and_given_back_at_the_end(
    tmp_path: Path, families: tuple[AddressFamily, ...]
) -> None:
    async with Stack(DUAL, tmp_path) as stack:
        await active(stack, of(families))
        before = {(a.pool, a.value, a.owner) for a in stack.broker("aurora").allocations()}
        await stack.restart("aurora")
        assert {(a.pool, a.value, a.owner) for a in stack.broker("aurora").allocations()} == before
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()
        await stack.pass_time(60)
        assert stack.broker("aurora").allocations() == ()


async def test_what_is_told_of_a_service_of_both_families_names_what_it_has_of_each(tmp_path: Path) -> None:
    patient = Stack(DUAL, tmp_path)
    patient.nodes["aurora"].stuck_after = timedelta(minutes=10)
    async with patient as stack:
        await active(stack, of(ANY_FAMILY))
        vim = next(vim for vim in stack.nodes["notos"].vims.values() if any(h.choice for h in vim.holds()))
        pools = stack.broker("notos").pools
        site = docs.domain(vim.domain.name, saps=[{"id": "x", "role": "UNI", "place": "zrh"}], links=[])
        for pool in (POOL, POOL6):
            (kept,) = drained(docs.administered({**site, "excluded": [str(pool.prefix)]}), {site["name"]: vim}, pools)
            assert (kept.name, kept.field) == (site["name"], "excluded")
            assert kept.reason.endswith("in use until they are given back, and not taken again")
        blocks = {a.value for a in stack.broker("aurora").allocations()}
        await stack.stop("notos")
        await stack.customer().terminate("r", CTX)
        await stack.pass_time(720)
        (one,) = stuck_segments(stack.broker("aurora").orders(), stack.nodes["aurora"].catalogue.listing)
        assert set(one.block.split(", ")) == blocks
        assert len(blocks) == 2
        await stack.start("notos")
        await stack.ends_empty(step=2.0)


async def test_a_hold_that_is_replaced_by_one_of_both_families_keeps_its_block(tmp_path: Path) -> None:
    async with Stack(DUAL, tmp_path) as stack:
        one = await reserved(stack, of(FOUR))
        both = await reserved(stack, of(ANY_FAMILY), version=2)
        apart(both.choice, ANY_FAMILY)
        blocks = [(a.pool, a.state) for a in stack.broker("aurora").allocations()]
        assert sorted(blocks) == [("prefixes/p", AllocationState.HELD), ("prefixes/p6", AllocationState.HELD)]
        assert {p for link in one.choice.links for p in link.prefixes} == {link.prefix for link in both.choice.links}
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()
        assert stack.broker("aurora").allocations() == ()


async def test_without_a_pool_of_a_family_the_order_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    async with Stack(AURORA, tmp_path) as stack:
        answer = await stack.customer().reserve("r", 1, of(ANY_FAMILY), CTX)
        assert isinstance(answer, Refused)
        assert [r.message for r in answer.reasons] == ["this provider has no IPv6 address pool"]
        await stack.ends_empty()
        assert stack.broker("aurora").allocations() == ()
        assert isinstance(await stack.customer().reserve("s", 1, of(FOUR), CTX), Reserved)


async def test_a_quote_for_both_families_is_one_to_order_by(tmp_path: Path) -> None:
    async with Stack(DUAL, tmp_path) as stack:
        quote = await stack.customer().quote(of(ANY_FAMILY), CTX)
        assert isinstance(quote, Quote)
        held = await stack.customer().reserve("r", 1, of(ANY_FAMILY), replace(CTX, quote=quote.id))
        assert isinstance(held, Reserved)
        assert held.price == quote.price
        other = await stack.customer().reserve("s", 1, of(FOUR), replace(CTX, quote=quote.id))
        assert isinstance(other, Refused)
        assert other.reasons[0].code is ReasonCode.QUOTE_NOT_VALID


def two(families: tuple[AddressFamily, ...]) -> Sp:
    """A firewall of ours, and a meter two levels down that forwards these families alone."""
    below = Sp("b", (Sp("c", (Site("s2", ("meter",), families=families, uni=LabelSet(((10, 19),))),)),))
    return Sp("a", (Site("s1", ("firewall",), uni=LabelSet(((10, 19),))), below), (POOL, POOL6))


CHAIN = chain("s1.uni", "b.c.s2.uni", "firewall", "meter")


async def test_a_family_that_nobody_forwards_is_refused_from_what_was_announced_two_levels_down(tmp_path: Path) -> None:
    async with Stack(two(FOUR), tmp_path) as stack:
        answer = await stack.customer().reserve("r", 1, of(ANY_FAMILY, CHAIN), CTX)
        assert isinstance(answer, Refused)
        assert [(r.code, r.subject) for r in answer.reasons] == [(ReasonCode.ADDRESS_FAMILY, "f1")]
        assert "the best without forwards IPv4 alone, at b" in answer.reasons[0].message
        assert stack.line("a", "b").count("reserve") == 0, "nobody was asked"
        apart((await active(stack, of(FOUR, CHAIN), "s")).choice, FOUR)


async def test_networks_of_both_families_make_a_service_of_both(tmp_path: Path) -> None:
    """And a segment that has both says so, so that nobody reads half of it."""
    behind = (ip_network("192.168.1.0/24"), ip_network("2001:db8:1::/48"))
    spec = replace(CHAIN, ends=(replace(CHAIN.ends[0], networks=behind), CHAIN.ends[1]))
    async with Stack(two(ANY_FAMILY), tmp_path) as stack:
        answer = await active(stack, spec)
        apart(answer.choice, ANY_FAMILY)
        assert set(behind) < set(answer.choice.reach["a"])
        (order,) = stack.broker("b").orders()
        assert order.spec is not None
        assert DUAL_STACK in order.spec.required_features


def stated(*points: tuple[str, str], role: AddressRole = AddressRole.PEER) -> tuple[ReservedAddress, ...]:
    return tuple(ReservedAddress(role=role, address=ip_address(a), point=p) for p, a in points)


async def test_addresses_that_the_customer_states_are_those_of_its_ends_and_of_functions_ports(tmp_path: Path) -> None:
    """Of both families, on a link at an end and on a LAN whose ports are in segments of different suppliers."""
    top = replace(
        two(ANY_FAMILY),
        parts=(
            Site("s1", ("firewall", "shaper"), uni=LabelSet(((10, 19),))),
            *two(ANY_FAMILY).parts[1:],
        ),
    )
    access = (("a", "172.20.0.9"), ("f0:in", "172.20.0.7"), ("a", "2001:db8::9"), ("f0:in", "2001:db8::7"))
    ports = (("f0:mgmt", "172.21.0.30"), ("f1:mgmt", "172.21.0.20"), ("f2:mgmt", "172.21.0.10"))
    told = {
        "l0": LinkAddressing(
            prefix=ip_network("172.20.0.0/24"), second_prefix=ip_network("2001:db8::/64"), reserved=stated(*access)
        ),
        "mgmt": LinkAddressing(prefix=ip_network("172.21.0.0/24"), reserved=stated(*ports)),
    }
    spec = chain("s1.uni", "b.c.s2.uni", "firewall", "shaper", "meter", lan=True, families=ANY_FAMILY)
    spec = replace(spec, links=tuple(replace(x, addressing=told.get(x.id, x.addressing)) for x in spec.links))
    async with Stack(top, tmp_path) as stack:
        answer = await active(stack, spec)
        found = {link.link: link for link in answer.choice.links}
        assert {(p, str(a)) for s in found["l0"].stacks for p, a in s.addresses.items()} == set(access)
        assert {(p, str(a)) for p, a in found["mgmt"].addresses.items()} == set(ports)
        assert found["mgmt"].second_prefix is None, "a LAN whose prefix is stated has that one's family"
        assert [x.prefix.version for x in (found["l1"], found["l2"]) if x.prefix] == [4, 4]
        (hold,) = stack.vim("s1").holds()
        assert hold.spec is not None
        assert FIXED_PORTS in hold.spec.required_features
        blueprint = {
            str(i) for vim in stack.vims() for h in vim.holds() if h.bindings for x in h.bindings.links
            for s in x.stacks for i in s.addresses.values()
        }  # fmt: skip
        assert {a for _, a in (*access, *ports)} <= blueprint


async def test_customers_with_the_same_addresses_are_served_side_by_side_each_with_its_own_label(
    tmp_path: Path,
) -> None:
    """Everything that a customer brings is the same for both: networks, prefix and addresses at the end. Only labels differ."""
    told = LinkAddressing(
        prefix=ip_network("172.20.0.0/30"),
        second_prefix=ip_network("2001:db8::/126"),
        reserved=stated(("a", "172.20.0.2"), ("f0:in", "172.20.0.1"), ("a", "2001:db8::2"), ("f0:in", "2001:db8::1")),
    )
    behind = (ip_network("192.168.0.0/16"), ip_network("fd00:192::/32"))

    def customer(vlan: int) -> ServiceSpec:
        first = replace(CHAIN.ends[0], networks=behind, labels=LabelSet.of([vlan]))
        links = tuple(replace(x, addressing=told) if x.id == "l0" else x for x in CHAIN.links)
        return replace(CHAIN, ends=(first, CHAIN.ends[1]), links=links, families=ANY_FAMILY)

    async with Stack(two(ANY_FAMILY), tmp_path) as stack:
        one, other = await active(stack, customer(11), "r1"), await active(stack, customer(12), "r2")
        assert (one.choice.labels["a"], other.choice.labels["a"]) == (11, 12)
        first, second = one.choice.link("l0"), other.choice.link("l0")
        assert first is not None
        assert second is not None
        assert first.stacks == second.stacks
        assert one.choice.reach["a"] == other.choice.reach["a"]
        inner = [p for x in (one, other) for link in x.choice.links if link.link != "l0" for p in link.prefixes]
        assert not any(overlap(p, cut) for p in inner for cut in (*behind, *told.prefixes))
        assert not any(overlap(x, y) for x, y in itertools.combinations(inner, 2))
        third = await stack.customer().reserve("r3", 1, customer(12), CTX)
        assert isinstance(third, Refused), "a label is one customer's"
        assert third.reasons[0].code in (
            ReasonCode.LABEL_TAKEN,
            ReasonCode.LABELS_EXHAUSTED,
            ReasonCode.SEGMENT_REFUSED,
        )
