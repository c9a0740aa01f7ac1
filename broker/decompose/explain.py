"""Why there is no plan: words that nobody offers, or the constraint that binds.

Rules kept here
- First the words: SAPs, function types, flavours, places, ports. Then the constraints: the question is asked again with
  one class of rules switched off at a time, in a fixed order; each class that alone brings a plan is binding.
- Where no single class does, all are switched off and put back one by one; those that cannot be put back are binding.
- A message names what was asked and the best that there is; its subject is the spec's own word. Suppliers appear by
  local alias only. The same question gets the same words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches

from address_planner.labels import LabelSet
from broker.decompose.chain import Chain
from broker.decompose.graph import Crossing, Graph, PlaceVertex, default_flavour
from broker.decompose.labelling import Route, find
from broker.decompose.layered import Question, ports_fit
from broker.decompose.plan import Avoid
from capability_registry.note import PortRole
from capability_registry.packing import packs
from service_model.outcomes import Nogood, Reason, ReasonCode
from service_model.spec import End, FunctionRequest

CLASSES = (
    ReasonCode.MTU,
    ReasonCode.BANDWIDTH,
    ReasonCode.LAN_NOT_OFFERED,
    ReasonCode.CAPACITY,
    ReasonCode.LABELS_EXHAUSTED,
    ReasonCode.DELAY,
    ReasonCode.PRICE,
)
_LISTED = 8


def listed(names: Iterable[str]) -> str:
    """Names for a message: sorted, the first few."""
    ordered = sorted(set(names))
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return (", ".join(ordered[:_LISTED]) or "none") + more


def vocabulary(chain: Chain, graph: Graph) -> tuple[Reason, ...]:
    """Everything in the spec that no note knows; empty when all words are known."""
    reasons = [r for end in (chain.a, chain.b) for r in _known_sap(end, graph)]
    for index, request in enumerate(chain.functions):
        reasons.extend(_known_function(chain, index, request, graph))
    return tuple(reasons)


def _known_sap(end: End, graph: Graph) -> list[Reason]:
    if end.sap in graph.announced:
        return []
    message = f"unknown SAP {end.sap!r}; known: {listed(graph.announced)}"
    return [Reason(code=ReasonCode.UNKNOWN_SAP, message=message, subject=end.id)]


def _known_function(chain: Chain, index: int, request: FunctionRequest, graph: Graph) -> list[Reason]:
    if _fits_somewhere(chain, index, request, graph):
        return []
    offering = [(p, p.offers[request.type]) for p in graph.places if request.type in p.offers]
    if not offering:
        types = {str(t) for p in graph.places for t in p.offers}
        near = get_close_matches(str(request.type), sorted(types), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"offered: {listed(types)}"
        message = f"function {request.id!r}: nobody offers type {request.type}; {hint}"
        return [Reason(code=ReasonCode.UNKNOWN_FUNCTION_TYPE, message=message, subject=request.id)]
    reasons = []
    if request.flavour is not None and not any(default_flavour(o, request.flavour) for _, o in offering):
        flavours = listed(f.name for _, o in offering for f in o.flavours)
        message = f"function {request.id!r}: {request.type} has no flavour {request.flavour!r}; offered: {flavours}"
        reasons.append(Reason(code=ReasonCode.INVALID_PARAMETER, message=message, subject=request.id))
    places = {p.place for p, _ in offering}
    if request.places and not places & set(request.places):
        message = (
            f"function {request.id!r}: {request.type} is not offered at {listed(request.places)}; at: {listed(places)}"
        )
        reasons.append(Reason(code=ReasonCode.UNKNOWN_PLACE, message=message, subject=request.id))
    wanted = [(port, PortRole.DATA) for port in chain.ports[index]]
    for lan in chain.lans:
        wanted += [(p, PortRole.MANAGEMENT) for m, p in zip(lan.members, lan.ports, strict=True) if m == index]
    for port, role in wanted:
        if not any(q.name == port and q.role is role for _, o in offering for q in o.ports):
            known = listed(f"{q.name} ({q.role.short})" for _, o in offering for q in o.ports)
            need = "the path needs a DATA port" if role is PortRole.DATA else "a LAN needs a MANAGEMENT port"
            message = (
                f"function {request.id!r}: {request.type} has no {role.short} port {port!r}, {need}; known: {known}"
            )
            reasons.append(Reason(code=ReasonCode.UNKNOWN_PORT, message=message, subject=request.id))
    return reasons


def _fits_somewhere(chain: Chain, index: int, request: FunctionRequest, graph: Graph) -> bool:
    """Whether type, flavour and ports are offered, and the type at one of the places asked for: the usual case."""
    offering = graph.offering(request.type, request.flavour)
    if offering is None or not any(ports_fit(chain, index, ports) for ports in offering.kinds_of_ports):
        return False
    named = {p for id in request.places for p in graph.places_named.get(id, ())}
    return not request.places or bool(named.intersection(offering.at.tolist()))


def ends_without_label(chain: Chain, graph: Graph) -> tuple[Reason, ...]:
    """The ends that cannot all have a free label of their own at their SAPs (a maximum matching, end by end)."""
    ends = [chain.a, chain.b] + [e for lan in chain.lans for e in (lan.at_a, lan.at_b) if e is not None]
    reasons = []
    for sap in sorted({e.sap for e in ends}):
        here = [e for e in ends if e.sap == sap]
        free = graph.saps[graph.announced[sap]].offer.labels
        sets = [free if e.labels is None else free & e.labels for e in here]
        holder: dict[int, int] = {}
        for i, end in enumerate(here):
            if not _give(i, sets, holder, set()):
                message = f"no free label at SAP {sap!r} for end {end.id!r}"
                nogood = Nogood(end=end.id, acceptable_labels=free)
                code = ReasonCode.LABELS_EXHAUSTED
                reasons.append(Reason(code=code, message=message, subject=end.id, retryable=True, nogood=nogood))
    return tuple(reasons)


def _give(i: int, sets: Sequence[LabelSet], holder: dict[int, int], tried: set[int]) -> bool:
    """Kuhn's augmenting path: as many labels as there are ends are enough to look at."""
    for n, label in enumerate(sets[i]):
        if n >= len(sets):
            break
        if label not in tried:
            tried.add(label)
            if label not in holder or _give(holder[label], sets, holder, tried):
                holder[label] = i
                return True
    return False


