"""The states of a mesh: its lines are walked one after another, from where earlier ones placed functions.

Rules kept here
- A state is a line, a node on it, and where the *open* functions are: those placed that this line leads to or a later one
  touches. So what is told apart is what the rest depends on, and nothing else.
- A line that is done leads to the beginning of the next. One whose head is placed already ends there.
- `tolls` say what a microsecond counts, per line and per function: 1, so that of two meshes of one price the faster is
  better. Where delay or bandwidth binds: their prices (see `mesh_guide`). They are what a move's `delay` is made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from broker.decompose.layered import Layers, Move, Question
from broker.decompose.piece import Figures, Flags, Numbers


class State(NamedTuple):
    """`placed`: (function, place) of each open function, by number."""

    line: int
    node: int
    placed: tuple[tuple[int, int], ...]


class Tolls(NamedTuple):
    """Of a microsecond per line and per function, of a flow per way and per SAP entered over its interconnect."""

    lines: list[float]
    functions: list[float]
    ways: Figures
    entries: Figures


class MeshLayers(Layers):
    """States are numbered as they are come to; `states` has them by number. The target is number 0."""

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        lines = self.mesh.lines
        self.keep = [
            frozenset({line.head}.union(f for later in lines[k + 1 :] for f in (later.tail, later.head)))
            for k, line in enumerate(lines)
        ]
        """Per line the functions that are open on it, once they are placed."""
        self.places_on = [line.head if k in self.requests else None for k, line in enumerate(lines)]
        """Per line the function that it places; None where its head is an end or placed already."""
        self.tolls = self.untolled(dict.fromkeys(range(len(self.mesh.paths)), 1.0))
        self._settle_candidates()
        self.target = 0
        self.states = [State(len(lines), -1, ())]
        self._numbers = {self.states[0]: self.target}
        self._along: dict[tuple[int, tuple[tuple[int, int], ...]], dict[int, int]] = {}
        """The numbers of the states on a line, with the open functions where they are, by node."""
        self.origin = self._beginning(0, {})

    def node(self, state: int) -> int:
        return self.states[state].node

    def adopted(self, moves: Iterable[Move], other: MeshLayers) -> tuple[Move, ...]:
        """Moves between the states of `other`, which asks the same of the same graph, as moves between the same states here:
        their numbers are those in which each came to them."""
        return tuple(move._replace(target=self._number(other.states[move.target])) for move in moves)

    def keep_to(self, kept: Sequence[Flags]) -> None:
        """From now on functions are only where these say, each of its candidates."""
        for function, (layer, ok) in enumerate(zip(self.layer_of, kept, strict=True)):
            self.function_ok[layer][self.candidates[function][~ok]] = False
        self._settle_candidates()

    def units(self, function: int) -> Figures:
        """What a function takes at each place where it is offered."""
        request = self.mesh.functions[function]
        offering = self.graph.offering(request.type, request.flavour)
        out = np.zeros(self.graph.place_count)
        if offering is not None:
            out[offering.at] = offering.units
        return out

    def _settle_candidates(self) -> None:
        self.candidates: list[Numbers] = [np.flatnonzero(self.function_ok[layer]) for layer in self.layer_of]
        """Per function the places where it may be."""
        self.candidate_number = [{place: n for n, place in enumerate(places.tolist())} for places in self.candidates]

    def untolled(self, prices: Mapping[int, float]) -> Tolls:
        """What a microsecond of each path counts; flows count nothing."""
        paths = [(self.mesh.paths[path], price) for path, price in prices.items()]
        lines = [sum((p for on, p in paths if k in on.lines), 0.0) for k in range(len(self.mesh.lines))]
        functions = [sum((p for on, p in paths if f in on.functions), 0.0) for f in range(len(self.mesh.functions))]
        return Tolls(lines, functions, np.zeros(len(self.way_cost)), np.zeros(self.graph.sap_count))

    def charge(self, tolls: Tolls) -> None:
        """From now on these count."""
        self.tolls = tolls
        self._moves.clear()

    # --- states --------------------------------------------------------------------------------------------------------

    def _number(self, state: State) -> int:
        known = self._numbers.get(state)
        if known is None:
            known = self._numbers[state] = len(self.states)
            self.states.append(state)
        return known

    def _beginning(self, line: int, placed: Mapping[int, int]) -> int:
        """Of a line, or of nothing when all are done."""
        if line == len(self.mesh.lines):
            return self.target
        tail = self.mesh.lines[line].tail
        node = self.tails[line] if tail is None else self.graph.sap_count + placed[tail]
        return self._number(State(line, node, _open(placed, self.keep[line])))

    def _made(self, state: int) -> Iterator[Move]:
        line, node, placed = self.states[state]
        saps, hours = self.graph.sap_count, self.hours
        way_ok, entry_ok = self._admitted[self.need[line]]
        slow, factor, dearer = self.tolls.lines[line], self.counted(node), self.extra.ways
        ways, entries = self.tolls.ways, self.tolls.entries
        new, head, goal = self.places_on[line], self.mesh.lines[line].head, self.heads[line]
        along = self._along.setdefault((line, placed), {})
        at = dict(placed)
        there = saps + at[head] if head is not None and new is None else -1
        if new is not None and node >= saps and self.function_ok[line][node - saps]:
            yield self._placing(line, at, new, -1, node - saps, 0.0, 0.0)
        if node == there:
            yield Move(self._beginning(line + 1, at), 0.0, 0.0, -1, -1, -1, line)
        for way, target, entry, once, hour, delay in self.graph.leading_from(node):
            if not way_ok[way]:
                continue
            cost = (once + hour * hours) * factor if way not in dearer else float(self.way_cost[way])
            toll = delay * slow + float(ways[way])
            if entry >= 0 and target != goal:
                if entry_ok[entry]:
                    across = along.get(entry, -1)
                    if across < 0:
                        across = along[entry] = self._number(State(line, entry, placed))
                    yield Move(across, cost, toll + float(entries[entry]), way, entry, -1, line)
            elif target in (goal, there):
                yield Move(self._beginning(line + 1, at), cost, toll, way, -1, -1, line)
            elif new is not None and target >= saps and self.function_ok[line][target - saps]:
                yield self._placing(line, at, new, way, target - saps, cost, toll)

    def _placing(
        self, line: int, at: Mapping[int, int], function: int, way: int, place: int, cost: float, toll: float
    ) -> Move:
        more, delay = self._placed(line, place)
        target = self._beginning(line + 1, {**at, function: place})
        return Move(target, cost + more, toll + delay * self.tolls.functions[function], way, -1, place, line)


def _open(placed: Mapping[int, int], keep: frozenset[int | None]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((f, place) for f, place in placed.items() if f in keep))
