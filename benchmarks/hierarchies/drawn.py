"""Hierarchies drawn from a seed: domains, brokers above them to a depth, and the same domains under one broker.

Rules kept here
- The same seed and depth give the same hierarchy. A broker has two or three suppliers: brokers, until the depth is
  reached below one of them at least, or domains.
- The suppliers of a broker are joined by interconnects, a tree and some more, each between two domains below them; the two
  sides name as peers the two suppliers that are joined, as they would where each knows its neighbour's seller.
- With `shared`, some domain sells to a second broker too. Whoever buys of it, or of who sells it, knows that others do, and hands
  over where its other suppliers meet it.
- A domain has one or two places (some have the id of another domain's), one to three classes of transport between two
  points, few labels, few hosts; one in five does not swap labels. Some of its ways pass through its other place.
- Prices are whole hundredths, so that without margins nothing is rounded.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import count, pairwise

from address_planner.labels import LabelSet
from benchmarks.hierarchies.neighbours import Neighbour
from benchmarks.hierarchies.sellers import Leaf, Middle, Seller
from capability_registry.abstraction import OPEN, Disclosure
from capability_registry.note import Encapsulation, FunctionPort, Place, PortRole, SapRole
from lower_sp_clients.vim.domain import CatalogueFunction, Domain, Sap, Way
from service_model.flavours import Flavour
from service_model.money import Price
from service_model.spec import FunctionType

TYPES = tuple(FunctionType("bench", f"f{i}", "1") for i in range(4))
PORTS = (FunctionPort(name="in"), FunctionPort(name="out"), FunctionPort(name="mgmt", role=PortRole.MANAGEMENT))
COUNTRIES = ("BE", "DE", "NL")
MECHANISMS = ("vrf", "macsec")
FLOW = 1_000_000
OUTSIDE = "sp-outside"
HUB = Place(id="HUB", country="NL", latitude=51.0, longitude=5.0)
"""Where several domains are."""
MARGINS = ("1.03", "1.1", "1.2")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """`flat_names`: the top's names of SAPs in the words of the broker that sees all."""

    top: Middle
    flat: Middle
    leaves: tuple[Leaf, ...]
    flat_names: Mapping[str, str]
    margins: bool

    def refresh(self) -> None:
        self.top.refresh()
        self.flat.refresh()


@dataclass(slots=True, eq=False)
class _Plot:
    """A domain to be: its SAPs come while the brokers above it are joined."""

    sp_id: str
    places: tuple[Place, ...]
    swaps: bool
    saps: list[Sap]


@dataclass(slots=True, eq=False)
class _Node:
    sp_id: str
    children: list[_Node]
    plot: _Plot | None = None

    def plots(self) -> list[_Plot]:
        """Of the domains below, each once."""
        mine = [self.plot] if self.plot is not None else []
        return list(dict.fromkeys(mine + [plot for child in self.children for plot in child.plots()]))

    def brokers(self) -> list[_Node]:
        return [self, *(b for child in self.children for b in child.brokers())] if self.plot is None else []


def hierarchy(
    seed: int,
    depth: int,
    *,
    shared: bool = False,
    roomy: bool = False,
    margins: bool = False,
    disclosure: Disclosure = OPEN,
) -> Hierarchy:
    """`roomy`: there is room for many orders at a time; else what is drawn is often too little for one."""
    draw = _Drawing(random.Random(f"{seed}/{depth}/{shared}/{roomy}"), FLOW * (40 if roomy else 1), roomy)
    root = draw.tree(depth)
    if shared:
        draw.share(root)
    for node in root.brokers():
        draw.join(node.children)
    leaves = {plot.sp_id: Leaf(draw.domain(plot)) for plot in root.plots()}
    names: dict[str, str] = {}
    priced = random.Random(f"margins/{seed}") if margins else None
    top = _sold(root, leaves, (), names, priced, disclosure, draw.several)
    assert isinstance(top, Middle)
    flat = {id: Neighbour(leaf, draw.far.get(id, {})) for id, leaf in leaves.items()}
    return Hierarchy(top, Middle("flat", flat), tuple(leaves.values()), names, margins)


def _sold(
    node: _Node,
    leaves: Mapping[str, Leaf],
    path: tuple[str, ...],
    names: dict[str, str],
    priced: random.Random | None,
    disclosure: Disclosure,
    several: _Plot | None,
) -> Seller:
    if node.plot is not None:
        for sap in node.plot.saps:
            names[".".join((*path, sap.id))] = f"{node.sp_id}.{sap.id}"
        return leaves[node.sp_id]
    below = {c.sp_id: _sold(c, leaves, (*path, c.sp_id), names, priced, disclosure, several) for c in node.children}
    margin = Decimal(priced.choice(MARGINS)) if priced else Decimal(1)
    besides = frozenset(c.sp_id for c in node.children if several is not None and several in c.plots())
    return Middle(node.sp_id, below, margin, disclosure, sold_besides=besides)


