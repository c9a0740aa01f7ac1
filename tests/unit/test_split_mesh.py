"""However a mesh is cut, its parts make the whole again: paths, joints, labels, prefixes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network
from itertools import combinations

import pytest

from address_planner.prefixes import overlap
from broker.decompose.mesh import Mesh, read_mesh
from broker.decompose.plan import Infeasible, Plan
from broker.decompose.search import plan
from broker.orders.addressing import block_bits
from broker.orders.cut import Cut
from broker.orders.split import HandedDown, Split, split
from service_model.check import check
from service_model.flows import PATHS, Flow, FlowProtocol
from service_model.spec import LinkKind, ServiceFunctionPath, ServiceSpec
from service_model.words import Prefix
from tests.support.meshes import ANYWHERE, random_plan, random_service, service
from tests.support.planning import NOW, mesh_spec, random_snapshot

BLOCK = ip_network("10.64.0.0/22")
WEB = Flow(protocol=FlowProtocol.TCP, port=80)


def divided(seed: int, spec: ServiceSpec | None = None) -> tuple[Mesh, Plan, Split]:
    rng = random.Random(seed)
    mesh = read_mesh(spec or random_service(rng))
    assert isinstance(mesh, Mesh)
    planned = random_plan(rng, mesh)
    return mesh, planned, split(mesh, planned, ANYWHERE.snapshot(), (BLOCK,), "k")


def leads(part: HandedDown, own: ServiceFunctionPath, end: str, whole: ServiceFunctionPath, beyond: str) -> bool:
    """Whether a path of a segment leads, at its end `end`, to what the service's path has `beyond`."""
    return f"{beyond}@{whole.id}" in part.towards.get(f"{end}@{own.id}", part.towards[end])


def walked(parts: Split, path: ServiceFunctionPath) -> list[str]:
    """The hops of a path as its packets find them, segment by segment: by where they go, and by flow where that is told."""
    hops, at, been = [path.hops[0]], path.hops[0], ""
    while True:
        leading = [
            (part.key, own)
            for part in parts.segments
            for own in part.spec.paths
            if part.key != been and own.hops[0] == at
            and leads(part, own, own.hops[0], path, path.hops[0]) and leads(part, own, own.hops[-1], path, path.hops[-1])
        ]  # fmt: skip
        named = [(key, own) for key, own in leading if own.flows and own.flows == path.flows]
        found = {(key, own.hops) for key, own in named or leading if named or not own.flows}
        assert len(found) == 1, (path.id, at, found)
        ((been, part_hops),) = found
        hops += part_hops[1:-1]
        at = part_hops[-1]
        if at == path.hops[-1]:
            return [*hops, at]


@pytest.mark.parametrize("seed", range(150))
def test_the_parts_of_a_mesh_make_the_whole(seed: int) -> None:
    mesh, plan, parts = divided(seed)
    for part in parts.segments:
        assert check(part.spec) == (), part.spec
        assert (PATHS in part.spec.required_features) == part.spec.needs_paths()
    for path in mesh.spec.paths:
        assert walked(parts, path) == list(path.hops)
    joints_meet(parts)
    labels_are_whole(mesh, parts, plan)
    prefixes_are_apart(parts)
    lans_are_trees(mesh, parts)


def joints_meet(parts: Split) -> None:
    """Every joint has two sides, each at a SAP."""
    sides = Counter(end for part in parts.segments for end in part.crossings)
    assert set(sides.values()) <= {2}


def labels_are_whole(mesh: Mesh, parts: Split, plan: Plan) -> None:
    """Each end at a joint is in one class, whose suggestion it has; those of one interconnect differ. The ends of a stretch are
    in one only if it ties them."""
    members = Counter((m.segment, m.end) for c in parts.classes for m in c.members)
    for part in parts.segments:
        for end in part.spec.ends:
            assert members[part.key, end.id] == 1 if end.id in part.crossings else members[part.key, end.id] <= 1
    joints = Counter(i for c in parts.classes for i in c.interconnects)
    assert joints.total() == len({end for part in parts.segments for end in part.crossings})
    assert len({(i, c.suggested) for c in parts.classes for i in c.interconnects}) == joints.total()
    cut = Cut(mesh, plan)
    for line, sections in cut.sections.items():
        for section, stretch in zip(sections, plan.lines[line], strict=True):
            assert stretch.swaps_labels or None not in (stretch.entry, stretch.exit)
            ends = {(cut.keys[section.segment], point) for point in (section.a, section.b)}
            together = any(ends <= {(m.segment, m.end) for m in c.members} for c in parts.classes)
            assert not together or not stretch.swaps_labels
            assert together or stretch.swaps_labels or not ends & set(members)


