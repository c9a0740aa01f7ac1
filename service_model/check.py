"""What is wrong with a spec in itself, whoever is asked to deliver it.

Rules kept here
- An id names one thing: ends and functions share a name space; links have theirs, paths theirs.
- A connection point is a declared end, or a port of a declared function, and lies on at most one link. Every end does.
- A LINE has two points. A LAN may have one only if that is a port off every path (the management of a lone function).
- A path goes from an end, into each function by one port and out by another, to an end; each out and the next in are
  the two points of a LINE (RFC 7665, 2.2). A function that no path visits would be paid for and never used.
- What holds of its addresses is in `check_addresses`, of where functions may be in `check_constraints`, of which packets
  take which path in `check_flows`.

Each problem names its culprit; their order is fixed. A transit is a valid spec: two ends, a link, no function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from service_model.check_addresses import address_faults
from service_model.check_constraints import constraint_faults
from service_model.check_flows import flow_faults
from service_model.problem import Path, Problem
from service_model.spec import LinkKind, ServiceSpec, split_point

LEAST_BANDWIDTH_BPS = 1000

__all__ = ["LEAST_BANDWIDTH_BPS", "Problem", "check"]


def check(spec: ServiceSpec) -> tuple[Problem, ...]:
    """Everything that is wrong with `spec` in itself, in its order; empty when nothing is."""
    return (
        *_ids(spec),
        *_ends(spec),
        *_links(spec),
        *_paths(spec),
        *address_faults(spec),
        *_figures(spec),
        *constraint_faults(spec),
        *flow_faults(spec),
    )


def _twice(names: Iterable[tuple[Path, str]], what: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for path, name in names:
        if name in seen:
            yield Problem(path, f"{name!r} is already {what}")
        seen.add(name)


def _ids(spec: ServiceSpec) -> Iterator[Problem]:
    ends: list[tuple[Path, str]] = [(("ends", i, "id"), end.id) for i, end in enumerate(spec.ends)]
    functions: list[tuple[Path, str]] = [(("functions", i, "id"), f.id) for i, f in enumerate(spec.functions)]
    yield from _twice([*ends, *functions], "the id of an end or a function")
    yield from _twice(((("links", i, "id"), link.id) for i, link in enumerate(spec.links)), "the id of a link")
    yield from _twice(((("paths", i, "id"), path.id) for i, path in enumerate(spec.paths)), "the id of a path")
    yield from _twice(((("managers", i), name) for i, name in enumerate(spec.managers)), "named as a manager")


def _ends(spec: ServiceSpec) -> Iterator[Problem]:
    joined = {point for link in spec.links for point in link.points}
    for i, end in enumerate(spec.ends):
        if end.id not in joined:
            yield Problem(("ends", i), f"the end {end.id!r} is on no link")
        if end.labels is not None and not end.labels:
            yield Problem(("ends", i, "labels"), f"the end {end.id!r} may use no label at all")
        elif end.labels is not None and end.suggested_label is not None and end.suggested_label not in end.labels:
            where: Path = ("ends", i, "suggested_label")
            yield Problem(where, f"the suggested label {end.suggested_label} is not among the labels {end.labels}")
        if end.path_header is not None and not any(end.id in (p.hops[0], p.hops[-1]) for p in spec.paths):
            yield Problem(
                ("ends", i, "path_header"), f"no path begins or ends at {end.id!r}: nothing there bears a header"
            )


@dataclass(frozen=True, slots=True)
class _Declared:
    ends: frozenset[str]
    functions: frozenset[str]

    @classmethod
    def by(cls, spec: ServiceSpec) -> _Declared:
        return cls(frozenset(end.id for end in spec.ends), frozenset(f.id for f in spec.functions))

    def fault(self, point: str) -> str | None:
        """Why `point` is no connection point; None when it is."""
        owner, port = split_point(point)
        if point in self.ends:
            return None
        if ":" not in point:
            known = "a function, which is joined by a port: write " + repr(owner + ":PORT")
            return f"{point!r} is {known}" if owner in self.functions else f"{point!r} is not the id of an end"
        if owner not in self.functions:
            return f"{point!r} is a port of the function {owner!r}, which is not declared"
        return None if port and ":" not in port else f"{point!r} does not name a port as function:port"


def _links(spec: ServiceSpec) -> Iterator[Problem]:
    declared = _Declared.by(spec)
    on_path = {hop for path in spec.paths for hop in path.hops}
    first: dict[str, str] = {}
    for i, link in enumerate(spec.links):
        where: Path = ("links", i, "points")
        count = len(link.points)
        if link.kind is LinkKind.UNSPECIFIED:
            yield Problem(("links", i, "kind"), f"the link {link.id!r} is neither LINE nor LAN")
        if link.kind is LinkKind.LINE and count != 2:
            yield Problem(where, f"the LINE {link.id!r} joins two points, not {count}")
        if link.kind is LinkKind.LAN and count == 0:
            yield Problem(where, f"the LAN {link.id!r} joins no point")
        if link.kind is LinkKind.LAN and count == 1 and (link.points[0] in declared.ends or link.points[0] in on_path):
            yield Problem(where, f"the LAN {link.id!r} joins {link.points[0]!r} to nothing")
        for k, point in enumerate(link.points):
            if fault := declared.fault(point):
                yield Problem((*where, k), fault)
            if point in first:
                yield Problem((*where, k), f"{point!r} is already on the link {first[point]!r}")
            first.setdefault(point, link.id)


def _paths(spec: ServiceSpec) -> Iterator[Problem]:
    declared = _Declared.by(spec)
    joints = {frozenset(link.points) for link in spec.links if link.kind is LinkKind.LINE}
    on_lan = {point: link.id for link in spec.links if link.kind is LinkKind.LAN for point in link.points}
    for i, path in enumerate(spec.paths):
        where: Path = ("paths", i, "hops")
        yield from _hops(path.id, path.hops, where, declared)
        for k, (out, into) in enumerate(pairwise(path.hops)):
            if k % 2 or frozenset((out, into)) in joints:
                continue
            lan = on_lan.get(into) or on_lan.get(out)
            hint = f"; the LAN {lan!r} carries no path" if lan else ""
            yield Problem((*where, k + 1), f"the path {path.id!r}: no LINE joins {out!r} and {into!r}{hint}")
    visited = {split_point(hop)[0] for path in spec.paths for hop in path.hops}
    for i, function in enumerate(spec.functions):
        if function.id not in visited:
            yield Problem(("functions", i), f"no path visits the function {function.id!r}")


def _hops(name: str, hops: Sequence[str], where: Path, declared: _Declared) -> Iterator[Problem]:
    for k, hop in enumerate(hops):
        if fault := declared.fault(hop):
            yield Problem((*where, k), f"the path {name!r}: {fault}")
    for k, place in ((0, "begins"), (len(hops) - 1, "ends")):
        if hops[k] not in declared.ends:
            yield Problem((*where, k), f"the path {name!r} {place} at {hops[k]!r}, which is not an end of the service")
    if len(hops) % 2:
        reason = (
            f"the path {name!r} has {len(hops)} hops; an end, in and out of each function, an end make an even number"
        )
        yield Problem(where, reason)
    for k in range(1, len(hops) - 2, 2):
        into, out = split_point(hops[k]), split_point(hops[k + 1])
        if into[0] != out[0]:
            reason = f"the path {name!r} goes in at {hops[k]!r} and out at {hops[k + 1]!r}, which is another function"
            yield Problem((*where, k + 1), reason)
    for hop, times in Counter(hops).items():
        if times > 1:
            second = [k for k, other in enumerate(hops) if other == hop][1]
            yield Problem((*where, second), f"the path {name!r} passes {hop!r} {times} times")


def _figures(spec: ServiceSpec) -> Iterator[Problem]:
    if 0 < spec.bandwidth_bps < LEAST_BANDWIDTH_BPS:
        reason = f"{spec.bandwidth_bps} bit/s is absurd; bandwidth_bps counts bits per second (50 Mbit/s is 50000000)"
        yield Problem(("bandwidth_bps",), reason)
    if spec.start_time and spec.end_time and spec.end_time <= spec.start_time:
        reason = f"the end {spec.end_time.isoformat()} is not after the start {spec.start_time.isoformat()}"
        yield Problem(("end_time",), reason)
