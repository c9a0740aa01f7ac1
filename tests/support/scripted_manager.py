"""A service-specific manager that answers what a test says, and keeps what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from lower_sp_clients.service_manager import NoDecision, ServiceManager
from service_model.managing import (
    AddressQuestion,
    Answer,
    ByDefault,
    ConfigureQuestion,
    Consultation,
    HealQuestion,
    PlaceQuestion,
    Question,
    ScaleQuestion,
)
from tests.support.crashing import Points


@dataclass
class ScriptedManager:
    """`answers`: what it says to each question, or raises; by default nothing is chosen. With `silent` it answers nothing."""

    answers: Callable[[Question], Answer | NoDecision] = lambda question: ByDefault()
    silent: bool = False
    asked: list[tuple[Consultation, Question]] = field(default_factory=list)

    async def decide(self, about: Consultation, question: Question, timeout_s: float) -> Answer:
        self.asked.append((about, question))
        if self.silent:
            await asyncio.Event().wait()
        answer = self.answers(question)
        if isinstance(answer, NoDecision):
            raise answer
        return answer

    @property
    def placings(self) -> list[PlaceQuestion]:
        return [q for _, q in self.asked if isinstance(q, PlaceQuestion)]

    @property
    def addressings(self) -> list[AddressQuestion]:
        return [q for _, q in self.asked if isinstance(q, AddressQuestion)]

    @property
    def configurings(self) -> list[ConfigureQuestion]:
        return [q for _, q in self.asked if isinstance(q, ConfigureQuestion)]

    @property
    def healings(self) -> list[HealQuestion]:
        return [q for _, q in self.asked if isinstance(q, HealQuestion)]

    @property
    def scalings(self) -> list[ScaleQuestion]:
        return [q for _, q in self.asked if isinstance(q, ScaleQuestion)]


@dataclass
class AskedAtPoints:
    """A manager; that it is asked is a point at which something may befall the broker."""

    manager: ServiceManager
    points: Callable[[], Points]

    async def decide(self, about: Consultation, question: Question, timeout_s: float) -> Answer:
        asking = f"ask {type(question).__name__}"
        return await self.points().through(asking, lambda: self.manager.decide(about, question, timeout_s))
