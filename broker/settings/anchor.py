"""What one SP gives to another so that each can recognise the other: its id, its authority, the keys of its notes.

Rules kept here
- An anchor is public. One that holds a private key of any kind is refused, so that it is not stored or handed on.
- `ca` is exactly one authority's certificate. A note key's `kid` is its thumbprint, and no two keys are the same.
- An unknown field is an error, as in every administered document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from cryptography import x509
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from capability_registry.keys import PublicKey
from service_model.spec import STRICT
from service_model.words import Name

MAX_PEM_CHARACTERS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteKey:
    """A public Ed25519 key as a JWK (RFC 8037, section 2)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: Annotated[str, Field(max_length=100)]
    kid: Annotated[str, Field(max_length=100)]
    use: Literal["sig"] = "sig"
    alg: Literal["EdDSA"] = "EdDSA"

    def __post_init__(self) -> None:
        self.public()

    def public(self) -> PublicKey:
        """Raises ValueError for what is no Ed25519 key, or a `kid` that is not its thumbprint."""
        return PublicKey.from_jwk({"kty": self.kty, "crv": self.crv, "x": self.x, "kid": self.kid})

    @classmethod
    def of(cls, key: PublicKey) -> NoteKey:
        jwk: dict[str, Any] = key.to_jwk()
        return cls(**jwk)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteKeys:
    """A JWK set (RFC 7517, section 5). Several keys: the present one and those that it replaces or will."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    keys: Annotated[tuple[NoteKey, ...], Field(min_length=1, max_length=16)]

    def __post_init__(self) -> None:
        if len({key.kid for key in self.keys}) < len(self.keys):
            raise ValueError("the same key stands twice")


def _authority(pem: str) -> str:
    if "PRIVATE KEY" in pem:
        raise ValueError("a private key does not belong here")
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
        authorities = [
            certificate
            for certificate in found
            if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        ]
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise ValueError("not the certificate (PEM) of an authority") from None
    if len(found) != 1 or len(authorities) != 1:
        raise ValueError(f"exactly one authority's certificate belongs here, not {len(found)} certificates")
    return pem


Authority = Annotated[str, Field(max_length=MAX_PEM_CHARACTERS), AfterValidator(_authority)]
"""The certificate of one authority, PEM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    sp_id: Name
    ca: Authority
    """The authority that issues this SP's certificates, PEM."""
    note_keys: NoteKeys

    def keys(self) -> dict[str, PublicKey]:
        """The keys of its notes, by kid."""
        return {key.kid: key.public() for key in self.note_keys.keys}


ANCHOR: TypeAdapter[Anchor] = TypeAdapter(Anchor)
