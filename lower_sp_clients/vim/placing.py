"""Where a domain puts the functions of a segment, and which of its ways the flow may take. Pure.

Rules kept here
- The countries asked for hold of every place, of every SAP by its place, and of every point that a way joins. Isolation is
  offered by a way, and every way that is taken must offer each mechanism asked for.
- Each function is at the first place with room that its own constraints admit. Groups by place and distances between
  functions are judged of those places: whoever splits a service names one place for each function.
- A function that forwards less than the service's bandwidth in the flavour asked for is refused, wherever it would be.
- Functions are packed as the note announces; where hosts are shared or not, by the same algorithm as the planner's.
- A domain buys from nobody: all that it has is of one supplier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations

from capability_registry.distance import kilometres
from capability_registry.hosting import hosts
from capability_registry.note import Place
from lower_sp_clients.vim.domain import CatalogueFunction, Domain, Sap, Usage, pack
from service_model.constraints import Countries, Group, GroupKind, GroupScope
from service_model.flavours import Flavour
from service_model.outcomes import Nogood, Reason, ReasonCode
from service_model.spec import FunctionRequest, ServiceSpec
from service_model.window import Window

Offers = Mapping[str, CatalogueFunction]
"""What the domain has for each function of the spec."""


class Impossible(Exception):
    """The segment cannot be made here; `reasons` say why."""

    def __init__(self, *reasons: Reason) -> None:
        super().__init__("; ".join(r.message for r in reasons))
        self.reasons = reasons


def no(
    code: ReasonCode, message: str, subject: str = "", nogood: Nogood | None = None, retryable: bool = False
) -> Impossible:
    return Impossible(Reason(code=code, message=message, subject=subject, nogood=nogood, retryable=retryable))


def not_then(code: ReasonCode, message: str, subject: str, when: Window | None) -> Impossible:
    """Too little of something is free; `when`, where not all the time."""
    if when is None:
        return no(code, message, subject)
    start, end = when.told()
    return Impossible(Reason(code=code, message=f"{message} {when}", subject=subject, start_time=start, end_time=end))


def flavour_of(offer: CatalogueFunction, request: FunctionRequest) -> Flavour:
    """The flavour asked for, or the type's first. Raises Impossible naming the function."""
    if request.flavour is None:
        return offer.flavours[0]
    for flavour in offer.flavours:
        if flavour.name == request.flavour:
            return flavour
    raise no(
        ReasonCode.UNKNOWN_FUNCTION_TYPE,
        f"function {request.id!r}: {offer.type} has no flavour {request.flavour!r}",
        request.id,
    )


def admitted(domain: Domain, countries: Countries, isolation: tuple[str, ...]) -> Domain:
    """The domain with only the ways that stay in the countries and offer the isolation."""
    if not countries and not isolation:
        return domain
    at = {p.id: p.id for p in domain.places} | {s.id: s.place for s in domain.saps}
    inside = {point for point, place in at.items() if countries.admit(_country(domain, place))}
    ways = (w for w in domain.ways if w.a in inside and w.b in inside and set(isolation).issubset(w.isolation))
    return replace(domain, ways=tuple(ways))


def check_ends(domain: Domain, spec: ServiceSpec, saps: Mapping[str, Sap]) -> None:
    """Raises Impossible where an end is not in the countries asked for."""
    for end in spec.ends:
        country = _country(domain, saps[end.id].place)
        if not spec.countries.admit(country):
            where = country or "a country that is not known"
            raise no(ReasonCode.COUNTRY, f"countries ({spec.countries}): end {end.id!r} is in {where}", "countries")


def place(domain: Domain, usage: Usage, spec: ServiceSpec, saps: Mapping[str, Sap], offers: Offers) -> dict[str, str]:
    """A place for each function. Raises Impossible naming the function or constraint."""
    out: dict[str, str] = {}
    for function in spec.functions:
        offer = offers[function.id]
        allowed = offer.places & set(function.places) if function.places else offer.places
        if not allowed:
            raise no(
                ReasonCode.UNKNOWN_PLACE,
                f"function {function.id!r}: {offer.type} is not offered at {', '.join(function.places)}",
                function.id,
            )
        for countries, subject in ((function.countries, function.id), (spec.countries, "countries")):
            allowed = frozenset(p for p in allowed if countries.admit(_country(domain, p)))
            if not allowed:
                message = f"countries ({countries}): function {function.id!r} could only be elsewhere"
                raise no(ReasonCode.COUNTRY, message, subject)
        allowed = _near_ends(domain, spec, saps, function.id, allowed)
        flavour = flavour_of(offer, function)
        if 0 < flavour.max_bandwidth_bps < spec.bandwidth_bps:
            most = f"{offer.type} of flavour {flavour.name!r} forwards {flavour.max_bandwidth_bps} bit/s"
            raise no(ReasonCode.BANDWIDTH, f"function {function.id!r}: {most}", function.id)
        units = flavour.units
        roomy = [p for p in sorted(allowed) if pack(domain, usage, p, [units]) is not None]
        if not roomy:
            raise _no_host(domain, usage, function.id, allowed, units)
        out[function.id] = roomy[0]
    _check_groups(spec, out)
    for distance in spec.distances:
        if distance.max_km is not None and distance.function in out and distance.to in out:
            x, y = (_known(domain, out[f]) for f in (distance.function, distance.to))
            if kilometres(x, y) > distance.max_km:
                raise _too_far(distance.id, distance.function, distance.to, distance.max_km)
    return out


