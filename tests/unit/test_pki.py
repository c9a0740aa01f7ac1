"""Certificates: what they say, who may issue them, and that two SPs can really talk with them."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.accounts.pki import (
    CertificateError,
    Credential,
    create_authority,
    is_issued_by,
    issue,
    subject_sp_id,
    thumbprint,
    write_private,
    write_public,
)
from capability_registry.keys import from_base64url

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> Credential:
    return create_authority("sp-a", NOW)


@pytest.fixture(scope="module")
def node(authority: Credential) -> Credential:
    return issue(
        authority, "sp-a", ["broker.sp-a.example", ip_address("192.0.2.1"), ip_address("2001:db8::1")], NOW, 90
    )


def parsed(credential: Credential) -> x509.Certificate:
    return x509.load_pem_x509_certificate(credential.certificate)


def test_an_authority_may_issue_certificates_but_no_other_authority(authority: Credential) -> None:
    extensions = parsed(authority).extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, False)


def test_a_certificate_serves_and_calls_and_issues_nothing(node: Credential) -> None:
    extensions = parsed(node).extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert constraints.critical
    assert not constraints.value.ca
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.digital_signature) == (False, True)
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }


def test_a_certificate_bears_its_names(node: Credential) -> None:
    names = parsed(node).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spbroker://sp-a"]
    assert names.get_values_for_type(x509.DNSName) == ["broker.sp-a.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("192.0.2.1"), ip_address("2001:db8::1")]
    assert subject_sp_id(node.certificate) == "sp-a"


def test_the_key_identifiers_link_the_chain(authority: Credential, node: Credential) -> None:
    subject = parsed(authority).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = parsed(node).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == subject.digest


def test_keys_are_p256_and_belong_to_their_certificates(authority: Credential, node: Credential) -> None:
    for credential in (authority, node):
        key = load_pem_private_key(credential.key, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp256r1"
        assert key.public_key() == parsed(credential).public_key()


def test_validity_follows_the_given_clock(node: Credential) -> None:
    assert parsed(node).not_valid_before_utc <= NOW
    assert parsed(node).not_valid_after_utc == NOW + timedelta(days=90)


def test_a_certificate_does_not_outlive_its_authority() -> None:
    short = create_authority("sp-a", NOW, days=10)
    issue(short, "sp-a", [], NOW, 10)
    with pytest.raises(CertificateError, match="not long enough"):
        issue(short, "sp-a", [], NOW, 11)


def test_a_node_certificate_cannot_issue(node: Credential) -> None:
    with pytest.raises(CertificateError, match="not an authority"):
        issue(node, "sp-b", [], NOW, 1)


def test_an_authority_with_another_ones_key_is_refused(authority: Credential) -> None:
    with pytest.raises(CertificateError, match="does not belong"):
        issue(Credential(authority.certificate, create_authority("sp-a", NOW).key), "sp-a", [], NOW, 1)


def test_a_certificate_of_another_authority_of_the_same_name_is_told_apart(
    authority: Credential, node: Credential
) -> None:
    impostor = create_authority("sp-a", NOW)
    forged = issue(impostor, "sp-a", [], NOW, 1)
    assert is_issued_by(node.certificate, authority.certificate)
    assert not is_issued_by(forged.certificate, authority.certificate)


def test_a_certificate_without_an_sp_names_none(authority: Credential) -> None:
    with pytest.raises(CertificateError, match="names no SP"):
        subject_sp_id(authority.certificate)
    with pytest.raises(CertificateError, match="not a PEM"):
        subject_sp_id(b"nonsense")


def with_uris(*uris: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris]), critical=True
        )
    )
    return certificate.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "uris",
    [
        ("spbroker://sp-a", "spbroker://sp-b"),
        ("https://sp-a",),
        ("spbroker://",),
        ("spbroker://sp-a/admin",),
        ("spbroker://sp-a@sp-b",),
    ],
)
def test_a_certificate_that_names_an_sp_ambiguously_is_refused(uris: tuple[str, ...]) -> None:
    with pytest.raises(CertificateError):
        subject_sp_id(with_uris(*uris))


def test_other_uris_beside_the_sps_are_allowed() -> None:
    assert subject_sp_id(with_uris("spiffe://x/y", "spbroker://sp-a")) == "sp-a"


@pytest.mark.parametrize("sp_id", ["", "sp a", "sp/a", "-sp", "x" * 64, "sp-a\n"])
def test_an_unfit_sp_id_is_refused(authority: Credential, sp_id: str) -> None:
    with pytest.raises(CertificateError):
        issue(authority, sp_id, [], NOW, 1)


def test_the_thumbprint_is_the_sha256_of_the_der_form(node: Credential) -> None:
    der = ssl.PEM_cert_to_DER_cert(node.certificate.decode())
    assert from_base64url(thumbprint(node.certificate)) == sha256(der).digest()


def test_a_private_key_is_not_printed(node: Credential) -> None:
    assert "PRIVATE" not in repr(node)


def test_a_key_file_is_its_owners_only_even_when_it_replaces_an_open_one(tmp_path: Path, node: Credential) -> None:
    path = tmp_path / "node.key"
    path.write_text("old")
    path.chmod(0o666)
    write_private(path, node.key)
    write_public(tmp_path / "node.pem", node.certificate)
    assert path.read_bytes() == node.key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "node.pem").stat().st_mode) == 0o644
    assert sorted(file.name for file in tmp_path.iterdir()) == ["node.key", "node.pem"]


def test_a_write_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "node.key").mkdir()
    with pytest.raises(IsADirectoryError):
        write_private(tmp_path / "node.key", b"key")
    assert [file.name for file in tmp_path.iterdir()] == ["node.key"]


def context(path: Path, purpose: int, mine: Credential, trusted: Credential) -> ssl.SSLContext:
    (path / "key").write_bytes(mine.key)
    (path / "cert").write_bytes(mine.certificate)
    made = ssl.SSLContext(purpose)
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_cert_chain(path / "cert", path / "key")
    made.load_verify_locations(cadata=trusted.certificate.decode())
    return made


def handshake(
    tmp_path: Path,
    server_trusts: Credential,
    client_trusts: Credential,
    host: str,
    *,
    server: Credential,
    client: Credential,
) -> None:
    """Mutual TLS in memory, as strictly as OpenSSL can check."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = context(tmp_path, ssl.PROTOCOL_TLS_CLIENT, client, client_trusts).wrap_bio(
        to_client, to_server, server_hostname=host
    )
    callee = context(tmp_path, ssl.PROTOCOL_TLS_SERVER, server, server_trusts).wrap_bio(
        to_server, to_client, server_side=True
    )
    unfinished = [caller, callee]
    while unfinished:
        for side in list(unfinished):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            unfinished.remove(side)


@pytest.mark.parametrize("host", ["broker.sp-a.example", "192.0.2.1", "2001:db8::1"])
def test_two_sps_complete_a_strict_mutual_tls_handshake(tmp_path: Path, host: str) -> None:
    now = datetime.now(UTC)  # OpenSSL knows no other clock
    ours, theirs = create_authority("sp-a", now), create_authority("sp-b", now)
    names = ["broker.sp-a.example", ip_address("192.0.2.1"), ip_address("2001:db8::1")]
    server, client = issue(ours, "sp-a", names, now, 30), issue(theirs, "sp-b", [], now, 30)
    handshake(tmp_path, theirs, ours, host, server=server, client=client)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, ours, ours, host, server=server, client=client)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, theirs, ours, "elsewhere.example", server=server, client=client)
