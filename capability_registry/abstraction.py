"""How much of our places a note shows to one audience, and the note so shown.

Rules kept here
- WHITE names places as we do. GREY gives each a word of its own, for this audience alone. BLACK has one word for all
  places of a country that offer the same function types.
- Whatever is shown is in the note that it is made from, under other words, so it promises nothing more. Of places under
  one word one is shown with all that it has: what several have cannot be used together at the price and delay of one.
  An order that names the word may be delivered at any of them, so it is never done worse.
- That one offers most types and has most room, by powers of two: who is a little emptier today does not replace it.
- What parts of a site have words of their own are told to be parts of one; where one of them shares its word with other
  places, nothing is certain of where it is. Nor is it of a part whose site's word stands for several sites.
- With its own name a place loses tags, which would give it away, and coordinates too, unless these are to be told: then of each
  word that stands for one place.
- Periods are told in whole minutes, hours and days (GRAINS), shorter than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar

from pydantic import ConfigDict

from capability_registry.note import (
    COUNTRY_UNTOLD,
    BorderEntry,
    CapabilityNote,
    Period,
    Place,
    PlaceNaming,
    SharedLimit,
)
from capability_registry.packing import total
from capability_registry.periods import coarser
from capability_registry.sharing import untold
from service_model.spec import STRICT
from service_model.words import Word


class Abstraction(Word):
    WHITE = "ABSTRACTION_WHITE"
    GREY = "ABSTRACTION_GREY"
    BLACK = "ABSTRACTION_BLACK"


GRAINS = {
    Abstraction.WHITE: timedelta(minutes=1),
    Abstraction.GREY: timedelta(hours=1),
    Abstraction.BLACK: timedelta(days=1),
}
"""To what periods are rounded."""


class PlaceDetail(Word):
    COORDINATES = "PLACE_DETAIL_COORDINATES"
    FULL = "PLACE_DETAIL_FULL"
    COUNTRY = "PLACE_DETAIL_COUNTRY"
    NONE = "PLACE_DETAIL_NONE"


_ALL = frozenset({PlaceDetail.COORDINATES, PlaceDetail.FULL})
"""With their names: whatever is known."""


class Sharing(Word):
    TOLD = "SHARING_TOLD"
    WITHHELD = "SHARING_WITHHELD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """What an agreement lets its customers see of our places, and of what is sold by others too."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    abstraction: Abstraction = Abstraction.WHITE
    place_detail: PlaceDetail = PlaceDetail.FULL
    """FULL: country, coordinates, tags. Where places have no names of their own it is COUNTRY. COORDINATES: there, too."""
    sharing: Sharing = Sharing.TOLD
    """TOLD: shares (`sharing`). WITHHELD: none, and who buys the same of another one is not warned."""


OPEN = Disclosure()


def abstracted(note: CapabilityNote, disclosure: Disclosure, words: Mapping[str, str]) -> CapabilityNote:
    """The note as `disclosure` shows it. `words`: of each of its places, the word that its audience has for it; one that
    has none is known by its own name."""
    if disclosure.sharing is Sharing.WITHHELD:
        note, disclosure = untold(note), replace(disclosure, sharing=Sharing.TOLD)
    if disclosure.abstraction is Abstraction.WHITE and disclosure.place_detail in _ALL:
        return replace(note, periods=coarser(note.periods, GRAINS[Abstraction.WHITE])) if note.periods else note
    groups = _groups(note, words)
    shown = {place: word for word, members in groups.items() for place in members[:1]}
    named = {place: word for word, members in groups.items() for place in members}

    def seen(point: str) -> bool:
        return point in shown or point not in named

    def called(point: str) -> str:
        return named.get(point, point)

    return replace(
        note,
        places=tuple(sorted(_places(note, groups, disclosure), key=lambda place: place.id)),
        functions=tuple(replace(f, place=shown[f.place]) for f in note.functions if f.place in shown),
        capacities=tuple(replace(c, place=shown[c.place]) for c in note.capacities if c.place in shown),
        saps=tuple(replace(s, place=named[s.place]) for s in note.saps),
        matrix=tuple(_entry(e, called, disclosure) for e in note.matrix if seen(e.a) and seen(e.b)),
        guarded=tuple(_entry(e, called, disclosure) for e in note.guarded if seen(e.a) and seen(e.b)),
        shared=tuple(limit for each in note.shared if (limit := _limit(each, seen, called)).coefficients),
        periods=coarser((_period(p, shown, seen, called) for p in note.periods), GRAINS[disclosure.abstraction]),
        outages=tuple(replace(o, subject=called(o.subject)) for o in note.outages if seen(o.subject)),
    )


