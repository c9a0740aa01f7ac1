"""Which of a domain's ways the LANs of a segment take, beyond those that its LINEs have. Pure.

Rules kept here
- A LAN is one bridge domain: a tree over the ways that are admitted (`placing`), the cheapest that joins the places of its
  functions and the SAPs of its ends (`capability_registry.steiner`). What a LINE takes costs it nothing.
- In a segment without paths the bandwidth is its LANs', each of which needs it on every way that it takes.
- Where all together work less of the time than is asked, the LANs take what fails least.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from capability_registry.steiner import cheapest_tree
from lower_sp_clients.vim.domain import Domain, Usage, Way
from lower_sp_clients.vim.laying import NINE_DIGITS
from lower_sp_clients.vim.placing import Impossible, admitted, no
from service_model.outcomes import ReasonCode
from service_model.spec import LinkKind, ServiceSpec, VirtualLink, split_point

Weight = Callable[[Way], float]


def lay_lans(
    domain: Domain, usage: Usage, spec: ServiceSpec, at: Mapping[str, str], lined: Sequence[Way]
) -> tuple[Way, ...]:
    """The ways of all LANs, with repetition. `at`: the SAP or place of each end and function; `lined`: what LINEs take.
    Raises Impossible."""
    best: tuple[Way, ...] = ()
    for weight in (lambda way: float(way.price.over(spec.term_hours)), lambda way: -math.log(way.availability or 1e-9)):
        best = _laid(domain, usage, spec, at, lined, weight)
        works = math.prod({way.id: way.availability for way in (*lined, *best)}.values())
        if not spec.min_availability or works >= spec.min_availability * (1 - NINE_DIGITS):
            return best
    message = f"availability: best {works:.7g} < {spec.min_availability:.7g}"
    raise no(ReasonCode.AVAILABILITY, message, "min_availability")


def _laid(
    domain: Domain, usage: Usage, spec: ServiceSpec, at: Mapping[str, str], lined: Sequence[Way], weight: Weight
) -> tuple[Way, ...]:
    out: list[Way] = []
    free = {way.id for way in lined}
    for link in spec.links:
        if link.kind is not LinkKind.LAN:
            continue
        points = list(dict.fromkeys(at[split_point(point)[0]] for point in link.points))
        taken = Counter(way.id for way in out) if not spec.paths else Counter[str]()
        out += _tree(domain, usage, spec, link, points, free, taken, weight)
    return tuple(out)


def _tree(
    domain: Domain,
    usage: Usage,
    spec: ServiceSpec,
    link: VirtualLink,
    points: Sequence[str],
    free: set[str],
    taken: Mapping[str, int],
    weight: Weight,
) -> list[Way]:
    bps = 0 if spec.paths else spec.bandwidth_bps
    within = admitted(domain, spec.countries, spec.isolation).ways
    left = {w.id: w.bandwidth_bps - usage.bandwidth.get(w.id, 0) - bps * taken.get(w.id, 0) for w in within}
    ways = [way for way in within if not bps or left[way.id] >= bps]
    found = _joining(domain, ways, points, free, weight)
    if found is None:
        raise _none(domain, spec, link, points, within)
    return [way for way in found if way.id not in free]


def _joining(
    domain: Domain, ways: Sequence[Way], points: Sequence[str], free: set[str], weight: Weight
) -> list[Way] | None:
    """What joins the points, each of which is a SAP or a place."""
    if len(points) < 2:
        return []
    rank = {id: n for n, id in enumerate([*(s.id for s in domain.saps), *(p.id for p in domain.places)])}
    for way in ways:
        rank.setdefault(way.a, len(rank))
        rank.setdefault(way.b, len(rank))
    tails, heads = [rank[way.a] for way in ways], [rank[way.b] for way in ways]
    weights = [(0.0 if way.id in free else weight(way)) + NINE_DIGITS for way in ways]
    tree = cheapest_tree(len(rank), tails, heads, weights, [[rank[point]] for point in points])
    return None if tree is None else [ways[n] for n in tree.arcs]


def _none(
    domain: Domain, spec: ServiceSpec, link: VirtualLink, points: Sequence[str], within: Sequence[Way]
) -> Impossible:
    where = f"LAN {link.id!r}: no ways join {', '.join(points)}"

    def joined(ways: Sequence[Way]) -> bool:
        return _joining(domain, ways, points, set(), lambda way: 0.0) is not None

    if joined(within):
        return no(ReasonCode.BANDWIDTH, f"{where} with {spec.bandwidth_bps} bit/s free", link.id)
    if not joined(domain.ways):
        return no(ReasonCode.NO_PATH, where, link.id)
    if not joined(admitted(domain, spec.countries, ()).ways):
        return no(ReasonCode.COUNTRY, f"countries ({spec.countries}): {where} in them", "countries")
    return no(ReasonCode.ISOLATION, f"isolation {', '.join(spec.isolation)}: {where} that offer it", "isolation")
