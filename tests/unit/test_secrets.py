"""Passwords: hashed with argon2id, verified, re-hashed; an unknown account is not told apart by the work done."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from broker.accounts.secrets import STANDARD, Cost, Passwords, UnusableHash, UnusablePassword

CHEAP = Cost(passes=1, memory_kib=8, lanes=1)


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(CHEAP)


def test_the_right_password_and_no_other_is_accepted(passwords: Passwords) -> None:
    stored = passwords.hash("correct horse")
    assert passwords.verify(stored, "correct horse")
    assert not passwords.verify(stored, "correct horsf")
    assert not passwords.verify(stored, "")


def test_the_hash_is_argon2id_at_the_given_cost_and_does_not_hold_the_password(passwords: Passwords) -> None:
    stored = passwords.hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert "horse" not in stored


def test_the_standard_cost_is_the_one_of_rfc_9106() -> None:
    assert Passwords().hash("correct horse").startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert Cost(passes=3, memory_kib=65536, lanes=4) == STANDARD


def test_equal_passwords_have_different_hashes(passwords: Passwords) -> None:
    assert passwords.hash("the same one") != passwords.hash("the same one")


def test_the_salt_comes_from_the_given_randomness() -> None:
    def constant(size: int) -> bytes:
        return b"\x07" * size

    assert Passwords(CHEAP, constant).hash("the same one") == Passwords(CHEAP, constant).hash("the same one")


@pytest.mark.parametrize("password", ["", "anything", "\x07" * 32])
def test_an_unknown_account_is_refused_even_with_the_decoys_own_password(password: str) -> None:
    assert not Passwords(CHEAP, lambda size: b"\x07" * size).verify(None, password)


class CountedReads:
    """A source of salts: each hash that is made draws one."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, size: int) -> bytes:
        self.sizes.append(size)
        return bytes(size)


def test_the_decoy_is_made_once_and_not_at_each_login() -> None:
    random = CountedReads()
    passwords = Passwords(CHEAP, random)
    made = list(random.sizes)
    passwords.verify(None, "x")
    passwords.verify(None, "y")
    assert random.sizes == made


def test_a_password_typed_on_another_keyboard_is_the_same(passwords: Passwords) -> None:
    assert passwords.verify(passwords.hash("caf\u00e9 au lait"), "cafe\u0301 au lait")


@pytest.mark.parametrize("password", ["", "x" * 11, "e\u0301" * 11, "x" * 1025, "\u00e9" * 513])
def test_a_short_or_overlong_password_cannot_be_set(passwords: Passwords, password: str) -> None:
    with pytest.raises(UnusablePassword):
        passwords.hash(password)


def test_the_shortest_password_has_twelve_characters_whatever_their_bytes(passwords: Passwords) -> None:
    assert passwords.verify(passwords.hash("\u00e9" * 12), "e\u0301" * 12)


def test_a_password_from_before_that_is_shorter_still_opens(passwords: Passwords) -> None:
    before = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("short")
    assert passwords.verify(before, "short")


def test_an_overlong_password_is_never_right(passwords: Passwords) -> None:
    assert not passwords.verify(passwords.hash("x" * 1024), "x" * 1025)
    assert passwords.verify(passwords.hash("x" * 1024), "x" * 1024)


def test_raising_the_cost_asks_for_a_new_hash_and_keeps_the_old_one_valid(passwords: Passwords) -> None:
    stored = passwords.hash("correct horse")
    dearer = Passwords(Cost(passes=2, memory_kib=8, lanes=1))
    assert dearer.verify(stored, "correct horse")
    assert dearer.needs_rehash(stored)
    assert not passwords.needs_rehash(stored)


@pytest.mark.parametrize("stored", ["", "secret-in-clear", "$argon2id$v=19$m=8,t=1,p=1$AAAA"])
def test_a_damaged_record_is_an_error_that_does_not_quote_it(passwords: Passwords, stored: str) -> None:
    with pytest.raises(UnusableHash) as caught:
        passwords.verify(stored, "secret-in-clear")
    assert "secret-in-clear" not in str(caught.value)
