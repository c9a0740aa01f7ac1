"""Brokers stacked on brokers: LANs that reach sites where no path is, planned, held, delivered, and proved with packets."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from address_planner.labels import LabelSet
from address_planner.prefixes import inside
from broker.orders.gather import violation
from lower_sp_clients.vim.driver import Attachment, Blueprint, Function, Network, Port, SapPort
from lower_sp_clients.vim.simulated import SimulatedDriver
from lower_sp_clients.vim.simulated_domain import Lost, Station, echo, hears
from service_model.outcomes import (
    Committed,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
)
from service_model.quotes import Quote
from service_model.spec import (
    AddressRole,
    End,
    LinkAddressing,
    LinkKind,
    ReservedAddress,
    ServiceSpec,
    VirtualLink,
)
from tests.support.faults import alters, refuses
from tests.support.orders import CONFIRM, CTX, active, reserved
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import Stack

TAGGED = LabelSet(((10, 19),))
TOP = Sp(
    "top",
    (
        Sp("west", (Site("w1", ("firewall",), uni=TAGGED),)),
        Sp(
            "east",
            (
                Site("e1", ("meter",), uni=TAGGED),
                Sp("far", (Site("f1", uni=TAGGED), Sp("deep", (Site("d1", uni=TAGGED),)))),
            ),
        ),
    ),
    pools=(POOL,),
)
W, E, F, D = "west.w1.uni", "east.e1.uni", "east.far.f1.uni", "east.far.deep.d1.uni"
"""Each site in a domain of its own; the last four brokers down."""
JOINED = (("w1", "e1"), ("e1", "f1"), ("f1", "d1"))
LAN_PREFIX = ip_network("172.20.0.0/24")


def elan(*saps: str, name: str = "m") -> ServiceSpec:
    """One LAN that joins ends at these SAPs: e0, e1, …"""
    ends = tuple(End(id=f"e{n}", sap=sap) for n, sap in enumerate(saps))
    links = (VirtualLink(id=name, kind=LinkKind.LAN, points=tuple(e.id for e in ends)),)
    return ServiceSpec(name="elan", ends=ends, links=links, bandwidth_bps=10**6)


def managed(noc: str) -> ServiceSpec:
    """A path from W through a firewall and a meter to E, and a management LAN of both with a site at `noc`."""
    spec = chain(W, E, "firewall", "meter", lan=True)
    links = tuple(replace(x, points=(*x.points, "noc")) if x.kind is LinkKind.LAN else x for x in spec.links)
    return replace(spec, ends=(*spec.ends, End(id="noc", sap=noc)), links=links)


class Wired:
    """The domains of a stack, their SAPs wired as the interconnects say, and hosts of customers."""

    def __init__(self, stack: Stack) -> None:
        self.drivers = {name: d for node in stack.nodes.values() for name, d in node.drivers.items()}
        for near, far in JOINED:
            self.drivers[near].join(f"to-{far}", self.drivers[far], f"to-{near}")

    async def host(self, name: str, sap: str, label: int, address: str) -> Station:
        """At a SAP, under the label that the service has there."""
        *_, site, own = sap.split(".")
        driver = SimulatedDriver([SapPort(id="wire", encapsulation="VXLAN", mtu=1450)])
        driver.join("wire", self.drivers[site], own)
        port = Port(name="eth0", network="lan", interfaces=(ip_interface(address),))
        await driver.apply(
            Blueprint(
                segment=name,
                networks=(Network(id="lan", mtu=1450),),
                functions=(Function(id=name, implementation="forwarder", ports=(port,)),),
                attachments=(Attachment(network="lan", sap="wire", label=label),),
            )
        )
        return driver.station(name, name)

    async def hosts(self, spec: ServiceSpec, answer: Reserved, prefix: str = "172.20.0") -> dict[str, Station]:
        """One at each end of a LAN of ends."""
        labels = answer.choice.labels
        return {
            end.id: await self.host(f"{spec.name}-{end.id}", end.sap, labels[end.id], f"{prefix}.{n}/24")
            for n, end in enumerate(spec.ends, 1)
        }


def reaches(near: Station, address: str, size: int = 1400) -> bool:
    try:
        echo(near, near.port("eth0"), ip_address(address), size)
    except Lost:
        return False
    return True


def heard_by(host: Station) -> Counter[str]:
    """The functions that get a broadcast of a host, each as often as it does."""
    return Counter(station.function.id for station, _ in hears(host, host.port("eth0")))


def whole_and_kept(stack: Stack) -> None:
    """Every choice keeps its constraint, and no supplier asked for more than it had announced."""
    for node in stack.nodes.values():
        assert node.dearer == []
        for order in node.broker.orders():
            assert order.spec is not None
            assert order.choice is not None
            assert violation(order.spec, order.choice) is None
    holds = [hold for vim in stack.vims() for hold in vim.holds()]
    assert all(h.spec is not None and h.choice is not None and violation(h.spec, h.choice) is None for h in holds)


async def test_the_management_of_two_providers_reaches_the_operators_site_at_a_fourth(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        spec = managed(D)
        answer = await active(stack, spec)
        whole_and_kept(stack)
        mgmt = answer.choice.link("mgmt")
        assert mgmt is not None
        assert mgmt.prefix is not None
        assert inside(mgmt.prefix, POOL.prefix)
        noc_address = next(a for a in mgmt.prefix.hosts() if a not in mgmt.addresses.values())
        wired = Wired(stack)
        noc = await wired.host("noc", D, answer.choice.labels["noc"], f"{noc_address}/{mgmt.prefix.prefixlen}")
        assert len(mgmt.addresses) == 2
        assert all(reaches(noc, str(address)) for address in mgmt.addresses.values())
        assert heard_by(noc) == {"f0": 1, "f1": 1}
        path = answer.choice.link("l0")
        assert path is not None
        assert not any(reaches(noc, str(address)) for address in path.addresses.values()), "it is no way into the path"
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_sites_of_four_providers_are_one_lan_and_another_customer_hears_nothing(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        spec, other = elan(W, E, F, D), replace(elan(W, F, D), name="other")
        answer, another = await active(stack, spec, "r"), await active(stack, other, "q")
        whole_and_kept(stack)
        wired = Wired(stack)
        hosts = await wired.hosts(spec, answer)
        strangers = await wired.hosts(other, another)  # of the same addresses
        for near in hosts.values():
            assert all(reaches(near, f"172.20.0.{n}") for n in range(1, 5))
            assert heard_by(near) == {f"elan-{end}": 1 for end in hosts if hosts[end] is not near}
        for near in strangers.values():
            assert heard_by(near) == {f"other-{end}": 1 for end in strangers if strangers[end] is not near}
            assert not reaches(near, "172.20.0.4")
        for ref in ("r", "q"):
            await stack.customer().terminate(ref, CTX)
        await stack.ends_empty()


async def test_a_lan_of_sites_goes_beside_a_path_of_the_same_service(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        spec = managed(F)
        office = elan(E, D, F, name="office")
        spec = replace(spec, ends=(*spec.ends, *office.ends), links=(*spec.links, *office.links))
        answer = await active(stack, spec)
        whole_and_kept(stack)
        wired = Wired(stack)
        hosts = await wired.hosts(replace(office, name="office"), answer)
        assert all(reaches(hosts["e0"], f"172.20.0.{n}") for n in (2, 3))
        assert heard_by(hosts["e1"]) == {"office-e0": 1, "office-e2": 1}
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_a_site_states_its_address_and_no_function_takes_it(tmp_path: Path) -> None:
    own = IPv4Address("172.20.0.1")
    given = LinkAddressing(
        prefix=LAN_PREFIX, reserved=(ReservedAddress(role=AddressRole.PEER, address=own, point="noc"),)
    )
    spec = managed(D)
    links = tuple(replace(x, addressing=given) if x.kind is LinkKind.LAN else x for x in spec.links)
    async with Stack(TOP, tmp_path) as stack:
        answer = await active(stack, replace(spec, links=links))
        mgmt = answer.choice.link("mgmt")
        assert mgmt is not None
        assert mgmt.addresses["noc"] == own
        assert {str(a) for a in mgmt.addresses.values()} == {"172.20.0.1", "172.20.0.2", "172.20.0.3"}
        noc = await Wired(stack).host("noc", D, answer.choice.labels["noc"], f"{own}/24")
        assert reaches(noc, "172.20.0.2")
        assert reaches(noc, "172.20.0.3")


async def test_a_lan_survives_the_restart_of_every_broker_between_hold_and_commit(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        held = await reserved(stack, elan(W, E, D))
        for name in ("top", "east", "far", "deep"):
            await stack.restart(name)
        again = await stack.customer().reserve("r", 1, elan(W, E, D), CTX)
        assert isinstance(again, Reserved)
        assert again.choice == held.choice
        assert isinstance(await stack.customer().commit("r", 1, CONFIRM, CTX), Committed)
        await stack.until(lambda: stack.state() is ServiceState.ACTIVE, step=0.1)
        hosts = await Wired(stack).hosts(elan(W, E, D), held)
        assert heard_by(hosts["e0"]) == {"elan-e1": 1, "elan-e2": 1}


async def test_a_quote_for_a_lan_is_what_it_then_costs(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        quoted = await stack.customer().quote(elan(W, F, D), CTX)
        assert isinstance(quoted, Quote)
        answer = await stack.customer().reserve("r", 1, elan(W, F, D), replace(CTX, quote=quoted.id))
        assert isinstance(answer, Reserved)
        assert answer.price == quoted.price


@pytest.mark.parametrize("through", [0, 1])
async def test_where_a_supplier_refuses_its_part_of_a_lan_another_carries_it(tmp_path: Path, through: int) -> None:
    middle = Either((Sp("m1", (Site("a1", uni=TAGGED),)), Sp("m2", (Site("a2", uni=TAGGED, cost=2),))))
    top = Sp("top", (Site("w1", uni=TAGGED), middle, Site("d1", uni=TAGGED)), (POOL,))
    async with Stack(top, tmp_path) as stack:
        if through:
            stack.line("top", "m1").next("reserve", refuses(ReasonCode.BANDWIDTH))
        await active(stack, elan("w1.uni", "d1.uni"))
        carried = {s.alias for s in stack.broker("top").orders()[0].segments if s.wanted}
        assert carried == {"w1", f"m{1 + through}", "d1"}
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()


async def test_the_labels_of_an_interconnect_end_how_many_lans_cross_it(tmp_path: Path) -> None:
    few = LabelSet(((1000, 1001),))
    top = Sp("top", (Site("w1", uni=TAGGED, labels=few), Sp("b", (Site("d1", uni=TAGGED, labels=few),))), (POOL,))
    async with Stack(top, tmp_path) as stack:
        spec = elan("w1.uni", "b.d1.uni")
        for ref in ("r1", "r2"):
            await reserved(stack, spec, ref)
        stack.announce_all()
        answer = await stack.customer().reserve("r3", 1, spec, CTX)
        assert isinstance(answer, Refused)
        assert answer.reasons[0].code is ReasonCode.LABELS_EXHAUSTED
        await stack.customer().terminate("r1", CTX)
        await stack.pass_time(60)
        stack.announce_all()
        await reserved(stack, spec, "r4")


async def test_where_labels_differ_on_a_lans_own_interconnect_the_authority_wins(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:

        def another(answer: Reserved) -> Reserved:
            labels = {end: 1777 if end.startswith("x") else label for end, label in answer.choice.labels.items()}
            return replace(answer, choice=replace(answer.choice, labels=labels))

        stack.line("top", "west").next("reserve", alters(another))
        await reserved(stack, elan(W, E))
        assert stack.line("top", "west").count("reserve") == 1
        assert stack.line("top", "east").count("reserve") == 2


def taken(stack: Stack) -> dict[str, dict[str, int]]:
    """By site, what is taken of its SAPs, and of its narrowest way to its place."""
    out = {}
    for vim in stack.vims():
        note = vim.note().note
        here = {sap.id: 10**9 - sap.bandwidth_bps for sap in note.saps}
        ways = [point.bandwidth_bps for entry in note.matrix for point in entry.points]
        out[vim.domain.name] = {sap: bps for sap, bps in here.items() if bps} | {"way": 10**9 - min(ways)}
    return out


async def test_a_lan_alone_takes_its_bandwidth_on_each_way_once(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        await reserved(stack, elan(W, E, D))
        mega = 10**6
        assert taken(stack) == {
            "w1": {"uni": mega, "to-e1": mega, "way": mega},
            "e1": {"uni": mega, "to-w1": mega, "to-f1": mega, "way": mega},
            "f1": {"to-e1": mega, "to-d1": mega, "way": mega},
            "d1": {"uni": mega, "to-f1": mega, "way": mega},
        }
        await stack.customer().terminate("r", CTX)
        await stack.ends_empty()
        assert all(used == {"way": 0} for used in taken(stack).values())


async def test_management_beside_a_path_takes_no_bandwidth_where_the_path_is_not(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as stack:
        await reserved(stack, managed(D))
        used = taken(stack)
        assert used["f1"] == used["d1"] == {"way": 0}
        assert "to-f1" not in used["e1"]
