"""Single requests drawn from a seed: chains of nought to five functions between two SAPs of a hierarchy's top, with bounds
that are near what can just be had.

Rules kept here
- A request is in the words of the top: `in_words` gives it those of the broker that sees all.
- Where the top hands over, another seller meets it and no customer; so one request in four may end there, which the broker that
  sees all does not sell. The others end elsewhere.
- Bounds on delay and price are drawn around what the broker that sees all would need without them. What it could not
  deliver even so is drawn again, `TRIES` times at most: most of what is drawn at random cannot be had anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from benchmarks.hierarchies.drawn import COUNTRIES, FLOW, MECHANISMS, Hierarchy
from benchmarks.hierarchies.sellers import NOW
from broker.decompose.plan import Plan
from broker.decompose.search import best
from service_model.constraints import Countries, Distance, Group, GroupKind, GroupScope
from service_model.spec import End, FunctionRequest, LinkKind, ServiceFunctionPath, ServiceSpec, VirtualLink

TRIES = 4


def in_words(spec: ServiceSpec, names: Mapping[str, str]) -> ServiceSpec:
    """The same with the SAPs named otherwise."""
    return replace(spec, ends=tuple(replace(e, sap=names[e.sap]) for e in spec.ends))


def request(hierarchy: Hierarchy, rng: random.Random) -> ServiceSpec:
    """With constraints of every kind, now and then."""
    for _ in range(TRIES):
        spec = _constrained(_free(hierarchy, rng, (0, 1, 1, 1, 2, 3)), rng)
        found = best(in_words(spec, hierarchy.flat_names), hierarchy.flat.snapshot, NOW)
        if found is not None:
            return _bounded(spec, found, rng)
    return spec


def sites(hierarchy: Hierarchy, rng: random.Random) -> ServiceSpec:
    """A LAN of two to four sites, by itself or beside a request whose functions it manages, over ways as they are asked for."""
    saps = _ends(hierarchy, rng)
    chosen = rng.sample(saps, min(len(saps), rng.choice((2, 3, 3, 4))))
    spec = request(hierarchy, rng) if rng.random() < 0.5 else None
    if spec is None:
        ends = tuple(End(id=f"e{n}", sap=sap) for n, sap in enumerate(chosen))
        lan = VirtualLink(id="lan", kind=LinkKind.LAN, points=tuple(e.id for e in ends))
        bps = FLOW * rng.choice((0, 1, 1, 2, 3))
        spec = ServiceSpec(
            name="bench", ends=ends, links=(lan,), bandwidth_bps=bps, term_hours=rng.choice((1, 24, 720))
        )
        return _constrained(spec, rng)
    ends = tuple(End(id=f"e{n}", sap=sap) for n, sap in enumerate(chosen[: rng.choice((1, 2))]))
    managed = tuple(f"{f.id}:mgmt" for f in spec.functions if rng.random() < 0.7)
    points = (*managed, *(e.id for e in ends))
    if len(points) < 2:
        return spec
    lines = tuple(link for link in spec.links if link.kind is LinkKind.LINE)
    lan = VirtualLink(id="lan", kind=LinkKind.LAN, points=points)
    return replace(spec, ends=(*spec.ends, *ends), links=(*lines, lan))


def plain(hierarchy: Hierarchy, rng: random.Random) -> ServiceSpec:
    """Functions and bandwidth alone: one order of many."""
    return _free(hierarchy, rng, (1, 2))


def _ends(hierarchy: Hierarchy, rng: random.Random) -> list[str]:
    saps = hierarchy.top.note().saps
    ends = sorted(s.id for s in saps if not s.beyond)
    handing = len(ends) < len(saps) and (len(ends) < 2 or rng.random() < 0.25)
    return sorted(s.id for s in saps) if handing else ends


def _free(hierarchy: Hierarchy, rng: random.Random, flows: tuple[int, ...]) -> ServiceSpec:
    ends = _ends(hierarchy, rng)
    a, b = rng.sample(ends, 2)
    names = hierarchy.flat_names
    others = [sap for sap in ends if names[sap] != names[a]]
    if names[a] == names[b] and others:  # one SAP under two sellers' names
        b = rng.choice(others)
    offered = sorted({f.type for leaf in hierarchy.leaves for f in leaf.domain.functions})
    types = [rng.choice(offered) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 5)))]
    return _chain(a, b, types, bandwidth_bps=FLOW * rng.choice(flows), term_hours=rng.choice((1, 24, 720)))


def _constrained(spec: ServiceSpec, rng: random.Random) -> ServiceSpec:
    more: dict[str, Any] = {"min_mtu": rng.choice((1280, 1500, 9000)) if rng.random() < 0.2 else 1280}
    names = [f.id for f in spec.functions]
    if rng.random() < 0.15:
        chosen = rng.sample(COUNTRIES, rng.randint(1, 2))
        more["countries"] = Countries(allowed=tuple(chosen)) if rng.random() < 0.5 else Countries(denied=(chosen[0],))
    if rng.random() < 0.2:
        more["isolation"] = tuple(rng.sample(MECHANISMS, rng.choice((1, 1, 2))))
    if len(names) > 1 and rng.random() < 0.25:
        kind = rng.choice((GroupKind.AFFINITY, GroupKind.ANTI_AFFINITY))
        scope = rng.choice((GroupScope.HOST, GroupScope.PLACE))
        members = tuple(rng.sample(names, rng.randint(2, len(names))))
        more["groups"] = (Group(id="g", kind=kind, scope=scope, functions=members),)
    if names and rng.random() < 0.1:
        far = rng.choice(("a", "b"))
        more["distances"] = (
            Distance(id="d", function=rng.choice(names), to=far, max_delay_us=rng.randint(500, 9000))
            if rng.random() < 0.7
            else Distance(id="d", function=rng.choice(names), to=far, max_km=rng.randint(10, 200)),
        )
    if names and rng.random() < 0.15:
        members = tuple(f"{n}:mgmt" for n in sorted(rng.sample(names, rng.randint(1, len(names)))))
        more["links"] = (*spec.links, VirtualLink(id="lan", kind=LinkKind.LAN, points=members))
    return replace(spec, **more)


def _bounded(spec: ServiceSpec, found: Plan, rng: random.Random) -> ServiceSpec:
    if rng.random() < 0.5:
        spec = replace(spec, max_delay_us=int(found.delay_us * rng.uniform(0.3, 1.2)))
    if rng.random() < 0.25:
        spec = replace(spec, max_price=(found.cost * Decimal(rng.randint(90, 180)) / 100).quantize(Decimal("0.01")))
    return spec


def _chain(a: str, b: str, types: list[Any], **more: Any) -> ServiceSpec:
    hops = ["a", *(f"f{i}:{port}" for i in range(len(types)) for port in ("in", "out")), "b"]
    pairs = zip(hops[::2], hops[1::2], strict=True)
    return ServiceSpec(
        name="bench",
        ends=(End(id="a", sap=a), End(id="b", sap=b)),
        functions=tuple(FunctionRequest(id=f"f{i}", type=t) for i, t in enumerate(types)),
        links=tuple(VirtualLink(id=f"l{i}", points=pair) for i, pair in enumerate(pairs)),
        paths=(ServiceFunctionPath(id="p", hops=tuple(hops)),),
        **more,
    )
