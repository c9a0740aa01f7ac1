"""What a hold takes of its domain: added when it is taken, subtracted when it is given back, one hold at a time."""

from __future__ import annotations

from collections import Counter

from address_planner.labels import UNTAGGED
from lower_sp_clients.vim.domain import Usage
from lower_sp_clients.vim.holds import Allocation, AllocationState, Hold
from service_model.outcomes import ServiceState
from service_model.spec import LinkKind, ServiceSpec

TAKES = frozenset(
    {ServiceState.RESERVED, ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.FAILED, ServiceState.TERMINATING}
)
"""The states in which a hold uses anything."""


def passes(spec: ServiceSpec) -> Counter[str]:
    """How often LINEs pass each SAP that the service has an end at: twice where it enters and leaves there."""
    saps = {end.id: end.sap for end in spec.ends}
    lines = (link.points for link in spec.links if link.kind is LinkKind.LINE)
    through = Counter(saps[point] for points in lines for point in points if point in saps)
    return Counter({sap: max(1, through[sap]) for sap in saps.values()})


def count(usage: Usage, hold: Hold | None, sign: int) -> None:
    """Add (`sign` 1) or subtract (-1) what `hold` takes; a hold in no state of TAKES takes nothing."""
    if hold is None or hold.state not in TAKES or hold.spec is None or hold.choice is None:
        return
    saps = {end.id: end.sap for end in hold.spec.ends}
    for key in (*hold.ways, *passes(hold.spec).elements()):
        usage.bandwidth[key] = usage.bandwidth.get(key, 0) + sign * hold.spec.bandwidth_bps
    for function, (place, host) in hold.hosts.items():
        usage.units[place, host] = usage.units.get((place, host), 0) + sign * hold.units.get(function, 0)
    for end, label in hold.choice.labels.items():
        taken, held = usage.labels.setdefault(saps[end], {}), usage.held_labels.setdefault(saps[end], set())
        if sign > 0:
            taken[label] = hold.ref
            if hold.state is ServiceState.RESERVED:
                held.add(label)
        elif taken.get(label) == hold.ref:
            del taken[label]
            held.discard(label)


def rest(usage: Usage, allocation: Allocation, sign: int) -> None:
    """The same for a label in quarantine."""
    held = usage.labels.setdefault(allocation.pool.partition("/")[2], {})
    if sign > 0:
        held[int(allocation.value)] = allocation.owner
    elif held.get(int(allocation.value)) == allocation.owner:
        del held[int(allocation.value)]


def labels(domain: str, hold: Hold) -> list[Allocation]:
    """The allocations of a hold's labels, as they are recorded: HELD until it is committed, then LIVE."""
    if hold.spec is None or hold.choice is None:
        return []
    saps = {end.id: end.sap for end in hold.spec.ends}
    state = AllocationState.HELD if hold.state is ServiceState.RESERVED else AllocationState.LIVE
    return [
        Allocation(pool=f"{domain}/{saps[end]}", value=str(label), owner=hold.ref, state=state)
        for end, label in hold.choice.labels.items()
    ]


def rests(allocation: Allocation) -> bool:
    """Whether a label needs quarantine: not the untagged one, which is the port itself and meets no late packet."""
    return int(allocation.value) != UNTAGGED
