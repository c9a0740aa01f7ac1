"""Brokers stacked on brokers: trees and diamonds across providers, planned, delivered, and proved with packets."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from address_planner.labels import LabelSet
from address_planner.prefixes import overlap
from lower_sp_clients.vim.driver import Attachment, Blueprint, Function, Network, Port, Route, SapPort
from lower_sp_clients.vim.simulated import SimulatedDriver
from lower_sp_clients.vim.simulated_domain import Station, echo
from service_model.flows import Flow, FlowProtocol
from service_model.outcomes import Reserved
from service_model.spec import End, FunctionRequest, ServiceFunctionPath, ServiceSpec, VirtualLink
from tests.support.orders import CTX, active
from tests.support.sites import PARAMETERS, POOL, Site, Sp, function_type
from tests.support.stack import Stack

NORTH, SOUTH = "boreas.amsterdam.uni", "notos.athens.uni"
TYPES = {"f": "firewall", "m": "meter", "s": "shaper"}
"""Each is made at one place only: Amsterdam, Ghent, Athens."""
TAGGED = LabelSet(((10, 19),))
TOP = Sp(
    "aurora",
    (
        Sp("boreas", (Site("amsterdam", ("firewall",), uni=TAGGED),)),
        Sp("notos", (Sp("abyss", (Site("ghent", ("meter",)),)), Site("athens", ("shaper",), uni=TAGGED))),
    ),
    pools=(POOL,),
)
WEB = Flow(protocol=FlowProtocol.TCP, port=80)
SIZE = 1400


def mesh(ends: dict[str, str], *paths: str, flows: dict[str, tuple[Flow, ...]] | None = None) -> ServiceSpec:
    """Paths as connection points between blanks, numbered from w0."""
    walks = {f"w{n}": tuple(path.split()) for n, path in enumerate(paths)}
    lines = dict.fromkeys(pair for hops in walks.values() for pair in zip(hops[::2], hops[1::2], strict=True))
    used = dict.fromkeys(hop.partition(":")[0] for hops in walks.values() for hop in hops[1:-1])
    return ServiceSpec(
        name="mesh",
        ends=tuple(End(id=id, sap=sap) for id, sap in ends.items()),
        functions=tuple(
            FunctionRequest(id=f, type=function_type(TYPES[f]), parameters=PARAMETERS.get(TYPES[f], {})) for f in used
        ),
        links=tuple(VirtualLink(id=f"l{n}", points=pair) for n, pair in enumerate(lines)),
        paths=tuple(ServiceFunctionPath(id=w, hops=hops, flows=(flows or {}).get(w, ())) for w, hops in walks.items()),
        max_delay_us=100_000,
    )


TREE = mesh({"a": NORTH, "b": SOUTH, "c": NORTH}, "a f:in f:out m:in m:out s:in s:out b", "a f:in f:side c")
DIAMOND = mesh(
    {"a": NORTH, "b": SOUTH},
    "a f:in f:out m:in m:out s:in s:out b",
    "a f:in f:side s:side s:out b",
    flows={"w0": (WEB,)},
)


class Wired:
    """The domains of a stack, their SAPs wired as the interconnects say, and a customer's host at each end."""

    def __init__(self, stack: Stack, spec: ServiceSpec, answer: Reserved) -> None:
        self.spec, self.answer = spec, answer
        self.drivers = {name: d for node in stack.nodes.values() for name, d in node.drivers.items()}
        for near, far in (("amsterdam", "ghent"), ("ghent", "athens")):
            self.drivers[near].join(f"to-{far}", self.drivers[far], f"to-{near}")

    def interface(self, end: str) -> tuple[str, str]:
        """Of the customer's host, and its gateway."""
        link = next(link for link in self.spec.links if end in link.points)
        chosen = self.answer.choice.link(link.id)
        assert chosen is not None
        assert chosen.prefix is not None
        (port,) = (point for point in link.points if point != end)
        return f"{chosen.addresses[end]}/{chosen.prefix.prefixlen}", str(chosen.addresses[port])

    async def host(self, end: str) -> Station:
        interface, gateway = self.interface(end)
        _, site, sap = self.spec.end(end).sap.split(".")
        driver = SimulatedDriver([SapPort(id="wire", encapsulation="VXLAN", mtu=1450)])
        driver.join("wire", self.drivers[site], sap)
        port = Port(name="eth0", network="lan", interfaces=(ip_interface(interface),))
        way = Route(ingress="eth0", destination=ip_network("0.0.0.0/0"), egress="eth0", next_hop=ip_address(gateway))
        await driver.apply(
            Blueprint(
                segment="host",
                networks=(Network(id="lan", mtu=1450),),
                functions=(Function(id="host", implementation="forwarder", ports=(port,), routes=(way,)),),
                attachments=(Attachment(network="lan", sap="wire", label=self.answer.choice.labels[end]),),
            )
        )
        return driver.station("host", "host")

    async def carried(self) -> Counter[tuple[str, str]]:
        """Packets in and out, by function and port."""
        found: Counter[tuple[str, str]] = Counter()
        for driver in self.drivers.values():
            for segment in {item.segment for item in await driver.inventory()}:
                for port in (await driver.measure(segment)).ports:
                    found[port.function, port.port] += port.rx_packets + port.tx_packets
        return found

    async def crossed(self, a: str, b: str, protocol: str, port: int | None) -> set[str]:
        """The ports that a request from a to b and its reply go through."""
        near, before = await self.host(a), await self.carried()
        await self.host(b)
        echo(near, near.port("eth0"), ip_interface(self.interface(b)[0]).ip, SIZE, protocol, port)
        return {f"{function}:{name}" for function, name in await self.carried() - before}


async def test_a_tree_has_a_sink_at_each_of_two_providers(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as aurora:
        answer = await active(aurora, TREE)
        wired = Wired(aurora, TREE, answer)
        assert await wired.crossed("a", "b", "icmp", None) == {"f:in", "f:out", "m:in", "m:out", "s:in", "s:out"}
        assert await wired.crossed("a", "c", "icmp", None) == {"f:in", "f:side"}
        assert await wired.crossed("b", "a", "icmp", None) == {"f:in", "f:out", "m:in", "m:out", "s:in", "s:out"}


async def test_a_diamond_across_providers_parts_by_flow_and_nothing_of_it_overlaps(tmp_path: Path) -> None:
    async with Stack(TOP, tmp_path) as aurora:
        answer = await active(aurora, DIAMOND)
        wired = Wired(aurora, DIAMOND, answer)
        upper = {"f:in", "f:out", "m:in", "m:out", "s:in", "s:out"}
        assert await wired.crossed("a", "b", "tcp", 80) == upper
        assert await wired.crossed("a", "b", "tcp", 443) == {"f:in", "f:side", "s:side", "s:out"}
        assert await wired.crossed("b", "a", "icmp", None) == {"f:in", "f:side", "s:side", "s:out"}
        prefixes = [link.prefix for link in answer.choice.links if link.prefix is not None]
        assert len(prefixes) == len(DIAMOND.links)
        assert not any(overlap(x, y) for n, x in enumerate(prefixes) for y in prefixes[:n])
        await aurora.customer().terminate("r", CTX)
        await aurora.ends_empty()
