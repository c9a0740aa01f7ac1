"""Reading a ServiceSpec as a mesh: lines that its paths walk, joined by functions. A chain is a mesh with one path; where
there are LANs, there may be none.

Rules kept here
- A path leads from an end through functions, each once, to another end. A function may be on several paths, and so have
  more than two data ports. Every function is on a path.
- LINE links join the consecutive hops of paths, one each. A LINE may be on several paths, always in the same direction;
  every LINE is on one.
- Lines, functions and ends are in the order in which the paths, one after another, come to them. So a line begins at an
  end or at a function that an earlier line came to.
- What no path joins is planned side by side: it shares resources only.
- LAN links join ports that are on no path, and ends. One that stands at the SAP of a path's end enters or leaves there
  beside its line, under a label of its own. (`<id of the path's end>.…` tells which is meant; else the first is.) It runs
  beside the lines that join its members: of those first come to that close no ring, as few as do.
- Any other end of a LAN is a *site*. What no lines join of a LAN, and its sites, are joined by a tree (`lan_tree`).
- A bound on delay is one of paths: without a path there is none.
- Anything else is SHAPE_NOT_OFFERED, and the reason names the culprit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from service_model.families import FIXED_PORTS
from service_model.flows import PATHS
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import (
    End,
    FunctionRequest,
    LinkKind,
    ServiceFunctionPath,
    ServiceSpec,
    VirtualLink,
    split_point,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One LINE, directed as the first path that uses it walks it, from point `a` to point `b`: an end's id or
    `function:port`. `tail` and `head` are the functions there (indices into `Mesh.functions`), None at an end."""

    link: VirtualLink
    a: str
    b: str
    tail: int | None
    head: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPath:
    """`lines` and the `functions` between them, in order: indices into `Mesh.lines` and `Mesh.functions`."""

    path: ServiceFunctionPath
    lines: tuple[int, ...]
    functions: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LanEnd:
    """A LAN's own end, and the path's end at whose SAP it stands."""

    end: End
    beside: End


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshLan:
    """`members`: (index into `Mesh.functions`, port). `outer`: where it enters or leaves beside a line. `lines`: beside which
    it runs. `sites`: its other ends. `whole`: the lines join all of it."""

    id: str
    members: tuple[tuple[int, str], ...]
    outer: tuple[LanEnd, ...]
    lines: tuple[int, ...]
    sites: tuple[End, ...] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """`ends` are those that paths begin or end at."""

    spec: ServiceSpec
    ends: tuple[End, ...]
    functions: tuple[FunctionRequest, ...]
    lines: tuple[Line, ...]
    paths: tuple[MeshPath, ...]
    lans: tuple[MeshLan, ...]

    def ports(self, function: int) -> tuple[str, ...]:
        """The data ports that lines use of a function."""
        out = [split_point(line.b)[1] for line in self.lines if line.head == function]
        return tuple(out + [split_point(line.a)[1] for line in self.lines if line.tail == function])

    def branches(self, function: int | None) -> bool:
        """Whether paths part or meet at a function: it has more than one way in and one out."""
        return function is not None and len(self.ports(function)) > 2

    def features_at(self, function: int | None) -> tuple[str, ...]:
        """What a function's supplier has to offer: several paths where they part or meet there, ports' addresses where these
        are stated."""
        if function is None:
            return ()
        fixed = self.functions[function].id in self.spec.fixed_ports()
        return (*((PATHS,) if self.branches(function) else ()), *((FIXED_PORTS,) if fixed else ()))

    def alone(self, path: MeshPath) -> Mesh:
        """Of one path, without LANs."""
        lines = tuple(self.lines[k] for k in path.lines)
        spec = replace(
            self.spec,
            ends=tuple(end for end in self.ends if end.id in path.path.hops),
            functions=tuple(self.functions[f] for f in path.functions),
            links=tuple(line.link for line in lines),
            paths=(path.path,),
            groups=(),
            distances=(),
        )
        return _read(spec)

    def delay_limit(self, path: int) -> int | None:
        """The bound on the delay of a path, in microseconds."""
        return self.spec.delay_limit(self.paths[path].path)

    @property
    def spreads(self) -> bool:
        """Whether some LAN is joined by more than its lines."""
        return not all(lan.whole for lan in self.lans)

    def lans_beside(self, line: int) -> tuple[MeshLan, ...]:
        return tuple(lan for lan in self.lans if line in lan.lines)


class _Odd(Exception):
    def __init__(self, message: str, subject: str) -> None:
        super().__init__(message)
        self.subject = subject


