"""What a supplier answers: choices, holds, refusals, states, events.

Rules kept here
- A refusal is a value, not an exception: `Refused` carries typed reasons, nested as orders nest. An exception means that
  the outcome is not known (`lower_sp_clients.supplier.OutcomeUnknown`) or that the call itself was wrong.
- Reason codes are public: they are never renamed, only added. The message names the culprit.
- A hold is answered with what *remains* of it (seconds), so that clocks need not agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated

from pydantic import Field, TypeAdapter

from service_model.healing import HealPhase
from service_model.managing import ManagerDecision
from service_model.money import FREE, Price
from service_model.path_headers import PathHeader
from service_model.words import Address, Instant, Label, Labels, MacText, PortName, Prefix, Word


class ReasonCode(Word):
    """Why something was refused. `retry`able ones are marked in `Reason.retryable`."""

    UNSPECIFIED = "REASON_CODE_UNSPECIFIED"
    INVALID_SPEC = "REASON_CODE_INVALID_SPEC"
    UNKNOWN_SAP = "REASON_CODE_UNKNOWN_SAP"
    UNKNOWN_FUNCTION_TYPE = "REASON_CODE_UNKNOWN_FUNCTION_TYPE"
    UNKNOWN_PORT = "REASON_CODE_UNKNOWN_PORT"
    UNKNOWN_PLACE = "REASON_CODE_UNKNOWN_PLACE"
    INVALID_PARAMETER = "REASON_CODE_INVALID_PARAMETER"
    MANAGER_NOT_ALLOWED = "REASON_CODE_MANAGER_NOT_ALLOWED"
    FEATURE_NOT_OFFERED = "REASON_CODE_FEATURE_NOT_OFFERED"
    SHAPE_NOT_OFFERED = "REASON_CODE_SHAPE_NOT_OFFERED"
    LAN_NOT_OFFERED = "REASON_CODE_LAN_NOT_OFFERED"
    NO_PATH = "REASON_CODE_NO_PATH"
    DELAY = "REASON_CODE_DELAY"
    BANDWIDTH = "REASON_CODE_BANDWIDTH"
    CAPACITY = "REASON_CODE_CAPACITY"
    PRICE = "REASON_CODE_PRICE"
    MTU = "REASON_CODE_MTU"
    LABELS_EXHAUSTED = "REASON_CODE_LABELS_EXHAUSTED"
    LABEL_TAKEN = "REASON_CODE_LABEL_TAKEN"
    LABEL_CONTENDED = "REASON_CODE_LABEL_CONTENDED"
    PREFIX_TOO_SMALL = "REASON_CODE_PREFIX_TOO_SMALL"
    PREFIX_CONFLICT = "REASON_CODE_PREFIX_CONFLICT"
    ADDRESS_EXHAUSTED = "REASON_CODE_ADDRESS_EXHAUSTED"
    CONSTRAINT_VIOLATED = "REASON_CODE_CONSTRAINT_VIOLATED"
    NOT_ADDRESSABLE = "REASON_CODE_NOT_ADDRESSABLE"
    KEY_REUSED = "REASON_CODE_KEY_REUSED"
    VERSION_RELEASED = "REASON_CODE_VERSION_RELEASED"
    VERSION_CONFLICT = "REASON_CODE_VERSION_CONFLICT"
    HOLD_EXPIRED = "REASON_CODE_HOLD_EXPIRED"
    NOT_HELD = "REASON_CODE_NOT_HELD"
    HOP_BUDGET = "REASON_CODE_HOP_BUDGET"
    CALL_BUDGET = "REASON_CODE_CALL_BUDGET"
    DEADLINE = "REASON_CODE_DEADLINE"
    QUOTA = "REASON_CODE_QUOTA"
    NOT_IN_SERVICE = "REASON_CODE_NOT_IN_SERVICE"
    MODIFICATION_NOT_OFFERED = "REASON_CODE_MODIFICATION_NOT_OFFERED"
    INTERRUPTED = "REASON_CODE_INTERRUPTED"
    SUPPLIER_UNREACHABLE = "REASON_CODE_SUPPLIER_UNREACHABLE"
    SEGMENT_REFUSED = "REASON_CODE_SEGMENT_REFUSED"
    SEGMENT_FAILED = "REASON_CODE_SEGMENT_FAILED"
    INFRASTRUCTURE = "REASON_CODE_INFRASTRUCTURE"
    CUSTOMER = "REASON_CODE_CUSTOMER"
    AFFINITY = "REASON_CODE_AFFINITY"
    COUNTRY = "REASON_CODE_COUNTRY"
    ISOLATION = "REASON_CODE_ISOLATION"
    DISTANCE = "REASON_CODE_DISTANCE"
    QUOTE_NOT_VALID = "REASON_CODE_QUOTE_NOT_VALID"
    QOS = "REASON_CODE_QOS"
    AVAILABILITY = "REASON_CODE_AVAILABILITY"
    ADDRESS_FAMILY = "REASON_CODE_ADDRESS_FAMILY"
    MANAGER_REFUSED = "REASON_CODE_MANAGER_REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """The nearest service that can be had: what it would cost, its delay (microseconds one way), and which classes of
    constraints it does not keep."""

    gives: tuple[ReasonCode, ...]
    price: Price = FREE
    delay_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Nogood:
    """A constraint that cannot hold, with what would: the acceptable labels, the size needed (addresses), or the nearest
    alternative.

    Of a conflict it says where (`end` and its `interconnect`, or `link`), what (`refused_labels`, `refused_prefixes`, in the
    asker's own words) and what would do: `proposed_label` first, of all the `acceptable_labels`; `acceptable_prefixes` near
    those that were asked for. Who holds it is not said.
    """

    end: str = ""
    acceptable_labels: Labels | None = None
    needed_addresses: int | None = None
    alternative: Alternative | None = None
    interconnect: str = ""
    refused_labels: Labels | None = None
    proposed_label: Label | None = None
    link: str = ""
    refused_prefixes: tuple[Prefix, ...] = ()
    acceptable_prefixes: tuple[Prefix, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason of a refusal. `subject` is the culprit in the caller's own words (a field, an end, a function);
    `segment` the local alias of the part that refused, whose own reasons are `causes`."""

    code: ReasonCode
    message: str
    subject: str = ""
    segment: str = ""
    retryable: bool = False
    nogood: Nogood | None = None
    incident_id: str = ""
    causes: tuple[Reason, ...] = ()
    start_time: Instant | None = None
    end_time: Instant | None = None
    """When that is so, where it is not for all of the time that was asked for. None: from the first; to the last."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What was chosen for one family on a link."""

    prefix: Prefix | None = None
    addresses: Mapping[str, Address] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChoice:
    """What was chosen for one link: its prefix, the address of each connection point that has one, and the MTU in bytes.
    Where it has both families, `prefix` is the IPv4 one, and the IPv6 one is the second. `macs`: the hardware address of each of
    the supplier's own ports, where the link has a pool. `ports`: what its own ports are called between who asks and who
    answers."""

    link: str
    prefix: Prefix | None = None
    addresses: Mapping[str, Address] = field(default_factory=dict)
    mtu: int = 0
    second_prefix: Prefix | None = None
    second_addresses: Mapping[str, Address] = field(default_factory=dict)
    macs: Mapping[str, MacText] = field(default_factory=dict)
    ports: Mapping[str, PortName] = field(default_factory=dict)

    @classmethod
    def stacked(cls, link: str, stacks: Iterable[Stack], mtu: int = 0) -> LinkChoice:
        """Of the choices for each family; what is chosen for none has no prefix."""
        told = sorted((s for s in stacks if s.prefix is not None), key=lambda s: s.prefix.version if s.prefix else 0)
        first, second = (*told, Stack(), Stack())[:2]
        return cls(
            link=link,
            prefix=first.prefix,
            addresses=first.addresses,
            mtu=mtu,
            second_prefix=second.prefix,
            second_addresses=second.addresses,
        )

    @property
    def prefixes(self) -> tuple[Prefix, ...]:
        return tuple(prefix for prefix in (self.prefix, self.second_prefix) if prefix is not None)

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """What was chosen for each family that it has."""
        both = (Stack(self.prefix, self.addresses), Stack(self.second_prefix, self.second_addresses))
        return tuple(stack for stack in both if stack.prefix is not None)

    def of(self, version: int) -> Stack:
        """What was chosen for one family: without a prefix, nothing."""
        if self.prefix is not None and self.prefix.version == version:
            return Stack(self.prefix, self.addresses)
        if self.second_prefix is not None and self.second_prefix.version == version:
            return Stack(self.second_prefix, self.second_addresses)
        return Stack()

    def all_addresses(self, point: str) -> tuple[Address, ...]:
        """Those of one connection point."""
        return tuple(stack.addresses[point] for stack in self.stacks if point in stack.addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressingChoice:
    """The supplier's choice within the constraint: a label per end, prefix and addresses per link,
    and in `reach` the prefixes that lie beyond an end that is the customer's; under `end@path` those to which one path
    alone leads there. `path_headers`: what is borne at each end that was told one."""

    labels: Mapping[str, int] = field(default_factory=dict)
    links: tuple[LinkChoice, ...] = ()
    reach: Mapping[str, tuple[Prefix, ...]] = field(default_factory=dict)
    path_headers: Mapping[str, PathHeader] = field(default_factory=dict)

    def link(self, id: str) -> LinkChoice | None:
        return next((link for link in self.links if link.link == id), None)

    def beyond(self, end: str, path: str) -> tuple[Prefix, ...]:
        """The prefixes beyond an end that a path leads to."""
        return self.reach.get(f"{end}@{path}", self.reach.get(end, ()))


Bindings = AddressingChoice
"""The confirmed whole, told at commit: the same shape, with the neighbours' addresses and every end's reach filled in."""


class ServiceState(Word):
    UNSPECIFIED = "SERVICE_STATE_UNSPECIFIED"
    RESERVING = "SERVICE_STATE_RESERVING"
    RESERVED = "SERVICE_STATE_RESERVED"
    COMMITTING = "SERVICE_STATE_COMMITTING"
    ACTIVATING = "SERVICE_STATE_ACTIVATING"
    ACTIVE = "SERVICE_STATE_ACTIVE"
    DEGRADED = "SERVICE_STATE_DEGRADED"
    TERMINATING = "SERVICE_STATE_TERMINATING"
    TERMINATED = "SERVICE_STATE_TERMINATED"
    REFUSED = "SERVICE_STATE_REFUSED"
    EXPIRED = "SERVICE_STATE_EXPIRED"
    FAILED = "SERVICE_STATE_FAILED"
    STUCK = "SERVICE_STATE_STUCK"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStatus:
    """One part of a service as its owner may see it: under a local alias, with nested parts where the supplier tells."""

    alias: str
    state: ServiceState
    functions: tuple[str, ...] = ()
    place: str = ""
    reasons: tuple[Reason, ...] = ()
    segments: tuple[SegmentStatus, ...] = ()

    def all_in(self, state: ServiceState) -> SegmentStatus:
        """The same part in `state`, and those below it too; of none there is a reason to tell."""
        return replace(self, state=state, reasons=(), segments=tuple(part.all_in(state) for part in self.segments))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Everything allocated, nothing activated, for `remaining_s` more seconds from the sending of the answer's request.
    `delay_us`: of the slowest path; `path_delays_us`: of each, by id, where that is told."""

    ref: str
    version: int
    choice: AddressingChoice
    price: Price = FREE
    remaining_s: float = 0.0
    delay_us: int = 0
    segments: tuple[SegmentStatus, ...] = ()
    path_delays_us: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    ref: str
    version: int
    reasons: Annotated[tuple[Reason, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    ref: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewerVersion:
    """A version that is to take a live one's place: held, being committed, expired, or why it is refused. `remaining_s` only
    while it is held."""

    version: int
    state: ServiceState
    price: Price | None = None
    delay_us: int = 0
    remaining_s: float = 0.0
    reasons: tuple[Reason, ...] = ()
    segments: tuple[SegmentStatus, ...] = ()
    start_time: Instant | None = None
    end_time: Instant | None = None
    """From when it is to be the service, and when that ends by itself then. None: as soon as it is built; never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Healing:
    """How what is broken of a live service is healed. `broken`: the segments, where they are shown; `tries`: how often it was
    tried since it broke, `reasons` why the last was in vain, `next_time` when the next is due."""

    phase: HealPhase
    broken: tuple[str, ...] = ()
    tries: int = 0
    next_time: Instant | None = None
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """A service as its owner sees it. `remaining_s` only while it is held; `binding` from commit on; `newer`: what is to take the
    place of a live version; `healing`: while a part of it is broken."""

    ref: str
    version: int
    state: ServiceState
    name: str = ""
    reference: str = ""
    tags: tuple[str, ...] = ()
    price: Price | None = None
    delay_us: int = 0
    choice: AddressingChoice | None = None
    binding: Bindings | None = None
    remaining_s: float = 0.0
    reasons: tuple[Reason, ...] = ()
    segments: tuple[SegmentStatus, ...] = ()
    create_time: Instant = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    update_time: Instant = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    newer: NewerVersion | None = None
    decisions: tuple[ManagerDecision, ...] = ()
    """What the managers that its spec names decided of this version."""
    start_time: Instant | None = None
    end_time: Instant | None = None
    """When it begins and ends by itself. Until then what is committed is ACTIVATING. None: at once; never."""
    healing: Healing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A change of one service of the caller's. `token` resumes the stream behind it.

    Without `status` it is a bookmark: the stream has come this far. The first event of every stream is one, so that a
    caller can ask for the present state after it and miss nothing."""

    token: str
    status: ServiceStatus | None = None


REASONS: TypeAdapter[tuple[Reason, ...]] = TypeAdapter(tuple[Reason, ...])
CHOICE: TypeAdapter[AddressingChoice] = TypeAdapter(AddressingChoice)
STATUS: TypeAdapter[ServiceStatus] = TypeAdapter(ServiceStatus)
