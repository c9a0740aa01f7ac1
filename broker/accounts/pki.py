"""Certificates for mutual TLS between SPs: one authority per SP, and what it issues directly.

Rules kept here
- P-256 and SHA-256 throughout. The chain has two certificates: an authority may issue no further authority.
- A certificate names its SP in one SAN URI, `spbroker://<sp_id>`; `subject_sp_id` accepts exactly one.
- That name is what the issuer claims. Whoever trusts several authorities must also check which of them issued it
  (`is_issued_by`): any authority can write any name.
- A certificate does not outlive its authority. Validity begins `SKEW` before `now`, for peers whose clock is behind.
- Private keys come from the operating system's generator and are written with mode 0600 from their first byte.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from capability_registry.keys import base64url

SCHEME = "spbroker://"
SKEW = timedelta(minutes=5)
AUTHORITY_DAYS = 3650
SP_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class CertificateError(ValueError):
    """The certificate cannot be issued or does not say who its subject is."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key, both PEM. The key is not shown by `repr`."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"Credential(thumbprint={thumbprint(self.certificate)!r})"


def create_authority(sp_id: str, now: datetime, days: int = AUTHORITY_DAYS) -> Credential:
    """A self-signed authority for `sp_id`. `now` is aware of its zone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_checked(sp_id)} CA")])
    certificate = (
        _builder(name, name, key.public_key(), now - SKEW, now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Credential(certificate.public_bytes(Encoding.PEM), _key_pem(key))


def issue(
    authority: Credential,
    sp_id: str,
    names: Collection[str | IPv4Address | IPv6Address],
    now: datetime,
    days: int,
) -> Credential:
    """A certificate for `sp_id`, as server under `names` (DNS names, addresses) and as client. Raises
    `CertificateError` when it would outlive `authority`, or `authority` is none."""
    issuer, issuer_key = _authority(authority)
    not_after = now + timedelta(days=days)
    if not_after > issuer.not_valid_after_utc or now < issuer.not_valid_before_utc:
        raise CertificateError(f"the authority is valid until {issuer.not_valid_after_utc:%Y-%m-%d}: not long enough")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _checked(sp_id))])
    alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(SCHEME + sp_id)]
    alternatives += [x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in names]
    issuer_key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), max(now - SKEW, issuer.not_valid_before_utc), not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key_id), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return Credential(certificate.public_bytes(Encoding.PEM), _key_pem(key))


def thumbprint(certificate: bytes) -> str:
    """`x5t#S256` of a PEM certificate: base64url of SHA-256 over its DER (RFC 7515, section 4.1.8)."""
    return base64url(hashlib.sha256(_load(certificate).public_bytes(Encoding.DER)).digest())


def subject_sp_id(certificate: bytes) -> str:
    """The SP that a PEM certificate names. Raises `CertificateError` when it names none, or more than one."""
    loaded = _load(certificate)
    try:
        alternatives = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise CertificateError("the certificate names no SP") from error
    uris = alternatives.get_values_for_type(x509.UniformResourceIdentifier)
    found = [uri.removeprefix(SCHEME) for uri in uris if uri.startswith(SCHEME)]
    if len(found) != 1:
        raise CertificateError(f"the certificate names {len(found)} SPs, not one")
    return _checked(found[0])


def is_issued_by(certificate: bytes, authority: bytes) -> bool:
    """Whether the PEM `authority` signed the PEM `certificate`. Validity in time is judged elsewhere (TLS)."""
    try:
        _load(certificate).verify_directly_issued_by(_load(authority))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def write_public(path: Path, data: bytes) -> None:
    """Replace the file at `path` in one step, readable by everyone: a reader sees the old or the new content."""
    _write(path, data, 0o644)


def write_private(path: Path, data: bytes) -> None:
    """Like `write_public`, but readable by its owner only, from the first byte on: for keys of any kind."""
    _write(path, data, 0o600)


def _write(path: Path, data: bytes, mode: int) -> None:
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:  # made with mode 0600
        try:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _checked(sp_id: str) -> str:
    if SP_ID.fullmatch(sp_id) is None:
        raise CertificateError(f"{sp_id!r} cannot be an SP's id")
    return sp_id


def _load(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateError("not a PEM certificate") from error


def _authority(credential: Credential) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _load(credential.certificate)
    key = load_pem_private_key(credential.key, password=None)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    if not constraints.ca or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("not an authority: it may issue no certificates")
    if certificate.public_key() != key.public_key():
        raise CertificateError("the authority's key does not belong to its certificate")
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
