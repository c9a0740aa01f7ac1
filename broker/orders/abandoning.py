"""What an operator gives up: parts of a service that is being ended, at suppliers that never say that they are gone. Pure.

Rules kept here
- A committed allocation goes back when its owner ends the service and every supplier has said yes; or when an operator gives up
  waiting, which is recorded with who and why. Nothing else frees it.
- Only what is being ended is given up. What our own domains have is not: it is there, and would be given twice.
- What was live rests as always: a supplier that is late may still send packets.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from broker.orders.records import Order
from broker.orders.states import SegmentState
from broker.orders.tasks import remains
from service_model.outcomes import Reason, ReasonCode, ServiceState

ENDING = frozenset({ServiceState.TERMINATING, ServiceState.FAILED})


class NotAbandoned(ValueError):
    """Why nothing was given up; the message names the culprit."""


def given_up(order: Order, own_domains: Collection[str], why: str) -> Order:
    """The order without what its suppliers have not given back. Raises NotAbandoned."""
    if order.state not in ENDING:
        raise NotAbandoned(f"{order.ref!r} is {order.state.short}: only what is being ended can be given up")
    left = [s for s in order.segments if remains(s)]
    if not left:
        raise NotAbandoned(f"{order.ref!r} has nothing that is still with a supplier")
    own = next((s for s in left if s.alias in own_domains), None)
    if own is not None:
        raise NotAbandoned(f"segment {own.key} is in our own domain {own.alias!r}, which has to take it away")
    reason = Reason(code=ReasonCode.SUPPLIER_UNREACHABLE, message=f"given up by the operator: {why}")
    for segment in left:
        gone = replace(
            segment, state=SegmentState.TERMINATED, lingers=False, attempts=0, retry_at=None, reasons=(reason,)
        )
        order = order.with_segment(gone)
    return order
