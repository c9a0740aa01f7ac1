"""What an order learns of a supplier that did not keep what its note promised: where not to plan again. Pure.

Rules kept here
- A refusal teaches of what it names and no more: a function at its place, an end's SAP, the ways that a LINE would take. One
  that names nothing teaches of all functions that the segment has, at their places, or of its way.
- Who broke a constraint lacks nothing: none of the segment's functions is planned there again.
- A price teaches where the segment as a whole is dearer than it was planned with: by as much its first function, or its
  way, is dearer there from now on. What is within ROUNDING is what margins are rounded to at each level.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from broker.decompose.plan import Avoid, Dearer
from service_model.money import Price
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import FunctionRequest, LinkKind, ServiceSpec, split_point

ROUNDING = Decimal("1.01")


def refused(alias: str, spec: ServiceSpec, reasons: Iterable[Reason]) -> Avoid:
    """What not to plan again after this supplier refused this segment."""
    heard = tuple(reasons)
    if spec.functions and any(reason.code is ReasonCode.CONSTRAINT_VIOLATED for reason in heard):
        return Avoid(functions=frozenset((alias, f.id) for f in spec.functions))
    subjects = {reason.subject for reason in heard}
    at = {end.id: end.sap for end in spec.ends} | {f.id: f.places[0] for f in spec.functions if len(f.places) == 1}
    lines = [link.points for link in spec.links if link.id in subjects and link.kind is LinkKind.LINE]
    points = [tuple(at.get(split_point(point)[0]) for point in line) for line in lines]
    learnt = Avoid(
        saps=frozenset((alias, end.sap) for end in spec.ends if end.id in subjects),
        ways=frozenset((alias, a, b) for a, b in points if a is not None and b is not None and a != b),
    ) | _not_there(alias, [f for f in spec.functions if f.id in subjects])
    if learnt != Avoid():
        return learnt
    if spec.functions:
        return _not_there(alias, spec.functions)
    first, *others = (end.sap for end in spec.ends)
    return Avoid(ways=frozenset((alias, first, sap) for sap in others if sap != first))


def _not_there(alias: str, functions: Iterable[FunctionRequest]) -> Avoid:
    """Where they were asked for; nowhere at the supplier, if that was left to it."""
    out = Avoid()
    for f in functions:
        if len(f.places) == 1:
            out |= Avoid(placings=frozenset({(alias, f.id, f.places[0])}))
        else:
            out |= Avoid(functions=frozenset({(alias, f.id)}))
    return out


def is_dearer(announced: Price, asked: Price, hours: int) -> bool:
    """Whether a segment costs more over the term than it was planned with. Other currencies are not compared."""
    return asked.currency == announced.currency and asked.over(hours) > announced.over(hours) * ROUNDING


def dearer(alias: str, spec: ServiceSpec, announced: Price, asked: Price) -> Avoid:
    """By how much to plan dearer after this supplier asked this price for this segment."""
    saps = list(dict.fromkeys(end.sap for end in spec.ends))
    learnt = Dearer(
        alias=alias,
        function=spec.functions[0].id if spec.functions else "",
        way=(saps[0], saps[-1]),
        once=asked.once - announced.once,
        per_hour=asked.per_hour - announced.per_hour,
    )
    return Avoid(dearer=(learnt,))
