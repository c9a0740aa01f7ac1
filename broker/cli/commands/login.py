"""`spbroker login`: exchange a password for a token, and store it."""

from __future__ import annotations

import getpass
import re
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.connection import Connection
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault, WrongFile, WrongInput
from broker.cli.order_file import read_text
from broker.cli.output import say
from broker.cli.profiles import Profile, known_authority, store
from broker.cli.session_choice import As, chosen
from service_model.yaml_lines import DocumentError, load_document
from spbroker.v1 import broker_service_pb2 as pb


def command(
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="host:port where the provider serves people.")],
    account: Annotated[str, typer.Option("--account", metavar="NAME", help="Your account there.")],
    ca: Annotated[Path | None, typer.Option("--ca", metavar="FILE", help="The provider's CA, PEM.")] = None,
    anchor: Annotated[
        Path | None, typer.Option("--anchor", metavar="FILE", help="The provider's anchor, which has the CA in it.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
    ] = False,
    as_: As = None,
) -> None:
    """Log in at a provider.

    The token is stored, the password is not. With --as several logins live side by side.
    A later login at the same ENDPOINT may leave out the CA.
    """
    name = chosen(as_)
    if re.fullmatch(r"[^\s:/]+:\d+|\[[0-9A-Fa-f:.]+\]:\d+", endpoint) is None:
        raise WrongInput(f"{endpoint!r} is not an endpoint: host:port")
    authority = _authority(ca, anchor) or known_authority(name, endpoint)
    if not authority:
        raise WrongInput("whose certificate to trust is not known: give --ca FILE or --anchor FILE")
    password = read_password(f"Password of {account} at {endpoint}: ", password_stdin)
    connection = Connection(endpoint, authority)
    try:
        answer = connection.call("IssueToken", pb.IssueTokenRequest(account=account, password=password), 20.0)
    finally:
        connection.close()
    expires = answer.expire_time.ToDatetime(UTC)
    if expires <= datetime.now(UTC):
        raise Fault(Exit.NOT_ALLOWED, f"the token of {endpoint} expired at {expires.isoformat()}: compare the clocks")
    profile = Profile(endpoint=endpoint, account=account, ca=authority, token=answer.token, expires=expires.isoformat())
    store(name, profile)
    say(f"logged in at {endpoint} as {account}, until {expires.astimezone():%Y-%m-%d %H:%M:%S}")


def read_password(prompt: str, from_stdin: bool) -> str:
    """From the terminal, unseen, or from the first line of stdin. Raises WrongInput where there is neither."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = getpass.getpass(prompt)
    else:
        raise WrongInput("stdin is no terminal to ask for the password at: give --password-stdin")
    if not password:
        raise WrongInput("the password is empty")
    return password


def _authority(ca: Path | None, anchor: Path | None) -> str:
    """The CA (PEM) of either file; empty without one. Raises WrongInput, WrongFile."""
    if ca and anchor:
        raise WrongInput("give --ca or --anchor, not both")
    path = ca or anchor
    if path is None:
        return ""
    text = read_text(path)
    if anchor:
        try:
            data = load_document(text, str(path)).data
        except DocumentError as error:
            raise WrongFile(str(error)) from None
        pem = data.get("ca") if isinstance(data, dict) else None
        if not isinstance(pem, str):
            raise WrongFile(f"{path}: is no anchor: it has no text 'ca'")
    else:
        pem = text.decode(errors="replace")
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise WrongFile(f"{path}: the CA is not a certificate in PEM") from None
    return pem