def read_mesh(spec: ServiceSpec) -> Mesh | Reason:
    """The mesh that `spec` describes, or why it is none (SHAPE_NOT_OFFERED)."""
    try:
        return _read(spec)
    except _Odd as odd:
        return Reason(code=ReasonCode.SHAPE_NOT_OFFERED, message=str(odd), subject=odd.subject)


def _read(spec: ServiceSpec) -> Mesh:
    _unique("end or function", [e.id for e in spec.ends] + [f.id for f in spec.functions])
    _unique("link", [link.id for link in spec.links])
    _unique("path", [path.id for path in spec.paths])
    if not spec.paths and not any(link.kind is LinkKind.LAN for link in spec.links):
        raise _Odd("a service has at least one path, or a LAN", spec.name)
    if not spec.paths and spec.max_delay_us is not None:
        raise _Odd("a bound on delay is one of paths, and the service has none", spec.name)
    walk = _Walk(spec)
    for path in spec.paths:
        walk.along(path)
    for function in spec.functions:
        if function.id not in walk.functions:
            raise _Odd(f"function {function.id!r} is on no path", function.id)
    for link in spec.links:
        if link.kind is LinkKind.LINE and link.id not in walk.lines:
            raise _Odd(f"LINE {link.id!r} is on no path", link.id)
    lines = tuple(walk.lines.values())
    ends = tuple(spec.end(id) for id in walk.ends)
    lans = tuple(_lan(link, walk, spec, ends, lines) for link in spec.links if link.kind is LinkKind.LAN)
    _no_point_twice(spec)
    used = {e.id for e in ends} | {end.id for lan in lans for end in (*lan.sites, *(o.end for o in lan.outer))}
    for end in spec.ends:
        if end.id not in used:
            raise _Odd(f"end {end.id!r} is neither on a path nor on a LAN", end.id)
    functions = tuple(spec.function(id) for id in walk.functions)
    return Mesh(spec=spec, ends=ends, functions=functions, lines=lines, paths=tuple(walk.paths), lans=lans)


def _unique(what: str, ids: list[str]) -> None:
    for i, name in enumerate(ids):
        if name in ids[:i]:
            raise _Odd(f"{what} {name!r} stands twice", name)


@dataclass(slots=True)
class _Walk:
    """What the paths walked so far have come to, in order: ids of ends, functions by id, lines by their links' ids."""

    spec: ServiceSpec
    ends: dict[str, None] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)
    paths: list[MeshPath] = field(default_factory=list)

    def along(self, path: ServiceFunctionPath) -> None:
        known = {e.id for e in self.spec.ends}
        if len(path.hops) % 2:
            raise _Odd(f"path {path.id!r} has an odd number of hops: end, in and out of each function, end", path.id)
        first, *inner, last = path.hops
        for hop in (first, last):
            if hop not in known:
                raise _Odd(f"path {path.id!r} begins or ends at {hop!r}, which is not an end", hop)
        if first == last:
            raise _Odd(f"path {path.id!r} begins and ends at the same end {first!r}", first)
        passed: list[int] = []
        for way_in, way_out in zip(inner[::2], inner[1::2], strict=True):
            function = self._through(path, way_in, way_out)
            if function in passed:
                raise _Odd(f"path {path.id!r} passes function {split_point(way_in)[0]!r} twice", way_in)
            passed.append(function)
        self.ends |= {first: None, last: None}
        tails, heads = [None, *passed], [*passed, None]
        lines = [self._line(path, *hops) for hops in zip(path.hops[::2], path.hops[1::2], tails, heads, strict=True)]
        self.paths.append(MeshPath(path=path, lines=tuple(lines), functions=tuple(passed)))

    def _through(self, path: ServiceFunctionPath, way_in: str, way_out: str) -> int:
        (owner, port_in), (other, port_out) = split_point(way_in), split_point(way_out)
        if not port_in or not any(f.id == owner for f in self.spec.functions):
            raise _Odd(f"hop {way_in!r} of path {path.id!r} is no port of a function of the service", way_in)
        if owner != other or not port_out or port_in == port_out:
            raise _Odd(
                f"path {path.id!r} enters at {way_in!r} but does not leave by another port: {way_out!r}", way_out
            )
        return self.functions.setdefault(owner, len(self.functions))

    def _line(self, path: ServiceFunctionPath, a: str, b: str, tail: int | None, head: int | None) -> int:
        link = self._joint(path, a, b)
        line = self.lines.setdefault(link.id, Line(link=link, a=a, b=b, tail=tail, head=head))
        if line.a != a:
            raise _Odd(f"path {path.id!r} walks LINE {link.id!r} from {a!r}, another path from {line.a!r}", link.id)
        return list(self.lines).index(link.id)

    def _joint(self, path: ServiceFunctionPath, a: str, b: str) -> VirtualLink:
        for link in self.spec.links:
            if link.kind is LinkKind.LAN:
                continue
            if link.kind is not LinkKind.LINE:
                raise _Odd(f"link {link.id!r} is neither LINE nor LAN", link.id)
            if len(link.points) != 2:
                raise _Odd(f"LINE {link.id!r} joins {len(link.points)} points, not two", link.id)
            if set(link.points) == {a, b}:
                return link
        raise _Odd(f"no LINE joins {a!r} and {b!r}, which path {path.id!r} needs", a)