def explain(question: Question) -> tuple[Reason, ...]:
    """The binding constraints of a question that has no route, the first first; NO_PATH when there is no way at all."""
    alone = []
    for code in CLASSES:
        relaxed = _relaxed(question, code)
        if relaxed is not None:
            alone.append(_reason(question, code, relaxed))
    if alone:
        return tuple(alone)
    off = frozenset(CLASSES)
    everything = _best(replace(question, ignore=off))
    if everything is None:
        return (_no_path(question),)
    for code in CLASSES:
        if _best(replace(question, ignore=off - {code})) is not None:
            off -= {code}
    loose = replace(question, ignore=off)
    found = _best(loose)
    assert found is not None
    return tuple(_reason(replace(question, ignore=off - {code}), code, found) for code in CLASSES if code in off)


def _best(question: Question) -> Route | None:
    return next(iter(find(question, 1)), None)


def _relaxed(question: Question, code: ReasonCode) -> Route | None:
    spec = question.chain.spec
    idle = {
        ReasonCode.DELAY: spec.max_delay_us is None,
        ReasonCode.PRICE: spec.max_price is None,
        ReasonCode.LAN_NOT_OFFERED: not question.chain.lans,
        ReasonCode.CAPACITY: not question.chain.functions,
    }
    return None if idle.get(code) else _best(replace(question, ignore=question.ignore | {code}, fastest=False))


def _no_path(question: Question) -> Reason:
    chain = question.chain
    where = f"from {chain.a.sap!r} to {chain.b.sap!r}"
    through = f" through {', '.join(f.id for f in chain.functions)}" if chain.functions else ""
    avoided = question.avoid != Avoid() and _best(replace(question, avoid=Avoid(), ignore=frozenset(CLASSES)))
    message = (
        f"every way {where}{through} uses what suppliers refused for this order"
        if avoided
        else f"no way {where}{through}"
    )
    return Reason(code=ReasonCode.NO_PATH, message=message, subject=chain.a.id)


def _reason(question: Question, code: ReasonCode, relaxed: Route) -> Reason:
    makers = {
        ReasonCode.MTU: _mtu,
        ReasonCode.BANDWIDTH: _bandwidth,
        ReasonCode.LAN_NOT_OFFERED: _lan,
        ReasonCode.CAPACITY: _capacity,
        ReasonCode.LABELS_EXHAUSTED: _labels,
        ReasonCode.DELAY: _delay,
        ReasonCode.PRICE: _price,
    }
    subject, message = makers[code](question, relaxed)
    retryable = code in (ReasonCode.CAPACITY, ReasonCode.LABELS_EXHAUSTED, ReasonCode.BANDWIDTH)
    return Reason(code=code, message=message, subject=subject, retryable=retryable)


