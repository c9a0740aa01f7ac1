"""Access tokens: each test is named after the attack."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from broker.northbound.tokens import Claims, Reason, TokenRefused, mint, verify
from capability_registry.keys import SigningKey, base64url
from capability_registry.signing import sign as sign_note

KEY = SigningKey.generate(lambda size: b"\x01" * size)
OTHER = SigningKey.generate(lambda size: b"\x02" * size)
KEYS = {KEY.kid: KEY.public}
NOW = datetime(2020, 1, 1, tzinfo=UTC)  # long ago: a check against the system's clock would refuse everything
LIFETIME = timedelta(minutes=10)
CLAIMS = {
    "iss": "sp-a",
    "aud": "sp-a",
    "sub": "alice",
    "roles": ["customer"],
    "iat": int(NOW.timestamp()),
    "exp": int((NOW + LIFETIME).timestamp()),
    "jti": "t-1",
}
HEADER = {"alg": "EdDSA", "typ": "at+jwt", "kid": KEY.kid}


def minted(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "sp_id": "sp-a",
        "account": "alice",
        "roles": ["operator", "customer"],
        "now": NOW,
        "lifetime": LIFETIME,
        "token_id": "t-1",
    }
    return mint(KEY, **{**arguments, **changes})


def crafted(claims: object = CLAIMS, header: dict[str, Any] = HEADER, key: SigningKey = KEY) -> str:
    """A token with a valid signature over whatever the attacker likes."""
    signed = f"{base64url(json.dumps(header).encode())}.{base64url(json.dumps(claims).encode())}"
    return f"{signed}.{base64url(key.sign(signed.encode()))}"


def accept(token: str, now: datetime = NOW, peer: str | None = None) -> Claims:
    return verify(token, KEYS, "sp-a", now, peer)


def refusal(token: str, now: datetime = NOW, peer: str | None = None) -> Reason:
    with pytest.raises(TokenRefused) as caught:
        accept(token, now, peer)
    return caught.value.reason


def test_a_token_says_what_was_minted() -> None:
    assert accept(minted()) == Claims(
        account="alice",
        roles=frozenset({"customer", "operator"}),
        issued_at=NOW,
        expires_at=NOW + LIFETIME,
        token_id="t-1",
        thumbprint=None,
    )


def test_another_jwt_library_call_reads_the_claims_that_rfc_9068_wants() -> None:
    decoded = jwt.decode(
        minted(thumbprint="abc"),
        KEY.public.to_cryptography(),
        ["EdDSA"],
        audience="sp-a",
        options={"verify_exp": False},
    )
    assert decoded == {**CLAIMS, "roles": ["customer", "operator"], "cnf": {"x5t#S256": "abc"}}


def test_an_expired_token_is_refused_from_the_very_instant() -> None:
    accept(minted(), NOW + LIFETIME - timedelta(seconds=1))
    assert refusal(minted(), NOW + LIFETIME) is Reason.EXPIRED


def test_a_token_from_the_future_is_refused_beyond_the_skew() -> None:
    token = minted(now=NOW + timedelta(seconds=30))
    accept(token)
    assert refusal(minted(now=NOW + timedelta(seconds=31))) is Reason.NOT_YET_VALID


def test_a_token_of_another_sp_is_refused() -> None:
    assert refusal(minted(sp_id="sp-b")) is Reason.WRONG_ISSUER


@pytest.mark.parametrize("audience", ["sp-b", ["sp-a"], ["sp-a", "sp-b"], "SP-A", 7])
def test_a_token_meant_for_another_sp_is_refused(audience: object) -> None:
    assert refusal(crafted({**CLAIMS, "aud": audience})) is Reason.WRONG_AUDIENCE


def test_a_token_of_a_key_that_is_not_ours_is_refused() -> None:
    assert refusal(crafted(header={**HEADER, "kid": OTHER.kid}, key=OTHER)) is Reason.UNKNOWN_KEY


def test_a_token_of_another_key_under_our_kid_is_refused() -> None:
    assert refusal(crafted(key=OTHER)) is Reason.BAD_SIGNATURE


def test_a_token_without_kid_is_refused() -> None:
    assert refusal(crafted(header={"alg": "EdDSA", "typ": "at+jwt"})) is Reason.UNKNOWN_KEY


def test_changed_claims_are_refused() -> None:
    header, _claims, signature = minted().split(".")
    promoted = base64url(json.dumps({**CLAIMS, "roles": ["auditor"]}).encode())
    assert refusal(f"{header}.{promoted}.{signature}") is Reason.BAD_SIGNATURE


def test_alg_none_is_refused_with_and_without_a_signature() -> None:
    header = {**HEADER, "alg": "none"}
    assert refusal(crafted(header=header)) is Reason.WRONG_ALGORITHM
    unsigned = f"{base64url(json.dumps(header).encode())}.{base64url(json.dumps(CLAIMS).encode())}."
    assert refusal(unsigned) is Reason.WRONG_ALGORITHM


def test_the_public_key_used_as_an_hmac_secret_is_refused() -> None:
    headers = {"typ": "at+jwt", "kid": KEY.kid}
    forged = jwt.PyJWS().encode(json.dumps(CLAIMS).encode(), KEY.public.raw, algorithm="HS256", headers=headers)
    assert refusal(forged) is Reason.WRONG_ALGORITHM


@pytest.mark.parametrize("alg", ["HS256", "ES256", "eddsa", None])
def test_another_algorithm_is_refused_even_if_the_signature_is_right(alg: object) -> None:
    assert refusal(crafted(header={**HEADER, "alg": alg})) is Reason.WRONG_ALGORITHM


def test_a_capability_note_signed_by_the_same_key_is_no_token() -> None:
    assert refusal(sign_note(json.dumps(CLAIMS).encode(), KEY)) is Reason.WRONG_TYPE


@pytest.mark.parametrize("typ", ["JWT", "AT+JWT", None])
def test_another_type_is_refused(typ: object) -> None:
    assert refusal(crafted(header={**HEADER, "typ": typ})) is Reason.WRONG_TYPE


@pytest.mark.parametrize(
    "extra", [{"crit": ["b64"], "b64": False}, {"crit": []}, {"crit": ["x"], "x": 1}, {"b64": True}]
)
def test_critical_extensions_are_refused(extra: dict[str, object]) -> None:
    assert refusal(crafted(header={**HEADER, **extra})) is Reason.MALFORMED


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_a_token_that_lacks_a_claim_is_refused(claim: str) -> None:
    assert refusal(crafted({name: value for name, value in CLAIMS.items() if name != claim})) is Reason.MISSING_CLAIM


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("sub", 7),
        ("sub", ["alice"]),
        ("jti", {}),
        ("iss", ["sp-a"]),
        ("exp", "2030"),
        ("exp", True),
        ("exp", 1e300),
        ("exp", 10**20),
        ("exp", float("inf")),
        ("iat", "now"),
        ("iat", -(10**20)),
        ("roles", "customer"),
        ("roles", [1]),
        ("roles", {"customer": True}),
    ],
)
def test_a_claim_of_another_kind_is_refused(claim: str, value: object) -> None:
    assert refusal(crafted({**CLAIMS, claim: value})) is Reason.MALFORMED


@pytest.mark.parametrize("claims", [[], None, "text", 1])
def test_claims_that_are_no_object_are_refused(claims: object) -> None:
    assert refusal(crafted(claims)) is Reason.MALFORMED


def test_claims_that_nest_without_end_are_refused() -> None:
    signed = f"{base64url(json.dumps(HEADER).encode())}.{base64url(b'[' * 5000)}"
    assert refusal(f"{signed}.{base64url(KEY.sign(signed.encode()))}") is Reason.MALFORMED


@pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c", "a.b.c.d", "\u00e9.\u00e9.\u00e9", "x" * 9000, "\ud800.a.b"])
def test_what_is_no_token_is_refused(text: str) -> None:
    assert refusal(text) is Reason.MALFORMED


def test_a_stolen_bound_token_is_useless_without_its_certificate() -> None:
    token = minted(thumbprint="mine")
    assert accept(token, peer="mine").thumbprint == "mine"
    assert refusal(token, peer="thiefs") is Reason.CERTIFICATE_MISMATCH
    assert refusal(token, peer=None) is Reason.CERTIFICATE_MISMATCH


def test_a_person_without_a_certificate_may_use_any_connection() -> None:
    assert accept(minted(), peer="any").thumbprint is None


@pytest.mark.parametrize("confirmation", [{}, None, "mine", {"jkt": "x"}, {"x5t#S256": "mine", "jkt": "x"}])
def test_a_binding_that_is_not_understood_is_refused_not_ignored(confirmation: object) -> None:
    assert refusal(crafted({**CLAIMS, "cnf": confirmation}), peer="mine") is Reason.CERTIFICATE_MISMATCH


@pytest.mark.parametrize("value", [7, ["mine"], None, ""])
def test_a_binding_to_no_certificate_is_refused(value: object) -> None:
    reason = refusal(crafted({**CLAIMS, "cnf": {"x5t#S256": value}}), peer="mine")
    assert reason in {Reason.MALFORMED, Reason.MISSING_CLAIM}


def test_a_refusal_does_not_quote_the_token() -> None:
    token = minted(sp_id="sp-b")
    with pytest.raises(TokenRefused) as caught:
        accept(token)
    assert not any(part in str(caught.value) for part in token.split("."))


def test_keys_rotate_while_old_tokens_live() -> None:
    both = {KEY.kid: KEY.public, OTHER.kid: OTHER.public}
    arguments: dict[str, Any] = {"sp_id": "sp-a", "account": "a", "roles": [], "now": NOW, "lifetime": LIFETIME}
    for key in (KEY, OTHER):
        assert verify(mint(key, token_id="t", **arguments), both, "sp-a", NOW, None).account == "a"


def test_a_token_without_lifetime_is_not_minted() -> None:
    with pytest.raises(ValueError, match="at least a second"):
        minted(lifetime=timedelta(milliseconds=900))
