"""Looking whether what a domain has built is still there.

Rules kept here
- One look at a time, every so often: for all that is built, some segments at a time, so that nobody waits long for the loop. A
  look that takes long is rarer: no more than a tenth of the time is spent with it.
- Who does not answer has lost nothing yet, and is asked again with the next look. How long that has been so is told (`silent_s`),
  from the first question that was not answered, also while that one still waits.
- Records of before a restore may be of what was ended since, and nothing follows from that difference (ADR 0036): what of it was
  never seen here is not told.
- What is changed while it is looked at is not told of: the next look sees it as it is then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from lower_sp_clients.vim import blueprints
from lower_sp_clients.vim.domain import Domain
from lower_sp_clients.vim.driver import Driver, Loss
from lower_sp_clients.vim.holds import Hold
from service_model.clock import Clock
from service_model.outcomes import ServiceState

log = structlog.get_logger()

AT_ONCE = 32
"""How many segments a driver is asked for with one call."""
RESTS = 9
"""After a look, so many times as long as it took, at least."""


class Lookout:
    """`tick` now and then, `close` at the end. `built` are the holds as they are now; of what is lost, `lost` is told."""

    def __init__(
        self,
        clock: Clock,
        built: Callable[[], Sequence[Hold]],
        lost: Callable[[Hold, tuple[Loss, ...]], Awaitable[None]],
    ) -> None:
        self._clock, self._built, self._lost = clock, built, lost
        self._next = clock.now()
        self._unanswered: datetime | None = None
        self._looking: asyncio.Task[None] | None = None
        self.restored: datetime | None = None
        """When the store was put back from a backup."""
        self._seen: set[str] = set()
        """Of the records of before, what was seen since."""

    def tick(self, domain: Domain, driver: Driver) -> None:
        """Begin a look where one is due."""
        now = self._clock.now()
        if now < self._next or (self._looking is not None and not self._looking.done()):
            return
        self._next = now + timedelta(seconds=domain.look_every_s)
        self._unanswered = self._unanswered or now
        self._looking = asyncio.create_task(self._look(domain, driver), name=f"look-{domain.name}")

    def doubts(self, hold: Hold) -> bool:
        """Whether it may have been ended since the backup."""
        return self.restored is not None and hold.updated <= self.restored and hold.ref not in self._seen

    def silent_s(self) -> float:
        """For how long nobody has answered."""
        return (self._clock.now() - self._unanswered).total_seconds() if self._unanswered is not None else 0.0

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        self._looking = self._unanswered = None

    async def _look(self, domain: Domain, driver: Driver) -> None:
        holds = [hold for hold in self._built() if hold.state is ServiceState.ACTIVE]
        began, found = self._clock.now(), list[tuple[Hold, tuple[Loss, ...]]]()
        try:
            for first in range(0, max(1, len(holds)), AT_ONCE):  # of nothing too: whether anybody answers
                found += await self._ask(domain, driver, holds[first : first + AT_ONCE])
                self._unanswered = self._clock.now()  # for what is asked next
        except Exception as error:
            log.warning("nobody tells what is lost", domain=domain.name, silent_s=self.silent_s(), error=str(error))
            return
        self._unanswered, ended = None, self._clock.now()
        self._next = max(self._next, ended + RESTS * (ended - began))
        try:
            for hold, lost in found:
                if self._present(hold):
                    await self._lost(hold, lost)
        except Exception as error:  # the next look sees it again
            log.error("what is lost is not recorded", domain=domain.name, error=str(error))

    async def _ask(self, domain: Domain, driver: Driver, holds: Sequence[Hold]) -> list[tuple[Hold, tuple[Loss, ...]]]:
        asked = []
        for hold in holds:
            assert hold.spec is not None, "what is active was asked for"
            assert hold.bindings is not None, "and is bound"
            asked.append(blueprints.blueprint(domain, hold.ref, hold.spec, hold.bindings))
        found = await driver.losses(asked)
        self._seen |= {hold.ref for hold in holds if hold.ref not in found and self.doubts(hold)}
        return [(hold, found[hold.ref]) for hold in holds if hold.ref in found and not self.doubts(hold)]

    def _present(self, seen: Hold) -> bool:
        return any(hold is seen for hold in self._built())
