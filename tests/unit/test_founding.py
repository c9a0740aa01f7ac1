"""`spbroker init`: a directory that works, that is private, and that is never overwritten; the settings of a process."""

from __future__ import annotations

import json
import stat
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from broker.accounts.founding import AlreadyFounded, Founded, Layout, found, read_keys
from broker.accounts.pki import CertificateError, is_issued_by, subject_sp_id
from broker.accounts.secrets import Cost, Passwords, UnusablePassword
from broker.settings.anchor import ANCHOR
from broker.settings.process import Database, Process, load_process
from service_model.yaml_lines import DocumentRefused
from tests.support import administered as docs

CHEAP = Cost(passes=1, memory_kib=8, lanes=1)
NAMES = ("broker.sp-a.example", ip_address("192.0.2.1"))


def make(
    directory: Path,
    sp_id: str = "sp-a",
    operator: str = "root",
    password: str = "correct horse",
    store: str = "broker.db",
) -> Founded:
    return found(directory, sp_id, docs.NOW, NAMES, operator, password, CHEAP, store=store)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_made_is_whole_and_belongs_together(tmp_path: Path) -> None:
    made = make(tmp_path / "node")
    keys = read_keys(made.layout)
    for credential in (keys.server, keys.client):
        assert subject_sp_id(credential.certificate) == "sp-a"
        assert is_issued_by(credential.certificate, made.anchor.ca.encode())
    server = x509.load_pem_x509_certificate(keys.server.certificate)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.sp-a.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("192.0.2.1")]
    assert made.anchor.keys() == {keys.note_key.kid: keys.note_key.public}
    assert keys.note_key.kid != keys.token_key.kid
    assert len(keys.origin_secret) == 32


def test_the_anchor_is_what_partners_read_and_holds_nothing_private(tmp_path: Path) -> None:
    made = make(tmp_path / "node")
    text = made.layout.anchor.read_text()
    assert ANCHOR.validate_json(text) == made.anchor
    assert "PRIVATE" not in text
    assert set(json.loads(text)["note_keys"]["keys"][0]) <= {"kty", "crv", "x", "kid", "use", "alg"}


def test_the_first_operator_can_log_in_and_the_password_is_nowhere(tmp_path: Path) -> None:
    made = make(tmp_path / "node")
    assert (made.operator.name, made.operator.roles) == ("root", ("operator",))
    assert Passwords(CHEAP).verify(made.operator.password_hash, "correct horse")
    assert not any(b"correct horse" in file.read_bytes() for file in made.layout.files())


def test_keys_and_directories_are_for_their_owner_only(tmp_path: Path) -> None:
    layout = make(tmp_path / "deep" / "node").layout
    assert (mode(layout.directory), mode(layout.pki)) == (0o700, 0o700)
    private = {layout.note_key, layout.token_key, layout.origin_secret}
    private |= {layout.credential(of)[1] for of in ("ca", "server", "client")}
    assert {file: mode(file) for file in layout.files()} == {
        file: 0o600 if file in private else 0o644 for file in layout.files()
    }


@pytest.mark.parametrize("index", range(len(Layout(Path()).files())))
def test_nothing_is_overwritten_and_what_is_there_is_named(tmp_path: Path, index: int) -> None:
    layout = Layout(tmp_path)
    there = layout.files()[index]
    there.parent.mkdir(exist_ok=True)
    there.write_text("precious")
    with pytest.raises(AlreadyFounded, match=str(there)):
        make(tmp_path)
    assert [file for file in layout.files() if file.exists()] == [there]
    assert there.read_text() == "precious"


def test_a_founding_that_fails_leaves_no_part_of_a_node(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("not a directory")
    with pytest.raises(FileExistsError, match="pki"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pki"]


def test_names_and_passwords_that_cannot_be_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(CertificateError):
        make(tmp_path / "node", sp_id="sp a")
    with pytest.raises(UnusablePassword):
        make(tmp_path / "node", password="eleven char")
    with pytest.raises(ValueError, match=r"^name: 'ro ot' is not a name"):
        make(tmp_path / "node", operator="ro ot")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"short", b"\xff\xfe"])
def test_a_damaged_key_is_named(tmp_path: Path, content: bytes) -> None:
    layout = make(tmp_path).layout
    layout.origin_secret.write_bytes(content)
    with pytest.raises(ValueError, match=str(layout.origin_secret)):
        read_keys(layout)


def test_the_settings_that_are_made_can_be_loaded(tmp_path: Path) -> None:
    layout = make(tmp_path).layout
    assert load_process(layout.node, {}) == Process(
        sp_id="sp-a", listen="0.0.0.0:7443", listen_partners="0.0.0.0:7444", store=tmp_path / "broker.db"
    )


def test_the_environment_replaces_fields_of_the_file(tmp_path: Path) -> None:
    layout = make(tmp_path).layout
    environment = {"SPBROKER_LISTEN": "[::1]:1", "SPBROKER_STORE": "/var/b.db", "SPBROKER_LOG_LEVEL": "", "HOME": "x"}
    process = load_process(layout.node, environment)
    assert (process.listen, process.store, process.log_level) == ("[::1]:1", Path("/var/b.db"), "info")


def test_a_store_may_be_a_database_whose_password_is_for_the_owners_eyes_only(tmp_path: Path) -> None:
    url = "postgresql://us:secret@db.example:5432/orders"
    layout = make(tmp_path, store=url).layout
    process = load_process(layout.node, {})
    assert process.store == Database(url)
    assert "secret" not in f"{process} {process.store}"
    assert mode(layout.node) == 0o600
    assert load_process(layout.node, {"SPBROKER_STORE": "b.db"}).store == tmp_path / "b.db"
    assert load_process(layout.node, {"SPBROKER_STORE": "postgres://h/d"}).store == Database("postgres://h/d")
    for wrong in ("postgresql://us:secret@db.example", "postgresql://us:secret@h:port/d"):
        with pytest.raises(DocumentRefused, match="variable SPBROKER_STORE") as caught:
            load_process(layout.node, {"SPBROKER_STORE": wrong})
        assert "secret" not in str(caught.value)


def test_wrong_settings_are_told_with_file_and_line_or_the_variable(tmp_path: Path) -> None:
    file = tmp_path / "node.yml"
    file.write_text("sp_id: sp-a\nlistn: x\nlisten: nowhere\nlog_level: info\n")
    with pytest.raises(DocumentRefused) as caught:
        load_process(file, {"SPBROKER_LOG_LEVEL": "loud", "SPBROKER_LISTEN_PARTNERS": "nowhere"})
    lines = {str(error).partition(": ")[0] + "|" + error.field for error in caught.value.errors}
    assert lines == {
        f"{file}:2|listn",
        f"{file}:3|listen",
        "environment variable SPBROKER_LOG_LEVEL:1|log_level",
        "environment variable SPBROKER_LISTEN_PARTNERS:1|listen_partners",
    }


@pytest.mark.parametrize("text", ["- a\n", "", "a: [\n"])
def test_settings_that_are_no_mapping_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "node.yml"
    file.write_text(text)
    with pytest.raises(DocumentRefused, match=r"node\.yml"):
        load_process(file, {})
    with pytest.raises(DocumentRefused, match="init"):
        load_process(tmp_path / "none.yml", {})
