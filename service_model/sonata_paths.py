"""The forwarding graphs of a SONATA NSD as ordered paths.

Rules kept here
- A path's hops stand in the order of their `position`, which counts up by one from 0 or 1; a duplicate or a gap is
  refused, since either leaves the order open.
- What a graph says it consists of is declared, and its paths visit nothing else: a graph that contradicts its own path
  does not say which of the two was meant. The *numbers* of end points and links are informational (examples differ on
  whether management counts).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from service_model.sonata_form import Descriptor
from service_model.yaml_lines import Path


@dataclass(frozen=True, slots=True)
class ForwardingPath:
    """`hops`: (where it is written, connection point reference), in order of position; at least two."""

    id: str
    path: Path
    hops: tuple[tuple[Path, str], ...]


def forwarding_paths(
    form: Descriptor, functions: Collection[str], links: Mapping[str, Collection[str]]
) -> tuple[ForwardingPath, ...]:
    """Every path of every graph. `functions`: declared vnf_ids; `links`: id → its references. Faults go to `form`."""
    out: list[ForwardingPath] = []
    for where, graph in form.items((), form.root, "forwarding_graphs"):
        form.fields(
            where,
            graph,
            "fg_id constituent_vnfs constituent_virtual_links network_forwarding_paths",
            "number_of_endpoints number_of_virtual_links dependent_virtual_links depedent_virtual_links description",
        )
        form.text(where, graph, "fg_id")
        paths = [
            path for at, item in form.items(where, graph, "network_forwarding_paths") for path in _path(form, at, item)
        ]
        _constituents(form, where, graph, paths, functions, links)
        out += paths
    return tuple(out)


def _path(form: Descriptor, where: Path, item: Mapping[str, Any]) -> list[ForwardingPath]:
    form.fields(where, item, "fp_id policy connection_points", "description")
    id = form.text(where, item, "fp_id")
    policy = form.text(where, item, "policy", "none")
    if policy not in ("none", ""):
        form.fault((*where, "policy"), f"the policy {policy!r} is not carried out; only 'none' is read")
    hops: dict[int, tuple[Path, str]] = {}
    for at, hop in form.items(where, item, "connection_points"):
        form.fields(at, hop, "connection_point_ref position", "description")
        ref, position = form.text(at, hop, "connection_point_ref"), hop.get("position")
        if type(position) is not int:
            form.fault((*at, "position"), "a whole number belongs here")
        elif position in hops:
            form.fault((*at, "position"), f"position {position} is taken by {hops[position][1]!r}")
        else:
            hops[position] = ((*at, "connection_point_ref"), ref)
    order = sorted(hops)
    if len(order) < 2:
        form.fault((*where, "connection_points"), f"the path {id!r} has fewer than two connection points")
        return []
    if order[0] not in (0, 1):
        form.fault((*hops[order[0]][0][:-1], "position"), f"positions begin at {order[0]}, not at 1")
    for before, position in pairwise(order):
        if position != before + 1:
            form.fault((*hops[position][0][:-1], "position"), f"position {position} follows {before}: a gap")
    return [ForwardingPath(id, where, tuple(hops[position] for position in order))]


def _constituents(
    form: Descriptor,
    where: Path,
    graph: Mapping[str, Any],
    paths: list[ForwardingPath],
    functions: Collection[str],
    links: Mapping[str, Collection[str]],
) -> None:
    hops = {ref: at for path in paths for at, ref in path.hops}
    if "constituent_vnfs" in graph:
        named = form.texts(where, graph, "constituent_vnfs")
        for at, name in named:
            if name not in functions:
                form.fault(at, f"no network function has the vnf_id {name!r}")
        visited = {owner for ref in hops if (owner := ref.partition(":")[0]) in functions}
        for owner in sorted(visited - {name for _, name in named}):
            form.fault((*where, "constituent_vnfs"), f"a path visits {owner!r}, which is not listed")
    if "constituent_virtual_links" in graph:
        named = form.texts(where, graph, "constituent_virtual_links")
        for at, name in named:
            if name not in links:
                form.fault(at, f"the virtual link {name!r} is not declared")
        used = {link for link, points in links.items() if any(point in hops for point in points)}
        for link in sorted(used - {name for _, name in named}):
            form.fault((*where, "constituent_virtual_links"), f"a path runs over {link!r}, which is not listed")