def _lan(link: VirtualLink, walk: _Walk, spec: ServiceSpec, ends: tuple[End, ...], lines: tuple[Line, ...]) -> MeshLan:
    known = {e.id: e for e in spec.ends}
    on_path = {hop for path in spec.paths for hop in path.hops}
    members: dict[int, str] = {}
    outer: list[End] = []
    for point in link.points:
        owner, port = split_point(point)
        if point in on_path:
            raise _Odd(f"LAN {link.id!r} has the data port {point!r} of a path", point)
        if point in known:
            outer.append(known[point])
        elif owner in walk.functions and port:
            if walk.functions[owner] in members:
                raise _Odd(f"LAN {link.id!r} has two ports of function {owner!r}", point)
            members[walk.functions[owner]] = port
        else:
            raise _Odd(f"point {point!r} of LAN {link.id!r} is neither an end nor a function's port", point)
    stands = _standing(outer, ends)
    beside = {s.end.id for s in stands}
    sites = tuple(end for end in outer if end.id not in beside)
    if not members and len(outer) < 2:
        raise _Odd(f"LAN {link.id!r} joins nothing", link.id)
    along, parts = _joining([*members, *(s.beside.id for s in stands)], lines)
    return MeshLan(
        id=link.id, members=tuple(sorted(members.items())), outer=stands, lines=along, sites=sites,
        whole=not sites and parts < 2,
    )  # fmt: skip


def _standing(outer: list[End], ends: tuple[End, ...]) -> tuple[LanEnd, ...]:
    """Each outer end that can have a path's end of its own, with it; those whose names tell which first."""
    taken: dict[str, LanEnd] = {}
    for end in sorted(outer, key=lambda o: not any(o.id.startswith(f"{e.id}.") for e in ends)):
        free = [e for e in ends if e.sap == end.sap and e.id not in taken]
        if free:
            beside = next((e for e in free if end.id.startswith(f"{e.id}.")), free[0])
            taken[beside.id] = LanEnd(end=end, beside=beside)
    return tuple(taken[e.id] for e in ends if e.id in taken)


_Joint = int | str
"""A function's number, or an end's id: what lines join."""


def _joining(joined: Iterable[_Joint], lines: tuple[Line, ...]) -> tuple[tuple[int, ...], int]:
    """The lines that join what a LAN joins: the first ones that close no ring, without those that lead to nothing of it. And
    how many parts there are that no lines join."""
    pairs = [(line.a if line.tail is None else line.tail, line.b if line.head is None else line.head) for line in lines]
    part: dict[_Joint, _Joint] = {joint: joint for pair in pairs for joint in pair}
    tree: dict[int, tuple[_Joint, _Joint]] = {}
    for number, (x, y) in enumerate(pairs):
        if part[x] != part[y]:
            part = {joint: part[x] if known == part[y] else known for joint, known in part.items()}
            tree[number] = (x, y)
    wanted = set(joined)
    while bare := _bare(tree, wanted):
        for number in bare:
            del tree[number]
    return tuple(tree), len({part[joint] for joint in wanted})


def _bare(tree: dict[int, tuple[_Joint, _Joint]], wanted: set[_Joint]) -> list[int]:
    """The lines one of whose joints no other line joins, and nobody wants."""
    lines_at = Counter(joint for pair in tree.values() for joint in pair)
    return [n for n, pair in tree.items() if any(lines_at[joint] == 1 and joint not in wanted for joint in pair)]


def _no_point_twice(spec: ServiceSpec) -> None:
    seen: dict[str, str] = {}
    for link in spec.links:
        for point in link.points:
            if point in seen:
                raise _Odd(f"point {point!r} is on two links: {seen[point]!r} and {link.id!r}", point)
            seen[point] = link.id
