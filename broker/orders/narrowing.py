"""Whether what is handed down is narrower than what was asked of us: checked at every composition, at every level.

Rules kept here
- `constraint_of` says what a spec admits, as a value of `address_planner.constraints`.
- A family is judged by itself: of one that a link has not, no prefix is admitted there.
- Of a segment, a section of a LINE admits no more than the LINE, an end of the service no more than that end, a port no more than
  that port. Its own ends and what lies only within it are bounded by the blocks that it was given.
- Two sections of one LINE in one segment are one adjacency there.
- An end of the service bears the path header that we were told there, and no other.
- A segment that is wider is a fault of ours and is not handed down: the order is refused, and nobody below has seen it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from address_planner.adjacencies import Adjacencies
from address_planner.constraints import Constraint, EndConstraint, LinkConstraint, PortConstraint
from address_planner.labels import ANY_LABEL
from address_planner.macs import ANY_MAC
from address_planner.prefix_sets import EVERYWHERE, NOWHERE, PrefixSet
from broker.orders.split import HandedDown
from service_model.families import BOTH
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import AddressRole, LinkKind, ServiceSpec, VirtualLink

ALL_OF = {4: PrefixSet(v4=EVERYWHERE.v4), 6: PrefixSet(v6=EVERYWHERE.v6)}
"""Every address of an IP version."""


def constraint_of(spec: ServiceSpec) -> Constraint:
    """Prefixes and hosts of the links that have ports on them, by `link_key` of each family, their least MTU (bytes), the
    labels of the ends, what each port may take, and which links are one."""
    blocks = PrefixSet.of(spec.blocks.allowed) if spec.blocks.allowed else EVERYWHERE
    behind = (network for end in spec.ends for network in end.networks)
    required = (prefix for link in spec.links for prefix in link.addressing.prefixes)
    versions = spec.link_versions()
    open_to_all = blocks - PrefixSet.of((*spec.blocks.excluded, *behind, *required))
    absent = LinkConstraint(allowed=NOWHERE, min_mtu=spec.min_mtu)
    return Constraint(
        links={
            link_key(link.id, version): _of_link(
                link, open_to_all if version in (versions[link.id] or BOTH) else NOWHERE, spec.min_mtu, version
            )
            if version in (versions[link.id] or BOTH) or any(p.version == version for p in link.addressing.prefixes)
            else absent
            for link in spec.links
            for version in BOTH
            if link.ports
        },
        ends={end.id: EndConstraint(labels=ANY_LABEL if end.labels is None else end.labels) for end in spec.ends},
        ports=dict(_of_ports(spec)),
        adjacencies=adjacencies_of(spec),
    )


def link_key(link: str, version: int) -> str:
    """What a link's constraint for one IP version stands under: `/` is in no name."""
    return f"{link}/IPv{version}"


def adjacencies_of(spec: ServiceSpec) -> Adjacencies:
    """LINEs that were given one prefix are parts of one whose middle is elsewhere."""
    alike: dict[object, list[str]] = defaultdict(list)
    for link in spec.links:
        if link.kind is LinkKind.LINE:
            for prefix in link.addressing.prefixes:
                alike[prefix].append(link.id)
    return Adjacencies.of(alike.values())


def _of_link(link: VirtualLink, blocks: PrefixSet, min_mtu: int, version: int) -> LinkConstraint:
    told = link.addressing.of(version)
    own = {r.address for r in told.reserved if r.role is AddressRole.GATEWAY or r.point in link.ports}
    taken = PrefixSet.of(r.address for r in told.reserved if r.address not in own)
    hosts = (PrefixSet.of(told.hosts) if told.hosts else EVERYWHERE) - taken
    allowed = EVERYWHERE if told.prefix is not None else blocks
    return LinkConstraint(required=told.prefix, allowed=allowed, hosts=hosts, min_mtu=min_mtu)


def _of_ports(spec: ServiceSpec) -> Iterator[tuple[str, PortConstraint]]:
    for link in spec.links:
        macs = ANY_MAC if link.addressing.macs is None else link.addressing.macs
        for port in link.ports:
            addresses = _of_port(link, port, 4) | _of_port(link, port, 6)
            yield port, PortConstraint(addresses=addresses, macs=macs)


def _of_port(link: VirtualLink, port: str, version: int) -> PrefixSet:
    """The address that is stated for a port, else what is left to its supplier."""
    told = link.addressing.of(version)
    stated = [r.address for r in told.reserved if r.point == port]
    if link.kind is LinkKind.LINE and len(link.ports) == 1:
        stated += [r.address for r in told.reserved if r.role is AddressRole.GATEWAY]
    if stated:
        return PrefixSet.of(stated[:1])
    hosts = PrefixSet.of(told.hosts) if told.hosts else ALL_OF[version]
    return hosts - PrefixSet.of(r.address for r in told.reserved)


def widened(spec: ServiceSpec, part: HandedDown) -> Reason | None:
    """Where the segment admits what the service does not; None where it is narrower everywhere."""
    return wider_than(constraint_of(spec), spec, part)


def wider_than(above: Constraint, spec: ServiceSpec, part: HandedDown) -> Reason | None:
    """The same, of a service whose constraint is known."""
    below = constraint_of(part.spec)
    links = (
        (link_key(part.lines.get(link.id, link.id), version), below.links[link_key(link.id, version)])
        for link in part.spec.links  # a LINE may come by twice
        for version in BOTH
        if link.ports
    )
    told = [
        *(Constraint(links={id: link}) for id, link in links),
        *(Constraint(ends={id: end}) for id, end in below.ends.items()),
        *(Constraint(ports={id: port}) for id, port in below.ports.items()),
    ]
    wider = next((id for one in told for id in one.wider(above.of(one))), None)
    wider = wider or _parted(part, below) or _another_header(spec, part.spec)
    if wider is None:
        return None
    return Reason(
        code=ReasonCode.CONSTRAINT_VIOLATED,
        message=f"what would be handed down of {wider!r} is wider than what was asked",
        subject=wider,
    )


def _another_header(spec: ServiceSpec, part: ServiceSpec) -> str | None:
    own = {end.id: end.path_header for end in spec.ends}
    return next((end.id for end in part.ends if end.id in own and end.path_header != own[end.id]), None)


def _parted(part: HandedDown, below: Constraint) -> str | None:
    """A section of a LINE that could get another prefix than a further section of it."""
    with_ports = [link.id for link in part.spec.links if link.ports]
    return next(
        (
            b
            for a, b in combinations(with_ports, 2)
            if part.lines.get(a, a) == part.lines.get(b, b) and not below.adjacencies.one(a, b)
        ),
        None,
    )
