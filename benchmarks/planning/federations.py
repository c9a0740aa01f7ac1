"""Federations to plan over: topologies of topohub, each node a supplier, prices and capacities drawn from a seed.

Rules kept here
- `REAL` are networks that were built; the others are of random nodes (Gabriel graphs), in any size.
- A node of the topology is a supplier, an edge an interconnect. The largest topology there is has 500 nodes; a larger
  federation is several of them side by side, each joined to the next at `SEAMS` places.
- A supplier has an NNI per edge, one or two places, and one in four has a UNI. Between two border points there is a cheap
  slow way and a dear fast one.
- `Room` says how much there is: whether functions and flows of one order compete. The same arguments give the same
  federation; without the room the same topology, customers included.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from itertools import combinations, pairwise

import topohub

from address_planner.labels import LabelSet
from broker.decompose.plan import Snapshot, SupplierView
from capability_registry.note import (
    Bin,
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    Encapsulation,
    FunctionOffer,
    FunctionPort,
    Place,
    PlaceCapacity,
    PointKind,
    SapOffer,
    SapRole,
)
from service_model.flavours import Flavour
from service_model.flows import PATHS
from service_model.money import Price
from service_model.spec import End, FunctionRequest, FunctionType, ServiceFunctionPath, ServiceSpec, VirtualLink

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TYPES = tuple(FunctionType("bench", f"f{i}", "1") for i in range(8))
COUNTRIES = ("AT", "BE", "CH", "DE", "ES", "FR", "IT", "NL")
SEAMS = 20
REAL = ("abilene", "polska", "nobel-germany", "nobel-us", "geant", "france", "nobel-eu", "norway")
"""Of the library SNDlib: 12 to 28 nodes."""
FLOW_BPS = 1_000_000
LARGEST = 500
_PORTS = (FunctionPort(name="in"), FunctionPort(name="out"), FunctionPort(name="out2"), FunctionPort(name="in2"))


class Room(Enum):
    """How much there is: units of a place's one host (a function takes 1 to 4), and how many flows a way or SAP carries."""

    AMPLE = ((64, 64), (1000,))
    FAIR = ((6, 16), (1, 2, 4, 8, 16))
    TIGHT = ((4, 7), (1, 2, 4))

    def __init__(self, units: tuple[int, int], flows: tuple[int, ...]) -> None:
        self.units, self.flows = units, flows


@dataclass(frozen=True, slots=True)
class Federation:
    """`unis`: the SAPs that an order may name, as announced."""

    snapshot: Snapshot
    unis: tuple[str, ...]

    @property
    def vertices(self) -> int:
        notes = [view.note for view in self.snapshot.suppliers]
        return sum(2 * len(n.saps) + len(n.places) for n in notes)


def federation(size: int, seed: int, *, room: Room = Room.AMPLE) -> Federation:
    """About `size` suppliers, as many as the nearest topology has nodes."""
    drawn = random.Random(f"{size}/{seed}")
    return _over(*_topology(size, seed, drawn), f"{size}/{seed}", drawn, room)


def network(name: str, seed: int, *, room: Room = Room.AMPLE) -> Federation:
    """A supplier at each node of a real network, by its name in topohub."""
    graph = topohub.get(name)
    number = {node["id"]: n for n, node in enumerate(graph["nodes"])}
    positions = [(node["pos"][0], node["pos"][1]) for node in graph["nodes"]]
    pairs = {tuple(sorted((number[e["source"]], number[e["target"]]))) for e in graph["edges"]}
    edges = sorted((x, y) for x, y in pairs if x != y)
    return _over(positions, edges, f"{name}/{seed}", random.Random(f"{name}/{seed}"), room)


