"""What could run short while a question is searched: the resources that all its lines and functions together may overdraw.

Rules kept here
- A line enters a SAP at most once: so it passes an interconnect, or a way, at most once in each direction.
- What is enough for all of that is not counted. Everything else has a number, in the order in which it is come to.
"""

from __future__ import annotations

from broker.decompose.layered import Layers, Move
from broker.decompose.resources import Resource, at_ends, draws, most, within


class Stock:
    """`bits`: by number, whether the amount is a bit per function instead of a sum."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.bits: list[bool] = []
        self._at_ends: dict[Resource, float] = {}
        for resource, amount in at_ends(layers):
            self._at_ends[resource] = self._at_ends.get(resource, 0) + amount
        self._limited = bool(layers.graph.shared_first[-1])
        self._passes = 2 * len(layers.mesh.lines)
        self._resources: list[Resource] = []
        self._numbers: dict[Resource, int] = {}
        self._drawn: dict[tuple[int, int, int, int], tuple[tuple[int, float], ...]] = {}
        self._within: dict[tuple[int, float], bool] = {}

    def begin(self) -> dict[int, float] | None:
        """What the ends alone draw, by number; None where that is too much."""
        use = {self._number(resource): amount for resource, amount in self._at_ends.items()}
        return use if all(self.within(number, amount) for number, amount in use.items()) else None

    def drawn(self, move: Move) -> tuple[tuple[int, float], ...]:
        """Numbers and amounts."""
        key = move[3:]
        known = self._drawn.get(key)
        if known is None:
            known = self._drawn[key] = tuple(
                (self._number(resource), amount)
                for resource, amount in draws(self.layers, move, self._limited)
                if self._scarce(resource, amount)
            )
        return known

    def within(self, number: int, amount: float) -> bool:
        key = (number, amount)
        known = self._within.get(key)
        if known is None and self.bits[number] and not int(amount) & int(amount) - 1:
            known = True  # one function alone: it was admitted
        if known is None:
            known = self._within[key] = within(self.layers, self._resources[number], amount)
        return known

    def _scarce(self, resource: Resource, amount: float) -> bool:
        if resource[0] == "place":
            return True
        passes = len(self.layers.requests) if resource[0] == "functions" else self._passes
        return amount > 0 and most(self.layers, resource) - self._at_ends.get(resource, 0) < amount * passes

    def _number(self, resource: Resource) -> int:
        known = self._numbers.get(resource)
        if known is None:
            known = self._numbers[resource] = len(self._resources)
            self._resources.append(resource)
            self.bits.append(resource[0] == "place")
        return known
