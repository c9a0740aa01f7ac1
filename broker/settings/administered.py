"""What an operator administers, as documents: one YAML document per object, `kind` and `name` first.

Rules kept here
- Settings hold only what a process needs to start; everything else is here, applied to a running node, and versioned.
- An unknown field is an error. A name is unique within its kind.
- Nothing distinguishes a top, a middle and a leaf node but which of these documents it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from broker.settings.anchor import Anchor, Authority
from capability_registry.abstraction import OPEN, Disclosure
from capability_registry.note import Bin, Encapsulation, FunctionPort, Lifecycle, Place, SapRole
from service_model.families import ANY_FAMILY, AddressFamily
from service_model.flavours import Runtime
from service_model.managing import ManagerTask
from service_model.money import FREE, Currency, Price
from service_model.qos import QosClass
from service_model.spec import STRICT, FunctionTypeText
from service_model.words import BitsPerSecond, Instant, Labels, Microseconds, Mtu, Name, Prefix, Text, Word
from service_model.yaml_written import written


class AdminState(Word):
    """Of suppliers, domains, SAPs, interconnects and pools: DRAINING takes nothing new, DISABLED is not used at all."""

    IN_SERVICE = "ADMIN_STATE_IN_SERVICE"
    DRAINING = "ADMIN_STATE_DRAINING"
    MAINTENANCE = "ADMIN_STATE_MAINTENANCE"
    DISABLED = "ADMIN_STATE_DISABLED"


Endpoint = Annotated[str, Field(pattern=r"^[^\s:]+:\d+$")]
"""`host:port`."""
HealAfterLosses = Annotated[int, Field(ge=0, le=32)]
"""After how many losses within `losses_within_s` a part that it delivers is bought elsewhere, though it comes back; 0: never."""
LossesWithin = Annotated[int, Field(ge=60, le=86_400)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A planned maintenance window, in UTC instants."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    start: Instant
    end: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplierDoc:
    """A lower SP. `name` is the local alias that customers may see; `anchor` what its `spbroker init` wrote (sp_id, CA,
    note keys); `account` is our own account there."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["supplier"] = "supplier"
    name: Name
    sp_id: Name
    endpoint: Endpoint
    anchor: Anchor
    account: Name
    expose_saps: Mapping[Name, Name] = field(default_factory=dict)
    """SAP of the supplier → the name under which we announce it (default: `<alias>.<sap>`)."""
    isolation: Mapping[Name, Name] = field(default_factory=dict)
    """The supplier's name of an isolation mechanism → ours (default: the same)."""
    qos: Mapping[Name, Name] = field(default_factory=dict)
    """The supplier's name of a class of service → ours (default: the same)."""
    trial: bool = False
    """Whether it is planned with also while its note says TRIAL."""
    sold_besides: bool = False
    """Whether others sell it to our customers too: where our other suppliers meet it we hand over."""
    dead_after_s: Annotated[int, Field(ge=5, le=86_400)] = 300
    """How long it may not be heard of until what it delivers counts as lost, and is healed."""
    heal_after_s: Annotated[int, Field(ge=0, le=86_400)] = 60
    """How long what it delivers may be degraded, so that it can heal that by itself, until it is bought elsewhere."""
    heal_after_losses: HealAfterLosses = 4
    losses_within_s: LossesWithin = 3600
    state: AdminState = AdminState.IN_SERVICE
    window: Window | None = None
    reason: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSap:
    """A SAP of an own domain. UNI: where customers attach. NNI: names the interconnect."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    id: Name
    role: SapRole
    place: Name
    encapsulation: Encapsulation = Encapsulation.ETHERNET
    mtu: Mtu | None = None
    """Bytes of IP packet; None: what the encapsulation leaves of 1500."""
    bandwidth_bps: BitsPerSecond = 1_000_000_000
    interconnect: Name | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    state: AdminState = AdminState.IN_SERVICE
    window: Window | None = None

    def carries(self) -> int:
        """Bytes of IP packet that a service may send through it."""
        return self.mtu if self.mtu is not None else self.encapsulation.leaves()


@dataclass(frozen=True, slots=True, kw_only=True)
class WaySpec:
    """One way (a class of transport) along a domain's internal link."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    price: Price = FREE
    delay_us: Microseconds
    bandwidth_bps: BitsPerSecond = 1_000_000_000
    availability: Annotated[float, Field(ge=0, le=1)] = 0.999
    isolation: Annotated[tuple[Name, ...], Field(max_length=8)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainLink:
    """An internal connection between two SAPs or places of the domain, with at least one way."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    a: Name
    b: Name
    ways: Annotated[tuple[WaySpec, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPlace:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    place: Name
    bins: tuple[Bin, ...] = ()
    lan: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainDoc:
    """An own domain under one driver."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["domain"] = "domain"
    name: Name
    driver: Literal["linux", "simulated"]
    places: Annotated[tuple[DomainPlace, ...], Field(min_length=1)]
    saps: Annotated[tuple[DomainSap, ...], Field(min_length=1)]
    links: tuple[DomainLink, ...] = ()
    swaps_labels: bool = True
    label_quarantine_s: Annotated[int, Field(ge=0, le=86_400)] = 60
    """How long a label that was live rests before it may be used again."""
    excluded: Annotated[tuple[Prefix, ...], Field(max_length=64)] = ()
    """Prefixes that no link of a service may have here: those of the infrastructure. They are in no note; who gives one is told
    what would do."""
    look_every_s: Annotated[float, Field(ge=1, le=3600)] = 10
    """How often it is looked whether what is built is still there."""
    dead_after_s: Annotated[int, Field(ge=5, le=86_400)] = 60
    """How long the infrastructure may not answer until all that is built there counts as lost."""
    heal_after_s: Annotated[int, Field(ge=0, le=86_400)] = 60
    """How long what is lost may take to be built again, until it is bought elsewhere."""
    heal_after_losses: HealAfterLosses = 4
    losses_within_s: LossesWithin = 3600
    state: AdminState = AdminState.IN_SERVICE
    window: Window | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceDoc:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["place"] = "place"
    name: Name
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    latitude: Annotated[float, Field(ge=-90, le=90)] = 0.0
    longitude: Annotated[float, Field(ge=-180, le=180)] = 0.0
    tags: tuple[Name, ...] = ()

    def place(self) -> Place:
        return Place(
            id=self.name, country=self.country, latitude=self.latitude, longitude=self.longitude, tags=self.tags
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FlavourDoc:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    units: Annotated[int, Field(ge=0, le=100_000)] = 1
    runtime: Runtime = Runtime.PROCESS
    price: Price = FREE
    max_bandwidth_bps: BitsPerSecond = 0
    """The bandwidth of the services that it may be in, at most; 0: as much as the links carry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionDoc:
    """A function type of our catalogue: how own domains make it, at which places, and what it costs."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["function"] = "function"
    name: Name
    type: FunctionTypeText
    implementation: Name
    ports: Annotated[tuple[FunctionPort, ...], Field(min_length=2)]
    flavours: Annotated[tuple[FlavourDoc, ...], Field(min_length=1)] = (FlavourDoc(name="default"),)
    places: tuple[Name, ...] = ()
    """Empty: every place of every own domain whose driver offers the implementation."""
    delay_us: Microseconds = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Defaults; a spec's own parameters replace them key by key."""
    families: Annotated[tuple[AddressFamily, ...], Field(min_length=1, max_length=2)] = ANY_FAMILY
    """Of addresses, each of which it forwards, and both at once; less where the driver has less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterconnectDoc:
    """A joint with a peer: the labels agreed for us both and who decides where answers differ."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["interconnect"] = "interconnect"
    name: Name
    peer: Name
    labels: Labels
    decides_labels: bool
    state: AdminState = AdminState.IN_SERVICE
    window: Window | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QosDoc:
    """A class of service: bounds that an order of the class gets. A reservation pins them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["qos"] = "qos"
    name: Name
    max_delay_us: Annotated[Microseconds, Field(ge=1)] | None = None
    min_availability: Annotated[float, Field(gt=0, le=1)] | None = None

    def qos_class(self) -> QosClass:
        return QosClass(
            name=self.name, max_delay_us=self.max_delay_us or 0, min_availability=self.min_availability or 0.0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDoc:
    """Prefixes that blocks of services are taken from, when no upper SP gave a share."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["pool"] = "pool"
    name: Name
    prefix: Prefix
    block: Annotated[int, Field(ge=8, le=127)]
    """Prefix length of the block that one service gets."""
    quarantine_s: Annotated[int, Field(ge=0, le=86_400 * 30)] = 300
    state: AdminState = AdminState.IN_SERVICE
    window: Window | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementDoc:
    """The contract with a customer: margin on what we buy and make, quota, hold, quotes. A reservation pins its version."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["agreement"] = "agreement"
    name: Name
    currency: Currency = "EUR"
    margin_percent: Annotated[Decimal, Field(ge=0, le=1000, decimal_places=4)] = Decimal(0)
    max_services: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    max_hold_s: Annotated[int, Field(ge=1, le=86_400)] = 300
    quote_s: Annotated[int, Field(ge=10, le=3600)] = 300
    """For how long a quote stands, if those of the suppliers do."""
    max_quotes: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """How many quotes may stand at a time."""
    heal_loss_percent: Annotated[Decimal, Field(ge=0, le=1000, decimal_places=4)] = Decimal(0)
    """By how much more than a service costs its owner, or cost us, a healing of it may cost us. Its owner pays what he paid."""
    show_segments: bool = True
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    """TRIAL and WITHDRAWING are told in the notes; WITHDRAWING takes no new orders, and its notes offer nothing."""
    note: Disclosure = OPEN
    """How much of our places the notes to its customers show."""
    notice: Text = ""
    """Told in the notes as it is: of a trial, of an end that is to come."""


class Fallback(Word):
    """What is done where a manager does not decide in time, or not as it may."""

    DEFAULT = "FALLBACK_DEFAULT"
    REFUSE = "FALLBACK_REFUSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerDoc:
    """A service-specific manager that accounts may be allowed to name. Either a customer's end point, which `decides` what is
    listed; or a plugin of our own, of those that the node has loaded for managers."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["manager"] = "manager"
    name: Name
    endpoint: Endpoint | None = None
    ca: Authority | None = None
    """The authority that issues the certificate of the end point. Ours for it is the client certificate of this node."""
    server_name: Annotated[str, Field(max_length=253)] = ""
    """The name in its certificate, where that is not the host of the end point."""
    decides: Annotated[tuple[ManagerTask, ...], Field(max_length=5)] = ()
    deadline_s: Annotated[float, Field(ge=0.1, le=15)] = 2.0
    """How long it is waited for."""
    fallback: Fallback = Fallback.DEFAULT
    plugin: Name | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDoc:
    """Who may call. A person has a password (set apart, never in a document); a service a certificate of its own CA."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["account"] = "account"
    name: Name
    type: Literal["person", "service"] = "person"
    roles: Annotated[tuple[Literal["customer", "operator"], ...], Field(min_length=1)] = ("customer",)
    agreement: Name | None = None
    anchor: Anchor | None = None
    """Of a service: what its `spbroker init` wrote; its certificates are trusted for this account alone."""
    password_hash: Text | None = None
    """argon2id, as `spbroker apply` makes it from a password; the password itself is never stored or sent back."""
    managers: Annotated[Mapping[Name, Name], Field(max_length=16)] = field(default_factory=dict)
    """Which managers its specs may name: the name in a spec → the manager's document."""
    state: AdminState = AdminState.IN_SERVICE


Document = Annotated[
    SupplierDoc
    | DomainDoc
    | PlaceDoc
    | FunctionDoc
    | InterconnectDoc
    | PoolDoc
    | QosDoc
    | AgreementDoc
    | ManagerDoc
    | AccountDoc,
    Field(discriminator="kind"),
]
DOCUMENT: TypeAdapter[Document] = TypeAdapter(Document)
DOCUMENTS: TypeAdapter[tuple[Document, ...]] = TypeAdapter(tuple[Document, ...])
TYPES: Mapping[str, type[Document]] = {
    "place": PlaceDoc,
    "interconnect": InterconnectDoc,
    "pool": PoolDoc,
    "qos": QosDoc,
    "agreement": AgreementDoc,
    "manager": ManagerDoc,
    "account": AccountDoc,
    "supplier": SupplierDoc,
    "domain": DomainDoc,
    "function": FunctionDoc,
}
"""By kind, in the order in which they refer to each other."""


def plain(document: Document) -> dict[str, Any]:
    """The document as people write it; reading it again gives an equal one."""
    return {"kind": document.kind, **written(document)}
