"""What suppliers tell of their parts of our orders, heard as it happens and asked for after every interruption."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from broker.orders.calling import Caller
from broker.orders.delivering import observe
from broker.orders.records import Abandoned, Order
from broker.orders.tasks import remains
from lower_sp_clients.supplier import Interest, ServiceNotFound, Supplier
from service_model.clock import Clock
from service_model.outcomes import ServiceState, ServiceStatus

log = structlog.get_logger()

_ANSWERED = {ServiceState.RESERVING, ServiceState.RESERVED, ServiceState.COMMITTING, ServiceState.ACTIVATING}
_PARTS = Interest(states=frozenset(ServiceState) - _ANSWERED, addressing=False)
"""What we hear of our segments: until they are active, the answers to our calls tell it."""


_OVER = frozenset({ServiceState.TERMINATED, ServiceState.EXPIRED, ServiceState.REFUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What a supplier says to have of a segment that was given up, under the ref that we chose for it there."""

    alias: str
    ref: str
    service: str
    segment: str
    state: ServiceState
    abandoned: Abandoned


class Listener:
    """Follows every supplier of `caller`. `orders` are all orders as wanted; one that a supplier's word changes is given
    to `change`."""

    def __init__(
        self, caller: Caller, clock: Clock, orders: Mapping[str, Order], change: Callable[[Order], None]
    ) -> None:
        self._caller = caller
        self._clock = clock
        self._orders = orders
        self._change = change
        self._by_child: dict[tuple[str, str], tuple[str, str]] = {}
        self._abandoned: dict[tuple[str, str], tuple[str, str, Abandoned]] = {}
        self._returned: dict[tuple[str, str], ServiceState] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def follow(self, suppliers: Mapping[str, Supplier]) -> None:
        """Listen to these from now on, by alias, and to no others."""
        former = self._caller.suppliers
        for alias in [a for a, s in former.items() if suppliers.get(a) is not s]:
            self._followers.pop(alias).cancel()
        self._caller.suppliers = dict(suppliers)
        for alias, supplier in suppliers.items():
            if former.get(alias) is not supplier:
                task = asyncio.create_task(self._follow(alias, supplier), name=f"follow-{alias}")
                self._followers[alias] = task

    def index(self, order: Order) -> None:
        """Know the segments of this order by their suppliers' names for them."""
        for segment in order.segments:
            if remains(segment):
                self._by_child[segment.alias, segment.ref] = (order.id, segment.key)
            else:
                self._by_child.pop((segment.alias, segment.ref), None)
            if segment.abandoned is not None:
                self._abandoned[segment.alias, segment.ref] = (order.id, segment.key, segment.abandoned)

    def open(self) -> tuple[str, ...]:
        """Segments whose supplier may still tell something."""
        return tuple(f"segment {key} of {id}" for id, key in self._by_child.values())

    def returned(self) -> tuple[Returned, ...]:
        """What suppliers that came back have of segments that were given up. It is reported, and never asked for to end."""
        out = []
        for (alias, ref), state in self._returned.items():
            service, segment, by = self._abandoned[alias, ref]
            out.append(Returned(alias=alias, ref=ref, service=service, segment=segment, state=state, abandoned=by))
        return tuple(out)

    def ask(self, order: Order) -> None:
        """Ask for the present state of all that is open of an order: what was told of it may not have been heard."""

        async def ask_all() -> None:
            for alias, supplier in self._caller.suppliers.items():
                try:
                    await self._ask(order, alias, supplier)
                except Exception as error:  # it is asked again when it is connected again
                    log.warning("supplier not asked", supplier=alias, service=order.id, error=str(error))

        task = asyncio.create_task(ask_all(), name=f"ask-{order.id}")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def close(self) -> None:
        followers = (*self._followers.values(), *self._asking)
        for task in followers:
            task.cancel()
        await asyncio.gather(*followers, return_exceptions=True)

    async def _follow(self, alias: str, supplier: Supplier) -> None:
        """Hear of every change at one supplier; after each (re)connection ask for the present state of all that is open."""
        attempts = 0
        while True:
            try:
                async for event in supplier.watch("", _PARTS):
                    if event.status is None:
                        await self._resync(alias, supplier)
                    else:
                        self._observe(alias, event.status.ref, event.status)
                    attempts = 0
            except Exception as error:
                log.warning("supplier's events broke off", supplier=alias, error=str(error))
            attempts += 1
            await self._clock.sleep(min(10.0, 0.2 * 2 ** min(attempts, 8)))

    async def _resync(self, alias: str, supplier: Supplier) -> None:
        for order in list(self._orders.values()):
            await self._ask(order, alias, supplier)

    async def _ask(self, order: Order, alias: str, supplier: Supplier) -> None:
        for segment in order.segments:
            if segment.alias == alias and (remains(segment) or segment.abandoned is not None):
                try:
                    seen = await supplier.status(segment.ref, self._caller.below(order))
                except ServiceNotFound:
                    self._returned.pop((alias, segment.ref), None)
                else:
                    self._observe(alias, segment.ref, seen)

    def _observe(self, alias: str, ref: str, seen: ServiceStatus) -> None:
        if (alias, ref) in self._abandoned:
            self._sees_abandoned(alias, ref, seen.state)
            return
        id, key = self._by_child.get((alias, ref), ("", ""))
        order = self._orders.get(id)
        if order is None:
            return
        changed = observe(order, key, seen)
        if changed is not order:
            self._change(changed)

    def _sees_abandoned(self, alias: str, ref: str, state: ServiceState) -> None:
        if state in _OVER:
            self._returned.pop((alias, ref), None)
        elif self._returned.get((alias, ref)) is not state:
            self._returned[alias, ref] = state
            service, key, _ = self._abandoned[alias, ref]
            log.warning("a segment that was given up is still there", service=service, segment=key, state=state.short)
