"""What a healing leaves as it is: the service as it was delivered, asked for once more; and what of it still serves. Pure.

Rules kept here
- Its owner's labels, every prefix and every address that was chosen is required again. Hardware addresses are taken from the same
  part of the same pool.
- A live segment serves on where what its supplier chose keeps all that would be asked of it now, in whatever words it was asked.
- Where a segment was lost, its interconnects get other labels: whoever was lost may still use the old ones.
"""

from __future__ import annotations

from dataclasses import replace

from address_planner.labels import NO_LABEL, LabelSet
from broker.decompose.plan import Snapshot
from broker.orders.gather import violation
from broker.orders.records import Order, Segment
from broker.orders.split import Had
from service_model.families import FIXED_PORTS
from service_model.outcomes import LinkChoice
from service_model.spec import (
    AddressRole,
    Blocks,
    LinkAddressing,
    ReservedAddress,
    ServiceSpec,
    VirtualLink,
    split_point,
)


def anchored(order: Order, spec: ServiceSpec, live: Order, snapshot: Snapshot) -> ServiceSpec:
    """`spec`, the live version's, with all that was chosen for that as its constraint."""
    choice = live.choice
    assert choice is not None, "what is live was chosen"
    told = {f.id: f.parameters for s in live.segments if s.wanted for f in s.spec.functions}
    fixed = _fixing(order, snapshot)
    return replace(
        spec,
        ends=tuple(
            replace(end, labels=LabelSet.of([label]), suggested_label=label)
            if (label := choice.labels.get(end.id)) is not None
            else end
            for end in spec.ends
        ),
        functions=tuple(replace(f, parameters=told.get(f.id, f.parameters)) for f in spec.functions),
        links=tuple(_as_chosen(link, known, fixed) if (known := choice.link(link.id)) else link for link in spec.links),
    )


def _fixing(order: Order, snapshot: Snapshot) -> frozenset[str]:
    """The functions whose suppliers, by the plan, can be told the address of a port."""
    features = {view.alias: view.note.api_features for view in snapshot.suppliers}
    segments = order.plan.segments if order.plan is not None else ()
    return frozenset(f for s in segments if FIXED_PORTS in features.get(s.alias, ()) for f in s.functions)


def _as_chosen(link: VirtualLink, known: LinkChoice, fixed: frozenset[str]) -> VirtualLink:
    if not link.ports or not known.prefixes:
        return link
    said = link.addressing
    stated = {(r.point, r.address.version) for r in said.reserved}
    chosen = tuple(
        ReservedAddress(role=AddressRole.PEER, address=address, point=point)
        for stack in known.stacks
        for point, address in stack.addresses.items()
        if point in link.points and (point, address.version) not in stated
        if not split_point(point)[1] or split_point(point)[0] in fixed
    )
    first, second = (*known.prefixes, None)[:2]
    addressing = replace(said, prefix=first, second_prefix=second, reserved=(*said.reserved, *chosen))
    return replace(link, addressing=addressing)


def had(live: Order, healing: Order) -> Had:
    """What of the live version is to stay."""
    mine = [s for s in live.segments if s.wanted and s.choice is not None]
    stays = {s.key for s in mine} & {s.key for s in healing.segments if s.stands and s.ref not in healing.lost}
    chosen = {(s.key, end): label for s in mine if s.choice for end, label in s.choice.labels.items()}
    left: dict[str, LabelSet] = {}
    for item in live.classes:
        if all(m.segment in stays for m in item.members):
            continue
        used = LabelSet.of(chosen[m.segment, m.end] for m in item.members if (m.segment, m.end) in chosen)
        for id in item.interconnects:
            left[id] = left.get(id, NO_LABEL) | used
    labels = {at: label for at, label in chosen.items() if at[0] in stays}
    return Had(links=live.links, labels=labels, left=left)


def serves(live: Segment, wanted: ServiceSpec) -> bool:
    """Whether a live segment does what is asked for now."""
    if live.choice is None or _asked(live.spec) != _asked(wanted) or violation(wanted, live.choice) is not None:
        return False
    limits = [(wanted.max_delay_us, live.delay_us)]
    limits += [(p.max_delay_us, live.path_delays_us.get(p.id, live.delay_us)) for p in wanted.paths]
    if any(most is not None and us > most for most, us in limits):
        return False
    before, now = live.spec.min_availability, wanted.min_availability
    return now is None or (before is not None and before >= now)


def _asked(spec: ServiceSpec) -> ServiceSpec:
    """What is asked for without how it is addressed, and without the bounds that are compared by what was promised."""
    return replace(
        spec,
        name="asked",
        ends=tuple(replace(end, labels=None, suggested_label=None) for end in spec.ends),
        links=tuple(replace(link, addressing=LinkAddressing(macs=link.addressing.macs)) for link in spec.links),
        paths=tuple(replace(path, max_delay_us=None) for path in spec.paths),
        blocks=Blocks(),
        max_delay_us=None,
        min_availability=None,
        required_features=(),
    )
