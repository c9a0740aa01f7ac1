"""Attacks on the feed of notes, each against the code that a node accepts notes with.

The attacker is the supplier itself, another supplier, or whoever sits between; the victim is what a node is wired from:
`Feeds` over `Acceptance`, the catalogue, and the publication of the victim's own note.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from address_planner.labels import LabelSet
from broker.bootstrap.deriving import Deriving
from broker.bootstrap.feeds import Feeds
from broker.bootstrap.publication import Publication, Standing
from broker.northbound.auth import thumbprint
from broker.orders.catalogue import Catalogue, Listing
from broker.orders.records import Terms
from broker.storage.engine import Engine
from broker.storage.migrations import migrate
from broker.storage.supplier_books import SqlAcceptedEditions
from capability_registry import origin, payload, signing
from capability_registry.feed import MAX_VALIDITY, SKEW, Acceptance, FeedState, NoteNotAccepted, Refusal
from capability_registry.hysteresis import Pacing
from capability_registry.keys import PublicKey, SigningKey, base64url
from capability_registry.note import CapabilityNote
from capability_registry.signing import NoteRefused, Reason
from lower_sp_clients import wire
from lower_sp_clients.remote_sp import RemoteSp
from lower_sp_clients.supplier import SignedNote
from tests.support.api_node import ApiNode
from tests.support.clock import SimulatedClock
from tests.support.editions import EditionsInMemory
from tests.support.planning import NOW, entry, point, sap, view

OURS = b"s" * 32
METRO, OTHER = SigningKey.generate(lambda n: b"m" * n), SigningKey.generate(lambda n: b"o" * n)
SMALL_MAX = 100_000
NOTE = replace(
    view("metro", [sap("uni", "BER"), sap("out", "MUC")], [entry("uni", "out", point(1, 1))]).note,
    sp_id="metro", edition=7, audience="us", not_before=NOW - timedelta(minutes=1), expires=NOW + timedelta(hours=1),
)  # fmt: skip


def sealed(note: CapabilityNote = NOTE, key: SigningKey = METRO, **changed: Any) -> str:
    return signing.sign(payload.write(replace(note, **changed)), key)


def raw(text: str, key: SigningKey = METRO) -> str:
    """Any payload, properly signed."""
    return signing.sign(text.encode(), key)


def with_header(jws: str, signature: str | None = None, **header: Any) -> str:
    """The same payload under another header; signed anew where no signature is given."""
    body = jws.split(".")[1]
    head = base64url(json.dumps(header).encode())
    sealed_by = base64url(METRO.sign(f"{head}.{body}".encode())) if signature is None else signature
    return f"{head}.{body}.{sealed_by}"


def acceptance(sp_id: str = "metro", *keys: SigningKey) -> Acceptance[PublicKey]:
    """As a node makes it from a supplier's document."""
    return Acceptance(
        sp_id=sp_id,
        audience="us",
        keys={key.kid: key.public for key in keys or (METRO,)},
        verify=signing.verify,
        is_ours=partial(origin.is_ours, OURS),
        tolerant=wire.parse_note,
        max_bytes=SMALL_MAX,
    )


@dataclass
class Numbers:
    last: int = 0

    async def latest(self, audience: str) -> int:
        return self.last

    async def next(self, audience: str, digest: str) -> int:
        self.last += 1
        return self.last


@dataclass
class Victim:
    """Buys from `metro`, and has taken its edition 7."""

    clock: SimulatedClock = field(default_factory=lambda: SimulatedClock(NOW))
    by: Acceptance[PublicKey] = field(default_factory=acceptance)

    def __post_init__(self) -> None:
        self.catalogue = Catalogue("us")
        self.catalogue.list((Listing(alias="metro", sp_id="metro", local=False),))
        self.feeds = Feeds(self.catalogue, self.clock, EditionsInMemory())
        self.take(sealed())

    def take(self, jws: str) -> CapabilityNote:
        note = self.feeds.judge("metro", self.by, jws)
        self.catalogue.put("metro", note)
        return note

    def refuses(self, jws: str) -> Refusal | Reason:
        """Why the text is refused; what was held before is held still, and the feed says why."""
        before = self.feeds.states()["metro"]
        with pytest.raises((NoteNotAccepted, NoteRefused)) as caught:
            self.take(jws)
        after = self.feeds.states()["metro"]
        assert (after.held, after.jws) == (before.held, before.jws)
        assert after.refusal == str(caught.value)
        assert after.state is FeedState.REJECTED
        assert isinstance(caught.value, NoteNotAccepted | NoteRefused)
        return caught.value.reason


@pytest.fixture
def victim() -> Victim:
    return Victim()


