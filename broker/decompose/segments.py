"""A route of the search as a Plan: segments, stretches of lines, interconnects, budgets.

Rules kept here
- A segment is what hangs together at one supplier: stretches of lines, from where they come in to where they leave, and
  the functions where they begin and end. Of a chain it is a maximal run.
- The slack to a path's delay bound is shared over its visits in proportion to the planned delays (evenly where all are 0),
  rounded down. Without a bound, a visit's budget is its planned delay: nothing more was asked.
- So are the bound on availability (`availability`), and that of a distance by delay over the segments between its points.
- A segment with a function swaps labels (a function forwards at layer 3); a transit swaps where its way does.
- A LAN goes beside the lines that the mesh says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from address_planner.labels import LabelSet
from broker.decompose.availability import handed_down
from broker.decompose.labelling import Route, walked
from broker.decompose.layered import Layers, Move, figures
from broker.decompose.mesh import MeshPath
from broker.decompose.mesh_rules import SoonOn
from broker.decompose.piece import price_of
from broker.decompose.plan import Joint, Plan, PlannedSegment, Stretch
from broker.decompose.rules import Soon, rules_of


@dataclass(slots=True)
class _Run:
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


def to_plan(route: Route) -> Plan:
    """The plan that a route stands for."""
    layers = route.layers
    graph, mesh = layers.graph, layers.mesh
    runs = _runs(route)
    number = {part: n for n, part in enumerate(dict.fromkeys(run.part for run in runs))}
    grouped: list[list[_Run]] = [[] for _ in number]
    for run in runs:
        grouped[number[run.part]].append(run)
    budgets: list[dict[str, tuple[int, ...]]] = [{} for _ in number]
    for n, path in enumerate(mesh.paths):
        for part, visits in _visits(layers, runs, path, mesh.delay_limit(n)).items():
            budgets[number[part]][path.path.id] = tuple(visits)
    near = _near(layers, grouped)
    available = handed_down(layers, [[move for run in part for move in run.moves] for part in grouped])
    lines = {
        line.link.id: tuple(_stretch(layers, run, number[run.part]) for run in runs if run.line == k)
        for k, line in enumerate(mesh.lines)
    }
    every = [figures(layers, move) for move in route.moves]
    currency = graph.suppliers[int(graph.sap_supplier[layers.q.saps[0]])].note.currency
    return Plan(
        segments=tuple(_segment(layers, *parts) for parts in zip(grouped, budgets, near, available, strict=True)),
        lines=lines,
        lans={
            lan.id: tuple(
                Joint(line=id, after=n)
                for id in (mesh.lines[k].link.id for k in lan.lines)
                for n in range(len(lines[id]) - 1)
            )
            for lan in mesh.lans
        },
        price=price_of(currency, sum(once for once, _, _ in every), sum(hour for _, hour, _ in every)),
        cost=Decimal(route.cost).scaleb(-9),
        delay_us=route.delay,
    )


def _runs(route: Route) -> list[_Run]:
    """In the order of the walk. What hangs together has the same part."""
    layers, lines = route.layers, route.layers.mesh.lines
    runs: list[_Run] = []
    part_of: dict[int, int] = {}
    run: _Run | None = None
    for node, move in walked(route):
        line = lines[move.layer]
        if run is None:  # the line begins
            part = len(runs) if line.tail is None else part_of[line.tail]
            run = _Run(move.layer, part, layers.graph.node_supplier(node), layers.tails[move.layer], None)
            runs.append(run)
        run.moves.append(move)
        if move.way in layers.graph.told:
            run.labels = layers.graph.told_along(move.way, node)
        if move.entry >= 0:
            crossing = layers.graph.crossing[move.entry]
            assert crossing is not None
            run.exit = crossing.target
            supplier = layers.graph.node_supplier(move.entry)
            run = _Run(move.layer, len(runs), supplier, move.entry, crossing.id)
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


def _stretch(layers: Layers, run: _Run, segment: int) -> Stretch:
    entry, exit_ = (layers.graph.sap_offer(sap).id if sap >= 0 else None for sap in (run.entry, run.exit))
    return Stretch(
        segment=segment,
        entry=entry,
        exit=exit_,
        interconnect=run.interconnect,
        entry_labels=run.labels[0],
        exit_labels=run.labels[1],
    )


def _segment(
    layers: Layers,
    runs: list[_Run],
    budgets: dict[str, tuple[int, ...]],
    near: dict[str, int],
    available: float | None,
) -> PlannedSegment:
    graph = layers.graph
    moves = [move for run in runs for move in run.moves]
    once, hour, _ = (sum(figure) for figure in zip(*(figures(layers, move) for move in moves), strict=True))
    points = [graph.between(move.way).point for move in moves if move.way >= 0]
    saps = [sap for run in runs for sap in (run.entry, run.exit) if sap >= 0]
    places = {layers.requests[m.layer].id: graph.here(m.place).place for m in moves if m.place >= 0}
    view = graph.suppliers[runs[0].supplier]
    return PlannedSegment(
        alias=view.alias,
        functions=tuple(places),
        places=places,
        price=price_of(view.note.currency, once, hour),
        swaps_labels=bool(places) or all(point.swaps_labels for point in points),
        mtu=min([*(graph.sap_offer(sap).mtu for sap in saps), *(point.mtu for point in points)]),
        budgets=budgets,
        near=near,
        availability=available,
    )


def _visits(layers: Layers, runs: list[_Run], path: MeshPath, limit: int | None) -> dict[int, list[int]]:
    """Per part, the budgets of a path's visits there in order. It leaves a part over an interconnect only."""
    placing = {move.layer: int(layers.late(move)[1]) for run in runs for move in run.moves if move.place >= 0}
    own = [placing[layers.layer_of[f]] for f in path.functions]
    visits: list[tuple[int, int]] = []
    for n, line in enumerate(path.lines):
        for run in (run for run in runs if run.line == line):
            taken = sum(int(layers.late(move)[0]) for move in run.moves)
            if visits and run.interconnect is None:  # goes on behind a function
                visits[-1] = (run.part, visits[-1][1] + own[n - 1] + taken)
            else:
                visits.append((run.part, taken))
    out: dict[int, list[int]] = {}
    for (part, _), budget in zip(visits, share([taken for _, taken in visits], limit), strict=True):
        out.setdefault(part, []).append(budget)
    return out


def _near(layers: Layers, grouped: list[list[_Run]]) -> list[dict[str, int]]:
    """For each segment, its part of each distance by delay that goes through it."""
    out: list[dict[str, int]] = [{} for _ in grouped]
    for rule in rules_of(layers):
        if isinstance(rule, Soon | SoonOn):
            moves = [[move for run in runs for move in run.moves] for runs in grouped]
            parts = [[p for move in here if (p := rule.part(move)) is not None] for here in moves]
            through = [n for n, part in enumerate(parts) if part]
            bounds = share([round(sum(parts[n])) for n in through], round(rule.limit))
            for n, bound in zip(through, bounds, strict=True):
                out[n][rule.subject] = min(bound, out[n].get(rule.subject, bound))
    return out


def share(planned: list[int], limit: int | None) -> list[int]:
    """Delay budgets (microseconds): what is planned and a share of the slack to `limit`; their sum stays within it."""
    if limit is None:
        return planned
    total, slack = sum(planned), limit - sum(planned)
    if not total:
        return [slack // len(planned)] * len(planned)
    return [own + slack * own // total for own in planned]
