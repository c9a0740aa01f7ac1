"""Label-setting search over the layered graph, in the order of the objective.

Rules kept here
- Objective: price over the term, then delay (or the reverse where the question asks for the fastest). The first route
  is optimal; the others follow in order, distinct in where they go and what they place.
- A label is dropped when another of the same route, or `width` others, are no worse in cost, in delay (where it
  is bounded), in every tracked resource and in the labels that may still be used (Irnich and Desaulniers, Shortest path
  problems with resource constraints, 2005: dominance). Lower bounds order the search (Hart, Nilsson, Raphael, 1968).
- Resources are tracked only where they bind: a finished route that overdraws one is discarded and the search begins
  again with that resource in every label. Each round tracks at least one more, so it ends.
- The best is exact. Others can be lost when labels that led nowhere crowded them out: where fewer than asked are found,
  the search begins again with more labels kept (`MAX_WIDTH`).
- Segments that do not swap tie the labels of the interconnects at both sides: a label carries their intersection.
- Within one layer no SAP is entered twice.
- The work is bounded by `MAX_LABELS`; what was found until then is the answer.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from address_planner.labels import LabelSet
from broker.decompose.layered import Layers, Question, Resource, Step
from service_model.outcomes import ReasonCode

MAX_LABELS = 200_000
MAX_WIDTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Steps from the start to the goal. `cost` in 1e-9 currency units over the term, `delay` in microseconds."""

    layers: Layers
    steps: tuple[Step, ...]
    cost: int
    delay: int


class _Label:
    __slots__ = ("cost", "delay", "labels", "parent", "route", "state", "step", "use")

    def __init__(
        self,
        state: int,
        cost: int,
        delay: int,
        use: tuple[float, ...],
        labels: LabelSet | None,
        step: Step | None,
        parent: _Label | None,
    ) -> None:
        self.state, self.cost, self.delay, self.use, self.labels = state, cost, delay, use, labels
        self.step, self.parent = step, parent
        self.route: int = hash((parent.route if parent else 0, state))


def find(question: Question, alternatives: int = 1) -> list[Route]:
    """At most `alternatives` routes, best first; empty when there is none."""
    layers = Layers(question)
    if layers.origin not in layers.cost_to_go:
        return []
    tracked: tuple[Resource, ...] = ()
    width = alternatives
    while True:
        search = _Search(layers, tracked, alternatives, width)
        routes = search.run()
        if search.overdrawn:
            tracked += tuple(sorted(search.overdrawn, key=str))
        elif 0 < len(routes) < alternatives and search.dropped and width < MAX_WIDTH:
            width *= 4
        else:
            return routes


