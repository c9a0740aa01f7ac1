"""A service built across the two domains of a bench, with a customer's host at each end, and what is proved of it.

A fault is planted by altering a blueprint before its driver applies it: `plant(domain, blueprint)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network

from broker.decompose.mesh import Mesh, read_mesh
from lower_sp_clients.vim.driver import Blueprint, Driver
from service_model.spec import ServiceSpec
from tests.support.driver_bench import Bench
from tests.support.mesh_delivery import Agreed, agree, domain, sap_of
from tests.support.meshes import Ground, made_plan

SIDES = ("left", "right")
EVERYTHING = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
JOINTS = {("left", "right"): "nni", ("right", "left"): "nni"}
REQUEST = 1400

Plant = Callable[[str, Blueprint], Blueprint]


def as_bound(domain: str, blueprint: Blueprint) -> Blueprint:
    """Nothing is planted."""
    return blueprint


@dataclass(frozen=True)
class Built:
    """A service across both domains, with a customer's host at each end."""

    bench: Bench
    service: Agreed
    hosts: Mapping[str, str]

    def address(self, end: str, version: int) -> str:
        """Of the customer's host at an end."""
        return str(ip_interface(self.service.host_at(end)[version][0]).ip)

    async def asked(self, a: str, b: str, port: int | None = None, version: int = 4) -> bool:
        """Whether a request from end a to end b, an echo or to a TCP port, is answered."""
        target = ip_address(self.address(b, version))
        return await self.bench.asks(self.hosts[a], self.hosts[b], target, port)

    async def crossed(self, a: str, b: str, port: int | None = None) -> set[str]:
        """The functions that such a request and its answer went through, of whichever family the service has."""
        each = []
        for version in self.service.host_at(b):
            moved = await self.moved(a, b, port, version)
            assert moved is not None, (a, b, port, version)
            assert not one_way(moved), "what goes is answered over the same port"
            ports = Counter(function for function, _ in moved)
            assert set(ports.values()) == {2}, "in by one port and out by another"
            each.append(set(ports))
        assert all(functions == each[0] for functions in each), each
        return each[0]

    async def moved(
        self, a: str, b: str, port: int | None, version: int
    ) -> dict[tuple[str, str], tuple[int, int]] | None:
        """Of each port that the request or its answer passed, the bytes in and out; None: it was not answered."""
        before = await self.service.carried(drivers(self.bench))
        answered = await self.asked(a, b, port, version)
        after = await self.service.carried(drivers(self.bench))
        grown = {key: (after[key][0] - before[key][0], after[key][1] - before[key][1]) for key in after}
        return {key: bytes for key, bytes in grown.items() if max(bytes) >= REQUEST} if answered else None


def one_way(moved: Mapping[tuple[str, str], tuple[int, int]]) -> list[tuple[str, str]]:
    """The ports that only the request passed, or only its answer."""
    return [port for port, bytes in moved.items() if min(bytes) < REQUEST]


def drivers(bench: Bench) -> dict[str, Driver]:
    return {"left": bench.left, "right": bench.right}


def agreed(
    spec: ServiceSpec, at: Mapping[str, str], unis: Mapping[str, str], key: str = "k", tunnels: Iterable[str] = ()
) -> Agreed:
    """Split over both domains and chosen by them. `unis`: each end's SAP; those in `tunnels` are under labels."""
    mesh = read_mesh(spec)
    assert isinstance(mesh, Mesh)
    ground = Ground(joints=JOINTS, unis={end.id: unis[end.id] for end in mesh.ends})
    saps = [sap_of("nni"), *(sap_of(id, uni=True) for id in tunnels)]
    saps += [sap_of(uni, tunnel=False, mtu=1500) for uni in ("uni", "uni2")]
    domains = {name: domain(name, spec, saps) for name in SIDES}
    return agree(mesh, made_plan(mesh, ground, at, whole=True), ground.snapshot(), domains, key)


async def built(
    bench: Bench, spec: ServiceSpec, at: Mapping[str, str], second: str = "", plant: Plant = as_bound
) -> Built:
    """`at`: where functions and ends are; the ends `second` at the second access of their domain."""
    unis = {end.id: "uni2" if end.id in second.split() else "uni" for end in spec.ends}
    service = agreed(spec, at, unis)
    hosts = {}
    for end, uni in unis.items():
        stacks = service.host_at(end)
        ways = [(EVERYTHING[version], ip_address(gateway)) for version, (_, gateway) in stacks.items()]
        hosts[end] = await bench.customer(at[end], [interface for interface, _ in stacks.values()], ways, uni)
    await service.build(drivers(bench), plant)
    return Built(bench, service, hosts)


def places(left: str, right: str) -> dict[str, str]:
    return dict.fromkeys(left.split(), "left") | dict.fromkeys(right.split(), "right")
