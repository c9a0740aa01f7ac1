"""A route of the search as a Plan: segments, stretches of lines, interconnects, budgets.

Rules kept here
- A segment is all that one supplier delivers of the service: stretches of lines, from where they come in to where they leave,
  and the functions where they begin and end. So a supplier that a path visits twice knows both visits and chooses for both
  together, as its note was read: of two that chose for themselves the first could take what the second needs (ADR 0029).
- Parts that hang together apart stay segments of their own where a LAN is in both, which is one bridge in a segment, and at a
  supplier without the feature `paths`.
- The slack to a path's delay bound is shared over its visits in proportion to the planned delays (evenly where all are 0),
  rounded down. Without a bound, a visit's budget is its planned delay: nothing more was asked.
- So are the bound on availability (`availability`), and that of a distance by delay over the segments between its points.
- A stretch that comes to a function swaps labels (a function forwards at layer 3); a transit swaps where its way does.
- A LAN goes beside the lines that the mesh says. What it needs beyond (`lan_tree`) is part of the segments that have lines,
  or makes segments of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from address_planner.labels import LabelSet
from broker.decompose.availability import handed_down
from broker.decompose.labelling import Route, walked
from broker.decompose.layered import Layers, Move, figures
from broker.decompose.mesh import MeshPath
from broker.decompose.mesh_rules import SoonOn
from broker.decompose.piece import price_of
from broker.decompose.plan import Joint, LanJoint, LanTree, Plan, PlannedSegment, Site, Stretch
from broker.decompose.rules import Soon, rules_of
from service_model.flows import PATHS


@dataclass(slots=True)
class Run:
    """A line's moves at one supplier. `entry`, `exit`: SAPs, -1 at a function; `interconnect` leads to its entry."""

    line: int
    part: int
    supplier: int
    entry: int
    interconnect: str | None
    exit: int = -1
    moves: list[Move] = field(default_factory=list)
    labels: tuple[LabelSet | None, LabelSet | None] = (None, None)
    """What its way tells of labels where it is entered and left; a line takes one way at a supplier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A LAN's own way over an interconnect: between two segments (by number) at their SAPs."""

    segments: tuple[int, int]
    saps: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """What joins a LAN beyond its lines. `ways`: that it pays for, with their segments. `sites`: segment and SAP by the ids of
    its ends. `new`: the suppliers of segments of its own, numbered behind those of the route and of LANs before."""

    lan: str
    ways: tuple[tuple[int, int], ...]
    hops: tuple[Hop, ...]
    sites: Mapping[str, tuple[int, int]]
    new: tuple[int, ...]


def along(way: int) -> Move:
    """A LAN's way as a move, for its figures."""
    return Move(-1, 0.0, 0.0, way, -1, -1, -1)


def runs_of(route: Route) -> list[Run]:
    """In the order of the walk; `part` is the number of the segment."""
    runs = _runs(route)
    whole = _whole(route.layers, runs)
    for run in runs:
        run.part = whole[run.part]
    number = {part: n for n, part in enumerate(dict.fromkeys(run.part for run in runs))}
    for run in runs:
        run.part = number[run.part]
    return runs


def _whole(layers: Layers, runs: list[Run]) -> dict[int, int]:
    """Of each part, the first one of its supplier that it makes a segment with."""
    seller = {run.part: run.supplier for run in runs}
    suppliers = layers.graph.suppliers
    lans = _lans(layers, runs) if layers.mesh.lans else {}
    out: dict[int, int] = {}
    first: dict[int, list[int]] = {}
    for part, supplier in seller.items():
        able = PATHS in suppliers[supplier].note.api_features
        others = first.setdefault(supplier, []) if able else []
        other = next((p for p in others if not lans or lans[p].isdisjoint(lans[part])), None)
        if other is None:
            others.append(part)
        elif lans:
            lans[other] |= lans[part]
        out[part] = part if other is None else other
    return out


def _lans(layers: Layers, runs: list[Run]) -> dict[int, set[str]]:
    """The LANs of each part: of its lines, and of the functions that it places."""
    mesh = layers.mesh
    member_of = {layers.layer_of[f]: lan.id for lan in mesh.lans for f, _ in lan.members}
    out: dict[int, set[str]] = {}
    for run in runs:
        placing = {member_of[m.layer] for m in run.moves if m.place >= 0 and m.layer in member_of}
        out.setdefault(run.part, set()).update(placing, (lan.id for lan in mesh.lans_beside(run.line)))
    return out


def by_segment(runs: list[Run]) -> list[list[Run]]:
    grouped: list[list[Run]] = [[] for _ in {run.part for run in runs}]
    for run in runs:
        grouped[run.part].append(run)
    return grouped


