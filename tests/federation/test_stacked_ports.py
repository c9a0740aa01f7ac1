"""Brokers stacked on brokers: hardware addresses from the customer's pool, and names of ports that no level shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from address_planner.macs import Mac, MacSet
from address_planner.port_ids import PortId
from lower_sp_clients.vim.accounting import TAKES
from service_model.outcomes import AddressingChoice, LinkChoice, ReasonCode, Refused, Reserved, ServiceState
from service_model.spec import MACS, AddressRole, LinkAddressing, ReservedAddress, ServiceSpec, split_point
from tests.support.faults import alters
from tests.support.orders import CTX, active, reserved
from tests.support.sites import AURORA_CHAIN
from tests.support.stack import Stack

MACS_GIVEN = MacSet.parse("02:00:00:00:00:10-02:00:00:00:00:2f")
POOLED = replace(
    AURORA_CHAIN,
    links=tuple(replace(link, addressing=LinkAddressing(macs=MACS_GIVEN)) for link in AURORA_CHAIN.links),
)


def ports(spec: ServiceSpec, choice: AddressingChoice) -> dict[str, tuple[Mac, PortId]]:
    """What was chosen for each port of a function."""
    return {
        point: (found.macs[point], found.ports[point])
        for link in spec.links
        for found in [choice.link(link.id)]
        if found is not None
        for point in link.points
        if split_point(point)[1]
    }


async def test_every_port_has_a_hardware_address_of_the_pool_and_none_twice_on_a_link(aurora: Stack) -> None:
    answer = await active(aurora, POOLED)
    for link in answer.choice.links:
        assert link.macs, "each link has a function's port"
        assert all(mac.number in MACS_GIVEN for mac in link.macs.values())
        assert len(set(link.macs.values())) == len(link.macs)
    chosen = ports(POOLED, answer.choice)
    built = {
        f"{f.id}:{port.name}": port.mac
        for node in aurora.nodes.values()
        for name, driver in node.drivers.items()
        for hold in node.vims[name].holds()
        for f in (hold.spec.functions if hold.spec is not None else ())
        for port in driver.station(hold.ref, f.id).function.ports
    }
    assert built == {point: str(mac) for point, (mac, _) in chosen.items()}
    await aurora.customer().terminate("r", CTX)
    await aurora.ends_empty()


async def test_each_level_names_ports_as_it_was_asked_and_no_lower_name_goes_up(aurora: Stack) -> None:
    answer = await reserved(aurora)
    assert {str(name) for link in answer.choice.links for name in link.ports.values()} == {
        f"aurora/r/{link.id}/{p}" for link in AURORA_CHAIN.links for p in link.points if split_point(p)[1]
    }
    for node in aurora.nodes.values():
        for order in node.broker.orders():
            for segment in order.segments:
                assert segment.choice is not None
                names = [name for link in segment.choice.links for name in link.ports.values()]
                assert {name.service for name in names} <= {segment.ref}


def elsewhere(link: LinkChoice) -> LinkChoice:
    return replace(link, macs=dict.fromkeys(link.macs, Mac.parse("02:00:00:00:00:ff")))


def alike(link: LinkChoice) -> LinkChoice:
    return replace(link, macs=dict.fromkeys(link.macs, next(iter(link.macs.values()))))


def none(link: LinkChoice) -> LinkChoice:
    return replace(link, macs={})


def called_otherwise(link: LinkChoice) -> LinkChoice:
    return replace(link, ports={p: replace(name, service="another") for p, name in link.ports.items()})


def on_one_address(link: LinkChoice) -> LinkChoice:
    return replace(link, addresses=dict.fromkeys(link.addresses, next(iter(link.addresses.values()))))


@pytest.mark.parametrize("wrong", [elsewhere, alike, none, called_otherwise, on_one_address])
async def test_a_choice_outside_its_constraint_is_released_and_counted_against_the_supplier(
    aurora: Stack, wrong: Callable[[LinkChoice], LinkChoice]
) -> None:
    def changed(answer: Reserved) -> Reserved:
        links = tuple(wrong(link) for link in answer.choice.links)
        assert links != answer.choice.links
        return replace(answer, choice=replace(answer.choice, links=links))

    lan = {f"f{n}:mgmt" for n in range(3)}
    spec = replace(POOLED, links=tuple(link for link in POOLED.links if not lan & set(link.points)))
    buyer, seller = ("aurora", "notos") if wrong in (alike, on_one_address) else ("notos", "athens")
    line = aurora.line(buyer, seller)
    line.always["reserve"] = alters(changed)
    answer = await aurora.customer().reserve("r", 1, spec, CTX)
    assert isinstance(answer, Refused)
    told = list(answer.reasons)
    while told[0].causes:
        told = list(told[0].causes)
    assert told[0].code in (ReasonCode.CONSTRAINT_VIOLATED, ReasonCode.UNKNOWN_FUNCTION_TYPE)
    assert seller in aurora.nodes[buyer].dearer
    assert line.count("release") == line.count("reserve")
    await aurora.ends_empty()
    assert not any(hold.state in TAKES for vim in aurora.vims() for hold in vim.holds())


async def test_a_pool_that_is_too_small_is_refused_where_it_is_read(aurora: Stack) -> None:
    links = [replace(x, addressing=LinkAddressing(macs=MacSet.of([0x020000000001]))) for x in AURORA_CHAIN.links]
    answer = await aurora.customer().reserve("r", 1, replace(AURORA_CHAIN, links=tuple(links)), CTX)
    assert isinstance(answer, Refused)
    assert {r.code for r in answer.reasons} == {ReasonCode.INVALID_SPEC}
    assert "a pool of 1 hardware addresses" in answer.reasons[0].message
    group = LinkAddressing(macs=MacSet.parse("01:00:5e:00:00:00-01:00:5e:00:00:ff"))
    links = [replace(x, addressing=group) for x in AURORA_CHAIN.links]
    answer = await aurora.customer().reserve("r", 2, replace(AURORA_CHAIN, links=tuple(links)), CTX)
    assert isinstance(answer, Refused)
    assert "no hardware address of one port" in answer.reasons[0].message


async def test_who_would_not_see_a_pool_is_not_asked(aurora: Stack, tmp_path: Path) -> None:
    answer = await aurora.customer().reserve("r", 1, replace(POOLED, required_features=("mac-pools",)), CTX)
    assert isinstance(answer, Reserved)
    for node in aurora.nodes.values():
        for order in node.broker.orders():
            assert all(MACS in segment.spec.required_features for segment in order.segments)


async def test_a_tunnels_end_on_a_link_is_nobodys(aurora: Stack) -> None:
    first = AURORA_CHAIN.links[0]
    tunnels = [ip_address("172.20.0.1"), ip_address("172.20.0.2")]
    given = LinkAddressing(
        prefix=ip_network("172.20.0.0/29"),
        reserved=tuple(ReservedAddress(role=AddressRole.TUNNEL_ENDPOINT, address=address) for address in tunnels),
    )
    answer = await active(
        aurora, replace(AURORA_CHAIN, links=(replace(first, addressing=given), *AURORA_CHAIN.links[1:]))
    )
    found = answer.choice.link(first.id)
    assert found is not None
    assert set(found.addresses.values()) == {ip_address("172.20.0.3"), ip_address("172.20.0.4")}
    assert aurora.state() is ServiceState.ACTIVE
