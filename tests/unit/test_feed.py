"""What is accepted into a supplier's feed, named after the attack, and the feed's states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import product

import pytest

from broker.decompose.derive import derive
from capability_registry import payload
from capability_registry.feed import (
    SKEW,
    TABLE,
    Acceptance,
    Feed,
    FeedEvent,
    FeedState,
    IllegalFeedEvent,
    NoteNotAccepted,
    Refusal,
    accept,
)
from capability_registry.note import NOTE, CapabilityNote
from capability_registry.origin import WeakSecret, is_ours, mint
from capability_registry.payload import MAX_DEPTH
from tests.support.planning import NOW, random_snapshot, sap

SECRET, OTHER = b"s" * 32, b"t" * 32
TOKEN = mint(SECRET, b"0" * 16, "bank")
NOTE_1 = CapabilityNote(
    sp_id="metro", edition=7, audience="us", not_before=NOW - timedelta(hours=1), expires=NOW + timedelta(hours=1)
)


def verified(jws: str, keys: Mapping[str, str], max_bytes: int) -> bytes:
    """Stands for the signature check, which has tests of its own: the text is its own payload."""
    if len(jws) > max_bytes:
        raise ValueError("oversized")
    return jws.encode()


BY = Acceptance(
    sp_id="metro", audience="us", keys={"k": "key"}, verify=verified, is_ours=lambda token: is_ours(SECRET, token)
)


def text(note: CapabilityNote = NOTE_1) -> str:
    return NOTE.dump_json(note).decode()


def refusal(jws: str, highest: int = 0) -> Refusal:
    with pytest.raises(NoteNotAccepted) as caught:
        accept(jws, BY, highest, NOW)
    return caught.value.reason


def test_a_good_note_is_accepted_and_unknown_members_are_tolerated() -> None:
    assert accept(text(), BY, 0, NOW) == NOTE_1
    assert accept('{"newer": {"a": [1]}, ' + text()[1:], BY, NOTE_1.edition, NOW) == NOTE_1


def test_the_signature_is_judged_first() -> None:
    with pytest.raises(ValueError, match="oversized"):
        accept("[" * 100, replace(BY, max_bytes=50), 0, NOW)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"sp_id": "other"}, Refusal.WRONG_ISSUER),
        ({"audience": "them"}, Refusal.WRONG_AUDIENCE),
        ({"not_before": NOW + SKEW + timedelta(seconds=1)}, Refusal.NOT_YET_VALID),
        ({"expires": NOW - SKEW}, Refusal.EXPIRED),
        ({"origin_tokens": ("unknown", TOKEN)}, Refusal.LOOP),
    ],
)
def test_a_note_that_is_not_for_us_is_refused(change: dict[str, object], why: Refusal) -> None:
    assert refusal(text(replace(NOTE_1, **change))) is why  # type: ignore[arg-type]


def test_rollback_to_an_older_edition_is_refused_and_the_same_is_not() -> None:
    assert refusal(text(), highest=8) is Refusal.OLDER_EDITION
    same = replace(NOTE_1, edition=8)
    assert accept(text(same), BY, 8, NOW) == same


@pytest.mark.parametrize(
    "broken",
    [
        "", "[]", "{", '{"sp_id": "metro"}', text()[:-1] + ', "sp_id": "metro"}', text()[:-1] + ', "x": NaN}',
        text()[:-1] + ', "x": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_plain_json_note_is_refused(broken: str) -> None:
    assert refusal(broken) is Refusal.MALFORMED


@pytest.mark.parametrize("seed", range(20))
def test_what_a_broker_writes_is_read_without_a_second_look(seed: int) -> None:
    def second_look(payload: bytes) -> CapabilityNote:
        raise ValueError("not in our own words")

    snapshot = random_snapshot(seed)
    derived = derive(
        snapshot, "metro", 3, "us", NOW, timedelta(hours=1), Decimal("1.1"), "EUR", "token", 120, ("lan",)
    )  # fmt: skip
    for note in (derived, *(view.note for view in snapshot.suppliers)):
        assert payload.read(payload.write(note), second_look) == note


def test_what_rests_on_our_own_token_is_left_out_and_the_rest_is_kept() -> None:
    theirs, ours = sap("uni", "BER", origins=(0,)), sap("own", "BER", origins=(0, 1))
    note = replace(NOTE_1, saps=(theirs, ours), origin_tokens=("metro", TOKEN))
    kept = accept(text(note), BY, 0, NOW)
    assert (kept.saps, kept.origin_tokens) == ((theirs,), ("metro",))
    assert refusal(text(replace(note, saps=(ours,)))) is Refusal.LOOP
    assert refusal(text(replace(note, saps=(replace(theirs, origins=()),)))) is Refusal.LOOP
    assert refusal(text(replace(note, saps=(replace(theirs, origins=(2,)),)))) is Refusal.MALFORMED


def test_brackets_inside_a_text_are_no_nesting() -> None:
    long = r'{"x": "\"' + "[" * 100 + '", ' + text()[1:]
    assert accept(long, BY, 0, NOW) == NOTE_1


def test_a_broken_feed_keeps_the_last_good_note_until_it_expires() -> None:
    feed = Feed.begin("metro", NOW).connected(NOW).accepted(NOTE_1, text(), NOW)
    assert (feed.state, feed.note(NOW)) == (FeedState.LIVE, NOTE_1)
    stale = feed.broken(NOW + timedelta(minutes=1))
    assert (stale.state, stale.note(NOW + timedelta(minutes=59))) == (FeedState.STALE, NOTE_1)
    lapsed = stale.at(NOTE_1.expires)
    assert (lapsed.state, lapsed.note(NOTE_1.expires)) == (FeedState.LAPSED, None)
    assert stale.note(NOTE_1.expires) is None
    newer = replace(NOTE_1, edition=8, expires=NOW + timedelta(hours=3))
    assert lapsed.accepted(newer, text(newer), NOTE_1.expires).note(NOTE_1.expires) == newer


def test_a_refused_note_does_not_displace_the_good_one_and_says_why() -> None:
    feed = Feed.begin("metro", NOW).accepted(NOTE_1, text(), NOW).refused("LOOP: ours", NOW)
    assert (feed.state, feed.refusal, feed.note(NOW)) == (FeedState.REJECTED, "LOOP: ours", NOTE_1)
    assert feed.accepted(NOTE_1, text(), NOW).refusal == ""


def test_every_state_answers_every_event_but_an_expiry_without_a_note() -> None:
    missing = set(product(FeedState, FeedEvent)) - TABLE.keys()
    assert missing == {(FeedState.CONNECTING, FeedEvent.EXPIRED), (FeedState.LAPSED, FeedEvent.EXPIRED)}


def test_an_illegal_event_names_state_and_event() -> None:
    with pytest.raises(IllegalFeedEvent, match=r"EXPIRED .* state CONNECTING"):
        Feed.begin("metro", NOW)._after(FeedEvent.EXPIRED, NOW)


def test_a_token_is_recognised_by_its_minter_alone_and_tells_nobody_else_anything() -> None:
    mine = [mint(SECRET, bytes([i]) * 16, "bank") for i in range(8)]
    assert all(is_ours(SECRET, token) for token in mine)
    assert not any(is_ours(OTHER, token) for token in mine)
    assert len({token[:4] for token in mine}) == len(mine)
    assert len({len(token) for token in mine}) == 1
    assert mint(SECRET, b"0" * 16, "hotel") != TOKEN


@pytest.mark.parametrize("odd", ["", "x", "é", "A" * 43, TOKEN[:-1], TOKEN + "AAAA"])
def test_what_is_no_token_is_not_ours(odd: str) -> None:
    assert not is_ours(SECRET, odd)


def test_a_weak_secret_is_refused() -> None:
    with pytest.raises(WeakSecret):
        mint(b"short", b"0" * 16, "bank")