def to_plan(route: Route, trees: Sequence[Grown] = ()) -> Plan:
    """The plan that a route stands for, with what joins its LANs beyond the lines."""
    layers = route.layers
    graph, mesh = layers.graph, layers.mesh
    runs = runs_of(route)
    grouped = by_segment(runs)
    budgets: list[dict[str, tuple[int, ...]]] = [{} for _ in grouped]
    for n, path in enumerate(mesh.paths):
        for part, visits in _visits(layers, runs, path, mesh.delay_limit(n)).items():
            budgets[part][path.path.id] = tuple(visits)
    near = _near(layers, runs, len(grouped))
    lines = {
        line.link.id: tuple(_stretch(layers, run) for run in runs if run.line == k) for k, line in enumerate(mesh.lines)
    }
    fresh = [new for tree in trees for new in tree.new]
    suppliers = [*(part[0].supplier for part in grouped), *fresh]
    own = [*grouped, *([] for _ in fresh)]
    beyond = [[along(way) for tree in trees for segment, way in tree.ways if segment == n] for n in range(len(own))]
    met = [_met(trees, n) for n in range(len(own))]
    moves = [[*(m for run in part for m in run.moves), *more] for part, more in zip(own, beyond, strict=True)]
    available = handed_down(layers, moves)
    budgets, near = [*budgets, *({} for _ in fresh)], [*near, *({} for _ in fresh)]
    every = [figures(layers, move) for part in moves for move in part]
    return Plan(
        segments=tuple(
            _segment(layers, *parts)
            for parts in zip(suppliers, own, beyond, met, budgets, near, available, strict=True)
        ),
        lines=lines,
        lans={
            lan.id: tuple(
                Joint(line=id, after=n)
                for id in (mesh.lines[k].link.id for k in lan.lines)
                for n in range(len(lines[id]) - 1)
            )
            for lan in mesh.lans
        },
        trees={tree.lan: _tree(layers, tree) for tree in trees},
        price=price_of(
            graph.suppliers[suppliers[0]].note.currency,
            sum(once for once, _, _ in every),
            sum(hour for _, hour, _ in every),
        ),
        cost=Decimal(sum(once + hour * layers.hours for once, hour, _ in every)).scaleb(-9),
        delay_us=route.delay,
    )


def _tree(layers: Layers, tree: Grown) -> LanTree:
    graph = layers.graph

    def site(segment: int, sap: int) -> Site:
        return Site(segment=segment, sap=graph.sap_offer(sap).id)

    joints = []
    for hop in tree.hops:
        crossing = graph.crossing[hop.saps[0]]
        assert crossing is not None, "a hop is over an interconnect"
        a, b = (site(*at) for at in zip(hop.segments, hop.saps, strict=True))
        joints.append(LanJoint(interconnect=crossing.id, a=a, b=b))
    return LanTree(joints=tuple(joints), sites={end: site(*at) for end, at in tree.sites.items()})


def _met(trees: Sequence[Grown], segment: int) -> list[int]:
    """The SAPs of a segment where LANs end by themselves."""
    hops = [at for tree in trees for hop in tree.hops for at in zip(hop.segments, hop.saps, strict=True)]
    return [sap for at, sap in (*hops, *(at for tree in trees for at in tree.sites.values())) if at == segment]


def _runs(route: Route) -> list[Run]:
    """In the order of the walk. What hangs together has the same part."""
    layers, lines = route.layers, route.layers.mesh.lines
    runs: list[Run] = []
    part_of: dict[int, int] = {}
    run: Run | None = None
    for node, move in walked(route):
        line = lines[move.layer]
        if run is None:  # the line begins
            part = len(runs) if line.tail is None else part_of[line.tail]
            run = Run(move.layer, part, layers.graph.node_supplier(node), layers.tails[move.layer], None)
            runs.append(run)
        run.moves.append(move)
        if move.way >= 0 and layers.graph.way_told[move.way]:
            run.labels = layers.graph.told_along(move.way, node)
        if move.entry >= 0:
            crossing = layers.graph.crossing[move.entry]
            assert crossing is not None
            run.exit = crossing.target
            supplier = layers.graph.node_supplier(move.entry)
            run = Run(move.layer, len(runs), supplier, move.entry, crossing.id)
            runs.append(run)
            continue
        run.exit = layers.heads[move.layer]
        if line.head is not None and part_of.setdefault(line.head, run.part) != run.part:
            kept, gone = sorted((part_of[line.head], run.part))
            part_of = {f: kept if part == gone else part for f, part in part_of.items()}
            for other in runs:
                other.part = kept if other.part == gone else other.part
        run = None
    return runs


def _stretch(layers: Layers, run: Run) -> Stretch:
    transit = run.entry >= 0 and run.exit >= 0
    ways = [move.way for move in run.moves if move.way >= 0]
    entry, exit_ = (layers.graph.sap_offer(sap).id if sap >= 0 else None for sap in (run.entry, run.exit))
    return Stretch(
        segment=run.part,
        entry=entry,
        exit=exit_,
        interconnect=run.interconnect,
        swaps_labels=not transit or all(layers.graph.way_swaps[way] for way in ways),
        entry_labels=run.labels[0],
        exit_labels=run.labels[1],
    )


