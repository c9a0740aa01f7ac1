"""What a hold takes of its domain: added when it is taken, subtracted when it is given back, one record at a time.

Rules kept here
- The versions of one hold share what they take: of a way, a SAP and a host the most that one of them needs, of labels each
  once. So a newer version counts what the live one has as its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from address_planner.labels import UNTAGGED
from lower_sp_clients.vim.domain import Usage
from lower_sp_clients.vim.holds import Allocation, AllocationState, Hold
from service_model.outcomes import ServiceState
from service_model.spec import LinkKind, ServiceSpec

BUILT = frozenset(
    {
        ServiceState.ACTIVATING,
        ServiceState.ACTIVE,
        ServiceState.DEGRADED,
        ServiceState.FAILED,
        ServiceState.TERMINATING,
    }
)
"""The states in which the infrastructure has, or may have, anything of it."""
TAKES = BUILT | {ServiceState.RESERVED}
"""The states in which a hold uses anything."""


@dataclass(slots=True)
class Taken:
    """What all versions of a hold take: bit/s by way or SAP, units by (place, host), and by SAP the labels, each LIVE or HELD."""

    bandwidth: Counter[str] = field(default_factory=Counter)
    units: Counter[tuple[str, int]] = field(default_factory=Counter)
    labels: dict[tuple[str, int], AllocationState] = field(default_factory=dict)


def passes(spec: ServiceSpec) -> Counter[str]:
    """How often what has bandwidth passes each SAP that the service has an end at: its LINEs, twice where it enters and leaves
    there; where it has no path, its LANs, once each."""
    saps = {end.id: end.sap for end in spec.ends}
    if spec.paths:
        lines = (link.points for link in spec.links if link.kind is LinkKind.LINE)
        return Counter(saps[point] for points in lines for point in points if point in saps)
    lans = ({saps[point] for point in link.points if point in saps} for link in spec.links)
    return Counter(sap for met in lans for sap in met)


def taken(hold: Hold) -> Taken:
    """What the hold takes; nothing of versions in no state of TAKES."""
    out = Taken()
    for version in hold.versions():
        if version.state not in TAKES or version.spec is None or version.choice is None:
            continue
        bps, units = version.spec.bandwidth_bps, Counter[tuple[str, int]]()
        keys = Counter((*version.ways, *passes(version.spec).elements()))
        for function, host in version.hosts.items():
            units[host] += version.units.get(function, 0)
        out.bandwidth |= Counter({key: times * bps for key, times in keys.items()})
        out.units |= units
        saps = {end.id: end.sap for end in version.spec.ends}
        state = AllocationState.HELD if version.state is ServiceState.RESERVED else AllocationState.LIVE
        for end, label in version.choice.labels.items():
            out.labels.setdefault((saps[end], label), state)  # older versions come first, and what is live stays so
    return out


def count(usage: Usage, hold: Hold | None, sign: int) -> None:
    """Add (`sign` 1) or subtract (-1) what `hold` takes."""
    if hold is None:
        return
    took = taken(hold)
    for key, bps in took.bandwidth.items():
        usage.bandwidth[key] = usage.bandwidth.get(key, 0) + sign * bps
    for host, units in took.units.items():
        usage.units[host] = usage.units.get(host, 0) + sign * units
    for (sap, label), state in took.labels.items():
        owners, held = usage.labels.setdefault(sap, {}), usage.held_labels.setdefault(sap, set())
        if sign > 0:
            owners[label] = hold.ref
            if state is AllocationState.HELD:
                held.add(label)
        elif owners.get(label) == hold.ref:
            del owners[label]
            held.discard(label)


def rest(usage: Usage, allocation: Allocation, sign: int) -> None:
    """The same for a label in quarantine."""
    held = usage.labels.setdefault(allocation.pool.partition("/")[2], {})
    if sign > 0:
        held[int(allocation.value)] = allocation.owner
    elif held.get(int(allocation.value)) == allocation.owner:
        del held[int(allocation.value)]


def labels(domain: str, hold: Hold | None) -> dict[tuple[str, str], Allocation]:
    """The allocations of a hold's labels, as they are recorded, by pool and value: HELD until it is committed, then LIVE."""
    if hold is None:
        return {}
    made = (
        Allocation(pool=f"{domain}/{sap}", value=str(label), owner=hold.ref, state=state)
        for (sap, label), state in taken(hold).labels.items()
    )
    return {(a.pool, a.value): a for a in made}


def rests(allocation: Allocation) -> bool:
    """Whether a label needs quarantine: not the untagged one, which is the port itself and meets no late packet."""
    return int(allocation.value) != UNTAGGED
