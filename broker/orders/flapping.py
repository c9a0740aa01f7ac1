"""How often a live segment was lost lately, and whether that is too often: flapping. Pure.

Rules kept here
- A loss is a segment that worked and was lost or degraded, whatever the reason and however soon it was back. Its instant is
  recorded with the segment: what takes its place begins with none.
- Too often is so many losses within so long, counted back from now. With time the oldest falls out of that, and the segment is
  as any other again.
- The latest MOST of a day are kept, so that a record is bounded whatever a supplier tells, and a limit that is changed holds for
  what was before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

MOST = 32
LONGEST = timedelta(days=1)


def lost(losses: Sequence[datetime], at: datetime) -> tuple[datetime, ...]:
    """The record with one more loss. Where the clock was put back since, what was later counts as of now."""
    return (*(min(loss, at) for loss in losses if at - loss < LONGEST), at)[-MOST:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flapping:
    """From how many losses within how long a segment counts as lost, though it comes back. 0: it never does."""

    losses: int = 4
    within: timedelta = timedelta(hours=1)

    def lately(self, losses: Sequence[datetime], now: datetime) -> int:
        """How many there were."""
        return sum(now - loss < self.within for loss in losses)

    def until(self, losses: Sequence[datetime], now: datetime) -> datetime | None:
        """Until when it is flapping, if it is not lost again; None: it is not."""
        if not self.losses or self.lately(losses, now) < self.losses:
            return None
        return losses[-self.losses] + self.within

    def __str__(self) -> str:
        seconds = int(self.within.total_seconds())
        for unit, name in ((3600, "hour"), (60, "minute")):
            if seconds % unit == 0:
                n = seconds // unit
                return f"within {n} {name}s" if n > 1 else f"within {'an' if name == 'hour' else 'a'} {name}"
        return f"within {seconds} seconds"
