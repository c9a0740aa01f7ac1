"""What a note's origin tokens tell a reader: whether something is its own, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from broker.decompose.derive import derive
from capability_registry import origin
from capability_registry.decoys import MOST, arranged, with_decoys
from capability_registry.loops import without_ours
from capability_registry.note import CapabilityNote
from tests.support.planning import NOW, random_snapshot, snapshot

SECRET, OTHER = b"s" * 32, b"o" * 32


def token(name: str, secret: bytes = OTHER) -> str:
    return origin.mint(secret, name.encode().ljust(origin.SALT_BYTES, b"."), "middle")


def note(seed: int, audience: str = "above") -> CapabilityNote:
    """Derived from suppliers that have from one to three tokens; those of `s1` have one of OTHER's."""
    views = []
    for i, v in enumerate(random_snapshot(seed, 4, labels=40).suppliers):
        own = tuple(token(f"{v.alias}{n}", OTHER if i == 1 else bytes([n]) * 32) for n in range(1, 2 + i % 3))
        views.append(replace(v, note=replace(v.note, origin_tokens=own)))
    mine = token("mine", SECRET)
    return derive(snapshot(*views), "middle", 1, audience, NOW, timedelta(minutes=9), Decimal(1), "EUR", mine, 120, ())


def parts(note: CapabilityNote) -> dict[tuple[str, ...], frozenset[str]]:
    """Each part with the tokens that it rests on."""

    def named(origins: tuple[int, ...]) -> frozenset[str]:
        return frozenset(note.origin_tokens[i] for i in origins or range(len(note.origin_tokens)))

    out: dict[tuple[str, ...], frozenset[str]] = {}
    out |= {("function", str(f.type), f.place): named(f.origins) for f in note.functions}
    out |= {("sap", s.id): named(s.origins) for s in note.saps}
    out |= {("way", e.a, e.b): named(e.origins) for e in note.matrix}
    return out


@pytest.mark.parametrize("seed", range(12))
def test_each_part_rests_on_what_it_rested_on_and_on_decoys(seed: int) -> None:
    plain = note(seed)
    told = with_decoys(plain, SECRET)
    real, decoys = set(plain.origin_tokens), set(told.origin_tokens) - set(plain.origin_tokens)
    assert len(told.origin_tokens) == len(real) + len(decoys)
    assert 0 < len(decoys) <= MOST
    before, after = parts(plain), parts(told)
    assert {part: tokens & real for part, tokens in after.items()} == before
    assert frozenset().union(*after.values()) == set(told.origin_tokens), "no token is idle: it would be a decoy"
    for (kind, *ends), tokens in after.items():
        if kind == "way":
            at = (part for part in after if part[0] != "way" and part[-1] in ends)
            assert all(after[part] & decoys <= tokens for part in at), "what an end rests on, a way to it does"


@pytest.mark.parametrize("seed", range(12))
def test_whoever_finds_its_own_leaves_out_what_it_would_have_left_out(seed: int) -> None:
    plain = note(seed)
    told = with_decoys(plain, SECRET)
    for secret in (SECRET, OTHER):
        left, expected = (
            without_ours(n, lambda token, secret=secret: origin.is_ours(secret, token))  # type: ignore[misc]
            for n in (told, plain)
        )
        assert parts(left).keys() == parts(expected).keys()
    assert not parts(without_ours(told, lambda token: origin.is_ours(SECRET, token)))
    decoys = set(told.origin_tokens) - set(plain.origin_tokens)
    assert not any(origin.is_ours(secret, decoy) for secret in (SECRET, OTHER) for decoy in decoys)
    assert {len(t) for t in told.origin_tokens} == {len(token("x"))}


def test_the_same_note_is_disguised_alike_and_for_each_audience_in_another_way() -> None:
    assert with_decoys(note(3), SECRET) == with_decoys(note(3), SECRET)
    audiences = [with_decoys(note(3, audience=f"c{n}"), SECRET) for n in range(8)]
    mine = token("mine", SECRET)
    assert len({n.origin_tokens.index(mine) for n in audiences}) > 2, "ours is not always the first"
    decoys = [set(n.origin_tokens) - set(note(3).origin_tokens) for n in audiences]
    assert len({len(d) for d in decoys}) > 2, "how many there are is not known"
    assert decoys[0].isdisjoint(decoys[1])


def test_decoys_stay_with_the_tokens_that_stay() -> None:
    stayed = changed = 0
    for audience in "abcd":
        plain = note(3, audience)
        later = replace(plain, origin_tokens=(token("fresh", SECRET), *plain.origin_tokens[1:]))
        first, second = (set(with_decoys(n, SECRET).origin_tokens) - set(n.origin_tokens) for n in (plain, later))
        stayed, changed = stayed + len(first & second), changed + len(first - second)
    assert stayed, "what stays is not all real"
    assert changed, "what is new is not all real"


def test_notes_are_compared_by_what_rests_on_which_token_and_not_by_the_tokens() -> None:
    """What a reader makes of one edition and of the next, when all tokens are new, is alike."""
    plain = note(3)
    later = replace(plain, origin_tokens=tuple(token(f"new{n}", SECRET) for n, _ in enumerate(plain.origin_tokens)))
    first, second = (arranged(with_decoys(n, SECRET)) for n in (plain, later))
    assert first.origin_tokens != second.origin_tokens
    assert replace(first, origin_tokens=()) == replace(second, origin_tokens=())
    assert parts(arranged(plain)) == parts(plain)


def test_a_note_without_tokens_has_none() -> None:
    bare = replace(note(3), origin_tokens=())
    assert with_decoys(bare, SECRET) is bare
