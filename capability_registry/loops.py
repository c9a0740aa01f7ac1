"""What a note has of our own capability, which came back to us over others.

Rules kept here
- What rests on a token of ours is left out, before anything is planned with or announced: we do not buy from ourselves.
  What remains of the note is as good as any.
- A place's capacity goes when no function is left there, a token when nothing is left that rests on it: otherwise tokens
  would grow with each turn of a note round a ring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain

from capability_registry.note import BorderEntry, CapabilityNote, FunctionOffer, SapOffer
from capability_registry.sharing import drawn_on


class UnknownOrigin(ValueError):
    """Something rests on a token, or draws on a share, that the note does not have."""


def without_ours(note: CapabilityNote, is_ours: Callable[[str], bool]) -> CapabilityNote:
    """The note without what is ours; the same object where nothing is. Raises UnknownOrigin."""
    tokens = len(note.origin_tokens)
    highest = max(chain.from_iterable(rested_on(note)), default=-1)
    if highest >= tokens:
        raise UnknownOrigin(f"origin {highest} of {tokens}")
    drawn = max(chain.from_iterable(drawn_on(note)), default=-1)
    if drawn >= len(note.shares):
        raise UnknownOrigin(f"share {drawn} of {len(note.shares)}")
    ours = {index for index, token in enumerate(note.origin_tokens) if is_ours(token)}
    if not ours:
        return note

    def foreign(origins: tuple[int, ...]) -> bool:
        return bool(origins) and ours.isdisjoint(origins)

    functions = tuple(f for f in note.functions if foreign(f.origins))
    saps = tuple(s for s in note.saps if foreign(s.origins))
    matrix = tuple(e for e in note.matrix if foreign(e.origins))
    guarded = tuple(e for e in note.guarded if foreign(e.origins))
    left = replace(note, functions=functions, saps=saps, matrix=matrix, guarded=guarded)
    used = sorted(set().union(*rested_on(left)))
    place_of = {index: place for place, index in enumerate(used)}

    def again(origins: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(place_of[index] for index in origins)

    still, had = {f.place for f in functions}, {f.place for f in note.functions}
    return replace(
        note,
        functions=tuple(replace(f, origins=again(f.origins)) for f in functions),
        capacities=tuple(c for c in note.capacities if c.place in still or c.place not in had),
        saps=tuple(replace(s, origins=again(s.origins)) for s in saps),
        matrix=tuple(replace(e, origins=again(e.origins)) for e in matrix),
        guarded=tuple(replace(e, origins=again(e.origins)) for e in guarded),
        origin_tokens=tuple(note.origin_tokens[index] for index in used),
    )


def rested_on(note: CapabilityNote) -> list[tuple[int, ...]]:
    """The origins of each part of the note: its functions, SAPs and ways, in this order."""
    parts = chain[FunctionOffer | SapOffer | BorderEntry](note.functions, note.saps, note.matrix, note.guarded)
    return [part.origins for part in parts]


def nothing_left(note: CapabilityNote) -> bool:
    return not (note.functions or note.saps)
