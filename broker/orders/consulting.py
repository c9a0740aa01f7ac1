"""The tasks that ask managers where functions are, how links are addressed and what functions are told. Pure.

Theory of operation
- A task that needs a decision records the question (`Order.asked`) and pauses. The engine asks the manager then, and records what
  came of it (`judging`) together with what follows from it. The task finds the decision when it is run again.
- What was chosen narrows the spec for the task that stands there by default: it plans and addresses as if the customer required
  just that. Nothing of it is in the order's own spec, and nobody below hears of a manager.
- What was chosen and cannot be had is overruled: by the terms of the manager the task's default stands, or the service is
  refused.
- A service is placed as it was quoted: there nobody is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from address_planner.conflicts import conflicting, unusable
from address_planner.prefixes import aggregate
from broker.decompose.lexicon import Lexicon
from broker.decompose.plan import Avoid, Infeasible, Plan
from broker.orders.addressing import block_bits
from broker.orders.comparing import reconsider
from broker.orders.deciders import ask, decider, decision_of, is_asked, latest, overruled, refused_by
from broker.orders.decisions import Decision
from broker.orders.judging import addressed, configured, placed
from broker.orders.offered import MAX_OFFERS, placement_of, places_of
from broker.orders.placing import address, planned, within_price
from broker.orders.records import Order, Segment
from broker.orders.retrying import MAX_ROUNDS, refuse
from broker.orders.scaling import place_as_sized
from broker.orders.sizing import sized
from broker.orders.states import SegmentState
from broker.orders.tasks import Env, Pause, Question, task
from service_model.managing import (
    Addresses,
    AddressQuestion,
    Configuration,
    ConfigureQuestion,
    DecisionOutcome,
    ManagerTask,
    OpenLink,
    Placement,
    PlacementOffer,
    PlacementOption,
    PlaceQuestion,
)
from service_model.outcomes import Reason, ReasonCode
from service_model.qos import bound
from service_model.spec import ServiceSpec
from service_model.words import Prefix

OPTIONS = 3
"""How many plans a manager is told of, where there are as many."""


@task
def place_by_manager(order: Order, env: Env) -> Order | Pause:
    """In the sizes, plan and places that managers of the service choose; else as `place` does."""
    manager = decider(order, ManagerTask.PLACE)
    if manager is None or order.spec is None or order.plan is not None or order.quoted is not None:
        return place_as_sized(order, env)
    spec = sized(order)
    lexicon = env.lexicon(order.account, order.terms).learnt(order.words)
    number = _number(order)
    decision = decision_of(order, ManagerTask.PLACE, number)
    if decision is None:
        if is_asked(order, ManagerTask.PLACE, number):
            return Pause(order)
        found = _plans(order, env, lexicon, spec, order.avoid)
        if isinstance(found, Pause):
            return found
        if isinstance(found, Infeasible):
            return place_as_sized(order, env)
        return ask(order, env, manager, number, _placement(order, env, lexicon, found))
    if decision.outcome is DecisionOutcome.REFUSED:
        return refused_by(order, env, decision)
    if not isinstance(decision.choice, Placement):
        return place_as_sized(order, env)
    elsewhere = Avoid(functions=frozenset(_elsewhere(decision.choice, env)))
    found = _plans(order, env, lexicon, placed(spec, decision.choice), order.avoid | elsewhere)
    if isinstance(found, Pause):
        return found
    if isinstance(found, Infeasible):
        return overruled(order, env, decision, "the service cannot be delivered so")
    return planned(replace(order, hoping=0, unannounced=()), found[0], lexicon)


def _plans(
    order: Order, env: Env, lexicon: Lexicon, spec: ServiceSpec, avoid: Avoid
) -> tuple[Plan, ...] | Infeasible | Pause:
    """The plans for `spec`, in its customer's words; or the pause in which they are made."""
    meant = lexicon.meant(bound(spec, order.terms.classes))
    if isinstance(meant, Reason):
        return Infeasible(reasons=(meant,))
    question = Question(within_price(order, meant), avoid, why=False, most=OPTIONS)
    found = env.answer(question)
    if found is None:
        return Pause(order, asks=question)
    return found if isinstance(found, Infeasible) else tuple(found)


