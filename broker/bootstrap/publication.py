"""Our own notes, one per audience: derived, signed and streamed.

Rules kept here
- A note is made anew only when something changed, at most once per tick, and only for an audience that asked for it.
- Same content, same edition; the edition is recorded before the note is given out, so it grows over restarts.
- Half-way to its expiry a note is issued again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from broker.decompose.derive import derive
from broker.orders.broker import FEATURES
from broker.orders.catalogue import Catalogue
from broker.orders.records import Terms
from capability_registry import origin
from capability_registry.feed import SKEW
from capability_registry.keys import SigningKey
from capability_registry.note import NOTE, CapabilityNote
from capability_registry.signing import sign
from lower_sp_clients.broadcast import Broadcast
from lower_sp_clients.supplier import OutcomeUnknown, SignedNote
from service_model.clock import Clock
from service_model.outcomes import Reason

log = structlog.get_logger()

VALIDITY = timedelta(hours=1)


class Editions(Protocol):
    async def next(self, audience: str, digest: str) -> int:
        """The edition for this content: the last one if nothing changed, else one more. Durable on return."""


@dataclass(frozen=True, slots=True)
class _Issued:
    signed: SignedNote
    snapshot: int
    terms: Terms
    renew_at: datetime


class Publication:
    def __init__(
        self,
        *,
        sp_id: str,
        catalogue: Catalogue,
        editions: Editions,
        key: Callable[[], SigningKey],
        origin_secret: bytes,
        terms: Callable[[str], Terms | Reason],
        clock: Clock,
        random: Callable[[int], bytes],
    ) -> None:
        self._sp_id = sp_id
        self._catalogue = catalogue
        self._editions = editions
        self._key = key
        self._secret = origin_secret
        self._terms = terms
        self._clock = clock
        self._random = random
        self._issued: dict[str, _Issued] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._ticks: Broadcast[int] = Broadcast()
        self._told = -1

    async def current(self, account: str) -> SignedNote:
        """The note for this account as of now. Raises OutcomeUnknown where the account has no terms."""
        async with self._locks.setdefault(account, asyncio.Lock()):
            terms = self._terms(account)
            if isinstance(terms, Reason):
                raise OutcomeUnknown(terms.message)
            now, snapshot = self._clock.now(), self._catalogue.snapshot
            issued = self._issued.get(account)
            if issued and (issued.snapshot, issued.terms) == (snapshot.number, terms) and now < issued.renew_at:
                return issued.signed
            note = await asyncio.to_thread(
                derive,
                snapshot,
                self._sp_id,
                1,
                account,
                now,
                VALIDITY,
                terms.margin,
                terms.currency,
                origin.mint(self._secret, self._random(origin.SALT_BYTES), account),
                terms.max_hold_s,
                tuple(sorted(FEATURES)),
            )
            note = replace(note, not_before=now - SKEW)  # our clock may be ahead of the reader's
            renewed = issued is not None and now >= issued.renew_at
            if issued is not None and not renewed and _content(issued.signed.note) == _content(note):
                self._issued[account] = replace(issued, snapshot=snapshot.number, terms=terms)
                return issued.signed
            content = _content(note) + (now.isoformat().encode() if renewed else b"")
            edition = await self._editions.next(account, hashlib.sha256(content).hexdigest())
            note = replace(note, edition=edition)
            signed = SignedNote(jws=sign(NOTE.dump_json(note, exclude_defaults=True), self._key()), note=note)
            renew_at = now + (note.expires - now) / 2
            self._issued[account] = _Issued(signed, snapshot.number, terms, renew_at)
            log.info("note published", audience=account, edition=edition)
            return signed

    async def notes(self, account: str) -> AsyncIterator[SignedNote]:
        """The current note and each new edition from now on."""
        last: SignedNote | None = None
        async for _ in self._ticks.receive(first=0):
            signed = await self.current(account)
            if signed is not last:
                last = signed
                yield signed

    def tick(self) -> None:
        """Tell the streams to look again, if something changed or a note is to be renewed."""
        number, now = self._catalogue.snapshot.number, self._clock.now()
        if number != self._told or any(now >= issued.renew_at for issued in self._issued.values()):
            self._told = number
            self._ticks.send(number or 1)


def _content(note: CapabilityNote) -> bytes:
    """What makes two notes differ: all but edition, validity and the token made fresh for each."""
    return NOTE.dump_json(
        replace(note, edition=1, not_before=note.expires, origin_tokens=()), exclude={"not_before", "expires"}
    )
