"""A supplier's feed of notes: its states as one table, and what is accepted into it.

A note is accepted when all of these hold, judged in this order; otherwise the reason is recorded and the last good note
stays
 1. it is signed by a trusted key and not oversized (`verify`, before anything is parsed);            as `verify` says
 2. it is well-formed JSON: one object, no member twice, no NaN, not nested too deep (`payload`);    MALFORMED
 3. it reads as a CapabilityNote (unknown members are tolerated);                                     MALFORMED
 4. its sp_id is the supplier's: whoever holds a key speaks for itself only;                          WRONG_ISSUER
 5. its audience is us: what was announced to another is not relayed to us;                           WRONG_AUDIENCE
 6. its edition is not older than any that was accepted before, also before a restart: no rollback;     OLDER_EDITION
 7. it is valid now, give or take the skew of clocks;                                             NOT_YET_VALID, EXPIRED
 8. it does not claim to hold for more than MAX_VALIDITY: who holds back what came later is found out;  LASTS_TOO_LONG
 9. something of it does not rest on our own: that is left out (`loops`), we would buy from ourselves;   LOOP

States
- CONNECTING: no note was ever accepted. LIVE: the stream is up and its last note is held.
- STALE: the stream broke; the last good note is still planned with. Stale is not zero.
- REJECTED: the last note that came was refused; the older good one is still planned with.
- LAPSED: the held note expired; nothing is planned with.
The machine does no I/O. A pair of state and event that is not in the table is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from capability_registry import payload
from capability_registry.loops import UnknownOrigin, nothing_left, without_ours
from capability_registry.note import NOTE, CapabilityNote

MAX_BYTES = 4 * 1024 * 1024
MAX_VALIDITY = timedelta(days=31)
SKEW = timedelta(seconds=60)

Key = TypeVar("Key")


class Refusal(StrEnum):
    MALFORMED = "MALFORMED"
    WRONG_ISSUER = "WRONG_ISSUER"
    WRONG_AUDIENCE = "WRONG_AUDIENCE"
    OLDER_EDITION = "OLDER_EDITION"
    NOT_YET_VALID = "NOT_YET_VALID"
    EXPIRED = "EXPIRED"
    LASTS_TOO_LONG = "LASTS_TOO_LONG"
    LOOP = "LOOP"


class NoteNotAccepted(Exception):
    """A note whose signature holds, but that is not for us to use. `reason` never changes; `message` is for the log."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance(Generic[Key]):
    """How one supplier's notes are judged. `verify(jws, keys, max_bytes)` gives the payload or raises its own error;
    `is_ours` recognises our own origin tokens."""

    sp_id: str
    audience: str
    keys: Mapping[str, Key]
    verify: Callable[[str, Mapping[str, Key], int], bytes]
    is_ours: Callable[[str], bool]
    tolerant: Callable[[bytes], CapabilityNote] = NOTE.validate_json
    """Reads a payload that is not in the words of this release (`payload.read`). Raises ValueError."""
    max_bytes: int = MAX_BYTES
    skew: timedelta = SKEW


def accept(jws: str, by: Acceptance[Key], highest: int, now: datetime) -> CapabilityNote:
    """The note in `jws`, after every rule above. `highest`: the edition accepted last, 0 where none was.

    Raises NoteNotAccepted, or what `verify` raises.
    """
    note = _read(by.verify(jws, by.keys, by.max_bytes), by.tolerant)
    if note.sp_id != by.sp_id:
        raise NoteNotAccepted(Refusal.WRONG_ISSUER, f"sp_id is {note.sp_id!r}, not {by.sp_id!r}")
    if note.audience != by.audience:
        raise NoteNotAccepted(Refusal.WRONG_AUDIENCE, f"audience is {note.audience!r}, not {by.audience!r}")
    if note.edition < highest:
        raise NoteNotAccepted(Refusal.OLDER_EDITION, f"edition {note.edition}; {highest} was accepted before")
    if note.not_before > now + by.skew:
        raise NoteNotAccepted(Refusal.NOT_YET_VALID, f"not before {note.not_before.isoformat()}")
    if note.expires <= now - by.skew or note.expires <= note.not_before:
        raise NoteNotAccepted(Refusal.EXPIRED, f"expired at {note.expires.isoformat()}")
    if note.expires > now + MAX_VALIDITY + by.skew:
        raise NoteNotAccepted(Refusal.LASTS_TOO_LONG, f"expires at {note.expires.isoformat()}")
    try:
        others = without_ours(note, by.is_ours)
    except UnknownOrigin as error:
        raise NoteNotAccepted(Refusal.MALFORMED, str(error)) from error
    if others is not note and nothing_left(others):
        raise NoteNotAccepted(Refusal.LOOP, "it contains nothing but capability of our own")
    return others


def _read(text: bytes, tolerant: Callable[[bytes], CapabilityNote]) -> CapabilityNote:
    try:
        return payload.read(text, tolerant)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise NoteNotAccepted(Refusal.MALFORMED, f"{where}: {first['msg']}") from error
    except ValueError as error:
        raise NoteNotAccepted(Refusal.MALFORMED, str(error)) from error


