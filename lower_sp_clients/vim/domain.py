"""An own domain as a value: its points and ways, and what is in use of them.

Rules kept here
- Points are SAPs and places; ways join them.
- Functions are packed onto anonymous hosts as `capability_registry.packing` says: what the note announces fits.
- A domain that does not swap labels carries one from SAP to SAP where both encapsulate alike. Between unlike ones it
  converts, and a label of the one is none of the other.
- What is taken changes with time: `Usage` is what is not to be had within one window (`calendar`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from address_planner.labels import LabelSet
from capability_registry.note import Bin, Encapsulation, FunctionPort, Place, SapRole
from service_model.families import ANY_FAMILY, AddressFamily
from service_model.flavours import Flavour
from service_model.money import Price
from service_model.spec import FunctionType
from service_model.window import Window
from service_model.words import Prefix

Key = str | tuple[str, int]
"""A resource: a way or SAP by its id, or a host as (place, index)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sap:
    id: str
    role: SapRole
    place: str
    encapsulation: Encapsulation
    mtu: int
    labels: LabelSet
    bandwidth_bps: int
    interconnect: str = ""
    peer: str = ""
    decides_labels: bool = False
    path_headers: bool = False
    """Whether packets may bear them there."""
    usable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One class of transport between two points, the same in both directions."""

    id: str
    a: str
    b: str
    price: Price
    delay_us: int
    bandwidth_bps: int
    availability: float = 1.0
    isolation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueFunction:
    """A function type as this domain makes it. `places` are those where it is offered; `families`: of addresses, each of
    which it forwards, and both at once."""

    type: FunctionType
    implementation: str
    ports: tuple[FunctionPort, ...]
    flavours: tuple[Flavour, ...]
    places: frozenset[str]
    delay_us: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    families: tuple[AddressFamily, ...] = ANY_FAMILY


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """`hosts`: capacity units of each host at a place. `lan`: the places that offer LAN links. `excluded`: prefixes
    that no link of a service may have here."""

    name: str
    sp_id: str
    places: tuple[Place, ...]
    hosts: Mapping[str, tuple[int, ...]]
    lan: frozenset[str]
    saps: tuple[Sap, ...]
    ways: tuple[Way, ...]
    functions: tuple[CatalogueFunction, ...]
    swaps_labels: bool = True
    max_hold_s: int = 300
    quote_s: int = 3600
    excluded: tuple[Prefix, ...] = ()
    look_every_s: float = 10.0
    """How often it is looked whether what is built is still there."""
    dead_after_s: float = 60.0
    """How long nobody may tell that until all of it counts as lost."""

    def sap(self, id: str) -> Sap | None:
        return next((s for s in self.saps if s.id == id), None)

    def sizes(self) -> dict[Key, int]:
        """How much there is of each resource: bit/s or units."""
        out: dict[Key, int] = {way.id: way.bandwidth_bps for way in self.ways}
        out |= {sap.id: sap.bandwidth_bps for sap in self.saps}
        return out | {(place, n): size for place, hosts in self.hosts.items() for n, size in enumerate(hosts)}

    def ties(self, *saps: Sap) -> bool:
        """Whether what goes straight from one of these SAPs to another has the same label at both."""
        return not self.swaps_labels and len({sap.encapsulation for sap in saps}) == 1

    def function(self, type: FunctionType) -> CatalogueFunction | None:
        return next((f for f in self.functions if f.type == type), None)


@dataclass(frozen=True, slots=True)
class Usage:
    """What is taken within one window: bit/s by way or SAP id, units by (place, host index), labels by SAP (held, live or
    resting), and of these the ones that are only held. `when`: where most of a resource is taken within a part of the window
    only, that part."""

    bandwidth: Mapping[str, int] = field(default_factory=dict)
    units: Mapping[tuple[str, int], int] = field(default_factory=dict)
    labels: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    held_labels: Mapping[str, set[int]] = field(default_factory=dict)
    when: Callable[[Key], Window | None] = field(default=lambda key: None, compare=False)

    def of(self, key: Key) -> int:
        """Of one resource."""
        return self.bandwidth.get(key, 0) if isinstance(key, str) else self.units.get(key, 0)

    def free_labels(self, sap: Sap) -> LabelSet:
        return sap.labels - LabelSet.of(self.labels.get(sap.id, ()))


def free_bins(domain: Domain, usage: Usage, place: str) -> tuple[Bin, ...]:
    """The free capacity of a place's hosts as anonymous bins, largest first."""
    sizes: dict[int, int] = {}
    for index, size in enumerate(domain.hosts.get(place, ())):
        free = max(0, size - usage.units.get((place, index), 0))
        sizes[free] = sizes.get(free, 0) + 1
    return tuple(Bin(size=size, count=sizes[size]) for size in sorted(sizes, reverse=True) if size)


def pack(domain: Domain, usage: Usage, place: str, units: Sequence[int]) -> tuple[int, ...] | None:
    """A host index at `place` for each demand: the largest first into the fullest host in use that still holds it, else
    into a new one of the smallest size that does. None when they do not fit together so."""
    free = {i: size - usage.units.get((place, i), 0) for i, size in enumerate(domain.hosts.get(place, ()))}
    out: dict[int, int] = {}
    for demand in sorted(range(len(units)), key=lambda d: -units[d]):
        holding = [i for i in free if free[i] >= units[demand]]
        host = min(holding, key=lambda i: (i not in out.values(), free[i], i), default=None)
        if host is None:
            return None
        free[host] -= units[demand]
        out[demand] = host
    return tuple(out[i] for i in range(len(units)))
