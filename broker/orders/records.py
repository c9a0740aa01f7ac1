"""An order as a value: one service of one account, its version, its segments. What the store keeps and the tasks change.

Rules kept here
- Everything that must survive a crash is in here; everything in here is plain data.
- (account, ref, version) names a request; the same body is the same request.
- The child's ref is derived from the store's epoch, the service and the segment's key: never from chance or time.
- A newer version beside a live one, and what is left of older ones, are orders of their own within the order (`succession`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Protocol

from pydantic import BeforeValidator, TypeAdapter

from address_planner.classes import LabelClass
from broker.decompose.plan import Avoid, Plan
from broker.orders.addressing import CrossingLink
from broker.orders.decisions import Asked, Decision, ManagerTerms
from broker.orders.states import GONE, NEWER, TRANSITIONS, Event, SegmentState, after
from capability_registry.abstraction import OPEN, Disclosure
from lower_sp_clients.quotes import StandingQuote
from lower_sp_clients.versions import Known, body
from lower_sp_clients.vim.holds import Allocation
from service_model.healing import HealPhase
from service_model.money import FREE, Price
from service_model.outcomes import AddressingChoice, Bindings, Reason, SegmentStatus, ServiceState, ServiceStatus
from service_model.qos import QosClass
from service_model.replacing import replace
from service_model.spec import ServiceSpec
from service_model.words import Instant, Prefix, Word

UNDER_WAY = frozenset({ServiceState.RESERVING, ServiceState.RESERVED, ServiceState.COMMITTING, ServiceState.ACTIVATING})
"""Of a version beside a live one: it may yet take its place."""


def _towards(stored: Any) -> Any:
    """A release that delivered chains alone recorded one end beyond each end."""
    if not isinstance(stored, dict):
        return stored
    return {end: (beyond,) if isinstance(beyond, str) else beyond for end, beyond in stored.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned:
    """Who decided that a segment is given up, when and why."""

    at: Instant
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heals:
    """What a supplier tells of the healing of its part, without the reasons."""

    phase: HealPhase
    tries: int = 0

    @property
    def under_way(self) -> bool:
        """Whether it is at it, or will be for the first time: it goes first then."""
        return self.phase is HealPhase.UNDER_WAY or (self.phase is HealPhase.PENDING and not self.tries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One part at one supplier (`alias`). `spec` is what we want held; `asked` the digest of what `version` asked for.

    `quote` is the supplier's, under which it is asked. `announced` is the price of the note or of that quote, `price` the
    supplier's own; `retry_at` when an unanswered call is made again.
    """

    key: str
    alias: str
    ref: str
    spec: ServiceSpec
    quote: str = ""
    towards: Annotated[Mapping[str, tuple[str, ...]], BeforeValidator(_towards)] = field(default_factory=dict)
    crossings: frozenset[str] = frozenset()
    lines: Mapping[str, str] = field(default_factory=dict)
    state: SegmentState = SegmentState.PLANNED
    version: int = 0
    asked: str = ""
    choice: AddressingChoice | None = None
    bindings: Bindings | None = None
    announced: Price = FREE
    price: Price = FREE
    delay_us: int = 0
    path_delays_us: Mapping[str, int] = field(default_factory=dict)
    expires: Instant | None = None
    reasons: tuple[Reason, ...] = ()
    parts: tuple[SegmentStatus, ...] = ()
    place: str = ""
    attempts: int = 0
    retry_at: Instant | None = None
    extended: bool = False
    """Its supplier was asked to prolong the hold, and has answered or not in time."""
    lingers: bool = False
    """An older version may still be held by the supplier, under a newer one that was asked for."""
    stands: int = 0
    """Of a modification: the version under this ref that is live meanwhile (0: none). It is kept where it is this one."""
    lives: int = 0
    """Where its commit was refused: the older version under this ref that its supplier still delivers (0: none)."""
    spent: int = 0
    """The highest version that was ever asked for under this ref, where that is more than `version`."""
    hoped: bool = False
    """It was asked for though its supplier does not announce it now."""
    wanted: bool = True
    """False: no longer part of the plan; it is only to be released."""
    waits: int = 0
    """How often a label that it needs was under another order's hold."""
    gave_way: bool = False
    """It was held, and was given back so that another segment at its supplier goes first (`turns`)."""
    not_before: Instant | None = None
    """When it may be asked for again, while it waits for a label."""
    heals: Heals | None = None
    """How far its supplier says to be with healing it."""
    losses: tuple[Instant, ...] = ()
    """When it was lost lately (`flapping`), the latest last. `reasons` tell why, also when it is back."""
    consented: bool = False
    """Its supplier was told that it may heal it."""
    ending_since: Instant | None = None
    """Since when its supplier is asked to end it, and has not confirmed that it is gone."""
    error: str = ""
    """What stood against that last, for the operator."""
    abandoned: Abandoned | None = None

    @property
    def kept(self) -> bool:
        """Of a modification: whether it is what is live, and nothing else was asked for."""
        return self.stands > 0 and self.version == self.stands

    @property
    def next_version(self) -> int:
        return max(self.version, self.spent) + 1

    def body(self) -> str:
        """What stands for the request that we want answered."""
        return body(self.spec, self.quote)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The agreement that a reservation pinned: its name and version, and what it says."""

    agreement: str = ""
    version: int = 0
    margin: Decimal = Decimal(1)
    """Factor on what we pay and make: 10 % is 1.1."""
    currency: str = "EUR"
    max_hold_s: int = 300
    quote_s: int = 300
    max_services: int = 1000
    max_quotes: int = 1000
    show_segments: bool = True
    disclosure: Disclosure = OPEN
    classes: tuple[QosClass, ...] = ()
    """What our classes of service meant when it was placed."""
    managers: Mapping[str, ManagerTerms] = field(default_factory=dict)
    """Those that its specs may name, by the name that they have there."""

    heal_loss: Decimal = Decimal(0)
    """By which part more than the service costs its owner, or cost us, a healing of it may cost us."""

    def planned(self, spec: ServiceSpec) -> ServiceSpec:
        """The spec as it is planned: what may be paid for it, without our margin."""
        return spec if spec.max_price is None else replace(spec, max_price=spec.max_price / self.margin)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedPart:
    """The supplier's quote for one segment, and the digest of what it is for."""

    quote: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted(StandingQuote):
    """A quote of ours with what it rests on: the plan at its suppliers' own prices, which are `cost` together, and their
    quotes by the key of the segment."""

    plan: Plan
    cost: Price
    parts: Mapping[str, QuotedPart]

    def most(self, hours: int) -> Decimal:
        """What it may cost us over the term: what the customer pays, so that no more than our margin is lost."""
        return max(self.price.over(hours), self.cost.over(hours))

    def covers(self, cost: Price, hours: int) -> bool:
        return cost.over(hours) <= self.most(hours)

    def bound(self, spec: ServiceSpec) -> ServiceSpec:
        """The spec as it is planned when the plan is of no use any more."""
        return replace(spec, max_price=self.most(spec.term_hours))


