"""IPv4, IPv6 or both: what a spec says of families, what pools and domains give of each, who is not asked for what he lacks."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from address_planner.labels import LabelSet
from address_planner.prefixes import PrefixTooSmall, overlap
from address_planner.stacks import Wanted, carve_stacks
from broker.cli.rendering import note_tables
from broker.decompose.plan import Infeasible, Plan, SupplierView
from broker.decompose.search import plan
from broker.orders.gather import violation
from broker.orders.pools import Pool, Pools
from lower_sp_clients.vim.choosing import choose
from lower_sp_clients.vim.domain import Domain, Usage
from lower_sp_clients.vim.driver import Blueprint, DriverError, Network
from lower_sp_clients.vim.linux.namespaces import has_ipv6, write_sysctl
from lower_sp_clients.vim.placing import Impossible
from lower_sp_clients.vim.simulated import SimulatedDriver
from service_model.families import ANY_FAMILY, FIXED_PORTS, AddressFamily, families_of, versions
from service_model.outcomes import AddressingChoice, LinkChoice, Reason, ReasonCode
from service_model.spec import (
    AddressRole,
    Blocks,
    LinkAddressing,
    LinkKind,
    ReservedAddress,
    ServiceSpec,
    VirtualLink,
)
from tests.support.driver_bench import two_port
from tests.support.planning import NOW, chain_spec, entry, offer, point, sap, snapshot, view
from tests.support.sites import POOL, POOL6, Site, Sp, chain
from tests.support.stack import Stack

FOUR, SIX = (AddressFamily.IPV4,), (AddressFamily.IPV6,)
BLOCKS = Blocks(allowed=(ip_network("10.0.0.0/24"), ip_network("fd00::/64")))
SPEC = replace(chain("uni", "uni", "firewall", "firewall", lan=True), blocks=BLOCKS)


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return Stack(Sp("a", (Site("s1", ("firewall",), uni=LabelSet(((10, 19),))),)), tmp_path).nodes["a"].domains["s1"]


def addressed(spec: ServiceSpec, link: str, **addressing: Any) -> ServiceSpec:
    told = LinkAddressing(**addressing)
    return replace(spec, links=tuple(replace(x, addressing=told) if x.id == link else x for x in spec.links))


def networks(spec: ServiceSpec, *prefixes: str) -> ServiceSpec:
    first = replace(spec.ends[0], networks=tuple(map(ip_network, prefixes)))
    return replace(spec, ends=(first, *spec.ends[1:]))


# --- what a spec says ------------------------------------------------------------------------------------------------

V4, V6 = ip_network("172.20.0.0/24"), ip_network("2001:db8::/64")


@pytest.mark.parametrize(
    ("spec", "line", "lan"),
    [
        (SPEC, (), ()),
        (replace(SPEC, families=SIX), (6,), (6,)),
        (replace(SPEC, families=ANY_FAMILY[::-1]), (4, 6), (4, 6)),
        (networks(SPEC, str(V6)), (6,), (6,)),
        (addressed(networks(SPEC, str(V6)), "l0", prefix=V4), (4, 6), (4, 6)),
        (addressed(SPEC, "mgmt", prefix=V4), (), (4,)),
        (addressed(replace(SPEC, families=SIX), "mgmt", prefix=V4), (6,), (4,)),
        (addressed(replace(SPEC, families=FOUR), "mgmt", prefix=V4, second_prefix=V6), (4,), (4, 6)),
    ],
)
def test_links_have_what_is_said_else_what_follows_from_networks_and_prefixes(
    spec: ServiceSpec, line: tuple[int, ...], lan: tuple[int, ...]
) -> None:
    assert spec.link_versions() == {"l0": line, "l1": line, "l2": line, "mgmt": lan}
    assert spec.versions_at("f0") == {*line, *lan}


def test_a_family_of_a_newer_release_is_passed_over() -> None:
    assert versions((AddressFamily.UNSPECIFIED, AddressFamily.IPV6)) == (6,)


def test_a_price_depends_on_whether_a_service_has_both_families() -> None:
    assert SPEC.priced().digest() != replace(SPEC, families=ANY_FAMILY).priced().digest()
    assert networks(SPEC, str(V4)).priced() == SPEC.priced()
    assert networks(SPEC, str(V4), str(V6)).priced() == replace(SPEC, families=ANY_FAMILY).priced()


# --- prefixes and blocks ---------------------------------------------------------------------------------------------


def test_each_family_is_carved_from_its_own_part() -> None:
    wanted = {"both": Wanted(1, (4, 6)), "six": Wanted(2, (6,)), "four": Wanted(2, (4,))}
    carved = carve_stacks(BLOCKS.allowed, (), wanted)
    assert {key: [p.version for p in prefixes] for key, prefixes in carved.items()} == {
        "both": [4, 6],
        "six": [6],
        "four": [4],
    }
    every = [p for prefixes in carved.values() for p in prefixes]
    assert not any(overlap(a, b) for a in every for b in every if a is not b)


def test_who_names_no_family_gets_one_of_the_first_there_is() -> None:
    assert [p.version for p in carve_stacks(BLOCKS.allowed, (), {"x": Wanted(1)})["x"]] == [4]
    assert [p.version for p in carve_stacks(BLOCKS.allowed[1:], (), {"x": Wanted(1)})["x"]] == [6]


def test_a_family_that_there_is_no_room_for_is_named() -> None:
    with pytest.raises(PrefixTooSmall, match=r"no room for x: 2 IPv6 addresses are needed"):
        carve_stacks(BLOCKS.allowed[:1], (), {"x": Wanted(1, (4, 6))})


def test_a_service_gets_a_block_of_each_family_and_gives_both_back() -> None:
    pools = Pools((POOL, POOL6), ())
    taken = pools.allocate("s", {4: 3, 6: 3})
    assert not isinstance(taken, Reason)
    assert [(name, block.version) for name, block in taken] == [("p", 4), ("p6", 6)]
    assert pools.allocate("s", {4: 3, 6: 3}) == taken
    blocks = {str(block) for _, block in taken}
    put, drop = pools.changes("s", set(), blocks, False, NOW)
    assert (len(put), drop) == (2, [])
    put, drop = pools.changes("s", blocks, set(), False, NOW)
    assert (put, len(drop)) == ([], 2)
    pools.stored(put, drop)
    assert pools.allocations() == ()


def test_where_one_family_has_no_pool_nothing_of_the_other_is_kept() -> None:
    pools = Pools((POOL,), ())
    refused = pools.allocate("s", {4: 3, 6: 3})
    assert isinstance(refused, Reason)
    assert (refused.code, refused.message) == (ReasonCode.NOT_ADDRESSABLE, "this provider has no IPv6 address pool")
    assert pools.allocations() == ()


def test_one_more_family_leaves_the_block_that_a_service_has_where_it_is_when_it_cannot_be_had() -> None:
    small = Pool(name="tiny", prefix=ip_network("fd00::/120"), block=126, quarantine=timedelta(0))
    pools = Pools((POOL, small), ())
    taken = pools.allocate("s", {4: 3})
    refused = pools.allocate("s", {4: 3, 6: 3})
    assert isinstance(refused, Reason)
    assert (refused.code, refused.message) == (
        ReasonCode.PREFIX_TOO_SMALL,
        "no pool gives blocks of 8 IPv6 addresses",
    )
    assert pools.allocate("s", {4: 3}) == taken


# --- what a domain chooses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [FOUR, SIX, ANY_FAMILY])
def test_a_domain_gives_each_link_a_prefix_of_each_family_and_each_port_an_address(
    domain: Domain, said: tuple[AddressFamily, ...]
) -> None:
    spec = replace(SPEC, families=said)
    choice = choose(domain, Usage(), spec, "k").addressing
    assert violation(spec, choice) is None
    for link in spec.links:
        found = choice.link(link.id)
        assert found is not None
        assert tuple(p.version for p in found.prefixes) == versions(said)
        assert all(len(found.all_addresses(port)) == len(said) for port in link.ports)
    assert {p.version for p in choice.reach["a"]} == set(versions(said))


def test_a_domain_whose_function_lacks_a_family_says_which(domain: Domain) -> None:
    plain = replace(domain, functions=tuple(replace(f, families=FOUR) for f in domain.functions))
    with pytest.raises(Impossible) as refused:
        choose(plain, Usage(), replace(SPEC, families=ANY_FAMILY), "k")
    (reason,) = refused.value.reasons
    assert (reason.code, reason.subject) == (ReasonCode.ADDRESS_FAMILY, "f0")
    assert reason.message == "function 'f0': eu.spbroker/firewall/1.0 forwards no IPv6 here"
    assert choose(plain, Usage(), replace(SPEC, families=FOUR), "k").addressing.links


def test_ports_get_the_addresses_that_are_stated_for_them(domain: Domain) -> None:
    stated = {"f0:mgmt": ("172.20.0.20", "2001:db8::20"), "f1:mgmt": ("172.20.0.10", "2001:db8::10")}
    reserved = tuple(
        ReservedAddress(role=AddressRole.PEER, address=ip_address(a), point=p)
        for p, both in stated.items()
        for a in both
    )
    spec = addressed(SPEC, "mgmt", prefix=V4, second_prefix=V6, reserved=reserved)
    choice = choose(domain, Usage(), spec, "k").addressing
    assert violation(spec, choice) is None
    found = choice.link("mgmt")
    assert found is not None
    assert {p: tuple(map(str, found.all_addresses(p))) for p in stated} == stated


# --- what is checked on the way up -----------------------------------------------------------------------------------

ONE = replace(chain("uni", "uni", "firewall"), families=ANY_FAMILY, blocks=BLOCKS)


def altered(domain: Domain, **changes: Any) -> AddressingChoice:
    choice = choose(domain, Usage(), ONE, "k").addressing
    first, *others = choice.links
    return replace(choice, links=(replace(first, **changes), *others), reach={})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"second_prefix": None, "second_addresses": {}}, "no IPv6 prefix was chosen"),
        ({"prefix": None, "addresses": {}, "second_prefix": None, "second_addresses": {}}, "no prefix was chosen"),
        ({"second_prefix": ip_network("fd99::/127")}, "prefix fd99::/127 is outside the allowed blocks"),
        ({"second_addresses": {"f0:in": ip_address("fd00::9")}}, "fd00::9 of f0:in is no host of"),
        ({"second_addresses": {}}, "no IPv6 address was chosen for f0:in"),
    ],
)
def test_an_answer_that_breaks_one_family_is_not_used(domain: Domain, changes: dict[str, Any], message: str) -> None:
    wrong = violation(ONE, altered(domain, **changes))
    assert wrong is not None
    assert (wrong.code, wrong.subject) == (ReasonCode.CONSTRAINT_VIOLATED, "l0")
    assert message in wrong.message


def test_a_family_that_was_not_asked_for_is_not_used(domain: Domain) -> None:
    wrong = violation(replace(ONE, families=FOUR), choose(domain, Usage(), ONE, "k").addressing)
    assert wrong is not None
    assert "is one too many" in wrong.message


def test_a_choice_tells_ipv4_first_and_the_rest_second() -> None:
    six, four = (LinkChoice(link="l", prefix=ip_network(p)).stacks[0] for p in ("fd00::/127", "10.0.0.0/31"))
    both = LinkChoice.stacked("l", (six, four))
    assert (str(both.prefix), str(both.second_prefix)) == ("10.0.0.0/31", "fd00::/127")
    assert str(LinkChoice.stacked("l", (six,)).prefix) == "fd00::/127"


# --- who is asked ----------------------------------------------------------------------------------------------------


def seller(alias: str, cost: int, families: tuple[AddressFamily, ...], **more: Any) -> SupplierView:
    """A UNI and one function `x` that forwards these (none: a note of an earlier release)."""
    made = replace(offer("x", f"{alias}p", cost), families=families)
    way = entry("uni", f"{alias}p", point(1, 1))
    return view(alias, [sap("uni", f"{alias}p"), sap("uni2", f"{alias}p")], [way, entry("uni2", f"{alias}p", point(1, 1))],
                [made], **more)  # fmt: skip


def joined(*views: SupplierView) -> list[SupplierView]:
    """Two sellers side by side, over one interconnect; the customer's SAPs are the first's."""
    out = []
    for here, there in zip(views, views[::-1], strict=True):
        place = here.note.saps[0].place
        to = sap("nni", place, to="ix", peer=there.sp_id, decides_labels=here is views[0])
        note = replace(
            here.note,
            saps=(*here.note.saps, to),
            matrix=(*here.note.matrix, entry("nni", place, point(1, 1)), entry("nni", "uni", point(1, 1)),
                    entry("nni", "uni2", point(1, 1))),
        )  # fmt: skip
        out.append(replace(here, note=note))
    return out


def asked(said: tuple[AddressFamily, ...], **more: Any) -> ServiceSpec:
    return chain_spec("cheap.uni", "cheap.uni2", ["x"], families=said, term_hours=1, **more)


def where(spec: ServiceSpec, *views: SupplierView) -> str | Reason:
    found = plan(spec, snapshot(*joined(*views)), NOW)
    if isinstance(found, Infeasible):
        return found.reasons[0]
    best: Plan = found[0]
    return next(s.alias for s in best.segments if "f0" in s.functions)


@pytest.mark.parametrize(
    ("cheap", "said", "expected"),
    [
        (FOUR, FOUR, "cheap"),
        (FOUR, SIX, "dear"),
        (FOUR, ANY_FAMILY, "dear"),
        (ANY_FAMILY, ANY_FAMILY, "cheap"),
        ((), SIX, "cheap"),
        ((), ANY_FAMILY, "dear"),
        (FOUR, (), "cheap"),
    ],
)
def test_a_function_is_planned_where_all_families_are_forwarded(
    cheap: tuple[AddressFamily, ...], said: tuple[AddressFamily, ...], expected: str
) -> None:
    assert where(asked(said), seller("cheap", 1, cheap), seller("dear", 9, ANY_FAMILY)) == expected


@pytest.mark.parametrize(
    ("dear", "said", "message"),
    [
        (FOUR, ANY_FAMILY, "function 'f0' needs IPv4 and IPv6: the best without forwards IPv4 alone, at cheap"),
        (FOUR, SIX, "function 'f0' needs IPv6: the best without forwards IPv4 alone, at cheap"),
    ],
)
def test_where_nobody_forwards_a_family_the_function_and_the_family_are_named(
    dear: tuple[AddressFamily, ...], said: tuple[AddressFamily, ...], message: str
) -> None:
    reason = where(asked(said), seller("cheap", 1, FOUR), seller("dear", 9, dear))
    assert isinstance(reason, Reason)
    assert (reason.code, reason.subject, reason.message) == (ReasonCode.ADDRESS_FAMILY, "f0", message)


def test_who_gave_one_family_at_a_time_is_not_asked_for_both() -> None:
    reason = where(asked(ANY_FAMILY), seller("cheap", 1, ()), seller("dear", 9, ()))
    assert isinstance(reason, Reason)
    assert (
        reason.message == "function 'f0' needs IPv4 and IPv6: the best without forwards one family at a time, at cheap"
    )


def test_a_lan_of_another_family_counts_for_its_functions() -> None:
    lan = VirtualLink(
        id="m", kind=LinkKind.LAN, points=("f0:mgmt",), addressing=LinkAddressing(prefix=ip_network("172.20.0.0/24"))
    )
    spec = asked(SIX, lans=[lan])
    assert where(spec, seller("cheap", 1, SIX), seller("dear", 9, ANY_FAMILY)) == "dear"


def test_who_does_not_keep_ports_addresses_is_not_asked_to() -> None:
    stated = ReservedAddress(role=AddressRole.PEER, address=ip_address("172.20.0.9"), point="f0:in")
    spec = addressed(asked(FOUR), "l0", prefix=ip_network("172.20.0.0/24"), reserved=(stated,))
    able = seller("dear", 9, FOUR, api_features=(FIXED_PORTS,))
    assert where(spec, seller("cheap", 1, FOUR), able) == "dear"
    reason = where(spec, seller("cheap", 1, FOUR), seller("dear", 9, FOUR))
    assert isinstance(reason, Reason)
    assert (reason.code, reason.subject) == (ReasonCode.FEATURE_NOT_OFFERED, FIXED_PORTS)


# --- kernels without IPv6 --------------------------------------------------------------------------------------------


def test_on_a_kernel_without_ipv6_nothing_of_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "ipv4").mkdir()
    assert not has_ipv6(tmp_path)
    write_sysctl("ipv6/disable", 1, tmp_path)
    write_sysctl("ipv4/forward", 1, tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["forward"]
    (tmp_path / "ipv6").mkdir()
    write_sysctl("ipv6/disable", 1, tmp_path)
    assert (tmp_path / "ipv6" / "disable").read_text() == "1"


async def test_a_driver_without_ipv6_builds_no_port_that_has_it() -> None:
    driver = SimulatedDriver([], versions=frozenset({4}))
    made = two_port("f", "forwarder", ("a", "10.0.0.1/24"), ("b", "10.0.1.1/24 fd00::1/64"))
    networks = (Network(id="a", mtu=1500), Network(id="b", mtu=1500))
    with pytest.raises(DriverError, match=r"function 'f': port 'east' has fd00::1, and there is no IPv6 here"):
        await driver.apply(Blueprint(segment="s", networks=networks, functions=(made,)))
    assert await driver.inventory() == ()


def test_a_note_shows_which_families_a_function_forwards() -> None:
    offers = [replace(offer(name, "p"), families=f) for name, f in (("x", ANY_FAMILY), ("y", SIX), ("z", ()))]
    out = io.StringIO()
    Console(file=out, width=200).print(note_tables(view("s", [sap("uni", "p")], (), offers).note))
    rows = [line.split() for line in out.getvalue().splitlines() if line.startswith("acme/")]
    assert [row[-2:] for row in rows[:2]] == [["4+6", "p"], ["6", "p"]]
    assert rows[2][-4:] == ["4", "or", "6", "p"]


def test_families_have_one_order() -> None:
    assert families_of({6, 4}) == ANY_FAMILY
