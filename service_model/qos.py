"""Classes of service: names for bounds that a provider keeps.

Rules kept here
- The numbers bind, and nothing else: a service of a class is one with the class's bounds. Where it has bounds of its own,
  the tighter ones count.
- What a class meant when a service was ordered is pinned with the agreement; a later change touches new orders only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from service_model.spec import ServiceSpec
from service_model.words import Microseconds, Name

QOS = "qos-classes"
"""The feature of a supplier that knows classes and keeps a bound on availability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QosClass:
    """`max_delay_us` 0, `min_availability` 0: no promise. `alias`: what others call it, where that is told."""

    name: Name
    max_delay_us: Microseconds = 0
    alias: str = ""
    min_availability: Annotated[float, Field(ge=0, le=1)] = 0.0


def class_of(spec: ServiceSpec, classes: Iterable[QosClass]) -> QosClass | None:
    """The class that the spec names; None where it names none, or one that is not among these."""
    return next((c for c in classes if c.name == spec.qos), None)


def bound(spec: ServiceSpec, classes: Iterable[QosClass]) -> ServiceSpec:
    """The spec with the bounds of its class as its own."""
    found = class_of(spec, classes)
    if found is None:
        return spec
    delays = [us for us in (spec.max_delay_us, found.max_delay_us or None) if us is not None]
    least = max(spec.min_availability or 0.0, found.min_availability)
    return replace(spec, max_delay_us=min(delays, default=None), min_availability=least or None)
