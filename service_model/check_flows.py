"""What is wrong with how packets find their path, whoever is asked. Each problem names its culprit.

Rules kept here
- A flow says its protocol, and a port only where the protocol has ports; a path names a flow once.
- Two paths that part and meet again lead from the same end to the same end, and their flows tell them apart: at most one
  has none, and no flow is of both. All other paths differ by where their packets come from or go to.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from service_model.flows import FlowProtocol
from service_model.problem import Path, Problem
from service_model.spec import ServiceFunctionPath, ServiceSpec


def flow_faults(spec: ServiceSpec) -> Iterator[Problem]:
    for i, path in enumerate(spec.paths):
        yield from _flows(path, ("paths", i, "flows"))
    for (_, one), (j, other) in combinations(enumerate(spec.paths), 2):
        if _part_and_meet(one, other):
            yield from _alike(one, other, ("paths", j))


def _flows(path: ServiceFunctionPath, where: Path) -> Iterator[Problem]:
    for k, flow in enumerate(path.flows):
        if flow.protocol is FlowProtocol.UNSPECIFIED:
            yield Problem((*where, k, "protocol"), f"a flow of the path {path.id!r} is neither TCP, UDP nor ICMP")
        elif flow.protocol is FlowProtocol.ICMP and flow.port is not None:
            yield Problem((*where, k, "port"), f"ICMP has no port {flow.port}")
        if flow in path.flows[:k]:
            yield Problem((*where, k), f"the flow {flow} is already one of the path {path.id!r}")


def _alike(one: ServiceFunctionPath, other: ServiceFunctionPath, where: Path) -> Iterator[Problem]:
    both = f"the paths {one.id!r} and {other.id!r} part and meet again"
    if (one.hops[0], one.hops[-1]) != (other.hops[0], other.hops[-1]):
        yield Problem(where, f"{both}, and do not lead from the same end to the same end: nothing tells packets apart")
    elif not one.flows and not other.flows:
        yield Problem(where, f"{both}, and neither names flows: nothing tells which packets take which")
    for k, flow in enumerate(other.flows):
        if flow in one.flows:
            yield Problem((*where, "flows", k), f"{both}, and the flow {flow} is of both")


def _part_and_meet(one: ServiceFunctionPath, other: ServiceFunctionPath) -> bool:
    """Whether they share LINEs in more than one run."""
    return one.hops != other.hops and (_runs(one, other) > 1 or _runs(other, one) > 1)


def _runs(path: ServiceFunctionPath, other: ServiceFunctionPath) -> int:
    """In how many runs of LINEs `path` goes along with `other`."""
    theirs = set(_lines(other))
    shared = [line in theirs for line in _lines(path)]
    return sum(here and not before for before, here in zip([False, *shared], shared, strict=False))


def _lines(path: ServiceFunctionPath) -> list[frozenset[str]]:
    return [frozenset(pair) for pair in zip(path.hops[::2], path.hops[1::2], strict=False)]