class _Drawing:
    """`far`: of each domain, by interconnect, the domain at the other side; `several`: the one that two brokers sell."""

    def __init__(self, rng: random.Random, flow: int, roomy: bool) -> None:
        self.rng, self.flow, self.roomy = rng, flow, roomy
        self.far: dict[str, dict[str, str]] = {}
        self.several: _Plot | None = None
        self._numbers = count()

    def tree(self, depth: int) -> _Node:
        if depth == 0:
            return self._leaf()
        deep = [depth - 1] + [self.rng.randint(0, min(depth - 1, 1)) for _ in range(self.rng.randint(1, 2))]
        return _Node(f"b{next(self._numbers)}", [self.tree(d) for d in deep])

    def _leaf(self) -> _Node:
        rng, number = self.rng, next(self._numbers)
        ids = [rng.choice((HUB.id, f"P{number}")), f"Q{number}"][: rng.randint(1, 2)]
        country = rng.choice(COUNTRIES)
        places = tuple(
            HUB if id == HUB.id else Place(id=id, country=country, latitude=north, longitude=5.0)
            for id, north in [(id, rng.uniform(50, 52)) for id in ids]
        )
        plot = _Plot(f"d{number}", places, rng.random() < 0.8, [])
        for n in range(rng.randint(1, 2)):
            self._sap(plot, f"uni{n}", self._labels(10))
        if rng.random() < 0.3:
            self._sap(plot, "out", self._labels(10), f"ix-out{number}", OUTSIDE)
        return _Node(plot.sp_id, [], plot)

    def share(self, root: _Node) -> None:
        """A domain is sold to a second broker too, where there is one."""
        brokers = root.brokers()
        pairs = [
            (child, broker)
            for seller in brokers
            for child in seller.children
            for broker in brokers
            if child.plot is not None and broker is not seller and child.plot not in broker.plots()
        ]
        if pairs:
            child, broker = self.rng.choice(pairs)
            broker.children.append(child)
            self.several = child.plot

    def join(self, children: list[_Node]) -> None:
        pairs = list(pairwise(children))
        if len(children) > 2 and self.rng.random() < 0.5:
            pairs.append((children[0], children[-1]))
        if self.rng.random() < 0.4:
            pairs.append(self.rng.choice(pairs))
        for x, y in pairs:
            p, q = self.rng.choice(x.plots()), self.rng.choice(y.plots())
            if p is q:
                continue
            joint, bps = f"ix{next(self._numbers)}", self._bps()
            self._sap(p, f"n-{joint}", self._labels(), joint, y.sp_id, True, bps)
            self._sap(q, f"n-{joint}", self._labels(), joint, x.sp_id, False, bps)
            self.far.setdefault(p.sp_id, {})[joint] = q.sp_id
            self.far.setdefault(q.sp_id, {})[joint] = p.sp_id

    def _labels(self, more: int = 0) -> LabelSet:
        first = 100 + self.rng.randint(0, 2)
        return LabelSet(((first, first + (60 if self.roomy else self.rng.choice((1, 3, 8)) + more)),))

    def _bps(self) -> int:
        return self.flow * self.rng.choice((1, 2, 4, 8))

    def _sap(
        self,
        plot: _Plot,
        id: str,
        labels: LabelSet,
        joint: str = "",
        peer: str = "",
        decides: bool = False,
        bps: int = 0,
    ) -> None:
        plot.saps.append(
            Sap(
                id=id,
                role=SapRole.NNI if joint else SapRole.UNI,
                place=self.rng.choice(plot.places).id,
                encapsulation=Encapsulation.VLAN,
                mtu=self.rng.choice((1500, 9000, 9000)),
                labels=labels,
                bandwidth_bps=bps or 16 * self.flow,
                interconnect=joint,
                peer=peer,
                decides_labels=decides,
            )
        )

    def domain(self, plot: _Plot) -> Domain:
        rng, places = self.rng, [p.id for p in plot.places]
        joined = [(sap.id, sap.place) for sap in plot.saps] + list(pairwise(places))
        sizes = (8, 16, 32) if self.roomy else (2, 3, 4, 8)
        return Domain(
            name=plot.sp_id,
            sp_id=plot.sp_id,
            places=plot.places,
            hosts={p: tuple(rng.choice(sizes) for _ in range(rng.randint(1, 3))) for p in places},
            lan=frozenset(places) if rng.random() < 0.7 else frozenset(),
            saps=tuple(plot.saps),
            ways=tuple(way for a, b in joined for way in self._ways(a, b)),
            functions=tuple(self._function(t, places) for t in rng.sample(TYPES, rng.randint(2, 3))),
            swaps_labels=plot.swaps,
        )

    def _ways(self, a: str, b: str) -> Iterator[Way]:
        """From cheap and slow to dear and fast, with mechanisms as they come."""
        rng = self.rng
        cents, delay = rng.randint(10, 90), rng.randint(500, 3000)
        for n in range(rng.randint(1, 3)):
            yield Way(
                id=f"{a}~{b}/{n}",
                a=a,
                b=b,
                price=Price(once=Decimal(cents) / 100, per_hour=Decimal(rng.randint(0, 9)) / 100),
                delay_us=delay,
                bandwidth_bps=self._bps(),
                availability=rng.choice((0.99, 0.999)),
                isolation=tuple(m for m in MECHANISMS if rng.random() < 0.5),
            )
            cents, delay = cents * rng.randint(13, 25) // 10, delay * rng.randint(3, 8) // 10

    def _function(self, type: FunctionType, places: list[str]) -> CatalogueFunction:
        rng = self.rng
        price = Price(once=Decimal(rng.randint(50, 400)) / 100, per_hour=Decimal(rng.randint(0, 9)) / 100)
        return CatalogueFunction(
            type=type,
            implementation="bench",
            ports=PORTS,
            flavours=(Flavour(name="default", units=rng.randint(1, 3), price=price),),
            places=frozenset(rng.sample(places, rng.randint(1, len(places)))),
            delay_us=rng.randint(10, 200),
        )
