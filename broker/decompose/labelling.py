"""Label-setting search over the layered graph, in the order of the objective.

Rules kept here
- Objective: price over the term, then delay (or the reverse where the question asks for the fastest). The first route
  is optimal; the others follow in order, distinct in where they go and what they place.
- Lower bounds order the search, so it looks at little beside the routes it finds (Hart, Nilsson, Raphael, 1968). Where
  delay is bounded and binds, price is relaxed by the multiplier that bounds it best (Handler, Zang, A dual algorithm
  for the constrained shortest path problem, 1980).
- A label is dropped when another of the same route, or `width` others, are no worse in cost, in delay (where it
  is bounded), in every tracked resource and in the labels that may still be used (Irnich and Desaulniers, Shortest path
  problems with resource constraints, 2005: dominance).
- Resources and rules are tracked only where they bind: a finished route that overdraws or breaks one is discarded and the
  search begins again with it in every label. Each round tracks at least one more, so it ends.
- The best is exact. Others can be lost when labels that led nowhere crowded them out: where fewer than asked are found,
  the search begins again with more labels kept (`MAX_WIDTH`).
- Segments that do not swap tie the labels of the interconnects at both sides: a label carries their intersection. A way may
  tell which labels do at its ends, fewer than are free there.
- A line enters no SAP twice.
- The work is bounded (`Effort`). A search that is hard settles for what is nearly the best (Pohl, Heuristic search viewed
  as path finding in a graph, 1970: what is ahead counts more); what was found until it gives up is the answer.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from address_planner.labels import NO_LABEL, LabelSet
from broker.decompose.guide import ChainGuiding, Guide, Guiding
from broker.decompose.layered import ChainLayers, Layers, Move, Question, figures
from broker.decompose.mesh_guide import MeshGuiding
from broker.decompose.meshed import MeshLayers
from broker.decompose.resources import Resource, at_ends, draws, overdrawn, within
from broker.decompose.rules import Rule, broken, rules_of
from service_model.outcomes import ReasonCode

MAX_WIDTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How many labels a search looks at: `easy`, then it is worth to look for better bounds; `exact`, then it settles for
    routes at most `settle` times as dear as the best; `most`, then it gives up."""

    easy: int = 400
    exact: int = 20_000
    most: int = 200_000
    settle: float = 1.03


EFFORT = Effort()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Moves from the start to the goal. `cost`: its price, in 1e-9 currency units over the term; `delays` of the paths in
    microseconds."""

    layers: Layers
    moves: tuple[Move, ...]
    cost: int
    delays: tuple[int, ...]

    @property
    def delay(self) -> int:
        """Of the slowest path."""
        return max(self.delays)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Best first. Not `complete`: the search gave up, and there may be others."""

    routes: tuple[Route, ...] = ()
    complete: bool = True


class _Label:
    __slots__ = ("cost", "delay", "labels", "memory", "move", "parent", "route", "state", "use")

    def __init__(
        self,
        state: int,
        cost: float,
        delay: float,
        use: tuple[float, ...],
        memory: tuple[Any, ...],
        labels: LabelSet | None,
        move: Move | None,
        parent: _Label | None,
    ) -> None:
        self.state, self.cost, self.delay, self.use, self.labels = state, cost, delay, use, labels
        self.memory, self.move, self.parent = memory, move, parent
        self.route: int = hash((parent.route if parent else 0, state))


def find(question: Question, alternatives: int = 1, effort: Effort = EFFORT) -> Found:
    """At most `alternatives` routes."""
    guiding = _guiding(question)
    layers, guided = guiding.layers, guiding.guide(False, (), ())
    every = (*rules_of(layers), *guiding.rules())
    tracked: tuple[Resource, ...] = ()
    rules: tuple[Rule, ...] = ()
    width, work = alternatives, effort.easy
    while guided is not None:
        if work == effort.most:
            guided = guided.settling(effort.settle)
        search = _Search(layers, guided, tracked, rules, every, alternatives, width, work)
        routes = search.run()
        if search.unfinished and work < effort.most:
            work = effort.exact if work < effort.exact else effort.most
        elif search.overdrawn or search.broken:
            tracked += tuple(sorted(search.overdrawn, key=str))
            rules += search.broken
        elif 0 < len(routes) < alternatives and search.dropped and width < MAX_WIDTH:
            width *= 4
        else:
            return Found(routes=tuple(routes), complete=not search.unfinished)
        guided = guiding.guide(work > effort.easy, rules, tracked)
    return Found()


def _guiding(question: Question) -> Guiding:
    if len(question.mesh.paths) == 1:
        return ChainGuiding(ChainLayers(question))
    return MeshGuiding(MeshLayers(question))


