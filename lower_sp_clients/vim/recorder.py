"""What a domain has of each segment, recorded before anything follows from it, and told to whoever watches."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from lower_sp_clients.broadcast import Broadcast
from lower_sp_clients.vim import answering
from lower_sp_clients.vim.holds import Hold
from lower_sp_clients.vim.ledger import HoldLedger
from service_model.clock import Clock
from service_model.outcomes import Event, Reason, ServiceState
from service_model.replacing import replace


class Recorder:
    """Of one segment one change at a time: who reads a hold to write another `lock`s its ref meanwhile."""

    def __init__(self, ledger: HoldLedger, clock: Clock) -> None:
        self.ledger, self._clock = ledger, clock
        self.events: Broadcast[Event] = Broadcast()
        self.stale_note = False
        """Whether there is something to announce."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def save(self, hold: Hold) -> None:
        """Record `hold`, then tell whoever watches."""
        await self.ledger.save(hold, self._clock.now())
        self.stale_note = True
        self.tell(hold)

    def tell(self, hold: Hold) -> None:
        if hold.version:
            self.events.send(Event(token="", status=answering.status(hold, self._clock.now())))

    async def advance(self, seen: Hold, state: ServiceState, *reasons: Reason) -> None:
        """Its state from now on, where it is still what was seen."""
        async with self.lock(seen.ref):
            hold = self.ledger.holds[seen.ref]
            if (hold.version, hold.state) != (seen.version, seen.state):  # terminate overtook, or the next version
                return
            if state is not ServiceState.DEGRADED:
                hold = replace(hold, former=())
            await self.save(replace(hold, state=state, updated=self._clock.now(), reasons=reasons))

    def lock(self, ref: str) -> asyncio.Lock:
        lock = self._locks.get(ref)
        if lock is None:
            lock = self._locks[ref] = asyncio.Lock()
        return lock
