"""What suppliers tell of their parts of our orders, heard as it happens and asked for after every interruption."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from broker.orders.calling import Caller
from broker.orders.delivering import observe
from broker.orders.records import Order
from broker.orders.tasks import remains
from lower_sp_clients.supplier import Interest, ServiceNotFound, Supplier
from service_model.clock import Clock
from service_model.outcomes import ServiceState, ServiceStatus

log = structlog.get_logger()

_ANSWERED = {ServiceState.RESERVING, ServiceState.RESERVED, ServiceState.COMMITTING, ServiceState.ACTIVATING}
_PARTS = Interest(states=frozenset(ServiceState) - _ANSWERED, addressing=False)
"""What we hear of our segments: until they are active, the answers to our calls tell it."""


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
        self._followers: dict[str, asyncio.Task[None]] = {}

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

    def open(self) -> tuple[str, ...]:
        """Segments whose supplier may still tell something."""
        return tuple(f"segment {key} of {id}" for id, key in self._by_child.values())

    async def close(self) -> None:
        followers = tuple(self._followers.values())
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
            for segment in order.segments:
                if segment.alias == alias and remains(segment):
                    with suppress(ServiceNotFound):
                        seen = await supplier.status(segment.ref, self._caller.below(order))
                        self._observe(alias, segment.ref, seen)

    def _observe(self, alias: str, ref: str, seen: ServiceStatus) -> None:
        id, key = self._by_child.get((alias, ref), ("", ""))
        order = self._orders.get(id)
        if order is None:
            return
        changed = observe(order, key, seen)
        if changed is not order:
            self._change(changed)