def prefixes_are_apart(parts: Split) -> None:
    decided = [crossing.prefix for crossing in parts.links.values()]
    shares = [prefix for part in parts.segments for prefix in part.spec.blocks.allowed]
    assert not any(overlap(x, y) for x, y in combinations([*decided, *shares], 2))
    for part in parts.segments:
        needed = sum(1 << bits for bits in block_bits(part.spec).values())
        assert size(part.spec.blocks.allowed) >= needed * bool(part.spec.blocks.allowed) / 2


def size(prefixes: Iterable[Prefix]) -> int:
    return sum(prefix.num_addresses for prefix in prefixes)


def lans_are_trees(mesh: Mesh, parts: Split) -> None:
    """The bridges of a LAN and the joints between them are one tree: all is joined, and nothing goes round."""
    for lan in mesh.lans:
        bridges = [link for part in parts.segments for link in part.spec.links if link.id == lan.id]
        assert all(link.kind is LinkKind.LAN for link in bridges)
        ends = Counter(p for link in bridges for p in link.points if p.startswith("x"))
        ports = sorted(p for link in bridges for p in link.points if not p.startswith("x"))
        assert ports == sorted(mesh.spec.link(lan.id).points)
        assert set(ends.values()) <= {2}
        assert len(ends) == len(bridges) - 1


@pytest.mark.parametrize("paths", [("a f b", "a f c"), ("a f g b", "c g d"), ("a f g h b", "a f h b")])
def test_what_the_planner_makes_of_a_mesh_is_whole_again(paths: tuple[str, ...]) -> None:
    made = 0
    for seed in range(12):
        known = random_snapshot(seed, 3, labels=4, joints=1)
        ends = {end: f"s{n % 3}.uni" for n, end in enumerate(sorted({e for p in paths for e in (p[0], p[-1])}))}
        functions = sorted({f for p in paths for f in p.split()[1:-1]})
        spec = mesh_spec(ends, {f: "xy"[n % 2] for n, f in enumerate(functions)}, *paths, term_hours=1)
        if check(spec):  # its paths part and meet again
            first, *others = spec.paths
            spec = replace(spec, paths=(replace(first, flows=(WEB,)), *others))
        found, mesh = plan(spec, known, NOW), read_mesh(spec)
        assert isinstance(mesh, Mesh)
        for planned in () if isinstance(found, Infeasible) else found:
            parts = split(mesh, planned, known, (BLOCK,), "k")
            assert not any(check(part.spec) for part in parts.segments)
            assert all(walked(parts, path) == list(path.hops) for path in mesh.spec.paths)
            joints_meet(parts)
            labels_are_whole(mesh, parts, planned)
            made += 1
    assert made > 3


def test_random_meshes_are_of_every_kind() -> None:
    """What the property above is worth: how many of its meshes have what makes it hard."""
    meshes = [divided(seed) for seed in range(150)]
    assert sum(len(mesh.paths) > 2 for mesh, _, _ in meshes) > 40
    assert sum(any(path.flows for part in parts.segments for path in part.spec.paths) for _, _, parts in meshes) > 15
    assert sum(any("@" in end for part in parts.segments for end in part.towards) for _, _, parts in meshes) > 5
    assert sum(bool(mesh.lans) for mesh, _, _ in meshes) > 30


def test_a_line_that_comes_back_to_its_segment_is_two_links_there_with_a_prefix_in_common() -> None:
    spec = service("a s g j b", "a s j b", flows={"w0": (WEB,)})
    back = [
        (part, parts)
        for seed in range(60)
        for parts in [divided(seed, spec)[2]]
        for part in parts.segments
        if part.lines
    ]
    assert len(back) > 5
    both = 0
    for part, parts in back:
        assert check(part.spec) == ()
        for own, line in part.lines.items():
            pieces = [part.spec.link(line), part.spec.link(own)]
            ported = [piece.addressing for piece in pieces if any(":" in point for point in piece.points)]
            assert all(piece.prefix == parts.links[line].prefix for piece in ported)
            assert len({piece.hosts for piece in ported}) == len(ported)
            both += len(ported) > 1
    assert both > 5


def test_flows_go_only_where_paths_part() -> None:
    """Two branches at suppliers of their own: these deliver one path, and need not know of flows."""
    spec = service("a s g j b", "a s h j b", flows={"w0": (WEB,)})
    for seed in range(30):
        _, _, parts = divided(seed, spec)
        for part in parts.segments:
            functions = {f.id for f in part.spec.functions}
            flows = [path.flows for path in part.spec.paths]
            assert any(flows) <= bool(functions & {"s", "j"})
            if {"s", "j"} & functions:
                assert set(flows) == {(WEB,), ()}
