"""Origin tokens so that a reader cannot tell how many suppliers there are, in which order, and what is whose.

Rules kept here
- Nothing that a part rests on is taken away: whoever finds its own token finds it where it was.
- Decoys are put among the tokens, as many as our secret says, and all into an order of no meaning. A decoy looks like a
  token and is nobody's. It rests where a supplier's token could: on some points, on each way to these, and on a few others.
- Where decoys rest follows from the part alone, and tokens are compared by what rests on them (`arranged`), not by their
  texts, order or number. Otherwise what one note changes in another would go round a ring of providers for ever.
- A decoy's text lives as long as one of the tokens, so that it does not stand out when two editions are compared.
- Shares get decoys too: nobody else sells of their pools, so they are in nobody's way. Each has the figures of one that is none,
  and all come into an order of no meaning.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace

from capability_registry.loops import rested_on
from capability_registry.note import BorderEntry, CapabilityNote
from capability_registry.sharing import DIGEST_BYTES

FEWEST, MOST = 3, 10
"""How many decoys an audience may get."""
Origins = tuple[int, ...]


def with_decoys(note: CapabilityNote, secret: bytes) -> CapabilityNote:
    """The note with decoys among its tokens and its shares; no other part of it changes."""

    def mac(*texts: str) -> bytes:
        text = "\0".join(("spbroker decoy", note.audience, *texts))
        return hmac.digest(secret, text.encode(), hashlib.sha256)

    return _shared(_rested(note, mac), mac)


_Mac = Callable[..., bytes]


def _rested(note: CapabilityNote, mac: _Mac) -> CapabilityNote:
    if not note.origin_tokens:
        return note

    count = len(note.origin_tokens)
    bits = [1 << mac("bit", str(n))[0] for n in range(FEWEST + mac("count")[0] % (MOST - FEWEST + 1))]
    marks = {
        p: int.from_bytes(mac("point", p)) for p in (*(s.id for s in note.saps), *(f.place for f in note.functions))
    }

    def with_some(origins: Origins, mark: int) -> Origins:
        return (*(origins or range(count)), *(count + n for n, bit in enumerate(bits) if mark & bit))

    def between(a: str, b: str) -> int:
        half = int.from_bytes(mac("way", a, b))
        few = half & (half >> 97 | half << 159)  # of the bits of one half and another, one in four
        return marks.get(a, 0) | marks.get(b, 0) | few

    mixed = replace(
        note,
        functions=tuple(replace(f, origins=with_some(f.origins, marks[f.place])) for f in note.functions),
        saps=tuple(replace(s, origins=with_some(s.origins, marks[s.id])) for s in note.saps),
        matrix=tuple(replace(e, origins=with_some(e.origins, between(e.a, e.b))) for e in note.matrix),
        guarded=tuple(replace(e, origins=with_some(e.origins, between(e.a, e.b))) for e in note.guarded),
        origin_tokens=(*note.origin_tokens, *(_decoy(note, n, mac) for n in range(len(bits)))),
    )
    used = set().union(*rested_on(mixed))
    return _renumbered(mixed, sorted(used, key=lambda n: mac("order", mixed.origin_tokens[n])))


def _shared(note: CapabilityNote, mac: _Mac) -> CapabilityNote:
    if not note.shares:
        return note
    count = len(note.shares)
    bits = [1 << mac("share bit", str(n))[0] for n in range(FEWEST + mac("share count")[0] % (MOST - FEWEST + 1))]
    like = [note.shares[int.from_bytes(mac("share lot", str(n))) % count] for n in range(len(bits))]
    shares = [*note.shares, *(replace(s, token=_text(mac("share decoy", str(n)))) for n, s in enumerate(like))]
    order = sorted(range(len(shares)), key=lambda n: mac("share order", shares[n].token, str(n)))
    at = {n: place for place, n in enumerate(order)}
    marks = {p: int.from_bytes(mac("share point", p)) for p in (*(s.id for s in note.saps), *_places(note))}

    def more(drawn: Origins, mark: int) -> Origins:
        return tuple(sorted(at[n] for n in (*drawn, *(count + k for k, bit in enumerate(bits) if mark & bit))))

    def along(entry: BorderEntry) -> BorderEntry:
        mark = marks.get(entry.a, 0) & marks.get(entry.b, 0)
        return replace(entry, points=tuple(replace(p, shares=more(p.shares, mark)) for p in entry.points))

    return replace(
        note,
        saps=tuple(replace(s, shares=more(s.shares, marks[s.id])) for s in note.saps),
        capacities=tuple(replace(c, shares=more(c.shares, marks[c.place])) for c in note.capacities),
        matrix=tuple(map(along, note.matrix)),
        guarded=tuple(map(along, note.guarded)),
        shares=tuple(shares[n] for n in order),
    )


def _places(note: CapabilityNote) -> tuple[str, ...]:
    return tuple(capacity.place for capacity in note.capacities)


def _text(made: bytes) -> str:
    """As long as a share's token."""
    return base64.urlsafe_b64encode(made[:DIGEST_BYTES]).decode().rstrip("=")


def _decoy(note: CapabilityNote, number: int, mac: _Mac) -> str:
    lot = int.from_bytes(mac("lot", str(number))) % len(note.origin_tokens)
    made = mac("decoy", str(number), note.origin_tokens[lot])
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def arranged(note: CapabilityNote) -> CapabilityNote:
    """The note with its tokens in the order of what rests on them: the same for notes that differ in nothing else."""
    tokens = range(len(note.origin_tokens))
    rests: list[list[int]] = [[] for _ in tokens]
    for number, origins in enumerate(rested_on(note)):
        for n in origins or tokens:
            rests[n].append(number)
    return _renumbered(note, sorted(tokens, key=rests.__getitem__))


def _renumbered(note: CapabilityNote, order: list[int]) -> CapabilityNote:
    """With these of its tokens, in this order."""
    at = {n: place for place, n in enumerate(order)}

    def again(origins: Origins) -> Origins:
        return () if len(origins) == len(order) else tuple(sorted(at[n] for n in origins))

    return replace(
        note,
        functions=tuple(replace(f, origins=again(f.origins)) for f in note.functions),
        saps=tuple(replace(s, origins=again(s.origins)) for s in note.saps),
        matrix=tuple(replace(e, origins=again(e.origins)) for e in note.matrix),
        guarded=tuple(replace(e, origins=again(e.origins)) for e in note.guarded),
        origin_tokens=tuple(note.origin_tokens[n] for n in order),
    )
