"""The question to a manager: asked once it is recorded, with a deadline; what came of it is an answer or why there is none.

Rules kept here
- A manager has as long as its terms say, and of a reservation never more than half of what is left of its time: the rest is for
  those who deliver.
- Whatever a manager does, it ends in an answer or in NoDecision. It stops nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from broker.orders.decisions import Asked
from broker.orders.records import JournalEntry, Order
from lower_sp_clients.service_manager import NoDecision, ServiceManager
from service_model.clock import Clock, within
from service_model.managing import Answer, Consultation
from service_model.outcomes import ServiceState

log = structlog.get_logger()

Managers = Callable[[str], ServiceManager | None]
"""The manager that is administered under a name now."""


def nobody(document: str) -> ServiceManager | None:
    """Of a broker without managers."""
    return None


async def answer_of(order: Order, asked: Asked, managers: Managers, clock: Clock) -> Answer | NoDecision:
    """What the manager says to what the order asks, by its deadline."""
    terms = order.terms.managers[asked.manager]
    manager = managers(terms.document)
    if manager is None:
        return NoDecision("it is not administered any more")
    seconds = terms.deadline_s
    if order.deadline is not None and order.state is ServiceState.RESERVING:
        seconds = min(seconds, (order.deadline - clock.now()).total_seconds() / 2)
    if seconds <= 0:
        return NoDecision("no time was left to ask it")
    assert order.spec is not None, "only what is asked for is decided"
    about = Consultation(
        ref=order.ref, version=order.version, number=asked.number, manager=asked.manager, spec=order.spec
    )
    asking = asyncio.ensure_future(manager.decide(about, asked.question, seconds))
    try:
        if not await within(clock, seconds, asking):
            return NoDecision(f"no answer within {seconds:g} s")
        return await asking
    except NoDecision as none:
        return none
    except Exception as error:
        log.exception("a manager cannot be asked", service=order.id, manager=asked.manager)
        return NoDecision(f"it could not be asked: {type(error).__name__}")
    finally:
        asking.cancel()


def entry(order: Order, asked: Asked, at: datetime, detail: str) -> JournalEntry:
    """For the journal: that it is about to be asked, or what came of it."""
    return JournalEntry(
        at=at,
        service=order.id,
        segment="",
        what=f"ask {asked.task.short.lower()}",
        key=f"{asked.manager}/{asked.version}/{asked.number}",
        detail=detail,
    )
