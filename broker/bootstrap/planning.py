"""Where plans are made: small ones at once, large ones in a process of their own, so that nobody else waits for them.

What is a plan over few ways is made in the event loop: to ask another process takes as long.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

from broker.bootstrap.elsewhere import Elsewhere, ElsewhereFailed, Few
from broker.decompose.plan import Avoid, Infeasible, Plan, Rejected, Snapshot
from broker.decompose.worker import Question
from service_model.spec import ServiceSpec

FEW_WAYS = 800
"""Points of border matrices: to plan over as many takes some milliseconds."""


class PlannerFailed(Exception):
    """The planner's process ended twice while it was asked the same, or the node stops."""


class Planning:
    """Call it as the planner. `few`: the number of ways up to which plans are made at once."""

    def __init__(self, few: int = FEW_WAYS) -> None:
        self._few = Few(few)
        self._elsewhere = Elsewhere("broker.decompose.worker")

    @property
    def process(self) -> asyncio.subprocess.Process | None:
        return self._elsewhere.process

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
        if self._few.in_(snapshot):
            return question.answered(snapshot)
        try:
            return await self._elsewhere.ask(question, snapshot)
        except ElsewhereFailed as error:
            raise PlannerFailed(f"{question.spec.name!r} is not planned: {error}") from error

    async def close(self) -> None:
        await self._elsewhere.close()
