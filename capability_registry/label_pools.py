"""How many labels the ways of a note may use together, where they draw on joints that have few.

Rules kept here
- At a joint each use of a way takes one label, out of those that all joints of its class have in common. Uses that take
  different sets get labels of their own each where, of every union of the sets, no more uses lie within than it has labels
  (Hall, On representatives of subsets, 1935). Each such union of less than MANY labels is a pool.
- A class that goes on over an interconnect at an end of the way is *tied*: who is behind that may have fewer labels than the way
  takes. So it counts in each pool that has any of its labels. That of two that are tied to different ends each may be left the
  same one is not reckoned with, nor that a customer may name labels at an end of its own.
- Where the sets make more than UNIONS of them, all uses share what any one of the sets has.
- What a supplier's own pools say holds for each way that draws on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from address_planner.labels import LabelSet
from capability_registry.front import MANY, UNLIMITED_BPS, binding
from capability_registry.note import SharedLimit

UNIONS = 16

_Uses = dict[str, float]
"""By the key of a way, how often a flow along it uses the joint."""


@dataclass(slots=True)
class LabelPools:
    """`taken`: by joint and set of labels; of these `tied`; `within`: by pool of a supplier, and how many labels it has."""

    taken: dict[str, dict[LabelSet, _Uses]] = field(default_factory=dict)
    tied: dict[str, dict[LabelSet, _Uses]] = field(default_factory=dict)
    within: dict[str, tuple[int, _Uses]] = field(default_factory=dict)

    def takes(self, way: str, joint: str, labels: LabelSet, tied: bool = False) -> None:
        """The way uses one of these labels at the joint."""
        for some in (self.taken, self.tied) if tied else (self.taken,):
            uses = some.setdefault(joint, {}).setdefault(labels, {})
            uses[way] = uses.get(way, 0.0) + 1.0

    def draws(self, way: str, pool: str, times: float, labels: int) -> None:
        """The way draws on a pool of a supplier, which has so many labels."""
        uses = self.within.setdefault(pool, (labels, {}))[1]
        uses[way] = uses.get(way, 0.0) + times

    def limits(self) -> tuple[SharedLimit, ...]:
        """Those that no other implies."""
        return tuple(
            SharedLimit(id=f"labels-{n}", limit_bps=UNLIMITED_BPS, labels=labels, coefficients=dict(over))
            for n, (over, labels) in enumerate(binding(self._pools()), start=1)
        )

    def _pools(self) -> Iterator[tuple[int, _Uses]]:
        yield from self.within.values()
        for joint, sets in self.taken.items():
            tied = self.tied.get(joint, {})
            few = sorted((s for s in sets if len(s) < MANY), key=lambda s: (len(s), s.ranges))
            unions: set[LabelSet] = set()
            for labels in few:
                more = {labels, *(labels | known for known in unions)}
                unions |= {union for union in more if len(union) < MANY}
                if len(unions) > UNIONS:
                    yield len(few[0]), _sum(sets, few)
                    break
            else:
                for union in sorted(unions, key=lambda s: s.ranges):
                    whole = [s for s in few if s <= union]
                    met = [s for s in few if s in tied and s & union and not s <= union]
                    yield len(union), _sum(tied, met, _sum(sets, whole))


def _sum(sets: dict[LabelSet, _Uses], of: list[LabelSet], to: Mapping[str, float] = MappingProxyType({})) -> _Uses:
    out: _Uses = {**to}
    for labels in of:
        for way, times in sets[labels].items():
            out[way] = out.get(way, 0.0) + times
    return out
