"""The tasks of services whose spec names managers: what is asked of these, and what is done with what they decided. Pure.

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
from broker.orders.decisions import Asked, Decision
from broker.orders.judging import addressed, configured, failed, placed
from broker.orders.placing import address, place, planned, within_price
from broker.orders.records import Order, Segment
from broker.orders.retrying import MAX_ROUNDS, refuse
from broker.orders.states import SegmentState
from broker.orders.tasks import Env, Pause, Question, task
from capability_registry.abstraction import PlaceDetail
from service_model.managing import (
    TASK_OF,
    Addresses,
    AddressQuestion,
    Configuration,
    ConfigureQuestion,
    DecisionOutcome,
    FunctionPlace,
    ManagerTask,
    OpenLink,
    Placement,
    PlacementOffer,
    PlacementOption,
    PlaceQuestion,
)
from service_model.managing import Question as Asking
from service_model.outcomes import Reason, ReasonCode
from service_model.qos import bound
from service_model.spec import ServiceSpec
from service_model.words import Prefix

OPTIONS = 3
"""How many plans a manager is told of, where there are as many."""
MAX_OFFERS = 1000
"""Of places, in one question."""


@task
def place_by_manager(order: Order, env: Env) -> Order | Pause:
    """As a manager of the service chooses among the plans and places there are; else as `place` does."""
    manager, spec = decider(order, ManagerTask.PLACE), order.spec
    if manager is None or spec is None or order.plan is not None or order.quoted is not None:
        return place(order, env)
    lexicon = env.lexicon(order.account, order.terms).learnt(order.words)
    number = _number(order)
    decision = _decided(order, ManagerTask.PLACE, number)
    if decision is None:
        if is_asked(order, ManagerTask.PLACE, number):
            return Pause(order)
        found = _plans(order, env, lexicon, spec, order.avoid)
        if isinstance(found, Pause):
            return found
        if isinstance(found, Infeasible):
            return place(order, env)
        return ask(order, env, manager, number, _placement(order, env, lexicon, found))
    if decision.outcome is DecisionOutcome.REFUSED:
        return _refused(order, env, decision)
    if not isinstance(decision.choice, Placement):
        return place(order, env)
    elsewhere = Avoid(functions=frozenset(_elsewhere(decision.choice, env)))
    found = _plans(order, env, lexicon, placed(spec, decision.choice), order.avoid | elsewhere)
    if isinstance(found, Pause):
        return found
    if isinstance(found, Infeasible):
        return _overruled(order, env, decision, "the service cannot be delivered so")
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
    announced = tuple(offers_of(order, env, lexicon))
    known = {(o.function, o.place, o.supplier): o for o in announced}
    at = {(p.function, p.place, p.supplier): None for option in options for p in option.places}
    planned_at = (  # a part of a site is announced under the site's word, and planned under its own
        known.get(key) or PlacementOffer(function=key[0], place=key[1], supplier=key[2]) for key in at
    )
    offers = tuple(dict.fromkeys((*planned_at, *announced)))[:MAX_OFFERS]
    return PlaceQuestion(options=tuple(options), offers=offers)


def placement_of(order: Order, lexicon: Lexicon, plan: Plan) -> tuple[FunctionPlace, ...]:
    """Where a plan has the functions, as the customer calls it; none where one place has no word."""
    found = {}
    for segment in plan.segments:
        for function, ours in segment.places.items():
            word = word_of(lexicon, ours)
            if word is None:
                return ()
            shown = segment.alias if order.terms.show_segments else ""
            found[function] = FunctionPlace(function=function, place=word, supplier=shown)
    assert order.spec is not None, "what was planned was asked for"
    return tuple(found[f.id] for f in order.spec.functions if f.id in found)


def word_of(lexicon: Lexicon, ours: str) -> str | None:
    return ours if lexicon.words is None else lexicon.words.get(ours)


def offers_of(order: Order, env: Env, lexicon: Lexicon) -> Iterator[PlacementOffer]:
    """Every place at which a supplier that takes orders announces the type of a function, within the function's own places."""
    assert order.spec is not None, "what was planned was asked for"
    countries_told = order.terms.disclosure.place_detail is not PlaceDetail.NONE
    for view in env.snapshot.suppliers:
        if not view.usable:
            continue
        countries = {p.id: p.told_country or "" for p in view.note.places} if countries_told else {}
        for function in order.spec.functions:
            for offer in view.note.functions:
                word = word_of(lexicon, offer.place) if offer.type == function.type else None
                if word is not None and (not function.places or word in function.places):
                    yield PlacementOffer(
                        function=function.id,
                        place=word,
                        supplier=view.alias if order.terms.show_segments else "",
                        country=countries.get(offer.place, ""),
                    )


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
        return _refused(order, env, decision) if decision.outcome is DecisionOutcome.REFUSED else order
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
    decision = _decided(order, ManagerTask.CONFIGURE, number)
    if decision is not None:
        return _refused(order, env, decision) if decision.outcome is DecisionOutcome.REFUSED else order
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
    parameters = _decided(order, ManagerTask.CONFIGURE, _number(order))
    if parameters is not None and isinstance(parameters.choice, Configuration):
        narrowed = configured(narrowed, parameters.choice)
    if narrowed is spec:
        return address(order, env)
    found = address(replace(order, spec=narrowed), env)
    assert isinstance(found, Order), "addresses are found without a call"
    refusal = found.answers.get(order.version)
    if refusal is not None and addresses is not None:  # not with what was chosen
        return _overruled(order, env, addresses, refusal.reasons[0].message)
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
        parameters = _decided(order, ManagerTask.CONFIGURE, _number(order))
        if innermost.code is ReasonCode.INVALID_PARAMETER and _told(segment, parameters):
            assert parameters is not None, "it was told what was chosen"
            return replace(_overruled(order, env, parameters, innermost.message), addressed=False)
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


# what is asked, and what was decided


def decider(order: Order, what: ManagerTask) -> str | None:
    """The manager of the service, by the name in its spec, that decides this."""
    terms = order.terms.managers
    named = order.spec.managers if order.spec is not None else ()
    return next((name for name in named if name in terms and what in terms[name].decides), None)


def _number(order: Order) -> int:
    """How often the order was planned before."""
    return order.crankbacks + order.hopes


def _decided(order: Order, what: ManagerTask, number: int) -> Decision | None:
    return next((d for d in order.decisions if (d.task, d.number) == (what, number)), None)


def latest(order: Order, what: ManagerTask) -> Decision | None:
    return next((d for d in reversed(order.decisions) if d.task is what), None)


def is_asked(order: Order, what: ManagerTask, number: int) -> bool:
    return order.asked is not None and (order.asked.task, order.asked.number) == (what, number)


def ask(order: Order, env: Env, manager: str, number: int, question: Asking) -> Pause:
    asked = Asked(
        at=env.now,
        version=order.version,
        manager=manager,
        task=TASK_OF[type(question)],
        number=number,
        question=question,
    )
    return Pause(replace(order, asked=asked))


def _overruled(order: Order, env: Env, decision: Decision, why: str) -> Order:
    """The order where what was chosen cannot be had."""
    instead = failed(order, decision, f"{why}: {decision.detail}", env.now)
    return replace(order, decisions=tuple(instead if d is decision else d for d in order.decisions))


def _refused(order: Order, env: Env, decision: Decision) -> Order:
    message = f"manager {decision.manager!r} ({decision.task.short}): {decision.detail}"
    return refuse(order, env.now, Reason(code=ReasonCode.MANAGER_REFUSED, message=message, subject=decision.manager))
