"""Why there is no plan: the constraint that binds, with figures.

Rules kept here
- The question is asked again with one class of rules switched off at a time, in a fixed order; each class that alone
  brings a plan is binding, and that plan is the nearest to what was asked.
- Where no single class does, all are switched off and put back one by one; those that cannot be put back are binding.
- A message names what was asked, the best that there is, and over which interconnects. Its subject is the spec's own
  word. Suppliers appear by local alias only. The same question gets the same words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, replace

from broker.decompose import lacking
from broker.decompose.availability import loss
from broker.decompose.graph import Crossing, Graph, PlaceVertex, default_flavour
from broker.decompose.labelling import Route, walked
from broker.decompose.layered import Layers, Question
from broker.decompose.meshed import MeshLayers
from broker.decompose.one_seller import SHARED
from broker.decompose.plan import Avoid
from broker.decompose.routes import find
from broker.decompose.rules import broken, rules_of
from broker.decompose.vocabulary import listed
from capability_registry.packing import packs
from service_model.constraints import GroupKind, GroupScope
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import FunctionRequest

CLASSES = (
    ReasonCode.MTU,
    ReasonCode.BANDWIDTH,
    ReasonCode.LAN_NOT_OFFERED,
    ReasonCode.CAPACITY,
    ReasonCode.LABELS_EXHAUSTED,
    ReasonCode.COUNTRY,
    ReasonCode.ISOLATION,
    ReasonCode.DISTANCE,
    ReasonCode.AFFINITY,
    ReasonCode.FEATURE_NOT_OFFERED,
    ReasonCode.ADDRESS_FAMILY,
    ReasonCode.AVAILABILITY,
    ReasonCode.DELAY,
    ReasonCode.PRICE,
)


@dataclass(frozen=True, slots=True)
class Binding:
    """`nearest`: the best route if this constraint did not hold, nor `also` those that bind with it."""

    reason: Reason
    nearest: Route | None = None
    also: tuple[ReasonCode, ...] = ()


def explain(question: Question) -> tuple[Binding, ...]:
    """The binding constraints of a question that has no route, the first first; NO_PATH when there is no way at all."""
    alone = []
    for code in CLASSES:
        relaxed = _relaxed(question, code)
        if relaxed is not None:
            nearest = _in_time(question, relaxed)[1] if code is ReasonCode.DELAY else relaxed
            alone.append(Binding(_reason(question, code, nearest), nearest))
    if alone:
        return tuple(alone)
    off = frozenset(CLASSES)
    everything = _best(replace(question, ignore=off))
    if everything is None:
        return (Binding(_no_path(question)),)
    for code in CLASSES:
        if _best(replace(question, ignore=off - {code})) is not None:
            off -= {code}
    found = _best(replace(question, ignore=off))
    assert found is not None
    codes = [code for code in CLASSES if code in off]
    return tuple(
        Binding(
            _reason(replace(question, ignore=off - {code}), code, found), found, tuple(c for c in codes if c != code)
        )
        for code in codes
    )


def better(question: Question, best: Route) -> list[tuple[ReasonCode, Route]]:
    """Routes that cost less than the best one, each by breaking one class of rules."""
    found = [(code, _relaxed(question, code)) for code in CLASSES]
    return [(code, route) for code, route in found if route is not None and route.cost < best.cost]


def _best(question: Question) -> Route | None:
    return next(iter(find(question).routes), None)


def _relaxed(question: Question, code: ReasonCode) -> Route | None:
    spec = question.mesh.spec
    idle = {
        ReasonCode.DELAY: all(question.mesh.delay_limit(p) is None for p in range(len(question.mesh.paths))),
        ReasonCode.PRICE: spec.max_price is None,
        ReasonCode.LAN_NOT_OFFERED: not question.mesh.lans,
        ReasonCode.CAPACITY: not question.mesh.functions and not question.graph.sold_twice,
        ReasonCode.COUNTRY: not spec.countries and not any(f.countries for f in spec.functions),
        ReasonCode.ISOLATION: not spec.isolation,
        ReasonCode.DISTANCE: not spec.distances,
        ReasonCode.AFFINITY: not spec.groups,
        ReasonCode.FEATURE_NOT_OFFERED: not (spec.needs_placement() or spec.needs_classes() or spec.fixed_ports())
        and len(question.mesh.paths) == 1,
        ReasonCode.ADDRESS_FAMILY: lacking.no_family(question),
        ReasonCode.AVAILABILITY: not spec.min_availability,
    }
    return None if idle.get(code) else _best(replace(question, ignore=question.ignore | {code}, fastest=None))


def _no_path(question: Question) -> Reason:
    anything = replace(question, ignore=frozenset(CLASSES))
    avoided = question.avoid != Avoid() and _best(replace(anything, avoid=Avoid()))
    if len(question.mesh.paths) > 1:
        return _no_mesh(anything, bool(avoided))
    mesh = question.mesh
    a, b = mesh.ends
    where = f"from {a.sap!r} to {b.sap!r}"
    through = f" through {', '.join(f.id for f in mesh.functions)}" if mesh.functions else ""
    message = (
        f"every way {where}{through} uses what suppliers refused for this order"
        if avoided
        else f"no way {where}{through}"
    )
    return Reason(code=ReasonCode.NO_PATH, message=message, subject=a.id)


def _no_mesh(anything: Question, avoided: bool) -> Reason:
    """The first path that has no way even alone, or else what they have in common."""
    paths, at = anything.mesh.paths, dict(zip(anything.mesh.ends, anything.saps, strict=True))
    why = "uses what suppliers refused for this order" if avoided else "joins them"
    for path in paths:
        alone = anything.mesh.alone(path)
        if _best(replace(anything, mesh=alone, saps=tuple(at[end] for end in alone.ends))) is None:
            lone = _no_path(replace(anything, mesh=alone, saps=tuple(at[end] for end in alone.ends)))
            return replace(lone, message=f"path {path.path.id!r}: {lone.message}", subject=path.path.id)
    message = f"each path has a way, but nothing {why} all at the same places"
    return Reason(code=ReasonCode.NO_PATH, message=message, subject=paths[0].path.id)


def _reason(question: Question, code: ReasonCode, relaxed: Route) -> Reason:
    makers = {
        ReasonCode.MTU: _mtu,
        ReasonCode.BANDWIDTH: _bandwidth,
        ReasonCode.LAN_NOT_OFFERED: _lan,
        ReasonCode.CAPACITY: _capacity,
        ReasonCode.LABELS_EXHAUSTED: _labels,
        ReasonCode.COUNTRY: _country,
        ReasonCode.ISOLATION: _isolation,
        ReasonCode.DISTANCE: _distance,
        ReasonCode.AFFINITY: _affinity,
        ReasonCode.FEATURE_NOT_OFFERED: lacking.feature,
        ReasonCode.ADDRESS_FAMILY: lacking.family,
        ReasonCode.AVAILABILITY: _availability,
        ReasonCode.DELAY: _delay,
        ReasonCode.PRICE: _price,
    }
    subject, message = makers[code](question, relaxed)
    retryable = code in (ReasonCode.CAPACITY, ReasonCode.LABELS_EXHAUSTED, ReasonCode.BANDWIDTH)
    return Reason(code=code, message=message, subject=subject, retryable=retryable)


def _ms(us: int) -> str:
    return f"{us / 1000:g} ms"


def _over(route: Route, lines: Container[int] | None = None) -> str:
    """Which way the figures are of; where `lines` are given, of these alone."""
    crossed = [m.entry for m in route.moves if m.entry >= 0 and (lines is None or m.layer in lines)]
    names = [c.id for entry in crossed if (c := route.layers.graph.crossing[entry]) is not None]
    if not names:
        return ""
    return f" over interconnect{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"


def _in_time(question: Question, relaxed: Route) -> tuple[int, Route]:
    """The path whose bound cannot be kept, and a route on which it is fastest. Where each alone could be in time, the first
    that is late on the best route without bounds, and that route."""
    limits = [question.mesh.delay_limit(path) for path in range(len(question.mesh.paths))]
    late = 0
    for path, limit in reversed([*enumerate(limits)]):
        if limit is not None and relaxed.delays[path] > limit:
            late = path
            fastest = _best(replace(question, ignore=question.ignore | {ReasonCode.DELAY}, fastest=path)) or relaxed
            if fastest.delays[path] > limit:
                return path, fastest
    return late, relaxed


def _delay(question: Question, relaxed: Route) -> tuple[str, str]:
    number, fastest = _in_time(question, relaxed)
    path, limit = question.mesh.paths[number], question.mesh.delay_limit(number) or 0
    several = f" of path {path.path.id!r}" if len(question.mesh.paths) > 1 else ""
    over = _over(fastest, path.lines)
    together = "; each path alone can be in time" if fastest is relaxed and several else ""
    return path.path.id, f"delay{several}: best {_ms(fastest.delays[number])} > {_ms(limit)}{over}{together}"


def _country(question: Question, relaxed: Route) -> tuple[str, str]:
    """The first place or SAP of the best route elsewhere that is not in the countries asked for."""
    spec, graph, layers = question.mesh.spec, question.graph, relaxed.layers
    for move in relaxed.moves:
        if move.place >= 0:
            request, country = layers.requests[move.layer], graph.place_country[move.place]
            for asked, subject in ((request.countries, request.id), (spec.countries, "countries")):
                if not asked.admit(country):
                    where = f"{graph.here(move.place).place!r} in {country or 'a country that is not told'}"
                    return subject, f"countries ({asked}): function {request.id!r} could be at {where}"
        if move.entry >= 0:
            crossing = graph.crossing[move.entry]
            assert crossing is not None
            for sap in (crossing.target, crossing.source):
                if not spec.countries.admit(graph.sap_country[sap]):
                    country = graph.sap_country[sap] or "a country that is not told"
                    return "countries", f"countries ({spec.countries}): interconnect {crossing.id!r} is in {country}"
    return "countries", f"countries ({spec.countries}): an end is elsewhere"


def _isolation(question: Question, relaxed: Route) -> tuple[str, str]:
    wanted = ", ".join(question.mesh.spec.isolation)
    return (
        "isolation",
        f"isolation {wanted}: no way offers it throughout; the best without goes{_over(relaxed) or ' inside'}",
    )


def _distance(question: Question, relaxed: Route) -> tuple[str, str]:
    spec = question.mesh.spec
    names = _broken(relaxed, ReasonCode.DISTANCE)
    culprit = next((d for d in spec.distances if d.id in names), spec.distances[0])
    bound = f"{culprit.max_km:g} km" if culprit.max_km is not None else _ms(culprit.max_delay_us or 0)
    message = f"distance {culprit.id!r}: nothing puts {culprit.function!r} within {bound} of {culprit.to!r}"
    return culprit.id, message


def _broken(route: Route, code: ReasonCode) -> set[str]:
    """What a route breaks that was found without rules of one class."""
    layers, moves = route.layers, route.moves
    strict: Layers = type(layers)(replace(layers.q, ignore=layers.q.ignore - {code}))
    if isinstance(layers, MeshLayers) and isinstance(strict, MeshLayers):
        moves = strict.adopted(moves, layers)
    return {rule.subject for rule in broken(rules_of(strict), moves)}


def _affinity(question: Question, relaxed: Route) -> tuple[str, str]:
    spec = question.mesh.spec
    names = _broken(relaxed, ReasonCode.AFFINITY)
    by_host = (g for g in spec.groups if g.scope is GroupScope.HOST)  # whose hosts were the capacity's to judge
    culprit = next((g for g in spec.groups if g.id in names), None) or next(by_host, spec.groups[0])
    how = "together" if culprit.kind is GroupKind.AFFINITY else "apart"
    functions = ", ".join(culprit.functions)
    return culprit.id, f"group {culprit.id!r}: {functions} cannot be {how} by {culprit.scope.short}"


def _availability(question: Question, relaxed: Route) -> tuple[str, str]:
    spec = question.mesh.spec
    works = math.exp(-sum(loss(relaxed.layers, move) for move in relaxed.moves))
    return spec.paths[0].id, f"availability: no way has {spec.min_availability:.7g}; the best without has {works:.7g}"


def _price(question: Question, relaxed: Route) -> tuple[str, str]:
    spec = question.mesh.spec
    graph = question.graph
    currency = graph.suppliers[graph.saps[question.saps[0]].supplier].note.currency
    units, rest = divmod(relaxed.cost, 10**9)
    best = f"{units}.{rest:09d}".rstrip("0").rstrip(".")
    return spec.name, f"price over {spec.term_hours} h: best {best} > {spec.max_price} {currency}{_over(relaxed)}"


def _mtu(question: Question, relaxed: Route) -> tuple[str, str]:
    graph = question.graph
    values = {s.offer.mtu for s in graph.saps} | {int(m) for m in graph.way_mtu}
    below = sorted(v for v in values if v < question.min_mtu)
    best = _highest(below, [replace(question, min_mtu=v) for v in below])
    return question.mesh.spec.paths[0].id, f"MTU: best {best} < {question.min_mtu} bytes"


def _bandwidth(question: Question, relaxed: Route) -> tuple[str, str]:
    graph = question.graph
    values = {s.offer.bandwidth_bps for s in graph.saps} | set(graph.way_bandwidth)
    values |= {limit.limit_bps for _, limit in graph.shared}
    values |= {f.max_bandwidth_bps for p in graph.places for o in p.offers.values() for f in o.flavours}
    below = sorted(v for v in values | {w // 2 for w in values} if v < question.bandwidth_bps)
    best = _highest(below, [replace(question, bandwidth_bps=v) for v in below])
    return question.mesh.spec.paths[0].id, f"bandwidth: at least {best} bit/s are free, not {question.bandwidth_bps}"


def _highest(values: list[int], questions: list[Question]) -> int:
    """The highest of the ascending values whose question has a route (bisection); 0 where none has."""
    low, high = -1, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _best(questions[middle]) is not None else (low, middle)
    return values[low] if low >= 0 else 0


def _lan(question: Question, relaxed: Route) -> tuple[str, str]:
    """The first obstacle on the best route that carries no LAN."""
    graph, mesh, layers = question.graph, question.mesh, relaxed.layers
    for node, move in walked(relaxed):
        supplier = graph.node_supplier(node)
        alias = graph.suppliers[supplier].alias
        if move.way >= 0 and layers.need[move.layer] and not graph.between(move.way).point.lan:
            source, target = (_point(graph, supplier, number) for number in graph.along(move.way, node))
            lan = mesh.lans_beside(move.layer)[0].id
            return lan, f"LAN {lan!r}: {alias} carries no LAN between {source} and {target}"
        placed = mesh.lines[move.layer].head if move.place >= 0 else None
        member = next((lan.id for lan in mesh.lans for number, _ in lan.members if number == placed), None)
        if member is not None and not graph.here(move.place).capacity.lan:
            return member, f"LAN {member!r}: {alias} offers no LAN at {graph.here(move.place).place!r}"
    return mesh.lans[0].id, f"LAN {mesh.lans[0].id!r} is not offered on the way"


def _point(graph: Graph, supplier: int, number: int) -> str:
    """A border point in the customer's words: a place, or a SAP's announced name, else that it is inside."""
    piece = graph.pieces[supplier]
    if number >= len(piece.saps):
        return repr(piece.point(number))
    index = int(graph.sap_first[supplier]) + number
    name = next((n for n, announced in graph.announced.items() if announced == index), None)
    crossing = graph.crossing[index]
    return (
        repr(name)
        if name
        else f"interconnect {crossing.id!r}"
        if crossing
        else f"its SAP at {piece.saps[number].place!r}"
    )


def _capacity(question: Question, relaxed: Route) -> tuple[str, str]:
    if not question.mesh.functions or SHARED in _broken(relaxed, ReasonCode.CAPACITY):
        return question.mesh.spec.name, "capacity: what several suppliers sell of one thing is not enough for all of it"
    functions, graph = question.mesh.functions, question.graph
    for request in functions:
        here = [p for p in graph.places if _units(p, request) is not None]
        named = {p for id in request.places for p in graph.places_named(id)}
        here = [p for p in here if not request.places or p.vertex - 2 * graph.sap_count in named]
        if here and not any(packs(p.capacity.bins, (_units(p, request) or 0,)) for p in here):
            units = min(_units(p, request) or 0 for p in here)
            places = listed(p.place for p in here)
            return request.id, f"function {request.id!r} needs {units} capacity units; nobody has them free at {places}"
    names = [f.id for f in functions]
    return names[0], f"no places that can be reached have capacity for all of {', '.join(names)}"


def _units(place: PlaceVertex, request: FunctionRequest) -> int | None:
    offer = place.offers.get(request.type)
    flavour = default_flavour(offer, request.flavour) if offer else None
    return flavour.units if flavour else None


def _labels(question: Question, relaxed: Route) -> tuple[str, str]:
    graph, need = question.graph, relaxed.layers.need
    crossed = [(graph.crossing[m.entry], 1 + need[m.layer]) for m in relaxed.moves if m.entry >= 0]
    uses: Counter[str] = Counter()
    for crossing, needed in crossed:
        assert crossing is not None
        if needed > len(crossing.labels):
            return crossing.id, _too_few(crossing, needed)
    for crossing, needed in crossed:
        assert crossing is not None
        uses[crossing.id] += needed
    for crossing, _ in crossed:
        assert crossing is not None
        if uses[crossing.id] > len(crossing.labels):
            return crossing.id, _too_few(crossing, uses[crossing.id])
    first = next((c.id for c, _ in crossed if c is not None), question.mesh.ends[0].id)
    return first, "no label is free on every interconnect that the segments between tie together"


def _too_few(crossing: Crossing, needed: int) -> str:
    return f"interconnect {crossing.id!r} has {len(crossing.labels)} common free labels, {needed} needed"
