"""Our own notes, one per audience: derived, signed and streamed.

Rules kept here
- A note is made anew only for an audience that asked for it, at most once per tick, and only when what it is made from
  changed so much that it may be due; it is issued when it is, as `capability_registry.hysteresis` says.
- It is made where that holds up nobody (`Deriving`); here it is a text. Where nobody knows what was said before, it is said
  again.
- Same content, same edition; the edition is recorded before the note is given out, so it grows over restarts.
- Whoever connects gets no older edition than it had of another process that shares the store.
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
from functools import cached_property
from typing import Protocol

import structlog

from broker.bootstrap.deriving import Deriving
from broker.decompose.deriving import Made, Wish
from broker.decompose.moved import moved
from broker.decompose.plan import Snapshot
from broker.orders.catalogue import Catalogue
from broker.orders.offers import FEATURES
from broker.orders.records import Terms
from capability_registry import origin
from capability_registry.hysteresis import Change, Pace, Pacing
from capability_registry.keys import SigningKey
from capability_registry.note import NOTE, CapabilityNote, Lifecycle
from capability_registry.signing import sign
from lower_sp_clients.broadcast import Broadcast
from lower_sp_clients.supplier import OutcomeUnknown
from service_model.clock import Clock
from service_model.outcomes import Reason

log = structlog.get_logger()

VALIDITY = timedelta(hours=1)


class Editions(Protocol):
    async def latest(self, audience: str) -> int:
        """The last edition that was given out, by whatever process; 0: none."""

    async def next(self, audience: str, digest: str) -> int:
        """The edition for this content: the last one if nothing changed, else one more. Durable on return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a customer may rely on what is announced to it."""

    lifecycle: Lifecycle = Lifecycle.ACTIVE
    notice: str = ""


@dataclass(frozen=True, kw_only=True)
class Edition:
    """A note as it is given out: its text before it was signed, and after."""

    edition: int
    payload: bytes
    jws: str

    @cached_property
    def note(self) -> CapabilityNote:
        """What it says. A large one takes a while to read."""
        return NOTE.validate_json(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Issued:
    """An audience's note. `basis`: the snapshot whose note this is; `seen`: the last one that a note was derived from."""

    signed: Edition
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
        deriving: Deriving,
    ) -> None:
        """`sp_of`: the SP that an account belongs to; empty for people. `deriving`: where notes are made; its giver closes it."""
        self._deriving = deriving
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

    async def current(self, account: str) -> Edition:
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
                made = await self._make(account, terms, standing, snapshot, now)
                return await self._issue(account, made, terms, standing, snapshot, now)
            difference = moved(issued.basis, snapshot, self._pacing.share)
            if snapshot.number == issued.seen:  # what could not wait was found then
                difference = min(difference, Change.SLIGHT)
            issued = replace(issued, pace=issued.pace.seeing(difference, now))
            if issued.pace.due(difference, now, self._pacing):
                made = await self._make(account, terms, standing, snapshot, now)
                if made.change is None:  # nobody knows any more what was said
                    return await self._issue(account, made, terms, standing, snapshot, now)
                issued = replace(issued, seen=snapshot.number, pace=issued.pace.seeing(made.change, now))
                if issued.pace.due(made.change, now, self._pacing):
                    return await self._issue(account, made, terms, standing, snapshot, now)
                if made.change is Change.SAME:
                    issued = replace(issued, basis=snapshot)
            self._issued[account] = issued
            return issued.signed

    async def _make(self, account: str, terms: Terms, standing: Standing, snapshot: Snapshot, now: datetime) -> Made:
        wish = Wish(
            audience=account,
            sp_id=self._sp_of(account),
            now=now,
            validity=VALIDITY,
            margin=terms.margin,
            currency=terms.currency,
            disclosure=terms.disclosure,
            classes=terms.classes,
            max_hold_s=terms.max_hold_s,
            lifecycle=standing.lifecycle,
            notice=standing.notice,
            features=tuple(sorted(FEATURES)),
            token=origin.mint(self._secret, self._random(origin.SALT_BYTES), account),
            secret=self._secret,
            share=self._pacing.share,
        )
        return await self._deriving.make(wish, snapshot)

    async def _issue(
        self, account: str, made: Made, terms: Terms, standing: Standing, snapshot: Snapshot, now: datetime
    ) -> Edition:
        former = self._issued.get(account)
        renewed = former is not None and now >= former.renew_at
        digest = hashlib.sha256((made.digest + now.isoformat()).encode()).hexdigest() if renewed else made.digest
        edition, key = await self._editions.next(account, digest), self._key()
        payload = await self._deriving.issue(account, edition, self._secret)
        if payload is None:
            raise OutcomeUnknown("the note was lost while it was made")
        jws = await asyncio.to_thread(sign, payload, key)
        signed = Edition(edition=edition, payload=payload, jws=jws)
        self._issued[account] = _Issued(
            signed=signed,
            basis=snapshot,
            seen=snapshot.number,
            kid=key.kid,
            terms=terms,
            standing=standing,
            renew_at=now + VALIDITY / 2,
            pace=former.pace.issued(now, self._pacing) if former is not None else Pace(),
        )
        log.info("note published", audience=account, edition=edition)
        return signed

    async def notes(self, account: str) -> AsyncIterator[Edition]:
        """The current note and each new edition from now on."""
        issued = self._issued.get(account)
        if issued is not None and issued.signed.edition < await self._editions.latest(account):
            self._issued.pop(account, None)  # another process has given it a later one
        last: Edition | None = None
        async for _ in self._ticks.receive(first=0):
            signed = await self.current(account)
            if signed is not last:
                last = signed
                yield signed

    def look_again(self) -> None:
        """What is told changed by something that is in no snapshot."""
        self._told = -1

    def tick(self) -> None:
        """Tell the streams to look again, if something changed, waits to be told, or a note is to be signed anew."""
        number, now, kid = self._catalogue.snapshot.number, self._clock.now(), self._key().kid
        waiting = any(i.pace.since is not None or i.kid != kid or now >= i.renew_at for i in self._issued.values())
        if number != self._told or waiting:
            self._told = number
            self._ticks.send(number or 1)
