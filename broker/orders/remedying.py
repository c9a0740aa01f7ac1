"""The task that asks a manager before what is lost of a live service is bought elsewhere: heal_by_manager. Pure.

Theory of operation
- It is asked when a healing would begin, and not before: policies, patience with what is degraded and pauses between tries are as
  without it. For each healing, and after each wait, it is asked anew, under the next number.
- It may let the healing begin, keep it off places that it was told of, put it off, or leave the service as it is. It buys nothing
  that the broker would not buy without it.
- It is asked about what is lost too often (`flapping`) also while that works.
- Recovery ends what it decided. Its owner's word (`HealService`) stands above it: then it is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.decompose.plan import Avoid
from broker.orders.ailing import decided, waits_until, why_degraded
from broker.orders.deciders import ask, decider, is_asked, latest
from broker.orders.decisions import Decision
from broker.orders.healing import heal, rest
from broker.orders.offered import MAX_OFFERS, placement_of, places_of, word_of
from broker.orders.reasons import for_customer
from broker.orders.records import Order
from broker.orders.tasks import Env, Pause, task
from service_model.managing import DecisionOutcome, HealQuestion, ManagerTask, Remedy
from service_model.replacing import replace

WHAT = ManagerTask.HEAL


@task
def heal_by_manager(order: Order, env: Env) -> Order | Pause:
    """As `heal`, as soon as a manager of the service lets it begin, and where that does not keep it off."""
    begun, manager = heal(order, env), decider(order, WHAT)
    if manager is None or order.care.agreed or isinstance(begun, Pause) or begun.heals == order.heals:
        return begun
    seen = replace(begun.care, tries=begun.care.tries - 1, last=order.care.last)
    order = replace(order, care=seen) if seen != order.care else order
    decision = decided(order)
    if decision is None:
        former = latest(order, WHAT)
        number = 0 if former is None else former.number + 1
        if is_asked(order, WHAT, number):
            return Pause(order)
        kept = tuple(d for d in order.decisions if d.task is not WHAT or d is former)
        return ask(replace(order, decisions=kept), env, manager, number, _question(order, begun, env))
    if decision.outcome is DecisionOutcome.REFUSED:
        return rest(order, env)
    until = waits_until(decision)
    if until is not None:
        return rest(order, env, until) if until > env.now else _over(order, decision)
    begun = heal(_over(order, decision), env)
    if isinstance(begun, Pause) or begun.healing is None or not isinstance(decision.choice, Remedy):
        return begun
    avoid = begun.healing.avoid | Avoid(placings=frozenset(_kept_off(order, decision.choice, env)))
    return replace(begun, healing=replace(begun.healing, avoid=avoid))


def _over(order: Order, decision: Decision) -> Order:
    return replace(order, decisions=tuple(replace(d, over=True) if d is decision else d for d in order.decisions))


def _question(order: Order, begun: Order, env: Env) -> HealQuestion:
    assert order.spec is not None, "what is live was asked for"
    assert order.plan is not None, "and was planned"
    assert begun.healing is not None, "something would be healed"
    lexicon = env.lexicon(order.account, order.terms).learnt(order.words)
    gone = [s for s in order.segments if s.ref in begun.healing.lost]
    within = {f.id for s in gone for f in s.spec.functions}
    lost = tuple(f.id for f in order.spec.functions if f.id in within)
    offers = tuple(offer for offer in places_of(order, env, lexicon) if offer.function in within)
    return HealQuestion(
        lost=lost,
        reasons=tuple(r.message for r in for_customer(why_degraded(order, env), order.spec, order.terms.disclosure)),
        since=min(order.care.broken[s.key] for s in gone),
        tries=order.care.tries,
        placement=placement_of(order, lexicon, order.plan),
        offers=offers[:MAX_OFFERS],
    )


def _kept_off(order: Order, choice: Remedy, env: Env) -> Iterator[tuple[str, str, str]]:
    """Each supplier, function and place that is to be avoided, as we call them."""
    assert order.spec is not None, "what is live was asked for"
    lexicon = env.lexicon(order.account, order.terms).learnt(order.words)
    for chosen in choice.avoid:
        type = order.spec.function(chosen.function).type
        for view in env.snapshot.suppliers:
            if chosen.supplier in ("", view.alias):
                for offer in view.note.functions:
                    if offer.type == type and word_of(lexicon, offer.place) == chosen.place:
                        yield view.alias, chosen.function, offer.place
