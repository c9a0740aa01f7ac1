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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from address_planner.labels import LabelSet
from broker.decompose.drawn import Stock
from broker.decompose.graph import Graph
from broker.decompose.timely import Choice
from broker.decompose.told_ways import Joint, Ways
from capability_registry.note import CapabilityNote, Period, PlaceCapacity, PointKind
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
    out, stock = {pair: list(found) for pair, found in ways.items()}, Stock(graph)
    for other in periods:
        for pair, found in other.items():
            known = out.setdefault(pair, [])
            for told in found:
                if all(told.route != before.route for before in known):
                    number = f"g{sum(before.guarded for before in known)}"
                    way = replace(told.way, bandwidth_bps=stock.drawn(told).bandwidth_bps)
                    known.append(replace(told, kind=PointKind.BETWEEN, way=way, number=number, guarded=True))
    return out


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
    `Stock.limits`."""
    stock = Stock(then)
    bandwidths = {
        f"{a}|{b}#{told.number}": (told.way.bandwidth_bps, stock.drawn(told).bandwidth_bps)
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
            shared=stock.limits(ways, joints, free),
        ),
    )
