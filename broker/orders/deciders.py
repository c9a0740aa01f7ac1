"""Which manager decides what of an order, what it is being asked, and what it decided. Pure."""

from __future__ import annotations

from dataclasses import replace

from broker.orders.decisions import Asked, Decision
from broker.orders.judging import failed
from broker.orders.records import Order
from broker.orders.retrying import refuse
from broker.orders.tasks import Env, Pause
from service_model.managing import TASK_OF, ManagerTask, Question
from service_model.outcomes import Reason, ReasonCode


def decider(order: Order, what: ManagerTask) -> str | None:
    """The manager of the service, by the name in its spec, that decides this."""
    terms = order.terms.managers
    named = order.spec.managers if order.spec is not None else ()
    return next((name for name in named if name in terms and what in terms[name].decides), None)


def decision_of(order: Order, what: ManagerTask, number: int) -> Decision | None:
    return next((d for d in order.decisions if (d.task, d.number) == (what, number)), None)


def latest(order: Order, what: ManagerTask) -> Decision | None:
    return next((d for d in reversed(order.decisions) if d.task is what), None)


def is_asked(order: Order, what: ManagerTask, number: int) -> bool:
    return order.asked is not None and (order.asked.task, order.asked.number) == (what, number)


def ask(order: Order, env: Env, manager: str, number: int, question: Question) -> Pause:
    asked = Asked(
        at=env.now,
        version=order.version,
        manager=manager,
        task=TASK_OF[type(question)],
        number=number,
        question=question,
    )
    return Pause(replace(order, asked=asked))


def overruled(order: Order, env: Env, decision: Decision, why: str) -> Order:
    """The order where what was chosen cannot be had."""
    instead = failed(order, decision, f"{why}: {decision.detail}", env.now)
    return replace(order, decisions=tuple(instead if d is decision else d for d in order.decisions))


def refused_by(order: Order, env: Env, decision: Decision) -> Order:
    message = f"manager {decision.manager!r} ({decision.task.short}): {decision.detail}"
    return refuse(order, env.now, Reason(code=ReasonCode.MANAGER_REFUSED, message=message, subject=decision.manager))
