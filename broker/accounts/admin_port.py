"""What the AdminService asks of the node: the port that the wiring plugs the administration into.

Rules kept here
- Documents are plain mappings here: whoever implements the port validates them, so that a problem names its document.
- Every change says who made it and why; `actor` comes from the token, never from the request.
- Passwords and their hashes never come back out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from broker.accounts.planned import Preview
from service_model.outcomes import AddressingChoice, Bindings, Reason, ServiceState, ServiceStatus
from service_model.spec import ServiceSpec
from service_model.words import Instant, Word

Documents = tuple[Mapping[str, Any], ...]


class AccountNotFound(Exception):
    """An operator named an account that there is not, or that cannot have a password."""

    def __init__(self, account: str) -> None:
        super().__init__(f"there is no account {account!r} that can have a password")


class CannotAbandon(Exception):
    """What an operator wants to give up cannot be. `field` of the request, and why, for the operator."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class CannotAccept(Exception):
    """What a restored node found cannot be accepted. `field` of the request ("": none), and why, for the operator."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class ChangeAction(Word):
    UNSPECIFIED = "CHANGE_ACTION_UNSPECIFIED"
    CREATED = "CHANGE_ACTION_CREATED"
    CHANGED = "CHANGE_ACTION_CHANGED"
    REMOVED = "CHANGE_ACTION_REMOVED"
    UNCHANGED = "CHANGE_ACTION_UNCHANGED"


class AllocationState(Word):
    UNSPECIFIED = "ALLOCATION_STATE_UNSPECIFIED"
    HELD = "ALLOCATION_STATE_HELD"
    COMMITTED = "ALLOCATION_STATE_COMMITTED"
    QUARANTINED = "ALLOCATION_STATE_QUARANTINED"


class FeedState(Word):
    """Of a supplier's notes (`capability_registry.feed`)."""

    UNSPECIFIED = "FEED_STATE_UNSPECIFIED"
    CONNECTING = "FEED_STATE_CONNECTING"
    LIVE = "FEED_STATE_LIVE"
    STALE = "FEED_STATE_STALE"
    REJECTED = "FEED_STATE_REJECTED"
    LAPSED = "FEED_STATE_LAPSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDiff:
    """`before` and `after` are JSON; empty where the field is absent."""

    field: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    kind: str
    name: str
    action: ChangeAction
    diffs: tuple[FieldDiff, ...] = ()
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    """What stays allocated of what the object gives out no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Where any change has problems, or it was a dry run, nothing was applied."""

    changes: tuple[Change, ...]
    applied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    pool: str
    value: str
    owner: str
    state: AllocationState


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    account: str
    ref: str
    version: int
    remaining_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainItem:
    """What a domain's driver found; `segment` is empty where it bears no tag of ours."""

    domain: str
    segment: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    where: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    allocations: tuple[Allocation, ...] = ()
    holds: tuple[Hold, ...] = ()
    items: tuple[DomainItem, ...] = ()
    discrepancies: tuple[Discrepancy, ...] = ()
    read_only: str = ""
    """Why the node changes nothing at present, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedRestore:
    """What a restored node found otherwise when it was accepted. `kept_off`: how many blocks, labels and identifiers of paths
    others use, so that they are not given out."""

    discrepancies: tuple[Discrepancy, ...] = ()
    kept_off: int = 0


class PoolKind(Word):
    UNSPECIFIED = "POOL_KIND_UNSPECIFIED"
    PREFIXES = "POOL_KIND_PREFIXES"
    LABELS = "POOL_KIND_LABELS"
    PATH_IDS = "POOL_KIND_PATH_IDS"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEntry:
    """What is taken from a pool. `account`, `ref`: of the order that it is for; empty where that is none of ours."""

    value: str
    state: AllocationState
    account: str = ""
    ref: str = ""
    until: Instant | None = None
    outside: bool = False
    """It is no more of the pool, and is not given again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUse:
    """A pool of prefixes, the labels of one SAP, or the identifiers of paths. `size` and `free` in addresses, labels or paths, as
    decimal numbers.
    `fragmentation`: the part of what is free that is not in `largest_free`."""

    name: str
    kind: PoolKind
    extent: str
    size: str
    free: str
    largest_free: str = ""
    fragmentation: float = 0.0
    draining: bool = False
    """It gives nothing new."""
    entries: tuple[PoolEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLevel:
    """What is taken from a moment on."""

    since: Instant
    taken: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceUse:
    """What is taken of a way, SAP (bit/s) or host (units) of an own domain, from now on: the first of `levels` is what is taken
    now, the last goes on."""

    name: str
    size: int
    host: bool = False
    levels: tuple[ResourceLevel, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplierStatus:
    """A lower SP as known here. `since`: when its feed came into this state; `taken`, `expires`: of the note that is held,
    none where none ever was. `refusal`: why the last note was refused, until one is accepted."""

    alias: str
    sp_id: str
    usable: bool
    feed: FeedState
    since: Instant | None = None
    edition: int = 0
    taken: Instant | None = None
    expires: Instant | None = None
    refusal: str = ""
    kept: int = 0
    broken: int = 0
    rate: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDetail:
    """One part of an order: what was asked of whom (the constraint is in the spec), and what came of it."""

    alias: str
    supplier: str
    ref: str
    version: int
    state: ServiceState
    spec: ServiceSpec | None = None
    choice: AddressingChoice | None = None
    binding: Bindings | None = None
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDetail:
    account: str
    status: ServiceStatus
    segments: tuple[SegmentDetail, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckSegment:
    """A part of a service that is over, of which its supplier has not confirmed that it is gone. `service` is our id,
    (`account`, `ref`) its owner's. `since`: when it was first asked to end it; `labels` are what it chose, by end; `block`
    names those of the service, with commas between, kept until all is gone or given up. `own`: in an own domain, where nothing
    is given up."""

    service: str
    account: str
    ref: str
    segment: str
    alias: str
    supplier: str
    supplier_ref: str
    since: Instant | None = None
    last_error: str = ""
    next_attempt: Instant | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    block: str = ""
    own: bool = False
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbandonedService:
    """What was given up of a service, and its state now."""

    service: str
    state: ServiceState
    segments: tuple[str, ...]


class AdminPort(Protocol):
    async def apply(self, documents: Documents, *, dry_run: bool, prune: bool, reason: str, actor: str) -> Applied:
        """All of it in one transaction, or nothing. `prune` removes what no document names, of the kinds given."""

    async def export(self, kinds: tuple[str, ...]) -> Documents:
        """Documents of these kinds (none given: all), by kind and name, without password hashes."""

    async def inventory(self) -> Inventory: ...

    async def pools(self) -> tuple[PoolUse, ...]:
        """Every pool of prefixes and of labels, with what is taken from it."""

    async def resources(self) -> tuple[ResourceUse, ...]:
        """What is taken of own domains over time; what nothing is taken of is left out."""

    async def suppliers(self) -> tuple[SupplierStatus, ...]:
        """Every lower SP, by alias."""

    async def set_password(self, account: str, password: str, *, actor: str) -> None:
        """Raises AccountNotFound; ValueError, whose message says why, for a password that is not acceptable."""

    async def plan(self, spec: ServiceSpec, account: str, alternatives: int, explain: bool) -> Preview:
        """How a service would be planned now, at the prices of `account` ("": at cost)."""

    def orders(self, account: str, ref: str) -> AsyncIterator[ServiceDetail]:
        """Orders of `account` ("": of all) with `ref` ("": any), in order of creation."""

    async def stuck(self, account: str) -> tuple[StuckSegment, ...]:
        """What is over and does not end, of `account` ("": of all), what has been stuck longest first."""

    async def abandon(self, service: str, account: str, segment: str, reason: str, *, actor: str) -> AbandonedService:
        """Give up `segment` ("": all at suppliers) of a STUCK service, by our id or by its owner's ref (with the account
        where several have it). Raises CannotAbandon."""

    async def accept(self, without: tuple[str, ...], reason: str, *, actor: str) -> AcceptedRestore:
        """Let a node that was restored from a backup go on, also without the word of the suppliers named. Raises CannotAccept."""
