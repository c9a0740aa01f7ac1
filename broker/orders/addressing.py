"""What a broker decides of layer 3 where it splits a service: prefixes, and hosts of links in several segments. Pure.

Rules kept here
- Every prefix that this broker or anyone below will choose is carved here from one allowed set, so nothing in the service
  overlaps at any depth. The prefix of a link that two segments share (an adjacency split here) is kept and told to both
  with disjoint hosts; the prefixes of links inside a segment are its share.
- A constraint from above is passed on as it is to whoever holds the port: narrowed, never widened.
- What lies behind the service's ends is excluded for all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from address_planner.conflicts import carved_again
from address_planner.macs import MacSet
from address_planner.prefixes import PrefixTooSmall, aggregate, host_bits, host_prefix, pick_hosts
from broker.orders.cut import Cut
from service_model.outcomes import Nogood, Reason, ReasonCode
from service_model.spec import (
    AddressRole,
    LinkAddressing,
    LinkKind,
    ReservedAddress,
    ServiceSpec,
    VirtualLink,
    split_point,
)
from service_model.words import Address, Macs, Prefix

NOTHING: Mapping[str, Prefix] = MappingProxyType({})


class CannotAddress(Exception):
    """The plan cannot be addressed; `reason` says why, `interconnects` where the labels are exhausted."""

    def __init__(self, reason: Reason, interconnects: tuple[str, ...] = ()) -> None:
        super().__init__(reason.message)
        self.reason, self.interconnects = reason, interconnects


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossingLink:
    """A link whose points are in more than one segment: its prefix, and the address of each point that is decided here. `macs`:
    each port's part of the link's pool, where it has one."""

    prefix: Prefix
    addresses: Mapping[str, Address] = field(default_factory=dict)
    macs: Mapping[str, Macs] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """`crossing`: the links decided here. `shares`: the prefix of each link that its one segment decides. `excluded`: what
    nobody takes. `carved`: the prefix of each link whose prefix was chosen here."""

    crossing: Mapping[str, CrossingLink]
    shares: Mapping[str, Prefix]
    excluded: tuple[Prefix, ...]
    carved: Mapping[str, Prefix]

    def told(self, link: VirtualLink, points: Collection[str]) -> LinkAddressing:
        """The constraint for a segment that has the link between or among `points`."""
        crossing = self.crossing.get(link.id)
        if crossing is None:
            parted = link.kind is LinkKind.LAN and not set(link.points) <= set(points)
            return LinkAddressing() if parted else link.addressing  # a LAN of ends alone is addressed by their owners
        mine = [p for p in points if split_point(p)[1]]
        if not mine:
            return LinkAddressing()
        # on a LINE the one end of the segment stands for whatever lies at its other point
        far = next((p for p in points if p not in mine), None) if link.kind is LinkKind.LINE else None
        others = [r for r in link.addressing.reserved if r.role is not AddressRole.GATEWAY and r.point is None]
        reserved = [
            ReservedAddress(role=AddressRole.PEER, address=address, point=far)
            for point, address in crossing.addresses.items()
            if point not in mine
        ]
        hosts = tuple(host_prefix(crossing.addresses[p]) for p in mine if p in crossing.addresses)
        macs = MacSet(tuple(r for p in mine for r in crossing.macs[p].ranges)) if crossing.macs else None
        return LinkAddressing(prefix=crossing.prefix, hosts=aggregate(hosts), reserved=(*others, *reserved), macs=macs)


def block_bits(spec: ServiceSpec) -> int:
    """Host bits of one block that holds every prefix to be chosen for `spec`; 0 when none is."""
    addresses = sum(1 << bits for bits in _wanted(spec).values())
    return max(0, addresses - 1).bit_length()


def _wanted(spec: ServiceSpec) -> dict[str, int]:
    return {
        link.id: host_bits(len(link.points))
        for link in spec.links
        if link.addressing.prefix is None and any(split_point(p)[1] for p in link.points)
    }


def decide(
    cut: Cut, allowed: tuple[Prefix, ...], kept: Mapping[str, Prefix] = NOTHING, unusable: tuple[Prefix, ...] = ()
) -> Addressing:
    """`allowed`: the share from above, or the block taken for this service. `kept`: what was carved before, by link, and stays
    where it can; `unusable`: what a supplier cannot use. Raises CannotAddress."""
    spec = cut.mesh.spec
    behind = [n for end in spec.ends for n in end.networks]
    excluded = aggregate([*spec.blocks.excluded, *behind])
    required = [link.addressing.prefix for link in spec.links if link.addressing.prefix is not None]
    try:
        carved = carved_again(allowed, (*excluded, *required), _wanted(spec), kept, unusable)
    except PrefixTooSmall as error:
        raise CannotAddress(
            Reason(
                code=ReasonCode.PREFIX_TOO_SMALL,
                message=str(error),
                subject=error.wanted,
                nogood=Nogood(needed_addresses=error.needed),
            )
        ) from None
    crossing = {
        link.id: _hosts(link, link.addressing.prefix or carved[link.id])
        for link in spec.links
        if _crosses(cut, link) and any(split_point(p)[1] for p in link.points)
    }
    shares = {id: prefix for id, prefix in carved.items() if id not in crossing}
    return Addressing(crossing=crossing, shares=shares, excluded=excluded, carved=carved)


def _crosses(cut: Cut, link: VirtualLink) -> bool:
    """Whether no segment has all of a link, to decide about it."""
    if link.kind is LinkKind.LINE:
        return len(cut.sections[link.id]) > 1
    return len({cut.home_of(point) for point in link.points}) > 1


def _hosts(link: VirtualLink, prefix: Prefix) -> CrossingLink:
    given = {r.point: r.address for r in link.addressing.reserved if r.point is not None}
    ports = [p for p in link.points if split_point(p)[1]]
    ends = [p for p in link.points if not split_point(p)[1]]
    taken = [r.address for r in link.addressing.reserved]
    try:
        addresses = {p: given[p] for p in ends if p in given}
        if link.kind is LinkKind.LINE:
            addresses |= pick_hosts(prefix, (), taken, [p for p in ends if p not in given])
        gateway = next((r.address for r in link.addressing.reserved if r.role is AddressRole.GATEWAY), None)
        if gateway is not None and link.kind is LinkKind.LINE and len(ports) == 1:
            addresses[ports[0]] = gateway
        left = [p for p in ports if p not in addresses]
        addresses |= pick_hosts(prefix, link.addressing.hosts, [*taken, *addresses.values()], left)
    except PrefixTooSmall as error:
        raise CannotAddress(
            Reason(code=ReasonCode.ADDRESS_EXHAUSTED, message=f"link {link.id!r}: {error}", subject=link.id)
        ) from None
    return CrossingLink(prefix=prefix, addresses=addresses, macs=_macs(link, ports))


def _macs(link: VirtualLink, ports: list[str]) -> dict[str, MacSet]:
    """A part of the link's pool for each of its ports."""
    pool = link.addressing.macs
    if pool is None:
        return {}
    if pool.size < len(ports):
        message = f"link {link.id!r}: {pool.size} hardware addresses are too few for {len(ports)} ports"
        raise CannotAddress(Reason(code=ReasonCode.ADDRESS_EXHAUSTED, message=message, subject=link.id))
    return dict(zip(ports, pool.parts(len(ports)), strict=True))
