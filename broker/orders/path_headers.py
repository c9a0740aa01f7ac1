"""Path headers of a service that is split: at each interconnect of a path between two of its segments. Pure.

Rules kept here
- A joint has the header of the first path that crosses it, in the order of the spec: where paths part or meet, who has the
  function there puts on another one (RFC 7665, 2.2, classification within a path).
- A joint has one only where both sides say that they carry it. An end of the service has the one that we were told.
- LANs have none: a broadcast is on no path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

from broker.decompose.plan import Snapshot
from broker.orders.cut import Cut
from service_model.path_headers import PathHeader, between
from service_model.spec import End


def headed(cut: Cut, snapshot: Snapshot) -> tuple[str, ...]:
    """The paths that need an identifier."""
    return tuple(dict.fromkeys(path for _, path, _, _ in _joints(cut, snapshot)))


def headers(cut: Cut, snapshot: Snapshot, ids: Mapping[str, int]) -> dict[str, PathHeader]:
    """By the end id of the joint. `ids`: of the paths that have one."""
    found = (
        (end, between(ids[path], passed, ahead)) for end, path, passed, ahead in _joints(cut, snapshot) if path in ids
    )
    return {end: header for end, header in found if header is not None}


def with_headers(ends: tuple[End, ...], told: Mapping[str, PathHeader]) -> tuple[End, ...]:
    """Ends of a segment, with what is told of those at joints."""
    return tuple(replace(end, path_header=told[end.id]) if end.id in told else end for end in ends)


def _joints(cut: Cut, snapshot: Snapshot) -> Iterator[tuple[str, str, int, int]]:
    """Each joint that carries headers, with its path: how many segments that has passed there, and how many are ahead."""
    notes = {view.alias: view.note for view in snapshot.suppliers}
    seen: set[str] = set()
    for path in cut.mesh.paths:
        visits = [visit for visit in cut.visits if visit.path.id == path.path.id]
        for passed, (before, after) in enumerate(pairwise(visits), 1):
            end = before.hops[-1]
            sides = ((before.segment, before.sections[-1].sap_b), (after.segment, after.sections[0].sap_a))
            if end in seen:
                continue
            seen.add(end)
            offers = [notes[cut.plan.segments[segment].alias].sap(sap or "") for segment, sap in sides]
            if all(offer is not None and offer.path_headers for offer in offers):
                yield end, path.path.id, passed, len(visits) - passed
