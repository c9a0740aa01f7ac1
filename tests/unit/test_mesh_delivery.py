"""Whatever the mesh and wherever it is cut: each packet of each family crosses the functions of its path and no other, the
reply as well."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from itertools import product

import pytest

from broker.decompose.mesh import Mesh, read_mesh
from lower_sp_clients.vim.driver import Attachment, Blueprint, Function, Network, Port, Route, SapPort
from lower_sp_clients.vim.simulated import SimulatedDriver
from lower_sp_clients.vim.simulated_domain import echo
from service_model.families import families_of
from service_model.spec import ServiceFunctionPath, split_point
from tests.support.mesh_delivery import Agreed, agree, domain, sap_of
from tests.support.meshes import ANYWHERE, NAMES, random_plan, random_service

SIZE = 1400
EVERYTHING = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
FAMILIES = ((), families_of((4,)), families_of((6,)), families_of((4, 6)))


def network(mesh: Mesh) -> dict[str, SimulatedDriver]:
    """The domains of all suppliers, joined."""
    drivers = {}
    for name in NAMES:
        ids = [f"to-{other}" for other in NAMES if other != name] + [f"uni-{end.id}" for end in mesh.ends]
        drivers[name] = SimulatedDriver([SapPort(id=id, encapsulation="VXLAN", mtu=1450) for id in ids])
        for other in drivers:
            if other != name:
                drivers[name].join(f"to-{other}", drivers[other], f"to-{name}")
    return drivers


async def customer(service: Agreed, drivers: Mapping[str, SimulatedDriver], end: str) -> SimulatedDriver:
    """A host at an end of the service, wherever that is."""
    stacks = service.host_at(end)
    host = SimulatedDriver([SapPort(id="wire", encapsulation="VXLAN", mtu=1450)])
    for driver in drivers.values():
        host.join("wire", driver, f"uni-{end}")
    ways = tuple(
        Route(ingress="eth0", destination=EVERYTHING[version], egress="eth0", next_hop=ip_address(gateway))
        for version, (_, gateway) in stacks.items()
    )
    port = Port(name="eth0", network="lan", interfaces=tuple(ip_interface(own) for own, _ in stacks.values()))
    await host.apply(
        Blueprint(
            segment="host",
            networks=(Network(id="lan", mtu=1450),),
            functions=(Function(id="host", implementation="forwarder", ports=(port,), routes=ways),),
            attachments=(Attachment(network="lan", sap="wire", label=service.bound.labels[end]),),
        )
    )
    return host


def expected(path: ServiceFunctionPath, ports: set[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, int]]:
    """A request and its reply: one in and one out at each port of the path."""
    on_path = {split_point(hop) for hop in path.hops[1:-1]}
    return {port: (SIZE, SIZE) if port in on_path else (0, 0) for port in ports}


@pytest.mark.parametrize("seed", range(100))
async def test_each_packet_crosses_the_functions_of_its_path_and_the_reply_crosses_them_in_reverse(seed: int) -> None:
    rng = random.Random(seed)
    spec = replace(random_service(rng), families=FAMILIES[seed % len(FAMILIES)])
    mesh = read_mesh(spec)
    assert isinstance(mesh, Mesh)
    drivers = network(mesh)
    saps = {name: [sap_of(id) for id in driver.saps] for name, driver in drivers.items()}
    domains = {name: domain(name, mesh.spec, saps[name]) for name in NAMES}
    ids = {path.id: 2 * n for n, path in enumerate(mesh.spec.paths, 1)}
    service = agree(mesh, random_plan(rng, mesh), ANYWHERE.snapshot(), domains, path_ids=ids)
    await service.build(drivers)
    hosts = {end.id: await customer(service, drivers, end.id) for end in mesh.ends}
    for path, version in product(mesh.spec.paths, spec.versions or (4,)):
        protocol, port = (path.flows[0].protocol.short.lower(), path.flows[0].port) if path.flows else ("udp", 9)
        before = await service.carried(drivers)
        target = ip_interface(service.host_at(path.hops[-1])[version][0]).ip
        start = hosts[path.hops[0]].station("host", "host")
        echo(start, start.port("eth0"), target, SIZE, protocol, port)
        after = await service.carried(drivers)
        crossed = {key: (after[key][0] - before[key][0], after[key][1] - before[key][1]) for key in after}
        assert crossed == expected(path, set(after)), (path, version)
    assert {version for end in hosts for version in service.host_at(end)} == set(spec.versions or (4,))
    bear_a_path_wherever_they_leave(service, drivers, ids)


def bear_a_path_wherever_they_leave(
    service: Agreed, drivers: Mapping[str, SimulatedDriver], ids: Mapping[str, int]
) -> None:
    """Packets that left towards another domain bore a path of the service. (One that is not expected there is lost.)"""
    marks = [s.mark for driver in drivers.values() for s in driver.seen if s.outside and s.where.startswith("to-")]
    assert bool(marks) == any(part.crossings for part in service.parts.segments)
    assert {mark.id & ~1 for mark in marks if mark is not None} <= set(ids.values())
    assert None not in marks
