"""Sites in a row under brokers that buy from each other, and chains from the first to the last of them."""

from __future__ import annotations

from dataclasses import replace

from address_planner.labels import LabelSet
from service_model.spec import ServiceSpec
from tests.support.sites import POOL, Site, Sp, chain

TAGGED = LabelSet(((10, 99),))


def line(count: int, depth: int, *, swaps: bool = True) -> Sp:
    """Sites in a row under `depth` levels of brokers, of which each has the half and buys the rest from the next."""
    parts: tuple[Sp | Site, ...] = tuple(Site(f"s{n}", ("meter",), swaps=swaps, uni=TAGGED) for n in range(count))
    for level in range(depth - 1, 0, -1):
        half = max(1, len(parts) // 2)
        parts = (*parts[:half], Sp(f"b{level}", parts[half:]))
    return Sp("a", parts, (POOL,))


def last_sap(top: Sp) -> str:
    part: Sp | Site = top
    names = []
    while isinstance(part, Sp):
        (*_, part) = part.parts  # type: ignore[assignment]
        names.append(part.name)
    return ".".join([*names, "uni"])


def first_and_last(top: Sp, length: int, *, lan: bool = False) -> ServiceSpec:
    """A chain from the first site to the last, with a function at each."""
    spec = chain("s0.uni", last_sap(top), "meter", "meter", lan=lan)
    at = {"f0": "S0", "f1": f"S{length - 1}"}
    return replace(spec, functions=tuple(replace(f, places=(at[f.id],)) for f in spec.functions))
