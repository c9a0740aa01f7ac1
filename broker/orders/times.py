"""When a service begins and ends, and what follows from that. Pure.

Rules kept here
- A start that is past is now; an end that is past is refused. A newer version may begin later than the live one, but not
  after that has ended.
- A service ends by itself at the end of the version that was committed last, at every level by its own clock: what a supplier
  ends up to CLOCKS before is no failure.
- What is committed is owed from its start, and no longer than to its end, whenever that is noticed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from broker.orders.records import Order
from service_model.outcomes import Reason, ReasonCode, ServiceState
from service_model.spec import ServiceSpec
from service_model.window import Window

CLOCKS = timedelta(seconds=60)
"""By how much the clocks of two providers may differ."""
_TO_COME = frozenset({ServiceState.COMMITTING, ServiceState.ACTIVATING})


def window(spec: ServiceSpec | None) -> Window:
    return Window() if spec is None else Window.of(spec.start_time, spec.end_time)


def wrong_time(spec: ServiceSpec, now: datetime, live: Order | None = None) -> Reason | None:
    """Why it cannot be when it is asked for. `live`: what it would be a newer version of."""
    asked, had = window(spec), window(live.spec if live is not None else None)
    if asked.end <= now:
        return Reason(
            code=ReasonCode.INVALID_SPEC, message=f"the end {asked.end.isoformat()} is past", subject="end_time"
        )
    if asked.start > max(had.end, now):
        message = f"the start {asked.start.isoformat()} is after the end of the live version, {had.end.isoformat()}"
        return Reason(code=ReasonCode.INVALID_SPEC, message=message, subject="start_time")
    return None


def end_of(order: Order) -> datetime | None:
    """When the service ends by itself: as the newer version says once that is committed."""
    newer = order.beside
    spec = newer.spec if newer is not None and newer.state in _TO_COME else order.spec
    return spec.end_time if spec is not None else None


def about_to_end(order: Order, now: datetime) -> bool:
    """Whether what suppliers end now may be this end."""
    end = end_of(order)
    return end is not None and end - CLOCKS <= now


def begun(order: Order, now: datetime) -> bool:
    return window(order.spec).start <= now


def owed_at(order: Order, now: datetime) -> datetime:
    """When what begins or ends to be owed now does so: within the service's time."""
    within = window(order.spec)
    return min(max(now, within.start), within.end)