def _groups(note: CapabilityNote, words: Mapping[str, str]) -> dict[str, list[str]]:
    """The places of the note by their words, the one that is shown first."""
    types: dict[str, int] = {}
    for offer in note.functions:
        types[offer.place] = types.get(offer.place, 0) + 1
    room = {c.place: total(c.bins).bit_length() for c in note.capacities}
    every = {p.id for p in note.places} | {s.place for s in note.saps} | types.keys() | room.keys()
    beside = {p.id for p in note.places if p.site}
    groups: dict[str, list[str]] = {}
    for place in sorted(every, key=lambda p: (-types.get(p, 0), -room.get(p, 0), p in beside, p)):
        groups.setdefault(words.get(place, place), []).append(place)
    return groups


def _places(note: CapabilityNote, groups: Mapping[str, list[str]], disclosure: Disclosure) -> list[Place]:
    known = {p.id: p for p in note.places}
    words = {member: word for word, members in groups.items() for member in members}
    blurred = _blurred(note, words, groups)
    out = []
    for word, members in groups.items():
        told = [known.get(m, Place(id=m, country=COUNTRY_UNTOLD)) for m in members]
        site, several = told[0].location, len(members) > 1 or told[0].merged
        place = replace(told[0], id=word, tags=(), site="")
        if len(members) == 1 and site != told[0].id:
            place = replace(place, site=words.get(site, site))
            several = several or len(groups.get(place.site, ())) > 1
        if disclosure.abstraction is not Abstraction.WHITE:
            ours = all(p.naming is PlaceNaming.PUBLIC for p in told) and blurred.isdisjoint(members)
            naming = PlaceNaming.OWN if ours else PlaceNaming.RELAYED
            certain = not ours and len({p.named_by for p in told}) == 1 and blurred.isdisjoint(members)
            place = replace(place, naming=naming, merged=several, named_by=told[0].named_by if certain else "")
        if several or disclosure.place_detail is not PlaceDetail.COORDINATES:
            place = replace(place, latitude=0.0, longitude=0.0)
        if disclosure.place_detail is PlaceDetail.NONE:
            place = replace(place, country=COUNTRY_UNTOLD)
        out.append(place)
    return out


def _blurred(note: CapabilityNote, words: Mapping[str, str], groups: Mapping[str, list[str]]) -> set[str]:
    """The parts of sites of which one part shares its word with other places."""
    sites: dict[str, set[str]] = {}
    for place in note.places:
        sites.setdefault(place.location, set()).add(place.id)
    shared = [parts for parts in sites.values() if len(parts) > 1 and any(len(groups[words[p]]) > 1 for p in parts)]
    return set().union(*shared)


def _entry(entry: BorderEntry, called: Callable[[str], str], disclosure: Disclosure) -> BorderEntry:
    points = entry.points
    if disclosure.place_detail is PlaceDetail.NONE:
        points = tuple(replace(p, countries=()) for p in points)
    return replace(entry, a=called(entry.a), b=called(entry.b), points=points)


def _period(
    period: Period, shown: Mapping[str, str], seen: Callable[[str], bool], called: Callable[[str], str]
) -> Period:
    shared = (_limit(limit, seen, called) for limit in period.shared)
    return replace(
        period,
        capacities=tuple(replace(c, place=shown[c.place]) for c in period.capacities if c.place in shown),
        ways={word: bps for key, bps in period.ways.items() if (word := _way(key, seen, called))},
        shared=tuple(limit for limit in shared if limit.coefficients),
    )


def _way(key: str, seen: Callable[[str], bool], called: Callable[[str], str]) -> str:
    """The key of a way, or of an entry, as it is shown; empty where it is not."""
    entry, *number = key.split("#")
    a, _, b = entry.partition("|")
    return "#".join((f"{called(a)}|{called(b)}", *number)) if seen(a) and seen(b) else ""


def _limit(limit: SharedLimit, seen: Callable[[str], bool], called: Callable[[str], str]) -> SharedLimit:
    kept = {word: times for key, times in limit.coefficients.items() if (word := _way(key, seen, called))}
    return replace(limit, coefficients=kept)
