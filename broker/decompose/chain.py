"""Reading a ServiceSpec as a chain: the one shape that the planner decomposes.

Rules kept here
- Exactly one path, from end A through every function once to end B; no function at all is a transit.
- LINE links join the consecutive hops of the path, one each; there is no other LINE.
- LAN links join ports that are not on the path, and at most one end at each side of the chain. Such an end stands at
  the same SAP as end A or end B: there the LAN enters or leaves the chain, under its own label. (Where A and B share
  one SAP, `<id of A>.…` or `<id of B>.…` tells which side is meant; else the first is A's.)
- Anything else is SHAPE_NOT_OFFERED, and the reason names the culprit.
"""

from __future__ import annotations

from dataclasses import dataclass

from service_model.outcomes import Reason, ReasonCode
from service_model.spec import End, FunctionRequest, LinkKind, ServiceSpec, VirtualLink, split_point


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainLan:
    """A LAN over positions of the chain: `members` are indices into `Chain.functions`, `ports` each member's port;
    `at_a` and `at_b` are the ends where it leaves the chain."""

    id: str
    members: tuple[int, ...]
    ports: tuple[str, ...]
    at_a: End | None
    at_b: End | None

    def present(self, stretch: int, length: int) -> bool:
        """Whether it runs along `stretch` k of the path: behind k functions, before the k+1st, of `length` in all."""
        first = -1 if self.at_a is not None else (self.members[0] if self.members else length)
        last = length if self.at_b is not None else (self.members[-1] if self.members else -1)
        return first < stretch <= last


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """`lines[k]` joins hop k to hop k+1: one more than functions. `ports[k]` is function k's way in and out."""

    spec: ServiceSpec
    a: End
    b: End
    functions: tuple[FunctionRequest, ...]
    ports: tuple[tuple[str, str], ...]
    lines: tuple[VirtualLink, ...]
    lans: tuple[ChainLan, ...]

    def lans_at(self, stretch: int) -> int:
        """How many LANs run along stretch k of the path."""
        return sum(lan.present(stretch, len(self.functions)) for lan in self.lans)


class _Odd(Exception):
    def __init__(self, message: str, subject: str) -> None:
        super().__init__(message)
        self.subject = subject


def read_chain(spec: ServiceSpec) -> Chain | Reason:
    """The chain that `spec` describes, or why it is none (SHAPE_NOT_OFFERED)."""
    try:
        return _read(spec)
    except _Odd as odd:
        return Reason(code=ReasonCode.SHAPE_NOT_OFFERED, message=str(odd), subject=odd.subject)


def _read(spec: ServiceSpec) -> Chain:
    _unique("end", [e.id for e in spec.ends])
    _unique("function", [f.id for f in spec.functions])
    _unique("end or function", [e.id for e in spec.ends] + [f.id for f in spec.functions])
    _unique("link", [link.id for link in spec.links])
    if len(spec.paths) != 1:
        subject = spec.paths[1].id if spec.paths else spec.name
        raise _Odd(f"exactly one path is offered, not {len(spec.paths)}", subject)
    a, b, functions, ports = _walk(spec)
    placed = {f.id for f in functions}
    for function in spec.functions:
        if function.id not in placed:
            raise _Odd(f"function {function.id!r} is not on the path", function.id)
    lines = _lines(spec)
    lans = tuple(_lan(spec, link, a, b, functions) for link in spec.links if link.kind is LinkKind.LAN)
    _no_point_twice(spec)
    used = {a.id, b.id} | {e.id for lan in lans for e in (lan.at_a, lan.at_b) if e is not None}
    for end in spec.ends:
        if end.id not in used:
            raise _Odd(f"end {end.id!r} is neither on the path nor on a LAN", end.id)
    return Chain(spec=spec, a=a, b=b, functions=functions, ports=ports, lines=lines, lans=lans)


def _unique(what: str, ids: list[str]) -> None:
    for i, name in enumerate(ids):
        if name in ids[:i]:
            raise _Odd(f"{what} {name!r} stands twice", name)


