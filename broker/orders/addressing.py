"""What a broker decides of layer 3 where it splits a service: prefixes, and hosts of links in several segments. Pure.

Rules kept here
- Every prefix that this broker or anyone below will choose is carved here from one allowed set, so nothing in the service
  overlaps at any depth. The prefix of a link that two segments share (an adjacency split here) is kept and told to both
  with disjoint hosts; the prefixes of links inside a segment are its share.
- A constraint from above is passed on as it is to whoever holds the port: narrowed, never widened.
- What lies behind the service's ends is excluded for all of them.
- Each family is decided by itself; a link has a prefix of each that the service has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from address_planner.macs import MacSet
from address_planner.prefixes import NOBODY, PrefixTooSmall, aggregate, host_bits, host_prefix, pick_hosts
from address_planner.stacks import NOTHING, Wanted, carve_stacks
from broker.orders.cut import Cut
from service_model.outcomes import Nogood, Reason, ReasonCode, Stack
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


class CannotAddress(Exception):
    """The plan cannot be addressed; `reason` says why, `interconnects` where the labels are exhausted."""

    def __init__(self, reason: Reason, interconnects: tuple[str, ...] = ()) -> None:
        super().__init__(reason.message)
        self.reason, self.interconnects = reason, interconnects


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossingLink:
    """A link whose points are in more than one segment: its prefix, and the address of each point that is decided here; of
    the other family the second, where it has both. `macs`: each port's part of the link's pool, where it has one."""

    prefix: Prefix
    addresses: Mapping[str, Address] = field(default_factory=dict)
    macs: Mapping[str, Macs] = field(default_factory=dict)
    second_prefix: Prefix | None = None
    second_addresses: Mapping[str, Address] = field(default_factory=dict)

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """What is decided for each family."""
        first = Stack(self.prefix, self.addresses)
        return (first,) if self.second_prefix is None else (first, Stack(self.second_prefix, self.second_addresses))

    @property
    def prefixes(self) -> tuple[Prefix, ...]:
        return (self.prefix,) if self.second_prefix is None else (self.prefix, self.second_prefix)


NEVER: Mapping[str, CrossingLink] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """`crossing`: the links decided here. `shares`: the prefixes of each link that its one segment decides. `excluded`: what
    nobody takes. `carved`: the prefixes of each link of which some were chosen here."""

    crossing: Mapping[str, CrossingLink]
    shares: Mapping[str, tuple[Prefix, ...]]
    excluded: tuple[Prefix, ...]
    carved: Mapping[str, tuple[Prefix, ...]]

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
        # which of several ports of a segment has which address is told where it is stated; of one, its host set says it
        fixed = [r for r in link.addressing.reserved if r.point in mine and len(mine) > 1]
        reserved = [
            ReservedAddress(role=AddressRole.PEER, address=address, point=far)
            for stack in crossing.stacks
            for point, address in stack.addresses.items()
            if point not in mine
        ]
        hosts = (host_prefix(s.addresses[p]) for s in crossing.stacks for p in mine if p in s.addresses)
        return LinkAddressing(
            prefix=crossing.prefix,
            hosts=aggregate(hosts),
            reserved=(*others, *fixed, *reserved),
            second_prefix=crossing.second_prefix,
            macs=MacSet(tuple(r for p in mine for r in crossing.macs[p].ranges)) if crossing.macs else None,
        )


def block_bits(spec: ServiceSpec) -> dict[int, int]:
    """By IP version (0: of either) the host bits of one block that holds every prefix of it that is to be chosen for `spec`."""
    sizes: dict[int, int] = {}
    for wanted in _wanted(spec).values():
        for version in wanted.versions or (0,):
            sizes[version] = sizes.get(version, 0) + (1 << wanted.bits)
    return {version: (size - 1).bit_length() for version, size in sorted(sizes.items())}


def _wanted(spec: ServiceSpec) -> dict[str, Wanted]:
    return {id: Wanted(host_bits(len(spec.link(id).points)), versions) for id, versions in spec.open_links().items()}


def decide(
    cut: Cut,
    allowed: tuple[Prefix, ...],
    kept: Mapping[str, Sequence[Prefix]] = NOTHING,
    unusable: tuple[Prefix, ...] = (),
    had: Mapping[str, CrossingLink] = NEVER,
) -> Addressing:
    """`allowed`: the share from above, or the block taken for this service. `kept`: what was carved before, by link, and stays
    where it can; `unusable`: what a supplier cannot use; `had`: what a live version has, whose addresses stay where they can.
    Raises CannotAddress."""
    spec = cut.mesh.spec
    behind = [n for end in spec.ends for n in end.networks]
    excluded = aggregate([*spec.blocks.excluded, *behind])
    required = [prefix for link in spec.links for prefix in link.addressing.prefixes]
    try:
        carved = carve_stacks(allowed, (*excluded, *required), _wanted(spec), kept, unusable)
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
        link.id: _crossing(link, (*link.addressing.prefixes, *carved.get(link.id, ())), had.get(link.id))
        for link in spec.links
        if _crosses(cut, link) and link.ports
    }
    shares = {id: prefixes for id, prefixes in carved.items() if id not in crossing}
    return Addressing(crossing=crossing, shares=shares, excluded=excluded, carved=carved)


def _crosses(cut: Cut, link: VirtualLink) -> bool:
    """Whether no segment has all of a link, to decide about it."""
    if link.kind is LinkKind.LINE:
        return len(cut.sections[link.id]) > 1
    return len({cut.home_of(point) for point in link.points}) > 1


def _crossing(link: VirtualLink, prefixes: tuple[Prefix, ...], had: CrossingLink | None) -> CrossingLink:
    """A prefix of each family that it has."""
    first, *more = sorted(prefixes, key=lambda prefix: prefix.version)
    before = {s.prefix: s.addresses for s in had.stacks} if had is not None else {}
    hosts = _hosts(link, link.addressing.of(first.version), first, before.get(first, NOBODY))
    out = CrossingLink(prefix=first, addresses=hosts, macs=_macs(link))
    for second in more:
        hosts = _hosts(link, link.addressing.of(second.version), second, before.get(second, NOBODY))
        out = replace(out, second_prefix=second, second_addresses=hosts)
    return out


def _hosts(
    link: VirtualLink, told: LinkAddressing, prefix: Prefix, before: Mapping[str, Address]
) -> dict[str, Address]:
    """The addresses of one family: `told` is what is stated of it."""
    given = {r.point: r.address for r in told.reserved if r.point is not None}
    ends = [p for p in link.points if p not in link.ports]
    taken = [r.address for r in told.reserved]
    try:
        addresses = {p: given[p] for p in link.points if p in given}
        if link.kind is LinkKind.LINE:
            addresses |= pick_hosts(prefix, (), taken, [p for p in ends if p not in given], before)
        gateway = next((r.address for r in told.reserved if r.role is AddressRole.GATEWAY), None)
        if gateway is not None and link.kind is LinkKind.LINE and len(link.ports) == 1:
            addresses.setdefault(link.ports[0], gateway)
        left = [p for p in link.ports if p not in addresses]
        addresses |= pick_hosts(prefix, told.hosts, [*taken, *addresses.values()], left, before)
    except PrefixTooSmall as error:
        raise CannotAddress(
            Reason(code=ReasonCode.ADDRESS_EXHAUSTED, message=f"link {link.id!r}: {error}", subject=link.id)
        ) from None
    return addresses


def _macs(link: VirtualLink) -> dict[str, MacSet]:
    """A part of the link's pool for each of its ports."""
    pool, ports = link.addressing.macs, link.ports
    if pool is None:
        return {}
    if pool.size < len(ports):
        message = f"link {link.id!r}: {pool.size} hardware addresses are too few for {len(ports)} ports"
        raise CannotAddress(Reason(code=ReasonCode.ADDRESS_EXHAUSTED, message=message, subject=link.id))
    return dict(zip(ports, pool.parts(len(ports)), strict=True))
