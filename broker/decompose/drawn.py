"""What the ways of our note draw on together: the shared limits that it tells. Pure.

Rules kept here
- Each route counts once, as the first way that has it. A way that ends where we hand over draws on that interconnect, too, as
  all do that go over it.
- A pool of labels is what a class of tied interconnects, an end of a way that tells labels, or a supplier's own limit takes
  one of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from address_planner.labels import LabelSet
from broker.decompose.graph import Crossing, Graph
from broker.decompose.shares import enough
from broker.decompose.told_ways import Joint, Told, Ways
from capability_registry.front import Draws, shortened
from capability_registry.label_pools import LabelPools
from capability_registry.note import SharedLimit


@dataclass(frozen=True, slots=True)
class Drawn:
    """How often a flow along a way draws on each resource, and what the way carries, bit/s."""

    draws: Mapping[str, float]
    bandwidth_bps: int


class Stock:
    """What there is in one graph for ways that were found in it, or in another of the same shape. `has`: of each resource, bit/s;
    `labels`: of those that are pools of labels, how many; as far as ways were asked for that draw on it."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.has: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        self._ways: dict[int, tuple[tuple[str, float], ...]] = {}
        self._crossings: dict[str, str] = {}

    def drawn(self, told: Told) -> Drawn:
        """What one flow along the way draws on, alone in the graph."""
        draws: dict[str, float] = {}
        limits: dict[str, float] = {}
        for passage in told.way.passages:
            (way, once), *shared = self._ways.get(passage.way.number) or self._way(passage.way.number)
            draws[way] = draws.get(way, 0.0) + once
            for name, times in shared:
                limits[name] = limits.get(name, 0.0) + times
            if (crossing := passage.crossing) is not None:
                name = self._crossings.get(crossing.id) or self._crossing(crossing)
                draws[name] = draws.get(name, 0.0) + 1.0
        bandwidth = min(self.has[name] // int(times) for name, times in draws.items())
        if self._graph.sold_twice and not enough(self._graph, told.way.passages, bandwidth):
            bandwidth = 0
        return Drawn(draws | limits, bandwidth)

    def limits(self, ways: Ways, joints: Mapping[str, Joint], free: Mapping[str, LabelSet]) -> tuple[SharedLimit, ...]:
        """Of each inner resource that ways could overdraw together. `joints`: by the name of a SAP where we hand over; `free`:
        its labels."""
        draws, pools, entries = Draws(), LabelPools(), dict[str, set[str]]()
        for joint in joints.values():
            sides = self._graph.labels_of[joint.interconnect][:2]
            self.has[_resource(joint.interconnect)] = min(side.bandwidth_bps for side in sides)
        for (a, b), found in ways.items():
            for told in {told.way.passages: told for told in reversed(found)}.values():
                key, drawn = f"{a}|{b}#{told.number}", self.drawn(told)
                entries.setdefault(f"{a}|{b}", set()).add(key)
                ended = {_resource(joints[sap].interconnect): 1.0 for sap in (a, b) if sap in joints}
                draws.add(key, drawn.bandwidth_bps, {**drawn.draws, **ended})
                for crossed, labels, tied in told.way.classes:
                    pools.takes(key, crossed, labels, tied)
                for sap, labels in zip((a, b), told.labels, strict=True):
                    if labels:
                        pools.takes(key, f"at {sap}", labels)
                    if sap in joints:
                        pools.takes(key, joints[sap].interconnect, labels or free[sap], True)
                for name, times in drawn.draws.items() if self.labels else ():
                    if left := self.labels.get(name):
                        pools.draws(key, name, times, left)
        return shortened(draws.limits(self.has) + pools.limits(), entries)

    def _way(self, number: int) -> tuple[tuple[str, float], ...]:
        """The way itself, and what the supplier says that its ways share."""
        own = f"way {number}"
        self.has[own] = self._graph.between(number).point.bandwidth_bps
        out = [(own, 1.0)]
        for shared, times in self._graph.limits(number):
            limit, name = self._graph.limit(shared), f"limit {shared}"
            self.has[name] = limit.limit_bps
            if limit.labels:
                self.labels[name] = limit.labels
            out.append((name, times))
        self._ways[number] = tuple(out)
        return self._ways[number]

    def _crossing(self, crossing: Crossing) -> str:
        name = self._crossings[crossing.id] = _resource(crossing.id)
        self.has[name] = min(self._graph.sap_offer(i).bandwidth_bps for i in (crossing.source, crossing.target))
        return name


def _resource(interconnect: str) -> str:
    return f"joint {interconnect}"
