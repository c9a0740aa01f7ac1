"""Routes through an own domain: sequences of its ways between two of its points.

Rules kept here
- A SAP is a border, not a way through.
- Kept are the routes that no other beats (`capability_registry.front`): for a note by every figure that it tells, for one
  segment by price over its term, delay, and which *contested* ways they take: those that have not room for as many flows as
  the segment may send over them.
- At each point at most WIDTH routes are followed, the cheapest, and beside them the fastest.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from capability_registry.front import Candidate, announced
from capability_registry.note import PointKind
from lower_sp_clients.vim.domain import Domain, Usage, Way
from service_model.money import FREE, Price

TERM_HOURS = 720
"""Routes are compared by their price over one month (30 days) where no request says for how long."""
WIDTH = 32
_WIDE = 100_000_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Ways in order between two points, with their sums (price, delay) and minima (bandwidth that is free), the mechanisms
    that each of them offers, and the countries of all points passed (None: one of them does not tell its own)."""

    ways: tuple[Way, ...]
    price: Price
    delay_us: int
    bandwidth_bps: int
    availability: float
    isolation: frozenset[str]
    countries: frozenset[str] | None

    def candidate(self, hours: int) -> Candidate[Route]:
        return Candidate(
            way=self,
            cost=float(self.price.over(hours)),
            once=float(self.price.once),
            delay_us=self.delay_us,
            bandwidth_bps=self.bandwidth_bps,
            isolation=self.isolation,
            countries=self.countries,
        )


Beats = Callable[[Route, Route], bool]
"""Whether the first leaves nothing to gain from the second."""


class Routes:
    """The routes of a domain where `usage` is taken and only ways with `bandwidth_bps` free are used."""

    def __init__(self, domain: Domain, usage: Usage, bandwidth_bps: int = 0) -> None:
        self._free = {w.id: w.bandwidth_bps - usage.bandwidth.get(w.id, 0) for w in domain.ways}
        self._borders = {s.id for s in domain.saps}
        country: dict[str, str | None] = {p.id: p.country for p in domain.places}
        self._country = country | {s.id: country.get(s.place) for s in domain.saps}
        self._adjacent: dict[str, list[tuple[str, Way]]] = {}
        for way in domain.ways:
            if self._free[way.id] >= bandwidth_bps:
                self._adjacent.setdefault(way.a, []).append((way.b, way))
                self._adjacent.setdefault(way.b, []).append((way.a, way))
        points = [*(s.id for s in domain.saps), *(p.id for p in domain.places)]
        self._order = {id: n for n, id in enumerate(points)}
        self._unbeaten: dict[str, dict[str, list[Route]]] = {}

    def free(self, way: Way) -> int:
        """Bit/s."""
        return self._free[way.id]

    def announced(self, a: str, b: str) -> list[tuple[PointKind, Route]]:
        """What the note tells of the ways between two points, whichever is named first."""
        source, target = sorted((a, b), key=self._order.__getitem__)
        if source not in self._unbeaten:
            self._unbeaten[source] = self._search_all(source, TERM_HOURS, _beats_by_all)
        found = self._unbeaten[source].get(target, [])
        return announced(r.candidate(TERM_HOURS) for r in found)

    def joins(self, a: str, b: str) -> bool:
        return b in self._search(a, lambda r: (len(r.ways), 0), lambda x, y: True, 1)

    def for_segment(self, source: str, hours: int, contested: frozenset[str]) -> Mapping[str, list[Route]]:
        """From a point to each other what may be the best for a segment, the cheapest first."""

        def beats(x: Route, y: Route) -> bool:
            if x.price.over(hours) > y.price.over(hours) or x.delay_us > y.delay_us:
                return False
            return {w.id for w in x.ways} & contested <= {w.id for w in y.ways}

        return self._search_all(source, hours, beats)

    def _search_all(self, source: str, hours: int, beats: Beats) -> dict[str, list[Route]]:
        found = self._search(source, lambda r: (r.price.over(hours), r.delay_us), beats, WIDTH)
        fastest = self._search(source, lambda r: (r.delay_us, r.price.over(hours)), lambda x, y: True, 1)
        for target, (route,) in fastest.items():
            if not any(beats(known, route) for known in found[target]):
                found[target].append(route)
        return found

    def _search(
        self, source: str, key: Callable[[Route], tuple[Decimal | int, Decimal | int]], beats: Beats, width: int
    ) -> dict[str, list[Route]]:
        at = self._country.get(source)
        start = Route(
            ways=(),
            price=FREE,
            delay_us=0,
            bandwidth_bps=_WIDE,
            availability=1.0,
            isolation=frozenset().union(*(w.isolation for ways in self._adjacent.values() for _, w in ways)),
            countries=None if at is None else frozenset((at,)),
        )
        found: dict[str, list[Route]] = {}
        count = 0
        heap: list[tuple[Decimal | int, Decimal | int, int, int, str, Route]] = [(0, 0, 0, count, source, start)]
        while heap:
            *_, point, route = heapq.heappop(heap)
            known = found.setdefault(point, [])
            if len(known) >= width or any(beats(other, route) for other in known):
                continue
            known.append(route)
            if point in self._borders and point != source:
                continue
            for other, way in self._adjacent.get(point, ()):
                if other != source:
                    longer = self._longer(route, way, other)
                    count += 1
                    heapq.heappush(heap, (*key(longer), -longer.bandwidth_bps, count, other, longer))
        return found

    def _longer(self, route: Route, way: Way, to: str) -> Route:
        at = self._country.get(to)
        return Route(
            ways=(*route.ways, way),
            price=route.price + way.price if route.ways else way.price,
            delay_us=route.delay_us + way.delay_us,
            bandwidth_bps=min(route.bandwidth_bps, self._free[way.id]),
            availability=route.availability * way.availability,
            isolation=route.isolation.intersection(way.isolation),
            countries=None if at is None or route.countries is None else route.countries | {at},
        )


def _beats_by_all(x: Route, y: Route) -> bool:
    return x.candidate(TERM_HOURS).beats(y.candidate(TERM_HOURS))
