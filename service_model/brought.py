"""What a customer brings to a service beside its spec: families, labels, networks behind its ends, addresses, times. Pure.

Rules kept here
- What is brought is added to what the spec says; families, labels and times replace it. What then contradicts itself is told
  by `check`.
- An address with the length of its prefix gives its link that prefix, and belongs to its point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Interface, IPv6Interface

from address_planner.labels import LabelSet
from service_model.families import AddressFamily
from service_model.spec import AddressRole, LinkAddressing, ReservedAddress, ServiceSpec
from service_model.words import Prefix

Interface = IPv4Interface | IPv6Interface


class NotThere(ValueError):
    """The service has no end or no point of that name; the message names it, and those that there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """By end the labels and networks, by connection point the addresses (`172.20.0.2/30`)."""

    families: tuple[AddressFamily, ...] = ()
    labels: Mapping[str, LabelSet] = field(default_factory=dict)
    networks: Mapping[str, tuple[Prefix, ...]] = field(default_factory=dict)
    addresses: Mapping[str, tuple[Interface, ...]] = field(default_factory=dict)
    start_time: datetime | None = None
    end_time: datetime | None = None

    def to(self, spec: ServiceSpec) -> ServiceSpec:
        """The service with all of it. Raises NotThere."""
        ends = [end.id for end in spec.ends]
        for id in (*self.labels, *self.networks):
            if id not in ends:
                raise NotThere(f"{id!r} is no end of {spec.name} (they are {', '.join(ends)})")
        points = [point for link in spec.links for point in link.points]
        for point in self.addresses:
            if point not in points:
                raise NotThere(f"{point!r} is no connection point of {spec.name} (they are {', '.join(points)})")
        return replace(
            spec,
            families=self.families or spec.families,
            start_time=self.start_time or spec.start_time,
            end_time=self.end_time or spec.end_time,
            ends=tuple(
                replace(
                    end,
                    labels=self.labels.get(end.id, end.labels),
                    networks=tuple(dict.fromkeys([*end.networks, *self.networks.get(end.id, ())])),
                )
                for end in spec.ends
            ),
            links=tuple(replace(link, addressing=self._stated(link.points, link.addressing)) for link in spec.links),
        )

    def _stated(self, points: tuple[str, ...], told: LinkAddressing) -> LinkAddressing:
        for point, interface in ((p, i) for p in points for i in self.addresses.get(p, ())):
            mine = ReservedAddress(role=AddressRole.PEER, address=interface.ip, point=point)
            told = replace(told, reserved=(*told.reserved, mine))
            if told.prefix is None:
                told = replace(told, prefix=interface.network)
            elif interface.network not in told.prefixes:
                told = replace(told, second_prefix=interface.network)
        return told