def _over(
    positions: list[tuple[float, float]], edges: list[tuple[int, int]], key: str, drawn: random.Random, room: Room
) -> Federation:
    customers = sorted(drawn.sample(range(len(positions)), max(2, len(positions) // 4)))
    rng = random.Random(f"{key}/{room.name}")
    saps: list[list[SapOffer]] = [[] for _ in positions]
    for number, (x, y) in enumerate(edges):
        for near, far, decides in ((x, y, True), (y, x, False)):
            saps[near].append(_sap(f"n{number}", room, rng, to=f"ix{number}", peer=f"sp{far}", decides=decides))
    for number in customers:
        saps[number].append(_sap("uni", room, rng))
    views = tuple(_supplier(i, positions[i], saps[i], room, rng) for i in range(len(positions)))
    snapshot = Snapshot(own_sp_id="bench", number=1, suppliers=views)
    return Federation(snapshot=snapshot, unis=tuple(f"s{i}.uni" for i in customers))


def chain(fed: Federation, length: int, seed: int, **more: object) -> ServiceSpec:
    """A chain of `length` functions between two customers, of different types as far as there are so many."""
    rng = random.Random(f"chain/{seed}")
    a, b = rng.sample(fed.unis, 2)
    types = rng.sample(TYPES, length) if length <= len(TYPES) else rng.choices(TYPES, k=length)
    hops = ["a", *(f"f{i}:{port}" for i in range(length) for port in ("in", "out")), "b"]
    pairs = list(zip(hops[::2], hops[1::2], strict=True))
    return ServiceSpec(
        name="bench",
        ends=(End(id="a", sap=a), End(id="b", sap=b)),
        functions=tuple(FunctionRequest(id=f"f{i}", type=t) for i, t in enumerate(types)),
        links=tuple(VirtualLink(id=f"l{i}", points=pair) for i, pair in enumerate(pairs)),
        paths=(ServiceFunctionPath(id="p", hops=tuple(hops)),),
        term_hours=1,
        **more,  # type: ignore[arg-type]
    )


SHAPES = {
    "tree": (("f0 f1 b", "f0 f2 c"), 3),
    "diamond": (("f0 f1 f3 b", "f0 f2 f3 b"), 2),
}
"""Paths from `a`, and how many customers: a source with two sinks; two branches that part and meet again."""


def mesh(fed: Federation, shape: str, seed: int, **more: object) -> ServiceSpec:
    """Functions of different types between customers, with two paths that share what is the same in both."""
    rng = random.Random(f"{shape}/{seed}")
    walks, count = SHAPES[shape]
    paths = [["a", *walk.split()] for walk in walks]
    names = sorted({f for path in paths for f in path if f.startswith("f")})
    joints = list(dict.fromkeys(pair for path in paths for pair in pairwise(path)))
    outs, ins = ([joint[side] for joint in joints] for side in (0, 1))
    points = {
        (x, y): (_port(x, "out", outs[: n + 1].count(x)), _port(y, "in", ins[: n + 1].count(y)))
        for n, (x, y) in enumerate(joints)
    }
    return ServiceSpec(
        name="bench",
        ends=tuple(End(id=id, sap=at) for id, at in zip("abc"[:count], rng.sample(fed.unis, count), strict=True)),
        functions=tuple(
            FunctionRequest(id=f, type=t) for f, t in zip(names, rng.sample(TYPES, len(names)), strict=True)
        ),
        links=tuple(VirtualLink(id=f"{x}-{y}", points=pair) for (x, y), pair in points.items()),
        paths=tuple(
            ServiceFunctionPath(id=f"p{n}", hops=tuple(hop for pair in pairwise(path) for hop in points[pair]))
            for n, path in enumerate(paths)
        ),
        term_hours=1,
        **more,  # type: ignore[arg-type]
    )


def _port(joint: str, name: str, number: int) -> str:
    """The nth of a function's ways in or out; an end's own id."""
    return f"{joint}:{name}{number if number > 1 else ''}" if joint.startswith("f") else joint


def _topology(size: int, seed: int, rng: random.Random) -> tuple[list[tuple[float, float]], list[tuple[int, int]]]:
    positions: list[tuple[float, float]] = []
    edges: list[tuple[int, int]] = []
    for block in range(-(-size // LARGEST)):
        graph = topohub.get(f"gabriel/{min(size, LARGEST)}/{(seed + block) % 10}")
        first = len(positions)
        positions += [(node["pos"][0], node["pos"][1]) for node in graph["nodes"]]
        edges += [(first + edge["source"], first + edge["target"]) for edge in graph["edges"]]
        if block:
            before = first - LARGEST
            edges += [(before + rng.randrange(LARGEST), first + rng.randrange(LARGEST)) for _ in range(SEAMS)]
    return positions, sorted(set(edges))


def _sap(
    id: str, room: Room, rng: random.Random, to: str = "", peer: str = "", decides: bool = False
) -> SapOffer:  # fmt: skip
    return SapOffer(
        id=id,
        role=SapRole.NNI if to else SapRole.UNI,
        place="",
        encapsulation=Encapsulation.VLAN,
        mtu=9000,
        labels=LabelSet(((100, 999),)),
        bandwidth_bps=FLOW_BPS * (rng.choice(room.flows) if to else 1000),
        interconnect=to,
        peer=peer,
        decides_labels=decides,
    )


def _supplier(
    index: int, at: tuple[float, float], saps: list[SapOffer], room: Room, rng: random.Random
) -> SupplierView:
    places = [f"P{index}.{k}" for k in range(rng.choice((1, 2)))]
    functions = [
        FunctionOffer(
            type=type, place=place, ports=_PORTS, delay_us=rng.randint(10, 100),
            flavours=(Flavour(name="default", units=rng.randint(1, 4), price=_price(rng.randint(50, 400))),),
        )
        for place in places for type in rng.sample(TYPES, rng.randint(2, 4))
    ]  # fmt: skip
    capacities = tuple(PlaceCapacity(place=p, bins=(Bin(size=rng.randint(*room.units), count=1),)) for p in places)
    points = [sap.id for sap in saps] + places
    note = CapabilityNote(
        sp_id=f"sp{index}",
        edition=1,
        audience="bench",
        api_features=(PATHS,),
        not_before=NOW - timedelta(hours=1),
        expires=NOW + timedelta(hours=1),
        places=tuple(_place(p, at) for p in places),
        functions=tuple(functions),
        capacities=capacities,
        saps=tuple(replace(sap, place=places[0]) for sap in saps),
        matrix=tuple(BorderEntry(a=a, b=b, points=_ways(room, rng)) for a, b in combinations(points, 2)),
    )
    names = {f"s{index}.{s.id}": s.id for s in saps}
    return SupplierView(alias=f"s{index}", sp_id=note.sp_id, note=note, local=False, saps=names)


def _place(id: str, at: tuple[float, float]) -> Place:
    x, y = at
    return Place(id=id, country=COUNTRIES[int(x // 100 + y // 100) % 8], latitude=y % 180 - 90, longitude=x % 360 - 180)


def _price(cents: int) -> Price:
    return Price(once=Decimal(cents) / 100)


def _ways(room: Room, rng: random.Random) -> tuple[BorderPoint, ...]:
    cost, delay = rng.randint(10, 90), rng.randint(200, 2000)
    bps = FLOW_BPS * rng.choice(room.flows)
    slow = BorderPoint(kind=PointKind.CHEAPEST, price=_price(cost), delay_us=delay, bandwidth_bps=bps)
    dear = _price(cost * rng.randint(12, 25) // 10)
    fast = BorderPoint(kind=PointKind.FASTEST, price=dear, delay_us=delay * rng.randint(3, 7) // 10, bandwidth_bps=bps)
    return slow, fast
