"""A process of its own for what takes long over all notes, so that nobody else waits for it.

Rules kept here
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
from itertools import accumulate, chain
from typing import Any

import structlog

from broker.decompose.difference import difference
from broker.decompose.plan import Snapshot, SupplierView
from broker.decompose.worker import HEAD, Answered, Heard, Told, frame

log = structlog.get_logger()

PART = 20
"""How many suppliers are told of at once: about a millisecond."""


class ElsewhereFailed(Exception):
    """The process ended twice while it was asked the same, or the node stops."""


class Elsewhere:
    """`module`: what the process runs the `main` of."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._asking = asyncio.Lock()
        self.process: asyncio.subprocess.Process | None = None
        self._told: dict[bool, dict[str, SupplierView]] = {}
        self._as_of: dict[bool, Snapshot] = {}
        """Both by whether it is what is hoped."""
        self._exchanges: set[asyncio.Future[Any]] = set()
        self._closed = False

    async def ask(self, question: object, snapshot: Snapshot | None) -> Any:
        """The answer to a question over the suppliers of a snapshot; None: over those of the last question. Raises what went
        wrong there, and ElsewhereFailed."""
        exchange = asyncio.ensure_future(self._exchange(question, snapshot))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._over)
        return await asyncio.shield(exchange)

    async def close(self) -> None:
        self._closed = True
        await self._end()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        await self._end()  # one that was just being begun

    async def _exchange(self, question: object, snapshot: Snapshot | None) -> Any:
        async with self._asking:
            for attempt in (1, 2):
                if self._closed:
                    break
                try:
                    await self._begin()
                    if snapshot is not None:
                        await self._tell(snapshot)
                    return await self._answer(question)
                except (ConnectionError, asyncio.IncompleteReadError) as error:
                    log.warning("a process ended", runs=self._module, attempt=attempt, error=str(error))
                    await self._end()
        why = "the node stops" if self._closed else f"the process of {self._module} ended twice"
        raise ElsewhereFailed(why)

    def _over(self, exchange: asyncio.Future[Any]) -> None:
        self._exchanges.discard(exchange)
        if not exchange.cancelled():
            exchange.exception()  # who asked may be gone

    async def _begin(self) -> None:
        if self.process is None:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                f"from {self._module} import main; main()",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            self._told, self._as_of = {}, {}

    async def _tell(self, snapshot: Snapshot) -> None:
        """Everything that changed since the last question."""
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

    async def _send(self, message: object) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(frame(message))
        await self.process.stdin.drain()
        await asyncio.sleep(0)  # whoever waits goes before the next part

    async def _answer(self, question: object) -> Any:
        await self._send(question)
        assert self.process is not None
        assert self.process.stdout is not None
        size = HEAD.unpack(await self.process.stdout.readexactly(HEAD.size))[0]
        answered: Answered = pickle.loads(await self.process.stdout.readexactly(size))  # noqa: S301 (from our own program)
        if answered.fault is not None:
            raise answered.fault
        return answered.answer

    async def _end(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Few:
    """Whether a snapshot has few ways (points of border matrices), at most so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._measured: dict[bool, tuple[Snapshot, bool]] = {}

    def in_(self, snapshot: Snapshot) -> bool:
        """Counted no further than it takes to know: a large snapshot is not looked through."""
        known = self._measured.get(snapshot.hoped)
        if known is None or known[0] is not snapshot:
            notes = (view.note for view in snapshot.suppliers)
            ways = (len(entry.points) for note in notes for entry in chain(note.matrix, note.guarded))
            known = snapshot, all(total <= self._most for total in accumulate(ways))
            self._measured[snapshot.hoped] = known
        return known[1]
