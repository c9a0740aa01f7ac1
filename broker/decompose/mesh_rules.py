"""What holds along the paths of a mesh and between its segments.

Rules kept here
- Each path keeps its own bound on delay. A label is dropped when what is still ahead of a path does not fit any more.
- A distance by delay holds on every path that has both of its points.
- A segment of a mesh is what hangs together at one supplier: pieces of lines through the functions that they touch. A
  *part* of it is what is certainly in one domain below (see `rules`): in a domain of our own all of it, elsewhere the
  functions whose lines do not leave their place. Which functions share one is known when nothing open touches it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from broker.decompose.layered import Move
from broker.decompose.mesh import MeshPath
from broker.decompose.mesh_bounds import Ahead
from broker.decompose.meshed import MeshLayers
from service_model.constraints import Distance


@dataclass(frozen=True, slots=True, eq=False)
class InTime:
    """Path number `path` takes at most `limit` microseconds. It remembers the sum, until the path's last line is done."""

    subject: str
    path: int
    limit: float
    layers: MeshLayers
    ahead: Ahead
    start: float = 0.0

    def after(self, memory: float, move: Move) -> float | None:
        on = self.layers.mesh.paths[self.path]
        way, own = self.layers.late(move)
        sum = memory + (way if move.layer in on.lines else 0.0)
        if own and self.layers.mesh.lines[move.layer].head in on.functions:
            sum += own
        if sum + self.ahead[move.target] > self.limit:
            return None
        return sum if self.layers.states[move.target].line <= max(on.lines) else 0.0

    def covers(self, x: float, y: float) -> bool:
        return x <= y


@dataclass(frozen=True, slots=True, eq=False)
class SoonOn:
    """On path number `path`, from one position to another, it takes at most `limit` microseconds: over `lines`, and the
    functions that the layers `inner` place. It remembers the sum."""

    subject: str
    path: int
    lines: frozenset[int]
    inner: frozenset[int]
    limit: float
    layers: MeshLayers
    start: float = 0.0

    def after(self, memory: float, move: Move) -> float | None:
        sum = memory + (self.part(move) or 0.0)
        return sum if sum <= self.limit else None

    def part(self, move: Move) -> float | None:
        """What the move adds; None where it is not between the two positions."""
        way, own = self.layers.late(move)
        if move.layer not in self.lines and not (move.place >= 0 and move.layer in self.inner):
            return None
        return way * (move.layer in self.lines) + own * (move.layer in self.inner)

    def covers(self, x: float, y: float) -> bool:
        return x <= y


Placed = tuple[int, int, int]
"""(function, its part, its place)"""
Parts = tuple[int, tuple[Placed, ...]]
"""The part of the present piece, and of the functions that are open or members; numbered as they are come to."""


@dataclass(frozen=True, slots=True, eq=False)
class ByHost:
    """The functions that the layers `members` place are at one place in one part of a segment (`together`), or any two are at
    places that are `apart`, or at one place in one part. (There its supplier keeps them apart.) `whole`: whether a place is in
    a domain of our own."""

    subject: str
    members: frozenset[int]
    together: bool
    apart: Callable[[int, int], bool]
    whole: Callable[[int], bool]
    layers: MeshLayers
    start: Parts = field(default=(0, ()))

    def after(self, memory: Parts, move: Move) -> Parts | None:
        here, placed = memory
        if move.entry >= 0:
            return self._judged(_fresh(placed, here), placed, move.target)
        head = self.layers.mesh.lines[move.layer].head
        if head is not None and move.way >= 0:
            at = move.place if move.place >= 0 else next(place for f, _, place in placed if f == head)
            here = here if self.whole(at) else _fresh(placed, here)
        if move.place >= 0 and head is not None:
            placed = (*placed, (head, here, move.place))
        elif head is not None:
            joined = next(part for f, part, _ in placed if f == head)
            placed = tuple((f, here if part == joined else part, place) for f, part, place in placed)
        following = self.layers.states[move.target].line
        tail = self.layers.mesh.lines[following].tail if following < len(self.layers.mesh.lines) else None
        begun = next((part for f, part, _ in placed if f == tail), None)
        return self._judged(_fresh(placed, here) if begun is None else begun, placed, move.target)

    def _judged(self, here: int, placed: tuple[Placed, ...], state: int) -> Parts | None:
        line = self.layers.states[state].line
        open = self.layers.keep[line] if line < len(self.layers.keep) else frozenset()
        alive = {here if line < len(self.layers.keep) else -1} | {part for f, part, _ in placed if f in open}
        of_group = {f for f, layer in enumerate(self.layers.layer_of) if layer in self.members}
        spots = [(part, place) for f, part, place in placed if f in of_group]
        if not (self._one(spots, alive) if self.together else self._apart(spots, alive)):
            return None
        kept = tuple(sorted(p for p in placed if p[0] in open or p[0] in of_group))
        names: dict[int, int] = {}
        for part in (here, *(part for _, part, _ in kept)):
            names.setdefault(part, len(names))
        return names[here], tuple((f, names[part], place) for f, part, place in kept)

    def _one(self, spots: list[tuple[int, int]], alive: set[int]) -> bool:
        if len({place for _, place in spots}) > 1:
            return False
        parts = {part for part, _ in spots}
        return parts <= alive or (len(parts) == 1 and len(spots) == len(self.members))

    def _apart(self, spots: list[tuple[int, int]], alive: set[int]) -> bool:
        return all(
            self.apart(p, q) or (p == q and (x == y or (x in alive and y in alive)))
            for n, (x, p) in enumerate(spots)
            for y, q in spots[:n]
        )

    def covers(self, x: Parts, y: Parts) -> bool:
        return x == y


def _fresh(placed: tuple[Placed, ...], here: int) -> int:
    return max([here, *(part for _, part, _ in placed)]) + 1


def soon(layers: MeshLayers, distance: Distance, limit: float) -> Iterator[SoonOn]:
    for number, path in enumerate(layers.mesh.paths):
        between = _between(layers, path, distance)
        if between is not None:
            lines, inner = between
            yield SoonOn(distance.id, number, lines, inner, limit, layers)


def _between(layers: MeshLayers, path: MeshPath, distance: Distance) -> tuple[frozenset[int], frozenset[int]] | None:
    """The path's lines between the two points of a distance, and the layers that place functions strictly between."""
    hops = path.path.hops
    names = [hops[0], *(layers.mesh.functions[f].id for f in path.functions), hops[-1]]
    if distance.function not in names or distance.to not in names:
        return None
    first, last = sorted((names.index(distance.function), names.index(distance.to)))
    inner = frozenset(layers.layer_of[f] for f in path.functions[first : last - 1])
    return frozenset(path.lines[first:last]), inner