class _Search:
    def __init__(
        self,
        layers: Layers,
        guided: Guide,
        tracked: tuple[Resource, ...],
        rules: tuple[Rule, ...],
        every: tuple[Rule, ...],
        alternatives: int,
        width: int,
        most: int,
    ) -> None:
        self.layers = layers
        self.guide = guided
        self.tracked = tracked
        self.slot = {resource: i for i, resource in enumerate(tracked)}
        self.shared = any(kind in ("shared", "pool") for kind, _ in tracked)
        self.alternatives = alternatives
        self.width = width
        self.most = most
        self.unfinished = False
        self.dropped = False
        self.rules = rules
        self.others = [rule for rule in every if rule not in rules]
        self.overdrawn: set[Resource] = set()
        self.broken: tuple[Rule, ...] = ()
        self.bounded = guided.delay_limit is not None
        self.fastest = layers.q.fastest is not None
        self.priced = layers.cost_limit is not None
        self.check_labels = layers.holds(ReasonCode.LABELS_EXHAUSTED)
        self.told = layers.graph.told if self.check_labels else {}
        ends = [*(e.sap for e in layers.mesh.ends), *(o.end.sap for lan in layers.mesh.lans for o in lan.outer)]
        self.crowded = {layers.graph.announced[sap] for sap, times in Counter(ends).items() if times > 1}
        """SAPs that several ends are at: which of them gets which label is not followed, so a way must take all."""
        self.first = [
            *(self._free(sap, line.a) for sap, line in zip(layers.tails, layers.mesh.lines, strict=True)),
            None,
        ]
        self.kept: dict[int, list[_Label]] = {}
        self.heap: list[tuple[float, float, int, _Label, int]] = []
        """(key, second key, tick, label, n): n is -1 for the label itself, else its nth best move is to be made."""
        self.tick = count()
        self.within: dict[tuple[int, float], bool] = {}

    def run(self) -> list[Route]:
        layers = self.layers
        use = self._drawn((0,) * len(self.tracked), at_ends(layers))
        if use is None:
            return []
        self._push(_Label(layers.origin, 0, 0, use, tuple(r.start for r in self.rules), self.first[0], None, None))
        found: list[Route] = []
        taken: set[int] = set()
        work = 0
        while self.heap and len(found) < self.alternatives:
            if work >= self.most:
                self.unfinished = True
                break
            _, _, _, label, number = heapq.heappop(self.heap)
            if number >= 0:
                self._extend(label, self.guide.ranked(label.state)[number][2])
                self._queue(label, number + 1)
                continue
            if self._dominated(label):
                continue
            work += 1
            self.kept.setdefault(label.state, []).append(label)
            if label.state != layers.target:
                self._queue(label, 0)
                continue
            if label.route in taken:
                continue
            moves = _moves_of(label)
            self.overdrawn = overdrawn(layers, moves) - self.slot.keys()
            self.broken = tuple(broken(self.others, moves))
            if self.overdrawn or self.broken:
                return []
            taken.add(label.route)
            found.append(_route(layers, moves))
        return found

    def _queue(self, label: _Label, number: int) -> None:
        """The nth best move of a label is made when nothing better is left to do."""
        ranked = self.guide.ranked(label.state)
        if number < len(ranked):
            key, second, _ = ranked[number]
            more, later = self.guide.rank(label.cost, label.delay)
            heapq.heappush(self.heap, (key + more, second + later, next(self.tick), label, number))

    def _extend(self, label: _Label, move: Move) -> None:
        layers = self.layers
        labels: LabelSet | None
        if move.entry >= 0:
            if _entered(label, move, layers.tails[move.layer]):
                return
            labels = self._continued(label, move)
            if labels is None:
                return
        elif self._fits_end(label, move):
            labels = self.first[move.layer + 1]
        else:
            return
        use = label.use
        if self.tracked:
            drawn = self._drawn(use, draws(layers, move, self.shared))
            if drawn is None:
                return
            use = drawn
        memory = label.memory
        if self.rules:
            memory = tuple(rule.after(m, move) for rule, m in zip(self.rules, memory, strict=True))
            if None in memory:
                return
        cost, delay = label.cost + move.cost, label.delay + move.delay
        self._push(_Label(move.target, cost, delay, use, memory, labels, move, label))

    def _continued(self, label: _Label, move: Move) -> LabelSet | None:
        """The labels that may be used on the interconnect that is crossed; None where there are too few."""
        graph = self.layers.graph
        crossing = graph.crossing[move.entry]
        assert crossing is not None
        labels = crossing.labels
        if move.way in self.told:
            near, far = self._told(label, move)
            if near is not None and len(near) <= self.layers.need[move.layer]:
                return None
            labels = labels if far is None else labels & far
        else:
            near = label.labels
        if near is None or graph.way_swaps[move.way]:
            return labels if labels is crossing.labels or self._enough(labels, move) else None
        labels = labels & near
        return labels if self._enough(labels, move) else None

    def _enough(self, labels: LabelSet, move: Move) -> bool:
        return len(labels) > self.layers.need[move.layer] or not self.check_labels

    def _told(self, label: _Label, move: Move) -> tuple[LabelSet | None, LabelSet | None]:
        """What may be used before and after a way that tells labels of its own (None: whatever is free)."""
        node = self.layers.node(label.state)
        near, far = self.layers.graph.told_along(move.way, node)
        if near is not None and node in self.crowded:
            near = NO_LABEL
        if far is not None and self.layers.heads[move.layer] in self.crowded and move.entry < 0 and move.place < 0:
            far = NO_LABEL
        if label.labels is None:
            return None, far
        return (label.labels if near is None else label.labels & near), far

    def _push(self, label: _Label) -> None:
        key = self.guide.key(label.state, label.cost, label.delay)
        if key is None or self._dominated(label):
            return
        heapq.heappush(self.heap, (*key, next(self.tick), label, -1))

    def _dominated(self, label: _Label) -> bool:
        kept = self.kept.get(label.state)
        if kept is None:
            return False
        routes: set[int] = set()
        for other in kept:
            if not self._no_worse(other, label):
                continue
            if other.route == label.route:
                return True
            routes.add(other.route)
            if len(routes) >= self.width:
                self.dropped = True
                return True
        return False

    def _no_worse(self, x: _Label, y: _Label) -> bool:
        if self.fastest:
            if x.delay > y.delay or (x.cost > y.cost and (self.priced or x.delay == y.delay)):
                return False
        elif x.cost > y.cost or (x.delay > y.delay and (self.bounded or x.cost == y.cost)):
            return False
        for slot, (a, b) in enumerate(zip(x.use, y.use, strict=True)):
            if self.tracked[slot][0] == "place":
                if int(a) & ~int(b):
                    return False
            elif a > b:
                return False
        if not all(rule.covers(a, b) for rule, a, b in zip(self.rules, x.memory, y.memory, strict=True)):
            return False
        if x.labels is y.labels or x.labels is None:
            return True
        return y.labels is not None and y.labels <= x.labels

    def _drawn(self, use: tuple[float, ...], more: Iterable[tuple[Resource, float]]) -> tuple[float, ...] | None:
        """`use` with what is drawn in addition, None where that overdraws."""
        values = list(use)
        for resource, amount in more:
            slot = self.slot.get(resource)
            if slot is None:
                continue
            values[slot] += amount
            key = (slot, values[slot])
            if key not in self.within:
                self.within[key] = within(self.layers, resource, values[slot])
            if not self.within[key]:
                return None
        return tuple(values)

    def _fits_end(self, label: _Label, move: Move) -> bool:
        """Whether the labels suit the end that the line comes to, where the last segment does not swap."""
        sap, swaps = self.layers.heads[move.layer], self.layers.graph.way_swaps
        near, far = label.labels, None
        if move.way in self.told:
            near, far = self._told(label, move)
            if near is not None and not self._enough(near, move):
                return False
        if sap < 0 or not self.check_labels:
            return True
        tied = near is not None and not swaps[move.way]
        free = self._free(sap, self.layers.mesh.lines[move.layer].b) if tied or far is not None else None
        if free is None:
            return True
        if far is not None:
            free = free & far
        if tied:
            assert near is not None, "what is tied has labels"
            free = free & near
        return self._enough(free, move)

    def _free(self, sap: int, id: str) -> LabelSet | None:
        """The labels that may be used at an end; None where a line begins or ends at a function (`sap` -1)."""
        if sap < 0:
            return None
        free, asked = self.layers.graph.sap_offer(sap).free, self.layers.spec.end(id).labels
        return free if asked is None else free & asked


def _route(layers: Layers, moves: tuple[Move, ...]) -> Route:
    """With the figures as whole numbers, however large."""
    cost = 0
    for move in moves:
        once, hour, _ = figures(layers, move)
        cost += once + hour * layers.hours
    return Route(layers=layers, moves=moves, cost=cost, delays=tuple(int(d) for d in layers.delays(moves)))


def walked(route: Route) -> Iterator[tuple[int, Move]]:
    """The moves with the node that each sets out from."""
    state = route.layers.origin
    for move in route.moves:
        yield route.layers.node(state), move
        state = move.target


def _entered(label: _Label, move: Move, tail: int) -> bool:
    """Whether the line, which began at SAP `tail`, has entered the SAP that the move enters."""
    at = label
    while at.move is not None and at.parent is not None and at.move.layer == move.layer:
        if at.move.entry == move.entry:
            return True
        at = at.parent
    return tail == move.entry


def _moves_of(label: _Label) -> tuple[Move, ...]:
    moves: list[Move] = []
    at: _Label | None = label
    while at is not None and at.move is not None:
        moves.append(at.move)
        at = at.parent
    return tuple(reversed(moves))
