"""LANs of customers' sites across two domains: every driver makes of them one bridge, and keeps two customers apart."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address

import pytest
import pytest_asyncio

from lower_sp_clients.vim.driver import Attachment, Blueprint, Network
from tests.support.driver_bench import Bench, SimulatedBench, linux_or_skip

LABEL, ANOTHER = 77, 78
EVERYBODY = IPv4Address("172.20.0.255")


@pytest_asyncio.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.packets)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made: Bench = SimulatedBench() if request.param == "simulated" else linux_or_skip(f"l{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        await made.close()


def sites(segment: str, label: int, *saps: str) -> Blueprint:
    """A LAN that joins customers' SAPs and the interconnect."""
    attachments = [Attachment(network="lan", sap="nni", label=label)]
    attachments += [Attachment(network="lan", sap=sap, label=0) for sap in saps]
    network = Network(id="lan", mtu=1450, lan=True)
    return Blueprint(segment=segment, networks=(network,), functions=(), attachments=tuple(attachments))


def own(host: int) -> list[str]:
    """The addresses of a host: one of each family."""
    return [f"172.20.0.{host}/24", f"fd20::{host}/64"]


async def three_and_a_stranger(bench: Bench) -> tuple[list[str], str]:
    """Three sites of one LAN in two domains; a fourth host is of another customer, and has an address among theirs."""
    hosts = [
        await bench.customer("left", own(1)),
        await bench.customer("left", own(2), sap="uni2"),
        await bench.customer("right", own(3)),
    ]
    stranger = await bench.customer("right", own(4), sap="uni2")
    await bench.left.apply(sites("one", LABEL, "uni", "uni2"))
    await bench.right.apply(sites("one", LABEL, "uni"))
    await bench.right.apply(sites("other", ANOTHER, "uni2"))
    for n, far in enumerate(hosts[1:], 2):  # a kernel may take a moment until it forwards to a new port
        assert await bench.asks(hosts[0], far, IPv4Address(f"172.20.0.{n}"), None)
    return hosts, stranger


async def test_three_sites_in_two_domains_reach_each_other_and_no_other_customer(bench: Bench) -> None:
    hosts, stranger = await three_and_a_stranger(bench)
    for near in hosts:
        for n, far in enumerate(hosts, 1):
            for target in (IPv4Address(f"172.20.0.{n}"), IPv6Address(f"fd20::{n}")):
                assert near == far or await bench.asks(near, far, target, None)
        for target in (IPv4Address("172.20.0.4"), IPv6Address("fd20::4")):
            assert not await bench.asks(near, stranger, target, None)


async def test_a_broadcast_reaches_every_site_once_and_no_other_customer(bench: Bench) -> None:
    hosts, stranger = await three_and_a_stranger(bench)
    for near in hosts:
        assert await bench.heard(near, EVERYBODY) == Counter(set(hosts) - {near})
    assert await bench.heard(stranger, EVERYBODY) == Counter()


async def test_a_lan_is_gone_when_it_is_removed_and_the_others_stay(bench: Bench) -> None:
    hosts, _ = await three_and_a_stranger(bench)
    await bench.right.remove("one")
    assert await bench.heard(hosts[0], EVERYBODY) == Counter([hosts[1]])
    assert {item.segment for item in await bench.right.inventory()} == {"other"}
