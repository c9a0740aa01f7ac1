"""What the broker asks a customer's service-specific manager through. One small method; whoever implements it tells the truth
in one way: an answer, or `NoDecision`.
"""

from __future__ import annotations

from typing import Protocol

from service_model.managing import Answer, Consultation, Question


class NoDecision(Exception):
    """There is no answer that can be read: late, down, rubbish, or too large. The message says what, for the customer."""


class ServiceManager(Protocol):
    async def decide(self, about: Consultation, question: Question, timeout_s: float) -> Answer:
        """What the manager answers within so many seconds. The same question may be asked again. Raises NoDecision."""
