"""Trees of brokers for a benchmark: so many levels, each broker with so many suppliers, the lowest with domains of their own.

A service is a chain through every domain, from a customer's SAP at the first to one at the last, with one function at the first
domain. Domains that follow each other meet over an interconnect, whoever they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service_model.spec import End, FunctionRequest, FunctionType, ServiceFunctionPath, ServiceSpec, VirtualLink
from tests.support.nodes import RealNode
from tests.support.topologies import agreement, function, own_domain, partner, person, pool, supplier, uni

BIN = {"size": 100_000, "count": 4}
LABELS = "5000-999999"
BANDWIDTH = 10**14
FUNCTION = "firewall"
ACCOUNTS = ("ann", "ben", "cat")


@dataclass(frozen=True)
class Shape:
    """`levels` of brokers, each with `fan_out` suppliers."""

    levels: int
    fan_out: int

    @property
    def name(self) -> str:
        return f"{self.levels}x{self.fan_out}"

    @property
    def domains(self) -> int:
        return int(self.fan_out**self.levels)

    def brokers(self) -> Iterator[Broker]:
        """The lowest level first, so that suppliers are there before who buys from them."""
        for level in reversed(range(self.levels)):
            for number in range(self.fan_out**level):
                yield Broker(self, level, number)


@dataclass(frozen=True)
class Broker:
    """The one of `level` (0: the top) with this number, from the left."""

    shape: Shape
    level: int
    number: int

    @property
    def sp_id(self) -> str:
        return f"sp-{self.level}-{self.number}"

    @property
    def lowest(self) -> bool:
        return self.level == self.shape.levels - 1

    @property
    def below(self) -> tuple[Broker, ...]:
        """The brokers that it buys from, from the left."""
        if self.lowest:
            return ()
        first = self.number * self.shape.fan_out
        return tuple(Broker(self.shape, self.level + 1, first + n) for n in range(self.shape.fan_out))

    @property
    def above(self) -> Broker | None:
        return Broker(self.shape, self.level - 1, self.number // self.shape.fan_out) if self.level else None

    @property
    def domains(self) -> range:
        """The numbers of its own domains."""
        first = self.number * self.shape.fan_out
        return range(first, first + self.shape.fan_out) if self.lowest else range(0)

    @property
    def alias(self) -> str:
        """What who is above calls it."""
        return f"s{self.number}"


def spec(shape: Shape) -> ServiceSpec:
    """As the top's customer orders it."""
    below = range(1, shape.levels)
    left = [*(Broker(shape, level, 0).alias for level in below), "client"]
    right = [*(Broker(shape, level, shape.fan_out**level - 1).alias for level in below), "server"]
    points = ("client", f"{FUNCTION}:input", f"{FUNCTION}:output", "server")
    return ServiceSpec(
        name="web",
        ends=(End(id="client", sap=".".join(left)), End(id="server", sap=".".join(right))),
        functions=(FunctionRequest(id=FUNCTION, type=FunctionType("eu.spbroker", FUNCTION, "1.0")),),
        links=(VirtualLink(id="hop1", points=points[:2]), VirtualLink(id="hop2", points=points[2:])),
        paths=(ServiceFunctionPath(id="path", hops=points),),
    )


def documents(broker: Broker, nodes: dict[str, RealNode]) -> list[dict[str, Any]]:
    """What is administered at one broker. Nodes of all brokers, by sp_id."""
    found: list[dict[str, Any]] = [agreement("resale", max_services=1_000_000)]
    for below in broker.below:
        found.append(supplier(below.alias, nodes[below.sp_id], "above"))
    if broker.above is None:
        found += [pool("10.0.0.0/8"), agreement("retail", max_services=1_000_000), *map(person, ACCOUNTS)]
    else:
        found.append(partner("above", nodes[broker.above.sp_id]))
    joints: set[int] = set()
    for number in broker.domains:
        found += _domain(number, broker.shape)
        joints |= {number - 1, number} & set(range(broker.shape.domains - 1))
    found += [_interconnect(joint, broker) for joint in sorted(joints)]
    if broker.domains and broker.domains[0] == 0:
        found.append(function(FUNCTION))
    return found


def _domain(number: int, shape: Shape) -> Iterator[dict[str, Any]]:
    place, last = f"P{number}", shape.domains - 1
    saps = [uni("client", place)] if number == 0 else [_nni(number - 1, "in", place)]
    saps += [uni("server", place)] if number == last else [_nni(number, "out", place)]
    yield {"kind": "place", "name": place, "country": "CH"}
    made = own_domain(f"d{number}", place, *saps)
    made["places"] = [{"place": place, "bins": [BIN]}]
    for sap in made["saps"]:
        sap["bandwidth_bps"] = BANDWIDTH
    for way in (way for link in made["links"] for way in link["ways"]):
        way["bandwidth_bps"] = BANDWIDTH
    yield made


def _nni(joint: int, side: str, place: str) -> dict[str, Any]:
    return {**uni(f"j{joint}-{side}", place), "role": "NNI", "interconnect": f"ic{joint}"}


def _interconnect(joint: int, broker: Broker) -> dict[str, Any]:
    """Between domain `joint` and the next; the left side decides."""
    fan_out = broker.shape.fan_out
    left, right = (Broker(broker.shape, broker.level, n // fan_out) for n in (joint, joint + 1))
    peer = right if left == broker else left
    return {
        "kind": "interconnect",
        "name": f"ic{joint}",
        "peer": peer.sp_id,
        "labels": LABELS,
        "decides_labels": left == broker,
    }