QUOTED: TypeAdapter[Quoted] = TypeAdapter(Quoted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A recorded refusal of a version, so that the same request gets the same answer."""

    digest: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """What is recorded of a live service's healing. `broken`: since when which segments are, or are lost too often; `tries`: how
    many healings were begun since it was whole for long, `last` when, `early`: all for what is lost too often; `agreed`: its
    owner asked for it."""

    broken: Mapping[str, Instant] = field(default_factory=dict)
    tries: int = 0
    last: Instant | None = None
    agreed: bool = False
    early: bool = False


def _planned(stored: Any) -> Any:
    """A plan of a release that planned chains alone is not read: where it is still needed, it is planned again."""
    return None if isinstance(stored, dict) and "lines" not in stored else stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`id` is ours; (`account`, `ref`) the caller's. `previous` is the hold that gives way to this version, if it can."""

    id: str
    account: str
    ref: str
    version: int
    state: ServiceState
    created: Instant
    updated: Instant
    epoch: str = ""
    digest: str = ""
    spec: ServiceSpec | None = None
    terms: Terms = Terms()
    quoted: Quoted | None = None
    """What was quoted for it: the price, whatever it comes to cost."""
    hop_budget: int = 0
    call_budget: int = 0
    trace: str = ""
    deadline: Instant | None = None
    plan: Annotated[Plan | None, BeforeValidator(_planned)] = None
    words: Mapping[str, str] = field(default_factory=dict)
    """Our place → its owner's word, of every place that it means or is planned at; none where our names are its words."""
    addressed: bool = False
    """Whether the segments follow from the plan."""
    avoid: Avoid = Avoid()
    crankbacks: int = 0
    hopes: int = 0
    """How often it was planned over what is not announced any more."""
    hoping: int = 0
    """How many calls its present plan may spend, where that is one of these; 0: it is announced."""
    unannounced: tuple[Reason, ...] = ()
    """Why nothing that is announced would do, as its owner would have been told without hope."""
    rounds: int = 0
    block: Prefix | None = None
    pool: str = ""
    second_block: Prefix | None = None
    second_pool: str = ""
    former_blocks: tuple[Prefix, ...] = ()
    """Blocks that it had before, while somebody below may still use them."""
    carved: Mapping[str, tuple[Prefix, ...]] = field(default_factory=dict)
    """By link, the prefixes that were chosen here, for the link or for who chooses within."""
    unusable: tuple[Prefix, ...] = ()
    """What suppliers said that they cannot use."""
    classes: tuple[LabelClass, ...] = ()
    links: Mapping[str, CrossingLink] = field(default_factory=dict)
    path_ids: Mapping[str, int] = field(default_factory=dict)
    """The identifiers of its paths between its segments."""
    segments: tuple[Segment, ...] = ()
    choice: AddressingChoice | None = None
    bindings: Bindings | None = None
    price: Price = FREE
    cost: Price = FREE
    delay_us: int = 0
    path_delays_us: Mapping[str, int] = field(default_factory=dict)
    expires: Instant | None = None
    extending: Instant | None = None
    """Until when its owner wants the hold to last, while the suppliers are asked for it."""
    reasons: tuple[Reason, ...] = ()
    released_upto: int = 0
    answers: Mapping[int, Answer] = field(default_factory=dict)
    previous: Order | None = None
    newer: bool = False
    """Whether it stands beside a live one: its states are those of a newer version then."""
    beside: Order | None = None
    """The newer version that stands beside this live one: being reserved, held, being brought in, or why it was not."""
    past: Order | None = None
    """What older versions had and this one has not, which ends while this one is live."""
    healing: Order | None = None
    """What heals this live one: the same version of it, bought in another way."""
    heals: int = 0
    """How many healings of it were ever begun."""
    healed: int = 0
    """Which healing made it; 0: none."""
    lost: frozenset[str] = frozenset()
    """Of a healing: the refs of the live segments that it is to do without."""
    care: Care = Care()
    was_live: bool = False
    """Whether anything of it was ever committed: its block then rests before it is used again."""
    confirmed: bool = False
    """Whether its commit was answered with Committed."""
    asked: Asked | None = None
    """What a manager is being asked."""
    decisions: tuple[Decision, ...] = ()
    """What managers decided of this version, in order."""

    @property
    def being_healed(self) -> bool:
        """Whether what heals it may yet take its place."""
        return self.healing is not None and self.healing.state in UNDER_WAY

    @property
    def mark(self) -> str:
        """What no other order of this service ever had: its version, and which healing made it."""
        return f"{self.version}.{self.healed}" if self.healed else str(self.version)

    @property
    def present_blocks(self) -> tuple[Prefix, ...]:
        """What it chooses from: a block of a family."""
        return tuple(block for block in (self.block, self.second_block) if block is not None)

    def with_blocks(self, taken: Iterable[tuple[str, Prefix]]) -> Order:
        """The same with these of the pools: (pool name, block), at most two. Those that it had are former ones."""
        (pool, block), (second_pool, second_block) = (*taken, ("", None), ("", None))[:2]
        former = [*self.former_blocks, *(b for b in self.present_blocks if b not in (block, second_block))]
        return replace(
            self,
            pool=pool,
            block=block,
            second_pool=second_pool,
            second_block=second_block,
            former_blocks=tuple(dict.fromkeys(b for b in former if b not in (block, second_block))),
        )

    def on(self, event: Event) -> Order:
        """The order after `event` by the table. Raises IllegalTransition."""
        return replace(self, state=after(self.state, event, NEWER if self.newer else TRANSITIONS))

    def loss(self) -> Decimal | None:
        """By how much it costs us more over the term than when it was quoted; None where it does not."""
        if self.quoted is None or self.spec is None:
            return None
        loss = self.cost.over(self.spec.term_hours) - self.quoted.cost.over(self.spec.term_hours)
        return loss if loss > 0 else None

    def of(self, version: int) -> Order | None:
        """That version, where it is the order's own or stands beside it."""
        return next((o for o in (self, self.beside) if o is not None and o.version == version), None)

    def with_version(self, changed: Order) -> Order:
        """The order with one of its two latest versions changed."""
        return changed if changed.version == self.version else replace(self, beside=changed)

    @property
    def refusals(self) -> Mapping[int, Answer]:
        """Of all versions."""
        return self.answers if self.beside is None else {**self.answers, **self.beside.answers}

    def known(self) -> Known:
        return Known(
            beside=self.beside.known() if self.beside is not None else None,
            healing=self.being_healed,
            version=self.version,
            digest=self.digest,
            state=self.state,
            released_upto=self.released_upto,
            refused={version: answer.digest for version, answer in self.refusals.items()},
        )

    def own_blocks(self) -> tuple[Prefix, ...]:
        """Its former blocks and the present ones."""
        return (*self.former_blocks, *self.present_blocks)

    def blocks(self) -> frozenset[str]:
        """Every block that is its own, those of the hold which it may come back to, and of its newer and older versions."""
        others = (o.blocks() for o in (self.previous, self.beside, self.past, self.healing) if o is not None)
        return frozenset(map(str, self.own_blocks())).union(*others)

    def all_path_ids(self) -> frozenset[int]:
        """Of its paths, and of those of its newer and older versions."""
        others = (o.all_path_ids() for o in (self.beside, self.past, self.healing) if o is not None)
        return frozenset(self.path_ids.values()).union(*others)

    def all_segments(self) -> Iterator[Segment]:
        """Of all its versions, by which a supplier may have something under one ref."""
        for order in (self, self.beside, self.past, self.healing):
            yield from order.segments if order is not None else ()

    def alone(self) -> Order:
        """Without the hold that it might have come back to. The blocks of that stay until nobody below can use them."""
        before = self.previous.own_blocks() if self.previous is not None else ()
        left = tuple(block for block in before if block not in self.own_blocks())
        if not before:
            return self if self.previous is None else replace(self, previous=None)
        return replace(self, previous=None, former_blocks=(*self.former_blocks, *left))

    def with_segment(self, segment: Segment) -> Order:
        return replace(self, segments=tuple(segment if s.key == segment.key else s for s in self.segments))

    def segment(self, key: str) -> Segment | None:
        return next((s for s in self.segments if s.key == key), None)


ORDER: TypeAdapter[Order] = TypeAdapter(Order)


def remains(segment: Segment) -> bool:
    """Whether its supplier may still have anything of the segment. Of what a modification keeps, that is the live version's."""
    return segment.version > 0 and not segment.kept and (segment.state not in GONE or segment.lingers)


def child_ref(epoch: str, service: str, key: str) -> str:
    """The ref under which a supplier knows one of our segments (RFC 9562, version 5)."""
    return str(uuid.uuid5(uuid.UUID(epoch), f"{service}/{key}"))


class ChargeKind(Word):
    ONCE = "CHARGE_KIND_ONCE"
    START = "CHARGE_KIND_START"
    STOP = "CHARGE_KIND_STOP"


class Side(Word):
    SELL = "SIDE_SELL"
    BUY = "SIDE_BUY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One append-only event of what is owed: once, or by the hour from START to STOP."""

    at: datetime
    side: Side
    partner: str
    service: str
    segment: str
    kind: ChargeKind
    price: Price
    agreement: str
    agreement_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """What was about to be done (`intent`) or what came of it, beside the change of state that it belongs to."""

    at: datetime
    service: str
    segment: str
    what: str
    key: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """Who changed what, on whose behalf, and why."""

    at: datetime
    actor: str
    on_behalf_of: str
    action: str
    subject: str
    before: str
    after: str
    reason: str
    trace: str

    @classmethod
    def by_owner(
        cls, at: datetime, account: str, action: str, subject: str, before: str, after: str, trace: str
    ) -> AuditRow:
        """What an account did with what is its own."""
        return cls(
            at=at,
            actor=account,
            on_behalf_of=account,
            action=action,
            subject=subject,
            before=before,
            after=after,
            reason="",
            trace=trace,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """All that one transaction records: the order, what was allocated and freed, and the rows that only grow."""

    order: Order
    journal: Sequence[JournalEntry] = ()
    audit: Sequence[AuditRow] = ()
    charges: Sequence[Charge] = ()
    put: Sequence[Allocation] = ()
    drop: Sequence[Allocation] = ()
    event: ServiceStatus | None = None
    """What watchers are told."""


class OrderBook(Protocol):
    """Durable storage of orders."""

    async def load(self) -> tuple[Sequence[Order], Sequence[Allocation]]:
        """Every order that is not over, tombstones included, and the allocations of the address pools."""

    async def save(self, change: Change) -> int:
        """All or nothing, durable on return. Returns the sequence number of the event; 0: there is none, or another process has
        recorded something before it that is not known here yet, behind which it will be read (`SharedOrders.tell`)."""

    async def put_allocations(self, put: Sequence[Allocation], drop: Sequence[Allocation], at: datetime) -> None:
        """All or nothing, each with its entry in the journal at `at`; durable on return."""

    async def events_after(self, sequence: int, account: str, limit: int) -> Sequence[tuple[int, bytes]]:
        """Events of the account's services behind `sequence`: (sequence, ServiceStatus as JSON)."""

    async def last_event(self) -> int: ...
