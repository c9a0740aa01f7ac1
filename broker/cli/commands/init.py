"""`spbroker init`: make keys, certificates, settings, store and the first operator of a new node."""

from __future__ import annotations

import asyncio
import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.commands.login import read_password
from broker.cli.faults import WrongInput
from broker.cli.output import say


def command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Made, with what a node needs.")],
    sp_id: Annotated[str, typer.Option("--sp-id", metavar="NAME", help="Who this provider is.")],
    operator: Annotated[
        str, typer.Option("--operator", metavar="NAME", help="The first operator's account.")
    ] = "operator",
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="For people.")] = "0.0.0.0:7443",
    listen_partners: Annotated[
        str, typer.Option("--listen-partners", metavar="HOST:PORT", help="For other providers.")
    ] = "0.0.0.0:7444",
    names: Annotated[
        list[str] | None, typer.Option("--name", metavar="NAME", help="A host name or address for the certificate.")
    ] = None,
    store: Annotated[
        str, typer.Option("--store", metavar="FILE|URL", help="A file in DIR, or postgresql://USER@HOST/DATABASE.")
    ] = "broker.db",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the operator's password from the first line of stdin.")
    ] = False,
) -> None:
    """Make a node in DIR: keys, certificates, settings, store, and the first operator.

    The operator's password has 12 characters or more. Nothing is overwritten. DIR/anchor.json is what partners need to
    trust this provider; it holds no secret.
    """
    from broker.accounts.founding import AlreadyFounded
    from broker.bootstrap.founding import NotFounded, found_node
    from broker.settings.process import store_of

    try:
        where = store_of(store)
    except ValueError as error:
        raise WrongInput(f"--store: {error}") from None
    password = read_password(f"Password of {operator}: ", password_stdin)
    if not password_stdin and getpass.getpass("Again: ") != password:
        raise WrongInput("the two differ; nothing was made")
    try:
        founded = asyncio.run(
            found_node(
                directory,
                sp_id=sp_id,
                now=datetime.now(UTC),
                names=names or [],
                operator=operator,
                password=password,
                listen=listen,
                listen_partners=listen_partners,
                store=where,
            )
        )
    except (AlreadyFounded, NotFounded) as error:
        raise WrongInput(str(error)) from None
    say(f"{directory}: the node of {sp_id}, with the operator account {operator!r}")
    say(f"  run it:           spbroker serve {directory}")
    here = listen.replace("0.0.0.0", "127.0.0.1")  # noqa: S104  where it listens is not where one calls
    say(f"  log in:           spbroker login {here} --account {operator} --anchor {founded.layout.anchor}")
    say(f"  give to partners: {founded.layout.anchor}")
    if not names and here != listen:
        say("  partners call it by a name: its certificate has only names of this machine; --name adds others")
