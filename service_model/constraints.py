"""Where the functions of a service may be, and through which countries it may go.

Rules kept here
- A group keeps functions together (AFFINITY) or apart (ANTI_AFFINITY), by host, place or supplier (ETSI IFA 010). A
  supplier is one of those that the broker asked buys from; a host is at one place.
- The service's countries hold for every place and SAP that it is planned through, a function's for its place. What does
  not tell its country is in none of the allowed.
- A distance is between a function and an end or another function: great-circle kilometres between their places, or
  microseconds along the path from the one to the other, without what the two add themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from service_model.words import Microseconds, Name, Word

_STRICT = ConfigDict(extra="forbid")
PLACEMENT = "placement-constraints"
"""The feature of a supplier that keeps what is handed down of these; one of an earlier release would not see it."""
Country = Annotated[str, Field(pattern="^[A-Z]{2}$")]
"""ISO 3166-1 alpha-2."""


class GroupKind(Word):
    UNSPECIFIED = "GROUP_KIND_UNSPECIFIED"
    AFFINITY = "GROUP_KIND_AFFINITY"
    ANTI_AFFINITY = "GROUP_KIND_ANTI_AFFINITY"


class GroupScope(Word):
    UNSPECIFIED = "GROUP_SCOPE_UNSPECIFIED"
    HOST = "GROUP_SCOPE_HOST"
    PLACE = "GROUP_SCOPE_PLACE"
    SUPPLIER = "GROUP_SCOPE_SUPPLIER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Functions that are together, or each apart from every other."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    id: Name
    kind: GroupKind
    scope: GroupScope
    functions: Annotated[tuple[Name, ...], Field(min_length=2, max_length=64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Countries:
    """`allowed` empty: all but the denied."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    allowed: Annotated[tuple[Country, ...], Field(max_length=64)] = ()
    denied: Annotated[tuple[Country, ...], Field(max_length=64)] = ()

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return bool(self.allowed or self.denied)

    def admit(self, country: str | None) -> bool:
        """Whether a place may be used; None: its country is not known."""
        if country is None:
            return not self
        return country not in self.denied and (not self.allowed or country in self.allowed)

    def __str__(self) -> str:
        parts = [f"only {', '.join(self.allowed)}"] if self.allowed else []
        return "; ".join(parts + ([f"not {', '.join(self.denied)}"] if self.denied else []))


ANYWHERE = Countries()


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far `function` may be from `to`, an end or another function of the same path."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    id: Name
    function: Name
    to: Name
    max_km: Annotated[float, Field(ge=0, le=20_100)] | None = None
    max_delay_us: Microseconds | None = None
