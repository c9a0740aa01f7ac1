"""Signed notes: accepted only as they were signed; each test is named after the attack."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from capability_registry.keys import PublicKey, SigningKey, base64url, from_base64url
from capability_registry.signing import TYPE, NoteRefused, Reason, sign, verify

KEY = SigningKey.generate(lambda size: b"\x01" * size)
OTHER = SigningKey.generate(lambda size: b"\x02" * size)
KEYS = {KEY.kid: KEY.public}
PAYLOAD = b'{"spId": "sp-a", "edition": "7"}'
LIMIT = 10_000


def refusal(jws: str, max_bytes: int = LIMIT) -> Reason:
    with pytest.raises(NoteRefused) as caught:
        verify(jws, KEYS, max_bytes)
    return caught.value.reason


def crafted(header: dict[str, Any] | bytes, payload: bytes = PAYLOAD, key: SigningKey = KEY) -> str:
    """A JWS with a valid signature over whatever header the attacker likes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = f"{base64url(text)}.{base64url(payload)}"
    return f"{signed}.{base64url(key.sign(signed.encode()))}"


HEADER = {"alg": "EdDSA", "typ": TYPE, "kid": KEY.kid}


def test_a_signed_payload_comes_back_byte_for_byte() -> None:
    for payload in (PAYLOAD, b"", bytes(range(256)), b"not json at all"):
        assert verify(sign(payload, KEY), KEYS, LIMIT) == payload


def test_the_same_note_is_always_the_same_text() -> None:
    assert sign(PAYLOAD, KEY) == sign(PAYLOAD, KEY)


def test_another_jws_library_reads_ours_and_is_read_by_us() -> None:
    peer = jwt.PyJWS(algorithms=["EdDSA"])
    ours = sign(PAYLOAD, KEY)
    assert peer.decode(ours, KEY.public.to_cryptography(), algorithms=["EdDSA"]) == PAYLOAD
    theirs = peer.encode(PAYLOAD, KEY.private, algorithm="EdDSA", headers={"typ": TYPE, "kid": KEY.kid})
    assert verify(theirs, KEYS, LIMIT) == PAYLOAD


def test_an_unknown_header_member_is_tolerated() -> None:
    assert verify(crafted({**HEADER, "x-new": 1}), KEYS, LIMIT) == PAYLOAD


def test_a_changed_payload_is_refused() -> None:
    header, _payload, signature = sign(PAYLOAD, KEY).split(".")
    assert refusal(f"{header}.{base64url(PAYLOAD.replace(b'7', b'8'))}.{signature}") is Reason.BAD_SIGNATURE


def test_a_changed_header_is_refused() -> None:
    _header, payload, signature = sign(PAYLOAD, KEY).split(".")
    changed = base64url(json.dumps({**HEADER, "x": 1}).encode())
    assert refusal(f"{changed}.{payload}.{signature}") is Reason.BAD_SIGNATURE


def test_the_signature_is_judged_before_the_payload_is_even_decoded() -> None:
    header, _payload, signature = sign(PAYLOAD, KEY).split(".")
    assert refusal(f"{header}.!!!!.{signature}") is Reason.BAD_SIGNATURE


def test_the_signature_of_another_key_under_our_kid_is_refused() -> None:
    assert refusal(crafted(HEADER, key=OTHER)) is Reason.BAD_SIGNATURE


def test_a_key_that_is_not_trusted_is_refused() -> None:
    assert refusal(sign(PAYLOAD, OTHER)) is Reason.UNKNOWN_KEY


@pytest.mark.parametrize("kid", [None, 7, ["x"], {"a": 1}, ""])
def test_a_kid_that_is_no_name_is_refused(kid: object) -> None:
    assert refusal(crafted({**HEADER, "kid": kid})) is Reason.UNKNOWN_KEY


def test_alg_none_is_refused_with_and_without_a_signature() -> None:
    header = {**HEADER, "alg": "none"}
    assert refusal(crafted(header)) is Reason.WRONG_ALGORITHM
    assert refusal(f"{base64url(json.dumps(header).encode())}.{base64url(PAYLOAD)}.") is Reason.WRONG_ALGORITHM


@pytest.mark.parametrize("alg", ["HS256", "ES256", "RS256", "eddsa", "Ed448", None, 1, ["EdDSA"]])
def test_another_algorithm_is_refused_even_if_the_signature_is_right(alg: object) -> None:
    assert refusal(crafted({**HEADER, "alg": alg})) is Reason.WRONG_ALGORITHM


def test_the_public_key_used_as_an_hmac_secret_is_refused() -> None:
    forged = jwt.PyJWS().encode(PAYLOAD, KEY.public.raw, algorithm="HS256", headers={"typ": TYPE, "kid": KEY.kid})
    assert refusal(forged) is Reason.WRONG_ALGORITHM


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "capability-note", None])
def test_a_token_signed_by_the_same_key_is_no_note(typ: object) -> None:
    assert refusal(crafted({**HEADER, "typ": typ})) is Reason.WRONG_TYPE


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("crit", ["exp"]),
        ("crit", []),
        ("b64", False),
        ("b64", True),
        ("jwk", OTHER.public.to_jwk()),
        ("jku", "https://evil.example/keys"),
        ("x5u", "https://evil.example/cert"),
        ("x5c", ["AAAA"]),
    ],
)
def test_a_header_that_brings_its_own_key_or_changes_the_reading_is_refused(member: str, value: object) -> None:
    assert refusal(crafted({**HEADER, member: value})) is Reason.FORBIDDEN_HEADER


