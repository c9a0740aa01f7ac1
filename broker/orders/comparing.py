"""The task that compares what suppliers ask with what they had announced. Pure.

Rules kept here
- What is dearer than announced is learnt, and the service is planned with it. Only a plan that costs less than all that is
  held is tried; else what is held stays, and is not compared again.
- It is a crank-back, and bounded with the others. What is held and still fits the new plan is not asked again, and what is
  not in it is given back only once the new plan is held.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import or_

from broker.decompose.plan import Infeasible
from broker.orders import learning
from broker.orders.placing import within_price
from broker.orders.records import Order, Segment
from broker.orders.retrying import again, most_crankbacks
from broker.orders.sizing import sized
from broker.orders.states import SegmentState
from broker.orders.tasks import Env, Pause, Question, task
from service_model.outcomes import Reason


def overpriced(order: Order, segment: Segment) -> bool:
    """Whether a held segment costs more over the term than it was planned with."""
    hours = order.spec.term_hours if order.spec is not None else 0
    return segment.wanted and learning.is_dearer(segment.announced, segment.price, hours)


def shortfall(order: Order, segment: Segment) -> dict[str, str]:
    """What to tell of a supplier's hold that is not as it had announced, or not as it was asked: nothing where it is."""
    if segment.state is SegmentState.RELEASING and segment.reasons:
        return {"broken": segment.reasons[0].message}
    if overpriced(order, segment) and not segment.hoped:
        return {"announced": str(segment.announced), "asked": str(segment.price)}
    return {}


@task
def reconsider(order: Order, env: Env) -> Order | Pause:
    """Where suppliers ask more than they had announced, take a plan that costs less if there is one."""
    dear = [s for s in order.segments if overpriced(order, s)]
    if not dear or order.healed or order.spec is None or order.crankbacks >= most_crankbacks(order):
        return order
    learnt = reduce(or_, (learning.dearer(s.alias, s.spec, s.announced, s.price) for s in dear))
    meant = env.lexicon(order.account, order.terms).learnt(order.words).meant(sized(order))
    if not isinstance(meant, Reason):
        question = Question(within_price(order, meant), order.avoid | learnt, why=False)
        found = env.answer(question)
        if found is None:
            return Pause(order, asks=question)
        held = sum(s.price.over(order.spec.term_hours) for s in order.segments if s.wanted)
        if not isinstance(found, Infeasible) and found[0].cost < held:
            return again(order, learnt)
    stays = tuple(replace(s, announced=s.price) if s in dear else s for s in order.segments)
    return replace(order, segments=stays, avoid=order.avoid | learnt, crankbacks=order.crankbacks + 1)
