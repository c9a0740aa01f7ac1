"""What is wrong with the constraints on where functions may be, whoever is asked. Each problem names its culprit.

Rules kept here
- Groups and distances have ids of their own; they name functions that are declared, each once.
- A group says its kind and scope; a distance says kilometres or microseconds, and joins two different points of a path.
- A country is not both allowed and denied.
"""

from __future__ import annotations

from collections.abc import Iterator

from service_model.constraints import Countries, GroupKind, GroupScope
from service_model.problem import Path, Problem
from service_model.spec import ServiceSpec, split_point


def constraint_faults(spec: ServiceSpec) -> Iterator[Problem]:
    yield from _groups(spec)
    yield from _distances(spec)
    yield from _countries(spec.countries, ("countries",))
    for i, function in enumerate(spec.functions):
        yield from _countries(function.countries, ("functions", i, "countries"))


def _groups(spec: ServiceSpec) -> Iterator[Problem]:
    functions = {f.id for f in spec.functions}
    ids: set[str] = set()
    for i, group in enumerate(spec.groups):
        where: Path = ("groups", i)
        if group.id in ids:
            yield Problem((*where, "id"), f"{group.id!r} is already the id of a group")
        ids.add(group.id)
        if group.kind is GroupKind.UNSPECIFIED:
            yield Problem((*where, "kind"), f"the group {group.id!r} is neither AFFINITY nor ANTI_AFFINITY")
        if group.scope is GroupScope.UNSPECIFIED:
            yield Problem((*where, "scope"), f"the group {group.id!r} is by neither HOST, PLACE nor SUPPLIER")
        for k, name in enumerate(group.functions):
            if name not in functions:
                yield Problem((*where, "functions", k), f"{name!r} is not a function of the service")
            if name in group.functions[:k]:
                yield Problem((*where, "functions", k), f"{name!r} is already in the group {group.id!r}")


def _distances(spec: ServiceSpec) -> Iterator[Problem]:
    functions = {f.id for f in spec.functions}
    ends = {e.id for e in spec.ends}
    on_path = {split_point(hop)[0] for path in spec.paths for hop in path.hops}
    ids: set[str] = set()
    for i, distance in enumerate(spec.distances):
        where: Path = ("distances", i)
        if distance.id in ids:
            yield Problem((*where, "id"), f"{distance.id!r} is already the id of a distance")
        ids.add(distance.id)
        if distance.function not in functions:
            yield Problem((*where, "function"), f"{distance.function!r} is not a function of the service")
        if distance.to not in functions | ends:
            yield Problem((*where, "to"), f"{distance.to!r} is neither a function nor an end of the service")
        elif distance.to in ends - on_path:
            yield Problem((*where, "to"), f"{distance.to!r} is an end that no path goes to")
        if distance.to == distance.function:
            yield Problem((*where, "to"), f"{distance.to!r} is at no distance from itself")
        if distance.max_km is None and distance.max_delay_us is None:
            yield Problem(where, f"the distance {distance.id!r} says neither max_km nor max_delay_us")


def _countries(countries: Countries, where: Path) -> Iterator[Problem]:
    for k, country in enumerate(countries.denied):
        if country in countries.allowed:
            yield Problem((*where, "denied", k), f"{country} is allowed and denied")
