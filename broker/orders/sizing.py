"""What size the functions of a service are: its spec with the flavours that a manager chose. Pure.

Rules kept here
- Whatever is planned and handed down goes by `sized`, at first and again: around what was refused, when it is healed, and as the
  live version that a newer one is compared with. The order's own spec stays as it came.
- A flavour that the spec names is its customer's, and stays.
"""

from __future__ import annotations

from broker.orders.deciders import latest
from broker.orders.decisions import Decision
from broker.orders.judging import scaled
from broker.orders.records import Order
from service_model.managing import ManagerTask, Scaling
from service_model.spec import ServiceSpec


def scaling_of(order: Order) -> Decision | None:
    """The flavours that were chosen, if they count."""
    decision = latest(order, ManagerTask.SCALE)
    return decision if decision is not None and isinstance(decision.choice, Scaling) else None


def sized(order: Order) -> ServiceSpec:
    """What the order is for, with its functions in the size that was chosen."""
    assert order.spec is not None, "only what is asked for has a size"
    decision = scaling_of(order)
    if decision is None or not isinstance(decision.choice, Scaling):
        return order.spec
    return scaled(order.spec, decision.choice)