def _no_host(domain: Domain, usage: Usage, function: str, places: Iterable[str], units: int) -> Impossible:
    """No host of these places has room: told is the one that has most."""
    message = f"function {function!r}: no host with {units} free units"
    hosts = [(place, n) for place in sorted(places) for n in range(len(domain.hosts.get(place, ())))]
    if not hosts:
        return no(ReasonCode.CAPACITY, message, function)
    sizes = {(place, n): domain.hosts[place][n] for place, n in hosts}
    most = max(hosts, key=lambda host: sizes[host] - usage.of(host))
    free = max(0, sizes[most] - usage.of(most))
    message = f"{message}; at {most[0]} {free} of {sizes[most]} are free"
    return not_then(ReasonCode.CAPACITY, message, function, usage.when(most))


def _near_ends(
    domain: Domain, spec: ServiceSpec, saps: Mapping[str, Sap], function: str, allowed: frozenset[str]
) -> frozenset[str]:
    for distance in spec.distances:
        km = distance.max_km
        if km is not None and distance.function == function and distance.to in saps:
            centre = _known(domain, saps[distance.to].place)
            allowed = frozenset(p for p in allowed if kilometres(_known(domain, p), centre) <= km)
            if not allowed:
                raise _too_far(distance.id, function, distance.to, km)
    return allowed


def _too_far(distance: str, function: str, to: str, km: float) -> Impossible:
    message = f"distance {distance!r}: {function!r} is not within {km:g} km of {to!r}"
    return no(ReasonCode.DISTANCE, message, distance)


def _check_groups(spec: ServiceSpec, placed: Mapping[str, str]) -> None:
    for group in spec.groups:
        pairs = list(combinations(group.functions, 2))
        together = group.kind is GroupKind.AFFINITY
        # a host is at one place; functions at different places are on different hosts
        if group.scope is GroupScope.SUPPLIER:
            kept = together
        elif together:
            kept = all(placed[x] == placed[y] for x, y in pairs)
        else:
            kept = group.scope is GroupScope.HOST or all(placed[x] != placed[y] for x, y in pairs)
        if not kept:
            raise _split_wrongly(group, f"cannot be {_how(group)} by {group.scope.short}")


def assign(
    domain: Domain, usage: Usage, spec: ServiceSpec, offers: Offers, placed: Mapping[str, str]
) -> dict[str, tuple[str, int]]:
    """A host (place, index) for each function. Raises Impossible naming a function or group."""
    out: dict[str, tuple[str, int]] = {}
    for at in sorted(set(placed.values())):
        units = {f.id: flavour_of(offers[f.id], f).units for f in spec.functions if placed[f.id] == at}
        packed = pack(domain, usage, at, list(units.values()))
        groups = tuple(_by_host(spec, units))
        free = [size - usage.units.get((at, i), 0) for i, size in enumerate(domain.hosts.get(at, ()))]
        if groups and (by_function := hosts(free, units, groups)) is not None:
            out.update({f: (at, host) for f, host in by_function.items()})
            continue
        if packed is None:
            raise no(
                ReasonCode.CAPACITY, f"functions {', '.join(units)} do not fit together at {at}", next(iter(units))
            )
        if groups:
            culprit = next((g for g in groups if hosts(free, units, (g,)) is None), groups[0])
            raise _split_wrongly(culprit, f"do not fit {_how(culprit)} on the hosts of {at}")
        out.update({f: (at, host) for f, host in zip(units, packed, strict=True)})
    return out


def _by_host(spec: ServiceSpec, here: Mapping[str, int]) -> Iterator[Group]:
    for group in spec.groups:
        if group.scope is GroupScope.HOST and len(here.keys() & set(group.functions)) > 1:
            yield group


def _how(group: Group) -> str:
    return "together" if group.kind is GroupKind.AFFINITY else "apart"


def _split_wrongly(group: Group, why: str) -> Impossible:
    return no(ReasonCode.AFFINITY, f"group {group.id!r}: {', '.join(group.functions)} {why}", group.id)


def _known(domain: Domain, place: str) -> Place | None:
    return next((p for p in domain.places if p.id == place), None)


def _country(domain: Domain, place: str) -> str | None:
    known = _known(domain, place)
    return known.country if known else None