def _ms(us: int) -> str:
    return f"{us / 1000:g} ms"


def _delay(question: Question, relaxed: Route) -> tuple[str, str]:
    fastest = _best(replace(question, ignore=question.ignore | {ReasonCode.DELAY}, fastest=True)) or relaxed
    limit = question.chain.spec.max_delay_us or 0
    return question.chain.spec.paths[0].id, f"delay: best {_ms(fastest.delay)} > {_ms(limit)}"


def _price(question: Question, relaxed: Route) -> tuple[str, str]:
    spec = question.chain.spec
    graph = question.graph
    currency = graph.suppliers[graph.saps[question.start].supplier].note.currency
    units, rest = divmod(relaxed.cost, 10**9)
    best = f"{units}.{rest:09d}".rstrip("0").rstrip(".")
    return spec.name, f"price over {spec.term_hours} h: best {best} > {spec.max_price} {currency}"


def _mtu(question: Question, relaxed: Route) -> tuple[str, str]:
    graph = question.graph
    values = {s.offer.mtu for s in graph.saps} | {int(m) for m in graph.way_mtu}
    below = sorted(v for v in values if v < question.min_mtu)
    best = _highest(below, [replace(question, min_mtu=v) for v in below])
    return question.chain.spec.paths[0].id, f"MTU: best {best} < {question.min_mtu} bytes"


def _bandwidth(question: Question, relaxed: Route) -> tuple[str, str]:
    graph = question.graph
    values = {s.offer.bandwidth_bps for s in graph.saps} | set(graph.way_bandwidth)
    values |= {limit.limit_bps for _, limit in graph.shared}
    values |= {f.max_bandwidth_bps for p in graph.places for o in p.offers.values() for f in o.flavours}
    below = sorted(v for v in values | {w // 2 for w in values} if v < question.bandwidth_bps)
    best = _highest(below, [replace(question, bandwidth_bps=v) for v in below])
    return question.chain.spec.paths[0].id, f"bandwidth: at least {best} bit/s are free, not {question.bandwidth_bps}"


def _highest(values: list[int], questions: list[Question]) -> int:
    """The highest of the ascending values whose question has a route (bisection); 0 where none has."""
    low, high = -1, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _best(questions[middle]) is not None else (low, middle)
    return values[low] if low >= 0 else 0


def _lan(question: Question, relaxed: Route) -> tuple[str, str]:
    """The first obstacle on the best route that carries no LAN."""
    graph, chain, layers = question.graph, question.chain, relaxed.layers

    def running(stretch: int) -> str:
        return next((lan.id for lan in chain.lans if lan.present(stretch, len(chain.functions))), chain.lans[0].id)

    node = question.start
    for move in relaxed.moves:
        supplier = graph.node_supplier(node)
        alias = graph.suppliers[supplier].alias
        if move.way >= 0 and layers.need[move.layer] and not graph.between(move.way).point.lan:
            source, target = (_point(graph, supplier, number) for number in graph.along(move.way, node))
            lan = running(move.layer)
            return lan, f"LAN {lan!r}: {alias} carries no LAN between {source} and {target}"
        member = next((lan.id for lan in chain.lans if move.layer in lan.members), None)
        if move.place >= 0 and member is not None and not graph.here(move.place).capacity.lan:
            return member, f"LAN {member!r}: {alias} offers no LAN at {graph.here(move.place).place!r}"
        node = move.target % layers.nodes
    return chain.lans[0].id, f"LAN {chain.lans[0].id!r} is not offered on the way"


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
    chain, graph = question.chain, question.graph
    for request in chain.functions:
        here = [p for p in graph.places if _units(p, request) is not None]
        here = [p for p in here if not request.places or p.place in request.places]
        if here and not any(packs(p.capacity.bins, (_units(p, request) or 0,)) for p in here):
            units = min(_units(p, request) or 0 for p in here)
            places = listed(p.place for p in here)
            return request.id, f"function {request.id!r} needs {units} capacity units; nobody has them free at {places}"
    names = [f.id for f in chain.functions]
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
    first = next((c.id for c, _ in crossed if c is not None), question.chain.a.id)
    return first, "no label is free on every interconnect that the segments between tie together"


def _too_few(crossing: Crossing, needed: int) -> str:
    return f"interconnect {crossing.id!r} has {len(crossing.labels)} common free labels, {needed} needed"
