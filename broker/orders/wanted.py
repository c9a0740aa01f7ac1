"""Every order as somebody wants it now, and how many of each account's count against its agreement.

They are counted as they change: a reservation does not look through all services of a broker to know how many are its owner's.
"""

from __future__ import annotations

from broker.orders.records import Order
from lower_sp_clients.versions import LIVE
from service_model.outcomes import ServiceState

COUNTED = LIVE | {ServiceState.RESERVING, ServiceState.RESERVED}
"""What counts against an agreement's number of services."""


class Wanted(dict[str, Order]):
    """Orders by id. They come by assignment and go by `lose`."""

    def __init__(self) -> None:
        super().__init__()
        self._counted: dict[str, set[str]] = {}

    def __setitem__(self, id: str, order: Order) -> None:
        super().__setitem__(id, order)
        mine = self._counted.setdefault(order.account, set())
        if order.state in COUNTED:
            mine.add(id)
        else:
            mine.discard(id)

    def lose(self, id: str) -> Order | None:
        """The order, which is not wanted any more."""
        order = super().pop(id, None)
        if order is not None:
            self._counted[order.account].discard(id)
        return order

    def count(self, account: str, besides: str | None) -> int:
        """How many of the account's count, besides that one."""
        mine = self._counted.get(account, set())
        return len(mine) - (besides in mine)
