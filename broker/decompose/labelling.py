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
- Resources and rules are tracked only where they bind: from a finished route that overdraws or breaks one on, it is in every
  label. The search goes on where it was, with the labels that this rules out taken away and those that were dropped looked at
  again. Each round tracks at least one more, so it ends.
- The best is exact. Others can be lost when labels that led nowhere crowded them out: where fewer than asked are found,
  the search begins again with more labels kept (`MAX_WIDTH`).
- Where a route takes labels that clash (`Continuity.apart`), it is none, and what narrows labels is a rule from then on.
- Segments that do not swap tie the labels of the interconnects at both sides: a label carries their intersection. A way may
  tell which labels do at its ends, fewer than are free there.
- A line enters no SAP twice.
- The work is bounded (`Effort`). A search that is hard settles for what is nearly the best (Pohl, Heuristic search viewed
  as path finding in a graph, 1970: what is ahead counts more); what was found until it gives up is the answer.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from address_planner.labels import LabelSet
from broker.decompose.continuity import Continuity
from broker.decompose.guide import ChainGuiding, Guide, Ranked
from broker.decompose.layered import ChainLayers, Layers, Move, Question, figures
from broker.decompose.resources import Resource, at_ends, draws, overdrawn, within
from broker.decompose.rules import Rule, broken, labelled, rules_of
from broker.decompose.trail import entered, moves_of

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
    """`more`, `later`: what its guide adds to the ranks of its moves. `use` None: it overdraws or breaks what is tracked."""

    __slots__ = ("cost", "delay", "labels", "later", "memory", "more", "move", "parent", "route", "state", "use")

    def __init__(
        self, state: int, cost: float, delay: float, labels: LabelSet | None, move: Move | None, parent: _Label | None
    ) -> None:
        self.state, self.cost, self.delay, self.labels = state, cost, delay, labels
        self.move, self.parent = move, parent
        self.use: tuple[float, ...] | None = ()
        self.memory: tuple[Any, ...] = ()
        self.route: int = hash((parent.route if parent else 0, state))
        self.more = self.later = 0.0


def find_chain(question: Question, alternatives: int = 1, effort: Effort = EFFORT) -> Found:
    """At most `alternatives` routes."""
    layers = ChainLayers(question)
    guiding = ChainGuiding(layers)
    guided = guiding.guide(thorough=False)
    if guided is None:
        return Found()
    search = _Search(layers, guided, rules_of(layers), alternatives)
    work = effort.easy
    while True:
        search.run(work)
        if search.unfinished and work < effort.most:
            work = effort.exact if work < effort.exact else effort.most
        elif search.overdrawn or search.broken:
            search.track()
        elif 0 < len(search.found) < alternatives and search.crowded and search.width < MAX_WIDTH:
            search.widen()
        else:
            return Found(routes=search.routes(), complete=not search.unfinished)
        guided = guiding.guide(thorough=work > effort.easy)
        if guided is None:
            return Found()
        search.go_by(guided.settling(effort.settle) if work == effort.most else guided)


_Entry = tuple[float, float, int, _Label, int, Sequence[Ranked]]
"""Of the heap: key, second key, tick, label, n, moves. The label's nth move of these is to be made; n is -1 for the label
itself."""


