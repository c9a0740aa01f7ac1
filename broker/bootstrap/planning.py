"""Where plans are made: small ones at once, large ones in a process of their own, so that nobody else waits for them.

Rules kept here
- What is a plan over few ways is made in the event loop: to ask another process takes as long.
- The process knows the suppliers as of the last question, as they are and as is hoped; what changed is told before the next,
  in parts between which the loop serves others.
- Questions are answered one after another. Who asked may go away: the answer is read all the same, so that the next one is
  not taken for it. A process that ends is begun again and told everything; a question is asked
  twice, then it fails.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import accumulate, chain
from typing import Any

import structlog

from broker.decompose.difference import difference
from broker.decompose.plan import Avoid, Infeasible, Plan, Rejected, Snapshot, SupplierView
from broker.decompose.worker import HEAD, Heard, Question, Told, frame
from service_model.spec import ServiceSpec

log = structlog.get_logger()

FEW_WAYS = 800
"""Points of border matrices: to plan over as many takes some milliseconds."""
PART = 20
"""How many suppliers are told of at once: about a millisecond."""


class PlannerFailed(Exception):
    """The planner's process ended twice while it was asked the same, or the node stops."""


class Planning:
    """Call it as the planner. `few`: the number of ways up to which plans are made at once."""

    def __init__(self, few: int = FEW_WAYS) -> None:
        self._few = few
        self._asking = asyncio.Lock()
        self.process: asyncio.subprocess.Process | None = None
        self._told: dict[bool, dict[str, SupplierView]] = {}
        self._as_of: dict[bool, Snapshot] = {}
        """Both by whether it is what is hoped."""
        self._measured: dict[bool, tuple[Snapshot, bool]] = {}
        self._exchanges: set[asyncio.Future[Any]] = set()
        self._closed = False

    async def __call__(
        self,
        spec: ServiceSpec,
        snapshot: Snapshot,
        now: datetime,
        avoid: Avoid,
        alternatives: int = 1,
        why: bool = True,
    ) -> tuple[Plan, ...] | Infeasible:
        head = replace(snapshot, suppliers=())
        question = Question(spec, head, now, avoid, alternatives, why=why)
        found: tuple[Plan, ...] | Infeasible = await self._answer(question, snapshot)
        return found

    async def better(self, spec: ServiceSpec, snapshot: Snapshot, now: datetime) -> tuple[Rejected, ...]:
        """Plans that are better than the best, each with the class of constraints that it breaks."""
        head = replace(snapshot, suppliers=())
        found: tuple[Rejected, ...] = await self._answer(Question(spec, head, now, Avoid(), better=True), snapshot)
        return found

    async def _answer(self, question: Question, snapshot: Snapshot) -> Any:
        if self._small(snapshot):
            return question.answered(snapshot)
        exchange = asyncio.ensure_future(self._exchange(question, snapshot))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._over)
        return await asyncio.shield(exchange)

    async def _exchange(self, question: Question, snapshot: Snapshot) -> Any:
        async with self._asking:
            for attempt in (1, 2):
                if self._closed:
                    break
                try:
                    await self._tell(snapshot)
                    return await self._ask(question)
                except (ConnectionError, asyncio.IncompleteReadError) as error:
                    log.warning("the planner's process ended", attempt=attempt, error=str(error))
                    await self._end()
        why = "the node stops" if self._closed else "the planner's process ended twice"
        raise PlannerFailed(f"{question.spec.name!r} is not planned: {why}")

    def _over(self, exchange: asyncio.Future[Any]) -> None:
        self._exchanges.discard(exchange)
        if not exchange.cancelled():
            exchange.exception()  # who asked may be gone

    async def close(self) -> None:
        self._closed = True
        await self._end()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        await self._end()  # one that was just being begun

    def _small(self, snapshot: Snapshot) -> bool:
        """Counted no further than it takes to know: a large snapshot is not looked through."""
        known = self._measured.get(snapshot.hoped)
        if known is None or known[0] is not snapshot:
            notes = (view.note for view in snapshot.suppliers)
            ways = (len(entry.points) for note in notes for entry in chain(note.matrix, note.guarded))
            known = snapshot, all(total <= self._few for total in accumulate(ways))
            self._measured[snapshot.hoped] = known
        return known[1]

    async def _tell(self, snapshot: Snapshot) -> None:
        """Everything that changed since the last question."""
        if self.process is None:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "from broker.decompose.worker import main; main()",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            self._told, self._as_of = {}, {}
        hoped = snapshot.hoped
        if snapshot is self._as_of.get(hoped):
            return
        told = self._told.setdefault(hoped, {})
        former = self._as_of.pop(hoped, None)  # what is told in part is compared in full the next time
        before = () if former is None else former.suppliers
        other = difference(before, snapshot.suppliers)
        fresh = {view.alias: view for view in map(snapshot.suppliers.__getitem__, other.fresh)}
        changed = [view for view in fresh.values() if told.get(view.alias) is not view]
        for first in range(0, len(changed), PART):
            part = changed[first : first + PART]
            await self._send(Told(tuple(Heard.of(view, told.get(view.alias)) for view in part), hoped=hoped))
            told |= {view.alias: view for view in part}
        known = told.keys() if former is None else {before[i].alias for i in other.gone}
        if gone := tuple(known - fresh.keys()):
            await self._send(Told((), gone, hoped))
            for alias in gone:
                del told[alias]
        self._as_of[hoped] = snapshot

    async def _send(self, message: Told | Question) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(frame(message))
        await self.process.stdin.drain()
        await asyncio.sleep(0)  # whoever waits goes before the next part

    async def _ask(self, question: Question) -> Any:
        await self._send(question)
        assert self.process is not None
        assert self.process.stdout is not None
        size = HEAD.unpack(await self.process.stdout.readexactly(HEAD.size))[0]
        answer: Any = pickle.loads(await self.process.stdout.readexactly(size))  # noqa: S301 (from our own program)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _end(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
