"""The ways between two exported points as our note tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from address_planner.labels import LabelSet
from broker.decompose.reach import Reached
from capability_registry.note import PointKind


@dataclass(frozen=True, slots=True)
class Told:
    """A way as it is announced: `number` in keys of shared limits, with the labels that it tells at its ends."""

    kind: PointKind
    way: Reached
    number: str
    labels: tuple[LabelSet, LabelSet]
    guarded: bool

    @property
    def route(self) -> tuple[tuple[int, str], ...]:
        """What it is made of, by numbers of ways and ids of interconnects: alike in all graphs of one shape."""
        return tuple((p.way.number, p.crossing.id if p.crossing is not None else "") for p in self.way.passages)


@dataclass(frozen=True, slots=True)
class Joint:
    """An interconnect at which we hand over, and to whom: the token of the SAP at its other side."""

    interconnect: str
    beyond: str


Ways = Mapping[tuple[str, str], list[Told]]
"""By the names of the two points."""
