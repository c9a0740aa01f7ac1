"""What is asked for: a ServiceSpec. A segment handed down to a supplier is one too; nothing in it says its level.

Shape
- *ends*: where the service meets a customer or a peer, each at one SAP of the supplier asked.
- *functions*: network functions by type, each with named ports (`function:port` is a connection point).
- *links*: LINE joins two connection points, LAN any number; an end is a connection point by its id. A service may be LANs
  alone: its bandwidth is then that of each of them, on every way that it uses. Beside paths a LAN has none of its own.
- *paths*: a flow's connection points in order, from an end, in and out of functions, to an end; replies take it in reverse
  (RFC 7665 service function path, bidirectional). Several may share links and functions; `flows` tell those apart that
  part and meet again.
- *groups*, *distances*, *countries*, *isolation*: where functions may be and what the way must be like (`constraints`).
- *families*: IPv4, IPv6 or both, on every link.
- *addressing*: what may be used (DESIGN 5). Per link a prefix and host sets, per end a label set, for all of it blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter, WithJsonSchema

from service_model.constraints import ANYWHERE, Countries, Distance, Group, GroupScope
from service_model.families import AddressFamily, families_of, versions
from service_model.flows import Flow
from service_model.healing import HealPolicy
from service_model.path_headers import PathHeader
from service_model.words import (
    Address,
    BitsPerSecond,
    Instant,
    Label,
    Labels,
    Macs,
    Microseconds,
    Mtu,
    Name,
    PointName,
    Prefix,
    Text,
    Word,
)

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, order=True)
class FunctionType:
    """The vendor/name/version triple of a function's type."""

    vendor: str
    name: str
    version: str

    @classmethod
    def parse(cls, text: str) -> FunctionType:
        parts = text.split("/")
        if len(parts) != 3 or not all(p and len(p) <= 100 for p in parts):
            raise ValueError(f"{text!r} is not a function type: vendor/name/version")
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.vendor}/{self.name}/{self.version}"


_type = lru_cache(4096)(FunctionType.parse)
"""Many offer the same type: it is one."""

FunctionTypeText = Annotated[
    FunctionType,
    BeforeValidator(lambda v: _type(v) if isinstance(v, str) else v),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[^/]{1,100}(/[^/]{1,100}){2}$", "examples": ["v/n/1.0"]}),
]


class LinkKind(Word):
    UNSPECIFIED = "LINK_KIND_UNSPECIFIED"
    LINE = "LINK_KIND_LINE"
    LAN = "LINK_KIND_LAN"


LAN_SITES = "lan-sites"
"""The feature of who lays a LAN also where no path is: to ends at SAPs of their own, and in a service without paths."""


class AddressRole(Word):
    """Why an address is reserved on a link."""

    UNSPECIFIED = "ADDRESS_ROLE_UNSPECIFIED"
    GATEWAY = "ADDRESS_ROLE_GATEWAY"
    PEER = "ADDRESS_ROLE_PEER"
    TUNNEL_ENDPOINT = "ADDRESS_ROLE_TUNNEL_ENDPOINT"