def _elsewhere(choice: Placement, env: Env) -> Iterator[tuple[str, str]]:
    """Every function that is to be at one supplier, at every other."""
    for chosen in choice.places:
        if chosen.supplier:
            yield from ((v.alias, chosen.function) for v in env.snapshot.suppliers if v.alias != chosen.supplier)


def _placement(order: Order, env: Env, lexicon: Lexicon, plans: tuple[Plan, ...]) -> PlaceQuestion:
    options: list[PlacementOption] = []
    for plan in plans:
        places = placement_of(order, lexicon, plan)
        if places and all(places != known.places for known in options):
            price = plan.price.scaled(order.terms.margin)
            id = str(len(options) + 1)
            options.append(PlacementOption(id=id, places=places, price=price, delay_us=plan.delay_us))
    announced = places_of(order, env, lexicon)
    known = {(o.function, o.place, o.supplier): o for o in announced}
    at = {(p.function, p.place, p.supplier): None for option in options for p in option.places}
    planned_at = (  # a part of a site is announced under the site's word, and planned under its own
        known.get(key) or PlacementOffer(function=key[0], place=key[1], supplier=key[2]) for key in at
    )
    offers = tuple(dict.fromkeys((*planned_at, *announced)))[:MAX_OFFERS]
    return PlaceQuestion(options=tuple(options), offers=offers)


@task
def reconsider_as_placed(order: Order, env: Env) -> Order | Pause:
    """As `reconsider`, but that what a manager placed stays where it is."""
    decision = latest(order, ManagerTask.PLACE)
    return order if decision is not None and isinstance(decision.choice, Placement) else reconsider(order, env)


@task
def ask_addresses(order: Order, env: Env) -> Order | Pause:
    """Take a block if none was given, and ask a manager which prefixes links are to have of it."""
    manager, spec = decider(order, ManagerTask.ADDRESS), order.spec
    if manager is None or spec is None or order.plan is None or order.addressed:
        return order
    decision = latest(order, ManagerTask.ADDRESS)
    if decision is not None and not _clashes(order, decision):
        return refused_by(order, env, decision) if decision.outcome is DecisionOutcome.REFUSED else order
    number = 0 if decision is None else decision.number + 1
    if is_asked(order, ManagerTask.ADDRESS, number):
        return Pause(order)
    sizes, allowed = block_bits(spec), spec.blocks.allowed
    if not sizes:
        return order
    if not allowed:
        taken = env.allocate(order.id, sizes)
        if isinstance(taken, Reason):
            return refuse(order, env.now, taken)
        order = order.with_blocks(taken)
        allowed = order.present_blocks
    required = [prefix for link in spec.links for prefix in link.addressing.prefixes]
    behind = [network for end in spec.ends for network in end.networks]
    question = AddressQuestion(
        links=tuple(
            OpenLink(link=id, ports=spec.link(id).ports, versions=versions, addresses=len(spec.link(id).points))
            for id, versions in spec.open_links().items()
        ),
        allowed=allowed,
        excluded=aggregate([*spec.blocks.excluded, *behind, *required, *order.unusable]),
    )
    return ask(order, env, manager, number, question)


def _clashes(order: Order, decision: Decision) -> bool:
    """Whether anything that was chosen cannot be used, as suppliers said since."""
    return bool(conflicting(_prefixes(decision), order.unusable))


def _prefixes(decision: Decision) -> tuple[Prefix, ...]:
    """Those that were chosen."""
    links = decision.choice.links if isinstance(decision.choice, Addresses) else ()
    return tuple(prefix for link in links for prefix in link.prefixes)


