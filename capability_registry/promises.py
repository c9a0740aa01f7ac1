"""What suppliers announced and then made good: one count for each.

Rules kept here
- Who is asked for what its note promises, and holds it: kept. Refused for want of what was announced, held for more than
  was announced, or outside the constraint that it was given: broken. What is asked for beyond the note, in hope, counts for
  neither.
- A refusal for another reason (a label that somebody was quicker to take, a budget, a quota, the request itself) counts
  for neither.
- Counts are halved when they reach LONG: what a supplier did last weighs most. Some grace goes before: one refusal of a
  new supplier says little.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from service_model.outcomes import ReasonCode

LONG = 1000
GRACE = 10

_ANNOUNCED = frozenset(
    {
        ReasonCode.UNKNOWN_SAP,
        ReasonCode.UNKNOWN_FUNCTION_TYPE,
        ReasonCode.UNKNOWN_PORT,
        ReasonCode.UNKNOWN_PLACE,
        ReasonCode.FEATURE_NOT_OFFERED,
        ReasonCode.LAN_NOT_OFFERED,
        ReasonCode.NO_PATH,
        ReasonCode.DELAY,
        ReasonCode.BANDWIDTH,
        ReasonCode.CAPACITY,
        ReasonCode.PRICE,
        ReasonCode.MTU,
        ReasonCode.LABELS_EXHAUSTED,
        ReasonCode.NOT_IN_SERVICE,
        ReasonCode.SUPPLIER_UNREACHABLE,
        ReasonCode.SEGMENT_REFUSED,
        ReasonCode.INFRASTRUCTURE,
    }
)
"""What a refusal may be for that a true note would have told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    kept: int = 0
    broken: int = 0

    @property
    def rate(self) -> float:
        """From 0 to 1; 1 where nothing was asked for yet."""
        return (self.kept + GRACE) / (self.kept + self.broken + GRACE)

    def held(self) -> Promises:
        return replace(self, kept=self.kept + 1)._recent()

    def fell_short(self) -> Promises:
        """After it held, counted already, but for more than it had announced or outside what it was asked: that was not kept."""
        return replace(self, kept=max(0, self.kept - 1), broken=self.broken + 1)

    def refused(self, codes: Iterable[ReasonCode]) -> Promises:
        """After a refusal for these reasons."""
        if _ANNOUNCED.isdisjoint(codes):
            return self
        return replace(self, broken=self.broken + 1)._recent()

    def _recent(self) -> Promises:
        if self.kept + self.broken < LONG:
            return self
        return Promises(kept=self.kept // 2, broken=self.broken // 2)
