"""What a customer brings beside an order's file: families, its own labels, networks and addresses, on the real command line."""

from __future__ import annotations

import pytest

from address_planner.labels import LabelSet
from service_model.families import ANY_FAMILY
from tests.support.cli_bench import NSD, CliBench

SAPS = ("--from", "north.client-1", "--to", "south.server-1", "--sap", "mgmt=north.client-1")


async def test_what_a_customer_brings_beside_a_descriptor_is_ordered(ann: CliBench) -> None:
    own = [
        *("--family", "ipv4", "--family", "IPv6"),
        *("--label", "client=7"),
        *("--network", "client=192.168.1.0/24", "--network", "client=fd00:1::/64"),
        *("--address", "client=172.20.1.2/30", "--address", "client=2001:db8::2/126"),
        *("--address", "firewall:input=172.20.1.1/30"),
    ]
    ran = await ann.run("order", "-f", NSD, *SAPS, *own, "--reserve-only", "--ref", "o")
    assert ran.code == 0, ran.err
    (spec,) = ann.supplier.specs
    assert (spec.families, spec.end("client").labels) == (ANY_FAMILY, LabelSet.of([7]))
    assert [str(n) for n in spec.end("client").networks] == ["192.168.1.0/24", "fd00:1::/64"]
    told = next(link for link in spec.links if "client" in link.points).addressing
    assert [str(p) for p in told.prefixes] == ["172.20.1.0/30", "2001:db8::/126"]
    stated = {("client", "172.20.1.2"), ("firewall:input", "172.20.1.1"), ("client", "2001:db8::2")}
    assert {(r.point, str(r.address)) for r in told.reserved} == stated
    again = next(line for line in ran.err.splitlines() if line.startswith("commit it: "))
    assert all(word in again for word in own)


async def test_a_family_is_qualified_and_quoted_for(ann: CliBench) -> None:
    for command in ("qualify", "quote"):
        assert (await ann.run(command, "-f", NSD, *SAPS, "--family", "ipv6")).code == 0
    quoted = await ann.run("quote", "-f", NSD, *SAPS, "--family", "ipv6")
    assert "--family ipv6" in quoted.err


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (["--family", "ipv5"], "--family 'ipv5': there are ipv4 and ipv6"),
        (["--label", "client"], "--label 'client': give NAME=VALUE"),
        (["--label", "client=x"], "--label 'client=x': "),
        (["--network", "nobody=10.0.0.0/8"], "'nobody' is no end of guarded-web (they are "),
        (["--address", "client:x=10.0.0.1/8"], "'client:x' is no connection point of guarded-web"),
        (["--address", "client=10.0.0.300/24"], "--address 'client=10.0.0.300/24': "),
        (
            ["--family", "ipv6", "--network", "client=10.0.0.0/8"],
            "10.0.0.0/8 of the end 'client' is IPv4, the service is IPv6 alone",
        ),
    ],
)
async def test_what_cannot_be_brought_is_named_and_nothing_is_sent(ann: CliBench, own: list[str], says: str) -> None:
    ran = await ann.run("order", "-f", NSD, *SAPS, *own)
    assert ran.code == 2
    assert says in ran.err
    assert ann.supplier.specs == []
