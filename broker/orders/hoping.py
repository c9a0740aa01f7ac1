"""Plans over what is not announced any more: where nothing that is announced will do, the supplier is asked all the same. Pure.

A note is a hint, and the reservation decides. A note that is old hides what has become free; nobody is asked, so no refusal
tells. What was announced a while ago (`capability_registry.remembered`) may be had again.

Rules kept here
- Only where no plan over the notes as they are is left, and at most `Env.hopes` times for an order.
- What is hoped for was announced: never what no note of the supplier told.
- What is learnt from a refusal is learnt as ever, so no two hopes are the same.
- All waves of hope together may spend half of the order's calls, each as much as any other; one is not begun where that leaves
  none below. As each supplier hopes within what it is given, so it is at any depth.
- Where a supplier announces less than it is asked for, nothing was promised, and its refusal breaks no promise (`promised`).
"""

from __future__ import annotations

from dataclasses import replace

from broker.decompose.plan import Infeasible, Plan, Snapshot
from broker.decompose.search import fits
from broker.orders.records import Order
from broker.orders.split import HandedDown
from broker.orders.tasks import Env, Question
from service_model.outcomes import Reason

MOST = 4
"""How many waves of hope a node may be set to."""


def plan(order: Order, env: Env, question: Question) -> Plan | Question | None:
    """A plan over what is hoped for, or what is to be asked to find it; None where there is none, or no hope is left."""
    if order.hopes >= env.hopes or not env.may_hope:
        return None
    asked = replace(question, hoped=True, why=False)
    found = env.answer(asked)
    if found is None:
        return asked
    return None if isinstance(found, Infeasible) or _needed(found[0], env) > _share(order, env) else found[0]


def begun(order: Order, env: Env, why: tuple[Reason, ...]) -> Order:
    """The order as it hopes once more. `why` nothing announced will do is kept from the first time."""
    unannounced = order.unannounced or why
    return replace(order, hoping=_share(order, env), hopes=order.hopes + 1, unannounced=unannounced, reasons=())


def _share(order: Order, env: Env) -> int:
    """How many calls one wave may spend."""
    return order.call_budget // (2 * env.hopes)


def _needed(plan: Plan, env: Env) -> int:
    """At least so many calls: to each supplier, and of each that is no domain of our own."""
    local = {view.alias for view in env.snapshot.suppliers if view.local}
    below = any(segment.alias not in local for segment in plan.segments)
    return len(plan.segments) * (2 if below else 1)


def over(order: Order, env: Env) -> Snapshot:
    """What the order's plan is made over."""
    return env.hoped() if order.hoping and env.hoped is not None else env.snapshot


def promised(order: Order, env: Env, part: HandedDown, isolation: tuple[str, ...]) -> bool:
    """Whether the supplier of a segment announces all that it is asked for. `isolation` in our words, as its note is read."""
    if not order.hoping:
        return True
    note = next(view.note for view in env.snapshot.suppliers if view.alias == part.alias)
    return fits(note, replace(part.spec, isolation=isolation, qos=None), env.now)


def calls_below(calls: int, parts: int) -> int:
    """What each of so many suppliers may spend, of so many calls that one wave may."""
    return (calls - parts) // parts
