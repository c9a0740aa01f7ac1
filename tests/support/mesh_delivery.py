"""From a mesh and a plan to what drivers have built: split, chosen, gathered, bound and applied as brokers and domains do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from address_planner.labels import UNTAGGED, LabelSet
from broker.decompose.mesh import Mesh
from broker.decompose.plan import Plan, Snapshot
from broker.orders.gather import binding, gather, violation, whole
from broker.orders.split import HandedDown, Split, split
from capability_registry.note import Encapsulation, FunctionPort, Place, PortRole, SapRole
from lower_sp_clients.vim.blueprints import blueprint
from lower_sp_clients.vim.choosing import choose
from lower_sp_clients.vim.domain import CatalogueFunction, Domain, Sap, Usage, Way
from lower_sp_clients.vim.driver import Blueprint, Driver
from service_model.flavours import Flavour
from service_model.money import FREE
from service_model.outcomes import AddressingChoice, Bindings
from service_model.spec import LinkKind, ServiceSpec, split_point
from tests.support.planning import kind

BLOCK = ip_network("10.64.0.0/22")
BLOCKS = (BLOCK, ip_network("fd00:64::/56"))
PLACE = "X"


def domain(name: str, spec: ServiceSpec, saps: Iterable[Sap]) -> Domain:
    """A domain of one place that has the spec's functions as forwarders, with every port that the spec names."""
    points = [(split_point(p), link.kind) for link in spec.links for p in link.points]
    ports = {port: kind for (_, port), kind in points if port}
    offered = tuple(
        FunctionPort(name=port, role=PortRole.MANAGEMENT if k is LinkKind.LAN else PortRole.DATA)
        for port, k in ports.items()
    )
    return Domain(
        name=name,
        sp_id=f"sp-{name}",
        places=(Place(id=PLACE, country="DE"),),
        hosts={PLACE: (99,)},
        lan=frozenset({PLACE}),
        saps=tuple(saps),
        ways=tuple(Way(id=sap.id, a=sap.id, b=PLACE, price=FREE, delay_us=1, bandwidth_bps=10**9) for sap in saps),
        functions=(
            CatalogueFunction(
                type=kind("x"),
                implementation="forwarder",
                ports=offered,
                flavours=(Flavour(name="default", price=FREE),),
                places=frozenset({PLACE}),
            ),
        ),
    )


def sap_of(id: str, *, tunnel: bool = True, mtu: int = 1450, uni: bool = False) -> Sap:
    """A SAP under labels, or an untagged one; of a customer where it is said or its name begins so."""
    return Sap(
        id=id,
        role=SapRole.UNI if uni or id.startswith("uni") else SapRole.NNI,
        place=PLACE,
        encapsulation=Encapsulation.VXLAN if tunnel else Encapsulation.ETHERNET,
        mtu=mtu,
        labels=LabelSet(((1, 99),)) if tunnel else LabelSet.of([UNTAGGED]),
        bandwidth_bps=10**9,
        path_headers=True,
    )


@dataclass(frozen=True, slots=True)
class Agreed:
    """A service that is split, and what its domains chose for the parts."""

    spec: ServiceSpec
    parts: Split
    answers: Mapping[str, AddressingChoice]
    bound: Bindings
    domains: Mapping[str, Domain]
    name: str = ""
    """In front of its segments' names."""

    @property
    def homes(self) -> dict[str, tuple[str, str]]:
        """Of each function, the supplier and the name of the segment that it is in."""
        return {f.id: (p.alias, self._name(p)) for p in self.parts.segments for f in p.spec.functions}

    async def build(
        self,
        drivers: Mapping[str, Driver],
        alter: Callable[[str, Blueprint], Blueprint] = lambda domain, blueprint: blueprint,
    ) -> None:
        """Tell every domain what is bound, and have it built: as it is, or altered."""
        for part in self.parts.segments:
            told = binding(self.spec, part, self.answers[part.key], self.bound)
            made = blueprint(self.domains[part.alias], self._name(part), part.spec, told)
            await drivers[part.alias].apply(alter(part.alias, made))

    async def remove(self, drivers: Mapping[str, Driver]) -> None:
        """Have all of it taken away."""
        for part in self.parts.segments:
            await drivers[part.alias].remove(self._name(part))

    def _name(self, part: HandedDown) -> str:
        return f"{self.name}{part.key.replace('.', '-')}"

    def host_at(self, end: str) -> dict[int, tuple[str, str]]:
        """By IP version, the interface of the customer's host at an end (`address/length`), and its gateway."""
        link = next(link for link in self.spec.links if end in link.points)
        chosen = self.bound.link(link.id)
        assert chosen is not None
        (port,) = (p for p in link.points if p != end)
        return {
            stack.prefix.version: (f"{stack.addresses[end]}/{stack.prefix.prefixlen}", str(stack.addresses[port]))
            for stack in chosen.stacks
            if stack.prefix is not None
        }

    async def carried(self, drivers: Mapping[str, Driver]) -> dict[tuple[str, str], tuple[int, int]]:
        """Bytes that entered and left each port of its functions so far."""
        return {
            (c.function, c.port): (c.rx_bytes, c.tx_bytes)
            for alias, segment in set(self.homes.values())
            for c in (await drivers[alias].measure(segment)).ports
        }


def agree(
    mesh: Mesh,
    plan: Plan,
    snapshot: Snapshot,
    domains: Mapping[str, Domain],
    key: str = "k",
    path_ids: Mapping[str, int] | None = None,
) -> Agreed:
    """Split the service, let the domains choose, and gather what they chose. `key` seeds its labels; `path_ids`: of what
    packets bear between two domains."""
    parts = split(mesh, plan, snapshot, BLOCKS, key, path_ids=path_ids)
    answers = {p.key: choose(domains[p.alias], Usage(), p.spec, key).addressing for p in parts.segments}
    for part in parts.segments:
        assert violation(part.spec, answers[part.key]) is None
    choice = gather(mesh.spec, parts, answers)
    assert violation(mesh.spec, choice) is None
    return Agreed(
        mesh.spec, parts, answers, whole(choice, AddressingChoice()), domains, "" if key == "k" else f"{key}-"
    )
