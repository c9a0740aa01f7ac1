"""A mesh with one path as a chain.

Rules kept here
- Exactly one path, from end A through every function once to end B; no function at all is a transit.
- Line k is the k-th from A; the function behind it is the k-th.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.decompose.mesh import Mesh, MeshLan, read_mesh
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import End, FunctionRequest, ServiceSpec, VirtualLink


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

    @property
    def max_delay_us(self) -> int | None:
        """The bound on its one path, microseconds one way."""
        return self.spec.delay_limit(self.spec.paths[0])

    def lans_at(self, stretch: int) -> int:
        """How many LANs run along stretch k of the path."""
        return sum(lan.present(stretch, len(self.functions)) for lan in self.lans)


def read_chain(spec: ServiceSpec) -> Chain | Reason:
    """The chain that `spec` describes, or why it is none (SHAPE_NOT_OFFERED)."""
    mesh = read_mesh(spec)
    if isinstance(mesh, Reason):
        return mesh
    if len(mesh.paths) != 1:
        message = f"exactly one path is offered, not {len(mesh.paths)}"
        return Reason(code=ReasonCode.SHAPE_NOT_OFFERED, message=message, subject=mesh.paths[1].path.id)
    return chain_of(mesh)


def chain_of(mesh: Mesh) -> Chain:
    """Of a mesh with one path."""
    a, b = mesh.ends
    hops = mesh.paths[0].path.hops
    ports = [hop.partition(":")[2] for hop in hops[1:-1]]
    return Chain(
        spec=mesh.spec,
        a=a,
        b=b,
        functions=mesh.functions,
        ports=tuple(zip(ports[::2], ports[1::2], strict=True)),
        lines=tuple(line.link for line in mesh.lines),
        lans=tuple(_lan(lan, a, b) for lan in mesh.lans),
    )


def _lan(lan: MeshLan, a: End, b: End) -> ChainLan:
    at = {outer.beside.id: outer.end for outer in lan.outer}
    members, ports = [m for m, _ in lan.members], [p for _, p in lan.members]
    return ChainLan(id=lan.id, members=tuple(members), ports=tuple(ports), at_a=at.get(a.id), at_b=at.get(b.id))
