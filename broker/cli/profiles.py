"""Stored logins: one file each under $SPBROKER_HOME (default ~/.config/spbroker), in `profiles/NAME.json`.

Rules kept here
- A file is written whole or not at all, with mode 0600 from its first byte: it holds a token. No password is stored.
- A token that has expired is never sent; the message says how to log in again.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile

from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault, WrongInput
from broker.cli.session_choice import DEFAULT

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A login. `ca`: PEM of what the provider's certificate must be under. `expires`: ISO 8601, of the token."""

    endpoint: str
    account: str
    ca: str
    token: str = field(repr=False)
    expires: str

    def has_expired(self, now: datetime) -> bool:
        return datetime.fromisoformat(self.expires) <= now


def home() -> Path:
    given = os.environ.get("SPBROKER_HOME", "")
    return Path(given) if given else Path.home() / ".config" / "spbroker"


def path_of(name: str) -> Path:
    """Raises WrongInput for what cannot be the name of a login."""
    if _NAME.fullmatch(name) is None:
        raise WrongInput(f"{name!r} cannot be the name of a login: letters, digits, dot, underscore and hyphen")
    return home() / "profiles" / f"{name}.json"


def store(name: str, profile: Profile) -> Path:
    path = path_of(name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{name}.", delete=False) as file:  # made with mode 0600
        try:
            json.dump(asdict(profile), file, indent=2)
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    return path


def stored(name: str) -> Profile:
    """The login of this name. Raises Fault where there is none, or it cannot be read, or it has expired."""
    path = path_of(name)
    again = login_line(name)
    try:
        profile = Profile(**json.loads(path.read_text()))
        expired = profile.has_expired(datetime.now(UTC))
    except FileNotFoundError:
        who = "" if name == DEFAULT else f" as {name!r}"
        raise Fault(Exit.NOT_ALLOWED, f"you are not logged in{who}", hint=f"log in: {again}") from None
    except (OSError, ValueError, TypeError) as error:
        raise Fault(Exit.NOT_ALLOWED, f"{path} is no login: {error}", hint=f"log in again: {again}") from None
    if expired:
        message = f"the login as {profile.account} at {profile.endpoint} expired at {profile.expires}"
        raise Fault(Exit.NOT_ALLOWED, message, hint=f"log in again: {login_line(name, profile)}", kind="TOKEN_EXPIRED")
    return profile


def login_line(name: str, profile: Profile | None = None) -> str:
    """The command that makes this login anew; the CA that it had is used again."""
    as_ = "" if name == DEFAULT else f" --as {name}"
    if profile is None:
        return f"spbroker login HOST:PORT --account NAME --ca FILE{as_}"
    return f"spbroker login {profile.endpoint} --account {profile.account}{as_}"


def known_authority(name: str, endpoint: str) -> str:
    """The CA of the stored login of this name, if it is for this endpoint; else empty."""
    try:
        data = json.loads(path_of(name).read_text())
        return str(data["ca"]) if data["endpoint"] == endpoint else ""
    except (OSError, ValueError, TypeError, KeyError):
        return ""
