"""Whether what is handed down is narrower than what was asked of us: checked at every composition, at every level.

Rules kept here
- `constraint_of` says what a spec admits, as a value of `address_planner.constraints`.
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
from address_planner.prefix_sets import EVERYWHERE, PrefixSet
from broker.orders.split import HandedDown
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import AddressRole, LinkKind, ServiceSpec, VirtualLink, split_point


def constraint_of(spec: ServiceSpec) -> Constraint:
    """Prefixes and hosts of the links that have ports on them, their least MTU (bytes), the labels of the ends, what each
    port may take, and which links are one."""
    blocks = PrefixSet.of(spec.blocks.allowed) if spec.blocks.allowed else EVERYWHERE
    behind = (network for end in spec.ends for network in end.networks)
    required = (link.addressing.prefix for link in spec.links if link.addressing.prefix is not None)
    open_to_all = blocks - PrefixSet.of((*spec.blocks.excluded, *behind, *required))
    return Constraint(
        links={
            link.id: _of_link(link, open_to_all, spec.min_mtu)
            for link in spec.links
            if any(split_point(p)[1] for p in link.points)
        },
        ends={end.id: EndConstraint(labels=ANY_LABEL if end.labels is None else end.labels) for end in spec.ends},
        ports=dict(_of_ports(spec)),
        adjacencies=adjacencies_of(spec),
    )


def adjacencies_of(spec: ServiceSpec) -> Adjacencies:
    """LINEs that were given one prefix are parts of one whose middle is elsewhere."""
    alike: dict[object, list[str]] = defaultdict(list)
    for link in spec.links:
        if link.kind is LinkKind.LINE and link.addressing.prefix is not None:
            alike[link.addressing.prefix].append(link.id)
    return Adjacencies.of(alike.values())


def _of_link(link: VirtualLink, blocks: PrefixSet, min_mtu: int) -> LinkConstraint:
    told = link.addressing
    taken = PrefixSet.of(r.address for r in told.reserved if r.role is not AddressRole.GATEWAY)
    hosts = (PrefixSet.of(told.hosts) if told.hosts else EVERYWHERE) - taken
    allowed = EVERYWHERE if told.prefix is not None else blocks
    return LinkConstraint(required=told.prefix, allowed=allowed, hosts=hosts, min_mtu=min_mtu)


def _of_ports(spec: ServiceSpec) -> Iterator[tuple[str, PortConstraint]]:
    for link in spec.links:
        told, ports = link.addressing, [p for p in link.points if split_point(p)[1]]
        gateways = [r.address for r in told.reserved if r.role is AddressRole.GATEWAY]
        macs = ANY_MAC if told.macs is None else told.macs
        if gateways and link.kind is LinkKind.LINE and len(ports) == 1:
            yield ports[0], PortConstraint(addresses=PrefixSet.of(gateways[:1]), macs=macs)
            continue
        hosts = PrefixSet.of(told.hosts) if told.hosts else EVERYWHERE
        addresses = hosts - PrefixSet.of(r.address for r in told.reserved)
        yield from ((port, PortConstraint(addresses=addresses, macs=macs)) for port in ports)


def widened(spec: ServiceSpec, part: HandedDown) -> Reason | None:
    """Where the segment admits what the service does not; None where it is narrower everywhere."""
    return wider_than(constraint_of(spec), spec, part)


def wider_than(above: Constraint, spec: ServiceSpec, part: HandedDown) -> Reason | None:
    """The same, of a service whose constraint is known."""
    below = constraint_of(part.spec)
    links = ((part.lines.get(id, id), link) for id, link in below.links.items())  # a LINE may come by twice
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
    return next(
        (
            b
            for a, b in combinations(below.links, 2)
            if part.lines.get(a, a) == part.lines.get(b, b) and not below.adjacencies.one(a, b)
        ),
        None,
    )
