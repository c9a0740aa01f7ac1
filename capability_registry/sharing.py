"""Pools of resources that several may sell: the shares of a note, so that who buys of two sellers does not buy one thing twice.

Rules kept here
- A note of an own domain is cut into pools: each SAP, each place with its hosts and the ways that end there, and what is
  inside (limits that no single SAP or place is under).
- A SAP is used through one seller: two would have to be given labels of it, and each may have few left to choose from.
- Of the others it is told what may be drawn through several sellers without anything that is announced running short,
  whichever ways and hosts are chosen for each: a flow over all ways must fit on the narrowest, all functions on the largest host.
  Then nobody's choice is in anybody's way, and it does not matter who asks first. It is told of what is free at any time.
- A token is a MAC with the owner's secret over what the pool is: the same for all who buy, for as long as the secret is.
  It is relayed as it is: changed on the way it could not be compared.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain

from capability_registry.note import BorderEntry, CapabilityNote, SapOffer, Share, SharedLimit, Shares

DIGEST_BYTES = 16
_INSIDE = "inside"


def minted(secret: bytes, alias: str, pool: str) -> str:
    """The token of a pool of the domain that we call `alias`."""
    text = "\0".join(("spbroker share", alias, pool))
    digest = hmac.digest(secret, text.encode(), hashlib.sha256)[:DIGEST_BYTES]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def marked(note: CapabilityNote, token: Callable[[str], str]) -> CapabilityNote:
    """The note of an own domain with the shares of its pools. `token`: of a pool by its name."""
    saps = {sap.id: n for n, sap in enumerate(note.saps)}
    places = {capacity.place: len(saps) + n for n, capacity in enumerate(note.capacities)}
    limits = [*note.shared, *(limit for period in note.periods for limit in period.shared)]
    inside = [limit for limit in limits if not _common(limit) & (saps.keys() | places.keys())]
    under = {entry for limit in inside for entry in _entries(limit)}
    shares = [
        *(Share(token=token(f"sap {sap.id}")) for sap in note.saps),
        *(
            Share(token=token(f"place {c.place}"), bandwidth_bps=_narrowest(note, c.place), units=largest)
            for c in note.capacities
            for largest in [max((b.size for b in c.bins if b.count), default=0)]
        ),
        *([Share(token=token(_INSIDE), bandwidth_bps=min(map(_most, inside)))] if inside else ()),
    ]

    def along(entry: BorderEntry) -> BorderEntry:
        drawn: Shares = (len(shares) - 1,) if (entry.a, entry.b) in under else ()
        return replace(entry, points=tuple(replace(p, shares=drawn) for p in entry.points)) if drawn else entry

    return replace(
        note,
        saps=tuple(replace(sap, shares=(saps[sap.id],)) for sap in note.saps),
        capacities=tuple(replace(c, shares=(places[c.place],)) for c in note.capacities),
        matrix=tuple(map(along, note.matrix)),
        guarded=tuple(map(along, note.guarded)),
        shares=tuple(shares),
    )


def untold(note: CapabilityNote) -> CapabilityNote:
    """The note without shares."""
    if not note.shares:
        return note

    def along(entry: BorderEntry) -> BorderEntry:
        return replace(entry, points=tuple(replace(p, shares=()) for p in entry.points))

    return replace(
        note,
        saps=tuple(replace(sap, shares=(), beyond="") for sap in note.saps),
        capacities=tuple(replace(c, shares=()) for c in note.capacities),
        matrix=tuple(map(along, note.matrix)),
        guarded=tuple(map(along, note.guarded)),
        shares=(),
    )


def token_of(note: CapabilityNote, sap: SapOffer) -> str:
    """By which a SAP of the note is known, whoever sells it; empty where that is not told."""
    return note.shares[sap.shares[0]].token if sap.shares else ""


def drawn_on(note: CapabilityNote) -> Iterator[Shares]:
    """The shares of each part of the note: its SAPs, places and ways, in this order."""
    yield from (sap.shares for sap in note.saps)
    yield from (capacity.shares for capacity in note.capacities)
    yield from (p.shares for entry in chain(note.matrix, note.guarded) for p in entry.points)


def _entries(limit: SharedLimit) -> Iterator[tuple[str, str]]:
    for key in limit.coefficients:
        a, _, b = key.partition("#")[0].partition("|")
        yield a, b


def _common(limit: SharedLimit) -> frozenset[str]:
    """The points at which all ways of the limit begin or end."""
    pairs = [frozenset(pair) for pair in _entries(limit)]
    return frozenset.intersection(*pairs) if pairs else frozenset()


def _most(limit: SharedLimit) -> int:
    """What may be drawn on it, whichever of its ways are taken."""
    return 0 if limit.labels else int(limit.limit_bps / max(1.0, *limit.coefficients.values()))


def _narrowest(note: CapabilityNote, place: str) -> int:
    """Of what is announced at the place, ways and limits on them, what carries least."""

    def figures() -> Iterable[int]:
        for entry in chain(note.matrix, note.guarded):
            if place in (entry.a, entry.b):
                yield from (p.bandwidth_bps for p in entry.points)
        yield from (_most(limit) for limit in note.shared if place in _common(limit))

    return min(figures(), default=0)