class _Search:
    """It goes on where it was when more is tracked, more labels are kept, or another guide is better."""

    def __init__(self, layers: Layers, guided: Guide, every: tuple[Rule, ...], alternatives: int) -> None:
        self.layers = layers
        self.every = every
        self.alternatives = alternatives
        self.width = alternatives
        self.tracked: tuple[Resource, ...] = ()
        self.rules: tuple[Rule, ...] = ()
        self.bounded = guided.delay_limit is not None
        self.fastest = layers.q.fastest is not None
        self.priced = layers.cost_limit is not None
        self.labels = Continuity(layers)
        self.clash = labelled(layers)
        self.tick = count()
        self._prepare()
        self.guide = guided
        self.found: list[tuple[float, float, Route]] = []
        self.taken: set[int] = set()
        self.overdrawn: set[Resource] = set()
        self.broken: tuple[Rule, ...] = ()
        self.crowded = self.unfinished = False
        self.work = 0
        self.heap: list[_Entry] = []
        self.kept: dict[int, list[_Label]] = {}
        self.dropped: list[_Label] = []
        start = _Label(layers.origin, 0.0, 0.0, self.labels.first[0], None, None)
        self.made = [start]
        """All labels, parents first."""
        if self._draws(start):
            self._push(start)

    def routes(self) -> tuple[Route, ...]:
        """Best first."""
        return tuple(route for _, _, route in sorted(self.found, key=lambda found: found[:2]))

    # --- going on otherwise --------------------------------------------------------------------------------------------

    def track(self) -> None:
        """What the last route overdrew or broke is in every label from now on. Those that it rules out are gone, and those that
        they stood for come again."""
        self.tracked += tuple(sorted(self.overdrawn, key=str))
        self.rules += self.broken
        self.overdrawn, self.broken = set(), ()
        self._prepare()
        self.made = [label for label in self.made if self._draws(label)]
        self.heap = [entry for entry in self.heap if entry[3].use is not None]
        heapq.heapify(self.heap)
        self.kept = {state: [x for x in here if x.use is not None] for state, here in self.kept.items()}
        self.work = sum(map(len, self.kept.values()))
        self._again()

    def widen(self) -> None:
        """More labels are kept beside each other from now on."""
        self.width *= 4
        self.crowded = False
        self._again()

    def _again(self) -> None:
        dropped, self.dropped = self.dropped, []
        for label in dropped:
            if label.use is not None:
                self._push(label)

    def go_by(self, guided: Guide) -> None:
        """What is still to be looked at is put in the order of another guide, by which moves count the same."""
        self.unfinished = False
        if guided is self.guide:
            return
        self.guide, before, self.heap = guided, self.heap, []
        for _, _, _, label, number, moves in before:
            if number < 0:
                self._push(label)
            else:
                left = {id(move) for _, _, move in moves[number:]}
                self._open(label, [ranked for ranked in guided.ranked(label.state) if id(ranked[2]) in left])

    def _prepare(self) -> None:
        self.slot = {resource: i for i, resource in enumerate(self.tracked)}
        self.shared = any(kind in ("shared", "pool") for kind, _ in self.tracked)
        self.others = [rule for rule in self.every if rule not in self.rules]
        self.within: dict[tuple[int, float], bool] = {}
        self.drawn: dict[Move, list[tuple[int, float]]] = {}

    # --- the search ----------------------------------------------------------------------------------------------------

    def run(self, most: int) -> None:
        """Until there are enough routes or none is left, one overdraws or breaks what is not tracked, or `most` labels were
        looked at."""
        heap, guide, kept, target = self.heap, self.guide, self.kept, self.layers.target
        while heap and len(self.found) < self.alternatives:
            if self.work >= most:
                self.unfinished = True
                return
            _, _, _, label, number, moves = heap[0]
            if number < 0:
                heapq.heappop(heap)
                if self._dominated(label):
                    continue
            else:
                move = moves[number][2]
                number += 1
                if number < len(moves):  # the next best is made when nothing better is left to do
                    first, second, _ = moves[number]
                    entry = first + label.more, second + label.later, next(self.tick), label, number, moves
                    heapq.heapreplace(heap, entry)
                else:
                    heapq.heappop(heap)
                made = self._moved(label, move)
                if made is None:
                    continue
                label = made
                key = guide.key(label.state, label.cost, label.delay)
                if key is None:
                    continue
                self.made.append(label)
                if self._dominated(label):
                    continue
                if heap and key > heap[0][:2]:
                    heapq.heappush(heap, (*key, next(self.tick), label, -1, ()))
                    continue
            self.work += 1
            kept.setdefault(label.state, []).append(label)
            if label.state != target:
                self._open(label, guide.ranked(label.state))
            elif label.route not in self.taken and not self._arrived(label):
                return

    def _arrived(self, label: _Label) -> bool:
        """Whether its route is one."""
        moves = moves_of(label)
        self.overdrawn = overdrawn(self.layers, moves) - self.slot.keys()
        self.broken = tuple(broken(self.others, moves))
        if self.overdrawn or self.broken:
            return False
        if not self.labels.apart(moves):
            self.broken = () if self.clash in self.rules else (self.clash,)
            return not self.broken
        self.taken.add(label.route)
        first, second = (label.delay, label.cost) if self.fastest else (label.cost, label.delay)
        self.found.append((first, second, route_of(self.layers, moves)))
        return True

    def _open(self, label: _Label, moves: Sequence[Ranked]) -> None:
        """These moves of a label are to be made."""
        if moves:
            label.more, label.later = self.guide.rank(label.cost, label.delay)
            first, second, _ = moves[0]
            entry = first + label.more, second + label.later, next(self.tick), label, 0, moves
            heapq.heappush(self.heap, entry)

    def _push(self, label: _Label) -> None:
        """A label is to be looked at."""
        key = self.guide.key(label.state, label.cost, label.delay)
        if key is not None:
            heapq.heappush(self.heap, (*key, next(self.tick), label, -1, ()))

    def _moved(self, label: _Label, move: Move) -> _Label | None:
        """None where the move cannot be made."""
        layers = self.layers
        labels: LabelSet | None
        if move.entry >= 0:
            if entered(label, move, layers.tails[move.layer]):
                return None
            labels = self.labels.continued(label.labels, label.state, move)
            if labels is None:
                return None
        elif self.labels.fits_end(label.labels, label.state, move):
            labels = self.labels.first[move.layer + 1]
        else:
            return None
        made = _Label(move.target, label.cost + move.cost, label.delay + move.delay, labels, move, label)
        return made if not (self.tracked or self.rules) or self._draws(made) else None

    def _dominated(self, label: _Label) -> bool:
        """If so it is dropped."""
        kept = self.kept.get(label.state)
        if kept is None:
            return False
        routes: set[int] = set()
        for other in kept:
            if not self._no_worse(other, label):
                continue
            if other.route != label.route:
                routes.add(other.route)
                if len(routes) < self.width:
                    continue
                self.crowded = True
            self.dropped.append(label)
            return True
        return False

    def _no_worse(self, x: _Label, y: _Label) -> bool:
        if self.fastest:
            if x.delay > y.delay or (x.cost > y.cost and (self.priced or x.delay == y.delay)):
                return False
        elif x.cost > y.cost or (x.delay > y.delay and (self.bounded or x.cost == y.cost)):
            return False
        assert x.use is not None
        assert y.use is not None
        if x.use != y.use:
            for slot, (a, b) in enumerate(zip(x.use, y.use, strict=True)):
                if self.tracked[slot][0] == "place":
                    if int(a) & ~int(b):
                        return False
                elif a > b:
                    return False
        if self.rules and not all(rule.covers(a, b) for rule, a, b in zip(self.rules, x.memory, y.memory, strict=True)):
            return False
        if x.labels is y.labels or x.labels is None:
            return True
        return y.labels is not None and y.labels <= x.labels

    def _draws(self, label: _Label) -> bool:
        """What is tracked, from the label's parent and move. False where that overdraws or breaks it."""
        parent, move = label.parent, label.move
        if parent is None or move is None:
            label.memory = tuple(rule.start for rule in self.rules)
            label.use = self._sum((0.0,) * len(self.tracked), self._slots(at_ends(self.layers)))
            return label.use is not None
        label.use = use = parent.use
        if use is None:
            return False
        if self.tracked:
            drawn = self.drawn.get(move)
            if drawn is None:
                drawn = self.drawn[move] = self._slots(draws(self.layers, move, self.shared))
            if drawn:
                label.use = use = self._sum(use, drawn)
                if use is None:
                    return False
        label.memory = memory = parent.memory
        if self.rules:
            label.memory = memory = tuple(r.after(m, move) for r, m in zip(self.rules, memory, strict=True))
            if None in memory:
                label.use = None
                return False
        return True

    def _slots(self, drawn: Iterable[tuple[Resource, float]]) -> list[tuple[int, float]]:
        """Of what is tracked."""
        return [(self.slot[resource], amount) for resource, amount in drawn if resource in self.slot]

    def _sum(self, use: tuple[float, ...], drawn: list[tuple[int, float]]) -> tuple[float, ...] | None:
        """None where that overdraws."""
        values = list(use)
        for slot, amount in drawn:
            values[slot] += amount
            key = (slot, values[slot])
            if key not in self.within:
                self.within[key] = within(self.layers, self.tracked[slot], values[slot])
            if not self.within[key]:
                return None
        return tuple(values)


def route_of(layers: Layers, moves: tuple[Move, ...]) -> Route:
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
