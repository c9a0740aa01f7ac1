"""Where our notes are made: small ones at once, large ones in a process of their own, so that nobody else waits for them.

Rules kept here
- What is made of few ways is made in the event loop. The process is not the planner's: an order does not wait for a note.
- Who made an audience's note last issues it. Where that is not known any more (the process ended), it is to be made again.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from broker.bootstrap.elsewhere import Elsewhere, Few
from broker.decompose.deriving import Deriver, Issuing, Made, Making, Wish
from broker.decompose.plan import Snapshot

FEW_WAYS = 60
"""Points of border matrices: a note of as many takes about ten milliseconds, and three after a change."""


class Deriving:
    """`few`: the number of ways up to which notes are made at once."""

    def __init__(self, few: int = FEW_WAYS) -> None:
        self._few = Few(few)
        self._here = Deriver()
        self._elsewhere = Elsewhere("broker.decompose.deriving")
        self._made_here: dict[str, bool] = {}

    @property
    def process(self) -> asyncio.subprocess.Process | None:
        return self._elsewhere.process

    async def make(self, wish: Wish, snapshot: Snapshot) -> Made:
        """Make the note for an audience. Raises ElsewhereFailed."""
        here = self._few.in_(snapshot)
        first = self._made_here.get(wish.audience) is not here
        self._made_here[wish.audience] = here
        if here:
            return self._here.make(wish, snapshot, first)
        made: Made = await self._elsewhere.ask(Making(wish, replace(snapshot, suppliers=()), first), snapshot)
        return made

    async def issue(self, audience: str, edition: int, secret: bytes) -> bytes | None:
        """The text of the note that was made last; None where it is not known any more. Raises ElsewhereFailed."""
        if self._made_here.get(audience, True):
            return self._here.issue(audience, edition, secret)
        text: bytes | None = await self._elsewhere.ask(Issuing(audience, edition, secret), None)
        return text

    async def close(self) -> None:
        await self._elsewhere.close()
