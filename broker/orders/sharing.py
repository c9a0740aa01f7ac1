"""Orders of which some are worked by other processes on the same store: what the engine is told of those.

Rules kept here
- Only orders that are claimed here are worked; of the others it is known what was recorded.
- One that comes here (`adopt`) is taken up as after a restart, one that goes (`drop`) is let go of as by one.
- What others allocated is taken here too; what is given to somebody here and not recorded gives way to it.
- Watchers are told of all orders in the order of the store, whoever recorded them.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.orders import path_ids
from broker.orders.engine import OrderEngine, Stored
from broker.orders.records import Order
from lower_sp_clients.vim.holds import Allocation
from service_model.outcomes import ServiceState


class SharedOrders(OrderEngine):
    def learn(self, orders: Sequence[Order]) -> None:
        """Orders that are not ours, as they are recorded now."""
        for order in orders:
            self.wanted[order.id] = self.saved[order.id] = order
            self.by_ref[order.account, order.ref] = order.id
            self._listener.index(order)
            self._waiters.tell(order)

    def adopt(self, id: str) -> None:
        """An order that is known as it is recorded is ours from now on."""
        order = self.saved.get(id)
        if order is None or order.state is ServiceState.TERMINATED or self.read_only:
            return
        self._resume(order)
        if order.was_live:  # what was told of it may not have been heard
            self._listener.ask_again(id)

    def drop(self, id: str) -> None:
        """An order is another's from now on. Who waits for it is answered from what that one records, unless something was
        wanted of it that was not recorded."""
        self._again.discard(id)
        if (worker := self._workers.get(id)) is not None:
            worker.cancel()
        self._let_go(id)

    def settle(self, owner: str, recorded: Sequence[Allocation]) -> None:
        """These are all that an order has that was another's, or is now."""
        blocks = [a for a in recorded if a.pool != path_ids.POOL]
        gone = [a for a in self._pools.owned(owner) if a.value not in {b.value for b in blocks}]
        self.mirror(recorded, [(a.pool, a.value) for a in gone])

    def mirror(self, recorded: Sequence[Allocation], gone: Sequence[tuple[str, str]]) -> None:
        """What is allocated and what is not any more, as others recorded it."""
        blocks, ids = ([a for a in recorded if (a.pool == path_ids.POOL) is named] for named in (False, True))
        self._pools.mirror(blocks, [key for key in gone if key[0] != path_ids.POOL], self.claims.mine)
        self.path_ids.mirror(ids, [int(value) for pool, value in gone if pool == path_ids.POOL], self.claims.mine)

    def tell(self, events: Sequence[Stored]) -> None:
        """Tell watchers what was recorded by anybody, in the order of the store, and was not told when it was recorded here."""
        for event in events:
            if event.sequence > self.sequence:
                self.sequence = event.sequence
                self.events.send(event)
