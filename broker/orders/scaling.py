"""The tasks about the size of functions that a manager is asked for (scale_by_manager, overrule_size), and placing with what it
chose. Pure.

Theory of operation
- It is asked once for each version, before anything is planned: what size a function is decides where it can be.
- What it chose counts until it cannot be had: nothing that is announced would do, or what would was refused, by each or as often
  as an order is planned. Then it is overruled, by its terms, and what was learnt of functions of that size does not count for
  them as they are by default.
- What is announced goes before what is hoped for (`hoping`): so functions as they are by default go before a hope for the size
  that was chosen.
"""

from __future__ import annotations

from dataclasses import replace

from broker.decompose.plan import Avoid
from broker.orders.deciders import ask, decider, is_asked, latest, overruled, refused_by
from broker.orders.decisions import Decision
from broker.orders.offered import MAX_OFFERS, flavours_of
from broker.orders.placing import place
from broker.orders.reasons import for_customer
from broker.orders.records import Order
from broker.orders.reserving import crank_back
from broker.orders.retrying import again, exhausted
from broker.orders.sizing import scaling_of
from broker.orders.tasks import Env, Pause, task
from service_model.managing import DecisionOutcome, ManagerTask, ScaleQuestion, Scaling
from service_model.outcomes import Reason

WHAT, ONLY = ManagerTask.SCALE, 0
"""The number of its one question."""


@task
def scale_by_manager(order: Order, env: Env) -> Order | Pause:
    """Ask a manager what size functions are to be, before anything is planned."""
    manager = decider(order, WHAT)
    if manager is None or order.spec is None or order.plan is not None or order.quoted is not None:
        return order
    decision = latest(order, WHAT)
    if decision is not None:
        return refused_by(order, env, decision) if decision.outcome is DecisionOutcome.REFUSED else order
    if is_asked(order, WHAT, ONLY):
        return Pause(order)
    offers = flavours_of(order, env, env.lexicon(order.account, order.terms).learnt(order.words))
    return ask(order, env, manager, ONLY, ScaleQuestion(offers=offers[:MAX_OFFERS])) if offers else order


def place_as_sized(order: Order, env: Env) -> Order | Pause:
    """As `place`, but that flavours which a manager chose are overruled where nothing that is announced has them."""
    decision = scaling_of(order)
    if decision is None:
        return place(order, env)
    found = place(order, replace(env, hopes=0))
    if isinstance(found, Pause) or (refusal := found.answers.get(order.version)) is None:
        return found
    return _as_by_default(order, env, decision, refusal.reasons)


@task
def overrule_size(order: Order, env: Env) -> Order | Pause:
    """Where suppliers refused as often as an order is planned with what a manager chose, plan it as it is by default."""
    decision = scaling_of(order)
    if decision is None or not exhausted(order):
        return order
    found = crank_back(order, env)
    if isinstance(found, Pause) or (refusal := found.answers.get(order.version)) is None:
        return order
    return again(_as_by_default(order, env, decision, refusal.reasons), Avoid(), *refusal.reasons)


def _as_by_default(order: Order, env: Env, decision: Decision, reasons: tuple[Reason, ...]) -> Order:
    assert order.spec is not None, "only what is asked for has a size"
    why, *_ = for_customer(reasons, order.spec, order.terms.disclosure)
    return overruled(replace(order, avoid=_without(order.avoid, decision)), env, decision, why.message)


def _without(avoid: Avoid, decision: Decision) -> Avoid:
    """What was learnt, but for functions whose size was chosen."""
    chosen = {f.function for f in decision.choice.flavours} if isinstance(decision.choice, Scaling) else set()
    return replace(
        avoid,
        functions=frozenset(known for known in avoid.functions if known[1] not in chosen),
        placings=frozenset(known for known in avoid.placings if known[1] not in chosen),
        dearer=tuple(known for known in avoid.dearer if known.function not in chosen),
    )
