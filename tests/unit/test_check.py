"""A spec that is wrong in itself is found out, and the culprit is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from address_planner.labels import LabelSet
from service_model.check import check
from service_model.families import AddressFamily
from service_model.flows import Flow, FlowProtocol
from service_model.path_headers import PathHeader
from service_model.problem import Problem
from service_model.spec import (
    AddressRole,
    Blocks,
    End,
    FunctionRequest,
    FunctionType,
    LinkAddressing,
    LinkKind,
    ReservedAddress,
    ServiceFunctionPath,
    ServiceSpec,
    VirtualLink,
)


def line(id: str, *points: str, **addressing: Any) -> VirtualLink:
    return VirtualLink(id=id, points=points, addressing=LinkAddressing(**addressing))


def lan(id: str, *points: str) -> VirtualLink:
    return VirtualLink(id=id, kind=LinkKind.LAN, points=points)


def path(*hops: str) -> ServiceFunctionPath:
    return ServiceFunctionPath(id="p", hops=hops)


def function(id: str) -> FunctionRequest:
    return FunctionRequest(id=id, type=FunctionType("v", "n", "1"))


HEADER = PathHeader(id=2, index=254, back_index=254)
ENDS = (End(id="a", sap="s1"), End(id="b", sap="s2"))
TRANSIT = ServiceSpec(name="t", ends=ENDS, links=(line("l", "a", "b"),), paths=(path("a", "b"),))
CHAIN = ServiceSpec(
    name="c",
    ends=ENDS,
    functions=(function("f"), function("g")),
    links=(
        line("af", "a", "f:in"),
        line("fg", "f:out", "g:in"),
        line("gb", "g:out", "b"),
        lan("mgmt", "f:mgmt", "g:mgmt"),
    ),
    paths=(path("a", "f:in", "f:out", "g:in", "g:out", "b"),),
)


def chain(**changes: Any) -> ServiceSpec:
    return replace(CHAIN, **changes)


def addressed(**addressing: Any) -> ServiceSpec:
    return replace(TRANSIT, links=(line("l", "a", "b", **addressing),))


def networks(a: list[str], b: list[str]) -> ServiceSpec:
    ends = zip(ENDS, (a, b), strict=True)
    return replace(TRANSIT, ends=tuple(replace(e, networks=tuple(map(ip_network, n))) for e, n in ends))


def parted(*hosts: str) -> ServiceSpec:
    """A chain whose first and last LINE have one prefix."""
    first, middle, last, mgmt = CHAIN.links
    told = [LinkAddressing(prefix=ip_network("10.0.0.0/31"), hosts=(ip_network(h),)) for h in hosts]
    return chain(links=(replace(first, addressing=told[0]), middle, replace(last, addressing=told[1]), mgmt))


def reserved(*addresses: str) -> tuple[ReservedAddress, ...]:
    return tuple(ReservedAddress(role=AddressRole.PEER, address=ip_address(a)) for a in addresses)


def fixed(*addresses: str, **more: Any) -> ServiceSpec:
    """A chain whose first function has these addresses at its first port."""
    stated = tuple(replace(r, point="f:in") for r in reserved(*addresses))
    first = line("af", "a", "f:in", prefix=ip_network("10.0.0.0/29"), reserved=stated, **more)
    return chain(links=(first, *CHAIN.links[1:]))


FOUR, SIX = (AddressFamily.IPV4,), (AddressFamily.IPV6,)


def way(id: str, *hops: str, flows: tuple[Flow, ...] = ()) -> ServiceFunctionPath:
    return ServiceFunctionPath(id=id, hops=hops, flows=flows)


WEB, ANY_TCP = Flow(protocol=FlowProtocol.TCP, port=80), Flow(protocol=FlowProtocol.TCP)
UP = ("a", "s:in", "s:up", "g:in", "g:out", "j:up", "j:out", "b")
DOWN = ("a", "s:in", "s:down", "j:down", "j:out", "b")


def diamond(*paths: ServiceFunctionPath) -> ServiceSpec:
    """From a over `s`, by `g` or directly, over `j` to b; `j` also has a port towards an end c."""
    links = (
        line("as", "a", "s:in"),
        line("sg", "s:up", "g:in"),
        line("gj", "g:out", "j:up"),
        line("sj", "s:down", "j:down"),
        line("jb", "j:out", "b"),
        line("jc", "j:else", "c"),
    )
    return ServiceSpec(
        name="d",
        ends=(*ENDS, End(id="c", sap="s3")),
        functions=(function("s"), function("g"), function("j")),
        links=links,
        paths=paths,
    )


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(TRANSIT, id="a transit of two ends"),
        pytest.param(diamond(way("u", *UP, flows=(WEB,)), way("d", *DOWN)), id="a diamond by flows"),
        pytest.param(
            diamond(way("u", *UP, flows=(WEB,)), way("d", *DOWN, flows=(ANY_TCP,))), id="a port before its protocol"
        ),
        pytest.param(
            diamond(way("u", *UP), way("c", *UP[:-2], "j:else", "c")), id="a tree: paths that part need no flows"
        ),
        pytest.param(CHAIN, id="a chain with a management LAN"),
        pytest.param(chain(links=(*CHAIN.links[:3], lan("m", "f:mgmt"))), id="a LAN of one management port"),
        pytest.param(replace(TRANSIT, links=(lan("l", "a", "b"),), paths=()), id="an E-LAN between ends"),
        pytest.param(networks(["10.0.0.0/24", "2001:db8::/64"], ["10.0.1.0/24"]), id="disjoint networks"),
        pytest.param(
            addressed(
                prefix=ip_network("10.0.0.0/29"),
                hosts=(ip_network("10.0.0.1/32"),),
                reserved=reserved("10.0.0.2"),
            ),
            id="hosts and reserved in the prefix",
        ),
        pytest.param(
            addressed(prefix=ip_network("10.0.0.0/31"), reserved=reserved("10.0.0.0", "10.0.0.1")),
            id="both addresses of a /31",
        ),
        pytest.param(
            addressed(
                prefix=ip_network("10.0.0.0/30"),
                second_prefix=ip_network("2001:db8::/126"),
                hosts=(ip_network("10.0.0.1/32"), ip_network("2001:db8::1/128")),
                reserved=reserved("10.0.0.2", "2001:db8::2"),
            ),
            id="hosts and reserved addresses of both families, each in its prefix",
        ),
        pytest.param(replace(networks(["2001:db8::/64"], []), families=SIX), id="IPv6 alone"),
        pytest.param(parted("10.0.0.0/32", "10.0.0.1/32"), id="two parts of one LINE, each with hosts of its own"),
    ],
)
def test_a_sound_spec_has_no_problem(spec: ServiceSpec) -> None:
    assert check(spec) == ()


A = End(id="a", sap="s1")
FAULTS = [
    (
        addressed(prefix=ip_network("10.0.0.0/31"), second_prefix=ip_network("10.0.0.2/31")),
        ("links", 0, "addressing", "second_prefix"),
        "10.0.0.2/31 on the link 'l' beside 10.0.0.0/31: the second is of the other family than the first",
    ),
    (
        addressed(second_prefix=ip_network("2001:db8::/127")),
        ("links", 0, "addressing", "second_prefix"),
        "2001:db8::/127 on the link 'l' and no first",
    ),
    (
        addressed(prefix=ip_network("10.0.0.0/31"), reserved=reserved("2001:db8::1")),
        ("links", 0, "addressing", "reserved", 0, "address"),
        "2001:db8::1 is IPv6, the prefix 10.0.0.0/31 is IPv4 of the link 'l'",
    ),
    (
        replace(networks(["10.0.0.0/24"], ["2001:db8::/64", "10.0.1.0/24"]), families=FOUR),
        ("ends", 1, "networks", 0),
        "2001:db8::/64 of the end 'b' is IPv6, the service is IPv4 alone",
    ),
    (
        replace(addressed(prefix=ip_network("10.0.0.0/31")), families=SIX),
        ("links", 0, "addressing", "prefix"),
        "10.0.0.0/31 of the link 'l' is IPv4, the service is IPv6 alone",
    ),
    (
        replace(TRANSIT, families=SIX, min_mtu=1000),
        ("min_mtu",),
        "the service has IPv6, which needs 1280, not 1000",
    ),
    (
        fixed("10.0.0.2", "10.0.0.3"),
        ("links", 0, "addressing", "reserved", 1, "address"),
        "'f:in' has 10.0.0.2 already, and gets one address of a family",
    ),
    (
        fixed("10.0.0.2", hosts=(ip_network("10.0.0.4/32"),)),
        ("links", 0, "addressing", "reserved", 0, "address"),
        "10.0.0.2 of 'f:in' is not among the hosts that its ports may take",
    ),
    (chain(ends=(*ENDS, A)), ("ends", 2, "id"), "'a' is already the id of an end or a function"),
    (chain(functions=(*CHAIN.functions, function("a"))), ("functions", 2, "id"), "'a' is already the id of an end"),
    (chain(functions=(*CHAIN.functions, function("f"))), ("functions", 2, "id"), "'f' is already the id of"),
    (
        chain(links=(*CHAIN.links, lan("af", "f:x"))),
        ("links", 4, "id"),
        "'af' is already the id of a link",
    ),
    (replace(TRANSIT, paths=TRANSIT.paths * 2), ("paths", 1, "id"), "'p' is already the id of a path"),
    (
        diamond(way("u", *UP), way("d", *DOWN)),
        ("paths", 1),
        "the paths 'u' and 'd' part and meet again, and neither names flows",
    ),
    (
        diamond(way("u", *UP, flows=(WEB,)), way("d", *DOWN, flows=(ANY_TCP, WEB))),
        ("paths", 1, "flows", 1),
        "the paths 'u' and 'd' part and meet again, and the flow TCP 80 is of both",
    ),
    (
        diamond(way("u", *UP, flows=(WEB,)), way("c", *DOWN[:-2], "j:else", "c"), way("d", *DOWN[::-1])),
        ("paths", 2),
        "the paths 'u' and 'd' part and meet again, and do not lead from the same end to the same end",
    ),
    (
        diamond(way("u", *UP, flows=(WEB, WEB)), way("d", *DOWN)),
        ("paths", 0, "flows", 1),
        "the flow TCP 80 is already one of the path 'u'",
    ),
    (
        diamond(way("u", *UP, flows=(Flow(protocol=FlowProtocol.ICMP, port=8),)), way("d", *DOWN)),
        ("paths", 0, "flows", 0, "port"),
        "ICMP has no port 8",
    ),
    (replace(TRANSIT, managers=("m", "m")), ("managers", 1), "'m' is already named as a manager"),
    (replace(TRANSIT, ends=(*ENDS, End(id="c", sap="s"))), ("ends", 2), "the end 'c' is on no link"),
    (
        replace(TRANSIT, ends=(replace(A, labels=LabelSet.parse("1-9"), suggested_label=10), ENDS[1])),
        ("ends", 0, "suggested_label"),
        "the suggested label 10 is not among the labels 1-9",
    ),
    (replace(TRANSIT, ends=(replace(A, labels=LabelSet()), ENDS[1])), ("ends", 0, "labels"), "'a' may use no label"),
    (
        replace(TRANSIT, links=(lan("l", "a", "b"),), paths=(), ends=(replace(A, path_header=HEADER), ENDS[1])),
        ("ends", 0, "path_header"),
        "no path begins or ends at 'a'",
    ),
    (
        replace(TRANSIT, links=(line("l", "a", "b", "c"),), ends=(*ENDS, End(id="c", sap="s"))),
        ("links", 0, "points"),
        "the LINE 'l' joins two points, not 3",
    ),
    (replace(TRANSIT, links=(*TRANSIT.links, lan("n"))), ("links", 1, "points"), "the LAN 'n' joins no point"),
    (
        replace(TRANSIT, ends=(*ENDS, End(id="c", sap="s")), links=(*TRANSIT.links, lan("n", "c"))),
        ("links", 1, "points"),
        "the LAN 'n' joins 'c' to nothing",
    ),
    (
        replace(TRANSIT, links=(VirtualLink(id="l", kind=LinkKind.UNSPECIFIED, points=("a", "b")),), paths=()),
        ("links", 0, "kind"),
        "the link 'l' is neither LINE nor LAN",
    ),
    (replace(TRANSIT, links=(*TRANSIT.links, lan("n", "x"))), ("links", 1, "points", 0), "'x' is not the id of an end"),
    (chain(links=(*CHAIN.links, lan("n", "f"))), ("links", 4, "points", 0), "write 'f:PORT'"),
    (chain(links=(*CHAIN.links, lan("n", "h:x"))), ("links", 4, "points", 0), "function 'h', which is not declared"),
    (chain(links=(*CHAIN.links, lan("n", "f:x:y"))), ("links", 4, "points", 0), "'f:x:y' does not name a port"),
    (
        chain(links=(*CHAIN.links, lan("n", "f:in"))),
        ("links", 4, "points", 0),
        "'f:in' is already on the link 'af'",
    ),
    (
        chain(links=(CHAIN.links[0], lan("fg", "f:out", "g:in"), *CHAIN.links[2:])),
        ("paths", 0, "hops", 3),
        "no LINE joins 'f:out' and 'g:in'; the LAN 'fg' carries no path",
    ),
    (
        chain(paths=(path("a", "f:in", "f:mgmt", "g:in", "g:out", "b"),)),
        ("paths", 0, "hops", 3),
        "no LINE joins 'f:mgmt' and 'g:in'",
    ),
    (
        chain(paths=(path("a", "f:in", "g:out", "b"),)),
        ("paths", 0, "hops", 2),
        "goes in at 'f:in' and out at 'g:out', which is another function",
    ),
    (
        chain(paths=(path("a", "f:in", "f:in", "b"),)),
        ("paths", 0, "hops", 2),
        "the path 'p' passes 'f:in' 2 times",
    ),
    (chain(paths=(path("a", "f:in", "b"),)), ("paths", 0, "hops"), "the path 'p' has 3 hops"),
    (
        chain(paths=(path("f:out", "g:in", "g:out", "b"),)),
        ("paths", 0, "hops", 0),
        "the path 'p' begins at 'f:out', which is not an end",
    ),
    (
        chain(paths=(path("a", "f:in", "f:out", "g:in"),)),
        ("paths", 0, "hops", 3),
        "the path 'p' ends at 'g:in', which is not an end",
    ),
    (
        chain(paths=(path("a", "h:in", "h:out", "b"),)),
        ("paths", 0, "hops", 1),
        "the path 'p': 'h:in' is a port of the function 'h', which is not declared",
    ),
    (chain(functions=(*CHAIN.functions, function("h"))), ("functions", 2), "no path visits the function 'h'"),
    (
        networks(["10.0.0.0/8"], ["192.168.0.0/24", "10.9.0.0/16"]),
        ("ends", 1, "networks", 1),
        "10.9.0.0/16 of the end 'b' overlaps 10.0.0.0/8 of the end 'a'",
    ),
    (
        networks(["10.9.0.0/16"], ["10.0.0.0/8"]),
        ("ends", 1, "networks", 0),
        "10.0.0.0/8 of the end 'b' overlaps 10.9.0.0/16 of the end 'a'",
    ),
    (
        networks(["224.0.0.0/8"], ["10.0.0.0/8"]),
        ("ends", 0, "networks", 0),
        "224.0.0.0/8 of the end 'a' is a multicast",
    ),
    (networks(["10.0.0.0/8"], ["2001:db8::/32"]), ("paths", 0), "joins 'a' (IPv4) and 'b' (IPv6): no family at both"),
    (
        chain(
            links=(
                line("af", "a", "f:in", prefix=ip_network("10.0.0.0/24")),
                line("fg", "f:out", "g:in", prefix=ip_network("10.0.0.0/31")),
                *CHAIN.links[2:],
            )
        ),
        ("links", 1, "addressing", "prefix"),
        "10.0.0.0/31 of the link 'fg' overlaps 10.0.0.0/24 of the link 'af'",
    ),
    (
        parted("10.0.0.0/31", "10.0.0.1/32"),
        ("links", 2, "addressing", "prefix"),
        "10.0.0.0/31 of the link 'gb' overlaps 10.0.0.0/31 of the link 'af'",
    ),
    (
        replace(addressed(prefix=ip_network("10.0.0.0/31")), blocks=Blocks(excluded=(ip_network("10.0.0.0/8"),))),
        ("links", 0, "addressing", "prefix"),
        "10.0.0.0/31 of the link 'l' touches 10.0.0.0/8, which is excluded",
    ),
    (
        addressed(prefix=ip_network("10.0.0.0/24"), hosts=(ip_network("10.0.1.0/25"),)),
        ("links", 0, "addressing", "hosts", 0),
        "10.0.1.0/25 is outside the prefix 10.0.0.0/24 of the link 'l'",
    ),
    (
        addressed(prefix=ip_network("10.0.0.0/24"), hosts=(ip_network("10.0.0.0/16"),)),
        ("links", 0, "addressing", "hosts", 0),
        "10.0.0.0/16 is outside the prefix 10.0.0.0/24",
    ),
    (
        addressed(prefix=ip_network("10.0.0.0/24"), hosts=(ip_network("2001:db8::/64"),)),
        ("links", 0, "addressing", "hosts", 0),
        "2001:db8::/64 is IPv6, the prefix 10.0.0.0/24 is IPv4",
    ),
    (
        addressed(hosts=(ip_network("10.0.0.0/24"),)),
        ("links", 0, "addressing", "hosts", 0),
        "10.0.0.0/24 on the link 'l', which has no prefix",
    ),
    (
        addressed(prefix=ip_network("10.0.0.0/24"), reserved=reserved("10.0.0.1", "10.1.0.1")),
        ("links", 0, "addressing", "reserved", 1, "address"),
        "10.1.0.1 is outside the prefix 10.0.0.0/24",
    ),
    (
        addressed(prefix=ip_network("10.0.0.0/24"), reserved=reserved("10.0.0.1", "10.0.0.1")),
        ("links", 0, "addressing", "reserved", 1, "address"),
        "10.0.0.1 is already reserved on the link 'l'",
    ),
    (
        addressed(prefix=ip_network("10.0.0.0/24"), reserved=reserved("10.0.0.255")),
        ("links", 0, "addressing", "reserved", 0, "address"),
        "10.0.0.255 is the network or broadcast address of 10.0.0.0/24",
    ),
    (
        replace(addressed(prefix=ip_network("2001:db8::/127")), min_mtu=1000),
        ("links", 0, "addressing", "prefix"),
        "is IPv6, which needs a min_mtu of 1280, not 1000",
    ),
    (replace(TRANSIT, bandwidth_bps=50), ("bandwidth_bps",), "50 bit/s is absurd"),
    (
        replace(TRANSIT, start_time=datetime(2026, 2, 1, tzinfo=UTC), end_time=datetime(2026, 1, 1, tzinfo=UTC)),
        ("end_time",),
        "the end 2026-01-01T00:00:00+00:00 is not after the start 2026-02-01T00:00:00+00:00",
    ),
]


@pytest.mark.parametrize(("spec", "field", "reason"), FAULTS, ids=[reason[:60] for _, _, reason in FAULTS])
def test_a_fault_is_found_where_it_is_and_names_its_culprit(
    spec: ServiceSpec, field: tuple[str | int, ...], reason: str
) -> None:
    assert any(problem.field == field and reason in problem.reason for problem in check(spec)), check(spec)


def test_problems_come_in_the_same_order_each_time() -> None:
    spec = chain(ends=(*ENDS, A, End(id="z", sap="s")), bandwidth_bps=1, managers=("m", "m"))
    assert [p.field for p in check(spec)] == [("ends", 2, "id"), ("managers", 1), ("ends", 3), ("bandwidth_bps",)]
    assert check(spec) == check(spec)


def test_a_network_that_stands_twice_at_one_end_is_no_overlap() -> None:
    assert check(networks(["10.0.0.0/8", "10.1.0.0/16"], [])) == ()


def test_an_overlap_is_found_around_a_nested_network_of_the_same_end() -> None:
    problems = check(networks(["10.0.0.0/8", "10.1.1.0/24"], ["10.1.0.0/16"]))
    assert (
        Problem(("ends", 1, "networks", 0), "10.1.0.0/16 of the end 'b' overlaps 10.0.0.0/8 of the end 'a'") in problems
    )
