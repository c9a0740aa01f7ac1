"""The words that an audience has for our places, and what it means by them.

Rules kept here
- A word is a MAC with our secret over the audience and what it stands for: the same each time, another for each audience,
  and nothing can be read from it.
- At GREY it stands for a place; at BLACK for a country and a set of function types, and so for every place that has
  just these. Where the country is not told, for a place. At WHITE our own names are the words.
- The part of a site that is told of besides another (`site_parts`) has a word as places have; what a supplier calls it itself
  is the site's.
- What an order meant and was told stays with it (`learnt`): a place that offers something more tomorrow has another word
  then, but not for that order.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from broker.decompose.plan import Snapshot
from broker.decompose.site_parts import part_of
from capability_registry.abstraction import Abstraction, Disclosure
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import FunctionRequest, ServiceSpec

_DIGITS = 10
"""Of 16^10 words two of a thousand places are alike once in two million notes."""


@dataclass(frozen=True, slots=True)
class Lexicon:
    """`words`: our place → the audience's word; None where our own names are the words."""

    words: Mapping[str, str] | None = None

    def learnt(self, words: Mapping[str, str]) -> Lexicon:
        """With words that were used before, which count."""
        return self if self.words is None else Lexicon({**self.words, **words})

    def meant(self, spec: ServiceSpec) -> ServiceSpec | Reason:
        """The spec with our places for the audience's words; UNKNOWN_PLACE for a function none of whose words is known."""
        if self.words is None or not any(f.places for f in spec.functions):
            return spec
        places: dict[str, list[str]] = {}
        for place, word in self.words.items():
            places.setdefault(word, []).append(place)
        functions: list[FunctionRequest] = []
        for function in spec.functions:
            known = tuple(sorted(place for word in function.places for place in places.get(word, ())))
            if function.places and not known:
                message = f"function {function.id!r}: there is no place {' or '.join(map(repr, function.places))}"
                return Reason(code=ReasonCode.UNKNOWN_PLACE, message=message, subject=function.places[0])
            functions.append(replace(function, places=known))
        return replace(spec, functions=tuple(functions))

    def of(self, places: Iterable[str], spec: ServiceSpec) -> dict[str, str]:
        """The words of these places, and of every place that the spec could mean: what an order has to remember."""
        if self.words is None:
            return {}
        asked, chosen = {word for f in spec.functions for word in f.places}, set(places)
        return {place: word for place, word in self.words.items() if place in chosen or word in asked}


OUR_NAMES = Lexicon()


def lexicon(snapshot: Snapshot, secret: bytes, audience: str, disclosure: Disclosure) -> Lexicon:
    """What `audience` calls every place that a note of the snapshot has."""
    if disclosure.abstraction is Abstraction.WHITE:
        return OUR_NAMES
    countries: dict[str, str | None] = {}
    types: dict[str, set[str]] = {}
    parts: dict[str, dict[str, str]] = {}
    """By site, what we call each part of it, and what its supplier does."""
    for view in snapshot.suppliers:
        sites = {place.id: place.location for place in view.note.places}
        for place in view.note.places:
            countries[place.location] = countries.get(place.location) or place.told_country
        for sap in view.note.saps:
            countries.setdefault(sites.get(sap.place, sap.place), None)
        for offer in view.note.functions:
            site = sites.get(offer.place, offer.place)
            part = part_of(site, view.alias, offer.place)
            countries.setdefault(site, None)
            parts.setdefault(site, {})[part] = offer.place
            for id in (site, part):
                types.setdefault(id, set()).add(str(offer.type))
    words = {}
    for site, country in countries.items():
        here = parts.get(site, {})
        for id in (site, *(here if len(here) > 1 else ())):
            merged = disclosure.abstraction is Abstraction.BLACK and country is not None
            stands_for = (country or "", *sorted(types.get(id, ()))) if merged else (id,)
            words[id] = _word(secret, audience, disclosure.abstraction, stands_for)
        words |= {theirs: words[site] for theirs in here.values() if theirs not in countries}
    return Lexicon(words)


def _word(secret: bytes, audience: str, abstraction: Abstraction, stands_for: Iterable[str]) -> str:
    text = "\0".join(("spbroker place", audience, abstraction, *stands_for))
    return f"p-{hmac.digest(secret, text.encode(), hashlib.sha256).hex()[:_DIGITS]}"
