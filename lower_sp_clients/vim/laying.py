"""Which of a domain's ways each LINE of a segment takes. Pure.

Rules kept here
- A LINE is laid once, however many paths go along it, and every way has room for each LINE that passes it.
- The cheapest combination that keeps the bound of every path, every distance by delay and the availability of the whole, of
  the ways that are admitted (`placing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import prod

from lower_sp_clients.vim.domain import Domain, Usage
from lower_sp_clients.vim.placing import Impossible, Offers, admitted, no, not_then
from lower_sp_clients.vim.routing import WIDTH, Route, Routes
from service_model.constraints import Distance
from service_model.outcomes import ReasonCode
from service_model.spec import LinkKind, ServiceSpec, split_point

NINE_DIGITS = 1e-9
"""What is equal to so many is equal: whoever asks has formed the product in another order."""
_KEPT = 256
"""How many combinations of ways are carried on from LINE to LINE, the cheapest and the fastest among them."""
_Laid = tuple[Route | None, ...]
"""By number of the LINE; None: both its points are at one place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Laying:
    """The routes of all LINEs, and the delay of each path by its id, microseconds."""

    routes: tuple[Route, ...]
    delays_us: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """LINEs in a row, and the delay of the functions between them, microseconds."""

    lines: tuple[int, ...]
    functions_us: int

    def delay(self, laid: _Laid) -> int:
        """Of what is laid of it so far."""
        return self.functions_us + sum(r.delay_us for n in self.lines if n < len(laid) and (r := laid[n]) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """That a walk takes at most `limit` microseconds: of a path, or of the distance `distance` along it."""

    walk: _Walk
    limit: int
    path: str
    distance: Distance | None = None

    def broken(self, best: int) -> Impossible:
        d = self.distance
        if d is not None:
            message = f"distance {d.id!r}: {d.function!r} is not within {self.limit / 1000:g} ms of {d.to!r}"
            return no(ReasonCode.DISTANCE, message, d.id)
        what = f"delay of path {self.path!r}" if self.path else "delay"
        return no(ReasonCode.DELAY, f"{what}: best {best / 1000:g} ms > {self.limit / 1000:g} ms", self.path)


def lay(domain: Domain, usage: Usage, spec: ServiceSpec, at: Mapping[str, str], offers: Offers) -> Laying:
    """`at`: the SAP or place of each end and function. Raises Impossible."""
    lines = _lines(spec)
    bounds = list(_bounds(spec, lines, offers))
    ways = _Ways(domain, usage, spec, len(lines))
    options = [_options(ways, spec, at, pair) for pair in lines]
    least = [min(route.delay_us if route is not None else 0 for route in each) for each in options]
    partial: list[_Laid] = [()]
    for pair, each in zip(lines, options, strict=True):
        more = _in_time([(*laid, option) for laid in partial for option in each], bounds, least)
        partial = _worth(more, bounds, ways, usage, spec)
        if not partial:
            message = f"no ways have {spec.bandwidth_bps} bit/s free for all that uses them"
            raise no(ReasonCode.BANDWIDTH, message, _link(spec, pair))
    for bound in bounds:
        best = min(bound.walk.delay(laid) for laid in partial)
        partial = [laid for laid in partial if bound.walk.delay(laid) <= bound.limit]
        if not partial:
            raise bound.broken(best)
    if spec.min_availability:
        works = max(_works(laid) for laid in partial)
        partial = [laid for laid in partial if _works(laid) >= spec.min_availability * (1 - NINE_DIGITS)]
        if not partial:
            message = f"availability: best {works:.7g} < {spec.min_availability:.7g}"
            raise no(ReasonCode.AVAILABILITY, message, "min_availability")
    chosen = partial[0]
    return Laying(
        routes=tuple(route for route in chosen if route is not None),
        delays_us={path.id: _walk(path.hops, lines, offers).delay(chosen) for path in spec.paths},
    )


def _options(ways: _Ways, spec: ServiceSpec, at: Mapping[str, str], pair: frozenset[str]) -> tuple[Route | None, ...]:
    a, b = (at[split_point(point)[0]] for point in pair)
    return (None,) if a == b else ways.between(a, b, _link(spec, pair))


def _in_time(found: list[_Laid], bounds: list[_Bound], least: Sequence[int]) -> list[_Laid]:
    """Those that can still keep every bound, with the `least` delay of each LINE that is ahead; where there are none, all: the
    best of them is told."""
    laid = len(found[0])
    ahead = [(bound, bound.limit - sum(least[n] for n in bound.walk.lines if n >= laid)) for bound in bounds]
    return [x for x in found if all(bound.walk.delay(x) <= limit for bound, limit in ahead)] or found


def _link(spec: ServiceSpec, pair: frozenset[str]) -> str:
    return next(link.id for link in spec.links if frozenset(link.points) == pair)


def _lines(spec: ServiceSpec) -> dict[frozenset[str], int]:
    """The LINEs that paths go along, by their points, numbered in the order in which paths come to them."""
    joined = {frozenset(link.points) for link in spec.links if link.kind is LinkKind.LINE}
    out: dict[frozenset[str], int] = {}
    for path in spec.paths:
        for pair in zip(path.hops[::2], path.hops[1::2], strict=False):
            if frozenset(pair) in joined:
                out.setdefault(frozenset(pair), len(out))
    return out


def _walk(hops: Sequence[str], lines: Mapping[frozenset[str], int], offers: Offers) -> _Walk:
    """Of hops that begin before a LINE and end behind one."""
    pairs = zip(hops[::2], hops[1::2], strict=True)
    between = {split_point(hop)[0] for hop in hops[1:-1]}
    return _Walk(
        lines=tuple(lines[frozenset(pair)] for pair in pairs), functions_us=sum(offers[f].delay_us for f in between)
    )


def _bounds(spec: ServiceSpec, lines: Mapping[frozenset[str], int], offers: Offers) -> Iterator[_Bound]:
    """Of the paths first."""
    for path in spec.paths:
        limit = spec.delay_limit(path)
        if limit is not None:
            name = path.id if len(spec.paths) > 1 else ""
            yield _Bound(walk=_walk(path.hops, lines, offers), limit=limit, path=name)
    for path in spec.paths:
        order = list(dict.fromkeys(split_point(hop)[0] for hop in path.hops))
        for distance in spec.distances:
            if distance.max_delay_us is None or distance.function not in order or distance.to not in order:
                continue
            first, last = sorted((order.index(distance.function), order.index(distance.to)))
            walk = _walk(path.hops[2 * first : 2 * last], lines, offers)
            yield _Bound(walk=walk, limit=distance.max_delay_us, path=path.id, distance=distance)


def _worth(found: list[_Laid], bounds: list[_Bound], ways: _Ways, usage: Usage, spec: ServiceSpec) -> list[_Laid]:
    """Cheapest first, those with room that are somewhere better than each before."""
    found.sort(key=lambda laid: (_cost(laid, spec), _delay(laid)))
    out: list[_Laid] = []
    kept: list[tuple[float, ...]] = []
    for laid in found:
        fails = (1 - _works(laid),) if spec.min_availability else ()
        marks = (*(bound.walk.delay(laid) for bound in bounds), *ways.contested_by(laid), *fails)
        worse = any(all(x <= y for x, y in zip(other, marks, strict=True)) for other in kept)
        if not worse and _carried(laid, usage, spec):
            out.append(laid)
            kept.append(marks)
    if len(out) > _KEPT:
        best = {marks.index(min(marks)) for marks in zip(*kept, strict=True)}
        out = [out[i] for i in sorted({*range(_KEPT), *best})]
    return out


def _carried(laid: _Laid, usage: Usage, spec: ServiceSpec) -> bool:
    """Whether every way has room for each LINE that passes it."""
    ways = Counter(way for route in laid if route is not None for way in route.ways)
    return all(w.bandwidth_bps - usage.bandwidth.get(w.id, 0) >= n * spec.bandwidth_bps for w, n in ways.items())


def _cost(laid: _Laid, spec: ServiceSpec) -> Decimal:
    return sum((r.price.over(spec.term_hours) for r in laid if r is not None), Decimal(0))


def _delay(laid: _Laid) -> int:
    return sum(r.delay_us for r in laid if r is not None)


def _works(laid: _Laid) -> float:
    """Which part of the time all of it works. A way that several LINEs take counts once: so never less than was planned."""
    return prod({way.id: way.availability for route in laid if route is not None for way in route.ways}.values())


class _Ways:
    """The routes that the ways of the spec may take between points. Ways that have no room for all `lines` are contested: a
    dearer or slower route that spares one is an option too, and every route that the note announces is."""

    def __init__(self, domain: Domain, usage: Usage, spec: ServiceSpec, lines: int) -> None:
        self._domain, self._usage, self._spec = domain, usage, spec
        within = admitted(domain, spec.countries, spec.isolation)
        self._all, self._asked = Routes(domain, usage), Routes(within, usage, spec.bandwidth_bps)
        free = {w.id: self._all.free(w) for w in within.ways}
        self._open = {id for id, bps in free.items() if bps >= spec.bandwidth_bps}
        self._contested = sorted(id for id in self._open if free[id] < lines * spec.bandwidth_bps)

    def contested_by(self, laid: _Laid) -> Iterator[int]:
        """How often these routes take each contested way."""
        taken = Counter(way.id for route in laid if route is not None for way in route.ways)
        return (taken[id] for id in self._contested)

    def between(self, a: str, b: str, link: str) -> tuple[Route, ...]:
        found = self._asked.for_segment(a, self._spec.term_hours, frozenset(self._contested)).get(b)
        if not found:
            raise self._none(a, b, link)
        if not self._contested and len(found) < WIDTH and not self._spec.min_availability:
            return tuple(found)
        told = (r for _, r in self._all.announced(a, b) if self._open.issuperset(w.id for w in r.ways))
        return tuple({frozenset(w.id for w in r.ways): r for r in (*told, *found)}.values())

    def _none(self, a: str, b: str, link: str) -> Impossible:
        domain, spec = self._domain, self._spec
        within = admitted(domain, spec.countries, spec.isolation)
        if Routes(within, self._usage).joins(a, b):
            short = max((w for w in within.ways if w.id not in self._open), key=self._all.free, default=None)
            when = self._usage.when(short.id) if short is not None else None
            message = f"no way from {a} to {b} has {spec.bandwidth_bps} bit/s free"
            return not_then(ReasonCode.BANDWIDTH, message, link, when)
        if not self._all.joins(a, b):
            return no(ReasonCode.NO_PATH, f"no way joins {a} and {b}", link)
        where = f"no way from {a} to {b}"
        if not Routes(admitted(domain, spec.countries, ()), self._usage).joins(a, b):
            return no(ReasonCode.COUNTRY, f"countries ({spec.countries}): {where} stays in them", "countries")
        return no(ReasonCode.ISOLATION, f"isolation {', '.join(spec.isolation)}: {where} offers it", "isolation")
