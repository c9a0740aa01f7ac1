"""Our own notes, one per audience: derived, signed and streamed.

Rules kept here
- A note is made anew only for an audience that asked for it, at most once per tick, and only when what it is made from
  changed so much that it may be due; it is issued when it is, as `capability_registry.hysteresis` says.
- Same content, same edition; the edition is recorded before the note is given out, so it grows over restarts.
- Half-way to its expiry a note is issued again.
- Its agreement's lifecycle and notice are in a customer's note. To whom it is WITHDRAWING, nothing is offered any more.
- Places are shown as the agreement allows; whose capability it is, is hidden among decoys when the note is signed.
- A customer that sells to us too is not told what we have from it: what it would find in our note is its own.
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
from broker.decompose.lexicon import lexicon
from broker.decompose.moved import moved
from broker.decompose.plan import Snapshot
from broker.orders.catalogue import Catalogue
from broker.orders.offers import FEATURES
from broker.orders.records import Terms
from capability_registry import origin, payload
from capability_registry.abstraction import abstracted
from capability_registry.decoys import arranged, with_decoys
from capability_registry.feed import SKEW
from capability_registry.hysteresis import Change, Pace, Pacing, change
from capability_registry.keys import SigningKey
from capability_registry.note import NOTE, CapabilityNote, Lifecycle
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a customer may rely on what is announced to it."""

    lifecycle: Lifecycle = Lifecycle.ACTIVE
    notice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Issued:
    """An audience's note: `plain` before it was disguised and signed; `basis`: the snapshot whose note this is; `seen`: the
    last one that a note was derived from."""

    plain: CapabilityNote
    signed: SignedNote
    basis: Snapshot
    seen: int
    kid: str
    terms: Terms
    standing: Standing
    renew_at: datetime
    pace: Pace


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
        pacing: Pacing,
        standing: Callable[[str], Standing],
        sp_of: Callable[[str], str],
    ) -> None:
        """`sp_of`: the SP that an account belongs to; empty for people."""
        self._sp_id = sp_id
        self._catalogue = catalogue
        self._editions = editions
        self._key = key
        self._secret = origin_secret
        self._terms = terms
        self._clock = clock
        self._random = random
        self._pacing = pacing
        self._standing = standing
        self._sp_of = sp_of
        self._issued: dict[str, _Issued] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._ticks: Broadcast[int] = Broadcast()
        self._told = -1

    async def current(self, account: str) -> SignedNote:
        """The note for this account as of now. Raises OutcomeUnknown where the account has no terms."""
        async with self._locks.setdefault(account, asyncio.Lock()):
            terms, standing = self._terms(account), self._standing(account)
            now, snapshot = self._clock.now(), self._catalogue.snapshot
            if isinstance(terms, Reason):
                if standing.lifecycle is not Lifecycle.WITHDRAWING:
                    raise OutcomeUnknown(terms.message)
                terms, snapshot = Terms(), replace(snapshot, suppliers=())
            issued = self._issued.get(account)
            if (
                issued is None
                or (issued.terms, issued.standing, issued.kid) != (terms, standing, self._key().kid)
                or now >= issued.renew_at
            ):
                note = await self._derive(account, terms, standing, snapshot, now)
                return await self._issue(account, note, terms, standing, snapshot)
            difference = moved(issued.basis, snapshot, self._pacing.share)
            if snapshot.number == issued.seen:  # what could not wait was found then
                difference = min(difference, Change.SLIGHT)
            issued = replace(issued, pace=issued.pace.seeing(difference, now))
            if issued.pace.due(difference, now, self._pacing):
                note = await self._derive(account, terms, standing, snapshot, now)
                difference = change(issued.plain, note, self._pacing.share)
                issued = replace(issued, seen=snapshot.number, pace=issued.pace.seeing(difference, now))
                if issued.pace.due(difference, now, self._pacing):
                    return await self._issue(account, note, terms, standing, snapshot)
                if difference is Change.SAME:
                    issued = replace(issued, basis=snapshot)
            self._issued[account] = issued
            return issued.signed

    async def _derive(
        self, account: str, terms: Terms, standing: Standing, snapshot: Snapshot, now: datetime
    ) -> CapabilityNote:
        customer = self._sp_of(account)
        others = tuple(view for view in snapshot.suppliers if view.sp_id != customer)
        note = await asyncio.to_thread(
            derive,
            snapshot if len(others) == len(snapshot.suppliers) else replace(snapshot, suppliers=others),
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
        words = lexicon(snapshot, self._secret, account, terms.disclosure).words
        return replace(
            await asyncio.to_thread(lambda: arranged(abstracted(note, terms.disclosure, words or {}))),
            not_before=now - SKEW,  # our clock may be ahead of the reader's
            lifecycle=standing.lifecycle,
            qos_classes=terms.classes,
            terms={"notice": standing.notice} if standing.notice else {},
        )

    async def _issue(
        self, account: str, note: CapabilityNote, terms: Terms, standing: Standing, snapshot: Snapshot
    ) -> SignedNote:
        now, former = note.not_before + SKEW, self._issued.get(account)
        renewed = former is not None and now >= former.renew_at
        content = _content(note) + (now.isoformat().encode() if renewed else b"")
        edition = await self._editions.next(account, hashlib.sha256(content).hexdigest())
        note, key = replace(note, edition=edition), self._key()
        told = await asyncio.to_thread(with_decoys, note, self._secret)
        signed = SignedNote(jws=sign(payload.write(told), key), note=told)
        pace = former.pace.issued(now, self._pacing) if former is not None else Pace()
        self._issued[account] = _Issued(
            plain=note,
            signed=signed,
            basis=snapshot,
            seen=snapshot.number,
            kid=key.kid,
            terms=terms,
            standing=standing,
            renew_at=now + (note.expires - now) / 2,
            pace=pace,
        )
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
        """Tell the streams to look again, if something changed, waits to be told, or a note is to be signed anew."""
        number, now, kid = self._catalogue.snapshot.number, self._clock.now(), self._key().kid
        waiting = any(i.pace.since is not None or i.kid != kid or now >= i.renew_at for i in self._issued.values())
        if number != self._told or waiting:
            self._told = number
            self._ticks.send(number or 1)


def _content(note: CapabilityNote) -> bytes:
    """What makes two notes differ: all but edition, validity and the token made fresh for each."""
    return NOTE.dump_json(
        replace(note, edition=1, not_before=note.expires, origin_tokens=()), exclude={"not_before", "expires"}
    )