class _Search:
    def __init__(self, layers: Layers, tracked: tuple[Resource, ...], alternatives: int, width: int) -> None:
        self.layers = layers
        self.tracked = tracked
        self.slot = {resource: i for i, resource in enumerate(tracked)}
        self.alternatives = alternatives
        self.width = width
        self.dropped = False
        self.overdrawn: set[Resource] = set()
        self.bounded = layers.delay_limit is not None
        self.fastest = layers.q.fastest
        self.check_labels = ReasonCode.LABELS_EXHAUSTED not in layers.q.ignore
        self.kept: dict[int, list[_Label]] = {}
        self.heap: list[tuple[int, int, int, _Label]] = []
        self.tick = count()
        self.within: dict[tuple[int, float], bool] = {}

    def run(self) -> list[Route]:
        layers, q = self.layers, self.layers.q
        use = self._drawn((0,) * len(self.tracked), layers.at_ends())
        if use is None:
            return []
        end = layers.graph.saps[q.start].offer.labels
        first = end & layers.chain.a.labels if layers.chain.a.labels is not None else end
        self._push(_Label(layers.origin, 0, 0, use, first, None, None))
        found: list[Route] = []
        taken: set[int] = set()
        work = 0
        while self.heap and len(found) < self.alternatives and work < MAX_LABELS:
            label = heapq.heappop(self.heap)[3]
            if self._dominated(label):
                continue
            work += 1
            self.kept.setdefault(label.state, []).append(label)
            if label.state == layers.target:
                if not self._fits_goal(label) or label.route in taken:
                    continue
                steps = _steps_of(label)
                self.overdrawn = self._overdrawn(steps)
                if self.overdrawn:
                    return []
                taken.add(label.route)
                found.append(Route(layers=layers, steps=steps, cost=label.cost, delay=label.delay))
                continue
            for step in layers.steps[label.state]:
                self._extend(label, step)
        return found

    def _extend(self, label: _Label, step: Step) -> None:
        layers = self.layers
        if step.target not in layers.cost_to_go:
            return
        labels: LabelSet | None = None
        if step.crossing is not None:
            if _entered(label, step.target):
                return
            free = step.crossing.labels
            labels = free if label.labels is None else free & label.labels
            if labels is not free and self.check_labels and len(labels) < 1 + layers.need[step.layer]:
                return
        elif step.way is not None and step.function < 0 and not step.way.point.swaps_labels:
            labels = label.labels
        use = label.use
        if self.tracked:
            drawn = self._drawn(use, layers.uses(step))
            if drawn is None:
                return
            use = drawn
        cost, delay = label.cost + step.cost, label.delay + step.delay
        self._push(_Label(step.target, cost, delay, use, labels, step, label))

    def _push(self, label: _Label) -> None:
        layers = self.layers
        cost, delay = label.cost + layers.cost_to_go[label.state], label.delay
        if layers.delay_to_go is not None:
            delay += layers.delay_to_go[label.state]
        if layers.delay_limit is not None and delay > layers.delay_limit:
            return
        if layers.cost_limit is not None and cost > layers.cost_limit:
            return
        if self._dominated(label):
            return
        key = (delay, cost) if self.fastest else (cost, delay)
        heapq.heappush(self.heap, (*key, next(self.tick), label))

    def _dominated(self, label: _Label) -> bool:
        routes: set[int] = set()
        for other in self.kept.get(label.state, ()):
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
        priced = self.layers.cost_limit is not None
        if self.fastest:
            if x.delay > y.delay or (x.cost > y.cost and (priced or x.delay == y.delay)):
                return False
        elif x.cost > y.cost or (x.delay > y.delay and (self.bounded or x.cost == y.cost)):
            return False
        for slot, (a, b) in enumerate(zip(x.use, y.use, strict=True)):
            if self.tracked[slot][0] == "place":
                if int(a) & ~int(b):
                    return False
            elif a > b:
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
                self.within[key] = self.layers.within(resource, values[slot])
            if not self.within[key]:
                return None
        return tuple(values)

    def _overdrawn(self, steps: tuple[Step, ...]) -> set[Resource]:
        sums: dict[Resource, float] = {}
        for resource, amount in self.layers.at_ends():
            sums[resource] = sums.get(resource, 0) + amount
        for step in steps:
            for resource, amount in self.layers.uses(step):
                sums[resource] = sums.get(resource, 0) + amount
        return {r for r, amount in sums.items() if r not in self.slot and not self.layers.within(r, amount)}

    def _fits_goal(self, label: _Label) -> bool:
        """Whether the last segment's labels suit end B, where it does not swap."""
        if label.labels is None or not self.check_labels:
            return True
        chain, graph = self.layers.chain, self.layers.graph
        labels = label.labels & graph.saps[self.layers.q.goal].offer.labels
        if chain.b.labels is not None:
            labels &= chain.b.labels
        return len(labels) >= 1 + self.layers.need[-1]


def _entered(label: _Label, state: int) -> bool:
    """Whether the label's route has been at `state`; states of one layer are consecutive on a route."""
    at: _Label | None = label
    while at is not None:
        if at.state == state:
            return True
        at = at.parent
    return False


def _steps_of(label: _Label) -> tuple[Step, ...]:
    steps: list[Step] = []
    at: _Label | None = label
    while at is not None and at.step is not None:
        steps.append(at.step)
        at = at.parent
    return tuple(reversed(steps))
