"""The one interface: anything that delivers segments. A lower SP over gRPC, a local domain, and the broker itself.

Rules of the contract (tests/contract runs one suite over every implementation)
- `ref` is chosen and stored by the caller before the first call and scoped to its account; `version` only grows.
- Same version and same body: the recorded answer. Same version, another body: KEY_REUSED.
- A version at or below a released one is refused. A higher version replaces a hold; if it is refused the older stays.
- `release` frees a held version only, and leaves a tombstone where it was never seen. `terminate` ends every version.
- A quote that a reservation names is part of its body. It fixes the price, and nothing but the price.
- `heal` is a wish: it is recorded, and `status` tells what comes of it. Of what is whole it changes nothing.
- A refusal is a value. `OutcomeUnknown` is raised where the caller cannot know: ask again with the same ref and version.
- `Overloaded` is raised where this call was not looked at: ask again, later. It is no refusal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from capability_registry.note import CapabilityNote
from service_model.outcomes import Bindings, Committed, Event, Refused, Reserved, ServiceState, ServiceStatus
from service_model.quotes import Qualification, Quote
from service_model.replacing import replace
from service_model.spec import ServiceSpec


class OutcomeUnknown(Exception):
    """The call may or may not have had its effect; the message says what happened to it."""


class Overloaded(Exception):
    """The call was turned away: nothing was done or recorded for it, and it is worth making again after so many seconds. Of
    earlier calls with the same ref and version it says nothing."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"overloaded: worth asking again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class NotRecorded(OutcomeUnknown):
    """Who was asked cannot use its store at this moment, and has answered nothing that it did not record: ask again."""


class ReadOnly(OutcomeUnknown):
    """Who was asked changes nothing at present, and says why: ask again later."""


class ServiceNotFound(Exception):
    """The caller has no service with this ref (or it is not the caller's, which is the same)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What travels beside a request and is no part of it.

    `deadline`: when the caller stops waiting. `hop_budget` levels and `call_budget` calls may still be spent below here.
    `quote`: the id of the quote whose price a reservation is to have; "" for today's price. `hoped`: what is asked for may be
    more than the supplier announces; that is for our own books and does not travel.
    """

    deadline: datetime | None = None
    hop_budget: int = 16
    call_budget: int = 1000
    trace: str = ""
    quote: str = ""
    hoped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedNote:
    """A note as it came: the compact JWS, relayed untouched, beside what was read from it after verification."""

    jws: str
    note: CapabilityNote

    @property
    def edition(self) -> int:
        return self.note.edition


class Given(Protocol):
    """A note as it is given to who reads it elsewhere."""

    @property
    def jws(self) -> str: ...

    @property
    def edition(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """What a watcher wants to hear: services in `states` (none: in any), with or without labels and addresses."""

    states: frozenset[ServiceState] = frozenset()
    addressing: bool = True

    def of(self, status: ServiceStatus) -> ServiceStatus | None:
        """What is told of this status; None for nothing."""
        if self.states and status.state not in self.states:
            return None
        return status if self.addressing else replace(status, choice=None, binding=None)


EVERYTHING = Interest()


class Supplier(Protocol):
    def notes(self) -> AsyncIterator[SignedNote]:
        """The current note, then each new edition, without end."""

    async def qualify(self, spec: ServiceSpec, ctx: Context) -> Qualification:
        """Whether the segment could be held now. Nothing is kept of the question."""

    async def quote(self, spec: ServiceSpec, ctx: Context) -> Quote | Qualification:
        """A firm price for everything that `spec.priced()` says; or the qualification that says no."""

    async def reserve(self, ref: str, version: int, spec: ServiceSpec, ctx: Context) -> Reserved | Refused: ...

    async def extend(self, ref: str, version: int, seconds: float, ctx: Context) -> Reserved | Refused:
        """Prolong a hold to `seconds` from now, as far as the supplier allows. Refused leaves it as it was."""

    async def commit(self, ref: str, version: int, bindings: Bindings, ctx: Context) -> Committed | Refused: ...

    async def release(self, ref: str, version: int, ctx: Context) -> None: ...

    async def terminate(self, ref: str, ctx: Context) -> None: ...

    async def heal(self, ref: str, ctx: Context) -> None:
        """Let what is lost of a live service be bought elsewhere. Raises ServiceNotFound."""

    async def status(self, ref: str, ctx: Context) -> ServiceStatus:
        """Raises ServiceNotFound."""

    def services(self, ctx: Context) -> AsyncIterator[ServiceStatus]:
        """Every service of the caller's, in order of creation, for reconciliation between partners."""

    def watch(self, after: str, interest: Interest = EVERYTHING) -> AsyncIterator[Event]:
        """Changes of the caller's services behind the token `after`, without end; first a bookmark. A token that a supplier
        cannot resume behind means from now, as "" does: so whoever comes (back) asks for the present state after the
        bookmark, and misses nothing."""