def test_rollback_to_an_older_edition(victim: Victim) -> None:
    victim.take(sealed(edition=9))
    assert victim.refuses(sealed(edition=8)) is Refusal.OLDER_EDITION


class Announcing:
    """A supplier's stream of texts, each judged as it comes; a refused one is passed over."""

    def __init__(self, feeds: Feeds, by: Acceptance[PublicKey]) -> None:
        self.feeds, self.by = feeds, by
        self.texts: asyncio.Queue[str] = asyncio.Queue()

    async def notes(self) -> AsyncIterator[SignedNote]:
        while True:
            jws = await self.texts.get()
            with suppress(NoteNotAccepted):
                yield SignedNote(jws=jws, note=self.feeds.judge("metro", self.by, jws))
            self.texts.task_done()


@asynccontextmanager
async def started(store: Path, *texts: str, by: Acceptance[PublicKey] | None = None) -> AsyncIterator[Feeds]:
    """A node's feeds over its store, when all the texts were taken or refused."""
    async with Engine.open(store, migrate=migrate) as engine:
        catalogue = Catalogue("us")
        catalogue.list((Listing(alias="metro", sp_id="metro", local=False),))
        feeds = Feeds(catalogue, SimulatedClock(NOW), SqlAcceptedEditions(engine))
        await feeds.open()
        supplier: Any = Announcing(feeds, by or acceptance())
        feeds.follow({"metro": supplier})
        for text in texts:
            supplier.texts.put_nowait(text)
            await supplier.texts.join()
        yield feeds
        await feeds.close()


async def test_rollback_over_a_restart(tmp_path: Path) -> None:
    async with started(tmp_path / "b.db", sealed(edition=9)) as feeds:
        assert feeds.states()["metro"].state is FeedState.LIVE
    async with started(tmp_path / "b.db", sealed(edition=8)) as feeds:
        feed = feeds.states()["metro"]
        assert (feed.state, feed.held) == (FeedState.CONNECTING, None)
        assert feed.refusal.startswith("OLDER_EDITION")
        await feeds.reconsider("metro", acceptance("metro", OTHER), afresh=True)  # it lost its numbers, and makes a key
    async with started(tmp_path / "b.db", sealed(key=OTHER, edition=1), by=acceptance("metro", OTHER)) as feeds:
        assert feeds.states()["metro"].state is FeedState.LIVE


def test_freeze_ends_when_the_note_that_is_shown_for_ever_expires(victim: Victim) -> None:
    victim.clock.advance(3599)
    assert victim.take(sealed()).edition == 7
    victim.clock.advance(1)
    assert victim.feeds.states()["metro"].note(victim.clock.now()) is None
    victim.clock.advance(SKEW.total_seconds())
    with pytest.raises(NoteNotAccepted, match="EXPIRED"):
        victim.take(sealed())


def test_freeze_with_a_note_that_hardly_ever_expires(victim: Victim) -> None:
    lasting = NOW + MAX_VALIDITY + SKEW
    assert victim.refuses(sealed(expires=lasting + timedelta(seconds=1))) is Refusal.LASTS_TOO_LONG
    assert victim.take(sealed(expires=lasting)).expires == lasting


def test_expired(victim: Victim) -> None:
    assert victim.refuses(sealed(expires=NOW - SKEW)) is Refusal.EXPIRED
    assert victim.refuses(sealed(not_before=NOW, expires=NOW)) is Refusal.EXPIRED


def test_wrong_audience(victim: Victim) -> None:
    assert victim.refuses(sealed(audience="a-better-customer")) is Refusal.WRONG_AUDIENCE


def test_wrong_key(victim: Victim) -> None:
    assert victim.refuses(sealed(key=OTHER)) is Reason.UNKNOWN_KEY


def test_wrong_key_under_the_kid_of_the_right_one(victim: Victim) -> None:
    forged = sealed(key=OTHER)
    signature = forged.rpartition(".")[2]
    header = {"alg": "EdDSA", "kid": METRO.kid, "typ": signing.TYPE}
    assert victim.refuses(with_header(forged, signature, **header)) is Reason.BAD_SIGNATURE


def test_a_key_that_the_note_brings_along(victim: Victim) -> None:
    brought = with_header(sealed(), alg="EdDSA", kid=OTHER.kid, typ=signing.TYPE, jwk=OTHER.public.to_jwk())
    assert victim.refuses(brought) is Reason.FORBIDDEN_HEADER


