"""Whether what a manager answers is within what the order and the agreement allow, and what is recorded of it. Pure.

Rules kept here
- A place or supplier is chosen among what was offered in the question, for functions of the spec, once for each.
- A prefix is of what was allowed in the question, keeps off what was excluded and off every other prefix of the service;
  addresses are of functions' ports on that link. The spec with them in it has to be as right as any that a customer sends.
- Parameters are of functions of the spec, and of bounded size. What they mean, the functions' suppliers judge.
- A flavour is chosen among what was offered for its function, once for each.
- What is to be avoided by a healing is among what was offered for what is lost.
- What is wrong is one decision that says what: REFUSED or FALLBACK, by the terms of the manager.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from address_planner.prefixes import inside, overlap
from broker.orders.decisions import Asked, Decision
from broker.orders.records import Order
from lower_sp_clients.service_manager import NoDecision
from service_model.check import check
from service_model.managing import (
    MAX_DETAIL,
    Addresses,
    AddressQuestion,
    Answer,
    ByDefault,
    Choice,
    Configuration,
    ConfigureQuestion,
    DecisionOutcome,
    FunctionPlace,
    HealQuestion,
    LinkAddresses,
    ManagerRefusal,
    OpenLink,
    Placement,
    PlaceQuestion,
    Remedy,
    ScaleQuestion,
    Scaling,
)
from service_model.spec import AddressRole, ReservedAddress, ServiceSpec, VirtualLink
from service_model.words import Prefix

MAX_PARAMETERS = 64
MAX_PARAMETERS_BYTES = 16_384
"""Of one function, as JSON."""


class NotAllowed(Exception):
    """A choice that the order or the agreement does not allow; the message says which."""


def judged(order: Order, asked: Asked, answer: Answer | NoDecision, now: datetime) -> Decision:
    """The decision that follows from an answer to what the order asked."""
    if isinstance(answer, NoDecision):
        return failed(order, asked, str(answer), now)
    if isinstance(answer, ByDefault):
        return _decision(asked, DecisionOutcome.DEFAULT, "as by default", now)
    if isinstance(answer, ManagerRefusal):
        return _decision(asked, DecisionOutcome.REFUSED, answer.message or "no reason was given", now)
    assert order.spec is not None, "only what is asked for is decided"
    try:
        choice = _allowed(order.spec, asked, answer)
    except NotAllowed as error:
        return failed(order, asked, str(error), now)
    return _decision(asked, DecisionOutcome.CHOSEN, _text(choice), now, choice)


def failed(order: Order, asked: Asked | Decision, why: str, now: datetime) -> Decision:
    """The decision where a manager did not decide, or not as it may."""
    terms = order.terms.managers.get(asked.manager)
    refuses = terms is None or terms.refuses
    return _decision(asked, DecisionOutcome.REFUSED if refuses else DecisionOutcome.FALLBACK, why, now)


def _decision(
    asked: Asked | Decision, outcome: DecisionOutcome, detail: str, now: datetime, choice: Choice | None = None
) -> Decision:
    return Decision(
        at=now,
        manager=asked.manager,
        task=asked.task,
        number=asked.number,
        outcome=outcome,
        detail=detail[:MAX_DETAIL],
        choice=choice,
    )


def _allowed(spec: ServiceSpec, asked: Asked, choice: Choice) -> Choice:
    """The choice as it is recorded. Raises NotAllowed."""
    match asked.question, choice:
        case PlaceQuestion() as question, Placement():
            return _placement(question, choice)
        case AddressQuestion() as question, Addresses():
            return _addresses(spec, question, choice)
        case ConfigureQuestion(), Configuration():
            return _configuration(spec, choice)
        case HealQuestion() as question, Remedy():
            return _remedy(question, choice)
        case ScaleQuestion() as question, Scaling():
            return _scaling(question, choice)
        case _:
            raise NotAllowed(f"it answered {type(choice).__name__}, which was not asked")


def _text(choice: Choice) -> str:
    match choice:
        case Placement():
            return ", ".join(_place_text(p) for p in choice.places)
        case Addresses():
            return ", ".join(f"{a.link}: {' '.join(map(str, a.prefixes))}" for a in choice.links)
        case Configuration():
            return ", ".join(f"{f.function}: {' '.join(sorted(f.parameters))}" for f in choice.functions)
        case Remedy():
            kept_off = ", ".join(_place_text(p) for p in choice.avoid)
            return f"not before {choice.wait_s} s" if choice.wait_s else f"now{', not ' if kept_off else ''}{kept_off}"
        case Scaling():
            return ", ".join(f"{f.function}: {f.flavour}" for f in choice.flavours)


def _place_text(chosen: FunctionPlace) -> str:
    return f"{chosen.function} at {chosen.place}" + (f" of {chosen.supplier}" if chosen.supplier else "")


def _remedy(question: HealQuestion, choice: Remedy) -> Remedy:
    for chosen in choice.avoid:
        if not any(_offers(offer.function, offer.place, offer.supplier, chosen) for offer in question.offers):
            raise NotAllowed(f"{_place_text(chosen)} was not offered, so it cannot be avoided")
    return choice


def _scaling(question: ScaleQuestion, choice: Scaling) -> Scaling:
    open_to: dict[str, set[str]] = {}
    for offer in question.offers:
        open_to.setdefault(offer.function, set()).add(offer.flavour.name)
    for chosen in choice.flavours:
        flavours = open_to.pop(chosen.function, None)
        if flavours is None:
            raise NotAllowed(f"function {chosen.function!r}: its flavour was not asked for, or is chosen twice")
        if chosen.flavour not in flavours:
            raise NotAllowed(f"function {chosen.function!r}: flavour {chosen.flavour!r} was not offered")
    return choice


def _placement(question: PlaceQuestion, choice: Placement) -> Placement:
    if choice.option:
        for option in question.options:
            if option.id == choice.option:
                return Placement(places=option.places)
        raise NotAllowed(f"option {choice.option!r} was not offered")
    seen: set[str] = set()
    functions = {offer.function for offer in question.offers}
    for place in choice.places:
        if place.function not in functions:
            raise NotAllowed(f"there is no function {place.function!r} to be placed")
        if place.function in seen:
            raise NotAllowed(f"function {place.function!r} is placed twice")
        seen.add(place.function)
        if not any(_offers(offer.function, offer.place, offer.supplier, place) for offer in question.offers):
            at = f"{place.place!r}" + (f" of {place.supplier!r}" if place.supplier else "")
            raise NotAllowed(f"function {place.function!r}: {at} was not offered")
    return choice


def _offers(function: str, place: str, supplier: str, chosen: FunctionPlace) -> bool:
    return (function, place) == (chosen.function, chosen.place) and chosen.supplier in ("", supplier)


def _addresses(spec: ServiceSpec, question: AddressQuestion, choice: Addresses) -> Addresses:
    links = {link.link: link for link in question.links}
    others: list[Prefix] = [*question.excluded]
    for chosen in choice.links:
        link = links.pop(chosen.link, None)
        if link is None:
            raise NotAllowed(f"link {chosen.link!r}: it was not asked for, or is addressed twice")
        _of_families(link, chosen)
        for prefix in chosen.prefixes:
            if not any(inside(prefix, block) for block in question.allowed):
                raise NotAllowed(f"link {chosen.link!r}: {prefix} is outside of what was allowed")
            if taken := next((other for other in others if overlap(prefix, other)), None):
                raise NotAllowed(f"link {chosen.link!r}: {prefix} overlaps {taken}, which is in use")
            if prefix.num_addresses < link.addresses:
                raise NotAllowed(f"link {chosen.link!r}: {prefix} has less than {link.addresses} addresses")
            others.append(prefix)
        for point in chosen.addresses:
            if point not in link.ports:
                raise NotAllowed(f"link {chosen.link!r}: {point!r} is no function's port on it")
    problems = check(addressed(spec, choice))
    if problems:
        raise NotAllowed(problems[0].reason)
    return choice


def _of_families(link: OpenLink, chosen: LinkAddresses) -> None:
    versions = sorted(prefix.version for prefix in chosen.prefixes)
    wanted = sorted(link.versions)
    if versions != wanted and (wanted or len(versions) != 1):
        need = " and ".join(f"IPv{version}" for version in wanted) or "one of either family"
        raise NotAllowed(f"link {link.link!r} needs a prefix of {need}")


def _configuration(spec: ServiceSpec, choice: Configuration) -> Configuration:
    functions = {f.id for f in spec.functions}
    for chosen in choice.functions:
        if chosen.function not in functions:
            raise NotAllowed(f"there is no function {chosen.function!r} to be configured, or it is configured twice")
        functions.remove(chosen.function)
        size = len(json.dumps(chosen.parameters))
        if len(chosen.parameters) > MAX_PARAMETERS or size > MAX_PARAMETERS_BYTES:
            most = f"{MAX_PARAMETERS} of {MAX_PARAMETERS_BYTES} bytes"
            raise NotAllowed(
                f"function {chosen.function!r}: {len(chosen.parameters)} parameters of {size} bytes; {most}"
            )
    return choice


# the spec as a manager narrowed it


def scaled(spec: ServiceSpec, choice: Scaling) -> ServiceSpec:
    """The spec with functions in the flavours chosen, but for those of which it says one."""
    of = {chosen.function: chosen.flavour for chosen in choice.flavours}
    functions = tuple(replace(f, flavour=of[f.id]) if f.id in of and f.flavour is None else f for f in spec.functions)
    return replace(spec, functions=functions)


def placed(spec: ServiceSpec, choice: Placement) -> ServiceSpec:
    """The spec with functions at the places chosen, in the customer's words."""
    at = {p.function: p.place for p in choice.places}
    functions = tuple(replace(f, places=(at[f.id],)) if f.id in at else f for f in spec.functions)
    return replace(spec, functions=functions)


