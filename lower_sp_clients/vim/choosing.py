"""The lower SP's choice: ways, labels and addresses for one segment, within its constraint. Pure.

Rules kept here
- The suggested label is taken if it is free, else another of the label set, picked by hash; which one is said in the answer.
- A link's prefix is the one required, else carved from the allowed blocks; a port's address comes from the hosts given.
- The cheapest combination of ways that keeps the delay budget and every distance by delay, of those that are admitted
  (`placing`, which also says where the functions are).
- Everything wrong is named at once where it can be, each with the spec's own word for the culprit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from address_planner.labels import ANY_LABEL, LabelSet
from address_planner.prefixes import PrefixTooSmall, carve, host_bits, pick_hosts
from capability_registry.note import PortRole, SapRole
from lower_sp_clients.vim.accounting import passes
from lower_sp_clients.vim.domain import CatalogueFunction, Domain, Sap, Usage, Way
from lower_sp_clients.vim.placing import Impossible, admitted, assign, check_ends, flavour_of, no, place
from lower_sp_clients.vim.routing import WIDTH, Route, Routes
from service_model.constraints import Distance
from service_model.money import FREE, Price
from service_model.outcomes import AddressingChoice, LinkChoice, Nogood, ReasonCode
from service_model.spec import AddressRole, End, FunctionRequest, LinkKind, ServiceSpec, VirtualLink, split_point
from service_model.words import Address, Prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """All that a hold takes. `hosts`: function id to (place, host index); `ways` with repetition where used twice."""

    addressing: AddressingChoice
    price: Price
    delay_us: int
    ways: tuple[Way, ...]
    hosts: dict[str, tuple[str, int]]


def choose(domain: Domain, usage: Usage, spec: ServiceSpec, key: str) -> Choice:
    """`usage` is what others have; `key` seeds the choice of labels. Raises Impossible."""
    saps = {end.id: _sap(domain, end) for end in spec.ends}
    offers = {f.id: _offer(domain, f) for f in spec.functions}
    _check_ports(spec, offers)
    if any(link.kind is LinkKind.LAN for link in spec.links) and not domain.lan:
        lan = next(link for link in spec.links if link.kind is LinkKind.LAN)
        raise no(ReasonCode.LAN_NOT_OFFERED, f"link {lan.id!r}: LAN links are not offered here", lan.id)
    through = passes(spec)
    for end in spec.ends:
        sap = saps[end.id]
        if sap.mtu < spec.min_mtu:
            raise no(ReasonCode.MTU, f"end {end.id!r}: MTU {sap.mtu} is below {spec.min_mtu}", end.id)
        if sap.bandwidth_bps - usage.bandwidth.get(sap.id, 0) < spec.bandwidth_bps * through[sap.id]:
            raise no(ReasonCode.BANDWIDTH, f"end {end.id!r}: not enough bandwidth is free at its SAP", end.id)
    check_ends(domain, spec, saps)
    placed = place(domain, usage, spec, saps, offers)
    legs = _legs(domain, usage, spec, saps, offers, placed)
    price = sum((leg.price for leg in legs), FREE)
    delay = sum(leg.delay_us for leg in legs) + sum(offers[f.id].delay_us for f in spec.functions)
    for function in spec.functions:
        price = price + flavour_of(offers[function.id], function).price
    hosts = assign(domain, usage, spec, offers, placed)
    labels = _labels(usage, spec, saps, key)
    links, reach = _addresses(spec, saps)
    return Choice(
        addressing=AddressingChoice(labels=labels, links=links, reach=reach),
        price=price,
        delay_us=delay,
        ways=tuple(way for leg in legs for way in leg.ways),
        hosts=hosts,
    )


def _sap(domain: Domain, end: End) -> Sap:
    sap = domain.sap(end.sap)
    if sap is None:
        known = ", ".join(sorted(s.id for s in domain.saps))
        raise no(ReasonCode.UNKNOWN_SAP, f"end {end.id!r}: no SAP {end.sap!r} here (there are {known})", end.id)
    if not sap.usable:
        raise no(ReasonCode.NOT_IN_SERVICE, f"end {end.id!r}: SAP {end.sap!r} takes nothing new", end.id)
    return sap


def _offer(domain: Domain, request: FunctionRequest) -> CatalogueFunction:
    offer = domain.function(request.type)
    if offer is None or not offer.places:
        raise no(
            ReasonCode.UNKNOWN_FUNCTION_TYPE,
            f"function {request.id!r}: type {request.type} is not offered here",
            request.id,
        )
    return offer


def _check_ports(spec: ServiceSpec, offers: dict[str, CatalogueFunction]) -> None:
    for link in spec.links:
        wanted = PortRole.MANAGEMENT if link.kind is LinkKind.LAN else PortRole.DATA
        for owner, port in map(split_point, link.points):
            if not port:
                continue
            roles = {p.name: p.role for p in offers[owner].ports}
            if port not in roles:
                raise no(
                    ReasonCode.UNKNOWN_PORT,
                    f"function {owner!r} has no port {port!r} (it has {', '.join(roles)})",
                    owner,
                )
            if roles[port] is not wanted:
                raise no(
                    ReasonCode.UNKNOWN_PORT,
                    f"link {link.id!r}: port {port!r} of {owner!r} is a {roles[port].short} port",
                    link.id,
                )


_KEPT = 256
"""How many combinations of ways are carried on from leg to leg, the cheapest and the fastest among them."""


@dataclass(frozen=True, slots=True)
class _Stops:
    """The points of the domain that a path passes: a SAP, places, a SAP. `owners`: ends and functions in the path's order,
    each with the number of its point."""

    points: tuple[str, ...]
    owners: dict[str, int]


def _stops(spec: ServiceSpec, saps: dict[str, Sap], placed: dict[str, str]) -> Iterator[_Stops]:
    for path in spec.paths:
        points: list[str] = []
        owners: dict[str, int] = {}
        for owner, port in map(split_point, path.hops):
            point = placed[owner] if port else saps[owner].id
            if not points or points[-1] != point:
                points.append(point)
            owners[owner] = len(points) - 1
        yield _Stops(tuple(points), owners)


def _legs(
    domain: Domain,
    usage: Usage,
    spec: ServiceSpec,
    saps: dict[str, Sap],
    offers: dict[str, CatalogueFunction],
    placed: dict[str, str],
) -> list[Route]:
    """The cheapest routes along all paths that keep the delay budget of each."""
    legs: list[Route] = []
    for stops in _stops(spec, saps, placed):
        spans = [(stops.owners[x], stops.owners[y]) for _, x, y in _by_delay(spec, stops)]
        ways = _Ways(domain, usage, spec, len(stops.points) - 1)
        options = [ways.between(a, b) for a, b in pairwise(stops.points)]
        partial: list[tuple[Route, ...]] = [()]
        for choices in options:
            grown = [(*done, choice) for done in partial for choice in choices]
            grown.sort(key=lambda rs: (_cost(rs, spec), _delay(rs)))
            partial = []
            kept: list[tuple[int, ...]] = []
            for candidate in grown:  # cheapest first: keep only what is somewhere better than each before
                marks = (_delay(candidate), *(_delay(candidate[i:j]) for i, j in spans), *ways.contested_by(candidate))
                worse = any(all(x <= y for x, y in zip(other, marks, strict=True)) for other in kept)
                if not worse and _carried(candidate, usage, spec):
                    partial.append(candidate)
                    kept.append(marks)
            if len(partial) > _KEPT:
                partial = [*partial[: _KEPT - 1], min(partial[_KEPT - 1 :], key=_delay)]
            if not partial:
                raise no(ReasonCode.BANDWIDTH, f"no ways have {spec.bandwidth_bps} bit/s free for all that uses them")
        fixed = sum(offers[f.id].delay_us for f in spec.functions)
        within = [p for p in partial if spec.max_delay_us is None or _delay(p) + fixed <= spec.max_delay_us]
        if not within:
            best = (min(map(_delay, partial)) + fixed) / 1000
            raise no(ReasonCode.DELAY, f"delay: best {best:g} ms > {(spec.max_delay_us or 0) / 1000:g} ms")
        near = [p for p in within if _too_far(p, stops, spec, offers) is None]
        if not near:
            far = _too_far(within[-1], stops, spec, offers)
            assert far is not None
            message = f"distance {far.id!r}: {far.function!r} is not within {(far.max_delay_us or 0) / 1000:g} ms of {far.to!r}"
            raise no(ReasonCode.DISTANCE, message, far.id)
        legs.extend(near[0])
    return legs


def _too_far(
    chosen: tuple[Route, ...], stops: _Stops, spec: ServiceSpec, offers: dict[str, CatalogueFunction]
) -> Distance | None:
    """The first distance by delay that these routes do not keep."""
    order = list(stops.owners)
    for distance, first, last in _by_delay(spec, stops):
        between = order[order.index(first) + 1 : order.index(last)]
        delay = _delay(chosen[stops.owners[first] : stops.owners[last]]) + sum(offers[f].delay_us for f in between)
        if delay > (distance.max_delay_us or 0):
            return distance
    return None


def _by_delay(spec: ServiceSpec, stops: _Stops) -> list[tuple[Distance, str, str]]:
    """The distances by delay along a path, with their points in its order."""
    at = {owner: n for n, owner in enumerate(stops.owners)}
    asked = [d for d in spec.distances if d.max_delay_us is not None and d.function in at and d.to in at]
    return [(d, min(d.function, d.to, key=at.__getitem__), max(d.function, d.to, key=at.__getitem__)) for d in asked]


def _carried(chosen: tuple[Route, ...], usage: Usage, spec: ServiceSpec) -> bool:
    """Whether every way has room for each time that the flow passes it."""
    ways = Counter(way for route in chosen for way in route.ways)
    return all(w.bandwidth_bps - usage.bandwidth.get(w.id, 0) >= n * spec.bandwidth_bps for w, n in ways.items())


def _cost(chosen: tuple[Route, ...], spec: ServiceSpec) -> Decimal:
    return sum((r.price.over(spec.term_hours) for r in chosen), Decimal(0))


def _delay(chosen: tuple[Route, ...]) -> int:
    return sum(r.delay_us for r in chosen)


class _Ways:
    """The routes that the ways of the spec may take between points. Ways that have no room for all `legs` are contested: a
    dearer or slower route that spares one is an option too, and every route that the note announces is."""

    def __init__(self, domain: Domain, usage: Usage, spec: ServiceSpec, legs: int) -> None:
        self._domain, self._usage, self._spec = domain, usage, spec
        within = admitted(domain, spec.countries, spec.isolation)
        self._all, self._asked = Routes(domain, usage), Routes(within, usage, spec.bandwidth_bps)
        free = {w.id: self._all.free(w) for w in within.ways}
        self._open = {id for id, bps in free.items() if bps >= spec.bandwidth_bps}
        self._contested = sorted(id for id in self._open if free[id] < legs * spec.bandwidth_bps)

    def contested_by(self, chosen: tuple[Route, ...]) -> Iterator[int]:
        """How often these routes take each contested way."""
        taken = Counter(way.id for route in chosen for way in route.ways)
        return (taken[id] for id in self._contested)

    def between(self, a: str, b: str) -> tuple[Route, ...]:
        found = self._asked.for_segment(a, self._spec.term_hours, frozenset(self._contested)).get(b)
        if not found:
            raise self._none(a, b)
        if not self._contested and len(found) < WIDTH:
            return tuple(found)
        told = (r for _, r in self._all.announced(a, b) if self._open.issuperset(w.id for w in r.ways))
        return tuple({frozenset(w.id for w in r.ways): r for r in (*told, *found)}.values())

    def _none(self, a: str, b: str) -> Impossible:
        domain, spec = self._domain, self._spec
        within = admitted(domain, spec.countries, spec.isolation)
        if Routes(within, self._usage).joins(a, b):
            return no(ReasonCode.BANDWIDTH, f"no way from {a} to {b} has {spec.bandwidth_bps} bit/s free")
        if not self._all.joins(a, b):
            return no(ReasonCode.NO_PATH, f"no way joins {a} and {b}")
        where = f"no way from {a} to {b}"
        if not Routes(admitted(domain, spec.countries, ()), self._usage).joins(a, b):
            return no(ReasonCode.COUNTRY, f"countries ({spec.countries}): {where} stays in them", "countries")
        return no(ReasonCode.ISOLATION, f"isolation {', '.join(spec.isolation)}: {where} offers it", "isolation")


def _labels(usage: Usage, spec: ServiceSpec, saps: dict[str, Sap], key: str) -> dict[str, int]:
    """A label for each end: the suggested one if it is free, else another of its set by hash."""
    out: dict[str, int] = {}
    for end in spec.ends:
        sap = saps[end.id]
        mine = {out[e.id] for e in spec.ends if e.id in out and saps[e.id] is sap}
        allowed = end.labels if end.labels is not None else ANY_LABEL
        suggested, taken = end.suggested_label, usage.labels.get(sap.id, {})
        if suggested in allowed and suggested in sap.labels and suggested not in mine and suggested not in taken:
            assert suggested is not None
            out[end.id] = suggested
            continue
        wanted = sap.labels & allowed
        value = wanted.suggest(f"{key}/{end.id}")
        if value in mine or value in taken:
            left = wanted & usage.free_labels(sap)
            value = next((v for v in _by_hash(left, f"{key}/{end.id}") if v not in mine), None)
        if value is None:
            acceptable = usage.free_labels(sap)
            code = ReasonCode.LABEL_TAKEN if acceptable else ReasonCode.LABELS_EXHAUSTED
            raise no(
                code,
                f"end {end.id!r}: none of the labels {wanted or end.labels or sap.labels} is free at SAP {sap.id!r}",
                end.id,
                Nogood(end=end.id, acceptable_labels=acceptable),
            )
        out[end.id] = value
    return out


def _by_hash(left: LabelSet, key: str) -> Iterator[int]:
    while (value := left.suggest(key)) is not None:
        yield value
        left -= LabelSet.of([value])


def _addresses(spec: ServiceSpec, saps: dict[str, Sap]) -> tuple[tuple[LinkChoice, ...], dict[str, tuple[Prefix, ...]]]:
    open_links = {link.id: host_bits(len(link.points)) for link in spec.links if chooses_prefix(link)}
    taken = [link.addressing.prefix for link in spec.links if link.addressing.prefix is not None]
    behind = [n for end in spec.ends for n in end.networks]
    if open_links and not spec.blocks.allowed:
        raise no(ReasonCode.NOT_ADDRESSABLE, "no prefixes were given to choose from", "blocks")
    try:
        carved = carve(spec.blocks.allowed, (*spec.blocks.excluded, *taken, *behind), open_links)
    except PrefixTooSmall as error:
        raise no(ReasonCode.PREFIX_TOO_SMALL, str(error), error.wanted, Nogood(needed_addresses=error.needed)) from None
    links, reach = [], {}
    for link in spec.links:
        prefix = carved.get(link.id, link.addressing.prefix)
        # a link at a SAP takes the SAP's MTU, so that the function behind it can say what does not fit further on
        mtu = min([saps[p].mtu for p in link.points if p in saps] or [sap.mtu for sap in saps.values()])
        ports = [p for p in link.points if split_point(p)[1]]
        if prefix is None or not ports:
            links.append(LinkChoice(link=link.id, prefix=prefix, mtu=mtu))
            continue
        addresses = _hosts_of(link, prefix, ports)
        links.append(LinkChoice(link=link.id, prefix=prefix, addresses=addresses, mtu=mtu))
        for point in link.points:
            if point in saps and saps[point].role is SapRole.UNI and link.kind is LinkKind.LINE:
                reach[point] = (prefix, *spec.end(point).networks)
    return tuple(links), reach


def chooses_prefix(link: VirtualLink) -> bool:
    """Whether the link's prefix is the supplier's to choose: none is required, and some function has a port on it."""
    return link.addressing.prefix is None and any(split_point(p)[1] for p in link.points)


def _hosts_of(link: VirtualLink, prefix: Prefix, ports: list[str]) -> dict[str, Address]:
    given = {r.point: r.address for r in link.addressing.reserved if r.role is AddressRole.PEER and r.point is not None}
    gateway = next((r.address for r in link.addressing.reserved if r.role is AddressRole.GATEWAY), None)
    out: dict[str, Address] = {}
    if gateway is not None and link.kind is LinkKind.LINE:
        out[ports[0]] = gateway
    taken = [r.address for r in link.addressing.reserved]
    try:
        # an end's own address first: on a link of two the customer gets the lower one
        ends = [p for p in link.points if p not in ports and p not in given] if link.kind is LinkKind.LINE else []
        out.update(pick_hosts(prefix, (), [*taken, *out.values()], ends))
        left = [p for p in ports if p not in out]
        out.update(pick_hosts(prefix, link.addressing.hosts, [*taken, *out.values()], left))
    except PrefixTooSmall as error:
        raise no(
            ReasonCode.ADDRESS_EXHAUSTED,
            f"link {link.id!r}: no address is left for {error.wanted!r} in {prefix}",
            link.id,
        ) from None
    out.update({p: a for p, a in given.items() if p in link.points})
    return out
