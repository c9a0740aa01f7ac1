"""What a manager is told of functions, places and sizes: what its customer may see of them, in its customer's words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from broker.decompose.lexicon import Lexicon
from broker.decompose.plan import Plan
from broker.orders.records import Order
from broker.orders.sizing import sized
from broker.orders.tasks import Env
from capability_registry.abstraction import PlaceDetail
from capability_registry.note import FunctionOffer
from service_model.managing import FlavourOffer, FunctionPlace, PlacementOffer
from service_model.spec import FunctionRequest

MAX_OFFERS = 1000
"""In one question."""


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


def places_of(order: Order, env: Env, lexicon: Lexicon) -> tuple[PlacementOffer, ...]:
    """Every place at which a supplier that takes orders announces a function as it is asked for."""
    sizes = {f.id: f.flavour for f in sized(order).functions}
    told = (
        offered
        for offered, offer in _announced(order, env, lexicon)
        if (size := sizes[offered.function]) is None or any(f.name == size for f in offer.flavours)
    )
    return tuple(dict.fromkeys(told))


def flavours_of(order: Order, env: Env, lexicon: Lexicon) -> tuple[FlavourOffer, ...]:
    """Every flavour in which a supplier that takes orders announces a function of which the spec does not say one, at the price
    that the customer pays. Of what looks the same to it, the cheapest: a word for a place may stand for several."""
    assert order.spec is not None, "what is sized was asked for"
    given, hours = {f.id for f in order.spec.functions if f.flavour is not None}, order.spec.term_hours
    told: dict[tuple[PlacementOffer, str], FlavourOffer] = {}
    for at, offer in _announced(order, env, lexicon):
        for flavour in offer.flavours if at.function not in given else ():
            price = flavour.price.scaled(order.terms.margin)
            known = told.get((at, flavour.name))
            if known is None or price.over(hours) < known.flavour.price.over(hours):
                told[at, flavour.name] = FlavourOffer(
                    function=at.function,
                    flavour=replace(flavour, price=price),
                    by_default=flavour is offer.flavours[0],
                    place=at.place,
                    supplier=at.supplier,
                    country=at.country,
                )
    return tuple(told.values())


def _announced(order: Order, env: Env, lexicon: Lexicon) -> Iterator[tuple[PlacementOffer, FunctionOffer]]:
    """Every place at which the type of a function is announced, within the function's own places."""
    assert order.spec is not None, "what is offered was asked for"
    countries_told = order.terms.disclosure.place_detail is not PlaceDetail.NONE
    for view in env.snapshot.suppliers:
        if not view.usable:
            continue
        countries = {p.id: p.told_country or "" for p in view.note.places} if countries_told else {}
        for function in order.spec.functions:
            for offer in view.note.functions:
                word = _word(lexicon, function, offer)
                if word is not None:
                    shown = view.alias if order.terms.show_segments else ""
                    country = countries.get(offer.place, "")
                    yield PlacementOffer(function=function.id, place=word, supplier=shown, country=country), offer


def _word(lexicon: Lexicon, function: FunctionRequest, offer: FunctionOffer) -> str | None:
    """What the customer calls the place of an offer; None where that is not one of the function's."""
    word = word_of(lexicon, offer.place) if offer.type == function.type else None
    return word if not function.places or word in function.places else None