class FeedState(StrEnum):
    CONNECTING = "CONNECTING"
    LIVE = "LIVE"
    STALE = "STALE"
    REJECTED = "REJECTED"
    LAPSED = "LAPSED"


class FeedEvent(StrEnum):
    CONNECTED = "CONNECTED"
    ACCEPTED = "ACCEPTED"
    REFUSED = "REFUSED"
    BROKEN = "BROKEN"
    EXPIRED = "EXPIRED"


class IllegalFeedEvent(Exception):
    """An event that cannot happen in this state; the message names both."""


_S, _E = FeedState, FeedEvent
TABLE: Mapping[tuple[FeedState, FeedEvent], FeedState] = {
    (_S.CONNECTING, _E.CONNECTED): _S.CONNECTING,
    (_S.CONNECTING, _E.ACCEPTED): _S.LIVE,
    (_S.CONNECTING, _E.REFUSED): _S.CONNECTING,
    (_S.CONNECTING, _E.BROKEN): _S.CONNECTING,
    (_S.LIVE, _E.CONNECTED): _S.LIVE,
    (_S.LIVE, _E.ACCEPTED): _S.LIVE,
    (_S.LIVE, _E.REFUSED): _S.REJECTED,
    (_S.LIVE, _E.BROKEN): _S.STALE,
    (_S.LIVE, _E.EXPIRED): _S.LAPSED,
    (_S.STALE, _E.CONNECTED): _S.STALE,
    (_S.STALE, _E.ACCEPTED): _S.LIVE,
    (_S.STALE, _E.REFUSED): _S.REJECTED,
    (_S.STALE, _E.BROKEN): _S.STALE,
    (_S.STALE, _E.EXPIRED): _S.LAPSED,
    (_S.REJECTED, _E.CONNECTED): _S.REJECTED,
    (_S.REJECTED, _E.ACCEPTED): _S.LIVE,
    (_S.REJECTED, _E.REFUSED): _S.REJECTED,
    (_S.REJECTED, _E.BROKEN): _S.STALE,
    (_S.REJECTED, _E.EXPIRED): _S.LAPSED,
    (_S.LAPSED, _E.CONNECTED): _S.LAPSED,
    (_S.LAPSED, _E.ACCEPTED): _S.LIVE,
    (_S.LAPSED, _E.REFUSED): _S.LAPSED,
    (_S.LAPSED, _E.BROKEN): _S.LAPSED,
}


def mermaid() -> str:
    """The table as a state diagram (Mermaid), for docs/architecture.md; what changes nothing is left out."""
    lines = ["stateDiagram-v2", "    [*] --> CONNECTING"]
    lines += [f"    {a} --> {b}: {event.lower()}" for (a, event), b in TABLE.items() if a is not b]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One supplier's feed as a value. `held` is the last good note, with the text that it came in; `highest` the edition
    accepted last, also before a restart; `refusal` why the last refused note was, until the next is accepted; `since` when
    the state was entered."""

    sp_id: str
    state: FeedState
    since: datetime
    held: CapabilityNote | None = None
    highest: int = 0
    jws: str = ""
    refusal: str = ""
    taken: datetime | None = None
    """When `held` was accepted."""

    @classmethod
    def begin(cls, sp_id: str, now: datetime, highest: int = 0) -> Feed:
        return cls(sp_id=sp_id, state=FeedState.CONNECTING, since=now, highest=highest)

    def connected(self, now: datetime) -> Feed:
        return self._after(FeedEvent.CONNECTED, now)

    def accepted(self, note: CapabilityNote, jws: str, now: datetime) -> Feed:
        return self._after(FeedEvent.ACCEPTED, now, held=note, highest=note.edition, jws=jws, refusal="", taken=now)

    def refused(self, why: str, now: datetime) -> Feed:
        """`why` is the text of the error that `accept` or `verify` raised."""
        return self._after(FeedEvent.REFUSED, now, refusal=why)

    def broken(self, now: datetime) -> Feed:
        return self._after(FeedEvent.BROKEN, now)

    def at(self, now: datetime) -> Feed:
        """The feed as it is at `now`: lapsed, if the held note expired meanwhile."""
        if self.held is None or self.state is FeedState.LAPSED or now < self.held.expires:
            return self
        return self._after(FeedEvent.EXPIRED, now)

    def note(self, now: datetime) -> CapabilityNote | None:
        """What may be planned with at `now`: the held note while it has not expired, None otherwise."""
        feed = self.at(now)
        return None if feed.state is FeedState.LAPSED else feed.held

    def _after(self, event: FeedEvent, now: datetime, **changed: Any) -> Feed:
        target = TABLE.get((self.state, event))
        if target is None:
            raise IllegalFeedEvent(f"{event} cannot happen to the feed of {self.sp_id!r} in state {self.state}")
        return replace(self, state=target, since=now if target is not self.state else self.since, **changed)
