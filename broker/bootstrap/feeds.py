"""What suppliers announce, on its way into the catalogue.

Rules kept here
- A note of a lower SP enters only through `capability_registry.feed.accept`; a refused one is logged with its reason and
  the last good note stays.
- The edition of a note is recorded before the note is used, so that no older one is accepted after a restart either. It is
  forgotten with the last of the keys that signed it: a supplier that lost its numbers begins again with another key.
- A feed that breaks is stale, not empty. What has expired is planned with no more.
- A local domain's note is its own word and needs no signature.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from broker.orders.catalogue import Catalogue
from capability_registry.feed import Acceptance, Feed, NoteNotAccepted, accept
from capability_registry.keys import PublicKey
from capability_registry.note import CapabilityNote
from capability_registry.signing import NoteRefused
from lower_sp_clients.remote_sp import RemoteSp
from lower_sp_clients.supplier import Supplier
from service_model.clock import Clock

log = structlog.get_logger()


class AcceptedEditions(Protocol):
    """Durable: by alias the SP and the highest edition that was accepted from it."""

    async def load(self) -> Mapping[str, tuple[str, int]]: ...

    async def save(self, accepted: Mapping[str, tuple[str, int]]) -> None: ...

    async def forget(self, alias: str) -> None: ...


@dataclass(slots=True)
class _Fed:
    supplier: Supplier
    task: asyncio.Task[None]


class Feeds:
    def __init__(self, catalogue: Catalogue, clock: Clock, editions: AcceptedEditions) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._editions = editions
        self._highest: dict[str, tuple[str, int]] = {}
        self._unrecorded: dict[str, tuple[str, int]] = {}
        self._recording = asyncio.Lock()
        self._feeds: dict[str, Feed] = {}
        self._fed: dict[str, _Fed] = {}

    async def open(self) -> None:
        self._highest = dict(await self._editions.load())

    def judge(self, alias: str, by: Acceptance[PublicKey], jws: str) -> CapabilityNote:
        """Accept one note of a lower SP, or raise why it is refused. For `RemoteSp`'s `verify`."""
        now = self._clock.now()
        feed = self._feeds.get(alias) or self._begun(alias, by.sp_id)
        try:
            note = accept(jws, by, feed.highest, now)
        except (NoteNotAccepted, NoteRefused) as error:
            self._feeds[alias] = feed.refused(str(error), now)
            log.warning("note refused", supplier=alias, reason=str(error.reason), error=error.message)
            raise
        self._feeds[alias] = feed.accepted(note, jws, now)
        return note

    def _begun(self, alias: str, sp_id: str) -> Feed:
        whose, edition = self._highest.get(alias, ("", 0))
        return Feed.begin(sp_id, self._clock.now(), edition if whose == sp_id else 0)

    async def reconsider(self, alias: str, by: Acceptance[PublicKey], *, afresh: bool) -> None:
        """Other keys are trusted now: what is held stays only if it is still signed by one of them. `afresh`: none of the
        former keys is among them, so that the numbers of its editions begin again."""
        if afresh:
            await self._editions.forget(alias)
            self._highest.pop(alias, None)
        now, feed = self._clock.now(), self._feeds.get(alias)
        if feed is None or feed.held is None:
            return
        try:
            by.verify(feed.jws, by.keys, by.max_bytes)
        except NoteRefused as error:
            log.warning("the held note is trusted no more", supplier=alias, reason=str(error.reason))
            highest = 0 if afresh else feed.highest
            self._feeds[alias] = Feed.begin(by.sp_id, now, highest).refused(str(error), now)
            self._catalogue.put(alias, None)

    def follow(self, suppliers: Mapping[str, Supplier]) -> None:
        """These are the suppliers from now on, by alias."""
        for alias in [a for a, fed in self._fed.items() if suppliers.get(a) is not fed.supplier]:
            self._fed.pop(alias).task.cancel()
            self._feeds.pop(alias, None)
        for alias, supplier in suppliers.items():
            if alias not in self._fed:
                task = asyncio.create_task(self._take(alias, supplier), name=f"notes-{alias}")
                self._fed[alias] = _Fed(supplier, task)

    async def _take(self, alias: str, supplier: Supplier) -> None:
        async for signed in supplier.notes():
            try:
                await self._record(alias)
            except Exception:  # the next note tries again; until then the last one stands
                log.exception("note not used: its edition cannot be recorded", supplier=alias)
                continue
            self._catalogue.put(alias, signed.note)

    async def _record(self, alias: str) -> None:
        """The edition of the supplier's last note; whoever comes to it first records for all who wait."""
        feed = self._feeds.get(alias)
        if feed is None or self._highest.get(alias) == (feed.sp_id, feed.highest):
            return
        mark = self._unrecorded[alias] = (feed.sp_id, feed.highest)
        async with self._recording:
            if self._unrecorded.get(alias) == mark:
                batch = self._unrecorded.copy()
                await self._editions.save(batch)
                self._highest |= batch
                self._unrecorded = {a: m for a, m in self._unrecorded.items() if batch.get(a) != m}

    def tick(self) -> None:
        """Feeds that broke become stale; notes that expired are taken out."""
        now = self._clock.now()
        for alias, feed in list(self._feeds.items()):
            fed = self._fed.get(alias)
            if fed is None:
                continue
            broken = isinstance(fed.supplier, RemoteSp) and fed.supplier.feed_broken_since is not None
            later = (feed.broken(now) if broken else feed).at(now)
            if later.state is not feed.state:
                log.info("feed", supplier=alias, state=str(later.state))
                if later.note(now) is None:
                    self._catalogue.put(alias, None)
            self._feeds[alias] = later

    def states(self) -> dict[str, Feed]:
        """Every lower SP's feed as it is now."""
        return dict(self._feeds)

    async def close(self) -> None:
        for fed in self._fed.values():
            fed.task.cancel()
        for fed in self._fed.values():
            with suppress(asyncio.CancelledError):
                await fed.task
