"""Two customers with the same addresses everywhere, ordered from a broker and built in namespaces: neither hears of the other.

    one, other -- uni [left: firewall] nni ==== nni [b.right: meter] uni -- one, other

Both bring the same networks behind both ends, the same prefixes and addresses on the links there, of both families. At each
`uni` they differ by their own label alone.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from itertools import product
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from address_planner.labels import LabelSet
from lower_sp_clients.vim.driver import Attachment, Blueprint, Function, Network, Port, Route
from lower_sp_clients.vim.linux import LinuxDriver, packets
from lower_sp_clients.vim.linux.packets import Verdict
from service_model.families import ANY_FAMILY
from service_model.outcomes import Committed, Event, ServiceState
from service_model.spec import AddressRole, LinkAddressing, ReservedAddress, ServiceSpec
from tests.support.driver_bench import LinuxBench, linux_or_skip
from tests.support.orders import CONFIRM, CTX, reserved
from tests.support.planted import PlantedDriver
from tests.support.sites import POOL, POOL6, Site, Sp, chain
from tests.support.stack import Stack

pytestmark = pytest.mark.packets

CUSTOMERS = ("one", "other")
PORT = 7007
PATIENCE_S = 60.0
JOINT = LabelSet.parse("40-41")
ENDS = {"a": "left", "b": "right"}
OUTSIDE = {"a": "right", "b": "left"}
"""Whose driver makes the customers' equipment at an end: the far side of the wire that its `uni` is on."""
LABELS = {("a", "one"): 11, ("a", "other"): 12, ("b", "one"): 21, ("b", "other"): 22}
LINKS = {"a": ("172.20.1.{}", "2001:db8:1::{}"), "b": ("172.20.2.{}", "2001:db8:2::{}")}
"""On the link at an end: .1 and ::1 are the provider's, .2 and ::2 the customer's."""
BEHIND = {"a": ("192.168.1.{}", "fd00:1::{}"), "b": ("192.168.2.{}", "fd00:2::{}")}
"""In the networks behind an end: 1 is the customer's router."""
EVERYTHING = ("0.0.0.0/0", "::/0")


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[LinuxBench]:
    made = linux_or_skip(f"c{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        await made.close()


def order(customer: str) -> ServiceSpec:
    """The same for both but for the labels at the ends."""
    spec = chain("left.uni", "b.right.uni", "firewall", "meter", families=ANY_FAMILY)
    ports = {"a": ("l0", "f0:in"), "b": ("l2", "f1:out")}
    told = {}
    for end, (link, port) in ports.items():
        stated = [(port, text.format(1)) for text in LINKS[end]] + [(end, text.format(2)) for text in LINKS[end]]
        four, six = (
            ip_network(text.format(0) + length) for text, length in zip(LINKS[end], ("/30", "/126"), strict=True)
        )
        told[link] = LinkAddressing(
            prefix=four,
            second_prefix=six,
            reserved=tuple(
                ReservedAddress(role=AddressRole.PEER, address=ip_address(address), point=point)
                for point, address in stated
            ),
        )
    ends = (
        replace(
            end,
            labels=LabelSet.of([LABELS[end.id, customer]]),
            networks=tuple(ip_network(t.format(0) + n) for t, n in zip(BEHIND[end.id], ("/24", "/64"), strict=True)),
        )
        for end in spec.ends
    )
    links = (replace(link, addressing=told.get(link.id, link.addressing)) for link in spec.links)
    return replace(spec, ends=tuple(ends), links=tuple(links))


def equipment(end: str, customer: str) -> Blueprint:
    """A customer's router at an end: its own label towards the provider, its network behind it."""
    wan = tuple(ip_interface(t.format(2) + n) for t, n in zip(LINKS[end], ("/30", "/126"), strict=True))
    lan = tuple(ip_interface(t.format(1) + n) for t, n in zip(BEHIND[end], ("/24", "/64"), strict=True))
    ways = tuple(
        Route(ingress="lan", destination=ip_network(all_), egress="wan", next_hop=ip_address(text.format(1)))
        for all_, text in zip(EVERYTHING, LINKS[end], strict=True)
    )
    ports = (Port(name="wan", network="wan", interfaces=wan), Port(name="lan", network="lan", interfaces=lan))
    return Blueprint(
        segment=f"{customer}-{end}",
        networks=(Network(id="wan", mtu=1450), Network(id="lan", mtu=1450)),
        functions=(Function(id="router", implementation="forwarder", ports=ports, routes=ways),),
        attachments=(Attachment(network="wan", sap="alt", label=LABELS[end, customer]),),
    )


@dataclass(frozen=True)
class Served:
    """Both customers' services, active, with their equipment at both ends."""

    bench: LinuxBench
    stack: Stack
    drivers: tuple[LinuxDriver, ...]

    def router(self, end: str, customer: str) -> str:
        return self.bench.function(OUTSIDE[end], f"{customer}-{end}", "router")

    async def counted(self, customer: str) -> dict[tuple[str, str], int]:
        """Packets that entered each port of the customer's functions."""
        found: dict[tuple[str, str], int] = {}
        for site, driver in (("left", self.bench.left), ("right", self.bench.right)):
            for hold in self.stack.vim(site).holds():
                label = hold.choice.labels.get("a", hold.choice.labels.get("b")) if hold.choice else None
                if label in (LABELS["a", customer], LABELS["b", customer]):
                    found |= {(c.function, c.port): c.rx_packets for c in (await driver.measure(hold.ref)).ports}
        return found


async def served(
    bench: LinuxBench,
    directory: Path,
    plant: Callable[[Blueprint], Blueprint] | None = None,
    ordered_as: Callable[[str], ServiceSpec] = order,
    left: tuple[str, ...] = ("firewall",),
) -> Served:
    below = Sp("b", (Site("right", ("meter",), labels=JOINT, uni=LabelSet.parse("20-29")),))
    top = Sp("a", (Site("left", left, labels=JOINT, uni=LabelSet.parse("10-19")), below), (POOL, POOL6))
    stack, drivers = Stack(top, directory), list[LinuxDriver]()
    for name, side, other in (("a", "left", "right"), ("b", "right", "left")):
        ids = {"alt": "uni", "nni": f"to-{other}"}
        saps = [replace(port, id=ids[port.id]) for port in bench.saps(side) if port.id in ids]
        driver = LinuxDriver(bench.domain(side), saps)
        drivers.append(driver)
        node = stack.nodes[name]
        node.instead[side] = PlantedDriver(driver, plant) if plant and side == "left" else driver
        node.domains[side] = replace(
            node.domains[side],
            saps=tuple(replace(s, mtu=1450, path_headers=False) for s in node.domains[side].saps),
        )
    await stack.__aenter__()
    for customer in CUSTOMERS:
        await ordered(stack, customer, ordered_as(customer))
        for end in ENDS:
            await (bench.right if OUTSIDE[end] == "right" else bench.left).apply(equipment(end, customer))
    return Served(bench, stack, tuple(drivers))


async def ordered(stack: Stack, customer: str, spec: ServiceSpec, version: int = 1) -> None:
    """Until that version is active."""
    await reserved(stack, spec, customer, version)
    events_of = cast("AsyncGenerator[Event]", stack.customer().watch(""))
    async with asyncio.timeout(PATIENCE_S), aclosing(events_of) as events:
        assert await stack.customer().commit(customer, version, CONFIRM, CTX) == Committed(
            ref=customer, version=version
        )
        async for event in events:
            if event.status is not None and event.status.ref == customer:
                assert event.status.state is not ServiceState.FAILED, event.status.reasons
                if (event.status.version, event.status.state) == (version, ServiceState.ACTIVE):
                    return


def leaks(there: Served) -> list[str]:
    """Who reaches what of whom: everything but what each customer should reach, from either end, of both families."""
    wrong = []
    for near, far in (("a", "b"), ("b", "a")):
        targets = [text.format(2) for text in LINKS[far]] + [text.format(1) for text in BEHIND[far]]
        for target, listener in product(targets, CUSTOMERS):
            with packets.listening(there.router(far, listener), target, PORT):
                for asker in CUSTOMERS:
                    verdict = packets.tcp_verdict(there.router(near, asker), target, PORT)
                    # where the other listens, one's own router is reached, and refuses
                    expected = Verdict.OPEN if asker == listener else Verdict.REFUSED
                    if verdict is not expected:
                        wrong.append(f"{asker} {near} → {target} where {listener} listens: {verdict}")
    return wrong


async def test_packets_of_customers_with_the_same_addresses_do_not_leak(bench: LinuxBench, tmp_path: Path) -> None:
    there = await served(bench, tmp_path)
    try:
        assert leaks(there) == []
        before = {customer: await there.counted(customer) for customer in CUSTOMERS}
        assert len(before["one"]) == len(before["other"]) >= 4
        for target in (text.format(1) for text in BEHIND["b"]):
            for _ in range(10):
                assert packets.ping(there.router("a", "one"), target, size=1450).ok
        after = {customer: await there.counted(customer) for customer in CUSTOMERS}
        on_path = [port for port in after["one"] if port[1] in ("in", "out")]
        assert all(after["one"][port] - before["one"][port] >= 20 for port in on_path)
        assert all(after["other"][port] - before["other"][port] < 5 for port in after["other"]), (
            "nothing but ARP and its like"
        )
    finally:
        await closed(there)


async def test_labels_that_are_crossed_at_the_customers_sap_are_found_as_a_leak(
    bench: LinuxBench, tmp_path: Path
) -> None:
    """Planted: at one end each customer's service has the other's label."""
    other = {LABELS["a", one]: LABELS["a", another] for one, another in (CUSTOMERS, CUSTOMERS[::-1])}

    def crossed(made: Blueprint) -> Blueprint:
        attachments = (replace(a, label=other.get(a.label, a.label)) for a in made.attachments)
        return replace(made, attachments=tuple(attachments))

    there = await served(bench, tmp_path, crossed)
    try:
        found = leaks(there)
        assert len(found) == 2 * 4 * 4, "every question is answered by the other customer's"
        assert "one a → 192.168.2.1 where other listens: open" in found
        assert "one a → fd00:2::1 where other listens: open" in found
        assert "one a → fd00:2::1 where one listens: refused" in found
    finally:
        await closed(there)


async def closed(there: Served) -> None:
    for node in there.stack.nodes.values():
        await node.close()
    for driver in there.drivers:
        driver.close()
