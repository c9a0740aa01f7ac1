"""The algebra of addressing constraints: what is narrowed admits what both admit, in whatever order, and no more."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from address_planner.adjacencies import Adjacencies
from address_planner.constraints import Constraint, Contradiction, EndConstraint, LinkConstraint, PortConstraint
from address_planner.labels import LabelSet
from address_planner.macs import ANY_MAC, MacSet
from address_planner.prefix_sets import EVERYWHERE, NOWHERE, PrefixSet
from address_planner.prefixes import Prefix

V4, V6 = IPv4Network("10.0.0.0/28"), IPv6Network("fd00::/124")
ALL: tuple[Prefix, ...] = tuple(p for pool in (V4, V6) for more in range(5) for p in pool.subnets(more))
"""Every prefix of two small pools: so that what a constraint admits can be listed."""
HOSTS = [a for pool in (V4, V6) for a in pool]

prefixes = st.sampled_from(ALL)
prefix_sets = st.lists(prefixes, max_size=5).map(PrefixSet.of) | st.just(EVERYWHERE)
labels = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=3).map(
    lambda rs: LabelSet(tuple((a, a + n) for a, n in rs))
)


@st.composite
def link_constraints(draw: st.DrawFn) -> LinkConstraint:
    required = draw(st.none() | prefixes)
    allowed = draw(prefix_sets.filter(bool))
    if required is not None:
        allowed |= PrefixSet.of([required])
    return LinkConstraint(
        required=required,
        allowed=allowed,
        hosts=draw(prefix_sets.filter(bool)),
        min_mtu=draw(st.sampled_from((0, 1280, 1500, 9000))),
    )


macs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=3).map(
    lambda rs: MacSet(tuple((a, a + n) for a, n in rs))
)
port_constraints = st.builds(PortConstraint, addresses=prefix_sets.filter(bool), macs=macs | st.just(ANY_MAC))
adjacencies = st.lists(st.sets(st.sampled_from("abcde"), max_size=3), max_size=3).map(Adjacencies.of)
names = st.sampled_from("ab")
constraints = st.builds(
    Constraint,
    links=st.dictionaries(names, link_constraints()),
    ends=st.dictionaries(names, st.builds(EndConstraint, labels=labels)),
    ports=st.dictionaries(names, port_constraints),
    adjacencies=adjacencies,
)


def admitted(c: LinkConstraint) -> set[object]:
    """What a link constraint admits, listed: prefixes, addresses, sizes of packets that are sure to pass."""
    ways: set[object] = {p for p in ALL if (p == c.required if c.required is not None else p in c.allowed)}
    return ways | {a for a in HOSTS if a in c.hosts} | {mtu for mtu in (0, 1280, 1500, 9000) if mtu >= c.min_mtu}


def members(s: PrefixSet) -> set[object]:
    return {a for a in HOSTS if a in s}


@given(prefix_sets, prefix_sets)
def test_prefix_sets_are_sets(a: PrefixSet, b: PrefixSet) -> None:
    assert members(a & b) == members(a) & members(b)
    assert members(a | b) == members(a) | members(b)
    assert members(a - b) == members(a) - members(b)
    assert (a <= b) == (not members(a) - members(b) and (a is not EVERYWHERE or b == EVERYWHERE))
    assert (a & b) | (a - b) == a
    assert a - EVERYWHERE == NOWHERE
    for prefix in ALL:
        assert (prefix in a) == all(address in a for address in prefix)


@given(st.lists(prefixes, max_size=6))
def test_a_prefix_set_has_one_text_and_the_fewest_prefixes(items: list[Prefix]) -> None:
    found = PrefixSet.of(items)
    fewest = tuple(found.prefixes())
    assert PrefixSet.of(fewest) == found
    assert PrefixSet.of(reversed(items)) == found
    assert str(PrefixSet.of(a for a in HOSTS if a in found)) == str(found)
    assert len(fewest) <= len(set(items))


def test_a_set_of_everything_costs_no_more_than_one_of_a_host() -> None:
    without = EVERYWHERE - PrefixSet.of([ip_address("fd00::1")])
    assert ip_network("fd00::/127") not in without
    assert ip_network("fd00::2/127") in without
    assert len(without.v6.ranges) == 2


@given(link_constraints(), link_constraints())
def test_narrowing_admits_what_both_admit(a: LinkConstraint, b: LinkConstraint) -> None:
    try:
        both = a & b
    except Contradiction:
        assert not any(isinstance(x, Prefix) for x in admitted(a) & admitted(b)) or not a.hosts & b.hosts
        return
    assert admitted(both) == admitted(a) & admitted(b)
    assert both <= a
    assert both <= b


@given(link_constraints(), link_constraints())
def test_what_is_within_another_admits_nothing_that_it_does_not(a: LinkConstraint, b: LinkConstraint) -> None:
    if a <= b:
        assert admitted(a) <= admitted(b)
        assert a & b == a
    elif b.required is None and EVERYWHERE not in (a.allowed, a.hosts):
        assert not admitted(a) <= admitted(b)


@given(port_constraints, port_constraints)
def test_a_port_takes_what_both_admit(a: PortConstraint, b: PortConstraint) -> None:
    taken = {h for h in HOSTS if h in a.addresses and h in b.addresses}, {m for m in range(14) if m in a.macs & b.macs}
    try:
        both = a & b
    except Contradiction:
        assert not a.addresses & b.addresses or not a.macs & b.macs
        return
    assert ({h for h in HOSTS if h in both.addresses}, {m for m in range(14) if m in both.macs}) == taken
    assert both <= a
    assert both <= b


@given(adjacencies, adjacencies)
def test_what_either_calls_one_is_one_and_so_is_what_follows(a: Adjacencies, b: Adjacencies) -> None:
    both, known = a & b, {(x, y) for x in "abcde" for y in "abcde" if a.one(x, y) or b.one(x, y)}
    for _ in range(5):
        known |= {(x, z) for x, y in known for other, z in known if y == other}
    assert {(x, y) for x in "abcde" for y in "abcde" if both.one(x, y)} == known
    assert both <= a
    assert both <= b
    assert (a <= b) == (a & b == a)


def narrowed(*given: Constraint) -> Constraint | None:
    """One after the other; None where nothing is left."""
    out = Constraint()
    try:
        for c in given:
            out &= c
    except Contradiction:
        return None
    return out


@given(constraints, constraints, constraints)
def test_narrowing_is_associative_commutative_and_idempotent(a: Constraint, b: Constraint, c: Constraint) -> None:
    assert narrowed(a, a) == a
    assert narrowed(a, b) == narrowed(b, a)
    ab, bc = narrowed(a, b), narrowed(b, c)
    first = narrowed(ab, c) if ab is not None else None
    last = narrowed(a, bc) if bc is not None else None
    assert first == last == narrowed(a, b, c)


@given(constraints, constraints)
def test_narrowing_never_widens(a: Constraint, b: Constraint) -> None:
    both = narrowed(a, b)
    if both is not None:
        assert both <= a
        assert both <= b
    assert a <= Constraint()


def test_what_is_wider_is_named() -> None:
    above = Constraint(
        links={"in": LinkConstraint(allowed=PrefixSet.of([ip_network("10.0.0.0/30")]))},
        ends={"w": EndConstraint(labels=LabelSet.parse("1-9")), "e": EndConstraint(labels=LabelSet.parse("5"))},
    )
    below = Constraint(
        links={"in": LinkConstraint(required=ip_network("10.0.0.0/31")), "more": LinkConstraint()},
        ends={"w": EndConstraint(labels=LabelSet.parse("9-10"))},
    )
    assert list(below.wider(above)) == ["w", "e"]
    assert list((above & below).wider(above)) == []


def test_links_that_are_one_have_one_prefix_and_others_none_in_common() -> None:
    one, other = ip_network("10.0.0.0/30"), ip_network("10.0.0.4/30")
    apart, together = Adjacencies(), Adjacencies.of([["in", "out"]])
    assert apart.clash({"in": [one], "out": [other]}, {}) is None
    assert apart.clash({"in": [one], "out": [ip_network("10.0.0.0/31")]}, {}) == (
        "out",
        "prefix 10.0.0.0/31 overlaps 10.0.0.0/30 of 'in'",
    )
    assert together.clash({"in": [one], "out": [one]}, {}) is None
    assert together.clash({"in": [one], "out": [other]}, {}) == ("out", "it is one with 'in' and has another prefix")
    first, second = ip_address("10.0.0.1"), ip_address("10.0.0.2")
    assert together.clash({}, {"in": {"f:out": first}, "out": {"g:in": second}}) is None
    assert together.clash({}, {"in": {"f:out": first}, "out": {"g:in": first}}) == (
        "out",
        "10.0.0.1 of g:in is that of f:out too",
    )
    assert apart.clash({}, {"in": {"f:out": first}, "out": {"g:in": first}}) is None


def test_a_contradiction_names_the_culprit() -> None:
    a = Constraint(links={"in": LinkConstraint(required=ip_network("10.0.0.0/31"))})
    b = Constraint(links={"in": LinkConstraint(required=ip_network("10.0.0.2/31"))})
    with pytest.raises(Contradiction, match=r"'in': prefix 10.0.0.0/31 and prefix 10.0.0.2/31 are both required"):
        a & b
    with pytest.raises(Contradiction, match="required and not allowed"):
        LinkConstraint(required=ip_network("10.0.0.0/31"), allowed=PrefixSet.of([ip_network("192.0.2.0/24")]))
