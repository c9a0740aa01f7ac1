"""Label-setting search of a mesh that begins only once: labels are compared in no more than what was found to matter.

Rules kept here
- Every label keeps every rule and draws on nothing too much. So what comes to the target is feasible, and the first is best.
- A label *stands for* another of the same state when it is no worse in cost, in the labels that may still be used, and in
  what it was found to lack. At first that is nothing.
- Where a move from a label is refused (a resource is short, a rule breaks), the label and all that lead to it lack that from
  then on. What they stood for, and is better off in it, is looked at again. So nothing is lost: decremental state space
  relaxation (Righini and Salani, 2008; Boland, Dethridge, Dumitrescu, 2006), repaired where it failed instead of begun again.
- A route whose labels clash (`Continuity.apart`) lacks the last of the rules, which breaks nothing.
- Only what could run short with all lines on it is counted at all.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count
from typing import Any

from address_planner.labels import LabelSet
from broker.decompose.continuity import Continuity
from broker.decompose.guide import Guide
from broker.decompose.labelling import EFFORT, MAX_WIDTH, Effort, Found, Route, route_of
from broker.decompose.layered import Move, Question
from broker.decompose.mesh_guide import MeshGuiding
from broker.decompose.meshed import MeshLayers
from broker.decompose.rules import Rule, labelled, rules_of
from broker.decompose.stock import Stock
from broker.decompose.trail import entered, moves_of


class _Label:
    __slots__ = (
        "cost", "delay", "labels", "lacks", "memory", "move", "parent", "route", "shadow", "state", "use", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        state: int,
        cost: float,
        delay: float,
        use: dict[int, float],
        memory: tuple[Any, ...],
        labels: LabelSet | None,
        move: Move | None,
        parent: _Label | None,
    ) -> None:
        self.state, self.cost, self.delay, self.use, self.labels = state, cost, delay, use, labels
        self.memory, self.move, self.parent = memory, move, parent
        self.route: int = hash((parent.route if parent else 0, state))
        self.lacks: tuple[int, ...] = ()
        self.shadow: list[_Label] | None = None
        self.waiting = False

    def stand_for(self, other: _Label) -> None:
        if self.shadow is None:
            self.shadow = []
        self.shadow.append(other)


@dataclass(frozen=True, slots=True)
class Pace:
    """How the work on a mesh goes on. Labels: `few` by the least prices alone, or `fewer` where the cheapest mesh is late;
    then `several`; then `hurried` for a mesh whose cost may be `hurry` times the bound. Rounds of prices: `rounds` before
    each of these, `more` when places are ruled out."""

    few: int = 150
    fewer: int = 40
    several: int = 120
    hurried: int = 120
    hurry: float = 1.2
    rounds: int = 3
    more: int = 12


PACE = Pace()


def find_mesh(question: Question, alternatives: int = 1, effort: Effort = EFFORT) -> Found:
    """At most `alternatives` routes, best first."""
    return _Finding(question, alternatives, effort).found()


class _Finding:
    """`above`: what costs more is not among those that are asked for."""

    def __init__(self, question: Question, alternatives: int, effort: Effort) -> None:
        self.layers = MeshLayers(question)
        rules = rules_of(self.layers)
        self.guiding = MeshGuiding(self.layers, rules)
        self.rules = (*rules, *self.guiding.rules(), labelled(self.layers))
        self.stock = Stock(self.layers)
        self.alternatives, self.effort, self.width = alternatives, effort, alternatives
        self.above = math.inf
        self.known: tuple[Route, ...] = ()

    def found(self) -> Found:
        guide, effort = self.guiding.guide(), self.effort
        if guide is None:
            return Found()
        cheapest = self.layers.q.fastest is None
        late = cheapest and self.guiding.late
        search = self._searched(guide, min(effort.easy, PACE.fewer if late else PACE.few))
        if search.unfinished and late:
            guide = self.guiding.priced(PACE.rounds)
            search = self._searched(guide, min(effort.exact, PACE.several))
        if search.unfinished and cheapest:
            guide = self._narrowed()
        if search.unfinished:
            search = self._searched(guide, effort.exact)
        if search.unfinished:
            search = self._searched(guide.settling(effort.settle), effort.most)
        if search.unfinished and len(search.routes) < len(self.known):
            return Found(routes=self.known, complete=False)
        return Found(routes=tuple(search.routes), complete=not search.unfinished)

    def _narrowed(self) -> Guide:
        """The guide of the search that is to end. As many meshes as are asked for, found in a hurry, rule out places."""
        guide = self.guiding.priced(PACE.rounds)
        hurried = self._searched(guide.settling(PACE.hurry), min(self.effort.exact, PACE.hurried))
        if len(hurried.routes) < self.alternatives:
            return self.guiding.priced(PACE.more // 2)
        self.known, self.above = tuple(hurried.routes), max(hurried.costs)
        self.guiding.keep_below(self.above)
        return self.guiding.priced(PACE.more)

    def _searched(self, guide: Guide, most: int) -> _Search:
        """Others than the best can be lost when labels that led nowhere crowded them out: then more are kept."""
        while True:
            search = _Search(self.stock, guide, self.rules, self.alternatives, self.width, most, self.above)
            search.run()
            enough = not 0 < len(search.routes) < self.alternatives or not search.dropped
            if search.unfinished or enough or self.width >= MAX_WIDTH:
                return search
            self.width *= 4


class _Search:
    def __init__(
        self,
        stock: Stock,
        guided: Guide,
        rules: tuple[Rule, ...],
        alternatives: int,
        width: int,
        most: int,
        above: float,
    ) -> None:
        self.layers = layers = stock.layers
        self.stock, self.bits, self.guide, self.rules = stock, stock.bits, guided, rules
        self.alternatives, self.width, self.most = alternatives, width, most
        self.above = above * guided.settle
        self.routes: list[Route] = []
        self.costs: list[float] = []
        self.unfinished = self.dropped = False
        self.fastest = layers.q.fastest is not None
        self.priced = layers.cost_limit is not None
        self.labels = Continuity(layers)
        self.kept: dict[int, list[_Label]] = {}
        self.heap: list[tuple[float, float, int, _Label, int]] = []
        self.tick = count()

    def run(self) -> None:
        layers = self.layers
        use = self.stock.begin()
        if use is None:
            return
        origin = _Label(layers.origin, 0, 0, use, tuple(r.start for r in self.rules), self.labels.first[0], None, None)
        self._push(origin)
        taken: set[int] = set()
        work = 0
        while self.heap and len(self.routes) < self.alternatives:
            if work >= self.most:
                self.unfinished = True
                break
            _, _, _, label, number = heapq.heappop(self.heap)
            if number >= 0:
                self._extend(label, self.guide.ranked(label.state)[number][2])
                self._queue(label, number + 1)
                continue
            label.waiting = False
            if self._dominated(label):
                continue
            work += 1
            self.kept.setdefault(label.state, []).append(label)
            if label.state != layers.target:
                self._queue(label, 0)
            elif label.route not in taken:
                moves = moves_of(label)
                if self.labels.apart(moves):
                    taken.add(label.route)
                    self.costs.append(label.cost)
                    self.routes.append(route_of(layers, moves))
                else:
                    self._learn(label, -len(self.rules))

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
            if entered(label, move, layers.tails[move.layer]):
                return
            labels = self.labels.continued(label.labels, label.state, move)
            if labels is None:
                return
        elif self.labels.fits_end(label.labels, label.state, move):
            labels = self.labels.first[move.layer + 1]
        else:
            return
        use = label.use
        drawn = self.stock.drawn(move)
        if drawn:
            use, within = use.copy(), self.stock.within
            for number, amount in drawn:
                total = use[number] = use.get(number, 0) + amount
                if not within(number, total):
                    self._learn(label, number)
                    return
        memory = label.memory
        if self.rules:
            memory = tuple(rule.after(m, move) for rule, m in zip(self.rules, memory, strict=True))
            if None in memory:
                self._learn(label, -1 - memory.index(None))
                return
        self._push(
            _Label(move.target, label.cost + move.cost, label.delay + move.delay, use, memory, labels, move, label)
        )

    def _learn(self, label: _Label | None, lack: int) -> None:
        at = label
        while at is not None and lack not in at.lacks:
            at.lacks += (lack,)
            shadow, at.shadow = at.shadow, None
            for other in shadow or ():
                if self._no_worse_in(lack, at, other):
                    at.stand_for(other)
                    self._learn(other.parent, lack)
                elif not other.waiting:
                    self._push(other)
            at = at.parent

    def _push(self, label: _Label) -> None:
        key = self.guide.key(label.state, label.cost, label.delay)
        if key is None or key[0] > self.above or self._dominated(label):
            return
        label.waiting = True
        heapq.heappush(self.heap, (*key, next(self.tick), label, -1))

    def _dominated(self, label: _Label) -> bool:
        kept = self.kept.get(label.state)
        if kept is None:
            return False
        routes: set[int] = set()
        by: list[_Label] = []
        for other in kept:
            if not self._no_worse(other, label):
                continue
            if other.route == label.route:
                by = [other]
            else:
                by.append(other)
                routes.add(other.route)
                if len(routes) < self.width:
                    continue
                self.dropped = True
            for one in by:
                one.stand_for(label)
                for lack in one.lacks:
                    self._learn(label.parent, lack)
            return True
        return False

    def _no_worse(self, x: _Label, y: _Label) -> bool:
        if self.fastest:
            if x.delay > y.delay or (x.cost > y.cost and (self.priced or x.delay == y.delay)):
                return False
        elif x.cost > y.cost or (x.delay > y.delay and x.cost == y.cost):
            return False
        for lack in x.lacks:
            if not self._no_worse_in(lack, x, y):
                return False
        if x.labels is y.labels or x.labels is None:
            return True
        return y.labels is not None and y.labels <= x.labels

    def _no_worse_in(self, lack: int, x: _Label, y: _Label) -> bool:
        if lack < 0:
            return self.rules[-1 - lack].covers(x.memory[-1 - lack], y.memory[-1 - lack])
        a = x.use.get(lack)
        if not a:
            return True
        b = y.use.get(lack, 0)
        return not int(a) & ~int(b) if self.bits[lack] else a <= b