@pytest.mark.parametrize("alg", ["none", "None", "NONE", ""])
def test_alg_none(victim: Victim, alg: str) -> None:
    header = {"alg": alg, "kid": METRO.kid, "typ": signing.TYPE}
    assert victim.refuses(with_header(sealed(), "", **header)) is Reason.WRONG_ALGORITHM
    assert victim.refuses(with_header(sealed(), **header)) is Reason.WRONG_ALGORITHM


def test_algorithm_confusion_with_the_public_key_as_a_shared_secret(victim: Victim) -> None:
    header = {"alg": "HS256", "kid": METRO.kid, "typ": signing.TYPE}
    unsigned = with_header(sealed(), "", **header).rpartition(".")[0]
    mac = hmac.digest(METRO.public.raw, unsigned.encode(), "sha256")
    assert victim.refuses(f"{unsigned}.{base64url(mac)}") is Reason.WRONG_ALGORITHM


def test_a_token_signed_by_the_same_key_is_no_note(victim: Victim) -> None:
    header = {"alg": "EdDSA", "kid": METRO.kid, "typ": "at+jwt"}
    assert victim.refuses(with_header(sealed(), **header)) is Reason.WRONG_TYPE


def test_key_of_another_sp(victim: Victim) -> None:
    """The other is a supplier too, and trusted for itself: its key does not speak for metro, nor may it say it is metro."""
    assert victim.refuses(sealed(key=OTHER)) is Reason.UNKNOWN_KEY
    victim.by = acceptance("other", OTHER)
    assert victim.refuses(sealed(key=OTHER)) is Refusal.WRONG_ISSUER


def test_replay_by_another_sp(victim: Victim) -> None:
    """What metro said to us comes over the other's feed, so that the other is taken for metro's reach and prices."""
    victim.by = acceptance("other", OTHER)
    assert victim.refuses(sealed()) is Reason.UNKNOWN_KEY
    victim.by = acceptance("other", METRO, OTHER)  # even if one authority signed for both
    assert victim.refuses(sealed()) is Refusal.WRONG_ISSUER