def test_a_header_that_says_two_things_is_refused() -> None:
    text = f'{{"alg":"none","alg":"EdDSA","typ":"{TYPE}","kid":"{KEY.kid}"}}'
    assert refusal(crafted(text.encode())) is Reason.MALFORMED


@pytest.mark.parametrize("header", [b"[]", b"null", b"{", b"\xff", b"[" * 700, b"NaN"])
def test_a_header_that_is_no_object_is_refused(header: bytes) -> None:
    assert refusal(crafted(header)) is Reason.MALFORMED


def test_an_oversized_note_is_refused_and_one_of_exactly_the_limit_is_not() -> None:
    jws = sign(PAYLOAD, KEY)
    assert refusal(jws, max_bytes=len(jws) - 1) is Reason.OVERSIZED
    assert verify(jws, KEYS, len(jws)) == PAYLOAD


def test_an_oversized_header_is_refused() -> None:
    assert refusal(crafted({**HEADER, "x": "y" * 2000})) is Reason.OVERSIZED


@pytest.mark.parametrize("text", ["", ".", "..", "...", "a.b", "a.b.c.d", "\u00e9.a.b", " . . "])
def test_what_is_no_compact_jws_is_refused(text: str) -> None:
    assert refusal(text) is Reason.MALFORMED


@pytest.mark.parametrize("spoil", ["{}=", "{}==", "{} ", "{}\n", "!{}", "{}A"])
@pytest.mark.parametrize("part", [0, 2])
def test_a_second_spelling_of_a_part_is_refused(part: int, spoil: str) -> None:
    parts = sign(PAYLOAD, KEY).split(".")
    parts[part] = spoil.format(parts[part])
    assert refusal(".".join(parts)) in {Reason.MALFORMED, Reason.BAD_SIGNATURE}


def test_a_signature_with_other_unused_bits_is_refused() -> None:
    jws = sign(PAYLOAD, KEY)
    assert jws[-1] in "AQgw"  # 64 bytes leave four bits unused in the last character
    assert refusal(jws[:-1] + chr(ord(jws[-1]) + 1)) is Reason.MALFORMED


def test_a_payload_that_is_signed_but_not_canonical_is_refused() -> None:
    signed = f"{base64url(json.dumps(HEADER).encode())}.{base64url(PAYLOAD)}="
    assert refusal(f"{signed}.{base64url(KEY.sign(signed.encode()))}") is Reason.MALFORMED


class TestKeys:
    """RFC 8037, appendix A, and what must not pass for an Ed25519 key."""

    SEED = from_base64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"

    def test_the_rfcs_key_has_the_rfcs_thumbprint_and_signature(self) -> None:
        key = SigningKey.generate(lambda _size: self.SEED)
        assert key.public.to_jwk()["x"] == self.X
        assert key.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        message = base64url(b'{"alg":"EdDSA"}') + "." + base64url(b"Example of Ed25519 signing")
        assert base64url(key.sign(message.encode())) == (
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        )

    def test_a_key_survives_pem_and_jwk(self) -> None:
        again = SigningKey.from_pem(KEY.to_pem())
        assert again.public == KEY.public
        assert again.sign(b"x") == KEY.sign(b"x")
        assert PublicKey.from_jwk(json.loads(json.dumps(KEY.public.to_jwk()))) == KEY.public

    def test_two_new_keys_differ(self) -> None:
        assert SigningKey.generate().kid != SigningKey.generate().kid

    def test_a_private_key_is_not_printed(self) -> None:
        assert repr(KEY) == f"SigningKey(kid='{KEY.kid}')"

    def test_a_public_jwk_holds_no_private_part(self) -> None:
        assert set(KEY.public.to_jwk()) == {"kty", "crv", "x", "kid", "use", "alg"}

    @pytest.mark.parametrize(
        "jwk",
        [
            {},
            {"kty": "OKP", "crv": "X25519", "x": X},
            {"kty": "EC", "crv": "Ed25519", "x": X},
            {"kty": "OKP", "crv": "Ed25519", "x": X[:-4]},
            {"kty": "OKP", "crv": "Ed25519", "x": X + "="},
            {"kty": "OKP", "crv": "Ed25519", "x": X, "d": "AAAA"},
            {"kty": "OKP", "crv": "Ed25519", "x": X, "kid": "mine"},
        ],
    )
    def test_another_jwk_is_refused(self, jwk: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=r"JWK|Ed25519|base64url"):
            PublicKey.from_jwk(jwk)

    def test_another_kind_of_private_key_is_refused(self) -> None:
        elliptic = ec.generate_private_key(ec.SECP256R1())
        with pytest.raises(ValueError, match="not an Ed25519 key"):
            SigningKey.from_pem(elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(ValueError, match="not an unencrypted private key"):
            SigningKey.from_pem(b"nonsense")
