"""Who callers are: passwords, certificates, tokens, and what an attacker gains by trying."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from cryptography import x509

from broker.accounts.pki import Credential, issue, thumbprint
from broker.accounts.secrets import Cost, Passwords
from broker.northbound import tokens
from broker.northbound.auth import ClientCertificate, Credentials, Password
from broker.northbound.authenticator import (
    FREE_ATTEMPTS,
    LIFETIME,
    LOGINS_AT_ONCE,
    MAX_COUNTED,
    MAX_WAIT_S,
    AccountAuthenticator,
    Throttle,
)
from broker.northbound.wrong_calls import AuthError, AuthReason, Throttled
from broker.settings.present import Administered
from capability_registry.keys import SigningKey
from tests.support import administered as docs

PASSWORDS = Passwords(Cost(passes=1, memory_kib=8, lanes=1))
HASH = PASSWORDS.hash("correct horse")


class Counting(Passwords):
    """Counts how often a password is verified: the work that an attempt costs."""

    verified = 0

    def verify(self, stored: str | None, password: str) -> bool:
        self.verified += 1
        return super().verify(stored, password)


class Node:
    def __init__(self) -> None:
        self.clock = docs.Hands()
        self.keys = [SigningKey.generate()]
        self.passwords = Counting(Cost(passes=1, memory_kib=8, lanes=1))
        self.administered = Administered()
        self.set()
        ids: Iterator[int] = count()
        self.authenticator = AccountAuthenticator(
            sp_id=docs.OWN,
            administered=lambda: self.administered,
            passwords=self.passwords,
            signing_keys=lambda: self.keys,
            clock=self.clock,
            new_id=lambda: f"t{next(ids)}",
        )

    def set(self, *documents: dict[str, Any]) -> None:
        self.administered = docs.administered(docs.person(password_hash=HASH), *documents)

    async def refusal(self, credentials: Credentials) -> AuthReason:
        with pytest.raises(AuthError) as caught:
            await self.authenticator.issue(credentials)
        return caught.value.reason

    def token_refusal(self, token: str, certificate: str | None = None) -> AuthReason:
        with pytest.raises(AuthError) as caught:
            self.authenticator.authenticate(token, certificate)
        return caught.value.reason


@pytest.fixture
def node() -> Node:
    return Node()


ANN = Password("ann", "correct horse")
WRONG = Password("ann", "wrong")


def certificate(issuer: str, names: str | None = None) -> Credential:
    return issue(docs.authority(issuer), names or issuer, (), docs.NOW, 30)


def presented(account: str, credential: Credential) -> ClientCertificate:
    return ClientCertificate(account, credential.certificate)


async def test_a_person_logs_in_with_a_password_for_a_quarter_of_an_hour(node: Node) -> None:
    token, expires = await node.authenticator.issue(ANN)
    assert expires == docs.NOW + LIFETIME
    principal = node.authenticator.authenticate(token, None)
    assert (principal.account, principal.roles, principal.expires) == ("ann", frozenset({"customer"}), expires)
    node.clock.at = expires
    assert node.token_refusal(token) is AuthReason.TOKEN_EXPIRED


async def test_wrong_unknown_and_passwordless_accounts_look_alike_and_cost_alike(node: Node) -> None:
    for n, credentials in enumerate(
        (WRONG, Password("nobody", "x"), Password("upper", "x"), Password("root", "x"), Password("ann", "")), 1
    ):
        assert await node.refusal(credentials) is AuthReason.CREDENTIALS_REFUSED
        assert node.passwords.verified == n


async def test_failures_in_a_row_double_the_wait_also_for_an_unknown_account(node: Node) -> None:
    for name in ("ann", "nobody"):
        waits = []
        for _ in range(FREE_ATTEMPTS):
            await node.refusal(Password(name, "wrong"))
        for _ in range(8):
            with pytest.raises(Throttled) as caught:
                await node.authenticator.issue(Password(name, "wrong"))
            waits.append(caught.value.retry_after_s)
            node.clock.at += timedelta(seconds=waits[-1])
            await node.refusal(Password(name, "wrong"))
        assert waits == [1, 2, 4, 8, 16, 32, MAX_WAIT_S, MAX_WAIT_S]


async def test_the_right_password_waits_too_and_then_clears_the_count(node: Node) -> None:
    for _ in range(FREE_ATTEMPTS):
        await node.refusal(WRONG)
    with pytest.raises(Throttled):
        await node.authenticator.issue(ANN)
    node.clock.at += timedelta(seconds=1)
    await node.authenticator.issue(ANN)
    for _ in range(FREE_ATTEMPTS):
        await node.refusal(WRONG)


async def test_many_guesses_at_once_gain_nothing(node: Node) -> None:
    guesses = [node.authenticator.issue(Password("ann", f"guess {n}")) for n in range(40)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(r, Throttled) for r in results) == 40 - FREE_ATTEMPTS
    assert node.passwords.verified == FREE_ATTEMPTS


async def test_no_more_passwords_wait_to_be_judged_than_may(node: Node) -> None:
    guesses = [node.authenticator.issue(Password(f"ann{n}", "a guess")) for n in range(LOGINS_AT_ONCE + 7)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(r, Throttled) for r in results) == 7
    await node.authenticator.issue(ANN)


async def test_one_account_that_is_guessed_at_does_not_hold_up_another(node: Node) -> None:
    for _ in range(FREE_ATTEMPTS):
        await node.refusal(Password("root", "wrong"))
    await node.authenticator.issue(ANN)


def test_what_is_counted_is_bounded() -> None:
    throttle = Throttle()
    for n in range(MAX_COUNTED + 100):
        throttle.attempt(f"{n}", docs.NOW)
    assert len(throttle) == MAX_COUNTED


def test_names_that_are_too_long_to_be_accounts_are_counted_as_one() -> None:
    throttle = Throttle()
    for n in range(FREE_ATTEMPTS):
        throttle.attempt("x" * 100_000 + f"{n}", docs.NOW)
    with pytest.raises(Throttled):
        throttle.attempt("x" * 64, docs.NOW)
    assert len(throttle) == 1


async def test_a_stored_hash_that_cannot_be_read_lets_nobody_in(node: Node) -> None:
    node.set(docs.person(password_hash="$argon2id$broken"))
    assert await node.refusal(ANN) is AuthReason.CREDENTIALS_REFUSED


async def test_a_service_gets_a_token_that_is_bound_to_its_certificate(node: Node) -> None:
    own = certificate("upper")
    token, expires = await node.authenticator.issue(presented("upper", own))
    assert expires == docs.NOW + LIFETIME
    principal = node.authenticator.authenticate(token, thumbprint(own.certificate))
    assert (principal.account, principal.roles) == ("upper", frozenset({"customer"}))
    for other in (None, thumbprint(certificate("upper").certificate)):
        assert node.token_refusal(token, other) is AuthReason.TOKEN_INVALID


async def test_a_certificate_counts_for_the_account_whose_anchor_issued_it_alone(node: Node) -> None:
    node.set(docs.service("other"))
    forged = certificate("other", names="upper")
    for credentials in (
        presented("upper", certificate("other")),
        presented("upper", forged),
        presented("other", forged),
        presented("nobody", certificate("upper")),
        presented("ann", certificate("upper")),
        presented("", certificate("upper")),
        ClientCertificate("upper", docs.authority("upper").certificate),
        ClientCertificate("upper", b"nonsense"),
    ):
        assert await node.refusal(credentials) is AuthReason.CREDENTIALS_REFUSED
    await node.authenticator.issue(presented("other", certificate("other")))


async def test_a_disabled_account_is_refused_at_once_also_with_a_live_token(node: Node) -> None:
    token, _ = await node.authenticator.issue(ANN)
    own = certificate("upper")
    bound, _ = await node.authenticator.issue(presented("upper", own))
    node.set(docs.person(password_hash=HASH, state="DISABLED"), docs.service(state="DISABLED"))
    assert node.token_refusal(token) is AuthReason.ACCOUNT_DISABLED
    assert node.token_refusal(bound, thumbprint(own.certificate)) is AuthReason.ACCOUNT_DISABLED
    assert await node.refusal(ANN) is AuthReason.ACCOUNT_DISABLED
    assert await node.refusal(WRONG) is AuthReason.CREDENTIALS_REFUSED
    assert await node.refusal(presented("upper", own)) is AuthReason.ACCOUNT_DISABLED


async def test_a_removed_account_or_one_of_another_type_has_no_tokens(node: Node) -> None:
    token, _ = await node.authenticator.issue(ANN)
    node.set(docs.service("ann"))
    assert node.token_refusal(token) is AuthReason.TOKEN_INVALID
    node.administered = Administered()
    assert node.token_refusal(token) is AuthReason.TOKEN_INVALID


async def test_roles_are_those_of_the_present_document(node: Node) -> None:
    token, _ = await node.authenticator.issue(ANN)
    node.set(docs.person(password_hash=HASH, roles=["operator"]))
    assert node.authenticator.authenticate(token, None).roles == {"operator"}


async def test_signing_keys_rotate_live(node: Node) -> None:
    token, _ = await node.authenticator.issue(ANN)
    node.keys.insert(0, SigningKey.generate())
    fresh, _ = await node.authenticator.issue(ANN)
    assert node.authenticator.authenticate(token, None).account == "ann"
    node.keys.pop()
    assert node.token_refusal(token) is AuthReason.TOKEN_INVALID
    assert node.authenticator.authenticate(fresh, None).account == "ann"


async def test_a_token_of_another_sp_is_refused(node: Node) -> None:
    token = tokens.mint(
        node.keys[0], sp_id="other", account="ann", roles=["customer"], now=docs.NOW, lifetime=LIFETIME, token_id="1"
    )
    assert node.token_refusal(token) is AuthReason.TOKEN_INVALID
    assert node.token_refusal("nonsense") is AuthReason.TOKEN_INVALID


async def test_partners_are_under_the_authorities_of_the_services_that_may_call(node: Node) -> None:
    node.set(docs.service("other"), docs.service("gone", state="DISABLED"))
    roots = x509.load_pem_x509_certificates(node.authenticator.partner_roots())
    assert {r.subject.rfc4514_string() for r in roots} == {"CN=upper CA", "CN=other CA"}
    node.administered = Administered()
    assert node.authenticator.partner_roots() == b""
