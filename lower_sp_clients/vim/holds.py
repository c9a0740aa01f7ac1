"""What a local domain keeps durably: one hold per ref, and the labels that it has. Values and a port; no effects.

Rules kept here
- A hold and the allocations that it takes or frees are saved in one transaction, before anything is answered.
- A label that was live rests in quarantine when it is freed, so that a late packet meets nobody.
- A newer version beside a live one is in the live one's record, and so are the older ones of which the infrastructure may
  still have something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pydantic import TypeAdapter

from lower_sp_clients.versions import Known
from service_model.money import FREE, Price
from service_model.outcomes import AddressingChoice, Bindings, Reason, ServiceState
from service_model.replacing import replace
from service_model.spec import ServiceSpec
from service_model.words import Instant, Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What was answered to a version that could not be held: the same request gets the same answer."""

    digest: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A segment in one domain from hold to end. `spec` None: only a tombstone, for a ref never seen."""

    ref: str
    version: int
    state: ServiceState
    created: Instant
    updated: Instant
    digest: str = ""
    released_upto: int = 0
    spec: ServiceSpec | None = None
    choice: AddressingChoice | None = None
    bindings: Bindings | None = None
    price: Price = FREE
    delay_us: int = 0
    path_delays_us: Mapping[str, int] = field(default_factory=dict)
    ways: tuple[str, ...] = ()
    hosts: dict[str, tuple[str, int]] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    expires: Instant | None = None
    reasons: tuple[Reason, ...] = ()
    refusals: dict[int, Refusal] = field(default_factory=dict)
    """Versions that were refused while an older hold stayed, and the latest, if it was refused."""
    seed: str = ""
    """What labels and hardware addresses were picked by: that of the first version that went live, so that they stay."""
    beside: Hold | None = None
    """The newer version that stands beside this live one: held, or expired."""
    former: tuple[Hold, ...] = ()
    """The versions before this one of which the infrastructure may still have something, until this one is built."""

    def versions(self) -> tuple[Hold, ...]:
        """Each that may take something."""
        return (*self.former, self) if self.beside is None else (*self.former, self, self.beside)

    def with_version(self, changed: Hold) -> Hold:
        """The record with one of its two latest versions changed."""
        return changed if changed.version == self.version else replace(self, beside=changed)

    def bare(self) -> Hold:
        """This version alone."""
        return replace(self, beside=None, former=(), refusals={})

    def of(self, version: int) -> Hold | None:
        """That version, where it is the latest or stands beside it."""
        return next((h for h in (self, self.beside) if h is not None and h.version == version), None)

    def known(self) -> Known:
        return Known(
            beside=self.beside.known() if self.beside is not None else None,
            version=self.version,
            digest=self.digest,
            state=self.state,
            released_upto=self.released_upto,
            refused={version: refusal.digest for version, refusal in self.refusals.items()},
        )


HOLD: TypeAdapter[Hold] = TypeAdapter(Hold)


class AllocationState(Word):
    HELD = "ALLOCATION_STATE_HELD"
    LIVE = "ALLOCATION_STATE_LIVE"
    RESTING = "ALLOCATION_STATE_RESTING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One value of one pool: a label of a SAP, or a prefix. `until`: when a resting one is free again."""

    pool: str
    value: str
    owner: str
    state: AllocationState
    until: Instant | None = None


class HoldBook(Protocol):
    """Durable storage of one domain's holds."""

    async def load(self) -> tuple[Sequence[Hold], Sequence[Allocation]]: ...

    async def find(self, refs: Sequence[str]) -> tuple[Sequence[Hold], Sequence[Allocation]]:
        """The holds of these refs, and every allocation that rests."""

    async def save(
        self, hold: Hold | None, put: Sequence[Allocation], drop: Sequence[Allocation], at: datetime
    ) -> None:
        """All or nothing, each allocation with its entry in the journal at `at`; durable on return. Raises where the store
        cannot."""
