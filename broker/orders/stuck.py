"""What is over and does not end: a supplier that does not confirm that its part is gone. Pure.

Rules kept here
- An order that is over becomes STUCK when a supplier has left unconfirmed for `stuck_after` that its part is gone. It is
  charged no more, as before, and every supplier is still asked, ever more rarely; when all have confirmed, it is TERMINATED.
- Only an operator gives a segment up, and only of what is STUCK. From then on its supplier is asked nothing of it, and what
  the supplier still says to have of it is reported (`Listener.returned`), never deleted.
- A segment in a domain of our own is not given up: what it has built is ours to take away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from broker.orders.records import Abandoned, Order, Segment
from broker.orders.states import AS_SERVICE, Event, SegmentState
from broker.orders.tasks import Env, Pause, Track, remains, task
from service_model.outcomes import Reason, ReasonCode, ServiceState


class NotStuck(Exception):
    """What an operator wants to give up cannot be. `field` of the request, and why, for the operator."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@task
def stick(order: Order, env: Env) -> Order | Pause:
    """What a supplier has not confirmed for long to be gone is told, and asked for ever more rarely."""
    if not any(_silent(s, env) for s in unconfirmed(order)):
        return order
    segments = tuple(replace(s, attempts=0) if remains(s) else s for s in order.segments)
    return replace(order, segments=segments).on(Event.STICK)


def _silent(segment: Segment, env: Env) -> bool:
    """Whether it was asked for long enough, and lately in vain: not only we were away."""
    since, again = segment.ending_since, segment.retry_at
    return since is not None and since + env.stuck_after <= env.now and again is not None and again > env.now


def stuck_track(order: Order) -> Track:
    """Which of an order's versions is STUCK: its own; or what it had before and is to be gone, while it lives."""
    past = order.past
    stuck = past is not None and past.state is ServiceState.STUCK and order.state is not ServiceState.STUCK
    return Track.PAST if stuck else Track.LIVE


def unconfirmed(order: Order) -> tuple[Segment, ...]:
    """The segments of which their suppliers may still have something."""
    return tuple(s for s in order.segments if remains(s))


def shown(order: Order, segment: Segment) -> ServiceState:
    """How a segment's state reads: of an order that is STUCK, what holds it up is STUCK too."""
    return ServiceState.STUCK if order.state is ServiceState.STUCK and remains(segment) else AS_SERVICE[segment.state]


def untold(order: Order) -> tuple[Reason, ...]:
    """What is not known to be gone, as its owner is told beside the order's own reasons."""
    out = []
    for segment in order.segments:
        if segment.state is SegmentState.ABANDONED:
            message = f"segment {segment.key} was given up: its supplier never confirmed that it is gone"
        elif order.state is ServiceState.STUCK and remains(segment):
            message = f"segment {segment.key}: its supplier has not confirmed that it is gone"
        else:
            continue
        out.append(Reason(code=ReasonCode.SUPPLIER_UNREACHABLE, message=message, segment=segment.key))
    return tuple(out)


def named(orders: Iterable[Order], service: str, account: str) -> Order:
    """The order that an operator names: by our id, or by its owner's ref, with the account where several have that.
    Raises NotStuck."""
    found = [o for o in orders if o.version and service in (o.id, o.ref) and account in ("", o.account)]
    if not found:
        of = f" of account {account!r}" if account else ""
        raise NotStuck("service", f"there is no service {service!r}{of}")
    if len(found) > 1:
        owners = ", ".join(sorted(o.account for o in found))
        raise NotStuck("account", f"several accounts have a service {service!r}: {owners}; say whose")
    return found[0]


def to_abandon(order: Order, segment: str, own: Callable[[str], bool]) -> tuple[str, ...]:
    """The keys of what is to be given up: that segment, or ("") all that hold the order up at suppliers. `own` knows the
    aliases of our domains. Raises NotStuck."""
    if order.state is not ServiceState.STUCK:
        raise NotStuck("service", f"service {order.ref!r} is {order.state.short}, not STUCK")
    stuck = unconfirmed(order)
    if not stuck:
        raise NotStuck("service", f"nothing of service {order.ref!r} is stuck any more")
    if segment and segment not in {s.key for s in stuck}:
        those = ", ".join(s.key for s in stuck)
        raise NotStuck("segment", f"segment {segment!r} of {order.ref!r} is not stuck; these are: {those}")
    mine = [s for s in stuck if segment in ("", s.key)]
    given = tuple(s.key for s in mine if not own(s.alias))
    if not given:
        key, alias = mine[0].key, mine[0].alias
        raise NotStuck(
            "segment",
            f"segment {key!r} is in our own domain {alias!r}, which is to be repaired: nothing is given up there",
        )
    return given


def abandoned(order: Order, keys: Collection[str], by: Abandoned) -> Order:
    """The order with these segments given up."""
    given = (
        replace(s, state=SegmentState.ABANDONED, abandoned=by, lingers=False, attempts=0, retry_at=None)
        for s in order.segments
        if s.key in keys
    )
    for segment in given:
        order = order.with_segment(segment)
    return order