def addressed(spec: ServiceSpec, choice: Addresses) -> ServiceSpec:
    """The spec with the prefixes and addresses chosen, as if its customer required them."""
    by_link = {chosen.link: chosen for chosen in choice.links}
    return replace(
        spec, links=tuple(_with(link, by_link[link.id]) if link.id in by_link else link for link in spec.links)
    )


def _with(link: VirtualLink, chosen: LinkAddresses) -> VirtualLink:
    had = link.addressing
    first, *more = sorted((*had.prefixes, *chosen.prefixes), key=lambda prefix: prefix.version)
    reserved = tuple(
        ReservedAddress(role=AddressRole.PEER, address=address, point=point)
        for point, address in chosen.addresses.items()
    )
    told = replace(had, prefix=first, second_prefix=more[0] if more else None, reserved=(*had.reserved, *reserved))
    return replace(link, addressing=told)


def configured(spec: ServiceSpec, choice: Configuration) -> ServiceSpec:
    """The spec with the parameters chosen."""
    by_function: dict[str, Mapping[str, Any]] = {f.function: f.parameters for f in choice.functions}
    functions = tuple(
        replace(f, parameters={**f.parameters, **by_function[f.id]}) if f.id in by_function else f
        for f in spec.functions
    )
    return replace(spec, functions=functions)
