"""Plans over what is not announced any more: where nothing that is announced will do, the supplier is asked all the same. Pure.

A note is a hint, and the reservation decides. A note that is old hides what has become free; nobody is asked, so no refusal
tells. What was announced a while ago (`capability_registry.remembered`) may be had again.

Rules kept here
- Only where no plan over the notes as they are is left, and at most `Env.hopes` times for an order.
- What is hoped for was announced: never what no note of the supplier told.
- What is learnt from a refusal is learnt as ever, so no two hopes are the same.
- A wave of hope may spend a part of the order's calls, PART of them, and is not begun where that leaves none below. So at any
  depth, hopes cost less than the order may.
- Nothing was promised: a refusal of what was hoped for breaks no promise (`unsure`).
"""

from __future__ import annotations

from dataclasses import replace

from broker.decompose.plan import Infeasible, Plan, Snapshot
from broker.orders.records import Order
from broker.orders.tasks import Env, Question
from service_model.outcomes import Reason

PART = 8
"""Which part of an order's calls one wave of hope may spend: an eighth."""
MOST = 4
"""How many waves of hope a node may be set to, so that they spend half of the calls in all."""


def plan(order: Order, env: Env, question: Question) -> Plan | Question | None:
    """A plan over what is hoped for, or what is to be asked to find it; None where there is none, or no hope is left."""
    if order.hopes >= env.hopes or not env.may_hope:
        return None
    asked = replace(question, hoped=True, why=False)
    found = env.answer(asked)
    if found is None:
        return asked
    if isinstance(found, Infeasible) or calls_below(order.call_budget // PART, len(found[0].segments)) <= 0:
        return None
    return found[0]


def begun(order: Order, why: tuple[Reason, ...]) -> Order:
    """The order as it hopes once more. `why` nothing announced will do is kept from the first time."""
    return replace(order, hoping=True, hopes=order.hopes + 1, unannounced=order.unannounced or why, reasons=())


def over(order: Order, env: Env) -> Snapshot:
    """What the order's plan is made over."""
    return env.hoped() if order.hoping and env.hoped is not None else env.snapshot


def unsure(order: Order, env: Env) -> frozenset[str]:
    """The suppliers of whom the plan may ask more than they announce."""
    if not order.hoping:
        return frozenset()
    pairs = zip(over(order, env).suppliers, env.snapshot.suppliers, strict=True)
    return frozenset(hoped.alias for hoped, announced in pairs if hoped is not announced)


def calls_below(calls: int, parts: int) -> int:
    """What each of so many suppliers may spend, of so many calls that one wave may."""
    return (calls - parts) // parts