MACS = "mac-pools"
"""The feature of who gives ports hardware addresses from the pool of their link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of the service, at a SAP of the supplier asked.

    `labels`: which labels may be used there (None: any); `suggested_label`: take this one if it is free (RFC 3473, 4.1).
    `networks`: prefixes that lie behind the end, besides its link's own prefix. `path_header`: what packets bear there, which the
    supplier puts on what leaves and expects of what comes; None: none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    id: Name
    sap: Name
    labels: Labels | None = None
    suggested_label: Label | None = None
    networks: Annotated[tuple[Prefix, ...], Field(max_length=64)] = ()
    path_header: PathHeader | None = None


def _in_order(value: Any) -> Any:
    """The same JSON value, every mapping in the order of its keys: so the same parameters are the same text."""
    if isinstance(value, Mapping):
        return {key: _in_order(value[key]) for key in sorted(value, key=str)}
    return [_in_order(v) for v in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionRequest:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    id: Name
    type: FunctionTypeText
    flavour: Name | None = None
    places: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    parameters: Annotated[Mapping[str, Any], PlainSerializer(_in_order, return_type=dict[str, Any])] = field(
        default_factory=dict
    )
    countries: Countries = ANYWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservedAddress:
    """An address on a link that is not the supplier's to choose: it belongs to the connection point `point`. Where that is a
    function's port, it is the address that this port gets."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    role: AddressRole
    address: Address
    point: PointName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAddressing:
    """Layer-3 constraint of one link.

    `prefix`: REQUIRED; None leaves it to the supplier, from the blocks. `hosts`: what the supplier's own ports may take
    (empty: any of the prefix). `reserved`: addresses already given to somebody else on the link. `second_prefix`: of the
    other family, REQUIRED as well; hosts and reserved addresses are of either. `macs`: the pool that the supplier's own ports
    take their hardware addresses from; None: any.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    prefix: Prefix | None = None
    hosts: Annotated[tuple[Prefix, ...], Field(max_length=64)] = ()
    reserved: Annotated[tuple[ReservedAddress, ...], Field(max_length=64)] = ()
    second_prefix: Prefix | None = None
    macs: Macs | None = None

    @property
    def prefixes(self) -> tuple[Prefix, ...]:
        """All that are required."""
        return tuple(prefix for prefix in (self.prefix, self.second_prefix) if prefix is not None)

    def of(self, version: int) -> LinkAddressing:
        """What is said of one family."""
        if self.prefix is None and self.second_prefix is None and not self.hosts and not self.reserved:
            return _NOTHING_SAID
        return LinkAddressing(
            prefix=next((prefix for prefix in self.prefixes if prefix.version == version), None),
            hosts=tuple(hosts for hosts in self.hosts if hosts.version == version),
            reserved=tuple(reserved for reserved in self.reserved if reserved.address.version == version),
        )


_NOTHING_SAID = LinkAddressing()


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualLink:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    id: Name
    kind: LinkKind = LinkKind.LINE
    points: Annotated[tuple[PointName, ...], Field(max_length=128)]
    addressing: LinkAddressing = LinkAddressing()

    @property
    def ports(self) -> tuple[str, ...]:
        """Those of its points that are functions' ports."""
        return tuple(point for point in self.points if split_point(point)[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFunctionPath:
    """`max_delay_us` bounds this path alone, the spec's every path. `flows`: which packets take it, where others part from
    it and meet it again; none: what no other names."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    id: Name
    hops: Annotated[tuple[PointName, ...], Field(min_length=2, max_length=200)]
    max_delay_us: Microseconds | None = None
    flows: Annotated[tuple[Flow, ...], Field(max_length=32)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Prefixes of the whole service: `allowed` is the share to choose from (empty: the supplier's own pools),
    `excluded` must not be touched."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    allowed: Annotated[tuple[Prefix, ...], Field(max_length=64)] = ()
    excluded: Annotated[tuple[Prefix, ...], Field(max_length=256)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One service or segment as asked for. Delay in microseconds one way, bandwidth in bit/s, price over `term_hours`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    ends: Annotated[tuple[End, ...], Field(min_length=1, max_length=64)]
    functions: Annotated[tuple[FunctionRequest, ...], Field(max_length=64)] = ()
    links: Annotated[tuple[VirtualLink, ...], Field(min_length=1, max_length=128)]
    paths: Annotated[tuple[ServiceFunctionPath, ...], Field(max_length=16)] = ()
    blocks: Blocks = Blocks()
    bandwidth_bps: BitsPerSecond = 0
    max_delay_us: Microseconds | None = None
    min_mtu: Mtu = 1280
    max_price: Annotated[Decimal, Field(ge=0, le=Decimal("1e12"))] | None = None
    term_hours: Annotated[int, Field(ge=1, le=876_000)] = 720
    start_time: Instant | None = None
    end_time: Instant | None = None
    managers: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    required_features: Annotated[tuple[Name, ...], Field(max_length=32)] = ()
    reference: Text = ""
    tags: Annotated[tuple[Name, ...], Field(max_length=32)] = ()
    groups: Annotated[tuple[Group, ...], Field(max_length=32)] = ()
    distances: Annotated[tuple[Distance, ...], Field(max_length=32)] = ()
    countries: Countries = ANYWHERE
    isolation: Annotated[tuple[Name, ...], Field(max_length=8)] = ()
    """Mechanisms, by the names that notes use, each of which every way must offer."""
    qos: Name | None = None
    """A class of the supplier asked (`qos`): its bounds are the service's, where they are tighter."""
    min_availability: Annotated[float, Field(ge=0, le=1)] | None = None
    """The fraction of time that all of it works together."""
    families: Annotated[tuple[AddressFamily, ...], Field(max_length=2)] = ()
    """Of its links; none given: as in `versions`."""
    healing: HealPolicy = HealPolicy.UNSPECIFIED
    """Who decides that what is lost of it is bought elsewhere."""

    def end(self, id: str) -> End:
        return next(e for e in self.ends if e.id == id)

    def function(self, id: str) -> FunctionRequest:
        return next(f for f in self.functions if f.id == id)

    def link(self, id: str) -> VirtualLink:
        return next(link for link in self.links if link.id == id)

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions of its LINEs, in order: as said; else those of the prefixes that it states, of networks and LINEs.
        None: one, which the supplier chooses."""
        if said := versions(self.families):
            return said
        found = {network.version for end in self.ends for network in end.networks}
        for link in self.links:
            if link.kind is LinkKind.LINE and link.addressing.prefix is not None:
                found.update(prefix.version for prefix in link.addressing.prefixes)
        return tuple(sorted(found))

    def link_versions(self) -> dict[str, tuple[int, ...]]:
        """The IP versions of each link: a LAN whose prefix is stated has that one's."""
        own = self.versions
        return {
            link.id: tuple(sorted(prefix.version for prefix in link.addressing.prefixes))
            if link.kind is LinkKind.LAN and link.addressing.prefixes
            else own
            for link in self.links
        }

    def open_links(self) -> dict[str, tuple[int, ...]]:
        """The links with ports on them of which a prefix is still to be chosen: the IP versions of which none is stated; none
        given: one prefix, of either."""
        out: dict[str, tuple[int, ...]] = {}
        for id, wanted in self.link_versions().items():
            link = self.link(id)
            stated = {prefix.version for prefix in link.addressing.prefixes}
            missing = tuple(v for v in wanted if v not in stated)
            if link.ports and (missing or not (wanted or stated)):
                out[id] = missing
        return out

    def versions_at(self, function: str) -> frozenset[int]:
        """The IP versions that a function has to know, of all links with a port of it."""
        versions = self.link_versions()
        joined = (link.id for link in self.links if any(split_point(p)[0] == function for p in link.points))
        return frozenset(version for link in joined for version in versions[link])

    def needs_dual_stack(self) -> bool:
        """Whether a link with a port on it has both families: only suppliers with the feature `dual-stack` deliver that."""
        both = len(self.versions) > 1
        return any(
            link.ports
            for link in self.links
            if (
                link.addressing.second_prefix is not None
                if link.kind is LinkKind.LAN and link.addressing.prefix is not None
                else both
            )
        )

    def fixed_ports(self) -> frozenset[str]:
        """The functions of which a port's address is stated: only suppliers with the feature `fixed-ports` keep that."""
        owners = (split_point(r.point) for link in self.links for r in link.addressing.reserved if r.point is not None)
        return frozenset(owner for owner, port in owners if port)

    def needs_placement(self) -> bool:
        """Whether anything is asked that only suppliers with the feature `placement-constraints` keep. Places say the rest:
        groups by place or supplier, kilometres, a function's countries."""
        by_host = any(g.scope is GroupScope.HOST for g in self.groups)
        by_delay = any(d.max_delay_us is not None for d in self.distances)
        return bool(by_host or by_delay or self.countries or self.isolation)

    def needs_paths(self) -> bool:
        """Whether it is more than one path with one bound: only suppliers with the feature `paths` deliver that."""
        return len(self.paths) > 1 or any(p.flows or p.max_delay_us is not None for p in self.paths)

    def needs_sites(self) -> bool:
        """Whether a LAN has an end at a SAP where no path has one: only suppliers with the feature `lan-sites` deliver that."""
        ends = {end.id: end.sap for end in self.ends}
        on_paths = {ends[hop] for path in self.paths for hop in path.hops if hop in ends}
        on_lans = {ends[p] for link in self.links if link.kind is LinkKind.LAN for p in link.points if p in ends}
        return not on_lans <= on_paths

    def needs_macs(self) -> bool:
        """Whether any link has a pool of hardware addresses: only suppliers with the feature `mac-pools` take from it."""
        return any(link.addressing.macs is not None for link in self.links)

    def delay_limit(self, path: ServiceFunctionPath) -> int | None:
        """The lower of the bounds on one of its paths, microseconds one way."""
        return min((us for us in (self.max_delay_us, path.max_delay_us) if us is not None), default=None)

    def priced(self) -> ServiceSpec:
        """What a price depends on: the same without what is the caller's own, and without what is decided when it is held,
        labels, prefixes and addresses."""
        return replace(
            self,
            name="priced",
            ends=tuple(End(id=end.id, sap=end.sap) for end in self.ends),
            links=tuple(replace(link, addressing=LinkAddressing()) for link in self.links),
            blocks=Blocks(),
            families=families_of(self.versions) if len(self.versions) > 1 else self.families,
            max_price=None,
            reference="",
            tags=(),
            healing=HealPolicy.UNSPECIFIED,
        )

    def needs_classes(self) -> bool:
        """Whether anything is asked that only suppliers with the feature `qos-classes` keep. (Of the class, who is asked
        makes bounds.)"""
        return self.min_availability is not None

    def digest(self) -> str:
        """SHA-256 of the JSON: two requests with the same digest ask for the same."""
        known = _digests.get(id(self))
        if known is None or known[0] is not self:
            known = _digests[id(self)] = (self, hashlib.sha256(SPEC.dump_json(self, exclude_defaults=True)).hexdigest())
            while len(_digests) > _DIGESTS_KEPT:
                _digests.pop(next(iter(_digests)))
        return known[1]


SPEC: TypeAdapter[ServiceSpec] = TypeAdapter(ServiceSpec)
_DIGESTS_KEPT = 512
_digests: dict[int, tuple[ServiceSpec, str]] = {}
"""Of the specs asked about last: an order asks for the digest of the same spec at each of its steps."""


def split_point(point: str) -> tuple[str, str]:
    """`"fw:input"` → `("fw", "input")`; an end `"client"` → `("client", "")`."""
    owner, _, port = point.partition(":")
    return owner, port
