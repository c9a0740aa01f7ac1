"""Which path the packets at an interconnect are on, as a service path header tells it (RFC 8300, 2.3): the path's identifier,
and how far they have come.

Rules kept here
- The identifier is even; what goes back bears the next one. So a path takes two of the 2^24, and replies are a path of their own
  (RFC 7665, 2.2).
- Each segment that is passed takes one off the index, forth and back, whatever it is made of. Inside, packets bear the
  identifiers of whoever has it; at its end what they bore before, one less (RFC 8459, 4.1: one path for each upper one).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

INDEX_FIRST = 255
"""Of who puts the header on (RFC 8300, 2.3)."""
ID_MAX = (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class Mark:
    """What a packet bears: the identifier of its path, and its index there."""

    id: int
    index: int

    def __str__(self) -> str:
        return f"{self.id}/{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathHeader:
    """Of all packets that pass one end. `index`: of those towards the path's last end, `back_index`: towards its first."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    id: Annotated[int, Field(ge=2, le=ID_MAX - 1, multiple_of=2)]
    index: Annotated[int, Field(ge=1, le=INDEX_FIRST)]
    back_index: Annotated[int, Field(ge=1, le=INDEX_FIRST)]

    @property
    def forth(self) -> Mark:
        return Mark(self.id, self.index)

    @property
    def back(self) -> Mark:
        return Mark(self.id + 1, self.back_index)

    def __str__(self) -> str:
        return f"{self.forth} forth, {self.back} back"


def between(id: int, passed: int, ahead: int) -> PathHeader | None:
    """The header where a path has `passed` so many segments and has so many `ahead`; None where these are more than an index
    counts."""
    if passed >= INDEX_FIRST or ahead >= INDEX_FIRST:
        return None
    return PathHeader(id=id, index=INDEX_FIRST - passed, back_index=INDEX_FIRST - ahead)
