"""Whether own domains, their functions and their interconnects make sense together.

Rules kept here
- Points of a domain are its places and SAPs, each with a name of its own; links join points that exist.
- Every place is reached from every other over places, and every SAP has a link to a place: a SAP is a border, not a way
  through.
- An NNI SAP names an interconnect, a UNI SAP none. An interconnect has one SAP of ours; if its peer is ourselves, one in
  each of two domains.
- The labels of an interconnect are those that its encapsulation has.
- A function's places are in a domain, and a function type has one document.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from broker.settings.administered import DomainDoc, DomainSap, FunctionDoc, InterconnectDoc
from broker.settings.present import Administered, Key
from broker.settings.problems import Problem
from capability_registry.label_kinds import kind_of
from capability_registry.note import PortRole, SapRole


def domain_problems(whole: Administered, own_sp_id: str, broken: Set[Key]) -> Iterator[Problem]:
    users: dict[str, list[str]] = {}
    for domain in whole.domains:
        yield from _points(domain, whole, broken)
        yield from _links(domain)
        for i, sap in enumerate(domain.saps):
            yield from _interconnect(domain, i, sap, whole, broken)
            if sap.interconnect is None:
                continue
            doc = whole.find(InterconnectDoc, sap.interconnect)
            before = users.setdefault(sap.interconnect, [])
            inner = doc is not None and doc.peer == own_sp_id
            if domain.name in before or len(before) >= (2 if inner else 1):
                reason = f"domain {before[0]!r} has a SAP of interconnect {sap.interconnect!r} already"
                yield Problem("domain", domain.name, f"saps[{i}].interconnect", reason)
            before.append(domain.name)


def _points(domain: DomainDoc, whole: Administered, broken: Set[Key]) -> Iterator[Problem]:
    seen: set[str] = set()
    for i, place in enumerate(domain.places):
        if ("place", place.place) not in whole.by_key and ("place", place.place) not in broken:
            yield _no(domain, f"places[{i}].place", f"there is no place {place.place!r}")
        if place.place in seen:
            yield _no(domain, f"places[{i}].place", f"{place.place!r} stands twice")
        seen.add(place.place)
    places = frozenset(seen)
    for i, sap in enumerate(domain.saps):
        if sap.place not in places:
            yield _no(domain, f"saps[{i}].place", f"{sap.place!r} is none of the domain's places")
        if sap.id in seen:
            yield _no(domain, f"saps[{i}].id", f"{sap.id!r} stands twice among the domain's places and SAPs")
        seen.add(sap.id)


def _links(domain: DomainDoc) -> Iterator[Problem]:
    places = {p.place for p in domain.places}
    points = places | {s.id for s in domain.saps}
    seen: set[frozenset[str]] = set()
    adjacent: dict[str, set[str]] = {point: set() for point in points}
    for i, link in enumerate(domain.links):
        for side, point in (("a", link.a), ("b", link.b)):
            if point not in points:
                yield _no(domain, f"links[{i}].{side}", f"{point!r} is no place and no SAP of the domain")
        pair = frozenset({link.a, link.b})
        if len(pair) == 1:
            yield _no(domain, f"links[{i}].b", f"the link leads from {link.a!r} to itself")
        elif pair in seen:
            yield _no(
                domain, f"links[{i}]", f"a second link between {link.a!r} and {link.b!r}: give the first more ways"
            )
        seen.add(pair)
        names = [way.name for way in link.ways]
        for j, name in enumerate(names):
            if name in names[:j]:
                yield _no(domain, f"links[{i}].ways[{j}].name", f"{name!r} stands twice")
        if pair <= points:
            adjacent[link.a].add(link.b)
            adjacent[link.b].add(link.a)
    for i, sap in enumerate(domain.saps):
        if not adjacent[sap.id] & places:
            yield _no(domain, f"saps[{i}]", f"no link joins SAP {sap.id!r} to a place of the domain")
    first = domain.places[0].place
    reached, waiting = {first}, [first]
    while waiting:
        for point in adjacent[waiting.pop()] & places - reached:
            reached.add(point)
            waiting.append(point)
    for i, place in enumerate(domain.places):
        if place.place not in reached:
            yield _no(domain, f"places[{i}]", f"no links lead from {first!r} to {place.place!r} over places")


def _interconnect(
    domain: DomainDoc, i: int, sap: DomainSap, whole: Administered, broken: Set[Key]
) -> Iterator[Problem]:
    field = f"saps[{i}].interconnect"
    if sap.role is SapRole.UNI:
        if sap.interconnect is not None:
            yield _no(domain, field, f"the UNI SAP {sap.id!r} has none: customers attach to it")
        return
    if sap.interconnect is None:
        yield _no(domain, field, f"the NNI SAP {sap.id!r} needs one")
        return
    doc = whole.find(InterconnectDoc, sap.interconnect)
    if doc is None:
        if ("interconnect", sap.interconnect) not in broken:
            yield _no(domain, field, f"there is no interconnect {sap.interconnect!r}")
        return
    kind = kind_of(sap.encapsulation)
    if kind is not None and not doc.labels <= kind.labels:
        reason = f"{doc.labels} are not all labels of {sap.encapsulation.short} ({kind.labels}), as SAP {sap.id!r} is"
        yield Problem("interconnect", doc.name, "labels", reason)


def interconnect_problems(whole: Administered) -> Iterator[Problem]:
    for doc in whole.interconnects:
        if not doc.labels:
            yield Problem("interconnect", doc.name, "labels", "no labels: nothing could pass")


def function_problems(whole: Administered, broken: Set[Key]) -> Iterator[Problem]:
    offered = {place.place for domain in whole.domains for place in domain.places}
    unknown = any(kind == "domain" for kind, _ in broken)
    first: dict[object, str] = {}
    for function in whole.functions:
        for i, place in enumerate(function.places):
            if place not in offered and not unknown:
                yield _fn(function, f"places[{i}]", f"{place!r} is a place of none of our domains")
        if (known := first.setdefault(function.type, function.name)) != function.name:
            yield _fn(function, "type", f"function {known!r} has the type {function.type} too")
        for what, names in (
            ("ports", [p.name for p in function.ports]),
            ("flavours", [f.name for f in function.flavours]),
        ):
            for i, name in enumerate(names):
                if name in names[:i]:
                    yield _fn(function, f"{what}[{i}].name", f"{name!r} stands twice")
        if sum(port.role is PortRole.DATA for port in function.ports) < 2:
            yield _fn(function, "ports", "a function passes packets on: it needs at least two DATA ports")


def _no(domain: DomainDoc, field: str, reason: str) -> Problem:
    return Problem("domain", domain.name, field, reason)


def _fn(function: FunctionDoc, field: str, reason: str) -> Problem:
    return Problem("function", function.name, field, reason)
