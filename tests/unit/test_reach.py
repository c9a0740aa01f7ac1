"""Ways that are followed from one snapshot to the next are those that a search from nothing finds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.decompose.graph import Graph
from broker.decompose.plan import SupplierView
from broker.decompose.reach import Known, Reach
from tests.support.changing import changed, rich_snapshot
from tests.support.planning import NOW

HOURS = 24


def closed(graph: Graph, now: datetime) -> frozenset[int]:
    return frozenset(
        s.index
        for s in graph.saps
        for o in graph.suppliers[s.supplier].note.outages
        if o.subject == s.offer.id and o.start <= now < o.end
    )


def found(reach: Reach, graph: Graph) -> Iterator[object]:
    """All that there is to know of the ways between exported points, in words that do not depend on the search."""
    points = [(i, graph.outward(i)) for i in sorted(graph.announced.values())]
    points += [(p.vertex, p.vertex) for p in graph.places]
    for i, (leave, _) in enumerate(points):
        there = reach.from_(leave, [arrive for _, arrive in points[i + 1 :]])
        for vertex, known in sorted(there.items()):
            ways = [
                (
                    kind,
                    [getattr(way, f) for f in FIELDS],
                    [step_of(s) for p in way.passages for s in (p.way, p.crossing) if s],
                )
                for kind, way in reach.announced(known)
            ]
            yield leave, vertex, [told(k) for k in known], ways


FIELDS = (
    "once", "hour", "delay_us", "bandwidth_bps", "mtu", "availability", "lan", "swaps_labels", "isolation", "countries",
    "classes", "near", "far",
)  # fmt: skip


def told(known: Known) -> object:
    walk = known.way
    figures = known.cost, known.delay_us, known.bandwidth_bps, known.mtu, known.lan, known.swaps_labels
    return (
        *figures,
        known.once,
        known.near,
        known.far,
        known.isolation,
        known.countries,
        walk.near,
        walk.far,
        [p.order for p in walk.passages],
    )


def step_of(step: object) -> object:
    return type(step).__name__, {n: getattr(step, n) for n in step.__slots__}  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), suppliers=st.integers(2, 7), steps=st.integers(1, 10))
def test_after_any_changes_the_ways_are_those_of_a_search_from_nothing(seed: int, suppliers: int, steps: int) -> None:
    rng, snapshot, now = random.Random(seed), rich_snapshot(seed, suppliers), NOW
    away: list[SupplierView] = []
    graph = Graph(snapshot)
    followed = Reach(graph, HOURS, closed(graph, now))
    assert list(found(followed, graph)) == list(found(Reach(graph, HOURS, closed(graph, now)), graph))
    for _ in range(steps):
        for _ in range(rng.choice((0, 1, 1, 1, 2, 5))):
            snapshot = changed(snapshot, rng, away)
        now += timedelta(minutes=rng.choice((0, 0, 1)))
        graph = Graph(snapshot, graph)
        followed.follow(graph, closed(graph, now))
        assert list(found(followed, graph)) == list(found(Reach(graph, HOURS, closed(graph, now)), graph))
