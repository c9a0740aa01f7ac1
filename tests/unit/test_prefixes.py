"""Prefixes: what is carved is disjoint, inside and outside what it must be; hosts are hosts."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from address_planner.prefixes import (
    Prefix,
    PrefixTooSmall,
    aggregate,
    carve,
    host_bits,
    inside,
    is_usable,
    overlap,
    pick_hosts,
    subtract,
    usable,
)

nets = st.tuples(st.integers(0, 255), st.integers(24, 32)).map(
    lambda p: IPv4Network(((10 << 24) + (p[0] & ~((1 << (32 - p[1])) - 1)), p[1]))
)
several = st.lists(nets, max_size=5)


def addresses(prefixes: tuple[Prefix, ...] | list[IPv4Network]) -> set[int]:
    return {int(a) for p in prefixes for a in p}


@given(several, several)
def test_subtract_and_aggregate_are_set_difference_and_identity(a: list[IPv4Network], b: list[IPv4Network]) -> None:
    assert addresses(subtract(a, b)) == addresses(a) - addresses(b)
    assert addresses(aggregate(a)) == addresses(a)
    assert len(aggregate(a)) <= len(set(a))


@given(several, several, st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 5), max_size=6))
def test_what_is_carved_is_disjoint_inside_and_outside_what_is_excluded(
    allowed: list[IPv4Network], excluded: list[IPv4Network], wanted: dict[str, int]
) -> None:
    refused: PrefixTooSmall | None
    try:
        carved = carve(allowed, excluded, wanted)
    except PrefixTooSmall as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert refused.wanted in wanted
        assert refused.needed == sum(1 << bits for bits in wanted.values())
        return
    assert {k: p.max_prefixlen - p.prefixlen for k, p in carved.items()} == wanted
    assert not any(overlap(x, y) for x, y in itertools.combinations(carved.values(), 2))
    assert addresses(list(carved.values())) <= addresses(allowed) - addresses(excluded)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_one_block_of_the_next_power_of_two_always_holds_them_all(bits: list[int]) -> None:
    size = max(0, sum(1 << b for b in bits) - 1).bit_length()
    carved = carve([IPv4Network((10 << 24, 32 - size))], (), {str(i): b for i, b in enumerate(bits)})
    assert len(carved) == len(bits)


@given(st.integers(1, 200))
def test_a_link_has_room_for_its_hosts_and_is_no_larger_than_it_must(hosts: int) -> None:
    bits = host_bits(hosts)
    assert len(list(usable(IPv4Network((10 << 24, 32 - bits))))) >= hosts
    if bits > 1:
        assert len(list(usable(IPv4Network((10 << 24, 32 - bits + 1))))) < hosts


@pytest.mark.parametrize("text", ["10.0.0.0/29", "10.0.0.0/31", "10.0.0.0/32", "2001:db8::/125", "2001:db8::/127"])
def test_usable_addresses_are_those_that_a_port_may_have(text: str) -> None:
    prefix: Prefix = ip_network(text)
    assert set(usable(prefix)) == {a for a in prefix if is_usable(a, prefix)}


def test_hosts_are_picked_in_order_within_what_is_given_and_not_taken() -> None:
    prefix = ip_network("10.0.0.0/29")
    given_hosts = (ip_network("10.0.0.2/31"),)
    assert pick_hosts(prefix, given_hosts, [ip_address("10.0.0.2")], ["p"]) == {"p": ip_address("10.0.0.3")}
    with pytest.raises(PrefixTooSmall):
        pick_hosts(prefix, given_hosts, [ip_address("10.0.0.2")], ["p", "q"])


def test_families_never_overlap() -> None:
    four, six = ip_network("0.0.0.0/0"), ip_network("::/0")
    assert not overlap(four, six)
    assert not inside(four, six)
