"""What a federation of a test is made of: a line of sites, who owns them, and orders through them.

SPs own sites and buy from SPs, to any depth:

    Sp("aurora", Sp("boreas", Site("ams", "firewall")), Sp("notos", Sp("abyss", Site("gne", "meter")), Site("ath", "shaper")))

Neighbours in the line are joined by an interconnect. Alternatives (`Either`) stand at the same place of the line.
Every site has a customer's SAP `uni`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from ipaddress import ip_network
from itertools import product

from address_planner.labels import UNTAGGED, LabelSet
from broker.orders.pools import Pool
from capability_registry.note import Encapsulation, FunctionPort, Place, PortRole, SapRole
from lower_sp_clients.vim.domain import CatalogueFunction, Domain, Sap, Way
from service_model.families import ANY_FAMILY, AddressFamily
from service_model.flavours import Flavour
from service_model.money import Price
from service_model.spec import (
    End,
    FunctionRequest,
    FunctionType,
    LinkKind,
    ServiceFunctionPath,
    ServiceSpec,
    VirtualLink,
)
from service_model.words import Prefix

PORTS = (
    FunctionPort(name="in"),
    FunctionPort(name="out"),
    FunctionPort(name="side"),
    FunctionPort(name="mgmt", role=PortRole.MANAGEMENT),
)
POOL6 = Pool(name="p6", prefix=ip_network("fd00:64::/48"), block=64, quarantine=timedelta(seconds=30))
POOL = Pool(name="p", prefix=ip_network("10.64.0.0/16"), block=24, quarantine=timedelta(seconds=30))
PARAMETERS = {"shaper": {"rate_bps": 10**7}}


@dataclass(frozen=True)
class Site:
    """One domain: its name and what it makes."""

    name: str
    functions: tuple[str, ...] = ()
    labels: LabelSet = LabelSet(((1000, 1999),))
    uni: LabelSet = LabelSet(((UNTAGGED, UNTAGGED),))
    lan: bool = True
    swaps: bool = True
    cost: int = 1
    hosts: tuple[int, ...] = (8, 8)
    max_hold_s: int = 300
    country: str = "NL"
    isolation: tuple[str, ...] = ()
    """Of its fast ways."""
    left: Encapsulation = Encapsulation.VXLAN
    right: Encapsulation = Encapsulation.VXLAN
    """At its interconnects with the neighbours at either side. Plain Ethernet has the one label that it has."""
    families: tuple[AddressFamily, ...] = ANY_FAMILY
    """That its functions forward."""
    excluded: tuple[Prefix, ...] = ()
    flavours: tuple[Flavour, ...] = ()
    """Of its functions; none given: one that costs a tenth an hour, times `cost`."""


@dataclass(frozen=True)
class Either:
    """Two or more that stand at the same place of the line."""

    options: tuple[Sp | Site, ...]


@dataclass(frozen=True)
class Sp:
    name: str
    parts: tuple[Sp | Site | Either, ...]
    pools: tuple[Pool, ...] = ()
    known_as: str = ""
    """The alias under which its customer administers it; its name, if not given."""
    sold_besides: bool = False
    """Whether its customer knows that others sell it too. An SP that stands twice sells to two."""

    @property
    def alias(self) -> str:
        return self.known_as or self.name


@dataclass
class _Placed:
    """`paths`: of owners, one for each way in which it is bought."""

    site: Site
    paths: list[tuple[str, ...]]
    position: int
    saps: list[Sap] = field(default_factory=list)

    @property
    def owner(self) -> str:
        return self.paths[0][-1]


def function_type(name: str) -> FunctionType:
    return FunctionType("eu.spbroker", name, "1.0")


def _place_all(part: Sp | Site | Either, owners: tuple[str, ...], at: int, out: list[_Placed]) -> int:
    """Put every site of `part` at its place of the line from `at`; the place behind it."""
    if isinstance(part, Site):
        known = next((one for one in out if one.site is part and one.owner == owners[-1]), None)
        if known is None:
            out.append(_Placed(part, [owners], at))
        else:
            known.paths.append(owners)
        return at + 1
    if isinstance(part, Either):
        return max(_place_all(option, owners, at, out) for option in part.options)
    for child in part.parts:
        at = _place_all(child, (*owners, part.name), at, out)
    return at


def _meets_as(one: _Placed, other: _Placed) -> str:
    """The sp_id of `one` where it meets `other`: that of the branch below their nearest common owner, or the owner's own."""
    depth, own = max(
        (
            next((i for i, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), min(len(x), len(y))),
            x,
        )
        for x, y in product(one.paths, other.paths)
    )
    return own[depth] if depth < len(own) else own[-1]