def _segment(
    layers: Layers,
    supplier: int,
    runs: list[Run],
    beyond: list[Move],
    met: list[int],
    budgets: dict[str, tuple[int, ...]],
    near: dict[str, dict[str, tuple[int | None, ...]]],
    available: float | None,
) -> PlannedSegment:
    """`beyond`: the ways of LANs that are paid for; `met`: the SAPs where LANs end by themselves."""
    graph = layers.graph
    moves = [move for run in runs for move in run.moves]
    every = [figures(layers, move) for move in (*moves, *beyond)]
    points = [graph.between(move.way).point for move in moves if move.way >= 0]
    wide = [*points, *(graph.between(move.way).point for move in beyond)]
    saps = [*(sap for run in runs for sap in (run.entry, run.exit) if sap >= 0), *met]
    places = {layers.requests[m.layer].id: graph.here(m.place).place for m in moves if m.place >= 0}
    view = graph.suppliers[supplier]
    return PlannedSegment(
        alias=view.alias,
        functions=tuple(places),
        places=places,
        price=price_of(view.note.currency, sum(once for once, _, _ in every), sum(hour for _, hour, _ in every)),
        mtu=min([*(graph.sap_offer(sap).mtu for sap in saps), *(point.mtu for point in wide)]),
        budgets=budgets,
        near=near,
        availability=available,
    )


@dataclass(slots=True)
class _Visit:
    """Of a path to a segment: `ways`, the lines that it takes there with their microseconds; `functions`, by number."""

    part: int
    ways: list[tuple[int, int]]
    functions: list[int] = field(default_factory=list)


def _walk(layers: Layers, runs: list[Run], path: MeshPath) -> list[_Visit]:
    """A path's visits in order. It leaves a segment over an interconnect only."""
    visits: list[_Visit] = []
    for n, line in enumerate(path.lines):
        for run in (run for run in runs if run.line == line):
            taken = (line, sum(int(layers.late(move)[0]) for move in run.moves))
            if visits and run.interconnect is None:  # goes on behind a function
                visits[-1].functions.append(path.functions[n - 1])
                visits[-1].ways.append(taken)
            else:
                visits.append(_Visit(run.part, [taken]))
    return visits


def _own(layers: Layers, runs: list[Run]) -> dict[int, int]:
    """The delay of each function where it is, microseconds."""
    placing = {move.layer: int(layers.late(move)[1]) for run in runs for move in run.moves if move.place >= 0}
    return {f: placing[layer] for f, layer in enumerate(layers.layer_of)}


def _visits(layers: Layers, runs: list[Run], path: MeshPath, limit: int | None) -> dict[int, list[int]]:
    """Per part, the budgets of a path's visits there in order."""
    own, walk = _own(layers, runs), _walk(layers, runs, path)
    planned = [sum(us for _, us in v.ways) + sum(own[f] for f in v.functions) for v in walk]
    out: dict[int, list[int]] = {}
    for visit, budget in zip(walk, share(planned, limit), strict=True):
        out.setdefault(visit.part, []).append(budget)
    return out


def _near(layers: Layers, runs: list[Run], parts: int) -> list[dict[str, dict[str, tuple[int | None, ...]]]]:
    """For each segment and distance by delay, its part of the bound for each visit of each path; None where that is not between
    the two points."""
    own = _own(layers, runs)
    out: list[dict[str, dict[str, tuple[int | None, ...]]]] = [{} for _ in range(parts)]
    for rule in rules_of(layers):
        if not isinstance(rule, Soon | SoonOn):
            continue
        path = layers.mesh.paths[rule.path]
        walk = _walk(layers, runs, path)
        through = [v for v in walk if any(line in rule.lines for line, _ in v.ways)]
        planned = [
            sum(us for line, us in v.ways if line in rule.lines)
            + sum(own[f] for f in v.functions if layers.layer_of[f] in rule.inner)
            for v in through
        ]
        bounds = {id(v): bound for v, bound in zip(through, share(planned, round(rule.limit)), strict=True)}
        for part in {v.part for v in through}:
            of_path = out[part].setdefault(rule.subject, {})
            of_path[path.path.id] = tuple(bounds.get(id(v)) for v in walk if v.part == part)
    return out


def share(planned: list[int], limit: int | None) -> list[int]:
    """Delay budgets (microseconds): what is planned and a share of the slack to `limit`; their sum stays within it."""
    if limit is None:
        return planned
    total, slack = sum(planned), limit - sum(planned)
    if not total:
        return [slack // len(planned)] * len(planned)
    return [own + slack * own // total for own in planned]