def _walk(spec: ServiceSpec) -> tuple[End, End, tuple[FunctionRequest, ...], tuple[tuple[str, str], ...]]:
    path = spec.paths[0]
    ends = {e.id: e for e in spec.ends}
    by_id = {f.id: f for f in spec.functions}
    if len(path.hops) % 2:
        raise _Odd(f"path {path.id!r} has an odd number of hops: end, in and out of each function, end", path.id)
    for hop in (path.hops[0], path.hops[-1]):
        if hop not in ends:
            raise _Odd(f"path {path.id!r} begins or ends at {hop!r}, which is not an end", hop)
    if path.hops[0] == path.hops[-1]:
        raise _Odd(f"path {path.id!r} begins and ends at the same end {path.hops[0]!r}", path.hops[0])
    functions: list[FunctionRequest] = []
    ports: list[tuple[str, str]] = []
    inner = path.hops[1:-1]
    for way_in, way_out in zip(inner[::2], inner[1::2], strict=True):
        owner, port_in = split_point(way_in)
        other, port_out = split_point(way_out)
        if owner not in by_id or not port_in:
            raise _Odd(f"hop {way_in!r} of path {path.id!r} is no port of a function of the service", way_in)
        if owner != other or not port_out or port_in == port_out:
            raise _Odd(
                f"path {path.id!r} enters at {way_in!r} but does not leave by another port: {way_out!r}", way_out
            )
        if any(f.id == owner for f in functions):
            raise _Odd(f"path {path.id!r} passes function {owner!r} twice", owner)
        functions.append(by_id[owner])
        ports.append((port_in, port_out))
    return ends[path.hops[0]], ends[path.hops[-1]], tuple(functions), tuple(ports)


def _lines(spec: ServiceSpec) -> tuple[VirtualLink, ...]:
    path = spec.paths[0]
    lines = [link for link in spec.links if link.kind is not LinkKind.LAN]
    for link in lines:
        if link.kind is not LinkKind.LINE:
            raise _Odd(f"link {link.id!r} is neither LINE nor LAN", link.id)
        if len(link.points) != 2:
            raise _Odd(f"LINE {link.id!r} joins {len(link.points)} points, not two", link.id)
    out: list[VirtualLink] = []
    for near, far in zip(path.hops[::2], path.hops[1::2], strict=True):
        joint = next((ln for ln in lines if set(ln.points) == {near, far}), None)
        if joint is None:
            raise _Odd(f"no LINE joins {near!r} and {far!r}, which path {path.id!r} needs", near)
        out.append(joint)
    for link in lines:
        if link not in out:
            raise _Odd(f"LINE {link.id!r} is not on the path", link.id)
    return tuple(out)


def _lan(spec: ServiceSpec, link: VirtualLink, a: End, b: End, functions: tuple[FunctionRequest, ...]) -> ChainLan:
    ends = {e.id: e for e in spec.ends}
    index = {f.id: i for i, f in enumerate(functions)}
    on_path = set(spec.paths[0].hops)
    members: dict[int, str] = {}
    outer: list[End] = []
    for point in link.points:
        owner, port = split_point(point)
        if point in on_path:
            raise _Odd(f"LAN {link.id!r} has the data port {point!r} of the path", point)
        if point in ends:
            outer.append(ends[point])
        elif owner in index and port:
            if index[owner] in members:
                raise _Odd(f"LAN {link.id!r} has two ports of function {owner!r}", point)
            members[index[owner]] = port
        else:
            raise _Odd(f"point {point!r} of LAN {link.id!r} is neither an end nor a function's port", point)
    sides = _sides(link, outer, a, b)
    if not members and None in sides:
        raise _Odd(f"LAN {link.id!r} joins nothing", link.id)
    order = tuple(sorted(members))
    return ChainLan(id=link.id, members=order, ports=tuple(members[i] for i in order), at_a=sides[0], at_b=sides[1])


def _sides(link: VirtualLink, outer: list[End], a: End, b: End) -> tuple[End | None, End | None]:
    sides: list[End | None] = [None, None]
    named = {0: f"{a.id}.", 1: f"{b.id}."}
    for end in sorted(outer, key=lambda e: not any(e.id.startswith(p) for p in named.values())):
        free = [i for i, near in enumerate((a, b)) if near.sap == end.sap and sides[i] is None]
        if not free:
            taken = any(near.sap == end.sap for near in (a, b))
            why = "a side where the LAN has an end already" if taken else f"not at the SAP of {a.id!r} or {b.id!r}"
            raise _Odd(f"end {end.id!r} of LAN {link.id!r} stands at {end.sap!r}: {why}", end.id)
        meant = [i for i in free if end.id.startswith(named[i])]
        sides[(meant or free)[0]] = end
    return sides[0], sides[1]


def _no_point_twice(spec: ServiceSpec) -> None:
    seen: dict[str, str] = {}
    for link in spec.links:
        for point in link.points:
            if point in seen:
                raise _Odd(f"point {point!r} is on two links: {seen[point]!r} and {link.id!r}", point)
            seen[point] = link.id
