"""Which features every supplier of a service must have, because each would have to see what it is told there. Pure."""

from __future__ import annotations

from service_model.constraints import PLACEMENT
from service_model.qos import QOS
from service_model.spec import MACS, ServiceSpec


def needed_everywhere(spec: ServiceSpec) -> tuple[str, ...]:
    """What only some functions need (`paths`, `lan-sites`) is a matter of where these are planned."""
    asked = ((PLACEMENT, spec.needs_placement()), (QOS, spec.needs_classes()), (MACS, spec.needs_macs()))
    return tuple(feature for feature, needed in asked if needed)
