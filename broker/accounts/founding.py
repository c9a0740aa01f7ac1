"""What `spbroker init` makes: the directory of a node, with its keys, its settings and its anchor for partners.

Rules kept here
- Nothing is overwritten: a directory in which any of the files is, is refused, naming it. What was written before a
  failure is taken away again.
- A directory that is made here is for its owner only (0700), the one with the keys always; private keys are 0600 from
  their first byte. So are settings with the URL of a store: it may have a password in it.
- The first operator is an account document for the store; its password goes nowhere but into its hash.
- The anchor that partners have names the authority, not the certificates under it: those may be issued anew from the
  directory's authority without telling partners (there is no command for it yet).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TypeVar

from broker.accounts.pki import Credential, create_authority, issue, write_private, write_public
from broker.accounts.secrets import STANDARD, Cost, Passwords
from broker.settings.administered import AccountDoc, plain
from broker.settings.anchor import Anchor, NoteKey, NoteKeys
from broker.settings.problems import read
from broker.settings.process import NODE_FILE
from capability_registry.keys import SigningKey, base64url, from_base64url
from service_model.yaml_written import written, yaml_text

T = TypeVar("T")
CERTIFICATE_DAYS = 397
SECRET_BYTES = 32
LISTEN = "0.0.0.0:7443"
LISTEN_PARTNERS = "0.0.0.0:7444"


class AlreadyFounded(Exception):
    """There is a node, or a part of one, in the directory; the message names the file."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a node are, below its directory."""

    directory: Path

    @property
    def node(self) -> Path:
        return self.directory / NODE_FILE

    @property
    def anchor(self) -> Path:
        return self.directory / "anchor.json"

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    @property
    def note_key(self) -> Path:
        return self.pki / "note-signing.key"

    @property
    def next_note_key(self) -> Path:
        """There only while the key of notes is being renewed (`rotation`)."""
        return self.pki / "note-signing.next.key"

    @property
    def token_key(self) -> Path:
        return self.pki / "token-signing.key"

    @property
    def origin_secret(self) -> Path:
        return self.pki / "origin.secret"

    def credential(self, of: str) -> tuple[Path, Path]:
        """Certificate and key of "ca", "server" or "client"."""
        return self.pki / f"{of}.pem", self.pki / f"{of}.key"

    def files(self) -> tuple[Path, ...]:
        pairs = [path for of in ("ca", "server", "client") for path in self.credential(of)]
        return (self.node, self.anchor, *pairs, self.note_key, self.token_key, self.origin_secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What a node proves itself with. `server` and `client` come with the certificate of their authority."""

    ca: bytes
    server: Credential
    client: Credential
    note_key: SigningKey
    token_key: SigningKey
    origin_secret: bytes

    def __repr__(self) -> str:
        return f"Keys(note={self.note_key.kid!r}, token={self.token_key.kid!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    layout: Layout
    anchor: Anchor
    operator: AccountDoc


def found(
    directory: Path,
    sp_id: str,
    now: datetime,
    names: Collection[str | IPv4Address | IPv6Address],
    operator: str,
    password: str,
    cost: Cost = STANDARD,
    *,
    listen: str = LISTEN,
    listen_partners: str = LISTEN_PARTNERS,
    store: str = "broker.db",
    random: Callable[[int], bytes] = os.urandom,
) -> Founded:
    """Make a node in `directory`, reachable under `names`. Raises AlreadyFounded; ValueError
    (UnusablePassword, CertificateError) for a name or a password that cannot be."""
    layout = Layout(directory)
    for file in layout.files():
        if file.exists() or file.is_symlink():
            raise AlreadyFounded(f"{file} exists: nothing was changed")
    account = AccountDoc(name=operator, roles=("operator",), password_hash=Passwords(cost, random).hash(password))
    wrong = read(plain(account))
    if isinstance(wrong, tuple):
        raise ValueError("; ".join(problem.text for problem in wrong))
    ca = create_authority(sp_id, now)
    server, client = (issue(ca, sp_id, who, now, CERTIFICATE_DAYS) for who in (names, ()))
    note_key, token_key = SigningKey.generate(random), SigningKey.generate(random)
    anchor = Anchor(sp_id=sp_id, ca=ca.certificate.decode(), note_keys=NoteKeys(keys=(NoteKey.of(note_key.public),)))
    node = {"sp_id": sp_id, "listen": listen, "listen_partners": listen_partners, "store": store}
    public = [(layout.anchor, json.dumps(written(anchor), indent=2).encode() + b"\n")]
    private = [
        (layout.note_key, note_key.to_pem()),
        (layout.token_key, token_key.to_pem()),
        (layout.origin_secret, base64url(random(SECRET_BYTES)).encode() + b"\n"),
    ]
    for of, credential in (("ca", ca), ("server", server), ("client", client)):
        certificate, key = layout.credential(of)
        public.append((certificate, credential.certificate))
        private.append((key, credential.key))
    made: list[Path] = []
    try:
        layout.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout.pki.mkdir(mode=0o700, exist_ok=True)
        layout.pki.chmod(0o700)
        for path, data in private:
            write_private(path, data)
            made.append(path)
        for path, data in public:
            write_public(path, data)
            made.append(path)
        write = write_private if "://" in store else write_public
        write(layout.node, yaml_text(node).encode())  # last: a directory with it is complete
        made.append(layout.node)
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise
    return Founded(layout=layout, anchor=anchor, operator=account)


def read_keys(layout: Layout) -> Keys:
    """The keys of a node, as they are now. Raises OSError or ValueError, which name the file."""
    ca = layout.credential("ca")[0].read_bytes()

    def credential(of: str) -> Credential:
        certificate, key = layout.credential(of)
        return Credential(certificate.read_bytes() + ca, key.read_bytes())

    return Keys(
        ca=ca,
        server=credential("server"),
        client=credential("client"),
        note_key=_named(layout.note_key, SigningKey.from_pem),
        token_key=_named(layout.token_key, SigningKey.from_pem),
        origin_secret=_named(layout.origin_secret, _secret),
    )


def _named(path: Path, parse: Callable[[bytes], T]) -> T:
    data = path.read_bytes()
    try:
        return parse(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _secret(data: bytes) -> bytes:
    secret = from_base64url(data.decode("ascii", "replace").strip())
    if len(secret) < SECRET_BYTES:
        raise ValueError(f"a secret of at least {SECRET_BYTES} bytes belongs here")
    return secret
