"""What a segment is told of its paths: packets, delay, hosts and distances. Pure.

Rules kept here
- Visits that go the same way in a segment are one path of it. Flows are told only of paths that share a LINE there with
  another one: elsewhere nothing is to be chosen. Where they are told, visits of other flows stay apart.
- Where a path has a bound, each visit has its part of it: the segment's own where it is all one path, else the path's.
- Countries and isolation bind every segment, transits too. Hosts that functions share or not are a matter of the segment
  that has them; of a distance by delay each segment between its points gets its part of the bound. What the places of the
  plan keep (groups by place or supplier, kilometres) is not handed down: a supplier means other suppliers than we do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from broker.decompose.plan import PlannedSegment
from broker.orders.cut import Cut, Visit
from service_model.constraints import Distance, Group, GroupScope
from service_model.flows import Flow
from service_model.replacing import replace
from service_model.spec import ServiceFunctionPath, split_point


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One path of a segment, and the visits that it stands for."""

    path: ServiceFunctionPath
    visits: tuple[Visit, ...]

    @property
    def beyond(self) -> Mapping[str, tuple[str, ...]]:
        """At its first and last end: `end@path` of the service for each visit's."""
        first = tuple(dict.fromkeys(f"{v.path.hops[0]}@{v.path.id}" for v in self.visits))
        last = tuple(dict.fromkeys(f"{v.path.hops[-1]}@{v.path.id}" for v in self.visits))
        return {self.path.hops[0]: first, self.path.hops[-1]: last}


def paths(cut: Cut, i: int) -> tuple[Told, ...]:
    """The paths of segment `i`, without their bounds."""
    alike: dict[tuple[tuple[str, ...], tuple[Flow, ...]], list[Visit]] = {}
    here = [visit for visit in cut.visits if visit.segment == i]
    for visit in here:
        chosen = any(_meet(visit, other) for other in here)
        alike.setdefault((visit.hops, visit.path.flows if chosen else ()), []).append(visit)
    names = ["path"] if len(alike) == 1 else [f"path{n}" for n in range(1, len(alike) + 1)]
    return tuple(
        Told(path=ServiceFunctionPath(id=name, hops=hops, flows=flows), visits=tuple(visits))
        for name, ((hops, flows), visits) in zip(names, alike.items(), strict=True)
    )


def _meet(visit: Visit, other: Visit) -> bool:
    """Whether two visits share a LINE and do not go the same way."""
    return visit.hops != other.hops and not set(visit.sections).isdisjoint(other.sections)


class Answered(Protocol):
    """What a supplier tells of the delays of a segment, microseconds: of its slowest path, and of each by id if it does."""

    @property
    def delay_us(self) -> int: ...

    @property
    def path_delays_us(self) -> Mapping[str, int]: ...


def path_delays(cut: Cut, answered: Mapping[str, Answered]) -> dict[str, int]:
    """Of each path of the service, by id: what its visits in the segments (by key) take together."""
    sums = {path.path.id: 0 for path in cut.mesh.paths}
    for i, key in enumerate(cut.keys):
        answer = answered[key]
        for told in paths(cut, i):
            own = answer.path_delays_us.get(told.path.id, answer.delay_us)
            for visit in told.visits:
                sums[visit.path.id] += own
    return sums


def limits(cut: Cut, i: int, told: tuple[Told, ...]) -> tuple[int | None, tuple[ServiceFunctionPath, ...]]:
    """The bound on all of the segment's paths, and the paths with bounds of their own."""
    found = [min((us for v in t.visits for us in _bounds(cut, i, v)), default=None) for t in told]
    if len(told) == 1:
        return found[0], (told[0].path,)
    return None, tuple(replace(t.path, max_delay_us=us) for t, us in zip(told, found, strict=True))


def _bounds(cut: Cut, i: int, visit: Visit) -> Iterator[int]:
    """Of the path's bound, and of each distance by delay that goes through the segment from side to side."""
    planned = cut.plan.segments[i]
    if cut.mesh.spec.delay_limit(visit.path) is not None:
        yield planned.budgets[visit.path.id][visit.number]
    own = _owners(visit).intersection(planned.functions)
    for distance in cut.mesh.spec.distances:
        us = _near(planned, distance, visit)
        if us is not None and own.isdisjoint((distance.function, distance.to)):
            yield us


def _near(planned: PlannedSegment, distance: Distance, visit: Visit) -> int | None:
    """The visit's part of a distance by delay; None where it is not between its points."""
    parts = planned.near.get(distance.id, {}).get(visit.path.id, ())
    return parts[visit.number] if parts else None


def _owners(visit: Visit) -> set[str]:
    return {split_point(hop)[0] for hop in visit.hops}


def groups(cut: Cut, i: int) -> Iterator[Group]:
    """Functions of other segments are no matter of this one: the plan keeps them at other places."""
    functions = cut.plan.segments[i].functions
    for group in cut.mesh.spec.groups:
        here = tuple(f for f in group.functions if f in functions)
        if group.scope is GroupScope.HOST and len(here) > 1:
            yield replace(group, functions=here)


def distances(cut: Cut, i: int, told: tuple[Told, ...]) -> Iterator[Distance]:
    """Of each distance by delay with a point here: to its other point, or to where the segment ends towards it."""
    planned = cut.plan.segments[i]
    ids = {d.id for d in cut.mesh.spec.distances}
    names = (f"d{n}" for n in range(1, 10_000) if f"d{n}" not in ids)
    for distance in cut.mesh.spec.distances:
        visits = [visit for t in told for visit in t.visits]
        for n, ((function, to), us) in enumerate(_spans(distance, visits, planned).items()):
            id = distance.id if n == 0 else next(names)
            yield Distance(id=id, function=function, to=to, max_delay_us=us)


def _spans(distance: Distance, visits: Iterable[Visit], planned: PlannedSegment) -> dict[tuple[str, str], int]:
    """From a function here to the other point, or to the end of a visit that leads there: each once, with its bound."""
    out: dict[tuple[str, str], int] = {}
    for visit in visits:
        us = _near(planned, distance, visit)
        here = _owners(visit).intersection((distance.function, distance.to), planned.functions)
        if us is None or not here:
            continue
        order = {split_point(hop)[0]: k for k, hop in enumerate(visit.path.hops)}
        first, last = sorted((distance.function, distance.to), key=order.__getitem__)
        span = (first, last if last in here else visit.hops[-1]) if first in here else (last, visit.hops[0])
        out[span] = min(us, out.get(span, us))
    return out
