"""Meshes in a few words, and plans of them: given ones, and every shape that a planner may come to, whatever it would cost.

The suppliers `p`, `q`, `r`, `s` of random plans are joined two by two by an interconnect; each has a SAP for every end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations, pairwise

from address_planner.labels import LabelSet
from broker.decompose.mesh import Line, Mesh, read_mesh
from broker.decompose.plan import Joint, Plan, PlannedSegment, Snapshot, Stretch
from broker.orders.cut import Cut
from capability_registry.note import SapOffer
from service_model.check import check
from service_model.flows import Flow, FlowProtocol
from service_model.money import FREE
from service_model.spec import End, FunctionRequest, LinkKind, ServiceFunctionPath, ServiceSpec, VirtualLink
from tests.support.planning import kind, sap, snapshot, view

NAMES = "pqrs"
ENDS = ("a", "b", "c", "d")


def service(
    *paths: str, flows: dict[str, tuple[Flow, ...]] | None = None, lan: str = "", **more: object
) -> ServiceSpec:
    """Paths as `a f g b`: ends and functions in order. A LINE for each two that follow; `lan` joins functions and ends by
    management ports."""
    walks = [path.split() for path in paths]
    owners = {name: None for walk in walks for name in walk[1:-1]}
    lines = {pair: None for walk in walks for pair in pairwise(walk)}

    def point(owner: str, other: str) -> str:
        return f"{owner}:{other}" if owner in owners else owner

    links = [VirtualLink(id=f"{x}-{y}", points=(point(x, y), point(y, x))) for x, y in lines]
    ends = [End(id=name, sap=f"uni-{name}") for walk in walks for name in (walk[0], walk[-1])]
    points = [f"{name}:mgmt" if name in owners else f"{name}.lan" for name in lan.split()]
    if points:
        links.append(VirtualLink(id="lan", kind=LinkKind.LAN, points=tuple(points)))
        ends += [End(id=f"{name}.lan", sap=f"uni-{name}") for name in lan.split() if name not in owners]
    told = flows or {}
    return ServiceSpec(
        name="mesh",
        ends=tuple(dict.fromkeys(ends)),
        functions=tuple(FunctionRequest(id=name, type=kind("x")) for name in owners),
        links=tuple(links),
        paths=tuple(
            ServiceFunctionPath(
                id=f"w{n}",
                hops=tuple(p for x, y in pairwise(walk) for p in (point(x, y), point(y, x))),
                flows=told.get(f"w{n}", ()),
            )
            for n, walk in enumerate(walks)
        ),
        **more,  # type: ignore[arg-type]
    )


def random_service(rng: random.Random) -> ServiceSpec:
    """Up to five paths over up to five functions, with flows for half of them, and perhaps a LAN."""
    functions = [f"f{n}" for n in range(rng.randint(1, 5))]
    first, last = ({end: rng.choice(functions) for end in ENDS} for _ in range(2))
    found: tuple[str, ...] = ()
    flows: dict[str, tuple[Flow, ...]] = {}
    for _ in range(12):
        a, b = rng.sample(ENDS, 2)
        inner = [f for f in functions if first[a] < f < last[b] and rng.random() < 0.6]
        walk = [a, *dict.fromkeys([first[a], *inner, last[b]]), b]
        if first[a] > last[b] or any(walk[0] == w.split()[-1] or walk[-1] == w.split()[0] for w in found):
            continue  # an end begins paths or ends them: it is on one link
        own = {f"w{len(found)}": (Flow(protocol=FlowProtocol.TCP, port=80 + len(found)),)} if rng.random() < 0.5 else {}
        if not check(service(*found, " ".join(walk), flows=flows | own)):
            found, flows = (*found, " ".join(walk)), flows | own
    used = sorted({f for walk in found for f in walk.split()[1:-1]})
    lan = " ".join(rng.sample(used, min(len(used), rng.choice([0, 2, 3]))))
    spec = service(*found, flows=flows, lan=lan, max_delay_us=rng.choice([None, 1000]))
    mesh = read_mesh(spec)
    return (
        spec
        if isinstance(mesh, Mesh) and not mesh.spreads
        else service(*found, flows=flows, max_delay_us=spec.max_delay_us)
    )


@dataclass(frozen=True, slots=True)
class Ground:
    """Suppliers: `joints` has the SAP by which the one meets the other, `unis` the SAP at which an end is, wherever it is."""

    joints: Mapping[tuple[str, str], str]
    unis: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(near for near, _ in self.joints))

    def snapshot(self) -> Snapshot:
        """Notes that have the SAPs, and nothing that a planner could use."""
        return snapshot(*(view(name, list(self._saps(name)), ()) for name in self.names))

    def _saps(self, name: str) -> Iterator[SapOffer]:
        labels = LabelSet(((1, 99),))
        for (near, far), id in self.joints.items():
            if near == name:
                yield sap(
                    id, "X", to=interconnect(near, far), labels=labels, decides_labels=near < far, path_headers=True
                )
        yield from (sap(id, "X", labels=labels) for id in self.unis.values())


def interconnect(x: str, y: str) -> str:
    return f"{min(x, y)}-{max(x, y)}"


ANYWHERE = Ground(
    joints={(x, y): f"to-{y}" for x in NAMES for y in NAMES if x != y}, unis={end: f"uni-{end}" for end in ENDS}
)


def random_plan(rng: random.Random, mesh: Mesh, ground: Ground = ANYWHERE) -> Plan:
    """Functions and ends at random suppliers, lines over up to two others between them, transits that swap or do not."""
    near = NAMES[: rng.choice([1, 2, 4])]
    at = {f.id: rng.choice(near) for f in mesh.functions} | {e.id: rng.choice(near) for e in mesh.ends}
    over: dict[str, list[str]] = {}
    for line in mesh.lines:
        others = [name for name in NAMES if name not in {at[owner] for owner in _owners(line)}]
        over[line.link.id] = rng.sample(others, rng.choice([0, 0, 1, 2]))
    return made_plan(mesh, ground, at, over, lambda: rng.random() < 0.5, not mesh.lans and rng.random() < 0.5)


def made_plan(
    mesh: Mesh,
    ground: Ground,
    at: Mapping[str, str],
    over: Mapping[str, Sequence[str]] | None = None,
    swaps: Callable[[], bool] = lambda: True,
    whole: bool = False,
) -> Plan:
    """`at`: the supplier of each function and end; `over`: those that a line passes between; `whole`: all that is at one
    supplier is one segment."""
    parts: dict[object, str] = {f.id: at[f.id] for f in mesh.functions}
    joined: list[tuple[object, object]] = []
    walks: dict[str, list[tuple[tuple[str, int], str]]] = {}
    for line in mesh.lines:
        id, (tail, head) = line.link.id, _owners(line)
        stops = [at[tail], *(over or {}).get(id, ()), at[head]]
        passed = [name for n, name in enumerate(stops) if n == 0 or stops[n - 1] != name]
        walks[id] = [((id, n), name) for n, name in enumerate(passed)]
        parts |= dict(walks[id])
        joined += [(owner, (id, n)) for owner, n in ((tail, 0), (head, len(passed) - 1)) if ":" in _point(line, owner)]
    joined += [(x, y) for x, y in combinations(parts, 2) if whole and parts[x] == parts[y]]
    segments = _segments(parts, joined)
    homes = {part: n for n, (_, members) in enumerate(segments) for part in members}
    lines = {
        line.link.id: tuple(
            _stretches(line, ground, [(homes[part], name) for part, name in walks[line.link.id]], swaps)
        )
        for line in mesh.lines
    }
    planned = tuple(
        PlannedSegment(
            alias=alias,
            functions=tuple(f.id for f in mesh.functions if f.id in members),
            places={f.id: "X" for f in mesh.functions if f.id in members},
            price=FREE,
            mtu=1500,
        )
        for alias, members in segments
    )
    lans = {
        lan.id: tuple(
            Joint(line=mesh.lines[n].link.id, after=k)
            for n in lan.lines
            for k in range(len(lines[mesh.lines[n].link.id]) - 1)
        )
        for lan in mesh.lans
    }
    plan = Plan(segments=planned, lines=lines, lans=lans, price=FREE, cost=Decimal(0), delay_us=0)
    visits = Cut(mesh, plan).visits
    budgets = [
        {p.path.id: tuple(7 for v in visits if (v.segment, v.path.id) == (n, p.path.id)) for p in mesh.paths}
        for n in range(len(planned))
    ]
    return replace(plan, segments=tuple(replace(s, budgets=b) for s, b in zip(planned, budgets, strict=True)))


def _owners(line: Line) -> tuple[str, str]:
    return line.a.partition(":")[0], line.b.partition(":")[0]


def _point(line: Line, owner: str) -> str:
    return line.a if _owners(line)[0] == owner else line.b


def _segments(parts: dict[object, str], joined: list[tuple[object, object]]) -> list[tuple[str, set[object]]]:
    group = {part: {part} for part in parts}
    for x, y in joined:
        if group[x] is not group[y]:
            group[x] |= group[y]
            for member in group[y]:
                group[member] = group[x]
    out: list[tuple[str, set[object]]] = []
    for part, alias in parts.items():
        if not any(part in members for _, members in out):
            out.append((alias, group[part]))
    return out


def _stretches(
    line: Line, ground: Ground, visits: list[tuple[int, str]], swaps: Callable[[], bool]
) -> Iterator[Stretch]:
    """One from a SAP to another may tie labels; what turns at a SAP swaps."""
    for n, (segment, name) in enumerate(visits):
        before, after = (visits[k][1] if 0 <= k < len(visits) else "" for k in (n - 1, n + 1))
        entry = ground.joints[name, before] if before else None if ":" in line.a else ground.unis[line.a]
        exit_ = ground.joints[name, after] if after else None if ":" in line.b else ground.unis[line.b]
        yield Stretch(
            segment=segment,
            entry=entry,
            exit=exit_,
            swaps_labels=None in (entry, exit_) or entry == exit_ or swaps(),
            interconnect=interconnect(before, name) if before else None,
        )
