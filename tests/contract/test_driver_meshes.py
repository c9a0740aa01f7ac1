"""Trees, shared functions and diamonds across two domains: every driver sends each packet of either family through the
functions of its path and no other, and the reply through the same in reverse."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network

import pytest
import pytest_asyncio

from broker.decompose.mesh import Mesh, read_mesh
from lower_sp_clients.vim.driver import Driver
from service_model.families import families_of
from service_model.flows import Flow, FlowProtocol
from service_model.spec import ServiceSpec
from tests.support.driver_bench import Bench, SimulatedBench, linux_or_skip
from tests.support.mesh_delivery import Agreed, agree, domain, sap_of
from tests.support.meshes import Ground, made_plan, service

SIDES = ("left", "right")
EVERYTHING = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
BOTH, SIX = families_of((4, 6)), families_of((6,))
JOINTS = {("left", "right"): "nni", ("right", "left"): "nni"}
TCP_80, ICMP = Flow(protocol=FlowProtocol.TCP, port=80), Flow(protocol=FlowProtocol.ICMP)
REQUEST = 1400


@pytest_asyncio.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.packets)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made: Bench = SimulatedBench() if request.param == "simulated" else linux_or_skip(f"m{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        await made.close()


@dataclass(frozen=True)
class Built:
    """A service across both domains, with a customer's host at each end."""

    bench: Bench
    service: Agreed
    hosts: Mapping[str, str]

    async def asked(self, a: str, b: str, port: int | None = None, version: int = 4) -> bool:
        """Whether a request from end a to end b, an echo or to a TCP port, is answered."""
        target = ip_interface(self.service.host_at(b)[version][0]).ip
        return await self.bench.asks(self.hosts[a], self.hosts[b], target, port)

    async def crossed(self, a: str, b: str, port: int | None = None) -> set[str]:
        """The functions that such a request and its answer went through, of whichever family the service has."""
        each = [await self._crossed(a, b, port, version) for version in self.service.host_at(b)]
        assert all(functions == each[0] for functions in each), each
        return each[0]

    async def _crossed(self, a: str, b: str, port: int | None, version: int) -> set[str]:
        before = await self.service.carried(drivers(self.bench))
        assert await self.asked(a, b, port, version), (a, b, port, version)
        after = await self.service.carried(drivers(self.bench))
        moved = {key: [y - x for x, y in zip(before[key], after[key], strict=True)] for key in after}
        used = {key for key, grown in moved.items() if max(grown) >= REQUEST}
        assert all(min(moved[key]) >= REQUEST for key in used), "what goes is answered over the same port"
        ports = Counter(function for function, _ in used)
        assert set(ports.values()) == {2}, "in by one port and out by another"
        return set(ports)


def drivers(bench: Bench) -> dict[str, Driver]:
    return {"left": bench.left, "right": bench.right}


async def built(bench: Bench, spec: ServiceSpec, at: Mapping[str, str], second: str = "") -> Built:
    """`at`: where functions and ends are; the ends `second` at the second access of their domain."""
    mesh = read_mesh(spec)
    assert isinstance(mesh, Mesh)
    ground = Ground(joints=JOINTS, unis={end.id: "uni2" if end.id in second.split() else "uni" for end in mesh.ends})
    saps = [sap_of("nni"), *(sap_of(uni, tunnel=False, mtu=1500) for uni in ("uni", "uni2"))]
    service = agree(mesh, made_plan(mesh, ground, at), ground.snapshot(), {n: domain(n, spec, saps) for n in SIDES})
    hosts = {}
    for end, uni in ground.unis.items():
        stacks = service.host_at(end)
        ways = [(EVERYTHING[version], ip_address(gateway)) for version, (_, gateway) in stacks.items()]
        hosts[end] = await bench.customer(at[end], [interface for interface, _ in stacks.values()], ways, uni)
    await service.build(drivers(bench))
    return Built(bench, service, hosts)


def places(left: str, right: str) -> dict[str, str]:
    return dict.fromkeys(left.split(), "left") | dict.fromkeys(right.split(), "right")


async def test_a_tree_leads_to_each_sink_through_its_own_functions(bench: Bench) -> None:
    tree = await built(bench, service("a f g b", "a f h c", families=BOTH), places("a f h c", "g b"), second="c")
    assert await tree.crossed("a", "b") == {"f", "g"}
    assert await tree.crossed("a", "c") == {"f", "h"}
    assert await tree.crossed("c", "a") == {"f", "h"}
    assert not await tree.asked("b", "c"), "no path leads from sink to sink"
    assert not await tree.asked("b", "c", version=6)


async def test_two_paths_share_a_function_and_stay_apart(bench: Bench) -> None:
    shared = await built(
        bench, service("a f g b", "c h f k d", families=SIX), places("a f c h", "g b k d"), second="c d"
    )
    assert await shared.crossed("a", "b") == {"f", "g"}
    assert await shared.crossed("c", "d") == {"h", "f", "k"}
    assert not await shared.asked("a", "d", version=6), "what enters f from a has no way to d"


async def test_flows_take_the_branches_of_a_diamond(bench: Bench) -> None:
    spec = service("a s g j b", "a s h j b", flows={"w0": (TCP_80, ICMP)}, families=BOTH)
    diamond = await built(bench, spec, places("a s g", "h j b"))
    assert await diamond.crossed("a", "b", port=80) == {"s", "g", "j"}
    assert await diamond.crossed("a", "b", port=81) == {"s", "h", "j"}
    assert await diamond.crossed("a", "b") == {"s", "g", "j"}
    assert await diamond.crossed("b", "a") == {"s", "g", "j"}
