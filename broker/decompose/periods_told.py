"""The periods of our note, made from those of our suppliers' notes. Pure.

Rules kept here
- Looked at are the moments at which most suppliers' periods begin or end, at most MOST, and the windows between these. What is
  told of a window is what our ways, places and SAPs have with each supplier's note as it is for that window.
- Each way is one route, in every period the same. What is worth telling in some period alone is told besides, guarded: always,
  little or nothing may be free on it.
- So what is told of a period can be delivered then just as what is always told can be: who plans a request within the period sees
  what was seen here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from address_planner.labels import LabelSet
from broker.decompose.graph import Graph
from broker.decompose.shares import enough
from broker.decompose.timely import Choice
from broker.decompose.told_ways import Joint, Told, Ways
from capability_registry.front import Draws, shortened
from capability_registry.label_pools import LabelPools
from capability_registry.note import CapabilityNote, Period, PlaceCapacity, PointKind, SharedLimit
from capability_registry.periods import MOST, lasting, telling, window_of, windows
from service_model.window import BEGINNING, NEVER, Window


def told_windows(
    notes: Iterable[CapabilityNote], now: datetime, choice: Callable[[Window], Choice]
) -> list[tuple[Window, Choice]]:
    """The windows to tell of, the widest first, and which period of each note counts there. `choice`: for a window."""
    within = [window_of(period) for note in notes for period in note.periods]
    times = Counter(at for w in within for at in {w.start, w.end} - {BEGINNING, NEVER} if at > now)
    moments = sorted(times, key=lambda at: (-times[at], at))[:MOST]
    return telling(windows(moments), lambda window: choice(window.since(now)), choice(Window(start=now)))


def with_others(graph: Graph, ways: Ways, periods: Iterable[Ways]) -> Ways:
    """The ways, and those that only periods have, with what they have in `graph`, which is of always."""
    out = {pair: list(found) for pair, found in ways.items()}
    for other in periods:
        for pair, found in other.items():
            known = out.setdefault(pair, [])
            for told in found:
                if all(told.route != before.route for before in known):
                    number = f"g{sum(before.guarded for before in known)}"
                    way = replace(told.way, bandwidth_bps=Drawn.on(graph, told).bandwidth_bps)
                    known.append(replace(told, kind=PointKind.BETWEEN, way=way, number=number, guarded=True))
    return out


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a flow along a way draws on in one graph, how often, and what there is of it: bit/s, and of pools of labels, how
    many. `bandwidth_bps`: what the way carries."""

    draws: Mapping[str, float]
    has: Mapping[str, int]
    labels: Mapping[str, int]
    bandwidth_bps: int

    @classmethod
    def on(cls, graph: Graph, told: Told) -> Drawn:
        """Of a way that was found in this graph, or in one of the same shape."""
        draws, has, labels = Counter[str](), dict[str, int](), dict[str, int]()
        for passage in told.way.passages:
            name = f"way {passage.way.number}"
            draws[name] += 1
            has[name] = graph.between(passage.way.number).point.bandwidth_bps
            if (crossing := passage.crossing) is not None:
                name = _joint(crossing.id)
                draws[name] += 1
                has[name] = min(graph.sap_offer(i).bandwidth_bps for i in (crossing.source, crossing.target))
        bandwidth = min(has[name] // times for name, times in draws.items())
        limits: dict[str, float] = {}
        for passage in told.way.passages:
            for number, times in graph.limits(passage.way.number):
                limit, name = graph.limit(number), f"limit {number}"
                limits[name] = limits.get(name, 0.0) + times
                has[name] = limit.limit_bps
                if limit.labels:
                    labels[name] = limit.labels
        if graph.sold_twice and not enough(graph, told.way.passages, bandwidth):
            bandwidth = 0
        return cls({**draws, **limits}, has, labels, bandwidth)


def limits_in(
    graph: Graph, ways: Ways, joints: Mapping[str, Joint], free: Mapping[str, LabelSet]
) -> tuple[SharedLimit, ...]:
    """What the ways share in a graph. `joints`: by the name of a SAP where we hand over; `free`: its labels."""
    draws, pools, has = Draws(), LabelPools(), dict[str, int]()
    for (a, b), found in ways.items():
        for told in _each(found):
            key, drawn = f"{a}|{b}#{told.number}", Drawn.on(graph, told)
            ended = {joints[sap].interconnect for sap in (a, b) if sap in joints}
            has |= drawn.has
            has |= {_joint(id): min(side.bandwidth_bps for side in graph.labels_of[id][:2]) for id in ended}
            draws.add(key, drawn.bandwidth_bps, {**drawn.draws, **{_joint(id): 1.0 for id in ended}})
            for joint, labels, tied in told.way.classes:
                pools.takes(key, joint, labels, tied)
            for sap, labels in zip((a, b), told.labels, strict=True):
                if labels:
                    pools.takes(key, f"at {sap}", labels)
                if sap in joints:
                    pools.takes(key, joints[sap].interconnect, labels or free[sap], True)
            for name, left in drawn.labels.items():
                pools.draws(key, name, drawn.draws[name], left)
    entries = {f"{a}|{b}": {f"{a}|{b}#{t.number}" for t in _each(found)} for (a, b), found in ways.items()}
    return shortened(draws.limits(has) + pools.limits(), entries)


def _joint(interconnect: str) -> str:
    return f"joint {interconnect}"


def _each(found: Sequence[Told]) -> Iterable[Told]:
    """Each route once, as the first that has it."""
    return {told.route: told for told in reversed(found)}.values()


def period(
    window: Window,
    always: Graph,
    then: Graph,
    ways: Ways,
    saps: Mapping[str, int],
    places: Mapping[str, int],
    joints: Mapping[str, Joint],
    free: Mapping[str, LabelSet],
) -> Period:
    """What is otherwise in a window. `saps`, `places`: by the names that are announced, their numbers; the others as in
    `limits_in`."""
    bandwidths = {
        f"{a}|{b}#{told.number}": (told.way.bandwidth_bps, Drawn.on(then, told).bandwidth_bps)
        for (a, b), found in ways.items()
        for told in found
    }
    bins = {place: (always.here(n).capacity.bins, then.here(n).capacity.bins) for place, n in places.items()}
    rates = {name: (always.sap_offer(i).bandwidth_bps, then.sap_offer(i).bandwidth_bps) for name, i in saps.items()}
    return lasting(
        window,
        Period(
            capacities=tuple(PlaceCapacity(place=p, bins=more) for p, (least, more) in bins.items() if more != least),
            saps={name: more for name, (least, more) in rates.items() if more != least},
            ways={key: more for key, (least, more) in bandwidths.items() if more != least},
            shared=limits_in(then, ways, joints, free),
        ),
    )