def domains(top: Sp, line: Sequence[str] = ()) -> dict[str, list[Domain]]:
    """The domains of each SP, joined along the line. The left side of an interconnect is its authority."""
    sites: list[_Placed] = []
    _place_all(top, (), 0, sites)
    if line:
        for one in sites:
            one.position = line.index(one.site.name)
    for one in sites:
        one.saps.append(_sap(one, "uni", SapRole.UNI, one.site.uni))
    for left in sites:
        for right in (s for s in sites if s.position == left.position + 1):
            joint = f"ic-{left.site.name}-{right.site.name}"
            for near, far, decides in ((left, right, True), (right, left, False)):
                kind = near.site.right if near is left else near.site.left
                labels = LabelSet.of([UNTAGGED]) if kind is Encapsulation.ETHERNET else near.site.labels
                nni = _sap(near, f"to-{far.site.name}", SapRole.NNI, labels, kind)
                near.saps.append(replace(nni, interconnect=joint, peer=_meets_as(far, near), decides_labels=decides))
    out: dict[str, list[Domain]] = {}
    for one in sites:
        out.setdefault(one.owner, []).append(_domain(one))
    return out


def _sap(at: _Placed, id: str, role: SapRole, labels: LabelSet, kind: Encapsulation = Encapsulation.VXLAN) -> Sap:
    uni = role is SapRole.UNI
    return Sap(
        id=id,
        role=role,
        place=at.site.name.upper(),
        encapsulation=Encapsulation.ETHERNET if UNTAGGED in labels else kind,
        mtu=1500 if uni else kind.leaves(),
        labels=labels,
        bandwidth_bps=10**9,
        path_headers=True,
    )


def _domain(at: _Placed) -> Domain:
    site, place = at.site, at.site.name.upper()
    ways = []
    for sap in at.saps:
        cost = Price(per_hour=Decimal("0.01") * site.cost)
        ways.append(Way(id=f"{sap.id}-c", a=sap.id, b=place, price=cost, delay_us=2000, bandwidth_bps=10**9))
        fast = Way(id=f"{sap.id}-f", a=sap.id, b=place, price=cost + cost, delay_us=1000, bandwidth_bps=10**9)
        ways.append(replace(fast, isolation=site.isolation))
    return Domain(
        name=site.name,
        sp_id=at.owner,
        places=(Place(id=place, country=site.country),),
        hosts={place: site.hosts},
        lan=frozenset([place]) if site.lan else frozenset(),
        saps=tuple(at.saps),
        ways=tuple(ways),
        functions=tuple(
            CatalogueFunction(
                type=function_type(name),
                implementation=name,
                ports=PORTS,
                flavours=site.flavours or (Flavour(name="s", price=Price(per_hour=Decimal("0.1") * site.cost)),),
                places=frozenset([place]),
                families=site.families,
            )
            for name in site.functions
        ),
        swaps_labels=site.swaps,
        max_hold_s=site.max_hold_s,
        excluded=site.excluded,
    )


def sps(sp: Sp) -> Iterator[Sp]:
    yield sp
    for child in children(sp):
        yield from sps(child)


def children(sp: Sp) -> Iterator[Sp]:
    for part in sp.parts:
        for option in part.options if isinstance(part, Either) else (part,):
            if isinstance(option, Sp):
                yield option


def chain(a: str, b: str, *functions: str, lan: bool = False, name: str = "web", **more: object) -> ServiceSpec:
    """From SAP a to SAP b through functions f0, f1, … of these types; `lan` joins their management ports."""
    hops = ["a"]
    for i in range(len(functions)):
        hops += [f"f{i}:in", f"f{i}:out"]
    hops.append("b")
    links = [VirtualLink(id=f"l{i}", points=pair) for i, pair in enumerate(zip(hops[::2], hops[1::2], strict=True))]
    if lan:
        points = tuple(f"f{i}:mgmt" for i in range(len(functions)))
        links.append(VirtualLink(id="mgmt", kind=LinkKind.LAN, points=points))
    spec = ServiceSpec(
        name=name,
        ends=(End(id="a", sap=a), End(id="b", sap=b)),
        functions=tuple(
            FunctionRequest(id=f"f{i}", type=function_type(t), parameters=PARAMETERS.get(t, {}))
            for i, t in enumerate(functions)
        ),
        links=tuple(links),
        paths=(ServiceFunctionPath(id="p", hops=tuple(hops)),),
        bandwidth_bps=10**6,
    )
    return replace(spec, **more)  # type: ignore[arg-type]


AURORA = Sp(
    "aurora",
    (
        Sp("boreas", (Site("amsterdam", ("firewall",)),)),
        Sp("notos", (Sp("abyss", (Site("ghent", ("meter",)),)), Site("athens", ("shaper",)))),
    ),
    pools=(POOL,),
)
"""Aurora has nothing of its own; notos buys from abyss. The chain of the example goes through all four."""
AURORA_CHAIN = chain(
    "boreas.amsterdam.uni", "notos.athens.uni", "firewall", "meter", "shaper", lan=True, max_delay_us=100_000
)
