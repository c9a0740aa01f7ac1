"""What a hold takes of its domain: added when it is taken, subtracted when it is given back, one record at a time.

Rules kept here
- The versions of one hold share what they take: of a way, a SAP and a host, at each moment, the most that one of them needs
  then; of labels each once. So a newer version counts what the live one has as its own.
- Each takes what it needs from the start to the end of its service, whatever its state is by then: what is not over in time
  is waited for by who builds (`LocalVim`), and stands in nobody's way before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import pairwise
from operator import or_

from address_planner.labels import UNTAGGED
from lower_sp_clients.vim.calendar import Calendar
from lower_sp_clients.vim.domain import Domain, Key, Usage
from lower_sp_clients.vim.holds import Allocation, AllocationState, Hold
from service_model.outcomes import ServiceState
from service_model.spec import LinkKind, ServiceSpec
from service_model.window import Window

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


Taken = Counter[Key]
"""What is taken of each resource: bit/s of ways and SAPs, units of hosts."""


def passes(spec: ServiceSpec) -> Counter[str]:
    """How often what has bandwidth passes each SAP that the service has an end at: its LINEs, twice where it enters and leaves
    there; where it has no path, its LANs, once each."""
    saps = {end.id: end.sap for end in spec.ends}
    if spec.paths:
        lines = (link.points for link in spec.links if link.kind is LinkKind.LINE)
        return Counter(saps[point] for points in lines for point in points if point in saps)
    lans = ({saps[point] for point in link.points if point in saps} for link in spec.links)
    return Counter(sap for met in lans for sap in met)


def window(hold: Hold) -> Window:
    """From when to when the version takes anything."""
    return Window() if hold.spec is None else Window.of(hold.spec.start_time, hold.spec.end_time)


def taken(hold: Hold) -> Iterator[tuple[Window, Taken]]:
    """What the hold takes, window by window, none of which overlaps another; nothing of versions in no state of TAKES."""
    versions = [(window(v), _needs(v)) for v in _taking(hold)]
    if len(versions) == 1:
        yield versions[0]
        return
    moments = sorted({moment for at, _ in versions for moment in (at.start, at.end)})
    for between in (Window(start, end) for start, end in pairwise(moments)):
        out = Taken()
        for _, needs in (v for v in versions if v[0].covers(between)):
            out |= needs
        yield between, out


def taken_labels(hold: Hold) -> dict[tuple[str, int], AllocationState]:
    """The labels of all versions by SAP, each LIVE or HELD."""
    out: dict[tuple[str, int], AllocationState] = {}
    for version in _taking(hold):
        assert version.spec is not None
        assert version.choice is not None
        saps = {end.id: end.sap for end in version.spec.ends}
        state = AllocationState.HELD if version.state is ServiceState.RESERVED else AllocationState.LIVE
        for end, label in version.choice.labels.items():
            out.setdefault((saps[end], label), state)  # older versions come first, and what is live stays so
    return out


def _taking(hold: Hold) -> list[Hold]:
    return [v for v in hold.versions() if v.state in TAKES and v.spec is not None and v.choice is not None]


def _needs(version: Hold) -> Taken:
    assert version.spec is not None
    times = Counter((*version.ways, *passes(version.spec).elements()))
    out = Taken({key: n * version.spec.bandwidth_bps for key, n in times.items()})
    for function, host in version.hosts.items():
        out[host] += version.units.get(function, 0)
    return out


def count(calendar: Calendar, hold: Hold | None, sign: int) -> None:
    """Add (`sign` 1) or subtract (-1) what `hold` takes."""
    if hold is None:
        return
    for within, took in taken(hold):
        calendar.take(within, {key: sign * amount for key, amount in took.items()})
    for (sap, label), state in taken_labels(hold).items():
        owners, held = calendar.labels.setdefault(sap, {}), calendar.held_labels.setdefault(sap, set())
        if sign > 0:
            owners[label] = hold.ref
            if state is AllocationState.HELD:
                held.add(label)
        elif owners.get(label) == hold.ref:
            del owners[label]
            held.discard(label)


def fits_beside(domain: Domain, usage: Usage, hold: Hold, late: Iterable[Hold]) -> bool:
    """Whether the hold, which is in `usage`, has all that it takes while these have still theirs, which are not."""
    sizes = domain.sizes()
    left = sum((_most(each) for each in late), Taken())
    return all(usage.of(key) + left[key] <= sizes.get(key, 0) for key in _most(hold) if left[key])


def _most(hold: Hold) -> Taken:
    """What it takes at any time."""
    return reduce(or_, (took for _, took in taken(hold)), Taken())


def rest(calendar: Calendar, allocation: Allocation, sign: int) -> None:
    """The same for a label in quarantine."""
    held = calendar.labels.setdefault(allocation.pool.partition("/")[2], {})
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
        for (sap, label), state in taken_labels(hold).items()
    )
    return {(a.pool, a.value): a for a in made}


def rests(allocation: Allocation) -> bool:
    """Whether a label needs quarantine: not the untagged one, which is the port itself and meets no late packet."""
    return int(allocation.value) != UNTAGGED
