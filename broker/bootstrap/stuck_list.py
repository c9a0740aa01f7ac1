"""What is over and does not end, as an operator sees it, with what can be done. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from broker.accounts.admin_port import Discrepancy, StuckSegment
from broker.orders.catalogue import Listing
from broker.orders.listening import Returned
from broker.orders.records import Order, Segment
from broker.orders.stuck import stuck_track, unconfirmed
from service_model.outcomes import ServiceState

Listed = Callable[[str], Listing | None]
"""The supplier or domain that an alias stands for now."""


def stuck_segments(orders: Iterable[Order], listed: Listed) -> tuple[StuckSegment, ...]:
    """Of every order that is STUCK, and of what a live one had before, the parts that hold it up, what is asked for longest
    first."""
    parts = (stuck_track(order).part(order) for order in orders)
    found = (s for part in parts if part is not None and part.state is ServiceState.STUCK for s in _of(part, listed))
    return tuple(sorted(found, key=lambda s: (s.since is None, s.since, s.service, s.segment)))


def _of(order: Order, listed: Listed) -> Iterator[StuckSegment]:
    for segment in unconfirmed(order):
        listing = listed(segment.alias)
        yield StuckSegment(
            service=order.id,
            account=order.account,
            ref=order.ref,
            segment=segment.key,
            alias=segment.alias,
            supplier=listing.sp_id if listing else "",
            supplier_ref=segment.ref,
            since=segment.ending_since,
            last_error=segment.error,
            next_attempt=segment.retry_at,
            labels=dict(segment.choice.labels) if segment.choice else {},
            block=", ".join(sorted(order.blocks())),
            own=listing is not None and listing.local,
            advice=_advice(segment, listing),
        )


def _advice(segment: Segment, listing: Listing | None) -> str:
    if listing is None:
        return f"apply the document of supplier {segment.alias} again, or give the segment up"
    if listing.local:
        return f"repair domain {segment.alias}: what it has built is taken away as soon as its driver can"
    return f"have {listing.sp_id} answer: it ends by itself then. If it never will, give the segment up"


def returned_discrepancies(returned: Iterable[Returned]) -> tuple[Discrepancy, ...]:
    """What suppliers have of segments that were given up."""
    return tuple(
        Discrepancy(
            where=r.alias,
            subject=r.ref,
            message=f"is {r.state.short} there: segment {r.segment} of service {r.service}, given up on"
            f" {r.abandoned.at:%Y-%m-%d} by {r.abandoned.actor}: {r.abandoned.reason}",
        )
        for r in returned
    )
