"""What an order learns of a supplier that did not keep what its note promised: where not to plan again. Pure.

Rules kept here
- A refusal that names functions teaches of these; one that does not, of all that the segment has, or of its way.
- A price teaches where the segment as a whole is dearer than it was planned with: by as much its first function, or its
  way, is dearer there from now on. What is within ROUNDING is what margins are rounded to at each level.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from broker.decompose.plan import Avoid, Dearer
from service_model.money import Price
from service_model.outcomes import Reason
from service_model.spec import ServiceSpec

ROUNDING = Decimal("1.01")


def refused(alias: str, spec: ServiceSpec, reasons: Iterable[Reason]) -> Avoid:
    """What not to plan again after this supplier refused this segment."""
    functions = [f.id for f in spec.functions]
    if not functions:
        ends = spec.ends
        return Avoid(ways=frozenset({(alias, ends[0].sap, e.sap) for e in ends[1:] if e.sap != ends[0].sap}))
    culprits = [r.subject for r in reasons if r.subject in functions] or functions
    return Avoid(functions=frozenset((alias, f) for f in culprits))


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