def test_tampered_payload(victim: Victim) -> None:
    header, body, signature = sealed().split(".")
    for place in (0, len(body) // 2, len(body) - 1):
        other = "A" if body[place] != "A" else "Q"
        assert victim.refuses(f"{header}.{body[:place]}{other}{body[place + 1 :]}.{signature}") is Reason.BAD_SIGNATURE
    dearer = sealed(edition=99).split(".")[1]
    assert victim.refuses(f"{header}.{dearer}.{signature}") is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("twice", ['"sp_id": "other"', '"edition": 1', '"saps": []', '"s\\u0070_id": "other"'])
def test_duplicate_json_keys(victim: Victim, twice: str) -> None:
    text = payload.write(NOTE).decode()
    assert victim.refuses(raw(f"{text[:-1]}, {twice}}}")) is Refusal.MALFORMED
    assert victim.refuses(raw(f"{{{twice}, {text[1:]}")) is Refusal.MALFORMED


def test_duplicate_json_keys_deep_inside(victim: Victim) -> None:
    text = payload.write(NOTE).decode()
    inside = text.replace('"role":"SAP_ROLE_UNI"', '"role":"SAP_ROLE_UNI","role":"SAP_ROLE_NNI"', 1)
    assert inside != text
    assert victim.refuses(raw(inside)) is Refusal.MALFORMED


def test_huge_note_is_refused_before_its_signature_is_looked_at(victim: Victim) -> None:
    assert victim.refuses("x" * (SMALL_MAX + 1)) is Reason.OVERSIZED
    assert victim.refuses(sealed(terms={"small-print": "x" * SMALL_MAX})) is Reason.OVERSIZED


@pytest.mark.parametrize("bomb", ["[" * 40_000, "[" * 30_000 + "]" * 30_000, '{"a":' * 9_000 + "1" + "}" * 9_000])
def test_zip_bomb_of_brackets(victim: Victim, bomb: str) -> None:
    assert victim.refuses(raw(bomb)) is Refusal.MALFORMED
    text = payload.write(NOTE).decode()
    assert victim.refuses(raw(f'{text[:-1]}, "x": {bomb}}}')) is Refusal.MALFORMED


def test_brackets_that_a_text_pretends_to_close(victim: Victim) -> None:
    text = payload.write(NOTE).decode()
    deep = '["\\"]", ' * 100 + "1" + "]" * 100
    assert victim.refuses(raw(f'{text[:-1]}, "x": {deep}}}')) is Refusal.MALFORMED


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(victim: Victim, number: str) -> None:
    text = payload.write(NOTE).decode()
    assert victim.refuses(raw(text.replace('"edition":7', f'"edition":{number}'))) is Refusal.MALFORMED


@pytest.mark.parametrize("unwritten", ["\ud800".encode("utf-8", "surrogatepass"), b"\xff", b"\xef\xbb\xbf{}", b""])
def test_bytes_that_are_no_text(victim: Victim, unwritten: bytes) -> None:
    assert victim.refuses(signing.sign(unwritten, METRO)) is Refusal.MALFORMED


def test_clock_skew_is_forgiven_for_a_minute_and_no_longer(victim: Victim) -> None:
    ahead = sealed(not_before=NOW + SKEW, edition=8)
    assert victim.take(ahead).edition == 8
    assert victim.refuses(sealed(not_before=NOW + SKEW + timedelta(seconds=1), edition=9)) is Refusal.NOT_YET_VALID
    assert victim.take(sealed(expires=NOW - SKEW + timedelta(seconds=1), edition=9)).edition == 9
    assert victim.feeds.states()["metro"].note(NOW) is None  # taken, and not planned with


async def test_flapping_reaches_nobody_above(victim: Victim) -> None:
    """Twice a second for a minute the supplier takes a SAP away and gives it back, and its labels come and go."""
    numbers, pacing = Numbers(), Pacing()
    publication = Publication(
        sp_id="us", catalogue=victim.catalogue, editions=numbers, key=lambda: OTHER, origin_secret=OURS,
        terms=lambda account: Terms(), clock=victim.clock, random=lambda n: b"r" * n, pacing=pacing,
        standing=lambda account: Standing(), sp_of=lambda account: "", deriving=Deriving(),
    )  # fmt: skip
    fewer = tuple(s for s in NOTE.saps if s.id == "uni")
    scarce = tuple(replace(s, labels=LabelSet.of([100])) for s in NOTE.saps)
    taken = 0
    for edition, saps in enumerate([fewer, NOTE.saps, scarce, NOTE.saps] * 60, start=8):
        now = victim.clock.now()
        victim.take(sealed(saps=saps, edition=edition, expires=now + timedelta(hours=1)))
        publication.tick()
        await publication.current("above")
        victim.clock.advance(0.25)
        taken += 1
    assert taken == 240
    rests = 60 / pacing.rest.total_seconds()
    assert 1 < numbers.last <= (rests + 1) * (pacing.gains + pacing.losses + 1)
    assert numbers.last < taken


@pytest.fixture
async def attacker() -> AsyncIterator[ApiNode]:
    node = await ApiNode().start()
    yield node
    await node.close()


async def test_over_a_real_socket_only_the_good_notes_arrive_and_the_feed_goes_on(attacker: ApiNode) -> None:
    now: datetime = attacker.clock.now()
    good = replace(NOTE, not_before=now, expires=now + timedelta(hours=1))
    text = payload.write(replace(good, edition=20)).decode()
    bad = [
        sealed(good, key=OTHER, edition=20),
        sealed(good, sp_id="other", edition=20),
        sealed(good, audience="them", edition=20),
        sealed(good, edition=6),
        with_header(sealed(good, edition=20), "", alg="none", kid=METRO.kid, typ=signing.TYPE),
        raw(text[:-1] + ', "edition": 21}'),
        raw("[" * 40_000),
        "x" * (SMALL_MAX + 1),
        sealed(good, origin_tokens=(origin.mint(OURS, b"0" * 16, "metro"),), edition=20),
    ]
    catalogue = Catalogue("us")
    feeds = Feeds(catalogue, attacker.clock, EditionsInMemory())
    heard: asyncio.Queue[str] = asyncio.Queue()

    def judge(jws: str) -> CapabilityNote:
        heard.put_nowait(jws)
        return feeds.judge("metro", acceptance(), jws)

    tls = attacker.partner_tls()
    attacker.authenticator.certificates["us"] = thumbprint(tls.certificate)
    remote = RemoteSp(
        attacker.partner_endpoint, "us", tls=lambda: tls, verify=judge, clock=attacker.clock, random=lambda: 1.0
    )
    stream = remote.notes()
    try:
        supplier = attacker.suppliers["us"]
        await supplier.publish(SignedNote(jws=sealed(good), note=good))
        assert (await anext(stream)).note.edition == 7
        following = asyncio.ensure_future(anext(stream))
        assert await heard.get() == sealed(good)
        for number, jws in enumerate((*bad, sealed(good, edition=30))):
            await supplier.publish(SignedNote(jws=jws, note=replace(good, edition=8 + number)))
            async with asyncio.timeout(60):
                assert await heard.get() == jws
        assert (await following).note.edition == 30
    finally:
        await stream.aclose()  # type: ignore[attr-defined]
        await remote.close()
    assert feeds.states()["metro"].state is FeedState.LIVE
