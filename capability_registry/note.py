"""A capability note: what an SP announces that it can deliver, to one audience, in numbered editions.

Rules kept here
- The payload is proto3 JSON of `spbroker.v1.CapabilityNote`: enum values by full name, times in RFC 3339.
- Unknown fields and enum values are tolerated: partners upgrade at different times.
- Delay is in microseconds one way, bandwidth in bit/s, MTU in bytes of IP packet, availability a fraction.
- `origins` of a function, SAP or entry are the origin tokens of the note that it rests on, by index; none given: all.
- Between two border points at least two points are announced, the cheapest and the fastest, each attainable as a whole
  (`front` says which).
- What is told is free at any time to come; what is more in some windows of time stands in `periods`.
- What a reader of the first release would misread stands where it does not look: labels that not every way takes in
  `SapOffer.more_labels`, ways that need what it does not know in `CapabilityNote.guarded`. So it reads less, and nothing wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, TypeAdapter

from address_planner.labels import NO_LABEL, LabelSet
from service_model.families import AddressFamily
from service_model.flavours import Flavour
from service_model.money import FREE, Price
from service_model.qos import QosClass
from service_model.spec import FunctionTypeText
from service_model.words import BitsPerSecond, Instant, Labels, Microseconds, Name, Word


class Lifecycle(Word):
    UNSPECIFIED = "LIFECYCLE_UNSPECIFIED"
    TRIAL = "LIFECYCLE_TRIAL"
    ACTIVE = "LIFECYCLE_ACTIVE"
    WITHDRAWING = "LIFECYCLE_WITHDRAWING"


class SapRole(Word):
    UNSPECIFIED = "SAP_ROLE_UNSPECIFIED"
    UNI = "SAP_ROLE_UNI"
    NNI = "SAP_ROLE_NNI"


class Encapsulation(Word):
    UNSPECIFIED = "ENCAPSULATION_UNSPECIFIED"
    ETHERNET = "ENCAPSULATION_ETHERNET"
    VLAN = "ENCAPSULATION_VLAN"
    VXLAN = "ENCAPSULATION_VXLAN"

    def leaves(self, cable: int = 1500) -> int:
        """Bytes of IP packet that it leaves of a cable that carries so many. VXLAN over IPv4 takes 50 (RFC 7348, 5); a VLAN tag
        takes none: frames may have four bytes more for it (IEEE 802.3-2022, 3.2.7)."""
        return cable - 50 if self is Encapsulation.VXLAN else cable


class PortRole(Word):
    UNSPECIFIED = "PORT_ROLE_UNSPECIFIED"
    DATA = "PORT_ROLE_DATA"
    MANAGEMENT = "PORT_ROLE_MANAGEMENT"


class PointKind(Word):
    UNSPECIFIED = "POINT_KIND_UNSPECIFIED"
    CHEAPEST = "POINT_KIND_CHEAPEST"
    FASTEST = "POINT_KIND_FASTEST"
    BETWEEN = "POINT_KIND_BETWEEN"


class PlaceNaming(Word):
    """Whose word a place's id is: PUBLIC of everybody, OWN of the note's issuer, RELAYED of one of its suppliers. What is
    UNSPECIFIED is read as RELAYED: nothing follows from it."""

    UNSPECIFIED = "PLACE_NAMING_UNSPECIFIED"
    PUBLIC = "PLACE_NAMING_PUBLIC"
    OWN = "PLACE_NAMING_OWN"
    RELAYED = "PLACE_NAMING_RELAYED"


COUNTRY_UNTOLD = "ZZ"
"""Of ISO 3166-1's codes for users, the one that Unicode's CLDR has for an unknown region."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A PoP or service area. `id` follows UN/LOCODE where there is one (NLAMS); coordinates in degrees (WGS 84), both 0
    where they are not told. `merged`: it stands for several places, of which what one has is announced. `site`: the place
    that it is a part of, where the note announces several parts of one, each with what it has; empty: itself. A place is
    named by its id, all parts of a site by the site's. Of parts of one site that offer the same a service takes one: they may
    be one thing that two sell. `named_by`: of a name that is RELAYED, a word for who gave it; places of one such word with
    different names are not one place. Empty: not told."""

    id: Name
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    latitude: Annotated[float, Field(ge=-90, le=90)] = 0.0
    longitude: Annotated[float, Field(ge=-180, le=180)] = 0.0
    tags: tuple[Name, ...] = ()
    naming: PlaceNaming = PlaceNaming.PUBLIC
    merged: bool = False
    site: str = ""
    named_by: str = ""

    @property
    def location(self) -> str:
        """The site that it is a part of, or is."""
        return self.site or self.id

    @property
    def told_country(self) -> str | None:
        return None if self.country == COUNTRY_UNTOLD else self.country

    @property
    def located(self) -> bool:
        """Whether its coordinates are told."""
        return bool(self.latitude or self.longitude)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPort:
    name: Name
    role: PortRole = PortRole.DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """`count` anonymous hosts with `size` free capacity units each."""

    size: Annotated[int, Field(ge=0, le=1_000_000)]
    count: Annotated[int, Field(ge=0, le=1_000_000)]


_Indices = tuple[Annotated[int, Field(ge=0, le=1_000_000)], ...]
Origins = _Indices
Shares = _Indices
"""Shares of the note, by index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOffer:
    """A function type at one place. `ports` are its connection points; the first flavour is the default. `families`: of
    addresses, each of which it forwards, and all at once; none given: either, but one at a time."""

    type: FunctionTypeText
    place: Name
    ports: tuple[FunctionPort, ...]
    flavours: Annotated[tuple[Flavour, ...], Field(min_length=1)]
    delay_us: Microseconds = 0
    origins: Origins = ()
    families: Annotated[tuple[AddressFamily, ...], Field(max_length=8)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceCapacity:
    """What is free at one place. `lan`: LAN links (one bridge domain for several functions' ports) are offered."""

    place: Name
    bins: tuple[Bin, ...]
    lan: bool = False
    shares: Shares = ()
    """That its hosts, and the ways that end there, draw on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SapOffer:
    """A service attachment point. NNI SAPs name their interconnect and the SP at its other side;
    `decides_labels` says which side is the interconnect's authority: exactly one of the two. `labels` do for every way of
    the matrix; `more_labels` are free as well, for the ways that say so."""

    id: Name
    role: SapRole
    place: Name
    encapsulation: Encapsulation
    mtu: int
    labels: Labels
    bandwidth_bps: BitsPerSecond
    interconnect: str = ""
    peer: str = ""
    decides_labels: bool = False
    origins: Origins = ()
    more_labels: Labels = NO_LABEL
    shares: Shares = ()
    path_headers: bool = False
    """Whether packets may be told to bear a path header there."""
    beyond: Annotated[str, Field(max_length=64)] = ""
    """Of an NNI inside of the seller, at which it hands over to whoever else sells the SAP at the other side: that SAP's token
    (`sharing`)."""

    @property
    def free(self) -> LabelSet:
        """All labels that are free."""
        return self.labels | self.more_labels if self.more_labels else self.labels


@dataclass(frozen=True, slots=True, kw_only=True)
class BorderPoint:
    """One attainable way between two points of the supplier, as a whole. `lan`: LANs may go along it beside a path;
    `lan_alone`: by themselves too, for nothing on it ties their labels. `countries`: of all that it passes, its two points
    included; none given: not told. `labels_a`, `labels_b`: those that may be used with it at the SAP it is entered and left
    by, as its entry is directed; none given: whatever is free there."""

    kind: PointKind
    price: Price = FREE
    delay_us: Microseconds = 0
    bandwidth_bps: BitsPerSecond = 0
    availability: Annotated[float, Field(ge=0, le=1)] = 1.0
    mtu: int = 9000
    swaps_labels: bool = True
    lan: bool = False
    isolation: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    labels_a: Labels = NO_LABEL
    labels_b: Labels = NO_LABEL
    lan_alone: bool = False
    shares: Shares = ()
    """That it draws on between its two points, as often as a flow passes there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BorderEntry:
    """The ways between `a` and `b` (SAP or place ids), in both directions alike."""

    a: Name
    b: Name
    points: Annotated[tuple[BorderPoint, ...], Field(min_length=1)]
    origins: Origins = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLimit:
    """The ways' bandwidths, each times its coefficient, together stay within `limit_bps`. A key is `a|b#n`, the point n (from
    0) of the entry between them, `a|b#gn` that of the guarded entry, or `a|b` for each of their points. `labels`: so many a
    service may use in all: one for each use of a way and one for each LAN beside it, times the coefficient (0: as many as it
    likes)."""

    id: Name
    limit_bps: BitsPerSecond
    coefficients: Mapping[str, float]
    labels: Annotated[int, Field(ge=0, le=1_000_000)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A pool of resources as one seller of it sells it; `token` is the same in every note that sells of it. What a service draws
    on it through several sellers is together at most `bandwidth_bps` and `units` of capacity; a flow without bandwidth, or
    a function without units, counts as 1. Of two shares with one token in one note each is another seller's."""

    token: Annotated[str, Field(min_length=1, max_length=64)]
    bandwidth_bps: BitsPerSecond = 0
    units: Annotated[int, Field(ge=0, le=1_000_000)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Planned unavailability of a SAP or place."""

    subject: Name
    start: Instant
    end: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What is free throughout one stretch of time, to requests that begin and end within it; `periods` says which counts. None:
    it has begun; it does not end. Only what differs from what is always free: `capacities` by their bins, `saps` and `ways`
    by bandwidth, ways by the keys of `SharedLimit`. `shared` are all limits then."""

    start: Instant | None = None
    end: Instant | None = None
    capacities: tuple[PlaceCapacity, ...] = ()
    saps: Mapping[str, BitsPerSecond] = field(default_factory=dict)
    ways: Mapping[str, BitsPerSecond] = field(default_factory=dict)
    shared: tuple[SharedLimit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityNote:
    sp_id: Name
    edition: Annotated[int, Field(ge=1)]
    audience: str
    not_before: Instant
    expires: Instant
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    api_features: tuple[str, ...] = ()
    currency: str = "EUR"
    places: tuple[Place, ...] = ()
    functions: tuple[FunctionOffer, ...] = ()
    capacities: tuple[PlaceCapacity, ...] = ()
    saps: tuple[SapOffer, ...] = ()
    matrix: tuple[BorderEntry, ...] = ()
    shared: tuple[SharedLimit, ...] = ()
    qos_classes: tuple[QosClass, ...] = ()
    outages: tuple[Outage, ...] = ()
    max_hold_s: Annotated[int, Field(ge=1)] = 300
    remaining_depth: Annotated[int, Field(ge=0, le=64)] = 0
    origin_tokens: tuple[str, ...] = ()
    """Opaque tokens of every SP whose capability is in here: only their own minter recognises one (loop detection)."""
    max_functions: int = 64
    terms: Mapping[str, str] = field(default_factory=dict)
    guarded: tuple[BorderEntry, ...] = ()
    """Ways that hold only for who knows labels by the way, and sites: not every label of the matrix does for them, or they
    lead to a part of a site that the note tells of besides another."""
    shares: tuple[Share, ...] = ()
    """Pools of resources that others may sell too. Of what names none it is not told whether others do."""
    periods: Annotated[tuple[Period, ...], Field(max_length=16)] = ()
    """Windows in which more is free than always, the widest first."""

    def sap(self, id: str) -> SapOffer | None:
        return next((s for s in self.saps if s.id == id), None)


NOTE: TypeAdapter[CapabilityNote] = TypeAdapter(CapabilityNote)
