"""The reference: one order over one snapshot as a mixed-integer program, solved to the proven optimum by HiGHS.

Rules kept here
- Written from the notes alone, without a part of the planner. A flow from position to position of the service over the
  directed ways; a function is at exactly one place; nothing passes through a place at which it has no business.
- Only what is proven counts: a time limit's incumbent is no reference (`None`).
- Bandwidth of ways and SAPs, capacity of places (one bin each), delay of each path, groups that must be apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from broker.decompose.plan import Snapshot
from service_model.spec import ServiceSpec, split_point

_INFEASIBLE = 2
_OPTIMAL = 0


@dataclass(frozen=True, slots=True)
class Optimum:
    """`cost` None: proven infeasible."""

    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class _Arc:
    source: tuple[str, ...]
    target: tuple[str, ...]
    cost: float
    delay: float
    way: tuple[str, int, int]
    bandwidth: float
    crossed: tuple[tuple[str, str], ...]


class _Rows:
    """Sparse rows of a linear constraint, collected one by one."""

    def __init__(self) -> None:
        self.at: list[tuple[int, int, float]] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def add(self, terms: Mapping[int, float] | Iterable[tuple[int, float]], low: float, high: float) -> None:
        row = len(self.low)
        self.at += [(row, column, value) for column, value in (terms.items() if isinstance(terms, Mapping) else terms)]
        self.low.append(low)
        self.high.append(high)


def optimum(
    spec: ServiceSpec, snapshot: Snapshot, seconds: float = 60.0, apart: tuple[str, ...] = ()
) -> Optimum | None:
    """The proven optimum; None where none was proven in time. `apart`: functions at different suppliers."""
    arcs = _arcs(spec, snapshot)
    links = [tuple(split_point(p)[0] for p in link.points) for link in spec.links]
    ends = {e.id: _sap(snapshot, e.sap) for e in spec.ends}
    spots = _spots(spec, snapshot)
    flow = len(arcs) * len(links)
    column: dict[tuple[str, tuple[str, ...]], int] = {}
    cost = np.zeros(flow + sum(len(s) for s in spots.values()))
    delay = np.zeros(len(cost))
    for function, places in spots.items():
        for place, (price, late, _) in places.items():
            column[function, place] = flow + len(column)
            cost[column[function, place]], delay[column[function, place]] = price, late
    for n in range(len(links)):
        for k, arc in enumerate(arcs):
            cost[n * len(arcs) + k], delay[n * len(arcs) + k] = arc.cost, arc.delay
    rows = _Rows()
    for function, places in spots.items():
        rows.add([(column[function, place], 1.0) for place in places], 1, 1)
    for n, (x, y) in enumerate(links):
        _flow(rows, arcs, n, x, y, ends, spots, column)
    _capacities(rows, spec, snapshot, arcs, len(links), ends, spots, column)
    if spec.max_delay_us is not None:
        for path in spec.paths:
            owners = [split_point(hop)[0] for hop in path.hops]
            used = {n for n, pair in enumerate(links) if any({a, b} == set(pair) for a, b in pairwise(owners))}
            terms = [(n * len(arcs) + k, arc.delay) for n in used for k, arc in enumerate(arcs)]
            terms += [(c, float(delay[c])) for (f, _), c in column.items() if f in owners]
            rows.add(terms, 0, spec.max_delay_us)
    for supplier in {place[0] for f in apart for place in spots[f]}:
        rows.add([(c, 1.0) for (f, place), c in column.items() if f in apart and place[0] == supplier], 0, 1)
    index = np.array([(r, c) for r, c, _ in rows.at]).T
    matrix = coo_array(([v for _, _, v in rows.at], (index[0], index[1])), shape=(len(rows.low), len(cost))).tocsr()
    answer = milp(
        cost,
        constraints=LinearConstraint(matrix, np.array(rows.low), np.array(rows.high)),
        integrality=np.ones(len(cost)),
        bounds=Bounds(0, 1),
        options={"time_limit": seconds, "mip_rel_gap": 0.0},
    )
    if answer.status == _INFEASIBLE:
        return Optimum(None)
    return Optimum(Decimal(round(answer.fun * 100)) / 100) if answer.status == _OPTIMAL else None


def _sap(snapshot: Snapshot, name: str) -> tuple[str, ...]:
    view = next(v for v in snapshot.suppliers if name in v.saps)
    return view.alias, view.saps[name]


def _arcs(spec: ServiceSpec, snapshot: Snapshot) -> list[_Arc]:
    """Between inward SAPs `(alias, sap)`, places `(alias, place, "")` and the ends, entered as `(alias, sap, "out")`."""
    ends = {_sap(snapshot, e.sap) for e in spec.ends}
    far: dict[tuple[str, str], tuple[str, str]] = {}
    joined: dict[str, tuple[str, str]] = {}
    for view in snapshot.suppliers:
        for sap in view.note.saps:
            if sap.interconnect in joined:
                near = joined[sap.interconnect]
                far[view.alias, sap.id], far[near] = near, (view.alias, sap.id)
            elif sap.interconnect:
                joined[sap.interconnect] = (view.alias, sap.id)
    arcs = []
    for view in snapshot.suppliers:
        saps = {s.id for s in view.note.saps}
        for number, entry in enumerate(view.note.matrix):
            for a, b in ((entry.a, entry.b), (entry.b, entry.a)):
                source = (view.alias, a) if a in saps else (view.alias, a, "")
                crossed: tuple[tuple[str, str], ...] = ()
                target: tuple[str, ...] = (view.alias, b, "")
                if b in saps:
                    other = far.get((view.alias, b))
                    if other is None and (view.alias, b) not in ends:
                        continue
                    target = (view.alias, b, "out") if other is None else other
                    crossed = () if other is None else ((view.alias, b), other)
                for k, p in enumerate(entry.points):
                    price = float(p.price.over(spec.term_hours))
                    way = (view.alias, number, k)
                    arcs.append(_Arc(source, target, price, p.delay_us, way, p.bandwidth_bps, crossed))
    return arcs


_Spots = dict[str, dict[tuple[str, ...], tuple[float, float, int]]]


def _spots(spec: ServiceSpec, snapshot: Snapshot) -> _Spots:
    """Per function, the places that offer it: (price, delay, units)."""
    return {
        f.id: {
            (view.alias, o.place, ""): (
                float(o.flavours[0].price.over(spec.term_hours)), float(o.delay_us), o.flavours[0].units
            )
            for view in snapshot.suppliers for o in view.note.functions if o.type == f.type
        }
        for f in spec.functions
    }  # fmt: skip


def _flow(
    rows: _Rows,
    arcs: list[_Arc],
    n: int,
    x: str,
    y: str,
    ends: Mapping[str, tuple[str, ...]],
    spots: _Spots,
    column: Mapping[tuple[str, tuple[str, ...]], int],
) -> None:
    """Link n leaves position x and arrives at position y."""
    out: dict[tuple[str, ...], dict[int, float]] = {}
    into: dict[tuple[str, ...], dict[int, float]] = {}
    for k, arc in enumerate(arcs):
        at = n * len(arcs) + k
        out.setdefault(arc.source, {})[at] = 1.0
        into.setdefault(arc.target, {})[at] = 1.0
    for node in out.keys() | into.keys():
        terms = dict(out.get(node, {}))
        for at in into.get(node, {}):
            terms[at] = terms.get(at, 0.0) - 1.0
        balance = float(ends.get(x) == node) - float(y in ends and (*ends[y], "out") == node)
        if len(node) == 3 and not node[2]:  # nothing passes through a place: in only where y is
            here_x, here_y = column.get((x, node)), column.get((y, node))
            rows.add(
                [*((at, 1.0) for at in into.get(node, {})), *([(here_y, -1.0)] if here_y is not None else [])], -1, 0
            )
            if here_x is not None:
                terms[here_x] = terms.get(here_x, 0.0) - 1.0
            if here_y is not None:
                terms[here_y] = terms.get(here_y, 0.0) + 1.0
        rows.add(terms, balance, balance)


def _capacities(
    rows: _Rows,
    spec: ServiceSpec,
    snapshot: Snapshot,
    arcs: list[_Arc],
    links: int,
    ends: Mapping[str, tuple[str, ...]],
    spots: _Spots,
    column: Mapping[tuple[str, tuple[str, ...]], int],
) -> None:
    room: dict[tuple[str, ...], int] = {
        (v.alias, c.place, ""): sum(b.size * b.count for b in c.bins)
        for v in snapshot.suppliers
        for c in v.note.capacities
    }
    for place in {p for places in spots.values() for p in places}:
        rows.add([(column[f, place], float(spots[f][place][2])) for f in spots if place in spots[f]], 0, room[place])
    if not spec.bandwidth_bps:
        return
    ways: dict[tuple[str, int, int], list[int]] = {}
    saps: dict[tuple[str, str], list[int]] = {}
    for k, arc in enumerate(arcs):
        ways.setdefault(arc.way, []).append(k)
        for pair in arc.crossed:
            saps.setdefault(pair, []).append(k)
    free = {(v.alias, s.id): s.bandwidth_bps for v in snapshot.suppliers for s in v.note.saps}
    for used in ways.values():
        most = arcs[used[0]].bandwidth // spec.bandwidth_bps
        rows.add([(n * len(arcs) + k, 1.0) for n in range(links) for k in used], 0, most)
    for crossed, used in saps.items():
        most = free[crossed] // spec.bandwidth_bps
        rows.add([(n * len(arcs) + k, 1.0) for n in range(links) for k in used], 0, most)
