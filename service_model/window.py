"""A stretch of time, from its start to before its end.

Rules kept here
- Windows are half-open: one that ends when another begins does not overlap it.
- What has no start has always been, what has no end goes on for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

BEGINNING = datetime.min.replace(tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to before `end`. It is empty where that is not later."""

    start: datetime = BEGINNING
    end: datetime = NEVER

    @classmethod
    def of(cls, start: datetime | None, end: datetime | None) -> Self:
        """None: it has none."""
        return cls(start or BEGINNING, end or NEVER)

    @property
    def empty(self) -> bool:
        return self.end <= self.start

    @classmethod
    def at(cls, moment: datetime) -> Self:
        """The moment alone: as short as there is."""
        return cls(moment, moment + datetime.resolution)

    def told(self) -> tuple[datetime | None, datetime | None]:
        """Its start and its end; None: it has none."""
        return None if self.start == BEGINNING else self.start, None if self.end == NEVER else self.end

    def since(self, now: datetime) -> Window:
        """What is left of it from `now` on."""
        return self if now <= self.start else Window(now, self.end)

    def covers(self, other: Window) -> bool:
        return self.start <= other.start and other.end <= self.end

    def covers_moment(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def overlaps(self, other: Window) -> bool:
        return self.start < other.end and other.start < self.end

    def __str__(self) -> str:
        """As it stands behind what is true within it: `between … and …`."""
        start, end = (f"{at:%Y-%m-%d %H:%M:%S}Z" for at in (self.start, self.end))
        if self.end == NEVER:
            return "at any time" if self.start == BEGINNING else f"from {start} on"
        return f"until {end}" if self.start == BEGINNING else f"between {start} and {end}"


ALWAYS = Window()
