"""Making the infrastructure what is recorded.

Rules kept here
- One worker per ref calls the driver for it: `apply` while it is to be built, `remove` while it is to go, again with back-off
  until it is so. After a restart the same workers start from the records, so a crash at any point converges.
- What has a start time is built then, and what has an end time is removed then. What is over before anybody came to it is never
  built. What is over and still there is waited for by what is built after it.
- What is lost, or all of it where nobody has answered for long (`lookout`), is DEGRADED, and built again as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog

from lower_sp_clients.vim import accounting, blueprints
from lower_sp_clients.vim.domain import Domain
from lower_sp_clients.vim.driver import Driver, DriverError, Loss
from lower_sp_clients.vim.holds import Hold
from lower_sp_clients.vim.lookout import Lookout
from lower_sp_clients.vim.recorder import Recorder
from service_model.clock import Clock
from service_model.outcomes import Reason, ReasonCode, ServiceState
from service_model.replacing import replace
from service_model.window import Window

log = structlog.get_logger()

COMMITTED = frozenset({ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.DEGRADED, ServiceState.FAILED})
"""The states of a hold whose commit was answered, and is answered again in the same way."""
UNHEARD = Reason(
    code=ReasonCode.NOT_IN_SERVICE, message="the infrastructure of the domain is not heard of", retryable=True
)
_WORKED_AT = frozenset({ServiceState.ACTIVATING, ServiceState.DEGRADED, ServiceState.TERMINATING})
"""The states in which the infrastructure is not yet as it is recorded."""
_PAUSE_S = 1.0
_TRIES = 4
"""How often an activation is tried before the segment is reported FAILED."""


class Builder:
    """`domain` and `driver` are asked for each time: an operator may change them."""

    def __init__(
        self, domain: Callable[[], Domain], driver: Callable[[], Driver], recorder: Recorder, clock: Clock
    ) -> None:
        self._domain, self._driver, self._recorder, self._clock = domain, driver, recorder, clock
        self._ledger = recorder.ledger
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._lookout = Lookout(clock, self._holds, self._loses)

    def restored(self, at: datetime | None) -> None:
        """When the records were put back from a backup, if they ever were."""
        self._lookout.restored = at

    def take_up(self) -> None:
        """Whatever is not yet as it is recorded."""
        for hold in self._holds():
            if hold.state in _WORKED_AT:
                self.work(hold.ref)

    async def close(self) -> None:
        """Stop working: everything stays as it is recorded."""
        await self._lookout.close()
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        for worker in workers:
            with suppress(asyncio.CancelledError):
                await worker

    async def due(self, now: datetime) -> None:
        """Begin and end what is due."""
        for hold in self._holds():
            if hold.state not in COMMITTED or hold.spec is None:
                continue
            if hold.spec.end_time is not None and hold.spec.end_time <= now:
                await self._end(hold.ref, now)
            elif hold.state is ServiceState.ACTIVATING and (hold.spec.start_time or now) <= now:
                self.work(hold.ref)

    async def _end(self, ref: str, now: datetime) -> None:
        async with self._recorder.lock(ref):
            hold = self._ledger.holds[ref]
            if hold.state not in COMMITTED or accounting.window(hold).end > now:
                return
            await self._recorder.save(replace(hold, state=ServiceState.TERMINATING, updated=now, beside=None))
        self.work(ref)

    async def look(self) -> None:
        """Whether what is built is still there."""
        self._lookout.tick(self._domain(), self._driver())
        if self.is_dead():
            for hold in [h for h in self._holds() if h.state is ServiceState.ACTIVE and not self._lookout.doubts(h)]:
                await self._breaks(hold, UNHEARD)

    def is_dead(self) -> bool:
        """Whether nobody tells for so long what there is that it counts as lost."""
        return self._lookout.silent_s() >= self._domain().dead_after_s

    async def _loses(self, hold: Hold, lost: tuple[Loss, ...]) -> None:
        log.warning("lost", domain=self._domain().name, segment=hold.ref, lost=[loss.what for loss in lost])
        code = ReasonCode.INFRASTRUCTURE
        await self._breaks(hold, *(Reason(code=code, message=f"lost: {x.what}", subject=x.function) for x in lost))

    async def _breaks(self, hold: Hold, *reasons: Reason) -> None:
        """What was built is not there: it is told, and built again."""
        await self._recorder.advance(hold, ServiceState.DEGRADED, *reasons)
        self.work(hold.ref)

    def work(self, ref: str) -> None:
        """What is recorded of it is to be made so."""
        worker = self._workers.get(ref)
        if worker is None or worker.done():
            task = asyncio.create_task(self._converge(ref), name=f"converge-{self._domain().name}-{ref}")
            self._workers[ref] = task
            task.add_done_callback(
                lambda done: self._workers.pop(ref, None) if self._workers.get(ref) is done else None
            )

    async def _converge(self, ref: str) -> None:
        """Until the infrastructure is what the record says. Only this worker calls the driver for `ref`."""
        tries = 0
        while True:
            hold = self._ledger.holds[ref]
            try:
                if hold.state in (ServiceState.ACTIVATING, ServiceState.DEGRADED):
                    if not accounting.window(hold).covers_moment(self._clock.now()):
                        return  # `tick` begins it, or ends it
                    if self._in_the_way(hold):
                        await self._clock.sleep(_PAUSE_S)
                        continue
                    await self._activate(hold)
                elif hold.state is ServiceState.TERMINATING:
                    await self._driver().remove(ref)
                    await self._recorder.advance(hold, ServiceState.TERMINATED)
                else:
                    return
                tries = 0
            except Exception as error:  # also of the store: the worker never dies before its work is done
                tries += 1
                log.warning(
                    "driver failed", domain=self._domain().name, segment=ref, state=hold.state.short, error=str(error)
                )
                if hold.state is ServiceState.ACTIVATING and tries >= _TRIES and isinstance(error, DriverError):
                    with suppress(Exception):  # where it cannot be recorded it is tried again
                        reason = Reason(code=ReasonCode.INFRASTRUCTURE, message=str(error))
                        failed = ServiceState.DEGRADED if hold.former else ServiceState.FAILED
                        await self._recorder.advance(hold, failed, reason)
                        continue
                await self._clock.sleep(min(30.0, 0.2 * 2 ** min(tries, 8)))

    def _in_the_way(self, hold: Hold) -> bool:
        """Whether what is over but still there takes what this one is to be built of."""
        now = self._clock.now()
        ending = (self._ledger.holds[ref] for ref in self._ledger.ending if ref != hold.ref)
        others = (h for h in ending if h.state in accounting.BUILT)
        late = [v for h in others for v in (*h.former, h.bare()) if accounting.window(v).end <= now]
        return bool(late) and not accounting.fits_beside(self._domain(), self._ledger.usage(Window.at(now)), hold, late)

    async def _activate(self, hold: Hold) -> None:
        assert hold.spec is not None
        assert hold.bindings is not None
        await self._driver().apply(blueprints.blueprint(self._domain(), hold.ref, hold.spec, hold.bindings))
        if self._driver().offer.probes:
            for path in blueprints.probes(hold.ref, hold.spec, hold.bindings):
                result = await self._driver().probe(path)
                if not result.ok:
                    raise DriverError(
                        f"no packet of {path.size} bytes from {path.function}:{path.port}: {result.detail}"
                    )
        await self._recorder.advance(hold, ServiceState.ACTIVE)

    def _holds(self) -> tuple[Hold, ...]:
        return tuple(self._ledger.holds.values())