@task
def ask_parameters(order: Order, env: Env) -> Order | Pause:
    """Ask a manager what functions are to be told, once it is known where they are going to be."""
    manager, spec = decider(order, ManagerTask.CONFIGURE), order.spec
    if manager is None or spec is None or not spec.functions or order.plan is None or order.addressed:
        return order
    number = _number(order)
    decision = decision_of(order, ManagerTask.CONFIGURE, number)
    if decision is not None:
        return refused_by(order, env, decision) if decision.outcome is DecisionOutcome.REFUSED else order
    if is_asked(order, ManagerTask.CONFIGURE, number):
        return Pause(order)
    lexicon = env.lexicon(order.account, order.terms).learnt(order.words)
    question = ConfigureQuestion(placement=placement_of(order, lexicon, order.plan))
    return ask(order, env, manager, number, question)


@task
def address_as_decided(order: Order, env: Env) -> Order | Pause:
    """As `address`, with the prefixes, addresses and parameters that managers chose."""
    spec = order.spec
    if order.addressed or order.plan is None or spec is None:
        return order
    narrowed, addresses = spec, _addresses_of(order)
    if addresses is not None and isinstance(addresses.choice, Addresses):
        blocks = replace(spec.blocks, allowed=spec.blocks.allowed or order.present_blocks)
        narrowed = replace(addressed(spec, addresses.choice), blocks=blocks)
    parameters = decision_of(order, ManagerTask.CONFIGURE, _number(order))
    if parameters is not None and isinstance(parameters.choice, Configuration):
        narrowed = configured(narrowed, parameters.choice)
    if narrowed is spec:
        return address(order, env)
    found = address(replace(order, spec=narrowed), env)
    assert isinstance(found, Order), "addresses are found without a call"
    refusal = found.answers.get(order.version)
    if refusal is not None and addresses is not None:  # not with what was chosen
        return overruled(order, env, addresses, refusal.reasons[0].message)
    return replace(found, spec=spec) if found.spec is narrowed else found


def _addresses_of(order: Order) -> Decision | None:
    """The addresses that a manager chose, if they count."""
    decision = latest(order, ManagerTask.ADDRESS)
    return decision if decision is not None and _prefixes(decision) and not _clashes(order, decision) else None


@task
def overrule(order: Order, env: Env) -> Order | Pause:
    """Where a supplier cannot have what a manager chose of addresses or parameters: ask again for the first, and have the spec's
    own of the others."""
    for segment in order.segments:
        if not (segment.wanted and segment.reasons and segment.asked == segment.body()):
            continue
        if segment.state not in (SegmentState.REFUSED, SegmentState.RELEASED):
            continue
        first, innermost = segment.reasons[0], _innermost(segment.reasons[0])
        parameters = decision_of(order, ManagerTask.CONFIGURE, _number(order))
        if innermost.code is ReasonCode.INVALID_PARAMETER and _told(segment, parameters):
            assert parameters is not None, "it was told what was chosen"
            return replace(overruled(order, env, parameters, innermost.message), addressed=False)
        chosen = _addresses_of(order)
        refused = first.nogood.refused_prefixes if first.nogood is not None else ()
        if chosen is None or first.code is not ReasonCode.PREFIX_CONFLICT:
            continue
        clash = conflicting(_prefixes(chosen), refused)
        if clash and order.rounds < MAX_ROUNDS:
            assert first.nogood is not None, "it tells what it refused"
            learnt = unusable(clash, first.nogood.acceptable_prefixes or ())
            kept = aggregate([*order.unusable, *learnt])
            return replace(order, unusable=kept, addressed=False, rounds=order.rounds + 1)
    return order


def _innermost(reason: Reason) -> Reason:
    return _innermost(reason.causes[0]) if reason.causes else reason


def _told(segment: Segment, decision: Decision | None) -> bool:
    """Whether a function of the segment has parameters that the manager chose."""
    if decision is None or not isinstance(decision.choice, Configuration):
        return False
    return not {f.id for f in segment.spec.functions}.isdisjoint(f.function for f in decision.choice.functions)


def _number(order: Order) -> int:
    """How often the order was planned before."""
    return order.crankbacks + order.hopes
