"""What an order records of the managers that its spec names: on what terms, what they are being asked, what they decided. Pure.

Rules kept here
- Which managers an account may name, and on what terms, is pinned with the agreement when the reservation comes.
- A question is recorded before it is asked, and an answer before it has any effect: after a restart a question without an answer
  is asked again as it was, and one that was answered never.
- A decision is of one version of the service and of one `number`: what is chosen again is asked again, under the next. Of those
  about healings the latest stays, and is `over` when it was acted on or nothing is lost any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from service_model.managing import Choice, ManagerDecision, ManagerTask, Question
from service_model.words import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerTerms:
    """A manager that an account may name: a customer's end point that decides `decides`, or a `plugin` of the operator's.
    `document`: under which name it is administered. `refuses`: what it does not decide as it may is refused; else the broker
    decides by default."""

    document: str
    plugin: str = ""
    decides: tuple[ManagerTask, ...] = ()
    deadline_s: float = 2.0
    refuses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question that was recorded, and has no answer yet."""

    at: Instant
    version: int
    manager: str
    task: ManagerTask
    number: int
    question: Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(ManagerDecision):
    """`choice`: what was CHOSEN, places by themselves and not by an option's id. `over`: of a healing, that it counts no more."""

    number: int
    choice: Choice | None = None
    over: bool = False

    def told(self) -> ManagerDecision:
        """As the service's owner reads it."""
        return ManagerDecision(
            at=self.at, manager=self.manager, task=self.task, outcome=self.outcome, detail=self.detail
        )
